//! A job as its tenant sees it: put in, looked at, cancelled, tried again.

use std::fmt;
use std::str::FromStr;

use isolation::TenantTransaction;
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::JobsError;

/// A job's unchanging id. Later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub Uuid);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is to be done.
#[derive(Debug, Clone)]
pub struct NewJob<'a> {
    /// Which workers take it: a lower-case word.
    pub kind: &'a str,
    /// What they are told.
    pub payload: Value,
    /// Higher ones go first among those of a tenant; -100 to 100.
    pub priority: i16,
    /// How often it may be begun; 1 to 100.
    pub attempts_max: i16,
    /// Not before.
    pub run_at: Option<OffsetDateTime>,
    /// What must be done first. If one of these fails or is cancelled, so is this job.
    pub needs: &'a [JobId],
}

impl<'a> NewJob<'a> {
    /// As soon as may be, like any other, with five tries.
    #[must_use]
    pub fn new(kind: &'a str, payload: Value) -> Self {
        Self { kind, payload, priority: 0, attempts_max: 5, run_at: None, needs: &[] }
    }
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// It waits for other jobs.
    Blocked,
    /// It waits for its time.
    Delayed,
    /// It waits for a worker.
    Queued,
    /// A worker has it.
    Running,
    /// It is done.
    Done,
    /// It was tried as often as may be.
    Failed,
    /// Somebody did not want it any more.
    Cancelled,
}

impl JobState {
    const ALL: [Self; 7] =
        [Self::Blocked, Self::Delayed, Self::Queued, Self::Running, Self::Done, Self::Failed, Self::Cancelled];

    /// Its name in the database and the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Delayed => "delayed",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more comes of it.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

impl FromStr for JobState {
    type Err = JobsError;

    fn from_str(text: &str) -> Result<Self, JobsError> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| JobsError::State(text.to_owned()))
    }
}

/// A job as it is.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Which workers take it.
    pub kind: String,
    /// Where it is.
    pub state: JobState,
    /// Higher ones go first.
    pub priority: i16,
    /// How often it was begun.
    pub attempts: i16,
    /// How often it may be.
    pub attempts_max: i16,
    /// From 0 to 1, by its worker's word.
    pub progress: f32,
    /// What came of it.
    pub result: Option<Value>,
    /// Why it failed, the last time.
    pub error: Option<String>,
    /// Whether its worker was asked to give it up.
    pub cancel_requested: bool,
    /// When it was put in.
    pub created_at: OffsetDateTime,
    /// When it is over.
    pub finished_at: Option<OffsetDateTime>,
}

/// Puts a job in. Workers see it once the transaction has committed. If there is a current span, theirs go on from it.
///
/// # Errors
/// [`JobsError::Needs`].
pub async fn enqueue(transaction: &mut TenantTransaction, job: &NewJob<'_>) -> Result<JobId, JobsError> {
    let (tenant, id) = (transaction.tenant().as_uuid(), Uuid::now_v7());
    let needs: Vec<Uuid> = job.needs.iter().map(|needed| needed.0).collect();
    let waits_for = if needs.is_empty() { 0 } else { lock_needed(transaction, &needs).await? };
    let trace = traces::current_carried().map(|span| span.to_string());
    sqlx::query!(
        "INSERT INTO jobs (tenant_id, id, kind, state, priority, payload, attempts_max, run_at, waits_for, trace)
         VALUES ($1, $2, $3, CASE WHEN $8 > 0 THEN 'blocked' WHEN $7 > now() THEN 'delayed' ELSE 'queued' END,
             $4, $5, $6, coalesce($7, now()), $8, $9)",
        tenant,
        id,
        job.kind,
        job.priority,
        job.payload,
        job.attempts_max,
        job.run_at,
        waits_for,
        trace
    )
    .execute(transaction.connection())
    .await?;
    if !needs.is_empty() {
        // Those that are done are not waited for.
        sqlx::query!(
            "INSERT INTO job_dependencies (tenant_id, job_id, needs_id)
             SELECT $1, $2, id FROM jobs WHERE id = ANY ($3) AND state <> 'done'",
            tenant,
            id,
            &needs[..]
        )
        .execute(transaction.connection())
        .await?;
    }
    Ok(JobId(id))
}

/// Keeps the jobs that are needed from ending before this transaction does; how many of them are not done.
async fn lock_needed(transaction: &mut TenantTransaction, needs: &[Uuid]) -> Result<i32, JobsError> {
    let found = sqlx::query!("SELECT state FROM jobs WHERE id = ANY ($1) ORDER BY id FOR UPDATE", needs)
        .fetch_all(transaction.connection())
        .await?;
    let distinct: std::collections::BTreeSet<_> = needs.iter().collect();
    let mut waits_for = 0;
    for row in &found {
        match row.state.parse()? {
            JobState::Done => {}
            JobState::Failed | JobState::Cancelled => return Err(JobsError::Needs),
            _ => waits_for += 1,
        }
    }
    if found.len() == distinct.len() { Ok(waits_for) } else { Err(JobsError::Needs) }
}

/// A job as the database has it.
struct JobRow {
    id: Uuid,
    kind: String,
    state: String,
    priority: i16,
    attempts: i16,
    attempts_max: i16,
    progress: f32,
    result: Option<Value>,
    error: Option<String>,
    cancel_requested: bool,
    created_at: OffsetDateTime,
    finished_at: Option<OffsetDateTime>,
}

impl TryFrom<JobRow> for Job {
    type Error = JobsError;

    fn try_from(row: JobRow) -> Result<Self, JobsError> {
        Ok(Self {
            id: JobId(row.id),
            kind: row.kind,
            state: row.state.parse()?,
            priority: row.priority,
            attempts: row.attempts,
            attempts_max: row.attempts_max,
            progress: row.progress,
            result: row.result,
            error: row.error,
            cancel_requested: row.cancel_requested,
            created_at: row.created_at,
            finished_at: row.finished_at,
        })
    }
}

/// The tenant's job of this id.
///
/// # Errors
/// [`JobsError::NotFound`].
pub async fn find(transaction: &mut TenantTransaction, id: JobId) -> Result<Job, JobsError> {
    let row = sqlx::query_as!(
        JobRow,
        "SELECT id, kind, state, priority, attempts, attempts_max, progress, result, error, cancel_requested, created_at,
             finished_at
         FROM jobs WHERE id = $1",
        id.0
    )
    .fetch_optional(transaction.connection())
    .await?
    .ok_or(JobsError::NotFound)?;
    row.try_into()
}

/// The tenant's newest jobs before this one, at most so many: all, or those in one state.
///
/// # Errors
/// [`JobsError::Database`].
pub async fn list(
    transaction: &mut TenantTransaction,
    state: Option<JobState>,
    before: Option<JobId>,
    count: i64,
) -> Result<Vec<Job>, JobsError> {
    // Nothing is after the greatest id.
    let before = before.map_or(Uuid::max(), |id| id.0);
    let rows = match state {
        None => {
            let rows = sqlx::query_as!(
                JobRow,
                "SELECT id, kind, state, priority, attempts, attempts_max, progress, result, error, cancel_requested, created_at,
                     finished_at
                 FROM jobs WHERE id < $1 ORDER BY id DESC LIMIT $2",
                before,
                count
            );
            rows.fetch_all(transaction.connection()).await?
        }
        Some(state) => {
            let rows = sqlx::query_as!(
                JobRow,
                "SELECT id, kind, state, priority, attempts, attempts_max, progress, result, error, cancel_requested, created_at,
                     finished_at
                 FROM jobs WHERE state = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
                state.as_str(),
                before,
                count
            );
            rows.fetch_all(transaction.connection()).await?
        }
    };
    rows.into_iter().map(Job::try_from).collect()
}

/// Ends a job that has not begun, and asks the worker of one that has to give it up. What needs it is cancelled with it.
///
/// # Errors
/// [`JobsError::NotFound`], or [`JobsError::State`] when it is over.
pub async fn cancel(transaction: &mut TenantTransaction, id: JobId) -> Result<(), JobsError> {
    let changed = sqlx::query!(
        "UPDATE jobs SET
             cancel_requested = true,
             state = CASE WHEN state = 'running' THEN state ELSE 'cancelled' END,
             finished_at = CASE WHEN state = 'running' THEN NULL ELSE now() END
         WHERE id = $1 AND state NOT IN ('done', 'failed', 'cancelled')",
        id.0
    )
    .execute(transaction.connection())
    .await?;
    if changed.rows_affected() == 0 { Err(other_state(transaction, id).await?) } else { Ok(()) }
}

/// Lets a job that has failed or was cancelled be tried as often again as it might be at first.
///
/// # Errors
/// [`JobsError::NotFound`], or [`JobsError::State`] when it is none of these.
pub async fn retry(transaction: &mut TenantTransaction, id: JobId) -> Result<(), JobsError> {
    let changed = sqlx::query!(
        "UPDATE jobs SET state = 'queued', attempts = 0, run_at = now(), finished_at = NULL, cancel_requested = false,
             waits_for = 0
         WHERE id = $1 AND state IN ('failed', 'cancelled')",
        id.0
    )
    .execute(transaction.connection())
    .await?;
    if changed.rows_affected() == 0 { Err(other_state(transaction, id).await?) } else { Ok(()) }
}

async fn other_state(transaction: &mut TenantTransaction, id: JobId) -> Result<JobsError, JobsError> {
    let job = find(transaction, id).await?;
    Ok(JobsError::State(job.state.as_str().to_owned()))
}
