//! Looks after the replica that lists are read from: whether it can be used, as metrics and in the log.
//!
//! Must not decide what may be read there: routes do (`Caller::read`).

use std::time::Duration;

use isolation::{Database, ReplicaState};
use prometheus::{Gauge, IntCounterVec, IntGauge, Opts, Registry};
use tokio::time::sleep;

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(500);

/// The metrics.
#[derive(Debug)]
pub struct ReplicaWatch {
    usable: IntGauge,
    lag: Gauge,
    reads: IntCounterVec,
}

impl ReplicaWatch {
    /// Before the first look.
    ///
    /// # Errors
    /// When the name of a metric is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let usable = IntGauge::new("calotype_api_replica_usable", "1 while lists are read from the replica")?;
        let lag = Gauge::new("calotype_api_replica_lag_seconds", "How far the replica is behind at most")?;
        let reads = Opts::new("calotype_api_replica_reads_total", "Lists, by where they were read from");
        let reads = IntCounterVec::new(reads, &["from"])?;
        registry.register(Box::new(usable.clone()))?;
        registry.register(Box::new(lag.clone()))?;
        registry.register(Box::new(reads.clone()))?;
        Ok(Self { usable, lag, reads })
    }

    /// Looks again and again, for ever; not at all where there is no replica.
    pub async fn watch(&self, database: &Database) {
        let mut was_usable = None;
        loop {
            let Some(state) = database.look_at_replica().await else { return };
            self.tell(&state);
            if was_usable.replace(state.is_usable) != Some(state.is_usable) {
                match (state.is_usable, state.problem, state.lag) {
                    (true, ..) => tracing::info!("lists are read from the replica"),
                    (false, Some(error), _) => tracing::warn!(%error, "lists are not read from the replica"),
                    (false, None, Some(lag)) => {
                        tracing::warn!("lists are not read from the replica: it is {lag:.1?} behind")
                    }
                    (false, None, None) => {
                        tracing::warn!("lists are not read from the replica: it is no streaming replica")
                    }
                }
            }
            sleep(EVERY).await;
        }
    }

    fn tell(&self, state: &ReplicaState) {
        self.usable.set(state.is_usable.into());
        self.lag.set(state.lag.map_or(f64::NAN, |lag| lag.as_secs_f64()));
        for (from, count) in [("replica", state.reads), ("primary", state.fallbacks)] {
            let counter = self.reads.with_label_values(&[from]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }
}
