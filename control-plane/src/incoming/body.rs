//! Bodies of requests that bring bytes of an upload, piece by piece.
//!
//! Must not hold more than a piece, and must not wait for ever for the next one, nor for one that comes byte by byte.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, stream};
use rocket::data::{Data, DataStream};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout_at};

use crate::problem::ApiError;

/// Bytes of a piece.
const PIECE_BYTES: usize = 64 * 1024;

/// How fast a client has to send. Only the time counts for which it was waited for, and not what we have done meanwhile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// How long it may send nothing, and too little.
    patience: Duration,
    bytes_per_second: u64,
    received: u64,
    waited: Duration,
}

impl Pace {
    /// At least so many bytes in a second, but for so long.
    pub(super) fn new(patience: Duration, bytes_per_second: u64) -> Self {
        Self { patience, bytes_per_second, received: 0, waited: Duration::ZERO }
    }

    /// How long the next byte may take.
    fn left(&self) -> Duration {
        let earned = Duration::from_secs_f64(self.received as f64 / self.bytes_per_second as f64);
        (self.patience + earned).saturating_sub(self.waited).min(self.patience)
    }

    /// Bytes have come after such a time.
    fn add(&mut self, bytes: usize, waited: Duration) {
        self.received += bytes as u64;
        self.waited += waited;
    }
}

/// A body.
pub(super) struct Body<'r> {
    stream: DataStream<'r>,
    pace: Pace,
    /// Since when the next byte is waited for.
    waiting: Option<Instant>,
}

impl<'r> Body<'r> {
    /// So many bytes of it, and one more if there is one.
    pub(super) fn open(data: Data<'r>, bytes_max: u64, pace: Pace) -> Self {
        Self { stream: data.open(bytes_max.saturating_add(1).into()), pace, waiting: None }
    }

    /// Reads into the room that is left in a buffer; how much that was, which is 0 at the end. Nothing is lost when this is dropped.
    ///
    /// # Errors
    /// [`ApiError::BodyCut`] and [`ApiError::UploadTime`].
    pub(super) async fn read(&mut self, into: &mut BytesMut) -> Result<usize, ApiError> {
        let room = into.capacity() - into.len();
        let mut limited = into.limit(room.min(PIECE_BYTES));
        let since = *self.waiting.get_or_insert_with(Instant::now);
        let read = timeout_at(since + self.pace.left(), self.stream.read_buf(&mut limited)).await;
        let read = read.map_err(|_| ApiError::UploadTime)?.map_err(|_| ApiError::BodyCut)?;
        self.pace.add(read, since.elapsed());
        self.waiting = None;
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

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_sends_too_little_is_not_waited_for_and_who_sends_enough_may_pause() {
        let mut slow = Pace::new(30 * SECOND, 1000);
        for second in 0..30 {
            assert_eq!(slow.left(), (30 - second) * SECOND + second * SECOND / 1000);
            slow.add(1, SECOND);
        }
        assert!(slow.left() < SECOND);
        let mut steady = Pace::new(30 * SECOND, 1000);
        for _ in 0..1000 {
            steady.add(1000, SECOND);
            assert_eq!(steady.left(), 30 * SECOND);
        }
        // What it was ahead is its own, and a pause is never longer.
        steady.add(1_000_000, SECOND);
        assert_eq!(steady.left(), 30 * SECOND);
        steady.add(1, 29 * SECOND);
        assert_eq!(steady.left(), 30 * SECOND);
    }
}
