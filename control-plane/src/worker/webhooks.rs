//! Sending events to webhooks: queues are taken as they are due, many at the same time, and of each one thing after the other is sent.
//!
//! A worker that dies has its queues taken over once their leases have run out, and what it had sent without having kept that is sent
//! again. So is what it could not keep because the database was away for as long. Must not decide the order: queues do.

mod metrics;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fetch::{FetchError, Fetcher, HeaderMap, PostOptions, parse_url};
use isolation::{Database, DatabaseError};
use serde::Serialize;
use serde_json::Value;
use sqlx::postgres::PgListener;
use time::OffsetDateTime;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{sleep, timeout};

pub use self::metrics::WebhookMetrics;
use crate::config::ControlPlaneSettings;
use crate::problem::ApiError;
use crate::sealing::Seal;
use crate::webhooks::{self, Attempt, Due, End, Secret, Step, Turn, WebhookSettings};

/// Where the database tells of queues that have become due.
const CHANNEL: &str = "calotype_webhooks";

/// Queues that are worked on at the same time.
const AT_ONCE: u32 = 128;

/// How long a queue is worked on before others have their turn.
const TURN_TIME: Duration = Duration::from_secs(5);

/// How long is waited for the beginning of an answer's body, which decides nothing.
const BODY_TIME: Duration = Duration::from_secs(2);

/// What a lease lasts beyond an attempt.
const LEASE_MARGIN: Duration = Duration::from_secs(15);

/// Longest time between two looks for queues that are due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Time between two looks while some are due that were not given: another worker takes them, or their tenant has enough at work.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Time until the database is asked again that was away.
const RETRY: Duration = Duration::from_millis(500);

/// Bytes that are read of an answer.
const ANSWER_BYTES_MAX: usize = 1024;

/// What sends.
pub struct Sender {
    database: Database,
    seal: Seal,
    fetcher: Fetcher,
    settings: WebhookSettings,
    lease: Duration,
    metrics: WebhookMetrics,
    /// One a queue that is worked on.
    slots: Arc<Semaphore>,
    /// There may be something to take.
    wake: Notify,
    is_stopping: AtomicBool,
}

/// What is sent, as Standard Webhooks wants it.
#[derive(Serialize)]
struct Payload<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(with = "time::serde::rfc3339")]
    timestamp: OffsetDateTime,
    data: &'a Value,
}

impl Sender {
    /// With these settings.
    pub fn new(settings: &ControlPlaneSettings, database: Database, metrics: WebhookMetrics) -> Arc<Self> {
        let webhooks = settings.webhooks.clone();
        Arc::new(Self {
            database,
            seal: settings.seal(),
            fetcher: Fetcher::new(webhooks.reach()),
            lease: webhooks.timeout() + LEASE_MARGIN,
            settings: webhooks,
            metrics,
            slots: Arc::new(Semaphore::new(AT_ONCE as usize)),
            wake: Notify::new(),
            is_stopping: AtomicBool::new(false),
        })
    }

    /// Sends what is due, for ever.
    pub async fn run(self: &Arc<Self>) {
        tokio::join!(self.listen(), self.take());
    }

    /// Sends what is due now, and returns when it was.
    ///
    /// # Errors
    /// When the database cannot be asked.
    pub async fn run_once(self: &Arc<Self>) -> Result<(), ApiError> {
        while self.claim().await? > 0 {
            self.idle().await;
        }
        Ok(())
    }

    /// Takes nothing more, and returns when what is being sent has been, or after `patience`.
    pub async fn stop(&self, patience: Duration) {
        self.is_stopping.store(true, Ordering::Relaxed);
        if timeout(patience, self.idle()).await.is_err() {
            tracing::warn!("what is being sent to webhooks is sent again later");
        }
    }

    async fn idle(&self) {
        // Fails only once the semaphore is closed, which nobody does.
        let _ = self.slots.acquire_many(AT_ONCE).await;
    }

    /// Hears of queues that have become due.
    async fn listen(&self) {
        loop {
            if let Err(error) = self.hear().await {
                tracing::warn!(%error, "webhooks that become due are not heard of; they are looked for");
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn hear(&self) -> Result<(), DatabaseError> {
        let mut listener = PgListener::connect_with(self.database.across()).await?;
        listener.listen(CHANNEL).await?;
        loop {
            // Also when the connection was lost, and with it what was told meanwhile.
            listener.try_recv().await?;
            self.wake.notify_one();
        }
    }

    async fn take(self: &Arc<Self>) {
        loop {
            let pause = match self.claim().await {
                Ok(0) => self.pause().await,
                Ok(_) => Duration::ZERO,
                Err(error) => {
                    tracing::warn!(cause = error.cause(), "webhooks are looked for again soon: {error}");
                    LOOK_EVERY
                }
            };
            // Woken by the database, and by queues that were given back here.
            let _ = timeout(pause, self.wake.notified()).await;
        }
    }

    /// How long nothing will be due, as far as is known.
    async fn pause(&self) -> Duration {
        match webhooks::due_in(&self.database).await {
            Ok(Some(Duration::ZERO)) => LOOK_AGAIN,
            Ok(Some(due)) => due.min(LOOK_EVERY),
            Ok(None) | Err(_) => LOOK_EVERY,
        }
    }

    /// Begins to work on queues that are due, as many as there is room for; how many.
    async fn claim(self: &Arc<Self>) -> Result<usize, ApiError> {
        let room = self.slots.available_permits();
        if room == 0 || self.is_stopping.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let turns = webhooks::claim(&self.database, self.lease, room).await?;
        let count = turns.len();
        for turn in turns {
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { break };
            let sender = Arc::clone(self);
            tokio::spawn(async move {
                sender.work(&turn).await;
                drop(slot);
                sender.wake.notify_one();
            });
        }
        Ok(count)
    }

    /// Sends one thing after the other.
    async fn work(&self, turn: &Turn) {
        let started = Instant::now();
        let mut ended: Option<(Due, Attempt, End)> = None;
        loop {
            let goes_on = started.elapsed() < TURN_TIME && !self.is_stopping.load(Ordering::Relaxed);
            let last = ended.as_ref().map(|(due, attempt, end)| (due, attempt, *end));
            match self.step(turn, last, goes_on).await {
                Some(Step::Send(due)) => {
                    let (attempt, end) = self.send(turn, &due).await;
                    self.tell(turn, &due, &attempt, end);
                    ended = Some((*due, attempt, end));
                }
                Some(Step::Rest) => return,
                Some(Step::Lost) | None => {
                    tracing::debug!(tenant = %turn.tenant, webhook = %turn.webhook, "another worker goes on with it");
                    return;
                }
            }
        }
    }

    /// [`Turn::step`], for as long as the lease may last: what was sent and not kept would be sent again.
    async fn step(&self, turn: &Turn, last: Option<(&Due, &Attempt, End)>, goes_on: bool) -> Option<Step> {
        let since = Instant::now();
        loop {
            match turn.step(&self.database, last, goes_on, &self.settings).await {
                Ok(step) => return Some(step),
                Err(error) => {
                    let (tenant, webhook) = (turn.tenant, turn.webhook);
                    tracing::warn!(%tenant, %webhook, cause = error.cause(), "what was sent is not kept yet: {error}");
                    if since.elapsed() > self.lease {
                        return None;
                    }
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// Sends something, and judges what was answered.
    async fn send(&self, turn: &Turn, due: &Due) -> (Attempt, End) {
        let started = Instant::now();
        let posted = self.post(turn, due, started).await;
        let duration = started.elapsed();
        let attempt = match &posted {
            Ok(posted) => Attempt {
                duration,
                status: Some(posted.status.as_u16()),
                error: None,
                answer: Some(String::from_utf8_lossy(&posted.answer).into_owned()),
            },
            Err(NotSent { error, .. }) => Attempt { duration, error: Some(error.clone()), ..Attempt::default() },
        };
        if posted.as_ref().is_ok_and(|posted| posted.status.is_success()) {
            return (attempt, End::Delivered);
        }
        let is_gone = posted.as_ref().is_ok_and(|posted| posted.status.as_u16() == 410);
        if is_gone || (due.is_last_chance && !due.is_test) {
            self.disable(turn, if is_gone { "gone" } else { "failing" }).await;
        }
        let is_final = is_gone || due.is_test || posted.as_ref().is_err_and(|not_sent| not_sent.is_final);
        let asked = posted.ok().and_then(|posted| posted.retry_after);
        let pause = self.settings.schedule().pause_after(due.attempt.unsigned_abs(), chance(), asked);
        (attempt, pause.filter(|_| !is_final).map_or(End::Failed, End::Again))
    }

    async fn post(&self, turn: &Turn, due: &Due, started: Instant) -> Result<fetch::Posted, NotSent> {
        let data = due.data.as_ref().ok_or_else(|| NotSent::for_ever("the event is not kept any more"))?;
        let payload = Payload { kind: &due.kind, timestamp: due.created_at, data };
        let body = serde_json::to_vec(&payload).map_err(|_| NotSent::for_ever("the event cannot be written"))?;
        let headers = self.headers(turn, due, &body)?;
        let url = parse_url(&due.url)?;
        let deadline = started + self.settings.timeout();
        let options = PostOptions { headers, deadline, body_time: BODY_TIME, answer_bytes_max: ANSWER_BYTES_MAX };
        Ok(self.fetcher.post(&url, body.into(), &options).await?)
    }

    /// Those that Standard Webhooks 1.0 asks for.
    fn headers(&self, turn: &Turn, due: &Due, body: &[u8]) -> Result<HeaderMap, NotSent> {
        // By the clock of the database, which is one for all workers.
        let timestamp = due.now.unix_timestamp();
        let signature = |sealed: &Vec<u8>| {
            let secret = Secret::open(sealed, &self.seal, turn.tenant, turn.webhook)?;
            Ok(secret.sign(due.event, timestamp, body))
        };
        let signatures: Vec<_> = due.secrets.iter().map(signature).collect::<Result<_, ApiError>>().map_err(|error| {
            tracing::error!(tenant = %turn.tenant, webhook = %turn.webhook, cause = error.cause(), "cannot sign: {error}");
            NotSent { error: "it cannot be signed".to_owned(), is_final: false }
        })?;
        let headers = [
            ("content-type", "application/json".to_owned()),
            ("webhook-id", due.event.to_string()),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", signatures.join(" ")),
        ];
        let parsed = headers.map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("plain ASCII")));
        Ok(HeaderMap::from_iter(parsed))
    }

    /// Disables a webhook; if that fails, so will the next attempt.
    async fn disable(&self, turn: &Turn, reason: &'static str) {
        let (tenant, webhook) = (turn.tenant, turn.webhook);
        match turn.disable(&self.database, reason).await {
            Ok(true) => tracing::warn!(%tenant, %webhook, reason, "webhook disabled"),
            Ok(false) => {}
            Err(error) => tracing::warn!(%tenant, %webhook, cause = error.cause(), "is to be disabled: {error}"),
        }
    }

    fn tell(&self, turn: &Turn, due: &Due, attempt: &Attempt, end: End) {
        let (outcome, again_seconds) = match end {
            End::Delivered => ("delivered", None),
            End::Again(pause) => ("again", Some(pause.as_secs_f64())),
            End::Failed => ("failed", None),
        };
        self.metrics.count(due, attempt, end);
        tracing::info!(
            tenant = %turn.tenant, webhook = %turn.webhook, event = %due.event, kind = due.kind, attempt = due.attempt,
            status = attempt.status, error = attempt.error, milliseconds = attempt.duration.as_millis(), again_seconds,
            "webhook {outcome}"
        );
    }
}

/// Why nothing was answered.
struct NotSent {
    /// For the tenant.
    error: String,
    /// Another attempt would fail as well.
    is_final: bool,
}

impl NotSent {
    fn for_ever(error: &str) -> Self {
        Self { error: error.to_owned(), is_final: true }
    }
}

impl From<FetchError> for NotSent {
    fn from(error: FetchError) -> Self {
        // Its texts are for the public. Whatever it is may be mended: a name, a certificate, the operator's list.
        Self { error: error.to_string(), is_final: false }
    }
}

/// From 0 to 1.
fn chance() -> f64 {
    getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
}
