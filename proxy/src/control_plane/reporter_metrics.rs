//! Counts of what is reported.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, PullingGauge, Registry};

/// What is counted of reports.
pub struct ReporterMetrics {
    taken: IntCounter,
    failed: IntCounter,
    waiting: IntGauge,
    started: Instant,
    /// Milliseconds from the start to when nothing was left to report.
    all_taken: Arc<AtomicU64>,
}

impl ReporterMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When they are registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let help = "Reports of usage, by what came of them; one that failed is sent again.";
        let reports = IntCounterVec::new(Opts::new("calotype_usage_reports_total", help), &["result"])?;
        registry.register(Box::new(reports.clone()))?;
        let help = "What is still to be reported of usage: a row for each tenant and day.";
        let waiting = IntGauge::new("calotype_usage_waiting_rows", help)?;
        registry.register(Box::new(waiting.clone()))?;
        let (started, all_taken) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let last = Arc::clone(&all_taken);
        let silence = move || started.elapsed().as_secs_f64() - last.load(Ordering::Relaxed) as f64 / 1000.0;
        let help = "Time since the control plane had all that was used, or since the start.";
        registry.register(Box::new(PullingGauge::new("calotype_usage_silence_seconds", help, Box::new(silence))?))?;
        let [taken, failed] = ["taken", "failed"].map(|result| reports.with_label_values(&[result]));
        Ok(Self { taken, failed, waiting, started, all_taken })
    }

    /// The control plane has taken one.
    pub fn taken(&self) {
        self.taken.inc();
    }

    /// It has not.
    pub fn failed(&self) {
        self.failed.inc();
    }

    /// So many rows are still to be reported.
    pub fn wait(&self, rows: usize) {
        self.waiting.set(i64::try_from(rows).unwrap_or(i64::MAX));
    }

    /// Nothing is.
    pub fn all_taken(&self) {
        let since = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.all_taken.store(since, Ordering::Relaxed);
    }
}
