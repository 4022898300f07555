//! Counts of the feed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, PullingGauge, Registry};
use tenancy::feed::kind;

/// What kinds that are not known are counted as.
const OTHER: &str = "other";

/// The kinds that are told apart.
const KINDS: [&str; 10] = [
    kind::TENANT,
    kind::POLICY,
    kind::PRESET,
    kind::IMAGE,
    kind::ORIGIN,
    kind::DOMAIN,
    kind::SIGNING_KEY,
    kind::PURGE,
    kind::MEDIA,
    kind::QUOTA,
];

/// What is counted of the feed.
pub struct FeedMetrics {
    sequence: IntGauge,
    tenants: IntGauge,
    refused: IntGauge,
    events: IntCounterVec,
    failures: IntCounter,
    started: Instant,
    /// Milliseconds from the start to the last answer.
    heard: Arc<AtomicU64>,
}

impl FeedMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When they are registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name, help| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let events = Opts::new("calotype_feed_events_total", "Changes that the control plane has told, by kind.");
        let events = IntCounterVec::new(events, &["kind"])?;
        registry.register(Box::new(events.clone()))?;
        // A counter that is not there before it counts hides its first step from an alert.
        for kind in KINDS.iter().chain(&[OTHER]) {
            events.with_label_values(&[*kind]);
        }
        let failures =
            IntCounter::new("calotype_feed_failures_total", "Times that the control plane could not be asked.")?;
        registry.register(Box::new(failures.clone()))?;
        let (started, heard) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let last = Arc::clone(&heard);
        let silence = move || started.elapsed().as_secs_f64() - last.load(Ordering::Relaxed) as f64 / 1000.0;
        let help = "Time since the last answer of the control plane, or since the start.";
        registry.register(Box::new(PullingGauge::new("calotype_feed_silence_seconds", help, Box::new(silence))?))?;
        Ok(Self {
            sequence: gauge("calotype_feed_sequence", "Number of the last change that is in force.")?,
            tenants: gauge("calotype_feed_tenants", "Tenants of the control plane.")?,
            refused: gauge("calotype_feed_refused_tenants", "Tenants that this edge cannot serve as they are now.")?,
            events,
            failures,
            started,
            heard,
        })
    }

    /// The control plane has answered.
    pub fn heard(&self) {
        let since = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(since, Ordering::Relaxed);
    }

    /// It has not.
    pub fn failed(&self) {
        self.failures.inc();
    }

    /// It told a change.
    pub fn told(&self, kind: &str) {
        let kind = if KINDS.contains(&kind) { kind } else { OTHER };
        self.events.with_label_values(&[kind]).inc();
    }

    /// All changes up to this one are in force.
    pub fn reached(&self, seq: u64, tenants: usize) {
        self.sequence.set(i64::try_from(seq).unwrap_or(i64::MAX));
        self.tenants.set(i64::try_from(tenants).unwrap_or(i64::MAX));
    }

    /// So many tenants cannot be served as they are.
    pub fn refused(&self, tenants: usize) {
        self.refused.set(i64::try_from(tenants).unwrap_or(i64::MAX));
    }
}
