//! The edge on Pingora: one request filter that always answers itself, and the access event afterwards.
//!
//! Must not decide what is answered. See ARCHITECTURE.md for why nothing of pingora-cache is used.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use http::header;
use pingora_core::modules::http::HttpModules;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_proxy::{ProxyHttp, Session};
use tokio::sync::mpsc;
use traces::Span;

use crate::access::{AccessEvent, AccessLog, timestamp};
use crate::client::TrustedProxies;
use crate::connections::Connections;
use crate::drain::Drain;
use crate::edge::{Answer, Edge, Facts};
use crate::http2;
use crate::reply::{self, Reply};
use crate::request_span;

/// Longest part of a target or `User-Agent` in an access event, in bytes.
const SHOWN_BYTES_MAX: usize = 512;

/// The edge as Pingora calls it.
pub struct EdgeServer {
    edge: Edge,
    access: Arc<AccessLog>,
    drain: Arc<Drain>,
    clients: Clients,
    ids: RequestIds,
}

/// What the server does with clients beside answering them.
pub struct Clients {
    /// Who may name them.
    pub trusted: Arc<TrustedProxies>,
    /// Whether traces that they have begun are gone on with.
    pub trust_traces: bool,
    /// How long their connections are kept between two requests.
    pub idle_seconds: u64,
    /// What they are held to.
    pub connections: Arc<Connections>,
}

impl EdgeServer {
    /// A server for this edge.
    pub fn new(edge: Edge, access: Arc<AccessLog>, drain: Arc<Drain>, clients: Clients) -> Self {
        Self { edge, access, drain, clients, ids: RequestIds::new() }
    }
}

/// What is kept from a request's start to its access event.
pub struct RequestContext {
    started: Instant,
    span: Span,
    id: String,
    facts: Facts,
    code: Option<&'static str>,
    cause: Option<String>,
    /// Counts the request as running until the context is dropped.
    _running: crate::drain::Running,
}

#[async_trait]
impl ProxyHttp for EdgeServer {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        RequestContext {
            started: Instant::now(),
            span: Span::NONE,
            id: String::new(),
            facts: Facts::default(),
            code: None,
            cause: None,
            _running: self.drain.start_request(),
        }
    }

    // Pingora's default adds a compression module to each request; pictures are compressed already.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn upstream_peer(&self, _session: &mut Session, _context: &mut RequestContext) -> Result<Box<HttpPeer>> {
        Error::e_explain(ErrorType::InternalError, "the request filter answers every request")
    }

    async fn request_filter(&self, session: &mut Session, context: &mut RequestContext) -> Result<bool> {
        context.started = Instant::now();
        context.span = request_span::begin(session.req_header(), self.clients.trust_traces);
        context.id = self.ids.of_request(session);
        let peer = peer(session);
        context.facts.client = self.clients.trusted.client(peer, &session.req_header().headers);
        if self.drain.is_draining() {
            session.set_keepalive(None);
        } else if session.get_keepalive() == Some(0) {
            // Pingora keeps connections for ever; those that it does not keep are left as they are.
            session.set_keepalive(Some(self.clients.idle_seconds));
        }
        let span = context.span.clone();
        let answer = span.over(self.answer(session, context)).await?;
        // Pingora asks before the answer is made, which may take a while.
        if self.drain.is_draining() {
            session.set_keepalive(None);
        }
        // Whatever fails from here on fails on the client's connection.
        send(session, answer, context, &self.clients.connections).await.map_err(|error| error.into_down())?;
        Ok(true)
    }

    fn suppress_error_log(&self, _session: &Session, _context: &RequestContext, error: &Error) -> bool {
        *error.esource() == ErrorSource::Downstream
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, context: &mut RequestContext) {
        if let (Some(error), None) = (error, &context.cause) {
            context.cause = Some(error.to_string());
        }
        self.record(session, context);
    }
}

impl EdgeServer {
    /// The answer, unless the client resets the stream before it is there. Over HTTP/1.1 nobody can say that it no
    /// longer waits; over HTTP/2 a client that resets streams would else have any number of requests running.
    async fn answer(&self, session: &mut Session, context: &mut RequestContext) -> Result<Answer> {
        if !session.is_http2() {
            return Ok(self.edge.answer(session.req_header(), &mut context.facts).await);
        }
        let head = session.req_header().clone();
        let Some(reset) = session.watch_h2_stream_close() else {
            return Ok(self.edge.answer(&head, &mut context.facts).await);
        };
        tokio::select! {
            biased;
            answer = self.edge.answer(&head, &mut context.facts) => Ok(answer),
            _ = reset => Err(Error::explain(ErrorType::ConnectionClosed, "the client reset the stream").into_down()),
        }
    }

    fn record(&self, session: &Session, context: &RequestContext) {
        let (status, bytes) =
            (session.response_written().map_or(0, |response| response.status.as_u16()), session.body_bytes_sent());
        let tenant = context.facts.tenant.as_ref();
        if let Some(account) = tenant.and_then(|tenant| tenant.account.as_ref()) {
            account.answered(status, bytes as u64, context.facts.origination.is_hit());
        }
        let head = session.req_header();
        let (client, peer) = (context.facts.client, peer(session));
        let user_agent = head.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
        let target = String::from_utf8_lossy(head.raw_path());
        // Whole microseconds: more digits are noise.
        let millis = |duration: std::time::Duration| duration.as_micros() as f64 / 1000.0;
        let fill = context.facts.fill.as_ref();
        let event = AccessEvent {
            time: &timestamp(),
            event: "access",
            request_id: &context.id,
            trace_id: context.span.trace_id(),
            client,
            proxy: (client != peer).then_some(peer),
            method: head.method.as_str(),
            target: shown(&target),
            tenant: tenant.map(|active| active.tenant.slug.as_str()),
            status,
            bytes,
            duration_ms: millis(context.started.elapsed()),
            cache: context.facts.origination,
            code: context.code,
            cause: context.cause.as_deref(),
            fetch_ms: fill.and_then(|fill| fill.fetch).map(millis),
            queue_ms: fill.and_then(|fill| fill.queue).map(millis),
            transform_ms: fill.and_then(|fill| fill.transform).map(millis),
            user_agent: user_agent.map(shown),
        };
        request_span::end(&context.span, session, &event);
        self.access.record(&event);
    }
}

/// The other end of the connection.
fn peer(session: &Session) -> IpAddr {
    let address = session.client_addr().and_then(|address| address.as_inet());
    address.map_or(Ipv4Addr::UNSPECIFIED.into(), |address| address.ip().to_canonical())
}

/// Writes an answer to the connection.
async fn send(
    session: &mut Session,
    answer: Answer,
    context: &mut RequestContext,
    connections: &Connections,
) -> Result<()> {
    let request = session.req_header();
    match answer {
        Answer::Rendition(answer) => {
            if let Some(failure) = context.facts.fill.as_ref().and_then(|fill| fill.failure.as_ref()) {
                context.code = Some(failure.status_and_code().1);
                context.cause = failure.cause();
            }
            let reply = reply::rendition(request, &answer, &context.facts, &context.id)?;
            write(session, reply, connections).await
        }
        Answer::Problem(error) => {
            context.code = Some(error.status_and_code().1);
            context.cause = error.cause();
            let reply = reply::problem(request, &error, &context.id)?;
            write(session, reply, connections).await
        }
        Answer::Original(mut answer) => {
            let reply = reply::original(request, &answer, &context.id)?;
            match answer.body.take() {
                None => write(session, reply, connections).await,
                Some(body) => stream(session, reply, body, (context, connections)).await,
            }
        }
    }
}

async fn write(session: &mut Session, reply: Reply, connections: &Connections) -> Result<()> {
    let is_whole = reply.body.is_empty();
    session.write_response_header(reply.header, is_whole).await?;
    if is_whole { Ok(()) } else { http2::write_body(session, reply.body, true, connections).await }
}

type Chunks = mpsc::Receiver<std::result::Result<Bytes, crate::source::SourceError>>;

/// Streams an original. If its store fails half-way, the connection is cut: a short body must not look like a whole one.
async fn stream(
    session: &mut Session,
    reply: Reply,
    mut chunks: Chunks,
    (context, connections): (&mut RequestContext, &Connections),
) -> Result<()> {
    session.write_response_header(reply.header, false).await?;
    while let Some(chunk) = chunks.recv().await {
        match chunk {
            Ok(chunk) => http2::write_body(session, chunk, false, connections).await?,
            Err(error) => {
                let error = crate::problem::EdgeError::from(error);
                context.code = Some(error.status_and_code().1);
                context.cause = error.cause();
                session.set_keepalive(None);
                return Error::e_explain(ErrorType::WriteError, "the original ended early");
            }
        }
    }
    session.write_response_body(None, true).await
}

fn shown(text: &str) -> &str {
    &text[..text.floor_char_boundary(SHOWN_BYTES_MAX)]
}

/// Ids of requests: unique among all processes, cheap to make.
struct RequestIds {
    process: u32,
    count: AtomicU64,
}

impl RequestIds {
    fn new() -> Self {
        let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let seed = blake3::hash(format!("{nanos} {}", std::process::id()).as_bytes());
        let [a, b, c, d, ..] = *seed.as_bytes();
        Self { process: u32::from_le_bytes([a, b, c, d]), count: AtomicU64::new(0) }
    }

    /// The id that the request brought, if it is a usable one, so that it can be followed through several services.
    fn of_request(&self, session: &Session) -> String {
        let given = session.req_header().headers.get("x-request-id").and_then(|id| id.to_str().ok());
        let is_usable = |id: &&str| {
            (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        given.filter(is_usable).map_or_else(|| self.next(), str::to_owned)
    }

    /// `pppppppp-cccccccccccccccc`: the process and the request's number in it, in hexadecimal.
    fn next(&self) -> String {
        let mut id = String::with_capacity(25);
        push_hex(&mut id, u64::from(self.process), 8);
        id.push('-');
        push_hex(&mut id, self.count.fetch_add(1, Ordering::Relaxed), 16);
        id
    }
}

/// The last `digits` hexadecimal digits; `format!` takes several times as long, and this runs on every hit.
fn push_hex(text: &mut String, number: u64, digits: u32) {
    for place in (0..digits).rev() {
        let nibble = (number >> (place * 4)) & 0xf;
        text.push(char::from_digit(nibble as u32, 16).unwrap_or('0'));
    }
}
