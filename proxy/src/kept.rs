//! From what a fill made to what is kept of it: lifetime, validators, and the marks that a purge goes by.
//!
//! Must not fetch or make anything.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cache::{
    Filled, Lifetime, NOT_HELD_BEFORE, Rendition, RenditionParts, SOURCE_ETAG_BYTES_MAX, SourceValidators, Subject,
    UnixMillis,
};
use fetch::Freshness as Said;
use imaging::Rendered;
use storage::Validators;
use tenancy::Freshness;

use crate::fill::{Plan, internal};
use crate::problem::{self, EdgeError, NEGATIVE_TTL};
use crate::registered::RegisteredBytes;
use crate::source::SourceMeta;

/// How long a versioned rendition is fresh: its URL changes when it does.
const VERSIONED_TTL: Duration = Duration::from_secs(31_536_000);

/// What the policy lets be used, shortened by what the source says: a source may ask for less, never for more.
pub fn shortened(policy: Freshness, said: Said) -> Freshness {
    if !said.may_store {
        return Freshness { max_age: Duration::ZERO, stale_while_revalidate: Duration::ZERO };
    }
    Freshness {
        max_age: said.max_age.map_or(policy.max_age, |max_age| max_age.min(policy.max_age)),
        stale_while_revalidate: if said.may_serve_stale { policy.stale_while_revalidate } else { Duration::ZERO },
    }
}

/// How long what a plan makes of a source that says so much is used, from now on. A versioned URL names a picture that
/// never changes, whatever the source says of how long it does not.
pub fn lifetime(plan: &Plan<'_>, said: Said) -> Lifetime {
    let freshness = if plan.wanted.transform.is_versioned() && said.may_store {
        Freshness { max_age: VERSIONED_TTL, stale_while_revalidate: Duration::ZERO }
    } else {
        shortened(plan.decision.tenant.freshness, said)
    };
    Lifetime::new(UnixMillis::now(), freshness.max_age, freshness.stale_while_revalidate)
}

/// Kept, unless the source forbids it.
pub fn as_allowed(rendition: Rendition, said: Said) -> Filled {
    if said.may_store { Filled::Store(rendition) } else { Filled::Pass(rendition) }
}

/// A rendition of the original that `meta` describes, made with `overlay`.
///
/// # Errors
/// [`EdgeError::Internal`] if it breaks a limit of the cache.
pub fn picture(
    plan: &Plan<'_>,
    rendered: Rendered,
    meta: &SourceMeta,
    overlay: Option<&RegisteredBytes>,
) -> Result<Filled, EdgeError> {
    let lifetime = lifetime(plan, meta.freshness);
    let made = Made { content_type: rendered.content_type(), body: rendered.body, status: 200, lifetime };
    let rendition = rendition(plan, made, source_validators(meta), overlay)?;
    Ok(as_allowed(rendition, meta.freshness))
}

/// The answer that the original is not there or not usable: kept, but not for long.
///
/// # Errors
/// [`EdgeError::Internal`] if it breaks a limit of the cache.
pub fn negative(plan: &Plan<'_>, error: &EdgeError) -> Result<Filled, EdgeError> {
    let (status, _) = error.status_and_code();
    let made = Made {
        content_type: problem::CONTENT_TYPE,
        body: error.body().into(),
        status: status.as_u16(),
        lifetime: short(),
    };
    rendition(plan, made, SourceValidators::default(), None).map(Filled::Store)
}

/// A rendition of the fallback in place of an original that failed with `error`: kept as long as that answer would be,
/// and not at all if the next request may fare better.
///
/// # Errors
/// [`EdgeError::Internal`] if it breaks a limit of the cache.
pub fn fallback(plan: &Plan<'_>, rendered: Rendered, error: &EdgeError) -> Result<Filled, EdgeError> {
    let made = Made { content_type: rendered.content_type(), body: rendered.body, status: 200, lifetime: short() };
    let rendition = rendition(plan, made, SourceValidators::default(), None)?;
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

/// Since when what a rendition is made with has been held.
pub fn begun(overlay: Option<&RegisteredBytes>) -> u64 {
    overlay.map_or(NOT_HELD_BEFORE, |overlay| overlay.begun)
}

struct Made {
    content_type: &'static str,
    body: Bytes,
    status: u16,
    lifetime: Lifetime,
}

fn short() -> Lifetime {
    Lifetime::new(UnixMillis::now(), NEGATIVE_TTL, Duration::ZERO)
}

fn source_validators(meta: &SourceMeta) -> SourceValidators {
    SourceValidators {
        etag: meta.etag.as_deref().filter(|etag| etag.len() <= SOURCE_ETAG_BYTES_MAX).map(Into::into),
        last_modified: meta.last_modified.and_then(unix_millis),
    }
}

fn rendition(
    plan: &Plan<'_>,
    made: Made,
    validators: SourceValidators,
    overlay: Option<&RegisteredBytes>,
) -> Result<Rendition, EdgeError> {
    let Subject { tenant, sources } = plan.decision.subject();
    // The first is the original's own; those of overlay and fallback are found among the tags.
    let Some((source, registered)) = sources.split_first() else { return Err(internal("a rendition of nothing")) };
    let tags = registered.iter().copied().chain(overlay.map(|overlay| overlay.version));
    let parts = RenditionParts {
        status: made.status,
        content_type: made.content_type.into(),
        body: made.body,
        vary_accept: plan.wanted.is_negotiated(),
        validators,
        lifetime: made.lifetime,
        seq: plan.decision.sequence,
        begun: begun(overlay),
        tenant,
        source: *source,
        tags: tags.chain(plan.decision.tags()).collect(),
    };
    Rendition::new(parts).map_err(internal)
}

fn unix_millis(time: SystemTime) -> Option<UnixMillis> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok().map(UnixMillis)
}
