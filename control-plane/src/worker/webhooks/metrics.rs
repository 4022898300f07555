//! Metrics of webhooks: what this worker has sent, and how the queues of all are.

use isolation::{Database, DatabaseError};
use prometheus::{Gauge, Histogram, HistogramOpts, HistogramVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::webhooks::{Attempt, Due, End};

/// Upper ends of the times of attempts that are told apart, in seconds.
const ATTEMPT_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0];

/// Upper ends of the times to delivery that are told apart, in seconds.
const DELAY_BUCKETS: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0, 86_400.0];

/// What is told of webhooks.
#[derive(Clone)]
pub struct WebhookMetrics {
    attempts: HistogramVec,
    delay: Histogram,
    pending: IntGauge,
    late: Gauge,
    webhooks: IntGaugeVec,
}

impl WebhookMetrics {
    /// Nothing was sent yet.
    ///
    /// # Errors
    /// When the name of a metric is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let attempts =
            HistogramOpts::new("calotype_webhook_attempt_seconds", "Time that attempts to send an event took");
        let delay = HistogramOpts::new("calotype_webhook_delay_seconds", "Time from an event to its delivery");
        let metrics = Self {
            attempts: HistogramVec::new(attempts.buckets(ATTEMPT_BUCKETS.to_vec()), &["outcome"])?,
            delay: Histogram::with_opts(delay.buckets(DELAY_BUCKETS.to_vec()))?,
            pending: IntGauge::new(
                "calotype_webhook_pending",
                "Deliveries that wait, of all tenants; counted to 100000",
            )?,
            late: Gauge::new("calotype_webhook_late_seconds", "How long the queue that is late the most has been due")?,
            webhooks: IntGaugeVec::new(
                Opts::new("calotype_webhooks", "Webhooks of all tenants, by state"),
                &["state"],
            )?,
        };
        registry.register(Box::new(metrics.attempts.clone()))?;
        registry.register(Box::new(metrics.delay.clone()))?;
        registry.register(Box::new(metrics.pending.clone()))?;
        registry.register(Box::new(metrics.late.clone()))?;
        registry.register(Box::new(metrics.webhooks.clone()))?;
        Ok(metrics)
    }

    /// Counts an attempt.
    pub fn count(&self, due: &Due, attempt: &Attempt, end: End) {
        let outcome = match (end, attempt.status) {
            (End::Delivered, _) => "delivered",
            (_, Some(_)) => "refused",
            (_, None) => "unanswered",
        };
        self.attempts.with_label_values(&[outcome]).observe(attempt.duration.as_secs_f64());
        if end == End::Delivered && !due.is_test {
            let delay = (due.now + attempt.duration - due.created_at).as_seconds_f64();
            self.delay.observe(delay.max(0.0));
        }
    }

    /// Looks at the queues of all tenants.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn look(&self, database: &Database) -> Result<(), DatabaseError> {
        let state = sqlx::query!(
            r#"SELECT pending AS "pending!", late_seconds AS "late_seconds!", working AS "working!", failing AS "failing!",
                 disabled AS "disabled!"
               FROM webhooks_state()"#
        )
        .fetch_one(database.across())
        .await?;
        self.pending.set(state.pending);
        self.late.set(state.late_seconds);
        for (label, count) in [("working", state.working), ("failing", state.failing), ("disabled", state.disabled)] {
            self.webhooks.with_label_values(&[label]).set(count);
        }
        Ok(())
    }
}
