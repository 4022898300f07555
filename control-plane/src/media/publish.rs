//! Pointers: what a public id means, written where edges read it.
//!
//! One process at a time writes a pointer: it holds the row's claim, so that an older meaning can never be put over a newer one. It
//! reads what the id means and with which generation, writes the pointer, and then, in one transaction, notes that this generation is
//! published and tells edges of it, unless the id means something newer by now: then it begins again. Edges are told after the pointer
//! is there, because they read it when they are told.
//!
//! A claim that nothing came of runs out, and a worker does it again: whether the write of a process that died has happened is not
//! known, so it counts as not published.

use std::time::Duration;

use isolation::{Database, Mandate, TenantKey};
use storage::{ObjectStore, PutOptions, StorageError};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout};
use uploads::{Pointer, PublicId, Target, object_path, pointer_path};
use uuid::Uuid;

use crate::feed::{Subject, announce};
use crate::problem::ApiError;

/// How long a write may take: well within a claim, which is a minute.
const WRITE_LIMIT: Duration = Duration::from_secs(20);

/// How long a request waits for another one that is writing the same pointer.
const WAIT_LIMIT: Duration = Duration::from_secs(2);

/// Time between two looks at whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// How often it is begun again because the id meant something newer.
const ROUNDS_MAX: usize = 16;

/// Whether a pointer says what its public id means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It does.
    Yes,
    /// Not yet: a worker will see to it.
    Later,
}

/// Writes pointers.
#[derive(Debug)]
pub struct Publisher<'a> {
    database: &'a Database,
    store: &'a ObjectStore,
}

impl<'a> Publisher<'a> {
    /// With this store.
    pub fn new(database: &'a Database, store: &'a ObjectStore) -> Self {
        Self { database, store }
    }

    /// Writes a pointer that was changed just now, or waits for who does. That it could not be written is no error: the change is
    /// made, and a worker goes on.
    pub async fn publish(&self, tenant: TenantKey, public_id: &PublicId) -> Published {
        match self.try_now(tenant, public_id).await {
            Ok(published) => published,
            Err(error) => {
                tracing::warn!(%error, %tenant, "a pointer is written later");
                Published::Later
            }
        }
    }

    async fn try_now(&self, tenant: TenantKey, public_id: &PublicId) -> Result<Published, ApiError> {
        let until = Instant::now() + WAIT_LIMIT;
        let claim = Uuid::now_v7();
        loop {
            if self.claim(tenant, public_id, claim).await? {
                return self.write(tenant, public_id, claim).await;
            }
            if self.is_published(tenant, public_id).await? {
                return Ok(Published::Yes);
            }
            if Instant::now() >= until {
                return Ok(Published::Later);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn claim(&self, tenant: TenantKey, public_id: &PublicId, claim: Uuid) -> Result<bool, ApiError> {
        let mut transaction = self.database.begin(&Mandate::upkeep(tenant)).await?;
        let claimed = sqlx::query!(
            "UPDATE pointers SET claim = $2, tries = tries + 1, try_at = now() + interval '1 minute'
             WHERE public_id = $1 AND ((published < generation AND claim IS NULL) OR (claim IS NOT NULL AND try_at <= now()))",
            public_id.as_str(),
            claim
        )
        .execute(transaction.connection())
        .await?;
        transaction.commit().await?;
        Ok(claimed.rows_affected() == 1)
    }

    async fn is_published(&self, tenant: TenantKey, public_id: &PublicId) -> Result<bool, ApiError> {
        let mut transaction = self.database.begin(&Mandate::upkeep(tenant)).await?;
        let open = sqlx::query_scalar!(
            r#"SELECT (published < generation OR claim IS NOT NULL) AS "open!" FROM pointers WHERE public_id = $1"#,
            public_id.as_str()
        )
        .fetch_optional(transaction.connection())
        .await?;
        Ok(!open.unwrap_or(false))
    }

    /// Writes a pointer under a claim.
    ///
    /// # Errors
    /// [`ApiError::Store`], [`ApiError::Database`]; then the claim runs out.
    pub async fn write(&self, tenant: TenantKey, public_id: &PublicId, claim: Uuid) -> Result<Published, ApiError> {
        let path = pointer_path(&tenant.to_string(), public_id);
        for _ in 0..ROUNDS_MAX {
            let Some((generation, pointer)) = self.meaning(tenant, public_id, claim).await? else { break };
            let options = PutOptions { content_type: Some("application/json".to_owned()), ..PutOptions::default() };
            let written = timeout(WRITE_LIMIT, self.store.put(&path, pointer.to_bytes().into(), options)).await;
            written.map_err(|_| StorageError::TimedOut { limit: WRITE_LIMIT, source: None })??;
            let is_gone = pointer == Pointer::Gone;
            if self.finish(tenant, public_id, claim, generation, is_gone).await? {
                return Ok(Published::Yes);
            }
        }
        Ok(Published::Later)
    }

    /// What the id means and its generation, for as long again as a claim lasts; `None` when the claim is somebody else's by now.
    async fn meaning(
        &self,
        tenant: TenantKey,
        public_id: &PublicId,
        claim: Uuid,
    ) -> Result<Option<(i64, Pointer)>, ApiError> {
        let mut transaction = self.database.begin(&Mandate::upkeep(tenant)).await?;
        let generation = sqlx::query_scalar!(
            "UPDATE pointers SET try_at = now() + interval '1 minute' WHERE public_id = $1 AND claim = $2
             RETURNING generation",
            public_id.as_str(),
            claim
        )
        .fetch_optional(transaction.connection())
        .await?;
        let Some(generation) = generation else { return Ok(None) };
        // The row is locked: changes of the id wait for this transaction, so what is read here is of this generation.
        let media = sqlx::query!(
            "SELECT id, revision, content_type, bytes, sha256, stored_at, expires_at, tags FROM media
             WHERE public_id = $1 AND is_served(state)",
            public_id.as_str()
        )
        .fetch_optional(transaction.connection())
        .await?;
        transaction.commit().await?;
        let pointer = media.map_or(Pointer::Gone, |media| {
            Pointer::Here(Target {
                object: object_path(tenant.as_uuid(), media.id, media.revision).to_string(),
                content_type: media.content_type,
                bytes: media.bytes.unsigned_abs(),
                sha256: hexadecimal(&media.sha256),
                stored_at: unix_seconds(media.stored_at),
                expires_at: media.expires_at.map(unix_seconds),
                tags: media.tags,
            })
        });
        Ok(Some((generation, pointer)))
    }

    /// Notes that this generation is published, and tells edges, unless there is a newer one.
    async fn finish(
        &self,
        tenant: TenantKey,
        public_id: &PublicId,
        claim: Uuid,
        generation: i64,
        is_gone: bool,
    ) -> Result<bool, ApiError> {
        let mut transaction = self.database.begin(&Mandate::upkeep(tenant)).await?;
        let name = public_id.as_str();
        let noted = if is_gone {
            sqlx::query!(
                "DELETE FROM pointers WHERE public_id = $1 AND claim = $2 AND generation = $3",
                name,
                claim,
                generation
            )
            .execute(transaction.connection())
            .await?
        } else {
            sqlx::query!(
                "UPDATE pointers SET published = generation, claim = NULL, tries = 0
                 WHERE public_id = $1 AND claim = $2 AND generation = $3",
                name,
                claim,
                generation
            )
            .execute(transaction.connection())
            .await?
        };
        if noted.rows_affected() == 0 {
            return Ok(false);
        }
        announce(&mut transaction, Subject::Media(name), None).await?;
        transaction.commit().await?;
        Ok(true)
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unix_seconds(time: OffsetDateTime) -> u64 {
    time.unix_timestamp().try_into().unwrap_or(0)
}
