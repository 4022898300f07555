//! Posting: something is sent to a URL, and what counts is that it was taken.
//!
//! Must not follow redirects: what is sent was meant for this URL. Reads only the beginning of an answer, for whoever wants to see it:
//! an endpoint must not be able to cost more than that.

use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout_at;

/// How to post.
#[derive(Debug, Clone)]
pub struct PostOptions {
    /// Sent with it, its type included.
    pub headers: HeaderMap,
    /// When the header of the answer must have come, and no more of its body is read.
    pub deadline: Instant,
    /// How long is waited for the beginning of the answer's body once its header has come, before the deadline.
    pub body_time: Duration,
    /// Bytes of the answer's body that are read.
    pub answer_bytes_max: usize,
}

/// What a server says to what was posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// Whatever it is, redirects included.
    pub status: StatusCode,
    /// After how long it may be tried again, if the server says.
    pub retry_after: Option<Duration>,
    /// The beginning of the body, as far as it came.
    pub answer: Bytes,
}

impl Posted {
    /// Reads the beginning of a body. However that ends, the status stands.
    pub(crate) async fn read(answer: http::Response<Incoming>, options: &PostOptions) -> Self {
        let (status, retry_after) = (answer.status(), retry_after(answer.headers(), SystemTime::now()));
        let (mut body, mut beginning) = (answer.into_body(), BytesMut::new());
        let deadline = options.deadline.min(Instant::now() + options.body_time);
        while beginning.len() < options.answer_bytes_max
            && let Ok(Some(Ok(frame))) = timeout_at(deadline.into(), body.frame()).await
        {
            let Ok(data) = frame.into_data() else { continue };
            let wanted = options.answer_bytes_max - beginning.len();
            beginning.extend_from_slice(&data[..data.len().min(wanted)]);
        }
        Self { status, retry_after, answer: beginning.freeze() }
    }
}

/// `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        for (text, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 09 Sep 2001 01:47:40 GMT", Some(60)),
            ("Sun, 09 Sep 2001 01:46:00 GMT", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
            ("99999999999999999999999", None),
        ] {
            let headers = [(header::RETRY_AFTER, text.parse().expect("a value"))].into_iter().collect();
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
