//! One structured event for each request: what was asked, what was answered, where it came from, how long it took.
//!
//! Must not block a request: events are written as JSON into a buffer that its own thread empties every
//! [`FLUSH_EVERY`]; what would not fit is dropped and counted. Waking a thread for each event would cost more than
//! serving a hit.

use std::cell::RefCell;
use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How long an event waits at most before it is written.
const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// Bytes of events that may wait for a slow reader of standard output.
const BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Where an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origination {
    /// The memory part of the cache.
    Memory,
    /// The disk part.
    Disk,
    /// The cache, past its freshness, while the origin is asked again.
    Stale,
    /// The second level.
    SecondLevel,
    /// The cache, past its use, because the origin failed a moment ago.
    StaleIfError,
    /// Made for this request.
    Miss,
    /// Made for another request at the same time.
    Collapsed,
    /// The original, streamed from its store.
    Original,
    /// Nothing was looked up: the request was refused.
    None,
}

impl Origination {
    const ALL: [Self; 9] = [
        Self::Memory,
        Self::Disk,
        Self::SecondLevel,
        Self::Stale,
        Self::StaleIfError,
        Self::Miss,
        Self::Collapsed,
        Self::Original,
        Self::None,
    ];

    /// Whether it was in a cache of this edge.
    pub fn is_hit(self) -> bool {
        matches!(self, Self::Memory | Self::Disk | Self::Stale | Self::StaleIfError)
    }

    /// Its name in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk => "disk",
            Self::SecondLevel => "second-level",
            Self::Stale => "stale",
            Self::StaleIfError => "stale-if-error",
            Self::Miss => "miss",
            Self::Collapsed => "collapsed",
            Self::Original => "original",
            Self::None => "none",
        }
    }
}

/// The event of one request. Times are in milliseconds.
#[derive(Debug, Serialize)]
pub struct AccessEvent<'a> {
    /// When the request had been answered, RFC 3339.
    pub time: &'a str,
    /// Always `access`: tells these lines from others in one stream.
    pub event: &'static str,
    /// The request's id, also in the answer.
    pub request_id: &'a str,
    /// The trace that it is part of, where requests are traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Address of the client.
    pub client: IpAddr,
    /// Address of the peer, if it is a proxy that has named the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<IpAddr>,
    /// HTTP method.
    pub method: &'a str,
    /// The request target as it came, shortened.
    pub target: &'a str,
    /// The tenant, if there is one of that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<&'a str>,
    /// Status of the answer; 0 if none was sent.
    pub status: u16,
    /// Bytes of body sent.
    pub bytes: usize,
    /// From the request's last header byte to the answer's last byte.
    pub duration_ms: f64,
    /// Where the answer came from.
    pub cache: Origination,
    /// Stable code of a refusal or failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// Cause of a failure, for the operator only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<&'a str>,
    /// Time for the original to arrive, on a miss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetch_ms: Option<f64>,
    /// Time in the queue for a thread, on a miss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_ms: Option<f64>,
    /// Time on the thread, on a miss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transform_ms: Option<f64>,
    /// The client's `User-Agent`, shortened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<&'a str>,
}

/// Now, RFC 3339 in milliseconds. Each thread keeps the text down to the second, which serves thousands of events.
pub fn timestamp() -> String {
    thread_local! {
        static SECOND: RefCell<(u64, String)> = const { RefCell::new((u64::MAX, String::new())) };
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (second, millis) = (now.as_secs(), now.subsec_millis());
    SECOND.with_borrow_mut(|(kept, text)| {
        if *kept != second {
            let time = i64::try_from(second).ok().and_then(|second| OffsetDateTime::from_unix_timestamp(second).ok());
            *text = time.and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_default();
            // "…:07Z" → "…:07"
            text.pop();
            *kept = second;
        }
        format!("{text}.{millis:03}Z")
    })
}

/// Writes access events and counts requests.
pub struct AccessLog {
    buffer: Option<Arc<Mutex<Vec<u8>>>>,
    /// Resolved once: a lookup by label costs as much as a cache hit.
    requests: [[IntCounter; 5]; Origination::ALL.len()],
    bytes: IntCounter,
    duration_hit: Histogram,
    duration_other: Histogram,
    dropped: IntCounter,
}

impl AccessLog {
    /// Starts the log; with `to_stdout` false it only counts.
    ///
    /// # Errors
    /// When the system gives no thread, or a metric's name is taken.
    pub fn start(to_stdout: bool, registry: &Registry) -> anyhow::Result<Self> {
        let requests = IntCounterVec::new(
            Opts::new(
                "calotype_requests_total",
                "Requests answered, by where the answer came from and class of status.",
            ),
            &["cache", "status"],
        )?;
        let bytes = IntCounter::new("calotype_response_bytes_total", "Bytes of bodies sent.")?;
        let dropped = IntCounter::new("calotype_access_events_dropped_total", "Access events lost to a slow reader.")?;
        let duration = |kind: &str, buckets: &[f64]| {
            let name = format!("calotype_{kind}_duration_seconds");
            Histogram::with_opts(
                HistogramOpts::new(name, format!("Time to answer {kind} requests.")).buckets(buckets.to_vec()),
            )
        };
        let duration_hit = duration("hit", &[0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 1.0])?;
        let duration_other = duration("other", &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(bytes.clone()))?;
        registry.register(Box::new(dropped.clone()))?;
        registry.register(Box::new(duration_hit.clone()))?;
        registry.register(Box::new(duration_other.clone()))?;

        let classes = ["none", "2xx", "3xx", "4xx", "5xx"];
        let requests =
            Origination::ALL.map(|from| classes.map(|class| requests.with_label_values(&[from.label(), class])));
        let buffer = if to_stdout { Some(start_writer()?) } else { None };
        Ok(Self { buffer, requests, bytes, duration_hit, duration_other, dropped })
    }

    /// Counts and writes one event.
    pub fn record(&self, event: &AccessEvent<'_>) {
        let class = usize::from(event.status / 100).saturating_sub(1).min(4);
        self.requests[event.cache as usize][class].inc();
        self.bytes.inc_by(event.bytes as u64);
        let duration = match event.cache {
            Origination::Memory | Origination::Disk | Origination::Stale => &self.duration_hit,
            _ => &self.duration_other,
        };
        duration.observe(event.duration_ms / 1000.0);
        if let Some(buffer) = &self.buffer {
            let mut buffer = buffer.lock();
            let before = buffer.len();
            if before > BUFFER_BYTES_MAX || serde_json::to_writer(&mut *buffer, event).is_err() {
                buffer.truncate(before);
                self.dropped.inc();
            } else {
                buffer.push(b'\n');
            }
        }
    }

    /// Writes what waits; for the end of the process.
    pub fn flush(&self) {
        if let Some(buffer) = &self.buffer {
            write_out(&mut std::mem::take(&mut *buffer.lock()));
        }
    }
}

fn start_writer() -> anyhow::Result<Arc<Mutex<Vec<u8>>>> {
    let buffer = Arc::new(Mutex::new(Vec::with_capacity(64 * 1024)));
    let shared = Arc::clone(&buffer);
    thread::Builder::new().name("access-log".to_owned()).spawn(move || {
        let mut batch = Vec::with_capacity(64 * 1024);
        loop {
            thread::sleep(FLUSH_EVERY);
            std::mem::swap(&mut batch, &mut *shared.lock());
            write_out(&mut batch);
        }
    })?;
    Ok(buffer)
}

/// A closed standard output must not end the service: the events are lost, the pictures are not.
fn write_out(batch: &mut Vec<u8>) {
    if !batch.is_empty() {
        let _ = std::io::stdout().lock().write_all(batch);
        batch.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_rfc_3339_and_now() {
        let before = OffsetDateTime::now_utc() - Duration::from_secs(1);
        for _ in 0..3 {
            let time = OffsetDateTime::parse(&timestamp(), &Rfc3339).expect("is RFC 3339");
            assert!(time >= before && time <= OffsetDateTime::now_utc());
        }
    }
}
