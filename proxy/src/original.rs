//! `-`: the original's bytes, streamed from the store with ranges, never through libvips or the cache.
//!
//! The store is driven on the IO runtime, because its connections belong to it; the connection's task only takes
//! chunks from a short channel. Must not decide who may have originals.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Method, header};
use pingora_http::RequestHeader;
use storage::{ByteRange, ServedRange};
use tokio::sync::{mpsc, oneshot};
use traces::Kind;

use crate::decision::Decision;
use crate::edge::Edge;
use crate::problem::EdgeError;
use crate::source::{Ask, SourceError, SourceMeta, SourceObject};

/// Chunks between the store and the connection: enough to overlap reading and writing. With the one on either side, it is
/// what a client that stops reading costs.
const CHUNKS_AHEAD: usize = 1;

/// An original, ready to be sent.
pub struct OriginalAnswer {
    /// What was asked for.
    pub decision: Arc<Decision>,
    /// What the store says of it.
    pub meta: SourceMeta,
    /// Its content type and whether a browser may show it.
    pub kind: MediaKind,
    /// The part that is sent; `None` is all of it.
    pub range: Option<ServedRange>,
    /// Its bytes; `None` when only the head is asked for, or the client has it already.
    pub body: Option<mpsc::Receiver<Result<Bytes, SourceError>>>,
}

/// A content type, and whether it is safe to show on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaKind {
    /// The content type.
    pub content_type: String,
    /// False for what could run script or be mistaken for a page: it is sent as a sandboxed download.
    pub inline: bool,
}

/// Types that are shown in place, by file extension.
const SAFE: [(&str, &str); 25] = [
    ("avif", "image/avif"),
    ("bmp", "image/bmp"),
    ("gif", "image/gif"),
    ("heic", "image/heic"),
    ("heif", "image/heif"),
    ("ico", "image/x-icon"),
    ("jfif", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("jxl", "image/jxl"),
    ("png", "image/png"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("webp", "image/webp"),
    ("aac", "audio/aac"),
    ("flac", "audio/flac"),
    ("m4a", "audio/mp4"),
    ("mp3", "audio/mpeg"),
    ("oga", "audio/ogg"),
    ("ogg", "audio/ogg"),
    ("wav", "audio/wav"),
    ("mov", "video/quicktime"),
    ("mp4", "video/mp4"),
    ("ogv", "video/ogg"),
    ("webm", "video/webm"),
];

/// Opens the original that was decided on, as far as `head` asks for it.
///
/// # Errors
/// Those of the store.
pub async fn open(edge: &Edge, decision: &Arc<Decision>, head: &RequestHeader) -> Result<OriginalAnswer, EdgeError> {
    let limit = edge.original_bytes_max;
    let check = |meta: &SourceMeta| match meta.size.is_some_and(|size| size > limit) {
        true => Err(EdgeError::from(SourceError::too_large(limit))),
        false => Ok(()),
    };
    let store = decision.store()?.clone();
    let fetch = || traces::child("fetch", Kind::Internal);
    let mut range = (head.method == Method::GET).then(|| parse_range(&head.headers)).flatten();
    let answer = |meta: SourceMeta, range, body| {
        let kind = media_kind(decision.path.as_str(), meta.content_type.as_deref());
        OriginalAnswer { decision: Arc::clone(decision), kind, meta, range, body }
    };

    let is_conditional =
        [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE].iter().any(|name| head.headers.contains_key(name));
    if head.method == Method::HEAD || is_conditional || head.headers.contains_key(header::IF_RANGE) {
        let (store, path) = (store.clone(), decision.path.clone());
        let meta = edge
            .io
            .spawn(fetch().over(async move { store.head(&path, &Ask::new(limit)).await }))
            .await
            .map_err(|_| EdgeError::Internal)??;
        check(&meta)?;
        let has_it = is_conditional && is_current(&head.headers, &meta);
        if head.method == Method::HEAD || has_it {
            return Ok(answer(meta, None, None));
        }
        if !range_still_applies(&head.headers, &meta) {
            range = None;
        }
    }

    let (opened, is_open) = oneshot::channel();
    let (chunks, body) = mpsc::channel(CHUNKS_AHEAD);
    let path = decision.path.clone();
    edge.io.spawn(fetch().over(async move {
        match store.get(&path, &Ask { range, ..Ask::new(limit) }).await {
            Ok(object) => {
                if opened.send(Ok((object.meta.clone(), object.range))).is_ok() {
                    pump(object, chunks).await;
                }
            }
            Err(error) => drop(opened.send(Err(error))),
        }
    }));
    let (meta, range) = is_open.await.map_err(|_| EdgeError::Internal)??;
    check(&meta)?;
    Ok(answer(meta, range, Some(body)))
}

/// Moves the body into the channel until it ends, fails, or the client is gone.
async fn pump(mut object: SourceObject, chunks: mpsc::Sender<Result<Bytes, SourceError>>) {
    while let Some(chunk) = object.body.next().await {
        let failed = chunk.is_err();
        if chunks.send(chunk).await.is_err() || failed {
            return;
        }
    }
}

/// A single `bytes` range (RFC 9110, section 14.1.2). Several ranges, other units and nonsense are ignored, as the RFC
/// allows.
pub fn parse_range(headers: &HeaderMap) -> Option<ByteRange> {
    let (first, last) = headers.get(header::RANGE)?.to_str().ok()?.strip_prefix("bytes=")?.trim().split_once('-')?;
    let number = |text: &str| {
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse::<u64>().ok()).flatten()
    };
    match (first, last) {
        ("", last) => number(last).map(ByteRange::Last),
        (first, "") => number(first).map(ByteRange::From),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(ByteRange::Span(first, last))
        }
    }
}

/// `If-Range`: strong entity tags or the exact date (RFC 9110, section 13.1.5); without it every range applies.
fn range_still_applies(headers: &HeaderMap, meta: &SourceMeta) -> bool {
    let Some(condition) = headers.get(header::IF_RANGE).map(|value| value.as_bytes()) else { return true };
    if condition.starts_with(b"\"") {
        return meta.etag.as_deref().is_some_and(|etag| etag.as_bytes() == condition);
    }
    last_modified(meta).is_some_and(|date| date.as_bytes() == condition)
}

/// `If-None-Match`, or else `If-Modified-Since` (RFC 9110, section 13.2.2).
fn is_current(headers: &HeaderMap, meta: &SourceMeta) -> bool {
    if let Some(tags) = headers.get(header::IF_NONE_MATCH) {
        let etag = meta.etag.as_deref().unwrap_or_default();
        return !etag.is_empty()
            && pingora_core::protocols::http::conditional_filter::weak_validate_etag(tags.as_bytes(), etag.as_bytes());
    }
    let since =
        headers.get(header::IF_MODIFIED_SINCE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    // The header has whole seconds only.
    let modified = last_modified(meta).and_then(|date| httpdate::parse_http_date(&date).ok());
    matches!((since, modified), (Some(since), Some(modified)) if modified <= since)
}

/// `Last-Modified` of an original.
pub fn last_modified(meta: &SourceMeta) -> Option<String> {
    meta.last_modified.map(httpdate::fmt_http_date)
}

/// The type that the store knows, unless it knows nothing; else by extension.
fn media_kind(path: &str, stored: Option<&str>) -> MediaKind {
    let by_extension = || {
        let extension = path.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase())?;
        SAFE.iter().find(|(known, _)| *known == extension).map(|(_, content_type)| *content_type)
    };
    let stored = stored.filter(|stored| !stored.ends_with("/octet-stream") && stored.len() <= 255 && stored.is_ascii());
    match stored.or_else(by_extension) {
        Some(content_type) => {
            let essence = content_type.split(';').next().unwrap_or_default().trim();
            let inline = SAFE.iter().any(|(_, safe)| safe.eq_ignore_ascii_case(essence));
            MediaKind { content_type: content_type.to_owned(), inline }
        }
        None => MediaKind { content_type: "application/octet-stream".to_owned(), inline: false },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        [(name, value.parse().expect("a value"))].into_iter().collect()
    }

    #[track_caller]
    fn check_range(text: &str, expected: Option<ByteRange>) {
        assert_eq!(parse_range(&headers(header::RANGE, text)), expected, "{text}");
    }

    #[test]
    fn single_ranges_are_read_and_the_rest_ignored() {
        check_range("bytes=0-4", Some(ByteRange::Span(0, 4)));
        check_range("bytes=7-", Some(ByteRange::From(7)));
        check_range("bytes=-9", Some(ByteRange::Last(9)));
        for ignored in [
            "bytes=4-0",
            "bytes=-",
            "bytes=0-1,3-4",
            "items=0-1",
            "bytes=+1-2",
            "bytes=1-99999999999999999999",
            "bytes 0-1",
            "",
        ] {
            check_range(ignored, None);
        }
    }

    #[test]
    fn only_what_cannot_run_is_shown_in_place() {
        let inline = |path, stored| media_kind(path, stored).inline;
        assert!(
            inline("a/b.JPG", None) && inline("x", Some("image/png")) && inline("x.mp4", Some("binary/octet-stream"))
        );
        for (path, stored) in [
            ("a.html", None),
            ("a.svg", None),
            ("a.jpg", Some("text/html")),
            ("a", None),
            ("a.jpg.js", None),
            ("a", Some("image/svg+xml")),
        ] {
            assert!(!inline(path, stored), "{path} {stored:?}");
        }
    }

    #[test]
    fn if_range_takes_strong_tags_only() {
        let meta = SourceMeta {
            size: Some(1),
            content_type: None,
            etag: Some("W/\"a\"".into()),
            last_modified: Some(std::time::UNIX_EPOCH),
            freshness: fetch::Freshness::default(),
            tags: None,
        };
        assert!(!range_still_applies(&headers(header::IF_RANGE, "W/\"a\""), &meta));
        assert!(range_still_applies(&headers(header::IF_RANGE, "Thu, 01 Jan 1970 00:00:00 GMT"), &meta));
        let strong = SourceMeta { etag: Some("\"a\"".into()), ..meta };
        assert!(range_still_applies(&headers(header::IF_RANGE, "\"a\""), &strong));
        assert!(!range_still_applies(&headers(header::IF_RANGE, "\"b\""), &strong));
    }
}
