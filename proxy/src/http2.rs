//! HTTP/2: what one connection may ask of the edge.
//!
//! Must not know how a stream is answered; it is a request like any other. What bounds a hostile client: streams at a
//! time and the size of headers are set here. The library ends a connection over more than 20 streams that were reset
//! before they were looked at, over headers in too many `CONTINUATION` frames, and over 1,024 errors of its own making;
//! Pingora over 32 malformed requests. `server.rs` drops the work for a stream that was reset.

use std::time::Duration;

use bytes::Bytes;
use pingora_core::apps::HttpServerOptions;
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::{ErrorType, Result};
use pingora_proxy::Session;

use crate::connections::Connections;

/// Requests that one connection may have running; as many as browsers ask for.
const STREAMS_MAX: u32 = 100;

/// Headers of one request, decoded.
const HEADER_LIST_BYTES_MAX: u32 = 32 * 1024;

/// Frames of one stream that wait for the client, as long as it does not read.
const SEND_BUFFER_BYTES_MAX: usize = 128 * 1024;

/// Parts of a body that a client is given a time for, each.
const PART_BYTES: usize = 64 * 1024;

/// The limits of one connection.
pub fn connection_options() -> H2Options {
    let mut options = H2Options::default();
    options
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_send_buffer_size(SEND_BUFFER_BYTES_MAX);
    options
}

/// Adds HTTP/2 to a server. `h2c` adds it where there is no TLS, too; a connection without a running request is closed
/// after `idle`, as one of HTTP/1.1 is.
pub fn serve(options: &mut HttpServerOptions, h2c: bool, idle: Duration) {
    options.h2c = h2c;
    options.h2_idle_timeout = Some(idle);
}

/// Writes a part of a body, over whichever protocol. A client may hold back one stream and take the others, which only the
/// stream knows; how a connection goes is watched by [`Connections`].
///
/// # Errors
/// When the client is gone, or takes too long.
pub async fn write_body(
    session: &mut Session,
    mut body: Bytes,
    is_last: bool,
    connections: &Connections,
) -> Result<()> {
    if !session.is_http2() {
        return session.write_response_body(Some(body), is_last).await;
    }
    loop {
        let part = body.split_to(body.len().min(PART_BYTES));
        session.set_write_timeout(Some(connections.stream_time(part.len())));
        let written = session.write_response_body(Some(part), is_last && body.is_empty()).await;
        if let Err(error) = &written
            && *error.root_etype() == ErrorType::WriteTimedout
        {
            connections.count_slow_stream();
        }
        written?;
        if body.is_empty() {
            return Ok(());
        }
    }
}
