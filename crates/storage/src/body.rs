//! The bytes of an object as a stream, and the one way to gather them under a limit.
//!
//! Must not buffer more than one chunk on its own: memory is the caller's to give, by a limit.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};

use crate::StorageError;
use crate::folder::FileBody;
use crate::s3::RemoteBody;

/// The bytes of an object, or of a range of it.
///
/// The stream yields exactly [`ObjectBody::len`] bytes or ends with an error: a body that was cut short never looks
/// complete. After an error it yields nothing more.
pub struct ObjectBody {
    len: u64,
    inner: Inner,
}

enum Inner {
    Done,
    Whole(Bytes),
    File(FileBody),
    Remote(RemoteBody),
}

impl ObjectBody {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self { len: bytes.len() as u64, inner: Inner::Whole(bytes) }
    }

    pub(crate) fn file(body: FileBody) -> Self {
        Self { len: body.len(), inner: Inner::File(body) }
    }

    pub(crate) fn remote(body: RemoteBody) -> Self {
        Self { len: body.len(), inner: Inner::Remote(body) }
    }

    /// How many bytes the body has from its first to its last.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a length on the wire, not a collection")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Gathers the whole body in one buffer.
    ///
    /// # Errors
    /// [`StorageError::TooLarge`] if the body has more than `limit_bytes`: found out from the announced length, before
    /// a byte is read. Else whatever ended the stream.
    pub async fn collect(mut self, limit_bytes: u64) -> Result<Bytes, StorageError> {
        let too_large = || StorageError::TooLarge { limit: limit_bytes };
        if self.len > limit_bytes {
            return Err(too_large());
        }
        let capacity = usize::try_from(self.len).map_err(|_| too_large())?;
        match std::mem::replace(&mut self.inner, Inner::Done) {
            Inner::Done => return Ok(Bytes::new()),
            Inner::Whole(bytes) => return Ok(bytes),
            Inner::File(body) if body.is_untouched() => return body.read_all().await,
            rest => self.inner = rest,
        }
        let mut gathered = BytesMut::with_capacity(capacity);
        while let Some(chunk) = self.next().await {
            let chunk = chunk?;
            if gathered.len() as u64 + chunk.len() as u64 > limit_bytes {
                return Err(too_large());
            }
            gathered.extend_from_slice(&chunk);
        }
        Ok(gathered.freeze())
    }
}

impl Stream for ObjectBody {
    type Item = Result<Bytes, StorageError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = match &mut self.inner {
            Inner::Done => return Poll::Ready(None),
            Inner::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.inner = Inner::Done;
                return Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)));
            }
            Inner::File(body) => body.poll_chunk(cx),
            Inner::Remote(body) => body.poll_chunk(cx),
        };
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.inner = Inner::Done;
        }
        polled
    }
}

impl fmt::Debug for ObjectBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectBody").field("len", &self.len).finish_non_exhaustive()
    }
}
