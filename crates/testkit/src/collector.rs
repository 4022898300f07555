//! A collector of traces: takes OTLP over HTTP and keeps the spans.
//!
//! Must not be patient with mistakes: what is not a batch of spans fails the test that sent it.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// A span that was taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Collected {
    /// `service.name` of who sent it.
    pub service: String,
    /// Its name.
    pub name: String,
    /// What kind of span it is; 2 is a server's, 3 a client's, 5 a consumer's.
    pub kind: i32,
    /// The trace, in hexadecimal.
    pub trace: String,
    /// Its id, in hexadecimal.
    pub id: String,
    /// Its parent's id; empty if it has none.
    pub parent: String,
    /// Traces that it names.
    pub links: Vec<String>,
    /// Its attributes, all as text.
    pub attributes: BTreeMap<String, String>,
    /// Whether it has failed.
    pub failed: bool,
}

/// A running collector on 127.0.0.1. Dropping it stops it.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    spans: Mutex<Vec<Collected>>,
    headers: Mutex<Vec<HeaderMap>>,
    hangs: AtomicBool,
}

impl Collector {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::<Shared>::default();
        let serving = tokio::spawn(run(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, serving })
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Takes requests from now on and never answers, or answers again.
    pub fn hang(&self, hangs: bool) {
        self.shared.hangs.store(hangs, Ordering::SeqCst);
    }

    /// All spans so far, in the order they came.
    #[must_use]
    pub fn spans(&self) -> Vec<Collected> {
        lock(&self.shared.spans).clone()
    }

    /// The headers of all requests so far, those that were never answered included.
    #[must_use]
    pub fn headers(&self) -> Vec<HeaderMap> {
        lock(&self.shared.headers).clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn run(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(|request| respond(request, &shared));
            // A client that hangs up is no matter.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn respond(request: Request<Incoming>, shared: &Shared) -> Result<Response<Full<Bytes>>, Infallible> {
    lock(&shared.headers).push(request.headers().clone());
    if shared.hangs.load(Ordering::SeqCst) {
        return std::future::pending().await;
    }
    let is_batch = request.method() == Method::POST
        && request.uri().path() == "/v1/traces"
        && request.headers().get("content-type").is_some_and(|kind| kind == "application/x-protobuf");
    let mut answer = Response::new(Full::default());
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
    match body.ok().filter(|_| is_batch).map(ExportTraceServiceRequest::decode) {
        Some(Ok(batch)) => lock(&shared.spans).extend(spans(batch)),
        _ => *answer.status_mut() = StatusCode::BAD_REQUEST,
    }
    Ok(answer)
}

fn spans(batch: ExportTraceServiceRequest) -> Vec<Collected> {
    let mut all = Vec::new();
    for of_resource in batch.resource_spans {
        let resource = attributes(of_resource.resource.map(|resource| resource.attributes).unwrap_or_default());
        for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            all.push(Collected {
                service: resource.get("service.name").cloned().unwrap_or_default(),
                name: span.name,
                kind: span.kind,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                links: span.links.iter().map(|link| hex(&link.trace_id)).collect(),
                attributes: attributes(span.attributes),
                // STATUS_CODE_ERROR
                failed: span.status.is_some_and(|status| status.code == 2),
            });
        }
    }
    all
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value| match value {
        any_value::Value::StringValue(text) => text,
        any_value::Value::IntValue(number) => number.to_string(),
        any_value::Value::DoubleValue(number) => number.to_string(),
        any_value::Value::BoolValue(flag) => flag.to_string(),
        other => format!("{other:?}"),
    };
    let pair = |pair: KeyValue| (pair.key, pair.value.and_then(|value| value.value).map(text).unwrap_or_default());
    pairs.into_iter().map(pair).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
