//! A web server for pages made in a test: entity tags, conditions, ranges, any status, with or without a length.
//!
//! Must not misbehave by itself: a [`FaultyRelay`](crate::faulty::FaultyRelay) in front does that. It remembers each
//! request, so that a test can look at what was sent.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// When every page was last changed.
const LAST_MODIFIED: HeaderValue = HeaderValue::from_static("Thu, 01 Jan 2026 00:00:00 GMT");

/// What a path is answered with.
#[derive(Debug, Clone)]
pub struct Page {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    has_length: bool,
}

impl Page {
    /// A success with these bytes.
    #[must_use]
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, headers: HeaderMap::new(), body: body.into(), has_length: true }
    }

    /// This status with these bytes.
    #[must_use]
    pub fn status(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self { status, ..Self::new(body) }
    }

    /// Adds a header.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(HeaderName::from_static(name), value.parse().expect("a value of a header"));
        self
    }

    /// Sends it in chunks, without telling how long it is.
    #[must_use]
    pub fn without_length(self) -> Self {
        Self { has_length: false, ..self }
    }

    /// The one that was given to it, else one of its bytes.
    fn etag(&self) -> HeaderValue {
        if let Some(given) = self.headers.get(header::ETAG) {
            return given.clone();
        }
        let sum = self.body.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
        HeaderValue::try_from(format!("\"{}-{sum:x}\"", self.body.len())).expect("letters and digits")
    }
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Method.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// Headers.
    pub headers: HeaderMap,
}

/// A running server on 127.0.0.1. Dropping it stops it.
#[derive(Debug)]
pub struct WebServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    pages: Mutex<BTreeMap<String, Page>>,
    seen: Mutex<Vec<Seen>>,
}

impl WebServer {
    /// Starts a server without pages on a free port.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start() -> std::io::Result<Self> {
        Self::serve(None).await
    }

    /// Starts one that speaks TLS, with a certificate for `name` that it has signed itself: the second value, as PEM.
    ///
    /// # Errors
    /// If no port can be had, or no certificate can be made for the name.
    pub async fn start_tls(name: &str) -> anyhow::Result<(Self, String)> {
        let made = rcgen::generate_simple_self_signed([name.to_owned()])?;
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)?;
        Ok((Self::serve(Some(TlsAcceptor::from(Arc::new(config)))).await?, made.cert.pem()))
    }

    async fn serve(tls: Option<TlsAcceptor>) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::<Shared>::default();
        let serving = tokio::spawn(run(listener, tls, Arc::clone(&shared)));
        Ok(Self { address, shared, serving })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers `target` (path and query, as they are sent) with `page` from now on.
    pub fn put(&self, target: &str, page: Page) {
        lock(&self.shared.pages).insert(target.to_owned(), page);
    }

    /// The requests that came, in order.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn run(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        connections.spawn(async move {
            match tls {
                None => converse(stream, &shared).await,
                // A client that does not trust us hangs up.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        converse(stream, &shared).await;
                    }
                }
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Shared) {
    let service = service_fn(|request| {
        let answer = respond(&request, shared);
        async move { Ok::<_, Infallible>(answer) }
    });
    // A client that hangs up is no matter.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

fn respond(request: &Request<Incoming>, shared: &Shared) -> Response<PageBody> {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let (method, headers) = (request.method().clone(), request.headers().clone());
    let page = lock(&shared.pages).get(&target).cloned();
    lock(&shared.seen).push(Seen { method, target, headers });
    let page = page.unwrap_or_else(|| Page::status(StatusCode::NOT_FOUND, "no such page"));
    let mut answer = Response::new(PageBody { rest: None, has_length: page.has_length });
    *answer.status_mut() = page.status;
    *answer.headers_mut() = page.headers.clone();
    let mut body = page.body.clone();
    if page.status == StatusCode::OK {
        answer.headers_mut().insert(header::ETAG, page.etag());
        answer.headers_mut().insert(header::LAST_MODIFIED, LAST_MODIFIED);
        if request.headers().get(header::IF_NONE_MATCH) == Some(&page.etag()) {
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            return answer;
        }
        if let Some(range) = request.headers().get(header::RANGE).filter(|_| page.has_length) {
            body = part(&mut answer, range, &body);
        }
    }
    if request.method() == Method::HEAD && page.has_length {
        answer.headers_mut().insert(header::CONTENT_LENGTH, body.len().into());
    } else if request.method() != Method::HEAD {
        answer.body_mut().rest = Some(body);
    }
    answer
}

/// Turns an answer into one with a part of the body.
fn part(answer: &mut Response<PageBody>, range: &HeaderValue, body: &Bytes) -> Bytes {
    let size = body.len();
    let text = range.to_str().ok().and_then(|text| text.strip_prefix("bytes=")?.split_once('-'));
    let (first, last) = match text {
        Some(("", count)) => (size.saturating_sub(count.parse().unwrap_or(0)), size),
        Some((first, last)) => (first.parse().unwrap_or(size), last.parse().map_or(size, |last: usize| last + 1)),
        None => return body.clone(),
    };
    let end = last.min(size);
    let content_range = if first < end {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        format!("bytes {first}-{}/{size}", end - 1)
    } else {
        *answer.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
        format!("bytes */{size}")
    };
    let content_range = HeaderValue::try_from(content_range).expect("digits are allowed");
    answer.headers_mut().insert(header::CONTENT_RANGE, content_range);
    if first < end { body.slice(first..end) } else { Bytes::new() }
}

/// A body in one piece, whose length may be kept from hyper.
struct PageBody {
    rest: Option<Bytes>,
    has_length: bool,
}

impl Body for PageBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.rest.take().filter(|rest| !rest.is_empty()).map(|rest| Ok(Frame::data(rest))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.rest {
            Some(rest) if !self.has_length && !rest.is_empty() => SizeHint::default(),
            rest => SizeHint::with_exact(rest.as_ref().map_or(0, |rest| rest.len() as u64)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
