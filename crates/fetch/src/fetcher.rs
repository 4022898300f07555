//! The client: one request, its redirects, and what its answer means; or one that posts, without redirects.
//!
//! One fetcher has one rule and one list of private hosts, and connections of its own: what one tenant may reach must not
//! be reached by another over a connection that is already there.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{timeout, timeout_at};
use url::Url;

use crate::body::BodyLimits;
use crate::connect::Connector;
use crate::decode::Decoder;
use crate::{
    Body, FetchError, Meta, PostOptions, Posted, PrivateHosts, Range, Resolve, Response, SystemResolver, Validators,
    head, marker, target, tls, trace,
};

/// Redirects that are followed.
const REDIRECTS_MAX: usize = 3;

/// Header lines of an answer.
const HEADER_LINES_MAX: usize = 100;

/// Idle connections that are kept to one host.
const IDLE_MAX: usize = 8;

/// How long they are kept.
const IDLE_TIME: Duration = Duration::from_secs(30);

const USER_AGENT: HeaderValue = HeaderValue::from_static("Calotype");

/// Which URLs may be fetched; asked for the first one and for each that a redirect leads to.
pub type UrlRule = Arc<dyn Fn(&Url) -> bool + Send + Sync>;

/// What a fetcher may do.
#[derive(Clone)]
pub struct FetchConfig {
    /// Which URLs, beside what is never fetched.
    pub rule: UrlRule,
    /// Ports beside 80 and 443.
    pub ports: Vec<u16>,
    /// Hosts and addresses that may be private.
    pub private: PrivateHosts,
    /// Sent with every request to the scheme, host and port that a fetch begins with, and to no other.
    pub headers: HeaderMap,
    /// How patiently.
    pub limits: FetchLimits,
    /// Who looks names up.
    pub resolver: Arc<dyn Resolve>,
}

impl FetchConfig {
    /// Public hosts only, ports 80 and 443, no headers, default limits, the system's resolver.
    #[must_use]
    pub fn new(rule: UrlRule) -> Self {
        Self {
            rule,
            ports: Vec::new(),
            private: PrivateHosts::default(),
            headers: HeaderMap::new(),
            limits: FetchLimits::default(),
            resolver: Arc::new(SystemResolver),
        }
    }

    /// Whether a URL would be asked for, as far as its text tells: its host's addresses are looked at when it is connected to.
    ///
    /// # Errors
    /// [`FetchError::Url`], [`FetchError::AddressRefused`] and [`FetchError::NotAllowed`].
    pub fn check(&self, url: &Url) -> Result<(), FetchError> {
        target::check(url, &self.ports, &self.private)?;
        if (self.rule)(url) { Ok(()) } else { Err(FetchError::NotAllowed) }
    }
}

/// Limits on each request. All of them are more than 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchLimits {
    /// For the name and the connection; default 3 s.
    pub connect_timeout: Duration,
    /// From the request, connecting included, to the header of the answer; default 8 s. What is posted has a deadline instead.
    pub head_timeout: Duration,
    /// Within which a waiting body must make progress, a kilobyte of it; default 5 s.
    pub stall_timeout: Duration,
    /// Size of the header of an answer; default 64 KiB, at least 8 KiB.
    pub header_bytes: usize,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            head_timeout: Duration::from_secs(8),
            stall_timeout: Duration::from_secs(5),
            header_bytes: 64 * 1024,
        }
    }
}

/// How to fetch.
#[derive(Debug, Clone)]
pub struct GetOptions {
    /// Largest body in bytes, announced or not, compressed or not.
    pub bytes_max: u64,
    /// Only these bytes. A server that cannot serve ranges answers with the whole.
    pub range: Option<Range>,
    /// Only if the resource differs from what the caller has; else [`FetchError::NotModified`].
    pub if_changed: Option<Validators>,
    /// When the whole, body included, must have come.
    pub deadline: Option<Instant>,
}

impl GetOptions {
    /// All of it, always, up to so many bytes.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, range: None, if_changed: None, deadline: None }
    }
}

/// The guarded client. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Fetcher(Arc<Inner>);

struct Inner {
    client: Client<HttpsConnector<Connector>, Full<Bytes>>,
    config: FetchConfig,
}

impl Fetcher {
    /// A client with these rights. Its connections belong to the runtime that it is used on.
    #[must_use]
    pub fn new(config: FetchConfig) -> Self {
        let connector = Connector {
            resolver: Arc::clone(&config.resolver),
            private: config.private.clone(),
            time_limit: config.limits.connect_timeout,
        };
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls::client_config())
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE_MAX)
            .pool_idle_timeout(IDLE_TIME)
            .pool_timer(TokioTimer::new())
            .http1_max_buf_size(config.limits.header_bytes.max(8192))
            .http1_max_headers(HEADER_LINES_MAX)
            .build(https);
        Self(Arc::new(Inner { client, config }))
    }

    /// Fetches a resource. When this returns, the header has come and the body waits to be read.
    ///
    /// # Errors
    /// [`FetchError`]; [`FetchError::NotModified`] and [`FetchError::RangeNotSatisfiable`] only if `options` asks for them.
    pub async fn get(&self, url: &Url, options: &GetOptions) -> Result<Response, FetchError> {
        let answer = self.answer(&Method::GET, url, options).await?;
        accept(answer, options, self.0.config.limits.stall_timeout)
    }

    /// What the server says of a resource, without its bytes. Range and condition of `options` are not used. A server
    /// that does not know `HEAD` is asked with `GET`, and the connection is cut.
    ///
    /// # Errors
    /// As [`Fetcher::get`].
    pub async fn head(&self, url: &Url, options: &GetOptions) -> Result<Meta, FetchError> {
        let options = GetOptions { range: None, if_changed: None, ..options.clone() };
        let answer = self.answer(&Method::HEAD, url, &options).await?;
        match answer.status() {
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => Ok(self.get(url, &options).await?.meta),
            StatusCode::OK => {
                let size = head::content_length(answer.headers());
                let is_plain = Decoder::of(answer.headers())?.is_none();
                Ok(Meta { size: size.filter(|_| is_plain), ..head::meta(answer.headers()) })
            }
            status => Err(FetchError::Status(status)),
        }
    }

    /// Sends something to a URL. No redirect is followed; any status is an answer.
    ///
    /// # Errors
    /// [`FetchError`]: what the server has got of it is not known then.
    pub async fn post(&self, url: &Url, body: Bytes, options: &PostOptions) -> Result<Posted, FetchError> {
        self.0.config.check(url)?;
        let mut request = addressed(Method::POST, url, body)?;
        let headers = request.headers_mut();
        headers.extend(self.0.config.headers.clone());
        headers.extend(options.headers.clone());
        name_ourselves(headers);
        let limit = options.deadline.saturating_duration_since(Instant::now());
        let answer = self.ask(request, url, limit, |_| FetchError::Deadline).await?;
        Ok(Posted::read(answer, options).await)
    }

    /// The answer to one request to this URL, or what it is to be `late`.
    async fn ask(
        &self,
        mut request: Request<Full<Bytes>>,
        url: &Url,
        limit: Duration,
        late: fn(Duration) -> FetchError,
    ) -> Result<http::Response<Incoming>, FetchError> {
        let span = trace::span(request.method(), url);
        let asked = async {
            traces::inject(request.headers_mut());
            let answer = timeout(limit, self.0.client.request(request)).await;
            answer.map_err(|_| late(limit))?.map_err(FetchError::of_request)
        };
        let answer = span.over(asked).await;
        trace::ended(&span, &answer);
        answer
    }

    /// The answer after all redirects.
    async fn answer(
        &self,
        method: &Method,
        url: &Url,
        options: &GetOptions,
    ) -> Result<http::Response<Incoming>, FetchError> {
        let answer = self.follow(method, url, options);
        match options.deadline {
            Some(deadline) => timeout_at(deadline.into(), answer).await.unwrap_or(Err(FetchError::Deadline)),
            None => answer.await,
        }
    }

    async fn follow(
        &self,
        method: &Method,
        first: &Url,
        options: &GetOptions,
    ) -> Result<http::Response<Incoming>, FetchError> {
        let mut url = first.clone();
        for _ in 0..=REDIRECTS_MAX {
            self.0.config.check(&url)?;
            let own_headers = (url.origin() == first.origin()).then_some(&self.0.config.headers);
            let request = request(method.clone(), &url, own_headers, options)?;
            let limit = self.0.config.limits.head_timeout;
            let answer = self.ask(request, &url, limit, |limit| FetchError::TimedOut { limit }).await?;
            match answer.status().as_u16() {
                301 | 302 | 303 | 307 | 308 => url = target::redirect(&url, answer.headers())?,
                _ => return Ok(answer),
            }
        }
        Err(FetchError::TooManyRedirects { limit: REDIRECTS_MAX })
    }
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No headers: they may be secrets.
        f.debug_struct("Fetcher").field("private", &self.0.config.private).finish_non_exhaustive()
    }
}

/// Nothing of a client's request goes into ours but the trace that it is part of: an answer depends on the URL alone.
fn request(
    method: Method,
    url: &Url,
    own_headers: Option<&HeaderMap>,
    options: &GetOptions,
) -> Result<Request<Full<Bytes>>, FetchError> {
    let mut request = addressed(method, url, Bytes::new())?;
    let headers = request.headers_mut();
    headers.extend(own_headers.cloned().unwrap_or_default());
    name_ourselves(headers);
    if let Some(range) = options.range {
        headers.insert(header::RANGE, HeaderValue::try_from(range.to_header()).expect("digits are allowed"));
    }
    if let Some(validators) = &options.if_changed {
        if let Some(etag) = validators.etag.as_deref().and_then(|etag| HeaderValue::from_str(etag).ok()) {
            headers.insert(header::IF_NONE_MATCH, etag);
        }
        if let Some(date) = validators.last_modified.map(httpdate::fmt_http_date) {
            headers.insert(header::IF_MODIFIED_SINCE, HeaderValue::try_from(date).expect("a date is plain ASCII"));
        }
    }
    Ok(request)
}

fn addressed(method: Method, url: &Url, body: Bytes) -> Result<Request<Full<Bytes>>, FetchError> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = url.as_str().parse().map_err(|_| FetchError::Url { reason: "it cannot be asked for" })?;
    Ok(request)
}

/// What every request of ours says of itself and of what it takes.
fn name_ourselves(headers: &mut HeaderMap) {
    headers.insert(header::USER_AGENT, USER_AGENT);
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(marker::NAME, marker::VALUE);
}

/// What an answer means.
fn accept(answer: http::Response<Incoming>, options: &GetOptions, stall: Duration) -> Result<Response, FetchError> {
    let headers = answer.headers();
    let mut meta = head::meta(headers);
    let range = match (answer.status(), options.range) {
        (StatusCode::OK, _) => None,
        (StatusCode::PARTIAL_CONTENT, Some(asked)) => Some(head::content_range(headers, asked)?),
        (StatusCode::PARTIAL_CONTENT, None) => {
            return Err(FetchError::bad_answer("a part, where the whole was asked for"));
        }
        (StatusCode::NOT_MODIFIED, _) if options.if_changed.is_some() => {
            return Err(FetchError::NotModified(Box::new(meta)));
        }
        (StatusCode::RANGE_NOT_SATISFIABLE, Some(_)) => {
            return Err(FetchError::RangeNotSatisfiable { size: head::unsatisfied_size(headers) });
        }
        (status, _) => return Err(FetchError::Status(status)),
    };
    if options.if_changed.as_ref().is_some_and(|ours| ours.same_tag(&meta)) {
        return Err(FetchError::NotModified(Box::new(meta)));
    }
    let decoder = Decoder::of(headers)?;
    let announced = answer.body().size_hint().exact();
    let expected = match range {
        Some(_) if decoder.is_some() => {
            return Err(FetchError::Encoding { source: "a range of a compressed body".into() });
        }
        Some((range, size)) => {
            meta.size = Some(size);
            Some(range.last - range.first + 1)
        }
        None => {
            meta.size = announced.filter(|_| decoder.is_none());
            announced
        }
    };
    let limit = options.bytes_max;
    if expected.into_iter().chain(announced).any(|bytes| bytes > limit) {
        return Err(FetchError::TooLarge { limit });
    }
    let limits = BodyLimits { bytes: limit, stall, deadline: options.deadline.map(Into::into) };
    let body = Body::new(answer.into_body(), decoder, expected, limits);
    Ok(Response { meta, range: range.map(|(range, _)| range), body })
}
