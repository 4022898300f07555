//! A job in a worker's hands.

use std::time::Duration;

use isolation::{Actor, Author, Database, Mandate, TenantKey, TenantTransaction};
use serde_json::Value;
use sqlx::postgres::types::PgInterval;
use traces::Carried;

use crate::{JobId, JobsError};

/// Longest text of an error that is kept, in characters.
const ERROR_CHARACTERS_MAX: usize = 2000;

/// A job, for as long as the worker is heard of.
#[derive(Debug, Clone)]
pub struct Lease {
    /// Whose it is.
    pub tenant: TenantKey,
    /// Which it is.
    pub id: JobId,
    /// What is to be done.
    pub kind: String,
    /// With what.
    pub payload: Value,
    /// Which try this is, from 1.
    pub attempt: i16,
    /// The span that it was put in by.
    pub trace: Option<Carried>,
    /// How far somebody has [noted](Lease::note) that it has come.
    pub checkpoint: Option<Value>,
    pub(crate) token: i64,
    pub(crate) time: Duration,
}

/// What a worker is told when it renews a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// To go on.
    GoOn,
    /// To give up: somebody does not want the job any more.
    Cancel,
}

/// What is to become of a job that was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Another try, after a rest, if there is one left and somebody still wants the job.
    Retry,
    /// Nothing: another try would fail as well.
    Final,
    /// Nothing: it was to be given up.
    Cancelled,
}

impl Lease {
    /// What is done for the job: its tenant's, and the job's doing.
    #[must_use]
    pub fn mandate(&self) -> Mandate {
        Mandate::new(self.tenant, &Author::new(Actor::Job(self.id.0), &self.kind))
    }

    /// Keeps the job for as long again, and tells how far it is, from 0 to 1.
    ///
    /// # Errors
    /// [`JobsError::LeaseLost`]: then the worker must stop.
    pub async fn renew(&self, database: &Database, progress: f32) -> Result<Renewal, JobsError> {
        let mut transaction = database.begin(&Mandate::upkeep(self.tenant)).await?;
        let row = sqlx::query!(
            "UPDATE jobs SET leased_until = now() + $3, progress = $4
             WHERE id = $1 AND token = $2 AND state = 'running' RETURNING cancel_requested",
            self.id.0,
            self.token,
            interval(self.time),
            progress.clamp(0.0, 1.0)
        )
        .fetch_optional(transaction.connection())
        .await?;
        transaction.commit().await?;
        let row = row.ok_or(JobsError::LeaseLost)?;
        Ok(if row.cancel_requested { Renewal::Cancel } else { Renewal::GoOn })
    }

    /// Keeps the job from becoming somebody else's before `transaction` ends, for what has to be noted before the job is done.
    ///
    /// # Errors
    /// [`JobsError::LeaseLost`]: then the transaction must not commit.
    pub async fn hold(&self, transaction: &mut TenantTransaction) -> Result<(), JobsError> {
        let held = sqlx::query_scalar!(
            "SELECT id FROM jobs WHERE id = $1 AND token = $2 AND state = 'running' FOR UPDATE",
            self.id.0,
            self.token
        )
        .fetch_optional(transaction.connection())
        .await?;
        if held.is_none() { Err(JobsError::LeaseLost) } else { Ok(()) }
    }

    /// Notes how far the job has come, if `transaction` commits: what was done until then belongs into the same transaction. Whoever goes on
    /// with the job is told, after a failure or when it is tried again, too.
    ///
    /// # Errors
    /// [`JobsError::LeaseLost`]: then the transaction must not commit.
    pub async fn note(&self, transaction: &mut TenantTransaction, checkpoint: Value) -> Result<(), JobsError> {
        let changed = sqlx::query!(
            "UPDATE jobs SET checkpoint = $3 WHERE id = $1 AND token = $2 AND state = 'running'",
            self.id.0,
            self.token,
            checkpoint
        )
        .execute(transaction.connection())
        .await?;
        if changed.rows_affected() == 0 { Err(JobsError::LeaseLost) } else { Ok(()) }
    }

    /// The job is done, if `transaction` commits: what came of it belongs into the same transaction.
    ///
    /// # Errors
    /// [`JobsError::LeaseLost`]: then the transaction must not commit.
    pub async fn complete(&self, transaction: &mut TenantTransaction, result: Value) -> Result<(), JobsError> {
        let changed = sqlx::query!(
            "UPDATE jobs SET state = 'done', result = $3, error = NULL, progress = 1, finished_at = now(), leased_until = NULL
             WHERE id = $1 AND token = $2 AND state = 'running'",
            self.id.0,
            self.token,
            result
        )
        .execute(transaction.connection())
        .await?;
        if changed.rows_affected() == 0 { Err(JobsError::LeaseLost) } else { Ok(()) }
    }

    /// The job was not done, for this reason, if `transaction` commits.
    ///
    /// # Errors
    /// [`JobsError::LeaseLost`]: then it is somebody else's by now.
    pub async fn fail(
        &self,
        transaction: &mut TenantTransaction,
        failure: Failure,
        error: &str,
    ) -> Result<(), JobsError> {
        let error: String = error.chars().filter(|c| *c != '\0').take(ERROR_CHARACTERS_MAX).collect();
        let changed = sqlx::query!(
            "UPDATE jobs SET
                 state = CASE
                     WHEN $3 = 'cancelled' OR ($3 = 'retry' AND cancel_requested) THEN 'cancelled'
                     WHEN $3 = 'retry' AND attempts < attempts_max THEN 'delayed'
                     ELSE 'failed'
                 END,
                 finished_at = CASE
                     WHEN $3 = 'retry' AND attempts < attempts_max AND NOT cancel_requested THEN NULL ELSE now()
                 END,
                 run_at = now() + job_backoff(attempts),
                 error = $4, leased_until = NULL
             WHERE id = $1 AND token = $2 AND state = 'running'",
            self.id.0,
            self.token,
            match failure {
                Failure::Retry => "retry",
                Failure::Final => "final",
                Failure::Cancelled => "cancelled",
            },
            error
        )
        .execute(transaction.connection())
        .await?;
        if changed.rows_affected() == 0 { Err(JobsError::LeaseLost) } else { Ok(()) }
    }
}

/// A time as the database has it; whatever is too long is as long as it may be.
pub(crate) fn interval(time: Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(time.as_micros()).unwrap_or(i64::MAX) }
}
