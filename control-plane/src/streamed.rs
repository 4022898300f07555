//! Answers whose bodies come while they are sent.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::Stream;
use rocket::response::Builder;
use rocket::tokio::io::{AsyncRead, ReadBuf};

/// Bytes that are handed on at a time: with fewer, half of the time goes into handing them on.
const PIECE_BYTES: usize = 64 << 10;

/// Sets a body that comes while it is sent, piece by piece. If it fails, the connection is cut, so that nobody takes what came for all.
pub fn streamed<'r, E>(response: &mut Builder<'r>, pieces: impl Stream<Item = Result<Bytes, E>> + Send + Unpin + 'r)
where
    E: Into<Box<dyn Error + Send + Sync>> + 'r,
{
    response.streamed_body(Reader { pieces, piece: Bytes::new() }).max_chunk_size(PIECE_BYTES);
}

/// Pieces, read as one.
struct Reader<S> {
    pieces: S,
    piece: Bytes,
}

impl<S, E> AsyncRead for Reader<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.piece.is_empty() {
            match ready!(Pin::new(&mut self.pieces).poll_next(cx)) {
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let bytes = self.piece.len().min(into.remaining());
        into.put_slice(&self.piece[..bytes]);
        self.piece.advance(bytes);
        Poll::Ready(Ok(()))
    }
}
