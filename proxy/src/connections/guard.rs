//! A connection that is given up when its client holds it up: a header that does not end, an answer that is not taken.
//!
//! It knows of HTTP only that in HTTP/1 a header comes, then an answer goes: from a first byte that is read to a first
//! byte that is written, it is a header. HTTP/2 has limits of its own for headers.
//! Must not answer: the connection is handed back to whoever does.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use pingora_core::protocols::{ALPN, Shutdown, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

use super::ConnectionLimits;
use super::metrics::{ConnectionMetrics, Cut};
use super::refusal::Refusal;
use super::slow_reader::Patience;
use crate::passthrough::{pass_peek_through, pass_through};

/// Read beyond the largest header before it is given up: a URL that is too long, and a header that is a little too large,
/// are told so with everything that an answer has.
const HEADER_BYTES_MORE: usize = 64 * 1024;

/// How every HTTP/2 connection begins (RFC 9113, section 3.4). In HTTP/1 it is an error.
const HTTP_2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that was given up, to be answered, and why.
pub(super) type Refused = (Stream, Refusal);

/// A connection with limits.
#[derive(Debug)]
pub(super) struct GuardedStream {
    inner: Stream,
    limits: ConnectionLimits,
    reading: Reading,
    patience: Patience,
    /// Bytes that the kernel took.
    written: u64,
    /// `None` once the connection is given up.
    refuse: Option<oneshot::Sender<Refused>>,
    metrics: Arc<ConnectionMetrics>,
}

#[derive(Debug)]
enum Reading {
    /// Nothing has come since the last answer.
    Nothing,
    /// So much of a header has come. The clock starts when more of it has to be waited for.
    Header { bytes: usize, clock: Option<Pin<Box<Sleep>>> },
    /// HTTP/2.
    Frames,
}

impl GuardedStream {
    /// Guards a new connection. If its header is given up, the connection is sent back, and reading never ends.
    pub(super) fn new(
        inner: Stream,
        limits: ConnectionLimits,
        metrics: Arc<ConnectionMetrics>,
    ) -> (Self, oneshot::Receiver<Refused>) {
        let (refuse, refused) = oneshot::channel();
        let is_http_2 = matches!(inner.selected_alpn_proto(), Some(ALPN::H2));
        let reading = if is_http_2 { Reading::Frames } else { Reading::Nothing };
        let patience = Patience::new(limits.send_time, limits.send_bytes_per_second);
        (Self { inner, limits, reading, patience, written: 0, refuse: Some(refuse), metrics }, refused)
    }

    /// Bytes have come; true when they are too many for a header.
    fn is_too_large(&mut self, came: &[u8]) -> bool {
        match &mut self.reading {
            Reading::Nothing if came.starts_with(HTTP_2_PREFACE) => {
                self.reading = Reading::Frames;
                false
            }
            Reading::Nothing => {
                self.reading = Reading::Header { bytes: came.len(), clock: None };
                false
            }
            Reading::Header { bytes, .. } => {
                *bytes += came.len();
                *bytes > self.limits.header_bytes + HEADER_BYTES_MORE
            }
            Reading::Frames => false,
        }
    }

    /// Bytes have to be waited for; true when they have been for too long.
    fn is_too_slow(&mut self, context: &mut Context<'_>) -> bool {
        match &mut self.reading {
            Reading::Header { clock, .. } => {
                let clock = clock.get_or_insert_with(|| Box::pin(sleep(self.limits.header_time)));
                clock.as_mut().poll(context).is_ready()
            }
            Reading::Nothing | Reading::Frames => false,
        }
    }

    fn refuse(&mut self, why: Refusal) {
        if let Some(refuse) = self.refuse.take() {
            let (nothing, _) = tokio::io::duplex(1);
            let stream = std::mem::replace(&mut self.inner, Box::new(nothing));
            // Nobody waits for it when the server ends; then it is just closed.
            let _ = refuse.send((stream, why));
        }
    }

    /// Before a write: the header, if there was one, has come.
    fn begin_write(&mut self) {
        if matches!(self.reading, Reading::Header { .. }) {
            self.reading = Reading::Nothing;
        }
    }

    /// After a write: an error instead of waiting any longer for a client that takes nothing.
    fn end_write<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.patience.resume();
            return written;
        }
        let (inner, written_bytes) = (&self.inner, self.written);
        let taken = || {
            let acknowledged = inner.get_socket_digest().and_then(|digest| digest.tcp_info());
            acknowledged.map_or(written_bytes, |info| info.tcpi_bytes_acked)
        };
        if self.patience.is_exhausted(context, taken) {
            self.metrics.cut(Cut::SlowReader);
            let error = io::Error::new(io::ErrorKind::TimedOut, "the client takes its answer too slowly");
            return Poll::Ready(Err(error));
        }
        Poll::Pending
    }

    fn end_write_of_bytes(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &written {
            self.written += *count as u64;
        }
        self.end_write(context, written)
    }
}

impl AsyncRead for GuardedStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.refuse.is_none() {
            return Poll::Pending;
        }
        let before = into.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(context, into);
        let refusal = match &read {
            Poll::Ready(Ok(())) if into.filled().len() > before => {
                this.is_too_large(&into.filled()[before..]).then_some(Refusal::HeaderTooLarge)
            }
            Poll::Pending => this.is_too_slow(context).then_some(Refusal::HeaderTooSlow),
            Poll::Ready(_) => None,
        };
        match refusal {
            Some(why) => {
                this.refuse(why);
                Poll::Pending
            }
            None => read,
        }
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.begin_write();
        let written = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.end_write_of_bytes(context, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.begin_write();
        let written = Pin::new(&mut this.inner).poll_write_vectored(context, slices);
        this.end_write_of_bytes(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.inner).poll_flush(context);
        this.end_write(context, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let closed = Pin::new(&mut this.inner).poll_shutdown(context);
        this.end_write(context, closed)
    }
}

#[async_trait]
impl Shutdown for GuardedStream {
    async fn shutdown(&mut self) {
        Shutdown::shutdown(&mut *self.inner).await;
    }
}

pass_through!(GuardedStream);
pass_peek_through!(GuardedStream);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::Registry;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    const LIMITS: ConnectionLimits = ConnectionLimits {
        max: 1,
        per_address: 0,
        header_time: Duration::from_secs(10),
        header_bytes: 1000,
        send_time: Duration::from_secs(30),
        send_bytes_per_second: 100,
    };

    struct Rig {
        client: DuplexStream,
        server: GuardedStream,
        refused: oneshot::Receiver<Refused>,
    }

    fn rig() -> Rig {
        let (near, client) = tokio::io::duplex(4096);
        let metrics = Arc::new(ConnectionMetrics::new(&Registry::new()).expect("the names are free"));
        let (server, refused) = GuardedStream::new(Box::new(near), LIMITS, metrics);
        Rig { client, server, refused }
    }

    impl Rig {
        /// Reads until the connection is given up.
        async fn why_refused(&mut self) -> Refusal {
            let mut buffer = vec![0; 1000];
            loop {
                tokio::select! {
                    biased;
                    refused = &mut self.refused => return refused.expect("told why").1,
                    read = self.server.read(&mut buffer) => assert!(read.expect("the client is there") > 0),
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_trickles_is_given_up_in_time() {
        let mut rig = rig();
        let trickle = async {
            loop {
                rig.client.write_all(b"X").await.expect("is read");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let begun = tokio::time::Instant::now();
        let mut buffer = [0; 10];
        let read = async {
            loop {
                tokio::select! {
                    biased;
                    refused = &mut rig.refused => return refused.expect("told why").1,
                    _ = rig.server.read(&mut buffer) => {}
                }
            }
        };
        let why = tokio::select! { () = trickle => unreachable!("it is endless"), why = read => why };
        assert_eq!(why, Refusal::HeaderTooSlow);
        assert_eq!(begun.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_without_end_is_given_up_at_its_size() {
        let mut rig = rig();
        let mut client = std::mem::replace(&mut rig.client, tokio::io::duplex(1).0);
        let endless = tokio::spawn(async move { while client.write_all(&[b'x'; 512]).await.is_ok() {} });
        assert_eq!(rig.why_refused().await, Refusal::HeaderTooLarge);
        endless.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn neither_a_pause_nor_what_was_sent_before_counts() {
        let mut rig = rig();
        let (mut request, mut answer) = (vec![b'x'; 1000], vec![0; 100]);
        for _ in 0..100 {
            rig.client.write_all(&request).await.expect("is read");
            rig.server.read_exact(&mut request).await.expect("was sent");
            // A fill takes longer than any header may.
            tokio::time::sleep(Duration::from_secs(60)).await;
            rig.server.write_all(&answer).await.expect("is read");
            rig.client.read_exact(&mut answer).await.expect("was sent");
            // The next request is long in coming.
            let idle = tokio::time::timeout(Duration::from_secs(60), rig.server.read(&mut request)).await;
            assert!(idle.is_err(), "nothing was sent");
        }
        assert!(rig.refused.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn http_2_has_limits_of_its_own() {
        let mut rig = rig();
        let mut client = std::mem::replace(&mut rig.client, tokio::io::duplex(1).0);
        let sent = tokio::spawn(async move {
            client.write_all(HTTP_2_PREFACE).await.expect("is read");
            client.write_all(&vec![0; 200_000]).await.expect("is read");
        });
        let mut received = vec![0; 200_000 + HTTP_2_PREFACE.len()];
        rig.server.read_exact(&mut received).await.expect("all of it");
        sent.await.expect("sent");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_an_error() {
        let mut rig = rig();
        let begun = tokio::time::Instant::now();
        let error = rig.server.write_all(&[0; 100_000]).await.expect_err("nobody reads");
        assert_eq!((error.kind(), begun.elapsed().as_secs()), (io::ErrorKind::TimedOut, 30));
    }
}
