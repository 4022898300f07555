//! The first bytes of a connection: looked at to tell HTTP/2 from HTTP/1.1 where both are spoken, and waited for only so
//! long.
//!
//! Pingora's own look waits for as many bytes as HTTP/2's preface has, which a short HTTP/1.0 request does not have, and
//! neither it nor the HTTP/2 handshake ever gives up. Must not matter once those bytes have been read.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::time::{Sleep, sleep};

/// What a client that speaks HTTP/2 sends first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// As long as Pingora waits for the head of an HTTP/1.1 request.
const LIMIT: Duration = Duration::from_secs(60);

/// How much of the beginning has been read, and what of it was only looked at.
#[derive(Debug)]
pub struct FirstBytes {
    looked_at: BytesMut,
    missing: usize,
    /// Made with the first wait: most connections begin with all of it.
    wait: Option<Pin<Box<Sleep>>>,
    limit: Duration,
}

impl Default for FirstBytes {
    fn default() -> Self {
        Self::within(LIMIT)
    }
}

impl FirstBytes {
    fn within(limit: Duration) -> Self {
        Self { looked_at: BytesMut::new(), missing: PREFACE.len(), wait: None, limit }
    }

    /// Reads from `inner`, what was looked at first.
    pub fn poll_read<R: AsyncRead + Unpin>(
        &mut self,
        inner: &mut R,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.looked_at.is_empty() {
            let count = self.looked_at.len().min(into.remaining());
            into.put_slice(&self.looked_at[..count]);
            self.looked_at.advance(count);
            return Poll::Ready(Ok(()));
        }
        if self.missing == 0 {
            return Pin::new(inner).poll_read(context, into);
        }
        let before = into.filled().len();
        let read = Pin::new(inner).poll_read(context, into);
        if read.is_pending() {
            let limit = self.limit;
            let wait = self.wait.get_or_insert_with(|| Box::pin(sleep(limit)));
            ready!(wait.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.missing = self.missing.saturating_sub(into.filled().len() - before);
        if self.missing == 0 {
            self.wait = None;
        }
        read
    }

    /// Fills `into` with the beginning, or with as much of it as shows that it is no HTTP/2. Reading gives it again.
    ///
    /// # Errors
    /// When the connection ends before, or takes too long.
    pub async fn look<R: AsyncRead + Unpin>(&mut self, inner: &mut R, into: &mut [u8]) -> io::Result<()> {
        let mut found = BytesMut::with_capacity(into.len());
        while found.len() < into.len() && PREFACE.starts_with(&found) {
            let mut rest = Rest { first: self, inner }.take((into.len() - found.len()) as u64);
            if rest.read_buf(&mut found).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        into[..found.len()].copy_from_slice(&found);
        self.looked_at = found;
        Ok(())
    }
}

struct Rest<'a, R> {
    first: &'a mut FirstBytes,
    inner: &'a mut R,
}

impl<R: AsyncRead + Unpin> AsyncRead for Rest<'_, R> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.first.poll_read(this.inner, context, into)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// What a look at `sent` shows, and what is read afterwards.
    async fn look(sent: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (mut near, mut far) = tokio::io::duplex(1024);
        far.write_all(sent).await.expect("there is room");
        let mut first = FirstBytes::default();
        let mut shown = vec![0; PREFACE.len()];
        first.look(&mut near, &mut shown).await.expect("enough was sent");
        drop(far);
        let mut read = Vec::new();
        Rest { first: &mut first, inner: &mut near }.read_to_end(&mut read).await.expect("the pipe works");
        (shown, read)
    }

    #[tokio::test]
    async fn what_was_looked_at_is_read_afterwards() {
        for sent in [&b"GET / HTTP/1.0\r\n\r\n"[..], b"PUT", b"PRI * HTTP/1.1", &[PREFACE, b"more"].concat()] {
            let (shown, read) = look(sent).await;
            assert_eq!(read, sent);
            assert_eq!(shown == PREFACE, sent.starts_with(PREFACE));
        }
    }

    #[tokio::test]
    async fn a_connection_that_ends_too_early_is_an_error() {
        let (mut near, mut far) = tokio::io::duplex(1024);
        far.write_all(&PREFACE[..5]).await.expect("there is room");
        drop(far);
        let mut shown = [0; 24];
        let error = FirstBytes::default().look(&mut near, &mut shown).await.expect_err("it ended");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn one_that_says_nothing_is_given_up() {
        let (mut near, mut far) = tokio::io::duplex(1024);
        far.write_all(&PREFACE[..5]).await.expect("there is room");
        let mut shown = [0; 24];
        let error =
            FirstBytes::within(Duration::ZERO).look(&mut near, &mut shown).await.expect_err("it takes too long");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
