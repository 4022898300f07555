//! A finished rendition: what is answered, for how long, and what it was made from.
//!
//! Must not know how it is stored; `entry_format` does. Must not read the clock beyond [`UnixMillis::now`].

use std::ops::Deref;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::etag::ETag;

/// The longest content type kept, in bytes. Real ones stay under 100.
pub const CONTENT_TYPE_BYTES_MAX: usize = 255;
/// The longest entity tag of a source kept, in bytes.
pub const SOURCE_ETAG_BYTES_MAX: usize = 1024;
/// The most purge tags on one rendition.
pub const TAGS_MAX: usize = 64;
/// The largest body, in bytes. Far above any sane rendition; it bounds what a forged length on disk can make us allocate.
pub const BODY_BYTES_MAX: usize = 256 << 20;

/// The most that a clock may be set back before what was made until then counts as made in the future. Clocks that are kept
/// right are stepped by less, and a request may have read the clock just before the fill that it finds.
pub const CLOCK_STEP_MAX: Duration = Duration::from_secs(5);

/// For renditions all of whose inputs were fetched by the fill that made them.
pub const NOT_HELD_BEFORE: u64 = u64::MAX;

/// A point in time: milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// The system clock. A clock set before 1970 reads as 0.
    #[must_use]
    pub fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
    }

    /// This time plus a duration, stopping at the end of time instead of wrapping.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// How a rendition may be used at a given time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Answer with it.
    Fresh,
    /// Answer with it and ask nobody: its source failed a moment ago.
    Held,
    /// Answer with it while one refresh runs.
    Stale,
    /// Do not answer with it, unless the source fails and [`Lifetime::is_usable_on_error`]; its validators may save the
    /// transform.
    Expired,
}

/// When a rendition was made and until when it may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    created: UnixMillis,
    fresh_until: UnixMillis,
    stale_until: UnixMillis,
    error_until: UnixMillis,
    retry_at: Option<UnixMillis>,
}

impl Lifetime {
    /// Fresh for `fresh_for` after `created`, then stale for `stale_for`. Overlong durations mean "for ever".
    #[must_use]
    pub fn new(created: UnixMillis, fresh_for: Duration, stale_for: Duration) -> Self {
        let fresh_until = created.saturating_add(fresh_for);
        let stale_until = fresh_until.saturating_add(stale_for);
        Self { created, fresh_until, stale_until, error_until: fresh_until, retry_at: None }
    }

    /// Usable for `error_for` after it stopped being fresh, if its source fails (`stale-if-error` of RFC 5861).
    #[must_use]
    pub fn or_on_error(self, error_for: Duration) -> Self {
        Self { error_until: self.fresh_until.saturating_add(error_for), ..self }
    }

    /// After its source failed at `now`: used without asking for `pause`, then, as long as it is usable on errors, while
    /// the source is asked again. `None` when it is not usable any more.
    #[must_use]
    pub fn held(self, now: UnixMillis, pause: Duration) -> Option<Self> {
        let retry_at = now.saturating_add(pause).min(self.error_until);
        self.is_usable_on_error(now).then_some(Self { retry_at: Some(retry_at), ..self })
    }

    /// `None` unless the times are in order; for what is read from disk.
    pub(crate) fn from_times([created, fresh_until, stale_until, error_until]: [UnixMillis; 4]) -> Option<Self> {
        let in_order = created <= fresh_until && fresh_until <= stale_until.min(error_until);
        in_order.then_some(Self { created, fresh_until, stale_until, error_until, retry_at: None })
    }

    /// When the rendition was made or last revalidated; `Age` counts from here.
    #[must_use]
    pub fn created(&self) -> UnixMillis {
        self.created
    }

    /// The first moment at which it is no longer fresh.
    #[must_use]
    pub fn fresh_until(&self) -> UnixMillis {
        self.fresh_until
    }

    /// The first moment at which it is no longer usable while its source is well.
    #[must_use]
    pub fn stale_until(&self) -> UnixMillis {
        self.stale_until
    }

    /// The first moment at which it is no longer usable even if its source fails.
    #[must_use]
    pub fn error_until(&self) -> UnixMillis {
        self.error_until
    }

    /// When its source is asked again, if the last time failed.
    #[must_use]
    pub fn retry_at(&self) -> Option<UnixMillis> {
        self.retry_at
    }

    /// Whether it may be answered with in place of an error of its source.
    #[must_use]
    pub fn is_usable_on_error(&self, now: UnixMillis) -> bool {
        now < self.error_until
    }

    /// All limits are exclusive: at `fresh_until` it is stale, at `stale_until` expired.
    ///
    /// What was made more than [`CLOCK_STEP_MAX`] after `now` is never fresh: a clock that was ahead would else keep it fresh
    /// for as long as it was. It is stale if it may ever be, and the refresh dates it anew.
    #[must_use]
    pub fn freshness(&self, now: UnixMillis) -> Freshness {
        let is_of_the_future = self.created.saturating_since(now) > CLOCK_STEP_MAX;
        if now < self.fresh_until && !is_of_the_future {
            return Freshness::Fresh;
        }
        // A source that failed before is not waited for.
        let (is_held, may_be_stale) = match self.retry_at {
            Some(retry_at) if now < self.error_until => (now < retry_at && !is_of_the_future, true),
            _ => (false, now < self.stale_until && self.fresh_until < self.stale_until),
        };
        match (is_held, may_be_stale) {
            (true, _) => Freshness::Held,
            (false, true) => Freshness::Stale,
            (false, false) => Freshness::Expired,
        }
    }
}

/// What the source said about the version of the original; sent back to it to ask whether it changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceValidators {
    /// The source's entity tag, as sent, quotes included; at most [`SOURCE_ETAG_BYTES_MAX`] bytes.
    pub etag: Option<Box<str>>,
    /// The source's modification time.
    pub last_modified: Option<UnixMillis>,
}

/// The parts of a [`Rendition`], before their limits are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenditionParts {
    /// HTTP status, 100 to 599. Failures worth remembering (404, 415, 422) are renditions with a short lifetime.
    pub status: u16,
    /// Content type; visible ASCII and spaces, at most [`CONTENT_TYPE_BYTES_MAX`] bytes.
    pub content_type: Box<str>,
    /// Body; at most [`BODY_BYTES_MAX`] bytes.
    pub body: Bytes,
    /// Whether it was made in haste, so that the same picture may be had in fewer bytes.
    pub is_draft: bool,
    /// Whether the answer depends on the request's `Accept`.
    pub vary_accept: bool,
    /// Validators of the original.
    pub validators: SourceValidators,
    /// Creation and expiry.
    pub lifetime: Lifetime,
    /// The smallest policy sequence in force when any input was fetched. A purge with a later sequence covers it.
    pub seq: u64,
    /// The number of the newest ban when the first of its inputs was asked for; a ban with a later number covers it. The
    /// cache lowers it to the start of the fill, so [`NOT_HELD_BEFORE`] stands for "everything was fetched by this fill".
    pub begun: u64,
    /// Whose it is, for purges.
    pub tenant: u64,
    /// Which original it was made from, for purges.
    pub source: u64,
    /// Purge tags, at most [`TAGS_MAX`].
    pub tags: Box<[u64]>,
}

/// What a [`Rendition`] takes over when its sources confirm that they did not change; see [`RenditionParts`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// Its new lifetime.
    pub lifetime: Lifetime,
    /// The policy sequence in force when the sources were asked.
    pub seq: u64,
    /// The number of the newest ban then.
    pub begun: u64,
    /// Validators of the original.
    pub validators: SourceValidators,
    /// Purge tags.
    pub tags: Box<[u64]>,
}

/// A finished rendition with its limits checked and its entity tag computed. Reads like its [`RenditionParts`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendition {
    parts: RenditionParts,
    etag: ETag,
}

impl Rendition {
    /// Checks the limits and hashes the body (about 1 ms per MB: not for the request path of a hit).
    ///
    /// # Errors
    /// Names the first part that breaks its limit.
    pub fn new(parts: RenditionParts) -> Result<Self, RenditionError> {
        check(&parts)?;
        let etag = ETag::of(&parts.body);
        Ok(Self { parts, etag })
    }

    /// The same without an entity tag, for what is kept but never answered with: hashing a large body costs much.
    ///
    /// # Errors
    /// Names the first part that breaks its limit.
    pub fn untagged(parts: RenditionParts) -> Result<Self, RenditionError> {
        Self::with_etag(parts, ETag::from_digest([0; 16]))
    }

    /// The same bytes with a new lifetime, after the sources of all inputs confirmed that they did not change.
    ///
    /// # Errors
    /// Names the first part of the renewal that breaks its limit.
    pub fn renewed(&self, renewal: Renewal) -> Result<Self, RenditionError> {
        let Renewal { lifetime, seq, begun, validators, tags } = renewal;
        let parts = RenditionParts { lifetime, seq, begun, validators, tags, ..self.parts.clone() };
        check(&parts)?;
        Ok(Self { parts, etag: self.etag })
    }

    /// The same picture in other bytes, as good as it gets, with all else as it is: it is no fresher.
    ///
    /// # Errors
    /// When they are too many.
    pub fn improved(&self, body: Bytes) -> Result<Self, RenditionError> {
        Self::new(RenditionParts { body, is_draft: false, ..self.parts.clone() })
    }

    /// The same bytes, found to be as few as it gets.
    #[must_use]
    pub fn settled(&self) -> Self {
        Self { parts: RenditionParts { is_draft: false, ..self.parts.clone() }, etag: self.etag }
    }

    /// The same bytes, used on because their source failed at `now`; see [`Lifetime::held`].
    #[must_use]
    pub fn held(&self, now: UnixMillis, pause: Duration) -> Option<Self> {
        self.lifetime.held(now, pause).map(|lifetime| self.with_lifetime(lifetime))
    }

    /// The same bytes with another lifetime.
    #[must_use]
    pub fn with_lifetime(&self, lifetime: Lifetime) -> Self {
        Self { parts: RenditionParts { lifetime, ..self.parts.clone() }, etag: self.etag }
    }

    /// The same, with its body where it can be sent from without being copied.
    pub(crate) fn sendable(mut self) -> Self {
        self.parts.body = memfile::keep(self.parts.body);
        self
    }

    /// Whether its body is where it goes without more ado: there, or where bodies of its size stay.
    pub(crate) fn is_sendable(&self) -> bool {
        memfile::is_kept(&self.parts.body)
    }

    /// The same, begun no later than `number`.
    pub(crate) fn begun_by(mut self, number: u64) -> Self {
        self.parts.begun = self.parts.begun.min(number);
        self
    }

    /// The same, begun at `number`.
    pub(crate) fn with_begun(mut self, number: u64) -> Self {
        self.parts.begun = number;
        self
    }

    /// For what this crate wrote itself: the tag is taken from disk, foyer's checksum vouches for the body.
    pub(crate) fn with_etag(parts: RenditionParts, etag: ETag) -> Result<Self, RenditionError> {
        check(&parts)?;
        Ok(Self { parts, etag })
    }

    /// The entity tag of the body.
    #[must_use]
    pub fn etag(&self) -> &ETag {
        &self.etag
    }
}

impl Deref for Rendition {
    type Target = RenditionParts;

    fn deref(&self) -> &RenditionParts {
        &self.parts
    }
}

fn check(parts: &RenditionParts) -> Result<(), RenditionError> {
    if !(100..=599).contains(&parts.status) {
        return Err(RenditionError::Status { status: parts.status });
    }
    let content_type = parts.content_type.as_bytes();
    if content_type.len() > CONTENT_TYPE_BYTES_MAX {
        return Err(RenditionError::ContentTypeTooLong { bytes: content_type.len() });
    }
    if !content_type.iter().all(|byte| (b' '..=b'~').contains(byte)) {
        return Err(RenditionError::ContentTypeCharacters);
    }
    if parts.body.len() > BODY_BYTES_MAX {
        return Err(RenditionError::BodyTooLarge { bytes: parts.body.len() });
    }
    let source_etag_bytes = parts.validators.etag.as_ref().map_or(0, |etag| etag.len());
    if source_etag_bytes > SOURCE_ETAG_BYTES_MAX {
        return Err(RenditionError::SourceEtagTooLong { bytes: source_etag_bytes });
    }
    if parts.tags.len() > TAGS_MAX {
        return Err(RenditionError::TooManyTags { tags: parts.tags.len() });
    }
    Ok(())
}

/// Why parts do not make a rendition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenditionError {
    /// Not an HTTP status.
    #[error("status {status} is not between 100 and 599")]
    Status {
        /// The status given.
        status: u16,
    },
    /// The content type is too long.
    #[error("content type of {bytes} bytes, at most {CONTENT_TYPE_BYTES_MAX} are kept")]
    ContentTypeTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The content type could not stand in a header.
    #[error("content type holds characters that a header may not")]
    ContentTypeCharacters,
    /// The body is too large.
    #[error("body of {bytes} bytes, at most {BODY_BYTES_MAX} are kept")]
    BodyTooLarge {
        /// Its length.
        bytes: usize,
    },
    /// The source's entity tag is too long.
    #[error("source entity tag of {bytes} bytes, at most {SOURCE_ETAG_BYTES_MAX} are kept")]
    SourceEtagTooLong {
        /// Its length.
        bytes: usize,
    },
    /// Too many tags.
    #[error("{tags} tags, at most {TAGS_MAX} are kept")]
    TooManyTags {
        /// How many.
        tags: usize,
    },
}
