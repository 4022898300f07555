//! A small HTTP/1.1 client that sends what it is told.
//!
//! Must not be clever: the request target goes out byte for byte as given (no `..` resolved, nothing encoded), redirects
//! are not followed, nothing is decompressed. Every exchange has a time limit, so that a server that hangs fails a test
//! instead of stopping it.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// For one exchange, connecting and the body included. Longer than any deadline of the servers under test.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// What to send.
#[derive(Debug, Clone)]
pub struct Request {
    method: Method,
    target: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Request {
    /// Any method with any target. Without a `host` header of its own it gets the address of the server.
    #[must_use]
    pub fn new(method: Method, target: impl Into<String>) -> Self {
        Self { method, target: target.into(), headers: Vec::new(), body: Bytes::new() }
    }

    /// A `GET`.
    #[must_use]
    pub fn get(target: impl Into<String>) -> Self {
        Self::new(Method::GET, target)
    }

    /// A `HEAD`.
    #[must_use]
    pub fn head(target: impl Into<String>) -> Self {
        Self::new(Method::HEAD, target)
    }

    /// A `PUT`.
    #[must_use]
    pub fn put(target: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::new(Method::PUT, target) }
    }

    /// Replaces the body.
    #[must_use]
    pub fn body(self, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..self }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    fn to_hyper(&self, server: SocketAddr) -> anyhow::Result<hyper::Request<Full<Bytes>>> {
        let uri: Uri = self.target.parse().with_context(|| format!("`{}` is no target: use send_raw", self.target))?;
        ensure!(uri.to_string() == self.target, "`{}` would go out as `{uri}`: use send_raw", self.target);
        let mut request = hyper::Request::builder().method(self.method.clone()).uri(uri);
        for (name, value) in &self.headers {
            request =
                request.header(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_bytes(value.as_bytes())?);
        }
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request = request.header(header::HOST, server.to_string());
        }
        Ok(request.body(Full::new(self.body.clone()))?)
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Status code.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body as it was on the wire, transfer coding removed.
    pub body: Bytes,
}

impl Response {
    /// The first header of that name, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as text, lossily.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One keep-alive connection.
#[derive(Debug)]
pub struct Connection {
    server: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// If the server does not take the connection.
    pub async fn open(server: SocketAddr) -> anyhow::Result<Self> {
        let stream = within_limit(async {
            let stream = TcpStream::connect(server).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        Self::over(server, stream.await?).await
    }

    /// Speaks over a stream that is connected already, such as one of TLS.
    ///
    /// # Errors
    /// If the stream is of no use.
    pub async fn over(
        server: SocketAddr,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> anyhow::Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // How the connection ends shows in the answers.
        let driver = tokio::spawn(async move { drop(connection.await) });
        Ok(Self { server, sender, driver })
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// If the target cannot be sent as it is, or the connection ends before the answer does.
    pub async fn send(&mut self, request: &Request) -> anyhow::Result<Response> {
        let request = request.to_hyper(self.server)?;
        within_limit(async {
            self.sender.ready().await?;
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok(Response { status: head.status, headers: head.headers, body })
        })
        .await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Lets this process, and those that it starts from now on, have as many descriptors open as an ordinary user may. The usual
/// limit is too low for hundreds of clients in several tests at once.
///
/// # Panics
/// When the system refuses what it must allow.
pub fn allow_many_connections() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("up to the maximum it is allowed");
}

/// Sends one request on a connection of its own.
///
/// # Errors
/// As [`Connection::open`] and [`Connection::send`].
pub async fn send(server: SocketAddr, request: &Request) -> anyhow::Result<Response> {
    Connection::open(server).await?.send(request).await
}

/// `GET` on a connection of its own.
///
/// # Errors
/// As [`send`].
pub async fn get(server: SocketAddr, target: &str) -> anyhow::Result<Response> {
    send(server, &Request::get(target)).await
}

/// Writes these bytes, whatever they are, and reads one answer.
///
/// # Errors
/// If the connection ends, or time runs out, before there is a whole answer, or it is not HTTP/1.1.
pub async fn send_raw(server: SocketAddr, request: &[u8]) -> anyhow::Result<Response> {
    within_limit(async {
        let mut stream = TcpStream::connect(server).await?;
        // A server may answer and close before it has read everything.
        let _ = stream.write_all(request).await;
        let mut received = Vec::new();
        let head_end = loop {
            if let Some(at) = find(&received, b"\r\n\r\n") {
                break at + 4;
            }
            ensure!(stream.read_buf(&mut received).await? > 0, "closed after {} bytes of head", received.len());
        };
        let (status, headers) = parse_head(std::str::from_utf8(&received[..head_end])?)?;
        let mut body = received.split_off(head_end);
        let bodiless = request.starts_with(b"HEAD ")
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        let chunked = headers.get(header::TRANSFER_ENCODING).is_some_and(|value| value.as_bytes() == b"chunked");
        loop {
            if bodiless {
                body.clear();
                break;
            }
            if let Some(length) = length.filter(|length| body.len() >= *length) {
                body.truncate(length);
                break;
            }
            if chunked && let Some(whole) = dechunk(&body)? {
                body = whole;
                break;
            }
            if stream.read_buf(&mut body).await? == 0 {
                ensure!(length.is_none() && !chunked, "closed after {} bytes of body", body.len());
                break;
            }
        }
        Ok(Response { status, headers, body: body.into() })
    })
    .await
}

/// Splits an absolute `http://ADDRESS/…` URL into the server and the request target. The address must be numeric.
///
/// # Errors
/// If it is another kind of URL.
pub fn split_url(url: &str) -> anyhow::Result<(SocketAddr, String)> {
    let rest = url.strip_prefix("http://").with_context(|| format!("`{url}` is not http://"))?;
    let path_at = rest.find('/').unwrap_or(rest.len());
    let target = if path_at == rest.len() { "/" } else { &rest[path_at..] };
    Ok((rest[..path_at].parse().with_context(|| format!("no numeric address in `{url}`"))?, target.to_owned()))
}

pub(crate) async fn within_limit<T>(exchange: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    match tokio::time::timeout(TIME_LIMIT, exchange).await {
        Ok(outcome) => outcome,
        Err(_) => bail!("no answer within {TIME_LIMIT:?}"),
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn parse_head(head: &str) -> anyhow::Result<(StatusCode, HeaderMap)> {
    let mut lines = head.trim_end().split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let code = status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let status = code.with_context(|| format!("`{status_line}` is not a status line"))?.parse()?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').with_context(|| format!("`{line}` is not a header"))?;
        headers.append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value.trim())?);
    }
    Ok((status, headers))
}

/// The body within a chunked one (RFC 9112 §7.1); `None` while it is incomplete. Trailers are not understood.
fn dechunk(mut rest: &[u8]) -> anyhow::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    while let Some(line_end) = find(rest, b"\r\n") {
        let size = std::str::from_utf8(&rest[..line_end])?.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).with_context(|| format!("`{size}` is not the size of a chunk"))?;
        rest = &rest[line_end + 2..];
        if rest.len() < size + 2 {
            return Ok(None);
        }
        if size == 0 {
            return Ok(Some(body));
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
    Ok(None)
}
