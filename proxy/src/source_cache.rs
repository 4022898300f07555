//! Originals for renditions: from the cache of originals, or from their source.
//!
//! Eight widths of a picture cost one fetch: those in flight together share it, those that come later find the original
//! in a cache of its own, mostly on disk. It is used for as long as the policy would use a rendition of it, and what is
//! made of it is no fresher than it is. Folders are not cached: the disk is there already.
//!
//! Must not make pixels. Must not be asked for what is streamed to clients: originals of any size pass by it.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache::{
    BODY_BYTES_MAX, CacheKey, Entry, Filled, FlightError, Lifetime, Lookup, NOT_HELD_BEFORE, Rendition, RenditionCache,
    RenditionParts, Renewal, SourceValidators, UnixMillis,
};
use fetch::Freshness;
use lru::LruCache;
use parking_lot::Mutex;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use traces::{Kind, Span};

use crate::decision::Decision;
use crate::fill::{Plan, internal};
use crate::kept;
use crate::marks::tenant_mark;
use crate::problem::EdgeError;
use crate::shares::{FillPlace, SourceRoom};
use crate::source::{Ask, NotModified, SourceError, SourceMeta};
use crate::spans::Spans;

/// Originals whose last check is remembered. One that is forgotten is checked again, nothing worse.
const CHECKED_MAX: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

/// What a cached original has for a content type, which nobody asks for: whether its source lets it be kept.
const MAY_STORE: &str = "";
const NO_STORE: &str = "no-store";

/// What is known of an original beside its bytes: all that a rendition of it has to take over.
#[derive(Debug, Clone)]
pub struct Provenance {
    /// What to ask its source with.
    pub validators: SourceValidators,
    /// How long it is used.
    pub lifetime: Lifetime,
    /// False when its source forbids to keep anything of it.
    pub may_store: bool,
    /// The number of the newest ban when it was asked for; [`NOT_HELD_BEFORE`] if this fill did.
    pub begun: u64,
    /// When it was asked for or earlier, if it was not by this fill.
    pub asked: Option<UnixMillis>,
    /// The marks of its tags; `None` = those that were told before.
    pub tags: Option<Vec<u64>>,
    /// Why it is older than it should be: its source failed.
    pub failure: Option<EdgeError>,
}

/// An original in memory, with the room that it takes.
pub struct Original {
    /// The bytes.
    pub bytes: Bytes,
    /// What is known of it.
    pub provenance: Provenance,
    /// Given back when this is dropped.
    pub room: SourceRoom,
}

/// What asking for an original gave.
pub enum Fetched {
    /// The original.
    Original(Original),
    /// It is the one that a rendition was made of before.
    NotModified(Provenance),
}

impl Fetched {
    /// Why it is older than it should be.
    pub fn failure(&self) -> Option<&EdgeError> {
        let (Self::Original(Original { provenance, .. }) | Self::NotModified(provenance)) = self;
        provenance.failure.as_ref()
    }
}

/// What asking about a cached original gave last.
#[derive(Debug, Clone)]
struct Checked {
    lifetime: Lifetime,
    /// Its source failed; the original is used on.
    failure: Option<EdgeError>,
}

/// Reads originals.
pub struct SourceCache {
    kept: Option<RenditionCache<EdgeError>>,
    /// The lifetimes of originals that were checked and did not change: writing five megabytes again for a new time would
    /// wear out the disk.
    checked: Mutex<LruCache<CacheKey, Checked>>,
    bytes_max: u64,
    deadline: Duration,
    metrics: SourceMetrics,
}

impl SourceCache {
    /// Originals of up to `bytes_max`. Without `kept` each is read from its source; so are they where they may be larger
    /// than a cache takes.
    ///
    /// # Errors
    /// When the metrics are registered already.
    pub fn new(
        kept: Option<RenditionCache<EdgeError>>,
        bytes_max: u64,
        deadline: Duration,
        registry: &Registry,
    ) -> prometheus::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            kept: kept.filter(|_| bytes_max <= BODY_BYTES_MAX as u64),
            checked: Mutex::new(LruCache::new(CHECKED_MAX)),
            bytes_max,
            deadline,
            metrics: SourceMetrics::register(registry)?,
        }))
    }

    /// The original of `plan`, unless it is the one that `previous` was made of. Its memory is that of `place`.
    ///
    /// # Errors
    /// Those of the source.
    pub async fn get(
        self: &Arc<Self>,
        plan: &Plan<'_>,
        place: &Arc<FillPlace>,
        previous: Option<&Entry>,
        deadline: Instant,
    ) -> Result<Fetched, EdgeError> {
        // Only a picture is worth keeping; a cached problem is tried anew.
        let previous = previous.filter(|entry| entry.status == 200);
        match &self.kept {
            Some(kept) if plan.decision.store()?.is_remote() => {
                self.through(kept, (plan, place), previous, deadline).await
            }
            _ => self.directly((plan, place), previous, deadline).await,
        }
    }

    async fn directly(
        &self,
        (plan, place): (&Plan<'_>, &Arc<FillPlace>),
        previous: Option<&Entry>,
        deadline: Instant,
    ) -> Result<Fetched, EdgeError> {
        let decision = plan.decision;
        let if_changed = previous.and_then(|entry| kept::storage_validators(entry));
        match self.read((decision, place), if_changed, deadline).await {
            Ok((bytes, meta, room)) => {
                self.metrics.source.inc();
                let provenance = provenance(decision, &meta);
                Ok(Fetched::Original(Original { bytes, provenance, room }))
            }
            Err(error) => {
                let (unchanged, previous) = not_modified(&error).zip(previous).ok_or(error)?;
                self.metrics.revalidated.inc();
                Ok(Fetched::NotModified(Provenance {
                    validators: previous.validators.clone(),
                    lifetime: lifetime(decision, unchanged.freshness),
                    may_store: unchanged.freshness.may_store,
                    begun: NOT_HELD_BEFORE,
                    asked: None,
                    tags: unchanged.tags.map(|tags| decision.tags(Some(&tags))),
                    failure: None,
                }))
            }
        }
    }

    /// By way of the cache of originals.
    async fn through(
        self: &Arc<Self>,
        kept: &RenditionCache<EdgeError>,
        (plan, place): (&Plan<'_>, &Arc<FillPlace>),
        previous: Option<&Entry>,
        deadline: Instant,
    ) -> Result<Fetched, EdgeError> {
        let (key, now) = (plan.wanted.original, UnixMillis::now());
        let found = match kept.lookup(key, now).await {
            Lookup::Fresh(entry, _) | Lookup::Held(entry, _) | Lookup::Stale(entry, _) => Some(entry),
            Lookup::Miss { expired } => expired,
        };
        let entry = match found.map(|entry| self.as_checked(key, entry)) {
            Some(entry) if is_usable(&entry, now) => {
                self.metrics.cache.inc();
                entry
            }
            outdated => self.ask(kept, (plan.decision, place), (key, outdated), deadline).await?,
        };
        let provenance = Provenance {
            validators: entry.validators.clone(),
            lifetime: entry.lifetime,
            may_store: &*entry.content_type != NO_STORE,
            begun: entry.begun,
            // The entry tells when it had come, which took no longer than this.
            asked: Some(UnixMillis(entry.lifetime.created().0.saturating_sub(self.deadline.as_millis() as u64))),
            tags: Some(entry.tags.to_vec()),
            failure: entry.lifetime.retry_at().and_then(|_| self.checked.lock().peek(&key)?.failure.clone()),
        };
        if previous.is_some_and(|previous| is_same(&previous.validators, &entry.validators)) {
            return Ok(Fetched::NotModified(provenance));
        }
        let room = place.room(entry.body.len() as u64).await.ok_or(EdgeError::Busy)?;
        Ok(Fetched::Original(Original { bytes: entry.body.clone(), provenance, room }))
    }

    /// Asks the source, once for all who want the original now.
    async fn ask(
        self: &Arc<Self>,
        kept: &RenditionCache<EdgeError>,
        (decision, place): (&Arc<Decision>, &Arc<FillPlace>),
        (key, outdated): (CacheKey, Option<Entry>),
        deadline: Instant,
    ) -> Result<Entry, EdgeError> {
        let (this, decision, bans) = (Arc::clone(self), Arc::clone(decision), Arc::clone(kept.bans()));
        let place = place.for_others();
        let subject = decision.subject_of_original();
        let span = Span::current();
        let flight = kept.flight(key, &subject, UnixMillis::now(), move || {
            span.over(async move {
                let begun = bans.latest();
                this.fill((&decision, &place), key, outdated, begun).await
            })
        });
        let left = deadline.saturating_duration_since(Instant::now());
        flight.wait(left).await.map_err(|error| match error {
            FlightError::Failed(error) => error,
            FlightError::TimedOut => EdgeError::Deadline,
            FlightError::TooMany | FlightError::Aborted => EdgeError::Busy,
            FlightError::Panicked => EdgeError::Internal,
        })
    }

    /// The original from its source; or as it was, if it did not change or if its source fails.
    async fn fill(
        &self,
        (decision, place): (&Decision, &FillPlace),
        key: CacheKey,
        outdated: Option<Entry>,
        begun: u64,
    ) -> Result<Filled, EdgeError> {
        let if_changed = outdated.as_ref().and_then(|entry| kept::storage_validators(entry));
        let error = match self.read((decision, place), if_changed, Instant::now() + self.deadline).await {
            Ok((bytes, meta, _room)) => {
                self.metrics.source.inc();
                self.checked.lock().pop(&key);
                return original(decision, bytes, &meta);
            }
            Err(error) => error,
        };
        let Some(outdated) = outdated else { return Err(error) };
        if let Some(unchanged) = not_modified(&error) {
            self.metrics.revalidated.inc();
            return self.renewed(decision, key, &outdated, (unchanged, begun));
        }
        let held = outdated.held(UnixMillis::now(), kept::RETRY_AFTER).filter(|_| error.is_passing());
        let held = held.ok_or_else(|| error.clone())?;
        tracing::warn!(tenant = %decision.tenant.slug, path = decision.path.as_str(), cause = error.cause(), %error, "an original is used on");
        self.metrics.held.inc();
        self.checked.lock().put(key, Checked { lifetime: held.lifetime, failure: Some(error) });
        Ok(Filled::Pass(held))
    }

    fn renewed(
        &self,
        decision: &Decision,
        key: CacheKey,
        outdated: &Entry,
        (unchanged, begun): (NotModified, u64),
    ) -> Result<Filled, EdgeError> {
        let tags = unchanged.tags.as_ref().map(|tags| decision.tags(Some(tags)).into());
        let has_new_tags = tags.as_ref().is_some_and(|tags| *tags != outdated.tags);
        let renewal = Renewal {
            lifetime: lifetime(decision, unchanged.freshness),
            seq: decision.sequence,
            begun,
            validators: outdated.validators.clone(),
            tags: tags.unwrap_or_else(|| outdated.tags.clone()),
        };
        let lifetime = renewal.lifetime;
        let renewed = outdated.renewed(renewal).map_err(internal)?;
        if has_new_tags {
            // Purges must find it by them, after a restart too.
            return Ok(Filled::Store(renewed));
        }
        self.checked.lock().put(key, Checked { lifetime, failure: None });
        Ok(Filled::Pass(renewed))
    }

    /// The entry with the lifetime that its last check gave it.
    fn as_checked(&self, key: CacheKey, entry: Entry) -> Entry {
        let checked = self.checked.lock().get(&key).map(|checked| checked.lifetime);
        match checked.filter(|checked| checked.created() >= entry.lifetime.created()) {
            Some(lifetime) => entry.with_lifetime(lifetime).into(),
            None => entry,
        }
    }

    /// All of it, from its source.
    async fn read(
        &self,
        (decision, place): (&Decision, &FillPlace),
        if_changed: Option<storage::Validators>,
        deadline: Instant,
    ) -> Result<(Bytes, SourceMeta, SourceRoom), EdgeError> {
        let span = traces::child("fetch", Kind::Internal);
        span.over(self.read_untraced((decision, place), if_changed, deadline)).await
    }

    async fn read_untraced(
        &self,
        (decision, place): (&Decision, &FillPlace),
        if_changed: Option<storage::Validators>,
        deadline: Instant,
    ) -> Result<(Bytes, SourceMeta, SourceRoom), EdgeError> {
        let limit = self.bytes_max;
        let ask = Ask { if_changed, deadline: Some(deadline), ..Ask::new(limit) };
        let object = decision.store()?.get(&decision.path, &ask).await?;
        // A body of unknown size may become as large as any.
        let size = object.meta.size.unwrap_or(limit);
        if size > limit {
            return Err(SourceError::too_large(limit).into());
        }
        let mut room = place.room(size).await.ok_or(EdgeError::Busy)?;
        let bytes = object.body.collect(limit).await?;
        room.shrink(bytes.len() as u64);
        Ok((bytes, object.meta, room))
    }
}

/// Without asking its source.
fn is_usable(entry: &Entry, now: UnixMillis) -> bool {
    use cache::Freshness::{Fresh, Held};
    matches!(entry.lifetime.freshness(now), Fresh | Held)
}

/// Whether both describe the same version of an original. Who says nothing is never the same.
pub fn is_same(one: &SourceValidators, other: &SourceValidators) -> bool {
    match (&one.etag, &other.etag) {
        (Some(one), Some(other)) => opaque(one) == opaque(other),
        (None, None) => one.last_modified.is_some() && one.last_modified == other.last_modified,
        _ => false,
    }
}

/// An entity tag without the mark of a weak one.
fn opaque(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag)
}

fn not_modified(error: &EdgeError) -> Option<NotModified> {
    match error {
        EdgeError::Source(error) => error.not_modified(),
        _ => None,
    }
}

fn lifetime(decision: &Decision, said: Freshness) -> Lifetime {
    Spans::shortened(&decision.tenant.freshness, said).starting_now()
}

fn provenance(decision: &Decision, meta: &SourceMeta) -> Provenance {
    Provenance {
        validators: kept::source_validators(meta),
        lifetime: lifetime(decision, meta.freshness),
        may_store: meta.freshness.may_store,
        begun: NOT_HELD_BEFORE,
        asked: None,
        tags: Some(decision.tags(meta.tags.as_ref())),
        failure: None,
    }
}

/// An original as it is cached.
fn original(decision: &Decision, body: Bytes, meta: &SourceMeta) -> Result<Filled, EdgeError> {
    let provenance = provenance(decision, meta);
    let parts = RenditionParts {
        status: 200,
        content_type: if provenance.may_store { MAY_STORE } else { NO_STORE }.into(),
        body,
        is_draft: false,
        vary_accept: false,
        validators: provenance.validators,
        lifetime: provenance.lifetime,
        seq: decision.sequence,
        begun: NOT_HELD_BEFORE,
        tenant: tenant_mark(&decision.tenant.id),
        source: decision.source(),
        tags: provenance.tags.unwrap_or_default().into(),
    };
    let original = Rendition::untagged(parts).map_err(internal)?;
    Ok(if provenance.may_store { Filled::Store(original) } else { Filled::Pass(original) })
}

struct SourceMetrics {
    cache: IntCounter,
    source: IntCounter,
    revalidated: IntCounter,
    held: IntCounter,
}

impl SourceMetrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let opts = Opts::new("calotype_originals_total", "Originals for renditions, by where they came from.");
        let all = IntCounterVec::new(opts, &["from"])?;
        registry.register(Box::new(all.clone()))?;
        let [cache, source, revalidated, held] =
            ["cache", "source", "revalidated", "held"].map(|from| all.with_label_values(&[from]));
        Ok(Self { cache, source, revalidated, held })
    }
}
