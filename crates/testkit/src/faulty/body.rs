//! A relayed body that stops where a fault wants it to.
//!
//! Must not change the bytes that it lets through.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::sync::watch;

/// What happens within the body.
pub(super) enum Then {
    Pass,
    /// Pause after so many bytes until the plan changes.
    Stall {
        after_bytes: u64,
        plan: watch::Receiver<u64>,
    },
    /// Fail after so many bytes, which makes hyper close the connection.
    Break {
        after_bytes: u64,
    },
}

#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("cut short on purpose")]
    Cut,
    #[error(transparent)]
    Origin(#[from] hyper::Error),
}

type Pause = Pin<Box<dyn Future<Output = ()> + Send>>;

pub(super) struct RelayedBody {
    inner: Option<Incoming>,
    then: Then,
    passed: u64,
    /// A part of a chunk that lies behind the point where the fault is.
    held: Option<Bytes>,
    pause: Option<Pause>,
    /// Whether what was let through has had its turn to be flushed.
    flushed: bool,
}

impl RelayedBody {
    pub(super) fn new(inner: Option<Incoming>, then: Then) -> Self {
        Self { inner, then, passed: 0, held: None, pause: None, flushed: false }
    }

    /// How many more bytes may pass before the fault.
    fn room(&self) -> Option<u64> {
        match self.then {
            Then::Pass => None,
            Then::Stall { after_bytes, .. } | Then::Break { after_bytes } => Some(after_bytes - self.passed),
        }
    }

    /// Does the fault. Ready with `Ok` when the body goes on.
    fn poll_fault(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        match &mut self.then {
            Then::Pass => Poll::Ready(Ok(())),
            Then::Break { .. } => {
                if !self.flushed {
                    // hyper writes out what it has only when the body has nothing more to give for now.
                    self.flushed = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(Err(BodyError::Cut))
            }
            Then::Stall { plan, .. } => {
                let pause = self.pause.get_or_insert_with(|| {
                    let mut plan = plan.clone();
                    Box::pin(async move { drop(plan.changed().await) })
                });
                ready!(pause.as_mut().poll(cx));
                self.then = Then::Pass;
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl Body for RelayedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.room() == Some(0)
            && let Err(error) = ready!(this.poll_fault(cx))
        {
            return Poll::Ready(Some(Err(error)));
        }
        let mut chunk = match this.held.take() {
            Some(held) => held,
            None => {
                let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
                match ready!(Pin::new(inner).poll_frame(cx)) {
                    None => return Poll::Ready(None),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(chunk) => chunk,
                        Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                    },
                }
            }
        };
        if let Some(room) = this.room().and_then(|room| usize::try_from(room).ok())
            && chunk.len() > room
        {
            this.held = Some(chunk.split_off(room));
        }
        this.passed += chunk.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.pause.is_none() && self.inner.as_ref().is_none_or(Body::is_end_stream)
    }
}
