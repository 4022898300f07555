//! Which tenant a key is of: asked of the database, and remembered for a moment.
//!
//! A key that is revoked stops within [`REMEMBERED`]. What is remembered of keys that nobody has is bounded, too, and kept apart, so that
//! guessing costs neither memory nor others their place. Few questions about keys that were never met run at a time.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use isolation::{Database, DatabaseError, TenantKey};
use lru::LruCache;
use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use uuid::Uuid;

use super::{Holder, Scope, Scopes};

/// How long an answer is good for.
const REMEMBERED: Duration = Duration::from_millis(500);

/// Answers that are remembered.
const KEYS_MAX: NonZeroUsize = NonZeroUsize::new(100_000).expect("not 0");

/// Keys that nobody has that are remembered.
const UNKNOWN_MAX: NonZeroUsize = NonZeroUsize::new(10_000).expect("not 0");

/// How long a question about a key that was never met waits for its turn.
const TURN: Duration = Duration::from_secs(2);

/// Time between two times that uses are written.
const USES_EVERY: Duration = Duration::from_secs(30);

/// Known keys.
pub struct KeyDirectory {
    database: Database,
    known: Mutex<LruCache<[u8; 32], Known>>,
    /// Keys that nobody has.
    unknown: Mutex<LruCache<[u8; 32], Known>>,
    /// Questions about keys that were never met.
    questions: Semaphore,
    /// When keys were last used, where that is not written yet.
    uses: Mutex<HashMap<(TenantKey, Uuid), OffsetDateTime>>,
}

#[derive(Clone)]
struct Known {
    holder: Option<Holder>,
    expires_at: Option<OffsetDateTime>,
    asked: Instant,
}

impl KeyDirectory {
    /// An empty one.
    pub fn new(database: Database, connections: u32) -> Self {
        let (known, unknown) = (Mutex::new(LruCache::new(KEYS_MAX)), Mutex::new(LruCache::new(UNKNOWN_MAX)));
        // Half of the connections, without that of the feed; at least one.
        let questions = Semaphore::new((connections.saturating_sub(1) / 2).max(1) as usize);
        Self { database, known, unknown, questions, uses: Mutex::default() }
    }

    /// Whether somebody has or had the key with this hash, as far as that is remembered.
    pub fn has_met(&self, hash: &[u8; 32]) -> bool {
        self.known.lock().contains(hash)
    }

    /// Who has the key with this hash.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn find(&self, hash: [u8; 32]) -> Result<Option<Holder>, DatabaseError> {
        let met = self.known.lock().get(&hash).cloned();
        let is_met = met.is_some();
        let remembered = met.or_else(|| self.unknown.lock().get(&hash).cloned());
        let known = match remembered.filter(|known| known.asked.elapsed() < REMEMBERED) {
            Some(known) => known,
            None => self.ask_anew(hash, is_met).await?,
        };
        let now = OffsetDateTime::now_utc();
        let holder = known.holder.filter(|_| known.expires_at.is_none_or(|end| now < end));
        if let Some(holder) = &holder {
            self.uses.lock().insert((holder.tenant, holder.key), now);
        }
        Ok(holder)
    }

    async fn ask_anew(&self, hash: [u8; 32], is_met: bool) -> Result<Known, DatabaseError> {
        // Whoever is known does not wait behind strangers.
        let turn = if is_met { None } else { Some(timeout(TURN, self.questions.acquire()).await) };
        if matches!(turn, Some(Err(_) | Ok(Err(_)))) {
            return Err(sqlx::Error::PoolTimedOut.into());
        }
        let known = self.ask(hash).await?;
        if known.holder.is_some() {
            self.unknown.lock().pop(&hash);
            self.known.lock().put(hash, known.clone());
        } else {
            self.known.lock().pop(&hash);
            self.unknown.lock().put(hash, known.clone());
        }
        Ok(known)
    }

    async fn ask(&self, hash: [u8; 32]) -> Result<Known, DatabaseError> {
        let asked = Instant::now();
        let found = sqlx::query!(
            r#"SELECT tenant_id AS "tenant_id!", slug AS "slug!", key_id AS "key_id!", scopes AS "scopes!", expires_at FROM find_api_key($1)"#,
            &hash[..]
        )
        .fetch_optional(self.database.across())
        .await?;
        let expires_at = found.as_ref().and_then(|row| row.expires_at);
        let holder = found.map(|row| {
            // A scope that this version does not know gives no right.
            let scopes: Scopes = row.scopes.iter().filter_map(|scope| scope.parse::<Scope>().ok()).collect();
            Holder { tenant: row.tenant_id.into(), slug: row.slug.into(), key: row.key_id, scopes }
        });
        Ok(Known { holder, expires_at, asked })
    }

    /// Writes when keys were used, every now and then, for ever.
    pub async fn write_uses(&self) {
        loop {
            tokio::time::sleep(USES_EVERY).await;
            self.flush().await;
        }
    }

    /// Writes when keys were used.
    pub async fn flush(&self) {
        let uses = std::mem::take(&mut *self.uses.lock());
        if uses.is_empty() {
            return;
        }
        let (mut tenants, mut keys, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for ((tenant, key), at) in uses {
            tenants.push(tenant.as_uuid());
            keys.push(key);
            times.push(at);
        }
        let written = sqlx::query!("SELECT note_key_uses($1, $2, $3)", &tenants[..], &keys[..], &times[..])
            .fetch_one(self.database.across())
            .await;
        if let Err(error) = written {
            tracing::warn!(%error, keys = keys.len(), "when keys were last used is not known");
        }
    }
}
