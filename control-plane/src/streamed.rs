//! Answers whose bodies come while they are sent.

use rocket::response::Builder;
use rocket::tokio::io::AsyncRead;

/// Bytes that are handed on at a time: with fewer, half of the time goes into handing them on.
const PIECE_BYTES: usize = 64 << 10;

/// Sets a body that comes while it is sent. If it fails, the connection is cut, so that nobody takes what came for all.
pub fn streamed<'r>(response: &mut Builder<'r>, body: impl AsyncRead + Send + 'r) {
    response.streamed_body(body).max_chunk_size(PIECE_BYTES);
}
