//! One fill: fetch the original, make the rendition, give it a lifetime.
//!
//! The fetch holds no libvips thread. Must not know who waits: a client that leaves changes nothing here.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache::{Entry, Filled, Lifetime, Rendition, RenditionParts, SOURCE_ETAG_BYTES_MAX, SourceValidators, UnixMillis};
use imaging::{Class, EncoderDefaults, Engine, Limits, Rendered};
use storage::{GetOptions, ObjectMeta, StorageError, Validators};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout_at;

use crate::decision::{Decision, WantedRendition};
use crate::pool::{Finished, TransformPool};
use crate::problem::{self, EdgeError, NEGATIVE_TTL};

/// Unit of the memory budget: a semaphore's permits are 32 bits wide.
const KIB: u64 = 1024;

/// How long a versioned rendition is fresh: its URL changes when it does.
const VERSIONED_TTL: Duration = Duration::from_secs(31_536_000);

/// One rendition to make.
pub struct Plan<'a> {
    /// Whose, of what, under which policy.
    pub decision: &'a Decision,
    /// The rendition's part of the decision.
    pub wanted: &'a WantedRendition,
    /// The client's class, where it matters.
    pub class: Class,
}

/// Makes renditions.
pub struct Filler {
    engine: Engine,
    pool: TransformPool,
    limits: Limits,
    deadline: Duration,
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
    /// The failure that was cached, if it was one.
    pub failure: Option<EdgeError>,
}

/// An original in memory, with the room that it takes.
struct Original<'a> {
    bytes: Bytes,
    meta: ObjectMeta,
    room: SemaphorePermit<'a>,
}

/// What the source gave.
enum Fetched<'a> {
    Original(Original<'a>),
    NotModified,
}

impl Filler {
    /// A filler with these limits; `source_memory_bytes` is at least the largest original.
    pub fn new(
        engine: Engine,
        pool: TransformPool,
        limits: Limits,
        deadline: Duration,
        source_memory_bytes: u64,
    ) -> Self {
        let room = usize::try_from(source_memory_bytes / KIB).unwrap_or(Semaphore::MAX_PERMITS);
        Self { engine, pool, limits, deadline, room: Semaphore::new(room.min(Semaphore::MAX_PERMITS)) }
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
        let outcome = self.make(plan, previous, &mut taken).await;
        let filled = match outcome {
            Err(error) if error.is_lasting() => {
                taken.failure = Some(error.clone());
                negative(plan, &error)
            }
            Err(error) if is_refresh => {
                // Nobody waits who could tell.
                tracing::warn!(tenant = %plan.decision.tenant.slug, path = plan.decision.path.as_str(), cause = error.cause(), %error, "refresh failed");
                Err(error)
            }
            outcome => outcome,
        };
        if let Some(report) = report {
            // One fill sets it once.
            let _ = report.set(taken);
        }
        filled
    }

    async fn make(
        &self,
        plan: &Plan<'_>,
        previous: Option<Entry>,
        taken: &mut FillReport,
    ) -> Result<Filled, EdgeError> {
        let deadline = Instant::now() + self.deadline;
        let lifetime = lifetime(plan);
        let started = Instant::now();
        let fetched = timeout_at(deadline.into(), self.fetch(plan, previous.as_ref())).await;
        taken.fetch = Some(started.elapsed());
        let original = match (fetched.map_err(|_| EdgeError::Deadline)??, previous) {
            (Fetched::Original(original), _) => original,
            (Fetched::NotModified, Some(previous)) => {
                taken.not_modified = true;
                let validators = previous.validators.clone();
                return previous
                    .renewed(lifetime, plan.decision.sequence, validators)
                    .map(Filled::Store)
                    .map_err(internal);
            }
            (Fetched::NotModified, None) => return Err(internal("not modified without a condition")),
        };
        if original.bytes.is_empty() {
            return Err(EdgeError::Empty);
        }
        let rendered = self.render(plan, original.bytes, deadline).await?;
        drop(original.room);
        taken.queue = Some(rendered.queued);
        taken.transform = Some(rendered.ran);
        let rendered = rendered.value?;
        store(plan, rendered.encoding.content_type(), rendered.body, 200, lifetime, &original.meta)
    }

    async fn fetch(&self, plan: &Plan<'_>, previous: Option<&Entry>) -> Result<Fetched<'_>, EdgeError> {
        // Only a picture is worth keeping; a cached problem is tried anew.
        let if_changed = previous.filter(|entry| entry.status == 200).and_then(|entry| storage_validators(entry));
        let options = GetOptions { range: None, if_changed };
        let object = match plan.decision.store()?.get(&plan.decision.path, options).await {
            Err(StorageError::NotModified) => return Ok(Fetched::NotModified),
            object => object?,
        };
        let limit = self.limits.source_bytes as u64;
        if object.meta.size > limit {
            return Err(StorageError::TooLarge { limit }.into());
        }
        let permits = u32::try_from(object.meta.size.div_ceil(KIB)).unwrap_or(u32::MAX);
        let room = self.room.acquire_many(permits).await.map_err(internal)?;
        let bytes = object.body.collect(limit).await?;
        Ok(Fetched::Original(Original { bytes, meta: object.meta, room }))
    }

    async fn render(
        &self,
        plan: &Plan<'_>,
        source: Bytes,
        deadline: Instant,
    ) -> Result<Finished<Result<Rendered, imaging::ImagingError>>, EdgeError> {
        let engine = self.engine.clone();
        let (transform, class) = (plan.wanted.transform.clone(), plan.class);
        let limits = Limits { deadline: Some(deadline), ..self.limits.clone() };
        let job =
            move || engine.render((&source).into(), &transform, Some(class), &EncoderDefaults::default(), &limits);
        Ok(self.pool.run(deadline, job).await?)
    }
}

fn lifetime(plan: &Plan<'_>) -> Lifetime {
    let freshness = plan.decision.tenant.freshness;
    let (fresh, stale) = if plan.wanted.transform.is_versioned() {
        (VERSIONED_TTL, Duration::ZERO)
    } else {
        (freshness.max_age, freshness.stale_while_revalidate)
    };
    Lifetime::new(UnixMillis::now(), fresh, stale)
}

fn negative(plan: &Plan<'_>, error: &EdgeError) -> Result<Filled, EdgeError> {
    let lifetime = Lifetime::new(UnixMillis::now(), NEGATIVE_TTL, Duration::ZERO);
    let (status, _) = error.status_and_code();
    let meta = ObjectMeta { size: 0, content_type: None, etag: None, last_modified: None };
    store(plan, problem::CONTENT_TYPE, error.body().into(), status.as_u16(), lifetime, &meta)
}

fn store(
    plan: &Plan<'_>,
    content_type: &str,
    body: Bytes,
    status: u16,
    lifetime: Lifetime,
    source: &ObjectMeta,
) -> Result<Filled, EdgeError> {
    let parts = RenditionParts {
        status,
        content_type: content_type.into(),
        body,
        vary_accept: plan.wanted.is_negotiated(),
        validators: SourceValidators {
            etag: source.etag.as_deref().filter(|etag| etag.len() <= SOURCE_ETAG_BYTES_MAX).map(Into::into),
            last_modified: source.last_modified.and_then(unix_millis),
        },
        lifetime,
        seq: plan.decision.sequence,
        tenant: short_hash(&[plan.decision.tenant.id.as_str()]),
        source: short_hash(&[
            plan.decision.tenant.id.as_str(),
            &plan.decision.origin.identity,
            plan.decision.path.as_str(),
        ]),
        tags: Box::default(),
    };
    Rendition::new(parts).map(Filled::Store).map_err(internal)
}

/// 64 bits that name a tenant or source inside an entry.
fn short_hash(parts: &[&str]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}

fn storage_validators(entry: &Rendition) -> Option<Validators> {
    let validators = &entry.validators;
    let last_modified = validators.last_modified.map(|millis| std::time::UNIX_EPOCH + Duration::from_millis(millis.0));
    let etag = validators.etag.as_deref().map(str::to_owned);
    (etag.is_some() || last_modified.is_some()).then_some(Validators { etag, last_modified })
}

fn unix_millis(time: std::time::SystemTime) -> Option<UnixMillis> {
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok().map(UnixMillis)
}

/// What cannot happen unless a part breaks its contract.
fn internal(error: impl std::fmt::Display) -> EdgeError {
    tracing::error!(%error, "a fill failed inside");
    EdgeError::Internal
}
