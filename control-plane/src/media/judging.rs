//! What a worker asks of bytes that are judged, and what follows from the answers.
//!
//! Bytes are known by their revision and a scan by its job: an answer that is about others, or that comes from a job which is not
//! theirs any more, changes nothing. Must not ask anybody itself, and must not keep a transaction open while somebody is asked.

use isolation::{Mandate, TenantKey, TenantTransaction};
use jobs::Lease;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Library;
use super::record;
use super::review::{Judged, keep, locked, reject_bytes, release_bytes};
use super::row::{self, Media};
use crate::etag::Condition;
use crate::problem::ApiError;
use crate::workflows::{self, Answered, InForce, Outcome, Scan, Step, Verdict};

/// What a worker is told.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanOrder {
    /// Of which medium.
    pub media: Uuid,
    /// Which of its bytes.
    pub revision: Uuid,
}

impl ScanOrder {
    /// The kind of jobs that do it.
    pub const JOB: &str = "scan";
}

/// Those of a medium's bytes whose workflow a job is, if there still are such bytes and it still is.
async fn locked_for(
    transaction: &mut TenantTransaction,
    lease: &Lease,
    order: ScanOrder,
) -> Result<Option<(Judged, Scan)>, ApiError> {
    let (own, replacement) = match locked(transaction, order.media, Condition::None).await {
        Err(ApiError::NotFound(_)) => return Ok(None),
        found => found?,
    };
    // Whoever has lost the job meanwhile must not have the last word. The medium is locked first, as by those who decide by hand.
    lease.hold(transaction).await?;
    let mut judged = [Some(own), replacement].into_iter().flatten().find(|judged| judged.revision == order.revision);
    let scan = judged.as_mut().and_then(|judged| judged.scan.take());
    let scan = scan.filter(|scan| scan.job == Some(lease.id.0) && !scan.is_over());
    Ok(judged.zip(scan))
}

/// What a worker has to ask next.
#[derive(Debug)]
pub struct Question {
    /// Of which bytes.
    pub judged: Judged,
    /// How they have fared so far.
    pub scan: Scan,
    /// What is in force.
    pub workflow: InForce,
    at: usize,
}

impl Question {
    /// The step that asks.
    ///
    /// # Errors
    /// [`ApiError::Internal`] when it is not in the workflow, which would be a mistake of ours.
    pub fn step(&self) -> Result<&Step, ApiError> {
        let name = &self.scan.steps[self.at].name;
        self.workflow.steps.iter().find(|step| step.name == *name).ok_or(ApiError::Internal)
    }

    /// How many steps come before it.
    pub fn at(&self) -> usize {
        self.at
    }
}

/// What a worker is to do next.
#[derive(Debug)]
pub enum Next {
    /// To ask.
    Ask(Box<Question>),
    /// Nothing before a rest: some steps have no answer yet, for this reason. Whether there may be one another time.
    Rest {
        /// Why.
        why: String,
        /// Whether there may be one another time.
        may_pass: bool,
    },
    /// Nothing: it is known what the bytes are.
    Over(Verdict),
    /// Nothing: there are no such bytes any more, or they are another job's.
    Outdated,
}

/// Looks what is to be asked of bytes, after the first so many steps.
///
/// # Errors
/// [`ApiError::NoWorkflow`] when none is in force any more; [`ApiError::Database`].
pub async fn next(library: &Library, lease: &Lease, order: ScanOrder, after: usize) -> Result<Next, ApiError> {
    let mut transaction = library.database().begin(&lease.mandate()).await?;
    let Some((judged, mut scan)) = locked_for(&mut transaction, lease, order).await? else { return Ok(Next::Outdated) };
    let workflow = workflows::in_force(&mut transaction, judged.kind).await?.ok_or(ApiError::NoWorkflow)?;
    let is_other = Some(&workflow.mark) != scan.workflow.as_ref();
    if is_other {
        scan.restart(&workflow);
    }
    // There may be nothing to wait for, by this workflow.
    let is_free = judged.is_held() && !scan.holds();
    if is_other || is_free {
        let outcome = if is_free { Outcome::Release } else { Outcome::Goes };
        let verdict = scan.verdict;
        settle(library, transaction, &judged, &mut scan, outcome).await?;
        if scan.is_over() {
            return Ok(Next::Over(verdict));
        }
        // What was asked before counts no more.
        return Box::pin(next(library, lease, order, 0)).await;
    }
    transaction.commit().await?;
    if let Some(at) = scan.next(after) {
        return Ok(Next::Ask(Box::new(Question { judged, scan, workflow, at })));
    }
    let open = scan.steps.iter().filter(|finding| finding.verdict == Verdict::Pending);
    let notes: Vec<_> =
        open.filter_map(|finding| Some(format!("{}: {}", finding.name, finding.note.as_ref()?))).collect();
    Ok(Next::Rest { why: notes.join("; "), may_pass: true })
}

/// Notes what came of a question, and does what follows. What is in force by then counts: an answer to what is not asked any more is
/// forgotten.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn answer(
    library: &Library,
    lease: &Lease,
    order: ScanOrder,
    question: &Question,
    answered: Answered,
) -> Result<Next, ApiError> {
    let may_pass = !matches!(answered, Answered::Not { may_pass: false, .. });
    let mut transaction = library.database().begin(&lease.mandate()).await?;
    let Some((judged, mut scan)) = locked_for(&mut transaction, lease, order).await? else { return Ok(Next::Outdated) };
    let workflow = workflows::in_force(&mut transaction, judged.kind).await?;
    let is_other =
        |workflow: InForce| workflow.mark != question.workflow.mark || Some(&workflow.mark) != scan.workflow.as_ref();
    if workflow.is_none_or(is_other) {
        drop(transaction);
        return next(library, lease, order, 0).await;
    }
    let at = question.at;
    let outcome = scan.note(at, question.step()?, answered, OffsetDateTime::now_utc());
    let (is_over, verdict) = (scan.is_over(), scan.verdict);
    let finding = &scan.steps[at];
    let is_stuck = !may_pass && finding.verdict == Verdict::Pending;
    let why = format!("{}: {}", finding.name, finding.note.as_deref().unwrap_or_default());
    settle(library, transaction, &judged, &mut scan, outcome).await?;
    match () {
        () if is_over => Ok(Next::Over(verdict)),
        () if is_stuck => Ok(Next::Rest { why, may_pass }),
        () => Box::pin(next(library, lease, order, at + 1)).await,
    }
}

/// Keeps a scan, does what follows from it, and tells edges.
async fn settle(
    library: &Library,
    mut transaction: TenantTransaction,
    judged: &Judged,
    scan: &mut Scan,
    outcome: Outcome,
) -> Result<(), ApiError> {
    let tenant = transaction.tenant();
    match outcome {
        Outcome::Reject => reject_bytes(library, &mut transaction, judged, scan).await?,
        Outcome::Release => release_bytes(library, &mut transaction, judged, scan).await?,
        Outcome::Goes => keep(&mut transaction, judged, scan).await?,
    }
    let row = row::find(&mut transaction, judged.media).await?;
    transaction.commit().await?;
    if !row.is_published() {
        record::published(library, tenant, row, None).await?;
    }
    Ok(())
}

/// A medium as its tenant sees it.
///
/// # Errors
/// [`ApiError::NotFound`].
pub async fn described(library: &Library, tenant: TenantKey, media: Uuid) -> Result<Media, ApiError> {
    let mut transaction = library.database().begin(&Mandate::upkeep(tenant)).await?;
    let slug = sqlx::query_scalar!("SELECT slug FROM tenants").fetch_one(transaction.connection()).await?;
    Ok(row::find(&mut transaction, media).await?.seen_by(library, &slug))
}
