//! An HTTP/2 client that can misbehave: streams that are reset, windows that are never widened.
//!
//! Must not retry or pool: a test sees each stream's own fate.

use std::net::SocketAddr;

use anyhow::ensure;
use bytes::{Bytes, BytesMut};
use h2::client::{self, SendRequest};
use http::{Method, Request, header};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

pub use h2::{Reason, RecvStream};

use crate::http::{Response, within_limit};

/// One connection.
#[derive(Debug)]
pub struct Http2 {
    sender: SendRequest<Bytes>,
    driver: JoinHandle<Result<(), h2::Error>>,
    scheme: &'static str,
}

/// A request that was sent; dropping it resets the stream.
pub type Sent = client::ResponseFuture;

impl Http2 {
    /// Connects without TLS, knowing that the server speaks HTTP/2.
    ///
    /// # Errors
    /// If it does not.
    pub async fn open(server: SocketAddr) -> anyhow::Result<Self> {
        let stream = within_limit(async { Ok(TcpStream::connect(server).await?) }).await?;
        stream.set_nodelay(true)?;
        Self::over(stream, "http").await
    }

    /// Speaks over a stream, such as one of TLS.
    ///
    /// # Errors
    /// If the other side does not speak HTTP/2.
    pub async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        scheme: &'static str,
    ) -> anyhow::Result<Self> {
        let mut builder = client::Builder::new();
        // A million resets are what a test may be about.
        builder.max_concurrent_reset_streams(100_000).initial_window_size(64 * 1024);
        let (sender, connection) = within_limit(async { Ok(builder.handshake(stream).await?) }).await?;
        Ok(Self { sender, driver: tokio::spawn(connection), scheme })
    }

    /// Sends a request without a body. `authority` is the host, and the port if it has one.
    ///
    /// # Errors
    /// If the connection takes no more.
    pub async fn start(
        &mut self,
        method: Method,
        authority: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Sent> {
        let mut request = Request::builder().method(method).uri(format!("{}://{authority}{target}", self.scheme));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(())?;
        within_limit(async {
            futures_ready(&mut self.sender).await?;
            Ok(self.sender.send_request(request, true)?.0)
        })
        .await
    }

    /// `GET` with its whole answer.
    ///
    /// # Errors
    /// If there is none.
    pub async fn get(&mut self, authority: &str, target: &str) -> anyhow::Result<Response> {
        self.send(Method::GET, authority, target, &[]).await
    }

    /// A request without a body, and its whole answer.
    ///
    /// # Errors
    /// If there is none.
    pub async fn send(
        &mut self,
        method: Method,
        authority: &str,
        target: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Response> {
        let sent = self.start(method, authority, target, headers).await?;
        finish(sent).await
    }

    /// Waits for the end of the connection: in order, or with what the server said.
    ///
    /// # Errors
    /// If it does not end, or ended with an error.
    pub async fn ended(self) -> anyhow::Result<()> {
        let Self { sender, driver, .. } = self;
        let outcome = within_limit(async { Ok(driver.await?) }).await?;
        drop(sender);
        Ok(outcome?)
    }
}

async fn futures_ready(sender: &mut SendRequest<Bytes>) -> Result<(), h2::Error> {
    std::future::poll_fn(|context| sender.poll_ready(context)).await
}

/// Reads a whole answer, giving the server its window back as it is read.
///
/// # Errors
/// If the stream or its connection ends first, or the body has another length than was said.
pub async fn finish(sent: Sent) -> anyhow::Result<Response> {
    within_limit(async {
        let (head, mut stream) = sent.await?.into_parts();
        let mut body = BytesMut::new();
        while let Some(chunk) = stream.data().await {
            let chunk = chunk?;
            stream.flow_control().release_capacity(chunk.len())?;
            body.extend_from_slice(&chunk);
        }
        if let Some(said) = head.headers.get(header::CONTENT_LENGTH).filter(|_| !body.is_empty()) {
            ensure!(said.to_str()?.parse() == Ok(body.len()), "{} bytes of {said:?}", body.len());
        }
        Ok(Response { status: head.status, headers: head.headers, body: body.freeze() })
    })
    .await
}
