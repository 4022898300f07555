//! From what a fill made to what is kept of it: lifetime, validators, and the marks that a purge goes by.
//!
//! Must not fetch or make anything.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cache::{
    ANY_TAG, Entry, Filled, Lifetime, NOT_HELD_BEFORE, Rendition, RenditionParts, Renewal, SOURCE_ETAG_BYTES_MAX,
    SourceValidators, Subject, TAGS_MAX, UnixMillis,
};
use imaging::{Effort, Rendered};
use storage::Validators;

use crate::fill::{Plan, internal};
use crate::problem::{self, EdgeError};
use crate::registered::RegisteredBytes;
use crate::source::SourceMeta;
use crate::source_cache::Provenance;
use crate::spans::Spans;

/// How long a source that failed is left alone, as long as there is something else to answer with.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);

/// How long a rendition must be fresh to be made in haste first.
const IMPROVED_IF_FRESH: Duration = Duration::from_secs(5);

/// A rendition of an original, made with `overlay`.
///
/// # Errors
/// [`EdgeError::Internal`] if it breaks a limit of the cache.
pub fn picture(
    plan: &Plan<'_>,
    rendered: Rendered,
    original: Provenance,
    overlay: Option<&RegisteredBytes>,
) -> Result<Filled, EdgeError> {
    let lifetime = lifetime(plan, &original);
    let is_draft = rendered.effort == Effort::Fast;
    let made = Made { content_type: rendered.content_type(), body: rendered.body, is_draft, status: 200, lifetime };
    let Provenance { validators, may_store, begun, tags, .. } = original;
    let rendition = rendition(plan, made, validators, &Marked::new(begun, tags.unwrap_or_default(), overlay))?;
    Ok(as_allowed(rendition, may_store))
}

/// How long somebody may wait for a rendition of `original`. What is not kept, or not fresh for long enough to be asked for
/// again, is never made better, so it is made well at once.
pub fn effort(plan: &Plan<'_>, original: &Provenance) -> Effort {
    let lifetime = lifetime(plan, original);
    let is_lasting = lifetime.fresh_until().saturating_since(UnixMillis::now()) >= IMPROVED_IF_FRESH;
    let may_be_draft = original.may_store && lifetime.retry_at().is_none() && is_lasting;
    if plan.decision.tenant.improve_when_idle && may_be_draft { Effort::Fast } else { Effort::Normal }
}

/// What the cache had, as it is again, because neither the original nor `overlay` changed.
///
/// # Errors
/// [`EdgeError::Internal`] if it breaks a limit of the cache.
pub fn renewed(
    plan: &Plan<'_>,
    previous: &Entry,
    unchanged: Provenance,
    overlay: Option<&RegisteredBytes>,
) -> Result<Filled, EdgeError> {
    let (lifetime, is_silent) = (lifetime(plan, &unchanged), unchanged.tags.is_none());
    let marked = Marked::new(unchanged.begun, unchanged.tags.unwrap_or_default(), overlay);
    // What a server says of tags replaces what it said before; silence does not.
    let tags = if is_silent {
        previous.tags.clone()
    } else {
        let sources = plan.decision.subject().sources;
        tags(sources.get(1..).unwrap_or_default(), &marked)
    };
    let (seq, begun, validators) = (plan.decision.sequence, marked.begun(), unchanged.validators);
    let rendition = previous.renewed(Renewal { lifetime, seq, begun, validators, tags }).map_err(internal)?;
    Ok(as_allowed(rendition, unchanged.may_store))
}

/// Whether a picture that is old, but usable, is better than `error`: the next try may fare better, and none says that the
/// original was taken away.
pub fn is_better(old: &Entry, error: &EdgeError) -> bool {
    old.status == 200 && error.is_passing()
}

/// What the cache had, used on because its source failed with `error`; `None` if it is too old for that, was no picture,
/// or the error says that the original was taken away.
pub fn held(previous: Option<&Entry>, error: &EdgeError) -> Option<Filled> {
    let previous = previous.filter(|entry| is_better(entry, error))?;
    previous.held(UnixMillis::now(), RETRY_AFTER).map(Filled::Hold)
}

/// The answer that the original is not there or not usable: kept, but not for long.
///
/// # Errors
/// [`EdgeError::Internal`] if it breaks a limit of the cache.
pub fn negative(plan: &Plan<'_>, error: &EdgeError) -> Result<Filled, EdgeError> {
    let (status, _) = error.status_and_code();
    let lifetime = short(plan);
    let made = Made {
        content_type: problem::CONTENT_TYPE,
        body: error.body().into(),
        is_draft: false,
        status: status.as_u16(),
        lifetime,
    };
    let marked = Marked::new(NOT_HELD_BEFORE, plan.decision.tags(None), None);
    let rendition = rendition(plan, made, SourceValidators::default(), &marked)?;
    let is_kept = lifetime.created() < lifetime.fresh_until();
    Ok(if is_kept { Filled::Store(rendition) } else { Filled::Pass(rendition) })
}

/// A rendition of the fallback (the first of `images`) in place of an original that failed with `error`: kept as long as
/// that answer would be, and not at all if the next request may fare better.
///
/// # Errors
/// [`EdgeError::Internal`] if it breaks a limit of the cache.
pub fn fallback(
    plan: &Plan<'_>,
    rendered: Rendered,
    images: &[RegisteredBytes],
    error: &EdgeError,
) -> Result<Filled, EdgeError> {
    let lifetime = short(plan);
    let made =
        Made { content_type: rendered.content_type(), body: rendered.body, is_draft: false, status: 200, lifetime };
    let marked = Marked::new(NOT_HELD_BEFORE, plan.decision.tags(None), images);
    let rendition = rendition(plan, made, SourceValidators::default(), &marked)?;
    Ok(if error.is_lasting() { Filled::Store(rendition) } else { Filled::Pass(rendition) })
}

/// What to ask the source with, so that it can say that nothing changed.
pub fn storage_validators(entry: &Rendition) -> Option<Validators> {
    let validators = &entry.validators;
    let last_modified = validators.last_modified.map(|millis| UNIX_EPOCH + Duration::from_millis(millis.0));
    let etag = validators.etag.as_deref().map(str::to_owned);
    (etag.is_some() || last_modified.is_some()).then_some(Validators { etag, last_modified })
}

/// Whether `entry` was made with this very overlay, or without one as it should be.
pub fn has_overlay(entry: &Rendition, overlay: Option<&RegisteredBytes>) -> bool {
    overlay.is_none_or(|overlay| entry.tags.contains(&overlay.version))
}

struct Made {
    content_type: &'static str,
    body: Bytes,
    is_draft: bool,
    status: u16,
    lifetime: Lifetime,
}

/// What a rendition is purged by, beside what its URL says.
struct Marked<'a> {
    /// Since when the original has been held.
    begun: u64,
    /// The marks of the original's tags.
    tags: Vec<u64>,
    /// The registered images that it was made with.
    images: Vec<&'a RegisteredBytes>,
}

impl<'a> Marked<'a> {
    fn new(begun: u64, tags: Vec<u64>, images: impl IntoIterator<Item = &'a RegisteredBytes>) -> Self {
        Self { begun, tags, images: images.into_iter().collect() }
    }

    /// Since when what the rendition is made with has been held.
    fn begun(&self) -> u64 {
        self.images.iter().map(|image| image.begun).fold(self.begun, u64::min)
    }
}

/// As long as its original is used, and as the policy in force wants. A versioned URL names a picture that never changes,
/// whatever the source says of how long it does not.
fn lifetime(plan: &Plan<'_>, original: &Provenance) -> Lifetime {
    if plan.wanted.transform.is_versioned() && original.may_store && !ends(plan, original) {
        return Spans::VERSIONED.starting_now();
    }
    let spans = Spans::of_lifetime(original.lifetime).at_most(Spans::of_policy(&plan.decision.tenant.freshness));
    let (lifetime, now) = (spans.starting_at(original.lifetime.created()), UnixMillis::now());
    let held = original.lifetime.retry_at().and_then(|retry_at| lifetime.held(now, retry_at.saturating_since(now)));
    held.unwrap_or(lifetime)
}

/// Whether the original is an upload that is not served for ever: one that must not be used when it is old.
fn ends(plan: &Plan<'_>, original: &Provenance) -> bool {
    let lifetime = original.lifetime;
    plan.decision.origin.is_uploads() && !lifetime.is_usable_on_error(lifetime.fresh_until())
}

fn short(plan: &Plan<'_>) -> Lifetime {
    Spans::fresh(plan.decision.tenant.freshness.negative_max_age).starting_now()
}

/// Kept, unless the source forbids it.
fn as_allowed(rendition: Rendition, may_store: bool) -> Filled {
    match (may_store, rendition.lifetime.retry_at()) {
        (true, None) => Filled::Store(rendition),
        // Its original is held, and so is what is made of it.
        (true, Some(_)) => Filled::Hold(rendition),
        (false, _) => Filled::Pass(rendition),
    }
}

/// What is remembered of the version of an original.
pub fn source_validators(meta: &SourceMeta) -> SourceValidators {
    SourceValidators {
        etag: meta.etag.as_deref().filter(|etag| etag.len() <= SOURCE_ETAG_BYTES_MAX).map(Into::into),
        last_modified: meta.last_modified.and_then(unix_millis),
    }
}

fn rendition(
    plan: &Plan<'_>,
    made: Made,
    validators: SourceValidators,
    marked: &Marked<'_>,
) -> Result<Rendition, EdgeError> {
    let Subject { tenant, sources } = plan.decision.subject();
    // The first is the original's own; those of overlay and fallback are found among the tags.
    let (source, registered) = sources.split_first().ok_or_else(|| internal("a rendition of nothing"))?;
    let parts = RenditionParts {
        status: made.status,
        content_type: made.content_type.into(),
        body: made.body,
        is_draft: made.is_draft,
        vary_accept: plan.wanted.is_negotiated(),
        validators,
        lifetime: made.lifetime,
        seq: plan.decision.sequence,
        begun: marked.begun(),
        tenant,
        source: *source,
        tags: tags(registered, marked),
    };
    Rendition::new(parts).map_err(internal)
}

/// The sources and the content of overlay and fallback, of which there are a few, and then every tag. When there are more
/// than are kept, a purge by any tag has to count.
fn tags(registered: &[u64], marked: &Marked<'_>) -> Box<[u64]> {
    let versions = marked.images.iter().map(|image| image.version);
    let of_images = marked.images.iter().flat_map(|image| image.tags.iter().copied());
    let mut tags: Vec<u64> = registered.iter().copied().chain(versions).collect();
    tags.extend(marked.tags.iter().copied().chain(of_images));
    if tags.len() > TAGS_MAX {
        tags.truncate(TAGS_MAX - 1);
        tags.push(ANY_TAG);
    }
    tags.into()
}

fn unix_millis(time: SystemTime) -> Option<UnixMillis> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok().map(UnixMillis)
}
