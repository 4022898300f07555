//! Purges that edges with one second level tell each other.
//!
//! A purge is an object there, named by its time, before it is acknowledged. Each edge looks for new ones every few seconds:
//! they hold for what comes from the second level, and for what the edge itself has.
//!
//! Must not let anything be read from the second level before every purge that is still remembered is known.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cache::{Bans, CacheKey, Rendition, Scope, TimedBans, UnixMillis, bans_from_bytes, bans_to_bytes};
use futures_util::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge, Registry};
use storage::{GetOptions, ListCursor, ListLimit, ObjectPath, ObjectPrefix, ObjectStore, PutOptions, StorageError};
use tokio::time::{interval, timeout};

/// How often the store is asked for new purges.
const POLL: Duration = Duration::from_secs(2);

/// How long a purge waits for the store.
const ANNOUNCE_LIMIT: Duration = Duration::from_secs(5);

/// How much older than the newest one known a purge may be when it shows: its edge's clock may be behind, or its store slow.
const LATE: Duration = Duration::from_secs(600);

/// Largest announcement that is read, in bytes: an order is a handful of scopes.
const ANNOUNCEMENT_BYTES_MAX: u64 = 64 * 1024;

/// Announcements that are read at the same time: an edge that starts has a month of them to read.
const READS_MAX: usize = 16;

const FOLDER: &str = "purges/";

/// What of this edge a purge elsewhere concerns.
pub struct Local {
    /// Its own bans.
    pub bans: Arc<Bans>,
    /// The file that remembers when it looked last; beside what it has cached.
    pub looked: PathBuf,
}

/// The purges that edges share.
pub struct SharedBans {
    store: ObjectStore,
    local: Local,
    retention: Duration,
    timed: TimedBans,
    /// Names of the announcements that are in force here.
    known: Mutex<HashSet<String>>,
    is_known: AtomicBool,
    metrics: BanMetrics,
}

/// Why other edges may not hear of a purge.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    /// The store failed.
    #[error("the second level cannot be written to")]
    Store(#[from] StorageError),
    /// The store took too long.
    #[error("the second level did not answer in time")]
    TimedOut,
}

impl SharedBans {
    /// None known yet.
    ///
    /// # Errors
    /// When the metrics are registered already.
    pub fn new(store: ObjectStore, local: Local, retention: Duration, registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            store,
            local,
            retention,
            timed: TimedBans::default(),
            known: Mutex::default(),
            is_known: AtomicBool::new(false),
            metrics: BanMetrics::register(registry)?,
        })
    }

    /// Whether every purge that is remembered is known here.
    pub fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Acquire)
    }

    /// Whether what was asked for at `asked` has been purged by any edge.
    pub fn is_banned(&self, key: CacheKey, rendition: &Rendition, asked: UnixMillis) -> bool {
        self.timed.is_banned(key, rendition, asked)
    }

    /// Tells the other edges of a purge, which is in force here already.
    ///
    /// # Errors
    /// [`AnnounceError`]: another edge, or this one after its cache was lost, may bring back what was purged.
    pub async fn announce(&self, scopes: &[Scope]) -> Result<(), AnnounceError> {
        let random = getrandom::u64().expect("the system has random numbers");
        self.announce_as(scopes, UnixMillis::now(), random).await
    }

    /// Tells them of one that was made elsewhere, then, and that every edge hears of: `id` names it, the same for all.
    ///
    /// # Errors
    /// As [`Self::announce`].
    pub async fn announce_as(&self, scopes: &[Scope], at: UnixMillis, id: u64) -> Result<(), AnnounceError> {
        for scope in scopes {
            self.distrust(*scope, at);
        }
        let name = name(at, id);
        self.known.lock().insert(name.clone());
        let path = ObjectPath::new(name).map_err(StorageError::from)?;
        let written = self.store.put(&path, bans_to_bytes(scopes, at).into(), PutOptions::default());
        timeout(ANNOUNCE_LIMIT, written).await.map_err(|_| AnnounceError::TimedOut)??;
        Ok(())
    }

    /// Uses nothing from there that this covers and that was asked for before; only here, and until the process ends.
    pub fn distrust(&self, scope: Scope, at: UnixMillis) {
        self.timed.add(scope, at);
    }

    /// Looks for purges of other edges, for ever.
    pub async fn watch(&self) {
        let mut looked = self.last_look();
        let mut poll = interval(POLL);
        loop {
            poll.tick().await;
            let begun = UnixMillis::now();
            match self.look(looked).await {
                Ok(()) => {
                    self.metrics.is_known.set(1);
                    self.is_known.store(true, Ordering::Release);
                    looked = begun;
                    self.remember_look(looked);
                }
                Err(error) => {
                    self.metrics.failures.inc();
                    tracing::warn!(error = &error as &dyn std::error::Error, "purges of other edges cannot be read");
                }
            }
        }
    }

    /// Puts in force what was announced since `looked`; the first time, for the second level, all that is remembered.
    async fn look(&self, looked: UnixMillis) -> Result<(), StorageError> {
        let is_first = !self.is_known();
        let since = if is_first { UnixMillis::default() } else { before(looked, LATE) };
        let forgotten = before(UnixMillis::now(), self.retention + LATE);
        let prefix = ObjectPrefix::new(FOLDER)?;
        let mut after = Some(ListCursor::after(format!("{FOLDER}{:013}", since.0)));
        while after.is_some() {
            let page = self.store.list(&prefix, after.as_ref(), ListLimit::MAX).await?;
            let mut new = Vec::new();
            for entry in page.entries {
                match time_of(entry.path.as_str()) {
                    Some(at) if at < forgotten => self.store.delete(&entry.path).await?,
                    Some(_) if self.known.lock().contains(entry.path.as_str()) => {}
                    Some(_) => new.push(entry.path),
                    None => tracing::warn!(name = entry.path.as_str(), "not the name of a purge"),
                }
            }
            let taken = stream::iter(new).map(|path| async move { self.take(&path, looked).await });
            taken.buffer_unordered(READS_MAX).try_collect::<()>().await?;
            after = page.next;
        }
        self.known.lock().retain(|name| time_of(name).is_some_and(|at| at >= forgotten));
        Ok(())
    }

    /// Puts one announcement in force, for this edge's own cache only if it may be newer than what was there when it
    /// looked last.
    async fn take(&self, path: &ObjectPath, looked: UnixMillis) -> Result<(), StorageError> {
        let object = match self.store.get(path, GetOptions::default()).await {
            // Another edge has forgotten it.
            Err(StorageError::NotFound) => return Ok(()),
            object => object?,
        };
        let bytes = object.body.collect(ANNOUNCEMENT_BYTES_MAX).await?;
        // One that cannot be read may be of anything.
        let everything = || vec![(Scope::Everything, UnixMillis::now())];
        let bans = bans_from_bytes(&bytes).filter(|bans| !bans.is_empty()).unwrap_or_else(everything);
        for (scope, at) in bans {
            self.timed.add(scope, at);
            if at >= before(looked, LATE) {
                self.ban_here(scope).await;
            }
        }
        self.known.lock().insert(path.as_str().to_owned());
        self.metrics.taken.inc();
        Ok(())
    }

    async fn ban_here(&self, scope: Scope) {
        let bans = Arc::clone(&self.local.bans);
        // Writing it down waits for the disk.
        let written = tokio::task::spawn_blocking(move || bans.purge(scope)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(error = &error as &dyn std::error::Error, "a purge of another edge");
        }
    }

    /// When this edge, in its last life perhaps, had looked for purges; the beginning of time if it never did.
    fn last_look(&self) -> UnixMillis {
        let text = std::fs::read_to_string(&self.local.looked).unwrap_or_default();
        let at = text.trim().parse().map(UnixMillis).unwrap_or_default();
        // Never later than now: the clock may have been set back.
        at.min(UnixMillis::now())
    }

    fn remember_look(&self, at: UnixMillis) {
        // If it cannot be written, more is purged at the next start than need be.
        let part = self.local.looked.with_extension("part");
        let written = std::fs::write(&part, at.0.to_string()).and_then(|()| std::fs::rename(&part, &self.local.looked));
        if let Err(error) = written {
            tracing::debug!(%error, "when purges were looked for is not remembered");
        }
    }
}

fn before(time: UnixMillis, span: Duration) -> UnixMillis {
    UnixMillis(time.0.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
}

/// A name that sorts by time.
fn name(at: UnixMillis, id: u64) -> String {
    format!("{FOLDER}{:013}-{id:016x}", at.0)
}

fn time_of(name: &str) -> Option<UnixMillis> {
    let (millis, _) = name.strip_prefix(FOLDER)?.split_once('-')?;
    millis.parse().ok().map(UnixMillis)
}

struct BanMetrics {
    taken: IntCounter,
    failures: IntCounter,
    is_known: IntGauge,
}

impl BanMetrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            taken: IntCounter::new(
                "calotype_second_level_purges_total",
                "Purges of other edges that were put in force here.",
            )?,
            failures: IntCounter::new(
                "calotype_second_level_purge_failures_total",
                "Times that the purges of other edges could not be read.",
            )?,
            is_known: IntGauge::new(
                "calotype_second_level_purges_known",
                "1 once every remembered purge is known; the second level is not read before.",
            )?,
        };
        registry.register(Box::new(metrics.taken.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.is_known.clone()))?;
        Ok(metrics)
    }
}
