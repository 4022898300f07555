//! The cache's own metrics, and foyer's beside them.
//!
//! Must not count hits: only the server knows which lookups belong to one answer.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Metric handles, resolved once.
#[derive(Clone, Debug)]
pub(crate) struct CacheMetrics {
    pub(crate) disk_available: IntGauge,
    pub(crate) disk_capacity_bytes: IntGauge,
    pub(crate) disk_read_errors: IntCounter,
    pub(crate) unflushed_entries: IntGauge,
    pub(crate) reinsertions: IntCounter,
    pub(crate) dropped_too_large: IntCounter,
    pub(crate) dropped_queue_full: IntCounter,
    pub(crate) dropped_buffer_full: IntCounter,
    pub(crate) flights: IntGauge,
    pub(crate) flights_refused: IntCounter,
    pub(crate) fill_panics: IntCounter,
    pub(crate) foyer: FoyerMetrics,
}

impl CacheMetrics {
    /// Registers them under names that start with `prefix`.
    pub(crate) fn register(prefix: &str, registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(format!("{prefix}_{name}"), help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(format!("{prefix}_{name}"), help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let dropped = IntCounterVec::new(
            Opts::new(format!("{prefix}_entries_dropped_total"), "Entries that were answered but not written to disk"),
            &["reason"],
        )?;
        registry.register(Box::new(dropped.clone()))?;
        let foyer = FoyerMetrics::new(prefix)?;
        registry.register(Box::new(foyer.clone()))?;
        Ok(Self {
            disk_available: gauge("disk_available", "1 if the disk cache reads and writes, else 0")?,
            disk_capacity_bytes: gauge("disk_capacity_bytes", "Bytes reserved for the disk cache")?,
            disk_read_errors: counter("disk_read_errors_total", "Disk reads that failed and became misses")?,
            unflushed_entries: gauge("unflushed_entries", "Entries that wait to be written to disk")?,
            reinsertions: counter("reinsertions_total", "Hot entries written again before their eviction")?,
            dropped_too_large: dropped.with_label_values(&["too_large"]),
            dropped_queue_full: dropped.with_label_values(&["queue_full"]),
            dropped_buffer_full: dropped.with_label_values(&["buffer_full"]),
            flights: gauge("flights_in_progress", "Fills that run now")?,
            flights_refused: counter("flights_refused_total", "Fills refused because too many ran")?,
            fill_panics: counter("fill_panics_total", "Fills that panicked")?,
            foyer,
        })
    }
}

/// foyer's metrics in a registry of their own, shown through the caller's: a name clash would be a panic inside foyer's
/// metrics library, and its counters of lost entries are readable only from a registry.
#[derive(Clone, Debug)]
pub(crate) struct FoyerMetrics {
    registry: Arc<ArcSwap<Registry>>,
    identity: Desc,
}

impl FoyerMetrics {
    fn new(prefix: &str) -> prometheus::Result<Self> {
        let identity = Desc::new(format!("{prefix}_foyer"), "Metrics of foyer".into(), vec![], HashMap::new())?;
        Ok(Self { registry: Arc::default(), identity })
    }

    /// Shows the metrics of another foyer cache, which has a registry of its own.
    pub(crate) fn show(&self, registry: Registry) {
        self.registry.store(Arc::new(registry));
    }

    /// What foyer's write queue has counted so far.
    pub(crate) fn queue_counts(&self) -> QueueCounts {
        let mut counts = QueueCounts::default();
        for family in
            self.registry.load().gather().iter().filter(|family| family.name() == "foyer_storage_inner_op_total")
        {
            for metric in family.get_metric() {
                // Counters are floats in the exposition format; these stay far below 2^53.
                let value = metric.get_counter().get_value() as u64;
                match metric.get_label().iter().find(|label| label.name() == "op").map(|label| label.value()) {
                    Some("channel_overflow") => counts.queue_full = value,
                    Some("buffer_overflow") => counts.buffer_full = value,
                    Some("queue_rotate") => counts.flushes = value,
                    _ => {}
                }
            }
        }
        counts
    }
}

impl Collector for FoyerMetrics {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.identity]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.registry.load().gather()
    }
}

/// Running totals of foyer's write queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueCounts {
    /// Entries dropped because the queue was full.
    pub(crate) queue_full: u64,
    /// Entries dropped because the buffer was full.
    pub(crate) buffer_full: u64,
    /// Flushes done, empty ones included.
    pub(crate) flushes: u64,
}
