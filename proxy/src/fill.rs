//! One fill: fetch the original and what is laid over it, make the rendition, or what is shown instead.
//!
//! The fetch holds no libvips thread. Must not know who waits: a client that leaves changes nothing here.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache::{Entry, Filled};
use imaging::{Class, EncoderDefaults, Engine, Inputs, Limits, Rendered};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout_at;

use crate::decision::{Decision, WantedRendition};
use crate::kept;
use crate::pool::{Finished, TransformPool};
use crate::problem::EdgeError;
use crate::refreshes::Refreshes;
use crate::registered::{Registered, RegisteredBytes, RegisteredImages};
use crate::source::{Ask, SourceError, SourceMeta};

/// Unit of the memory budget: a semaphore's permits are 32 bits wide.
const KIB: u64 = 1024;

/// One rendition to make.
pub struct Plan<'a> {
    /// Whose, of what, under which policy.
    pub decision: &'a Decision,
    /// The rendition's part of the decision.
    pub wanted: &'a WantedRendition,
    /// The client's class, where it matters.
    pub class: Class,
}

/// What fills may take.
pub struct FillLimits {
    /// What a picture may be.
    pub picture: Limits,
    /// Time for one fill.
    pub deadline: Duration,
    /// Bytes of originals in memory at a time; at least the largest original.
    pub source_memory_bytes: u64,
}

/// Makes renditions.
pub struct Filler {
    engine: Engine,
    pool: TransformPool,
    limits: Limits,
    deadline: Duration,
    images: RegisteredImages,
    refreshes: Refreshes,
    /// KiB of originals that may be held in memory.
    room: Semaphore,
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
    /// The failure that was cached, or that a fallback was shown for.
    pub failure: Option<EdgeError>,
}

/// An original in memory, with the room that it takes.
struct Original<'a> {
    bytes: Bytes,
    meta: SourceMeta,
    room: SemaphorePermit<'a>,
}

/// What the source gave.
enum Fetched<'a> {
    Original(Original<'a>),
    NotModified(fetch::Freshness),
}

impl Filler {
    /// A filler with these limits.
    pub fn new(
        engine: Engine,
        pool: TransformPool,
        limits: FillLimits,
        images: RegisteredImages,
        refreshes: Refreshes,
    ) -> Self {
        let FillLimits { picture: limits, deadline, source_memory_bytes } = limits;
        let room = usize::try_from(source_memory_bytes / KIB).unwrap_or(Semaphore::MAX_PERMITS);
        let room = Semaphore::new(room.min(Semaphore::MAX_PERMITS));
        Self { engine, pool, limits, deadline, images, refreshes, room }
    }

    /// Time that a fill has.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Makes the rendition of `plan`. `previous` is what the cache had: if its source did not change, it is renewed
    /// without a transform. `report` is filled in before this returns.
    ///
    /// # Errors
    /// What may go better next time. What lasts is a rendition too, a short-lived one.
    pub async fn fill(
        &self,
        plan: &Plan<'_>,
        previous: Option<Entry>,
        report: Option<&OnceLock<FillReport>>,
    ) -> Result<Filled, EdgeError> {
        let mut taken = FillReport::default();
        let is_refresh = report.is_none();
        let deadline = Instant::now() + self.deadline;
        let filled = match self.make(plan, previous, deadline, &mut taken).await {
            // What the cache has is better than a fallback, as long as the original may come back.
            Err(error) if is_refresh && !error.is_lasting() => {
                // Nobody waits who could tell.
                tracing::warn!(tenant = %plan.decision.tenant.slug, path = plan.decision.path.as_str(), cause = error.cause(), %error, "refresh failed");
                Err(error)
            }
            Err(error) => {
                taken.failure = Some(error.clone());
                self.instead(plan, error, deadline).await
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
        plan: &Plan<'_>,
        previous: Option<Entry>,
        deadline: Instant,
        taken: &mut FillReport,
    ) -> Result<Filled, EdgeError> {
        let started = Instant::now();
        let inputs = timeout_at(deadline.into(), async {
            let overlay = self.registered(plan, plan.wanted.overlay.as_ref()).await?;
            let previous = previous.as_ref().filter(|entry| kept::has_overlay(entry, overlay.as_ref()));
            Ok::<_, EdgeError>((self.fetch(plan, previous, deadline).await?, overlay))
        });
        let inputs = inputs.await;
        taken.fetch = Some(started.elapsed());
        let (fetched, overlay) = inputs.map_err(|_| EdgeError::Deadline)??;
        let original = match (fetched, previous) {
            (Fetched::Original(original), _) => original,
            (Fetched::NotModified(freshness), Some(previous)) => {
                taken.not_modified = true;
                let validators = previous.validators.clone();
                return previous
                    .renewed(
                        kept::lifetime(plan, freshness),
                        (plan.decision.sequence, kept::begun(overlay.as_ref())),
                        validators,
                    )
                    .map(|rendition| kept::as_allowed(rendition, freshness))
                    .map_err(internal);
            }
            (Fetched::NotModified(_), None) => return Err(internal("not modified without a condition")),
        };
        if original.bytes.is_empty() {
            return Err(EdgeError::Empty);
        }
        let rendered = self.render(plan, original.bytes, overlay.as_ref(), deadline).await?;
        drop(original.room);
        taken.queue = Some(rendered.queued);
        taken.transform = Some(rendered.ran);
        kept::picture(plan, rendered.value?, &original.meta, overlay.as_ref())
    }

    /// What is answered instead of a rendition that cannot be made: the fallback if the URL names one and it is the
    /// original that fails, else the failure itself.
    async fn instead(&self, plan: &Plan<'_>, error: EdgeError, deadline: Instant) -> Result<Filled, EdgeError> {
        if plan.wanted.fallback.is_some() && error.is_of_source() {
            match self.fall_back(plan, deadline).await {
                Ok(rendered) => return kept::fallback(plan, rendered, &error),
                Err(second) => {
                    tracing::warn!(tenant = %plan.decision.tenant.slug, cause = second.cause(), error = %second, "fallback failed");
                }
            }
        }
        if error.is_lasting() { kept::negative(plan, &error) } else { Err(error) }
    }

    async fn fall_back(&self, plan: &Plan<'_>, deadline: Instant) -> Result<Rendered, EdgeError> {
        let images = timeout_at(deadline.into(), async {
            let fallback = self.registered(plan, plan.wanted.fallback.as_ref()).await?;
            Ok::<_, EdgeError>((fallback, self.registered(plan, plan.wanted.overlay.as_ref()).await?))
        });
        let (fallback, overlay) = images.await.map_err(|_| EdgeError::Deadline)??;
        let source = fallback.ok_or(EdgeError::Internal)?.bytes;
        Ok(self.render(plan, source, overlay.as_ref(), deadline).await?.value?)
    }

    async fn registered(
        &self,
        plan: &Plan<'_>,
        wanted: Option<&Registered>,
    ) -> Result<Option<RegisteredBytes>, EdgeError> {
        match wanted {
            Some(image) => self.images.get(image, plan.decision.tenant.freshness.max_age).await.map(Some),
            None => Ok(None),
        }
    }

    async fn fetch(
        &self,
        plan: &Plan<'_>,
        previous: Option<&Entry>,
        deadline: Instant,
    ) -> Result<Fetched<'_>, EdgeError> {
        // Only a picture is worth keeping; a cached problem is tried anew.
        let if_changed = previous.filter(|entry| entry.status == 200).and_then(|entry| kept::storage_validators(entry));
        let limit = self.limits.source_bytes as u64;
        let ask = Ask { if_changed, deadline: Some(deadline), ..Ask::new(limit) };
        let object = match plan.decision.store()?.get(&plan.decision.path, &ask).await {
            Ok(object) => object,
            Err(error) => return error.not_modified().map(Fetched::NotModified).ok_or_else(|| error.into()),
        };
        // A body of unknown size may become as large as any.
        let size = object.meta.size.unwrap_or(limit);
        if size > limit {
            return Err(SourceError::too_large(limit).into());
        }
        let permits = u32::try_from(size.div_ceil(KIB)).unwrap_or(u32::MAX);
        let mut room = self.room.acquire_many(permits).await.map_err(internal)?;
        let bytes = object.body.collect(limit).await?;
        let needed = bytes.len().div_ceil(KIB as usize);
        drop(room.split((permits as usize).saturating_sub(needed)));
        Ok(Fetched::Original(Original { bytes, meta: object.meta, room }))
    }

    async fn render(
        &self,
        plan: &Plan<'_>,
        source: Bytes,
        overlay: Option<&RegisteredBytes>,
        deadline: Instant,
    ) -> Result<Finished<Result<Rendered, imaging::ImagingError>>, EdgeError> {
        let engine = self.engine.clone();
        let (transform, class) = (plan.wanted.transform.clone(), plan.class);
        let overlay = overlay.map(|overlay| overlay.bytes.clone());
        let limits = Limits { deadline: Some(deadline), ..self.limits.clone() };
        let job = move || {
            let inputs = Inputs { source: &source, overlay: overlay.as_ref() };
            engine.render(inputs, &transform, Some(class), &EncoderDefaults::default(), &limits)
        };
        Ok(self.pool.run(deadline, job).await?)
    }
}

/// What cannot happen unless a part breaks its contract.
pub fn internal(error: impl std::fmt::Display) -> EdgeError {
    tracing::error!(%error, "a fill failed inside");
    EdgeError::Internal
}
