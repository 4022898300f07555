//! HTTP as a client, over http and https: each request on a connection of its own.
//!
//! Must not follow redirects or use proxies of the environment: a key goes where it was sent and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue, RETRY_AFTER};
use hyper::http::uri::{Authority, Scheme};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// How long a connection may take, its TLS included.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Longest answer that is read, in bytes: a page of media with all that is said of them.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Where requests go.
#[derive(Debug, Clone)]
pub struct Server {
    is_tls: bool,
    authority: Authority,
    base: String,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// When it may be asked again, if it says so.
    pub retry_after: Option<Duration>,
    body: Bytes,
}

/// A refusal (RFC 9457).
#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: String,
}

impl Server {
    /// Reads a base URL, such as `http://127.0.0.1:8000`.
    ///
    /// # Errors
    /// When it is no URL of http or https, or has more than a host and a path.
    pub fn parse(url: &str) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().context("the URL cannot be read")?;
        let is_tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => bail!("the URL does not start with http:// or https://"),
        };
        let authority = uri.authority().context("the URL has no host")?.clone();
        // Not shown: what is too much may be a password.
        let is_plain = !authority.as_str().contains('@') && uri.query().is_none();
        ensure!(is_plain, "the URL is more than a host and a path");
        Ok(Self { is_tls, authority, base: uri.path().trim_end_matches('/').to_owned() })
    }

    /// The URI for a path of this server.
    pub fn target(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Sends a request, whose target is one of [`Self::target`], and reads the whole answer. It has no limit in time but for the
    /// connection.
    ///
    /// # Errors
    /// When there is no answer, or one that is too long.
    pub async fn send<B>(&self, mut request: Request<B>) -> anyhow::Result<Answer>
    where
        B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    {
        let host = HeaderValue::from_str(self.authority.as_str()).context("the host cannot be sent")?;
        request.headers_mut().insert(HOST, host);
        let connected = timeout(CONNECT_LIMIT, self.connect()).await;
        let mut sender = connected.unwrap_or_else(|_| bail!("no connection within {CONNECT_LIMIT:?}"))?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!(error)).context("the answer cannot be read")?.to_bytes();
        Ok(Answer { status, retry_after: retry_after.map(Duration::from_secs), body })
    }

    async fn connect<B>(&self) -> anyhow::Result<SendRequest<B>>
    where
        B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + 'static,
    {
        // An IPv6 address stands in brackets.
        let host = self.authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = self.authority.port_u16().unwrap_or(if self.is_tls { 443 } else { 80 });
        let stream = TcpStream::connect((host, port)).await.context("cannot be reached")?;
        stream.set_nodelay(true)?;
        if !self.is_tls {
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            // Ends with the sender.
            tokio::spawn(connection);
            return Ok(sender);
        }
        let name = ServerName::try_from(host.to_owned()).context("no certificate is for such a host")?;
        let stream = TlsConnector::from(Arc::new(tls()?)).connect(name, stream).await.context("TLS")?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// TLS with the certificate authorities of the operating system; `SSL_CERT_FILE` and `SSL_CERT_DIR` name others.
fn tls() -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}

impl Answer {
    /// Its body, from JSON.
    ///
    /// # Errors
    /// When it is not what was expected.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> anyhow::Result<T> {
        serde_json::from_slice(&self.body).context("the answer is not understood")
    }

    /// Its body, as text.
    ///
    /// # Errors
    /// When it is none.
    pub fn text(&self) -> anyhow::Result<&str> {
        std::str::from_utf8(&self.body).context("the answer is no text")
    }

    /// Why it was refused, for people, with the stable code at its end.
    pub fn refusal(&self) -> String {
        match self.json::<Problem>() {
            Ok(problem) => printable(&format!("{} ({})", problem.detail, problem.code)),
            Err(_) => format!("answered {}", self.status),
        }
    }

    /// The stable code of a refusal.
    pub fn code(&self) -> Option<String> {
        self.json::<Problem>().ok().map(|problem| problem.code)
    }
}

/// A text of a server as a terminal may show it: it must not steer it.
pub fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { '\u{fffd}' } else { char }).collect()
}
