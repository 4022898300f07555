//! What is told of each request: an id to the client, one event on standard output, counts and times in the metrics.
//!
//! Must not decide anything: guards and handlers do, and tell [`Exchange`].

use std::io::Write;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use isolation::TenantKey;
use parking_lot::Mutex;
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntGauge, Registry};
use rocket::fairing::{Fairing, Info, Kind};
use rocket::http::Status;
use rocket::request::Outcome;
use rocket::{Data, Request, Response};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use traces::Span;
use uuid::Uuid;

use crate::problem::ApiError;
use crate::rates::Allowance;
use crate::traced;

/// Events that may wait to be written; those after them are counted and dropped, so that a stuck pipe stops no request.
const EVENTS_MAX: usize = 4096;

/// Upper ends of the times that are told apart, in seconds.
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What is known of a request while it is answered.
#[derive(Debug)]
pub struct Exchange {
    id: Uuid,
    started: Instant,
    span: OnceLock<Span>,
    told: Mutex<Told>,
    /// Why a guard let it go no further; the catcher tells the client.
    refusal: Mutex<Option<ApiError>>,
}

#[derive(Debug, Default, Clone)]
struct Told {
    code: Option<&'static str>,
    cause: Option<String>,
    tenant: Option<TenantKey>,
    key: Option<Uuid>,
    allowance: Option<Allowance>,
}

impl Exchange {
    /// That of a request.
    pub fn of<'r>(request: &'r Request<'_>) -> &'r Self {
        request.local_cache(|| Self {
            id: Uuid::now_v7(),
            started: Instant::now(),
            span: OnceLock::new(),
            told: Mutex::default(),
            refusal: Mutex::default(),
        })
    }

    /// Its span, if it has one.
    pub fn span(&self) -> &Span {
        self.span.get_or_init(|| Span::NONE)
    }

    /// What it is called in its event, its answer, and the audit log.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// How a guard of a request ends.
    pub fn outcome<T>(request: &Request<'_>, guarded: Result<T, ApiError>) -> Outcome<T, ()> {
        match guarded {
            Ok(found) => Outcome::Success(found),
            Err(error) => Outcome::Error(Self::of(request).refuse(error)),
        }
    }

    /// Refuses it: what a guard returns as its error.
    pub fn refuse(&self, error: ApiError) -> (Status, ()) {
        let status = error.status();
        *self.refusal.lock() = Some(error);
        (status, ())
    }

    /// Why it was refused by a guard.
    pub fn take_refusal(&self) -> Option<ApiError> {
        self.refusal.lock().take()
    }

    /// It is refused, or failed, with this code, and for this reason if that is not public.
    pub fn failed(&self, code: &'static str, cause: Option<String>) {
        let mut told = self.told.lock();
        told.code = Some(code);
        told.cause = cause;
    }

    /// It was counted: lets it go on where that is within what is allowed, and tells the client in any case.
    ///
    /// # Errors
    /// [`ApiError::RateLimited`].
    pub fn is_within(&self, allowance: Option<Allowance>) -> Result<(), ApiError> {
        let Some(allowance) = allowance else { return Ok(()) };
        self.told.lock().allowance = Some(allowance);
        allowance.retry_seconds().map_or(Ok(()), |seconds| Err(ApiError::RateLimited { seconds }))
    }

    /// It came with this key.
    pub fn came_from(&self, tenant: TenantKey, key: Uuid) {
        let mut told = self.told.lock();
        told.tenant = Some(tenant);
        told.key = Some(key);
    }
}

/// What is managed for every request; an error would be a mistake of `server.rs`.
///
/// # Errors
/// [`ApiError::Internal`].
pub fn managed<'r, T: Send + Sync + 'static>(request: &'r Request<'_>) -> Result<&'r T, ApiError> {
    request.rocket().state::<T>().ok_or(ApiError::Internal)
}

/// The fields of a request's query, decoded, in their order.
pub fn query_fields<'r>(request: &'r Request<'_>) -> impl Iterator<Item = (&'r str, &'r str)> {
    request.query_fields().map(|field| (field.name.source().as_str(), field.value))
}

/// One request, readable alone.
#[derive(Serialize)]
struct Event<'a> {
    time: String,
    request_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<IpAddr>,
    method: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    status: u16,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<TenantKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Uuid>,
}

/// Tells of all requests.
pub struct Requests {
    trust_traces: bool,
    events: SyncSender<Vec<u8>>,
    seconds: HistogramVec,
    running: IntGauge,
    dropped: IntCounter,
}

impl Requests {
    /// Starts to write events. `trust_traces` = a trace that a client has begun is gone on with.
    ///
    /// # Errors
    /// When the name of a metric is taken, or the system gives no thread.
    pub fn start(registry: &Registry, trust_traces: bool) -> anyhow::Result<Self> {
        let options =
            HistogramOpts::new("calotype_api_request_seconds", "Time from a request's header to its answer's");
        let seconds = HistogramVec::new(options.buckets(BUCKETS.to_vec()), &["method", "route", "status"])?;
        let running = IntGauge::new("calotype_api_requests_running", "Requests that are being answered")?;
        let dropped = IntCounter::new("calotype_api_events_dropped_total", "Events that could not be written in time")?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(running.clone()))?;
        registry.register(Box::new(dropped.clone()))?;
        let (events, received) = sync_channel(EVENTS_MAX);
        std::thread::Builder::new().name("events".to_owned()).spawn(move || write(&received))?;
        Ok(Self { trust_traces, events, seconds, running, dropped })
    }

    fn tell(&self, request: &Request<'_>, status: u16, duration: Duration) {
        let exchange = Exchange::of(request);
        let Told { code, cause, tenant, key, .. } = exchange.told.lock().clone();
        let route = request.route().map(|route| route.uri.as_str());
        let class = ["1xx", "2xx", "3xx", "4xx", "5xx"].get(usize::from(status / 100).wrapping_sub(1));
        let labels = [request.method().as_str(), route.unwrap_or("none"), class.unwrap_or(&"other")];
        self.seconds.with_label_values(&labels).observe(duration.as_secs_f64());
        let id = exchange.id.to_string();
        let tenant_text = tenant.map(|tenant| tenant.to_string());
        traced::end(exchange.span(), request, &traced::Told { status, code, tenant: tenant_text, id: &id });
        let event = Event {
            time: OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
            request_id: exchange.id,
            trace_id: exchange.span().trace_id(),
            client: request.remote().map(|remote| remote.ip()),
            method: request.method().as_str(),
            path: request.uri().path().as_str(),
            route,
            status,
            duration_ms: duration.as_micros() as f64 / 1000.0,
            code,
            cause,
            tenant,
            key,
        };
        let Ok(mut line) = serde_json::to_vec(&event) else { return };
        line.push(b'\n');
        if self.events.try_send(line).is_err() {
            self.dropped.inc();
        }
    }
}

fn write(received: &Receiver<Vec<u8>>) {
    let mut output = std::io::stdout().lock();
    for line in received {
        // Nobody reads them any more; requests go on.
        if output.write_all(&line).and_then(|()| output.flush()).is_err() {
            return;
        }
    }
}

#[rocket::async_trait]
impl Fairing for Requests {
    fn info(&self) -> Info {
        Info { name: "requests", kind: Kind::Request | Kind::Response }
    }

    async fn on_request(&self, request: &mut Request<'_>, _: &mut Data<'_>) {
        let span = traced::begin(request, self.trust_traces);
        drop(Exchange::of(request).span.set(span));
        self.running.inc();
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        let exchange = Exchange::of(request);
        response.set_raw_header("X-Request-Id", exchange.id.to_string());
        response.set_raw_header("X-Content-Type-Options", "nosniff");
        // Answers have secrets in them, and change from one moment to the next.
        response.set_raw_header("Cache-Control", "no-store");
        if let Some(allowance) = exchange.told.lock().allowance {
            response.set_raw_header("RateLimit-Policy", allowance.policy());
            response.set_raw_header("RateLimit", allowance.state());
        }
        self.running.dec();
        self.tell(request, response.status().code, exchange.started.elapsed());
    }
}
