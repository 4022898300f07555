//! From an answer to HTTP: status, headers, conditions, ranges.
//!
//! Must not do IO. Header names are written in lower case: HTTP does not mind, and keeping their case costs a map for
//! each answer.

use std::time::Duration;

use bytes::Bytes;
use cache::{Entry, Lifetime, UnixMillis};
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pingora_core::protocols::http::conditional_filter::{not_modified_filter, to_304};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{RangeType, range_header_filter};
use tenancy::Freshness;

use crate::decision::Wanted;
use crate::edge::Facts;
use crate::fill::FillReport;
use crate::kept::shortened;
use crate::original::{OriginalAnswer, last_modified, parse_range};
use crate::problem::{self, EdgeError};
use crate::rendition::{Came, RenditionAnswer};

/// A header, and the whole body where it is in memory.
pub struct Reply {
    /// Status and headers, complete.
    pub header: Box<ResponseHeader>,
    /// The body; empty for HEAD, 304 and streamed originals.
    pub body: Bytes,
}

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CORP: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const TIMING_ALLOW_ORIGIN: HeaderName = HeaderName::from_static("timing-allow-origin");

/// What scripts of other origins may read beside the usual: where the answer came from, what it took, its id.
const EXPOSED: &str = "cache-status, server-timing, x-request-id";

/// Nothing inside may load, run or submit anything.
const SANDBOX: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox";

/// Pingora counts "no more than this, and this itself is too many": 2 lets exactly one range through. Several are
/// answered with the whole picture, as RFC 9110 allows.
const RANGES_MAX: Option<usize> = Some(2);

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// A URL with a version: its answer never changes.
const VERSIONED: Freshness =
    Freshness { max_age: Duration::from_secs(31_536_000), stale_while_revalidate: Duration::ZERO };

type BoxResult<T> = pingora_core::Result<T>;

/// The reply with a rendition.
///
/// # Errors
/// Only for header values that are not allowed, which no rendition has.
pub fn rendition(request: &RequestHeader, answer: &RenditionAnswer, facts: &Facts, id: &str) -> BoxResult<Reply> {
    let entry = &answer.entry;
    let mut head = start(entry.status, id)?;
    head.insert_header(header::CONTENT_TYPE, content_type(&entry.content_type))?;
    head.insert_header(header::CONTENT_LENGTH, entry.body.len())?;
    let now = UnixMillis::now();
    let age = now.saturating_since(entry.lifetime.created()).as_secs();
    let left = seconds_left(answer.decision.expires, now);
    if left.is_none() {
        head.insert_header(header::AGE, age)?;
    }
    if entry.vary_accept {
        head.insert_header(header::VARY, HeaderValue::from_static("accept"))?;
    }
    head.insert_header(CACHE_STATUS, cache_status(answer, facts.fill.as_ref()))?;
    if let Some(timing) = facts.fill.as_ref().and_then(server_timing) {
        head.insert_header(SERVER_TIMING, timing)?;
        head.insert_header(TIMING_ALLOW_ORIGIN, HeaderValue::from_static("*"))?;
    }
    if entry.status != StatusCode::OK.as_u16() {
        head.insert_header(header::CACHE_CONTROL, negative_cache_control(age, left))?;
        return Ok(without_body_on_head(request, head, entry.body.clone()));
    }
    let (versioned, download) = match &answer.decision.wanted {
        Wanted::Rendition(wanted) => (wanted.transform.is_versioned(), wanted.transform.download()),
        Wanted::Original => (false, None),
    };
    let freshness = at_most(if versioned { VERSIONED } else { answer.decision.tenant.freshness }, entry.lifetime);
    let cache_control = match left {
        _ if is_passed_on(entry) => NO_STORE,
        None => cache_control(freshness),
        Some(left) => expiring_cache_control(freshness, age, left),
    };
    head.insert_header(header::CACHE_CONTROL, cache_control)?;
    head.insert_header(header::ETAG, HeaderValue::from_bytes(entry.etag().as_bytes()).map_err(bad_value)?)?;
    head.insert_header(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"))?;
    if let Some(name) = download {
        head.insert_header(header::CONTENT_DISPOSITION, attachment(name))?;
    }
    Ok(conditional(request, head, entry.body.clone()))
}

/// Applies `If-None-Match` and `Range` to a full answer.
fn conditional(request: &RequestHeader, mut head: Box<ResponseHeader>, mut body: Bytes) -> Reply {
    if not_modified_filter(request, &head) {
        to_304(&mut head);
        return Reply { header: head, body: Bytes::new() };
    }
    // RFC 9110, section 14: Range means nothing with HEAD, and one whose end lies before its start is ignored. Pingora's
    // filter would honour the one and refuse the other.
    if request.method != Method::HEAD && parse_range(&request.headers).is_some() {
        match range_header_filter(request, &mut head, RANGES_MAX) {
            RangeType::Single(range) => body = body.slice(range),
            RangeType::Invalid => body = Bytes::new(),
            RangeType::None | RangeType::Multi(_) => {}
        }
    }
    without_body_on_head(request, head, body)
}

/// The header of a streamed original.
///
/// # Errors
/// Only for header values that are not allowed.
pub fn original(request: &RequestHeader, answer: &OriginalAnswer, id: &str) -> BoxResult<Reply> {
    let has_it = answer.body.is_none() && request.method != Method::HEAD;
    let status = match (has_it, answer.range) {
        (true, _) => StatusCode::NOT_MODIFIED,
        (false, Some(_)) => StatusCode::PARTIAL_CONTENT,
        (false, None) => StatusCode::OK,
    };
    let mut head = start(status.as_u16(), id)?;
    let freshness = shortened(answer.decision.tenant.freshness, answer.meta.freshness);
    let cache_control = match seconds_left(answer.decision.expires, UnixMillis::now()) {
        _ if !answer.meta.freshness.may_store => NO_STORE,
        None => cache_control(freshness),
        Some(left) => expiring_cache_control(freshness, 0, left),
    };
    head.insert_header(header::CACHE_CONTROL, cache_control)?;
    head.insert_header(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"))?;
    if let Some(etag) = answer.meta.etag.as_deref().and_then(|etag| HeaderValue::from_str(etag).ok()) {
        head.insert_header(header::ETAG, etag)?;
    }
    if let Some(date) = last_modified(&answer.meta) {
        head.insert_header(header::LAST_MODIFIED, date)?;
    }
    if has_it {
        return Ok(Reply { header: head, body: Bytes::new() });
    }
    head.insert_header(header::CONTENT_TYPE, answer.kind.content_type.as_str())?;
    if !answer.kind.inline {
        head.insert_header(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"))?;
        head.insert_header(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(SANDBOX))?;
    }
    match (answer.range, answer.meta.size) {
        (Some(range), size) => {
            let size = size.map_or_else(|| "*".to_owned(), |size| size.to_string());
            head.insert_header(header::CONTENT_RANGE, format!("bytes {}-{}/{size}", range.first, range.last))?;
            head.insert_header(header::CONTENT_LENGTH, range.len())?;
        }
        (None, Some(size)) => head.insert_header(header::CONTENT_LENGTH, size)?,
        // Without a length or chunks, a body that is cut off would look whole.
        (None, None) if request.version == Version::HTTP_11 && answer.body.is_some() => {
            head.insert_header(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?;
        }
        (None, None) => {}
    }
    Ok(Reply { header: head, body: Bytes::new() })
}

/// The reply with a problem.
///
/// # Errors
/// Only for header values that are not allowed.
pub fn problem(request: &RequestHeader, error: &EdgeError, id: &str) -> BoxResult<Reply> {
    let (status, _) = error.status_and_code();
    let body = Bytes::from(error.body());
    let mut head = start(status.as_u16(), id)?;
    head.insert_header(header::CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE))?;
    head.insert_header(header::CONTENT_LENGTH, body.len())?;
    head.insert_header(header::CACHE_CONTROL, NO_STORE)?;
    match error {
        EdgeError::Method => head.insert_header(header::ALLOW, HeaderValue::from_static("GET, HEAD"))?,
        EdgeError::RateLimited(over) => head.insert_header(header::RETRY_AFTER, over.retry_after_seconds())?,
        EdgeError::Busy => head.insert_header(header::RETRY_AFTER, HeaderValue::from_static("1"))?,
        EdgeError::Source(source) => {
            if let Some(size) = source.unsatisfied_size() {
                head.insert_header(header::CONTENT_RANGE, format!("bytes */{size}"))?;
            }
        }
        _ => {}
    }
    Ok(without_body_on_head(request, head, body))
}

/// What every answer has.
fn start(status: u16, id: &str) -> BoxResult<Box<ResponseHeader>> {
    let mut head = ResponseHeader::build_no_case(status, Some(16))?;
    head.insert_header(REQUEST_ID, id)?;
    head.insert_header(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))?;
    head.insert_header(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"))?;
    head.insert_header(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED))?;
    head.insert_header(CORP, HeaderValue::from_static("cross-origin"))?;
    Ok(Box::new(head))
}

fn without_body_on_head(request: &RequestHeader, header: Box<ResponseHeader>, body: Bytes) -> Reply {
    Reply { header, body: if request.method == Method::HEAD { Bytes::new() } else { body } }
}

/// The types that renditions have need no copy.
fn content_type(text: &str) -> HeaderValue {
    const KNOWN: [&str; 8] = [
        "image/avif",
        "image/webp",
        "image/jpeg",
        "image/png",
        "image/jxl",
        "image/gif",
        "application/json",
        "text/plain",
    ];
    match KNOWN.iter().find(|known| **known == text) {
        Some(known) => HeaderValue::from_static(known),
        None => HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream")),
    }
}

/// The source forbids to keep it: no cache further on may do so either.
fn is_passed_on(entry: &Entry) -> bool {
    !entry.is_kept() && entry.lifetime.stale_until() == entry.lifetime.created()
}

/// What the policy says, but no longer than this very rendition is used: a fallback is short-lived.
fn at_most(freshness: Freshness, lifetime: Lifetime) -> Freshness {
    let fresh_for = lifetime.fresh_until().saturating_since(lifetime.created());
    let stale_for = lifetime.stale_until().saturating_since(lifetime.fresh_until());
    Freshness {
        max_age: freshness.max_age.min(fresh_for),
        stale_while_revalidate: freshness.stale_while_revalidate.min(stale_for),
    }
}

fn cache_control(freshness: Freshness) -> HeaderValue {
    if freshness == VERSIONED {
        return HeaderValue::from_static("public, max-age=31536000, immutable");
    }
    let (fresh, stale) = (freshness.max_age.as_secs(), freshness.stale_while_revalidate.as_secs());
    if (fresh, stale) == (60, 86_400) {
        return HeaderValue::from_static("public, max-age=60, stale-while-revalidate=86400");
    }
    HeaderValue::try_from(format!("public, max-age={fresh}, stale-while-revalidate={stale}"))
        .expect("digits are allowed")
}

/// Whole seconds until a signed URL is refused; `None` when it never is.
fn seconds_left(expires: Option<u64>, now: UnixMillis) -> Option<u64> {
    expires.map(|expires| expires.saturating_mul(1000).saturating_sub(now.0) / 1000)
}

/// For a URL that is refused in `left` seconds: no cache on the way may answer it any longer than we do. Counted from
/// now, and sent without `Age`, so that it holds for caches that do not do the sum.
fn expiring_cache_control(freshness: Freshness, age: u64, left: u64) -> HeaderValue {
    let (fresh, stale) = (freshness.max_age.as_secs(), freshness.stale_while_revalidate.as_secs());
    let max_age = fresh.saturating_sub(age).min(left);
    let stale = (fresh + stale).saturating_sub(age).min(left) - max_age;
    HeaderValue::try_from(format!("public, max-age={max_age}, stale-while-revalidate={stale}"))
        .expect("digits are allowed")
}

fn negative_cache_control(age: u64, left: Option<u64>) -> HeaderValue {
    let seconds = problem::NEGATIVE_TTL.as_secs().saturating_sub(age).min(left.unwrap_or(u64::MAX));
    HeaderValue::try_from(format!("public, max-age={seconds}")).expect("digits are allowed")
}

/// RFC 9211.
fn cache_status(answer: &RenditionAnswer, fill: Option<&FillReport>) -> HeaderValue {
    HeaderValue::from_static(match answer.came {
        Came::Memory => "Calotype; hit; detail=memory",
        Came::Disk => "Calotype; hit; detail=disk",
        Came::Stale => "Calotype; hit; detail=stale",
        Came::Collapsed => "Calotype; fwd=uri-miss; collapsed",
        Came::Filled { .. } if is_passed_on(&answer.entry) => "Calotype; fwd=uri-miss",
        Came::Filled { .. } if fill.is_some_and(|fill| fill.not_modified) => {
            "Calotype; fwd=stale; fwd-status=304; stored"
        }
        Came::Filled { had_expired: true } => "Calotype; fwd=stale; stored",
        Came::Filled { had_expired: false } => "Calotype; fwd=uri-miss; stored",
    })
}

fn server_timing(fill: &FillReport) -> Option<String> {
    let phases = [("fetch", fill.fetch), ("queue", fill.queue), ("transform", fill.transform)];
    let text: Vec<String> = phases
        .iter()
        .filter_map(|(name, took)| took.map(|took| format!("{name};dur={:.1}", took.as_secs_f64() * 1000.0)))
        .collect();
    (!text.is_empty()).then(|| text.join(", "))
}

/// `Content-Disposition` with the name in both forms (RFC 6266, RFC 8187).
fn attachment(name: &str) -> String {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_graphic() && !"\"\\%".contains(c) || c == ' ' { c } else { '_' }).collect();
    let mut text = format!("attachment; filename=\"{plain}\"");
    if plain != name {
        text.push_str("; filename*=UTF-8''");
        for byte in name.bytes() {
            if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
                text.push(char::from(byte));
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    text
}

fn bad_value(error: http::header::InvalidHeaderValue) -> Box<pingora_core::Error> {
    pingora_core::Error::because(pingora_core::ErrorType::InternalError, "header value", error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_expiring(freshness: (u64, u64), age: u64, left: u64, expected: (u64, u64)) {
        let (max_age, stale_while_revalidate) = (Duration::from_secs(freshness.0), Duration::from_secs(freshness.1));
        let header = expiring_cache_control(Freshness { max_age, stale_while_revalidate }, age, left);
        assert_eq!(header, format!("public, max-age={}, stale-while-revalidate={}", expected.0, expected.1));
    }

    #[test]
    fn an_expiring_answer_is_not_kept_beyond_its_expiry() {
        check_expiring((60, 86_400), 0, 10, (10, 0));
        check_expiring((60, 86_400), 0, 100, (60, 40));
        check_expiring((60, 86_400), 50, 100, (10, 90));
        check_expiring((60, 86_400), 70, 100, (0, 100));
        check_expiring((60, 100), 90, 1_000_000, (0, 70));
        check_expiring((60, 100), 500, 1_000_000, (0, 0));
        check_expiring((60, 86_400), 0, 1_000_000, (60, 86_400));
        check_expiring((60, 86_400), 0, 0, (0, 0));
        check_expiring((31_536_000, 0), 1000, 3600, (3600, 0));
        assert_eq!(negative_cache_control(4, Some(100)), "public, max-age=6");
        assert_eq!(negative_cache_control(4, Some(2)), "public, max-age=2");
    }

    #[test]
    fn the_time_left_is_rounded_down() {
        assert_eq!(seconds_left(None, UnixMillis(0)), None);
        assert_eq!(seconds_left(Some(100), UnixMillis(98_001)), Some(1));
        assert_eq!(seconds_left(Some(100), UnixMillis(100_000)), Some(0));
        assert_eq!(seconds_left(Some(1), UnixMillis(100_000)), Some(0));
    }

    #[test]
    fn a_downloads_name_cannot_break_the_header() {
        assert_eq!(attachment("a b.jpg"), "attachment; filename=\"a b.jpg\"");
        assert_eq!(attachment("a\"b.jpg"), "attachment; filename=\"a_b.jpg\"; filename*=UTF-8''a%22b.jpg");
        assert_eq!(attachment("é.jpg"), "attachment; filename=\"_.jpg\"; filename*=UTF-8''%C3%A9.jpg");
    }
}
