//! What the pool tells about itself.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::scheduler::{Lane, Refusal};

/// The metrics of the pool, with one series for each lane and reason from the start.
pub struct PoolMetrics {
    waiting: [IntGauge; 2],
    wait: [Histogram; 2],
    refused: [IntCounter; 2],
    /// Jobs that run.
    pub running: IntGauge,
    /// Memory of the jobs that run, as estimated.
    pub memory: IntGauge,
    /// Threads that are busy past their job's deadline.
    pub stuck: IntGauge,
    run: Histogram,
}

impl PoolMetrics {
    /// Registers them.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        const BUCKETS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];
        let histogram = |name, help| HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
        let waiting = IntGaugeVec::new(
            Opts::new("calotype_transform_queue_jobs", "Renditions that wait for a thread, by lane."),
            &["lane"],
        )?;
        let wait = HistogramVec::new(
            histogram("calotype_transform_wait_seconds", "Time that renditions waited for a thread, by lane."),
            &["lane"],
        )?;
        let refused = IntCounterVec::new(
            Opts::new("calotype_transform_refused_total", "Renditions refused because too many waited, by reason."),
            &["reason"],
        )?;
        let metrics = Self {
            waiting: Lane::ALL.map(|lane| waiting.with_label_values(&[lane.name()])),
            wait: Lane::ALL.map(|lane| wait.with_label_values(&[lane.name()])),
            refused: Refusal::ALL.map(|reason| refused.with_label_values(&[reason.name()])),
            running: IntGauge::new("calotype_transform_running_jobs", "Renditions that are being made.")?,
            memory: IntGauge::new(
                "calotype_transform_memory_bytes",
                "Memory that the renditions being made are estimated to take.",
            )?,
            stuck: IntGauge::new(
                "calotype_transform_stuck_threads",
                "Threads that are busy past their rendition's deadline, because the codec cannot be interrupted.",
            )?,
            run: Histogram::with_opts(histogram(
                "calotype_transform_run_seconds",
                "Time that renditions took on a thread.",
            ))?,
        };
        registry.register(Box::new(waiting))?;
        registry.register(Box::new(wait))?;
        registry.register(Box::new(refused))?;
        registry.register(Box::new(metrics.running.clone()))?;
        registry.register(Box::new(metrics.memory.clone()))?;
        registry.register(Box::new(metrics.stuck.clone()))?;
        registry.register(Box::new(metrics.run.clone()))?;
        Ok(metrics)
    }

    /// Jobs that wait in a lane.
    pub fn waiting(&self, lane: Lane) -> &IntGauge {
        &self.waiting[lane as usize]
    }

    /// Counts a job that is not taken.
    pub fn refused(&self, refusal: Refusal) {
        self.refused[refusal as usize].inc();
    }

    /// Notes how long a job waited.
    pub fn waited(&self, lane: Lane, wait: Duration) {
        self.wait[lane as usize].observe(wait.as_secs_f64());
    }

    /// Notes how long a job took.
    pub fn ran(&self, time: Duration) {
        self.run.observe(time.as_secs_f64());
    }
}
