//! What making drafts better tells about itself.

use std::time::Duration;

use prometheus::{Counter, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// How one ended that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Fewer bytes took its place.
    Improved,
    /// It stays: more effort saves too little.
    NotSmaller,
    /// Its original had changed, and a rendition of the new one took its place.
    Refreshed,
    /// It was purged, replaced or evicted, or the policy has changed.
    Outdated,
    /// It takes more than may be done beside other work.
    TooHeavy,
    /// There was other work each time.
    Busy,
    /// Its original or the encoder failed.
    Failed,
    /// There was no room to let it wait.
    Dropped,
}

impl Ended {
    const ALL: [Self; 8] = [
        Self::Improved,
        Self::NotSmaller,
        Self::Refreshed,
        Self::Outdated,
        Self::TooHeavy,
        Self::Busy,
        Self::Failed,
        Self::Dropped,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Improved => "improved",
            Self::NotSmaller => "not_smaller",
            Self::Refreshed => "refreshed",
            Self::Outdated => "outdated",
            Self::TooHeavy => "too_heavy",
            Self::Busy => "busy",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

/// The metrics, each series there from the start.
pub struct ImprovementMetrics {
    /// Drafts that were let wait.
    pub queued: IntCounter,
    /// Drafts that wait.
    pub waiting: IntGauge,
    ended: [IntCounter; 8],
    saved_bytes: IntCounter,
    run: Counter,
}

impl ImprovementMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name, help| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let ended = IntCounterVec::new(
            Opts::new("calotype_improvements_total", "Drafts that were to be made better, by what came of it."),
            &["result"],
        )?;
        let waiting = IntGauge::new("calotype_improvements_waiting", "Drafts that wait to be made better.")?;
        let run =
            Counter::new("calotype_improvement_seconds_total", "Time that making drafts better took on a thread.")?;
        registry.register(Box::new(ended.clone()))?;
        registry.register(Box::new(waiting.clone()))?;
        registry.register(Box::new(run.clone()))?;
        Ok(Self {
            queued: counter("calotype_improvements_queued_total", "Drafts that were let wait to be made better.")?,
            waiting,
            ended: Ended::ALL.map(|ended_as| ended.with_label_values(&[ended_as.name()])),
            saved_bytes: counter(
                "calotype_improvement_saved_bytes_total",
                "Bytes that drafts had more than what took their place.",
            )?,
            run,
        })
    }

    /// Counts one that has ended.
    pub fn ended(&self, ended: Ended) {
        self.ended[ended as usize].inc();
    }

    /// Counts what one saved.
    pub fn saved(&self, bytes: usize) {
        self.saved_bytes.inc_by(bytes as u64);
    }

    /// Notes how long one took.
    pub fn ran(&self, time: Duration) {
        self.run.inc_by(time.as_secs_f64());
    }
}
