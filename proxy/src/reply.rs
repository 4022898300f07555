//! From an answer to HTTP: status, headers, conditions, ranges.
//!
//! Must not do IO. Header names are written in lower case: HTTP does not mind, and keeping their case costs a map for
//! each answer.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use pingora_core::protocols::http::conditional_filter::{not_modified_filter, to_304};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{RangeType, range_header_filter};

use crate::cache_headers;
use crate::decision::Wanted;
use crate::edge::Facts;
use crate::fill::FillReport;
use crate::original::{OriginalAnswer, last_modified, parse_range};
use crate::problem::{self, EdgeError};
use crate::rendition::RenditionAnswer;

/// A header, and the whole body where it is in memory.
pub struct Reply {
    /// Status and headers, complete.
    pub header: Box<ResponseHeader>,
    /// The body; empty for HEAD, 304 and streamed originals.
    pub body: Bytes,
}

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
    if entry.vary_accept {
        head.insert_header(header::VARY, HeaderValue::from_static("accept"))?;
    }
    cache_headers::of_rendition(&mut head, answer, facts.fill.as_ref())?;
    if let Some(timing) = facts.fill.as_ref().and_then(server_timing) {
        head.insert_header(SERVER_TIMING, timing)?;
        head.insert_header(TIMING_ALLOW_ORIGIN, HeaderValue::from_static("*"))?;
    }
    if entry.status != StatusCode::OK.as_u16() {
        return Ok(without_body_on_head(request, head, entry.body.clone()));
    }
    head.insert_header(header::ETAG, HeaderValue::from_bytes(entry.etag().as_bytes()).map_err(bad_value)?)?;
    head.insert_header(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"))?;
    if let Wanted::Rendition(wanted) = &answer.decision.wanted
        && let Some(name) = wanted.transform.download()
    {
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
    cache_headers::of_original(&mut head, answer)?;
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
        EdgeError::Quota(over) => head.insert_header(header::RETRY_AFTER, over.seconds)?,
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

    #[test]
    fn a_downloads_name_cannot_break_the_header() {
        assert_eq!(attachment("a b.jpg"), "attachment; filename=\"a b.jpg\"");
        assert_eq!(attachment("a\"b.jpg"), "attachment; filename=\"a_b.jpg\"; filename*=UTF-8''a%22b.jpg");
        assert_eq!(attachment("é.jpg"), "attachment; filename=\"_.jpg\"; filename*=UTF-8''%C3%A9.jpg");
    }
}
