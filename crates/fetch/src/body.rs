//! The bytes of an answer as a stream that keeps to its limits.
//!
//! Must not buffer more than one chunk. Time counts only while it waits for the server: a slow reader is no fault of the
//! server's.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::decode::Decoder;
use crate::{FetchError, Meta, ServedRange};

/// Fewer bytes than this within the time limit are no progress: a byte now and then would hold a connection for ever.
const PROGRESS_BYTES: u64 = 1024;

/// A resource, or a range of it.
#[derive(Debug)]
pub struct Response {
    /// What the server says of it.
    pub meta: Meta,
    /// The bytes that `body` holds; `None` = all of them.
    pub range: Option<ServedRange>,
    /// The bytes.
    pub body: Body,
}

/// Limits on a body.
pub(crate) struct BodyLimits {
    /// Bytes, on the wire and decoded.
    pub(crate) bytes: u64,
    /// Time without progress.
    pub(crate) stall: Duration,
    /// The caller's deadline.
    pub(crate) deadline: Option<Instant>,
}

/// The bytes of a resource, or of a range of it. A body that was cut short ends with an error; after an error it yields
/// nothing more.
pub struct Body {
    incoming: Option<Incoming>,
    decoder: Option<Decoder>,
    /// Bytes on the wire, where they are known.
    expected: Option<u64>,
    received: u64,
    yielded: u64,
    limits: BodyLimits,
    waiting: Option<Waiting>,
    deadline: Option<Pin<Box<Sleep>>>,
}

/// Since when progress is waited for.
struct Waiting {
    since_bytes: u64,
    limit: Pin<Box<Sleep>>,
}

impl Body {
    pub(crate) fn new(incoming: Incoming, decoder: Option<Decoder>, expected: Option<u64>, limits: BodyLimits) -> Self {
        let deadline = limits.deadline.map(|deadline| Box::pin(sleep_until(deadline)));
        let incoming = Some(incoming);
        Self { incoming, decoder, expected, received: 0, yielded: 0, limits, waiting: None, deadline }
    }

    /// How many bytes it has from its first to its last, if that is known.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a length on the wire, not a collection")]
    pub fn len(&self) -> Option<u64> {
        self.expected.filter(|_| self.decoder.is_none())
    }

    /// Gathers it in one buffer.
    ///
    /// # Errors
    /// Whatever ends the stream; [`FetchError::TooLarge`] beyond the limit that was given when it was asked for.
    pub async fn collect(mut self) -> Result<Bytes, FetchError> {
        let capacity = self.len().and_then(|len| usize::try_from(len).ok()).unwrap_or(0);
        let mut gathered = BytesMut::with_capacity(capacity);
        while let Some(chunk) = self.next().await {
            gathered.extend_from_slice(&chunk?);
        }
        Ok(gathered.freeze())
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, FetchError>> {
        loop {
            if let Some(decoded) = self.decoder.as_mut().map(Decoder::step).transpose()?.flatten() {
                return Poll::Ready(self.yielding(decoded).map(Some));
            }
            let Some(incoming) = &mut self.incoming else { return Poll::Ready(Ok(None)) };
            match Pin::new(incoming).poll_frame(cx) {
                Poll::Pending => {
                    self.poll_limits(cx)?;
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers are of no interest.
                    let Ok(data) = frame.into_data() else { continue };
                    self.receive(data.len() as u64)?;
                    match &mut self.decoder {
                        Some(decoder) => decoder.feed(data),
                        None if data.is_empty() => {}
                        None => return Poll::Ready(self.yielding(data).map(Some)),
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(FetchError::Truncated { got: self.received, source: Some(error.into()) }));
                }
                Poll::Ready(None) => {
                    self.incoming = None;
                    if self.expected.is_some_and(|expected| expected != self.received) {
                        return Poll::Ready(Err(FetchError::Truncated { got: self.received, source: None }));
                    }
                    let rest = self.decoder.take().map(|mut decoder| decoder.finish()).transpose()?.unwrap_or_default();
                    let rest = (!rest.is_empty()).then(|| self.yielding(rest)).transpose();
                    return Poll::Ready(rest);
                }
            }
        }
    }

    fn receive(&mut self, bytes: u64) -> Result<(), FetchError> {
        self.received = self.received.saturating_add(bytes);
        if self.received > self.limits.bytes {
            return Err(FetchError::TooLarge { limit: self.limits.bytes });
        }
        if self.expected.is_some_and(|expected| self.received > expected) {
            return Err(FetchError::bad_answer("its body is longer than announced"));
        }
        let has_come = |waiting: &Waiting| self.received - waiting.since_bytes >= PROGRESS_BYTES;
        if self.waiting.as_ref().is_some_and(has_come) {
            self.waiting = None;
        }
        Ok(())
    }

    fn yielding(&mut self, chunk: Bytes) -> Result<Bytes, FetchError> {
        self.yielded = self.yielded.saturating_add(chunk.len() as u64);
        if self.yielded > self.limits.bytes {
            Err(FetchError::TooLarge { limit: self.limits.bytes })
        } else {
            Ok(chunk)
        }
    }

    /// Ready only with an error.
    fn poll_limits(&mut self, cx: &mut Context<'_>) -> Result<(), FetchError> {
        if self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready()) {
            return Err(FetchError::Deadline);
        }
        let stall = self.limits.stall;
        let since_bytes = self.received;
        let waiting = self.waiting.get_or_insert_with(|| Waiting { since_bytes, limit: Box::pin(sleep(stall)) });
        if waiting.limit.as_mut().poll(cx).is_ready() { Err(FetchError::TimedOut { limit: stall }) } else { Ok(()) }
    }
}

impl Stream for Body {
    type Item = Result<Bytes, FetchError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_chunk(cx).map(|polled| {
            if !matches!(polled, Ok(Some(_))) {
                self.incoming = None;
                self.decoder = None;
            }
            polled.transpose()
        })
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("len", &self.len()).field("received", &self.received).finish_non_exhaustive()
    }
}
