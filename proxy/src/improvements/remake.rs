//! Making a draft once more: its original again, the encoder with more time, and what is to take the draft's place.
//!
//! Must not touch the cache of renditions: whether the draft is still there is not known here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache::{Entry, Filled, Rendition, UnixMillis};
use imaging::{Effort, Rendered};
use tokio::time::{timeout, timeout_at};

use crate::fill::{Filler, Plan, internal};
use crate::kept;
use crate::pool::IdleError;
use crate::problem::EdgeError;
use crate::registered::RegisteredBytes;
use crate::render_job::NamedSource;
use crate::source_cache::{Fetched, Provenance, is_same};

/// How long an original may wait for an idle moment; it is in memory that others could use.
const PATIENCE: Duration = Duration::from_secs(1);

/// A saving under one part in so many is none: whoever has the draft is sent all of the other one when he next asks.
const SAVED_PART_MIN: usize = 33;

/// What came of making a draft once more.
pub struct Remade {
    /// What it became.
    pub result: Outcome,
    /// All that it was made of was asked for then or later.
    pub asked: UnixMillis,
    /// Time on the thread.
    pub ran: Duration,
}

/// What is to take the draft's place.
pub enum Outcome {
    /// The same picture in fewer bytes.
    Smaller(Rendition),
    /// The draft itself, which is a draft no longer.
    AsGood(Rendition),
    /// A picture of what the original is by now.
    OfChanged(Rendition),
    /// Nothing: what the original is by now may not be kept.
    Unkept,
}

/// Why there is nothing.
pub enum Failure {
    /// There is other work: later, perhaps.
    Busy,
    /// It takes too much.
    TooHeavy,
    /// As for a fill.
    Edge(EdgeError),
}

impl From<EdgeError> for Failure {
    fn from(error: EdgeError) -> Self {
        match error {
            EdgeError::Busy => Self::Busy,
            error => Self::Edge(error),
        }
    }
}

impl From<IdleError> for Failure {
    fn from(error: IdleError) -> Self {
        match error {
            IdleError::Busy => Self::Busy,
            IdleError::TooHeavy => Self::TooHeavy,
            IdleError::Pool(error) => Self::Edge(error.into()),
            IdleError::Thread(error) => Self::Edge(internal(error)),
        }
    }
}

/// Makes `draft` once more. Memory for its original is its tenant's, if there is plenty.
///
/// # Errors
/// [`Failure`].
pub async fn remake(filler: &Filler, plan: &Plan<'_>, draft: &Entry) -> Result<Remade, Failure> {
    let place = Arc::new(filler.shares.enter_spare(&plan.decision.tenant.id).ok_or(Failure::Busy)?);
    let (asked, deadline) = (UnixMillis::now(), Instant::now() + filler.deadline);
    let inputs = timeout_at(deadline.into(), async {
        let overlay = filler.registered(plan, plan.wanted.overlay.as_ref()).await?;
        // Not asked whether it has changed since the draft: its bytes are needed if it has not.
        Ok::<_, EdgeError>((filler.sources.get(plan, &place, None, deadline).await?, overlay))
    });
    let (fetched, overlay) = inputs.await.map_err(|_| EdgeError::Deadline)??;
    let Fetched::Original(original) = fetched else { return Err(internal("not modified without a condition").into()) };
    if let Some(failure) = original.provenance.failure {
        return Err(failure.into());
    }
    if original.bytes.is_empty() {
        return Err(EdgeError::Empty.into());
    }
    let source = NamedSource { mark: plan.decision.source(), bytes: original.bytes };
    timeout(PATIENCE, filler.pool.until_idle()).await.map_err(|_| Failure::Busy)?;
    let job = filler.job((plan, Effort::Small), source, overlay.as_ref(), Instant::now() + filler.deadline);
    let (rendered, ran) = filler.pool.run_idle(job).await?;
    // The tenant has the rendition already: it is the time that it takes.
    if let Some(account) = &plan.decision.active.account {
        account.worked(ran);
    }
    let rendered = rendered.map_err(EdgeError::from)?;
    drop(original.room);
    let times = [Some(asked), original.provenance.asked, overlay.as_ref().map(|overlay| overlay.asked)];
    let asked = times.into_iter().flatten().min().unwrap_or_default();
    let result = outcome(plan, draft, rendered, original.provenance, overlay.as_ref())?;
    Ok(Remade { result, asked, ran })
}

fn outcome(
    plan: &Plan<'_>,
    draft: &Entry,
    rendered: Rendered,
    original: Provenance,
    overlay: Option<&RegisteredBytes>,
) -> Result<Outcome, EdgeError> {
    let is_of_same = is_same(&draft.validators, &original.validators)
        && kept::has_overlay(draft, overlay)
        && *draft.content_type == *rendered.content_type();
    if !is_of_same {
        return Ok(match kept::picture(plan, rendered, original, overlay)? {
            Filled::Store(rendition) => Outcome::OfChanged(rendition),
            Filled::Pass(_) | Filled::Hold(_) => Outcome::Unkept,
        });
    }
    if !saves_enough(&draft.body, &rendered.body) {
        return Ok(Outcome::AsGood(draft.settled()));
    }
    Ok(Outcome::Smaller(draft.improved(rendered.body).map_err(internal)?))
}

fn saves_enough(before: &Bytes, after: &Bytes) -> bool {
    before.len().saturating_sub(after.len()) * SAVED_PART_MIN >= before.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(before: usize, after: usize, expected: bool) {
        let bytes = |count| Bytes::from(vec![0; count]);
        assert_eq!(saves_enough(&bytes(before), &bytes(after)), expected, "{before} to {after}");
    }

    #[test]
    fn three_per_cent_are_worth_it() {
        check(10_000, 9_600, true);
        check(10_000, 9_696, true);
        check(10_000, 9_697, false);
        check(10_000, 10_000, false);
        check(10_000, 12_000, false);
    }
}
