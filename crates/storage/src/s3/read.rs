//! Reading objects: `GET`, `HEAD`, and a body that neither hangs nor ends early unnoticed.
//!
//! Must not retry once the body has begun: what was handed out cannot be taken back, and the caller knows better.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use bytes::Bytes;
use tokio::time::{Instant, Sleep};

use super::S3Store;
use super::error::failed;
use crate::{
    BoxError, ByteRange, GetOptions, Object, ObjectBody, ObjectMeta, ObjectPath, ServedRange, StorageError, Validators,
};

impl S3Store {
    pub(crate) async fn get(&self, path: &ObjectPath, options: GetOptions) -> Result<Object, StorageError> {
        if options.range.is_some_and(ByteRange::is_impossible) {
            return Err(self.not_satisfiable(path, options.if_changed.as_ref(), None).await);
        }
        let (if_none_match, if_modified_since) = match &options.if_changed {
            Some(Validators { etag: Some(etag), .. }) => (Some(etag.clone()), None),
            Some(Validators { last_modified: Some(time), .. }) => (None, Some(DateTime::from(*time))),
            _ => (None, None),
        };
        let answer = self
            .bucket
            .client
            .get_object()
            .bucket(&self.bucket.name)
            .key(self.key(path)?)
            .set_range(options.range.map(header))
            .set_if_none_match(if_none_match)
            .set_if_modified_since(if_modified_since)
            .send()
            .await;
        match answer {
            Ok(output) => self.object(output, &options),
            Err(error) if is_range_error(&error) => {
                let size = error.raw_response().and_then(size_in_refusal);
                Err(self.not_satisfiable(path, options.if_changed.as_ref(), size).await)
            }
            Err(error) => Err(failed(error, self.read_timeout())),
        }
    }

    pub(crate) async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StorageError> {
        let answer = self
            .bucket
            .client
            .head_object()
            .bucket(&self.bucket.name)
            .key(self.key(path)?)
            .send()
            .await
            .map_err(|error| failed(error, self.read_timeout()))?;
        Ok(ObjectMeta {
            size: length(answer.content_length)?,
            content_type: answer.content_type,
            etag: answer.e_tag,
            last_modified: answer.last_modified.and_then(to_system_time),
        })
    }

    fn object(&self, output: GetObjectOutput, options: &GetOptions) -> Result<Object, StorageError> {
        let len = length(output.content_length)?;
        let range = match (options.range, output.content_range.as_deref()) {
            (Some(_), Some(text)) => {
                let (range, size) = parse_content_range(text)
                    .filter(|(range, size)| range.len() == len && range.last < *size)
                    .ok_or_else(|| nonsense(format!("a body of {len} bytes with content-range `{text}`")))?;
                Some((range, size))
            }
            // Servers may ignore a range and send everything.
            _ => None,
        };
        let meta = ObjectMeta {
            size: range.map_or(len, |(_, size)| size),
            content_type: output.content_type,
            etag: output.e_tag,
            last_modified: output.last_modified.and_then(to_system_time),
        };
        // Not every server knows conditional requests; the answer is the same, only dearer.
        if options.if_changed.as_ref().is_some_and(|ours| ours.matches(&meta)) {
            return Err(StorageError::NotModified);
        }
        let body = if len == 0 {
            ObjectBody::whole(Bytes::new())
        } else {
            ObjectBody::remote(RemoteBody::new(output.body, len, self.read_timeout()))
        };
        Ok(Object { meta, range: range.map(|(range, _)| range), body })
    }

    /// The error for a range without bytes. Asks for the size unless the refusal told it: many servers do not tell.
    async fn not_satisfiable(
        &self,
        path: &ObjectPath,
        if_changed: Option<&Validators>,
        size: Option<u64>,
    ) -> StorageError {
        if let (Some(size), None) = (size, if_changed) {
            return StorageError::RangeNotSatisfiable { size };
        }
        match self.head(path).await {
            Ok(meta) if if_changed.is_some_and(|ours| ours.matches(&meta)) => StorageError::NotModified,
            Ok(meta) => StorageError::RangeNotSatisfiable { size: meta.size },
            Err(error) => error,
        }
    }
}

/// The `Range` header (RFC 9110 §14.2).
fn header(range: ByteRange) -> String {
    match range {
        ByteRange::From(first) => format!("bytes={first}-"),
        ByteRange::Span(first, last) => format!("bytes={first}-{last}"),
        ByteRange::Last(count) => format!("bytes=-{count}"),
    }
}

fn is_range_error<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    error.raw_response().is_some_and(|response| response.status().as_u16() == 416)
}

/// The size in `Content-Range: bytes */SIZE` of a 416.
fn size_in_refusal(response: &HttpResponse) -> Option<u64> {
    response.headers().get("content-range")?.strip_prefix("bytes */")?.parse().ok()
}

/// `bytes FIRST-LAST/SIZE` (RFC 9110 §14.4).
fn parse_content_range(text: &str) -> Option<(ServedRange, u64)> {
    let (span, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    let range = ServedRange { first: first.parse().ok()?, last: last.parse().ok()? };
    (range.first <= range.last).then_some((range, size.parse().ok()?))
}

fn length(announced: Option<i64>) -> Result<u64, StorageError> {
    announced.and_then(|len| u64::try_from(len).ok()).ok_or_else(|| nonsense("an object without length".to_owned()))
}

fn nonsense(what: String) -> StorageError {
    StorageError::Unavailable { source: BoxError::from(format!("the store answered {what}")) }
}

pub(super) fn to_system_time(time: DateTime) -> Option<SystemTime> {
    SystemTime::try_from(time).ok()
}

/// The body of an answer: exactly the announced bytes or an error, and no pause longer than the limit.
pub(crate) struct RemoteBody {
    stream: ByteStream,
    len: u64,
    got: u64,
    pause_max: Duration,
    pause: Pin<Box<Sleep>>,
    /// Whether `pause` runs. It does only while we wait for the server: the reader may take its time.
    waiting: bool,
}

impl RemoteBody {
    fn new(stream: ByteStream, len: u64, pause_max: Duration) -> Self {
        Self { stream, len, got: 0, pause_max, pause: Box::pin(tokio::time::sleep(pause_max)), waiting: false }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StorageError>>> {
        match Pin::new(&mut self.stream).poll_next(cx) {
            Poll::Ready(next) => {
                self.waiting = false;
                Poll::Ready(self.received(next))
            }
            Poll::Pending => {
                if !self.waiting {
                    self.waiting = true;
                    self.pause.as_mut().reset(Instant::now() + self.pause_max);
                }
                match self.pause.as_mut().poll(cx) {
                    Poll::Ready(()) => {
                        Poll::Ready(Some(Err(StorageError::TimedOut { limit: self.pause_max, source: None })))
                    }
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    fn received<E>(&mut self, next: Option<Result<Bytes, E>>) -> Option<Result<Bytes, StorageError>>
    where
        E: Into<BoxError>,
    {
        match next {
            None if self.got == self.len => None,
            Some(Ok(chunk)) if self.got + chunk.len() as u64 <= self.len => {
                self.got += chunk.len() as u64;
                Some(Ok(chunk))
            }
            Some(Ok(_)) => Some(Err(nonsense(format!("more than the announced {} bytes", self.len)))),
            Some(Err(error)) => Some(Err(self.truncated(Some(error.into())))),
            None => Some(Err(self.truncated(None))),
        }
    }

    fn truncated(&self, source: Option<BoxError>) -> StorageError {
        StorageError::Truncated { expected: self.len, got: self.got, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(u64, u64, u64)>) {
        let parsed = parse_content_range(text).map(|(range, size)| (range.first, range.last, size));
        assert_eq!(parsed, expected, "{text}");
    }

    #[test]
    fn reads_content_range() {
        check("bytes 0-0/1", Some((0, 0, 1)));
        check("bytes 5-9/100", Some((5, 9, 100)));
        for wrong in ["", "bytes", "bytes 5-9", "bytes 5-9/*", "bytes 9-5/100", "bytes -5/100", "lines 0-1/2"] {
            check(wrong, None);
        }
    }
}
