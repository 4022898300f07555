//! One fill: fetch the original and what is laid over it, make the rendition, or what is shown instead.
//!
//! The fetch holds no libvips thread. Must not know who waits: a client that leaves changes nothing here.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use cache::{Entry, Filled, Freshness, Rendition, UnixMillis};
use imaging::{Class, Effort, Engine, Limits, Rendered};
use tokio::time::timeout_at;
use traces::{Kind, Span};

use crate::decision::{Decision, WantedRendition};
use crate::kept;
use crate::pool::{Finished, TransformPool};
use crate::problem::EdgeError;
use crate::quotas;
use crate::refreshes::Refreshes;
use crate::registered::{Registered, RegisteredBytes, RegisteredImages};
use crate::render_job::{NamedSource, RenderJob, Sharing};
use crate::second_level::SecondLevel;
use crate::shares::{FillPlace, Shares};
use crate::source_cache::{Fetched, SourceCache};

/// One rendition to make.
pub struct Plan<'a> {
    /// Whose, of what, under which policy.
    pub decision: &'a Arc<Decision>,
    /// The rendition's part of the decision.
    pub wanted: &'a WantedRendition,
    /// The client's class, where it matters.
    pub class: Class,
}

/// Makes renditions.
pub struct Filler {
    /// What transforms.
    pub engine: Engine,
    /// Where it does.
    pub pool: TransformPool,
    /// What one rendition may take.
    pub limits: Limits,
    /// Time that a fill has.
    pub deadline: Duration,
    /// What originals are read through.
    pub sources: Arc<SourceCache>,
    /// Overlays and fallbacks.
    pub images: RegisteredImages,
    /// Where other edges leave what they made.
    pub second_level: Option<Arc<SecondLevel>>,
    /// What all fills have together; its memory is enough for the largest original.
    pub shares: Arc<Shares>,
    /// What renders of one original have together.
    pub sharing: Sharing,
    /// How refreshes end.
    pub refreshes: Refreshes,
}

/// What a fill took, for the access event and `Server-Timing`.
#[derive(Debug, Clone, Default)]
pub struct FillReport {
    /// From the first byte asked for to the last byte of the original.
    pub fetch: Option<Duration>,
    /// Waiting for a thread.
    pub queue: Option<Duration>,
    /// On the thread.
    pub transform: Option<Duration>,
    /// The source said that nothing changed.
    pub not_modified: bool,
    /// The rendition came from the second level.
    pub second_level: bool,
    /// The failure that was cached, or that a fallback was shown for.
    pub failure: Option<EdgeError>,
}

/// What a fill begins with.
enum Gathered {
    /// Another edge, or this one before it lost its cache, has made it.
    Rendition(Rendition),
    Inputs(Inputs),
}

/// What a rendition is made of.
struct Inputs {
    fetched: Fetched,
    overlay: Option<RegisteredBytes>,
}

impl Filler {
    /// Makes the rendition of `plan`. `previous` is what the cache had: if its source did not change, it is renewed
    /// without a transform. `report` is filled in before this returns.
    ///
    /// # Errors
    /// What may go better next time. What lasts is a rendition too, a short-lived one.
    pub async fn fill(
        &self,
        plan: &Plan<'_>,
        mut previous: Option<Entry>,
        report: Option<&OnceLock<FillReport>>,
    ) -> Result<Filled, EdgeError> {
        let place = Arc::new(self.shares.enter(&plan.decision.tenant.id).ok_or(EdgeError::Busy)?);
        let mut taken = FillReport::default();
        let deadline = Instant::now() + self.deadline;
        let filled = match self.make((plan, &place), &mut previous, deadline, &mut taken).await {
            Err(error) => {
                if report.is_none() && !error.is_lasting() {
                    // Nobody waits who could tell.
                    tracing::warn!(tenant = %plan.decision.tenant.slug, path = plan.decision.path.as_str(), cause = error.cause(), %error, "refresh failed");
                }
                taken.failure = Some(error.clone());
                // What the cache has is better than a fallback, as long as the original may come back.
                match kept::held(previous.as_ref(), &error) {
                    Some(held) => Ok(held),
                    None => self.instead(plan, error, deadline).await,
                }
            }
            filled => filled,
        };
        match report {
            // One fill sets it once.
            Some(report) => drop(report.set(taken)),
            None => self.refreshes.count(&filled, taken.not_modified),
        }
        filled
    }

    async fn make(
        &self,
        (plan, place): (&Plan<'_>, &Arc<FillPlace>),
        previous: &mut Option<Entry>,
        deadline: Instant,
        taken: &mut FillReport,
    ) -> Result<Filled, EdgeError> {
        let (started, asked) = (Instant::now(), UnixMillis::now());
        let inputs = timeout_at(deadline.into(), self.inputs((plan, place), previous, deadline)).await;
        taken.fetch = Some(started.elapsed());
        let Inputs { fetched, overlay } = match inputs.map_err(|_| EdgeError::Deadline)?? {
            Gathered::Rendition(rendition) => {
                taken.second_level = true;
                return Ok(Filled::Store(rendition));
            }
            Gathered::Inputs(inputs) => inputs,
        };
        taken.failure = fetched.failure().cloned();
        let original = match (fetched, previous.as_ref()) {
            (Fetched::Original(original), _) => original,
            (Fetched::NotModified(unchanged), Some(previous)) => {
                taken.not_modified = unchanged.failure.is_none();
                return kept::renewed(plan, previous, unchanged, overlay.as_ref());
            }
            (Fetched::NotModified(_), None) => return Err(internal("not modified without a condition")),
        };
        if original.bytes.is_empty() {
            return Err(EdgeError::Empty);
        }
        let source = NamedSource { mark: plan.decision.source(), bytes: original.bytes };
        let effort = kept::effort(plan, &original.provenance);
        let job = self.job((plan, effort), source, overlay.as_ref(), deadline);
        let rendered = self.render(plan, job, deadline).await?;
        drop(original.room);
        trace(&rendered);
        taken.queue = Some(rendered.queued);
        taken.transform = Some(rendered.ran);
        let asked = [Some(asked), original.provenance.asked, overlay.as_ref().map(|overlay| overlay.asked)];
        let filled = kept::picture(plan, rendered.value?, original.provenance, overlay.as_ref())?;
        if let (Some(second_level), Filled::Store(rendition)) = (self.second_level(plan), &filled) {
            let asked = asked.into_iter().flatten().min().unwrap_or_default();
            second_level.keep(plan.wanted.key(plan.class), rendition.clone(), asked);
        }
        Ok(filled)
    }

    /// What the rendition is to be made of, unless the second level has it. What it has but is too old becomes `previous`.
    async fn inputs(
        &self,
        (plan, place): (&Plan<'_>, &Arc<FillPlace>),
        previous: &mut Option<Entry>,
        deadline: Instant,
    ) -> Result<Gathered, EdgeError> {
        let overlay = self.registered(plan, plan.wanted.overlay.as_ref()).await?;
        if let (Some(second_level), None) = (self.second_level(plan), &*previous)
            && let Some(found) = read(second_level, plan).await
            && kept::has_overlay(&found, overlay.as_ref())
        {
            match found.lifetime.freshness(UnixMillis::now()) {
                Freshness::Expired => *previous = Some(found.into()),
                Freshness::Fresh | Freshness::Held | Freshness::Stale => return Ok(Gathered::Rendition(found)),
            }
        }
        if previous.is_none() {
            // There will be something to make, so the original is left alone.
            quotas::may_make(&plan.decision.tenant)?;
        }
        let same = previous.as_ref().filter(|entry| kept::has_overlay(entry, overlay.as_ref()));
        let fetched = self.sources.get(plan, place, same, deadline).await?;
        Ok(Gathered::Inputs(Inputs { fetched, overlay }))
    }

    /// The second level, where this tenant's renditions go to one.
    pub fn second_level(&self, plan: &Plan<'_>) -> Option<&Arc<SecondLevel>> {
        self.second_level.as_ref().filter(|_| plan.decision.tenant.second_level)
    }

    /// What is answered instead of a rendition that cannot be made: the fallback if the URL names one and it is the
    /// original that fails, else the failure itself.
    async fn instead(&self, plan: &Plan<'_>, error: EdgeError, deadline: Instant) -> Result<Filled, EdgeError> {
        if plan.wanted.fallback.is_some() && error.is_of_source() {
            match self.fall_back(plan, deadline).await {
                Ok((rendered, images)) => return kept::fallback(plan, rendered, &images, &error),
                Err(second) => {
                    tracing::warn!(tenant = %plan.decision.tenant.slug, cause = second.cause(), error = %second, "fallback failed");
                }
            }
        }
        if error.is_lasting() { kept::negative(plan, &error) } else { Err(error) }
    }

    /// A rendition of the fallback, and the images that it was made with.
    async fn fall_back(
        &self,
        plan: &Plan<'_>,
        deadline: Instant,
    ) -> Result<(Rendered, Vec<RegisteredBytes>), EdgeError> {
        let images = timeout_at(deadline.into(), async {
            let fallback = self.registered(plan, plan.wanted.fallback.as_ref()).await?;
            Ok::<_, EdgeError>((fallback, self.registered(plan, plan.wanted.overlay.as_ref()).await?))
        });
        let (fallback, overlay) = images.await.map_err(|_| EdgeError::Deadline)??;
        let mark = plan.wanted.fallback.as_ref().map_or(0, |fallback| fallback.source);
        let source = NamedSource { mark, bytes: fallback.as_ref().ok_or(EdgeError::Internal)?.bytes.clone() };
        let job = self.job((plan, Effort::Normal), source, overlay.as_ref(), deadline);
        let rendered = self.render(plan, job, deadline).await?.value?;
        Ok((rendered, fallback.into_iter().chain(overlay).collect()))
    }

    /// A registered image, if one is wanted.
    ///
    /// # Errors
    /// When its origin fails and it is not held.
    pub async fn registered(
        &self,
        plan: &Plan<'_>,
        wanted: Option<&Registered>,
    ) -> Result<Option<RegisteredBytes>, EdgeError> {
        match wanted {
            Some(image) => self.images.get(image, plan.decision.tenant.freshness.max_age).await.map(Some),
            None => Ok(None),
        }
    }

    async fn render(
        &self,
        plan: &Plan<'_>,
        job: RenderJob,
        deadline: Instant,
    ) -> Result<Finished<Result<Rendered, imaging::ImagingError>>, EdgeError> {
        quotas::may_make(&plan.decision.tenant)?;
        let finished = self.pool.run(&plan.decision.tenant.id, deadline, job).await?;
        if let Some(account) = &plan.decision.active.account {
            account.worked(finished.ran);
            if finished.value.is_ok() {
                account.made();
            }
        }
        Ok(finished)
    }

    /// The work of making the rendition of `plan`.
    pub fn job(
        &self,
        (plan, effort): (&Plan<'_>, Effort),
        source: NamedSource,
        overlay: Option<&RegisteredBytes>,
        deadline: Instant,
    ) -> RenderJob {
        RenderJob {
            engine: self.engine.clone(),
            source,
            overlay: overlay.map(|overlay| overlay.bytes.clone()),
            transform: plan.wanted.transform.clone(),
            class: plan.class,
            effort,
            limits: Limits { deadline: Some(deadline), ..self.limits.clone() },
            sharing: self.sharing.clone(),
            share: None,
        }
    }
}

async fn read(second_level: &SecondLevel, plan: &Plan<'_>) -> Option<Rendition> {
    let span = traces::child("second-level", Kind::Internal);
    span.over(second_level.find(plan.wanted.key(plan.class))).await
}

/// What a job has taken, as spans: a thread of the pool has none.
fn trace<T>(finished: &Finished<T>) {
    let span = Span::current();
    if span.is_recording() {
        let ended = SystemTime::now();
        let began = ended.checked_sub(finished.ran).unwrap_or(ended);
        span.past_child("queue", began.checked_sub(finished.queued).unwrap_or(began), began);
        span.past_child("transform", began, ended);
    }
}

/// What cannot happen unless a part breaks its contract.
pub fn internal(error: impl std::fmt::Display) -> EdgeError {
    tracing::error!(%error, "a fill failed inside");
    EdgeError::Internal
}
