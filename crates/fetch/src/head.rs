//! What the header of an answer says: size, validators, the range that is served, how long it may be kept.
//!
//! Must not read bodies.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, header};

use crate::FetchError;

/// Longest value that is taken over from a header, in bytes.
const VALUE_BYTES_MAX: usize = 512;

/// Most tags of a resource that are kept.
pub const TAGS_MAX: usize = 32;

/// Longest tag that is kept, in bytes.
pub const TAG_BYTES_MAX: usize = 128;

const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");

/// What a server says about a resource.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Size of the whole in bytes, also when a range is served; `None` = it shows at the end.
    pub size: Option<u64>,
    /// Its media type: a claim.
    pub content_type: Option<String>,
    /// Entity tag with its quotes, and with `W/` if it is weak.
    pub etag: Option<String>,
    /// When it was last changed, in whole seconds.
    pub last_modified: Option<SystemTime>,
    /// How long it may be kept.
    pub freshness: Freshness,
    /// What it is tagged with; `None` = there is no `Cache-Tag`.
    pub tags: Option<CacheTags>,
}

/// The tags by which a server wants copies of a resource to be purged: its `Cache-Tag`, as CDNs read it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CacheTags {
    /// At most [`TAGS_MAX`], of 1 to [`TAG_BYTES_MAX`] visible ASCII characters each.
    pub names: Vec<String>,
    /// True when there were more, or such as cannot be kept: any tag may be one of them.
    pub has_others: bool,
}

/// What a server says on keeping its answer in a shared cache (RFC 9111, section 5.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// False for `no-store` and `private`.
    pub may_store: bool,
    /// How long it is fresh from now on: `s-maxage`, else `max-age`, less `Age`; nothing with `no-cache`. `None` = not said.
    pub max_age: Option<Duration>,
    /// False for `must-revalidate` and `proxy-revalidate`.
    pub may_serve_stale: bool,
}

impl Default for Freshness {
    fn default() -> Self {
        Self { may_store: true, max_age: None, may_serve_stale: true }
    }
}

/// What a caller remembers of a resource that it holds a copy of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Validators {
    /// Entity tag as it came out of [`Meta`].
    pub etag: Option<String>,
    /// Time of the last change.
    pub last_modified: Option<SystemTime>,
}

impl Validators {
    /// Whether `meta` has the entity tag that is remembered: some servers send again what did not change.
    pub(crate) fn same_tag(&self, meta: &Meta) -> bool {
        let opaque = |etag: &str| etag.strip_prefix("W/").unwrap_or(etag).to_owned();
        matches!((&self.etag, &meta.etag), (Some(ours), Some(theirs)) if opaque(ours) == opaque(theirs))
    }
}

/// A range of bytes asked for (RFC 9110, section 14.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// Everything from this offset on.
    From(u64),
    /// From the first offset to the second, both included.
    Span(u64, u64),
    /// The last so many bytes.
    Last(u64),
}

impl Range {
    pub(crate) fn to_header(self) -> String {
        match self {
            Self::From(first) => format!("bytes={first}-"),
            Self::Span(first, last) => format!("bytes={first}-{last}"),
            Self::Last(count) => format!("bytes=-{count}"),
        }
    }

    /// The bytes that are meant in a resource of `size` bytes.
    fn within(self, size: u64) -> Option<ServedRange> {
        let end = size.checked_sub(1)?;
        let (first, last) = match self {
            Self::From(first) => (first, end),
            Self::Span(first, last) => (first, last.min(end)),
            Self::Last(0) => return None,
            Self::Last(count) => (size.saturating_sub(count), end),
        };
        (first <= last).then_some(ServedRange { first, last })
    }
}

/// A range of bytes served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServedRange {
    /// Offset of the first byte.
    pub first: u64,
    /// Offset of the last byte, included.
    pub last: u64,
}

/// Reads what concerns the whole. `size` is left to the caller.
pub(crate) fn meta(headers: &HeaderMap) -> Meta {
    let text = |name: HeaderName| {
        let value = headers.get(name)?.to_str().ok()?;
        (!value.is_empty() && value.len() <= VALUE_BYTES_MAX).then(|| value.to_owned())
    };
    Meta {
        size: None,
        content_type: text(header::CONTENT_TYPE),
        etag: text(header::ETAG).filter(|etag| is_entity_tag(etag)),
        last_modified: text(header::LAST_MODIFIED).and_then(|date| httpdate::parse_http_date(&date).ok()),
        freshness: freshness(headers),
        tags: cache_tags(headers),
    }
}

fn cache_tags(headers: &HeaderMap) -> Option<CacheTags> {
    let mut values = headers.get_all(CACHE_TAG).iter().peekable();
    values.peek()?;
    let mut tags = CacheTags::default();
    for value in values {
        // Bytes beyond ASCII are no text to `http`, and no tag to us.
        let Ok(text) = value.to_str() else {
            tags.has_others = true;
            continue;
        };
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let is_tag = name.len() <= TAG_BYTES_MAX && name.bytes().all(|byte| byte.is_ascii_graphic());
            let is_known = tags.names.iter().any(|known| known == name);
            match is_tag && tags.names.len() < TAGS_MAX {
                _ if is_known => {}
                true => tags.names.push(name.to_owned()),
                false => tags.has_others = true,
            }
        }
    }
    Some(tags)
}

/// RFC 9110, section 8.8.3. Anything else would go out again as a condition, and back to clients as our tag.
fn is_entity_tag(text: &str) -> bool {
    let opaque = text.strip_prefix("W/").unwrap_or(text);
    let inner = opaque.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.is_some_and(|inner| inner.bytes().all(|byte| byte > 0x20 && byte < 0x7f && byte != b'"'))
}

fn freshness(headers: &HeaderMap) -> Freshness {
    let mut found = Freshness::default();
    let (mut shared, mut any, mut must_ask) = (None, None, false);
    let values = headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    for directive in values.flat_map(|value| value.split(',')) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        // A number that cannot be read counts as none left (RFC 9111, section 4.2.1).
        let seconds = || Some(value.trim().trim_matches('"').parse::<u32>().unwrap_or(0));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "private" => found.may_store = false,
            "no-cache" => must_ask = true,
            "must-revalidate" | "proxy-revalidate" => found.may_serve_stale = false,
            "s-maxage" => shared = seconds(),
            "max-age" => any = seconds(),
            _ => {}
        }
    }
    let age = headers.get(header::AGE).and_then(|age| age.to_str().ok()?.trim().parse::<u32>().ok()).unwrap_or(0);
    let said = if must_ask { Some(0) } else { shared.or(any) };
    found.max_age = said.map(|seconds| Duration::from_secs(u64::from(seconds.saturating_sub(age))));
    found
}

/// The range of a 206 and the size of the whole.
///
/// # Errors
/// [`FetchError::BadAnswer`] if it is not what was asked for.
pub(crate) fn content_range(headers: &HeaderMap, asked: Range) -> Result<(ServedRange, u64), FetchError> {
    let read = || {
        let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
        let (range, size) = text.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        Some((ServedRange { first: number(first)?, last: number(last)? }, number(size)?))
    };
    let bad = || FetchError::bad_answer("its range is not the one asked for");
    let (served, size) = read().ok_or_else(bad)?;
    if asked.within(size) == Some(served) { Ok((served, size)) } else { Err(bad()) }
}

/// The size that a 416 tells.
pub(crate) fn unsatisfied_size(headers: &HeaderMap) -> Option<u64> {
    number(headers.get(header::CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes */")?)
}

/// `Content-Length`, where there is one.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    number(headers.get(header::CONTENT_LENGTH)?.to_str().ok()?)
}

fn number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, value.parse().expect("a value"));
        }
        headers
    }

    #[track_caller]
    fn check_freshness(cache_control: &str, age: &str, expected: (bool, Option<u64>, bool)) {
        let found = freshness(&headers(&[(header::CACHE_CONTROL, cache_control), (header::AGE, age)]));
        let max_age = found.max_age.map(|age| age.as_secs());
        assert_eq!((found.may_store, max_age, found.may_serve_stale), expected, "{cache_control}");
    }

    #[test]
    fn cache_control_is_read_as_a_shared_cache_does() {
        check_freshness("public, max-age=60", "0", (true, Some(60), true));
        check_freshness("max-age=60, s-maxage=\"30\"", "10", (true, Some(20), true));
        check_freshness("Max-Age=5", "9", (true, Some(0), true));
        check_freshness("no-store", "", (false, None, true));
        check_freshness("private=\"x\", max-age=9", "", (false, Some(9), true));
        check_freshness("no-cache, max-age=9", "", (true, Some(0), true));
        check_freshness("max-age=9, must-revalidate", "", (true, Some(9), false));
        check_freshness("max-age=soon", "", (true, Some(0), true));
        check_freshness("", "", (true, None, true));
    }

    #[track_caller]
    fn check_tags(lines: &[&str], expected: Option<(&[&str], bool)>) {
        let lines: Vec<_> = lines.iter().map(|line| (CACHE_TAG, *line)).collect();
        let found = cache_tags(&headers(&lines));
        let expected = expected.map(|(names, has_others)| CacheTags {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            has_others,
        });
        assert_eq!(found, expected, "{lines:?}");
    }

    #[test]
    fn tags_that_cannot_be_kept_are_not_forgotten() {
        check_tags(&[], None);
        check_tags(&[""], Some((&[], false)));
        check_tags(&["a, b ,,a", "c"], Some((&["a", "b", "c"], false)));
        check_tags(&["a,two words"], Some((&["a"], true)));
        check_tags(&[&"x".repeat(TAG_BYTES_MAX)], Some((&[&"x".repeat(TAG_BYTES_MAX)], false)));
        check_tags(&[&"x".repeat(TAG_BYTES_MAX + 1)], Some((&[], true)));
        let many: Vec<_> = (0..=TAGS_MAX).map(|i| i.to_string()).collect();
        let kept: Vec<_> = many.iter().take(TAGS_MAX).map(String::as_str).collect();
        check_tags(&[&kept.join(",")], Some((&kept, false)));
        check_tags(&[&many.join(",")], Some((&kept, true)));
    }

    #[test]
    fn a_range_is_the_one_asked_for_or_an_error() {
        let read = |text: &str, asked| {
            let headers = headers(&[(header::CONTENT_RANGE, text)]);
            content_range(&headers, asked).ok().map(|(range, size)| (range.first, range.last, size))
        };
        assert_eq!(read("bytes 0-9/100", Range::Span(0, 9)), Some((0, 9, 100)));
        assert_eq!(read("bytes 90-99/100", Range::Last(10)), Some((90, 99, 100)));
        assert_eq!(read("bytes 90-99/100", Range::From(90)), Some((90, 99, 100)));
        for wrong in ["bytes 1-9/100", "bytes 0-8/100", "bytes 0-9/*", "bytes */100", "bytes 0-9/5", "0-9/100", ""] {
            assert_eq!(read(wrong, Range::Span(0, 9)), None, "{wrong}");
        }
    }

    #[test]
    fn only_what_is_an_entity_tag_is_one() {
        let etag = |text| meta(&headers(&[(header::ETAG, text)])).etag;
        assert_eq!(etag("\"a\"").as_deref(), Some("\"a\""));
        assert_eq!(etag("W/\"a-1\"").as_deref(), Some("W/\"a-1\""));
        for wrong in ["a", "\"a", "\"a\", \"b\"", "w/\"a\"", ""] {
            assert_eq!(etag(wrong), None, "{wrong}");
        }
    }
}
