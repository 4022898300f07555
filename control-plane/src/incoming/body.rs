//! Bodies of requests that bring bytes of an upload, piece by piece.
//!
//! Must not hold more than a piece, and must not wait for ever for the next one.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, stream};
use rocket::data::{Data, DataStream};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout_at};

use crate::problem::ApiError;

/// Bytes of a piece.
const PIECE_BYTES: usize = 64 * 1024;

/// How long a client may send nothing.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A body.
pub(super) struct Body<'r> {
    stream: DataStream<'r>,
    /// By when the next byte has to be there.
    until: Instant,
}

impl<'r> Body<'r> {
    /// So many bytes of it, and one more if there is one.
    pub(super) fn open(data: Data<'r>, bytes_max: u64) -> Self {
        Self { stream: data.open(bytes_max.saturating_add(1).into()), until: Instant::now() + PAUSE_MAX }
    }

    /// Reads into the room that is left in a buffer; how much that was, which is 0 at the end. Nothing is lost when this is dropped.
    ///
    /// # Errors
    /// [`ApiError::BodyCut`] and [`ApiError::UploadTime`].
    pub(super) async fn read(&mut self, into: &mut BytesMut) -> Result<usize, ApiError> {
        let room = into.capacity() - into.len();
        let mut limited = into.limit(room.min(PIECE_BYTES));
        let read = timeout_at(self.until, self.stream.read_buf(&mut limited)).await;
        let read = read.map_err(|_| ApiError::UploadTime)?.map_err(|_| ApiError::BodyCut)?;
        self.until = Instant::now() + PAUSE_MAX;
        Ok(read)
    }

    /// All of it, as it comes.
    pub(super) fn pieces(self) -> impl Stream<Item = Result<Bytes, ApiError>> + Send + use<'r> {
        stream::try_unfold(self, async |mut body| {
            let mut piece = BytesMut::with_capacity(PIECE_BYTES);
            let read = body.read(&mut piece).await?;
            Ok((read > 0).then(|| (piece.freeze(), body)))
        })
    }
}
