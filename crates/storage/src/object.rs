//! What goes into a store and what comes out: options, metadata, pages.
//!
//! Plain data; must not do IO.

use std::time::SystemTime;

use crate::{ByteRange, ObjectBody, ObjectPath, ServedRange};

/// How to read an object. The default reads all of it, always.
#[derive(Debug, Clone, Default)]
pub struct GetOptions {
    /// Only these bytes. A store that cannot serve ranges answers with the whole object: see [`Object::range`].
    pub range: Option<ByteRange>,
    /// Only if the object differs from what the caller has; else [`NotModified`](crate::StorageError::NotModified).
    pub if_changed: Option<Validators>,
}

/// An object, or a range of one, on its way out of a store.
#[derive(Debug)]
pub struct Object {
    /// What is known of the whole object.
    pub meta: ObjectMeta,
    /// The bytes that `body` holds; `None` = all of them.
    pub range: Option<ServedRange>,
    /// The bytes.
    pub body: ObjectBody,
}

/// What a store knows about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Size of the whole object in bytes, also when a range is served.
    pub size: u64,
    /// The media type it was stored with. A claim of whoever stored it; a folder has none.
    pub content_type: Option<String>,
    /// Entity tag as HTTP writes it, with quotes, and with `W/` if it is weak.
    pub etag: Option<String>,
    /// When it was last written. S3 counts in seconds, a folder finer.
    pub last_modified: Option<SystemTime>,
}

impl ObjectMeta {
    /// What to give to [`GetOptions::if_changed`] next time.
    #[must_use]
    pub fn validators(&self) -> Validators {
        Validators { etag: self.etag.clone(), last_modified: self.last_modified }
    }
}

/// What a caller remembers of an object that it holds a copy of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validators {
    /// Entity tag as it came out of [`ObjectMeta`].
    pub etag: Option<String>,
    /// Time of the last write. Used only if there is no entity tag.
    pub last_modified: Option<SystemTime>,
}

impl Validators {
    /// Whether `meta` is still the object that these validators came from: the weak comparison of RFC 9110 §8.8.3.2 on
    /// the entity tag, else the time in whole seconds (HTTP dates have no finer ones). No validators match nothing.
    #[must_use]
    pub fn matches(&self, meta: &ObjectMeta) -> bool {
        match (&self.etag, self.last_modified) {
            (Some(ours), _) => meta.etag.as_deref().is_some_and(|theirs| opaque(ours) == opaque(theirs)),
            (None, Some(ours)) => meta.last_modified.is_some_and(|theirs| unix_seconds(theirs) <= unix_seconds(ours)),
            (None, None) => false,
        }
    }
}

fn opaque(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag)
}

fn unix_seconds(time: SystemTime) -> i128 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => i128::from(after.as_secs()),
        Err(before) => -i128::from(before.duration().as_secs()) - i128::from(before.duration().subsec_nanos() > 0),
    }
}

/// What to keep beside the bytes of a new object. A folder keeps neither.
#[derive(Debug, Clone, Default)]
pub struct PutOptions {
    /// Media type.
    pub content_type: Option<String>,
    /// `Cache-Control` for those who read the object over HTTP (presigned or public URLs).
    pub cache_control: Option<String>,
}

/// What a store says about an object it has just taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Size in bytes.
    pub size: u64,
    /// Entity tag, as in [`ObjectMeta::etag`].
    pub etag: Option<String>,
}

/// How many objects one page of a listing may hold: 1..=1000 (the limit of S3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListLimit(u16);

impl ListLimit {
    /// The largest page.
    pub const MAX: Self = Self(1000);

    /// `None` outside 1..=1000.
    #[must_use]
    pub fn new(objects: u16) -> Option<Self> {
        (1..=Self::MAX.0).contains(&objects).then_some(Self(objects))
    }

    /// The limit in objects.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

/// Where a listing goes on: everything after this name. Any text does, so that it can travel through a client; it is
/// only ever compared with names, never opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListCursor(pub(crate) String);

impl ListCursor {
    /// Goes on after the names that sort up to `name`, itself included.
    #[must_use]
    pub fn after(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&ObjectPath> for ListCursor {
    fn from(path: &ObjectPath) -> Self {
        Self(path.as_str().to_owned())
    }
}

/// One object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListEntry {
    /// Name of the object.
    pub path: ObjectPath,
    /// Size in bytes.
    pub size: u64,
    /// When it was last written.
    pub last_modified: Option<SystemTime>,
}

/// One page of a listing, in the order of the names' UTF-8 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPage {
    /// The objects. May be fewer than asked for, even none, although more follow: only [`ListPage::next`] tells.
    pub entries: Vec<ListEntry>,
    /// What to give for the next page; `None` if this was the last.
    pub next: Option<ListCursor>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn meta(etag: Option<&str>, modified_ms: u64) -> ObjectMeta {
        ObjectMeta {
            size: 1,
            content_type: None,
            etag: etag.map(str::to_owned),
            last_modified: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(modified_ms)),
        }
    }

    fn check(ours: (Option<&str>, Option<u64>), theirs: &ObjectMeta, expected: bool) {
        let validators = Validators {
            etag: ours.0.map(str::to_owned),
            last_modified: ours.1.map(|ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms)),
        };
        assert_eq!(validators.matches(theirs), expected, "{validators:?} against {theirs:?}");
    }

    #[test]
    fn the_entity_tag_decides_and_the_time_only_without_one() {
        check((Some("\"a\""), None), &meta(Some("\"a\""), 0), true);
        check((Some("W/\"a\""), None), &meta(Some("\"a\""), 0), true);
        check((Some("\"a\""), Some(9_000)), &meta(Some("\"b\""), 1_000), false);
        check((Some("\"a\""), Some(9_000)), &meta(None, 1_000), false);
        check((None, Some(1_000)), &meta(Some("\"b\""), 1_999), true);
        check((None, Some(1_000)), &meta(Some("\"b\""), 2_000), false);
        check((None, None), &meta(Some("\"b\""), 0), false);
    }
}
