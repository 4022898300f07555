//! The queue as workers see it: across all tenants.

use std::time::Duration;

use isolation::Database;
use time::OffsetDateTime;
use traces::Carried;

use crate::lease::interval;
use crate::{JobId, JobsError, Lease};

/// Jobs that are looked at in one go.
const PAGE: i32 = 1000;

/// What a worker takes jobs from.
#[derive(Debug, Clone)]
pub struct Queue {
    database: Database,
    worker: String,
    lease: Duration,
}

impl Queue {
    /// For a worker of this name, which no other one has, and who is taken for dead when it is not heard of for as long as a `lease`.
    #[must_use]
    pub fn new(database: Database, worker: impl ToString, lease: Duration) -> Self {
        Self { database, worker: worker.to_string(), lease }
    }

    /// A job of one of these kinds, if there is one: of a tenant with the fewest running, and of its own the most urgent. None of a
    /// tenant for which this worker does `per_tenant` jobs of these kinds already.
    ///
    /// # Errors
    /// [`JobsError::Database`].
    pub async fn claim(&self, kinds: &[&str], per_tenant: usize) -> Result<Option<Lease>, JobsError> {
        let kinds: Vec<String> = kinds.iter().map(|kind| (*kind).to_owned()).collect();
        let row = sqlx::query!(
            r#"SELECT tenant_id AS "tenant_id!", id AS "id!", kind AS "kind!", payload AS "payload!", attempts AS "attempts!",
                 token AS "token!", trace, checkpoint
               FROM claim_job($1, $2, $3, $4)"#,
            &kinds[..],
            self.worker,
            interval(self.lease),
            i32::try_from(per_tenant).unwrap_or(i32::MAX)
        )
        .fetch_optional(self.database.across())
        .await?;
        Ok(row.map(|row| Lease {
            tenant: row.tenant_id.into(),
            id: JobId(row.id),
            kind: row.kind,
            payload: row.payload,
            attempt: row.attempts,
            trace: row.trace.as_deref().and_then(Carried::from_text),
            checkpoint: row.checkpoint,
            token: row.token,
            time: self.lease,
        }))
    }

    /// Takes jobs away from workers that are not heard of any more; how many.
    ///
    /// # Errors
    /// [`JobsError::Database`].
    pub async fn reap(&self) -> Result<u64, JobsError> {
        let reaped = sqlx::query_scalar!(r#"SELECT reap_jobs($1) AS "reaped!""#, PAGE);
        Ok(reaped.fetch_one(self.database.across()).await?.unsigned_abs().into())
    }

    /// Forgets jobs that were over before this time; how many.
    ///
    /// # Errors
    /// [`JobsError::Database`].
    pub async fn trim(&self, before: OffsetDateTime) -> Result<u64, JobsError> {
        let mut all = 0;
        loop {
            let trimmed = sqlx::query_scalar!(r#"SELECT trim_jobs($1, $2) AS "trimmed!""#, before, PAGE);
            let trimmed = trimmed.fetch_one(self.database.across()).await?.unsigned_abs();
            all += u64::from(trimmed);
            if trimmed < PAGE.unsigned_abs() {
                return Ok(all);
            }
        }
    }
}
