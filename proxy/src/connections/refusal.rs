//! The answer to a header that never became a request.
//!
//! Must not wait for the client: it has had its time.

use std::time::Duration;

use http::StatusCode;
use pingora_core::protocols::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::ConnectionLimits;
use crate::problem;

/// Time for the answer to be sent and for the client to hang up.
const TIME_MAX: Duration = Duration::from_secs(2);

/// Most that is read and thrown away, so that the client gets to read the answer before the connection is reset.
const DISCARDED_BYTES_MAX: u64 = 256 * 1024;

/// Why a header is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    HeaderTooSlow,
    HeaderTooLarge,
}

/// Answers and closes. Whatever fails, fails because the client is gone.
pub(super) async fn answer(mut stream: Stream, why: Refusal, limits: &ConnectionLimits) {
    let text = text(why, limits);
    let exchange = async {
        stream.write_all(&text).await?;
        stream.flush().await?;
        AsyncWriteExt::shutdown(&mut stream).await?;
        tokio::io::copy(&mut (&mut stream).take(DISCARDED_BYTES_MAX), &mut tokio::io::sink()).await
    };
    let _ = timeout(TIME_MAX, exchange).await;
}

fn text(why: Refusal, limits: &ConnectionLimits) -> Vec<u8> {
    let (status, code, detail) = match why {
        Refusal::HeaderTooSlow => (
            StatusCode::REQUEST_TIMEOUT,
            "header-too-slow",
            format!("the request's header did not arrive within {} s", limits.header_time.as_secs()),
        ),
        Refusal::HeaderTooLarge => (
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "header-too-large",
            format!("the request's header has more than {} bytes", limits.header_bytes),
        ),
    };
    let body = problem::body(status, code, detail);
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {}\r\ncontent-length: {}\r\ncache-control: no-store\r\nconnection: close\r\n\r\n",
        problem::CONTENT_TYPE,
        body.len()
    );
    [head.into_bytes(), body].concat()
}
