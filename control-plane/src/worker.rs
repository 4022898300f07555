//! `control-plane worker`: what has to be done again and again, in a process of its own: jobs of dead workers are given to others, the
//! object store is brought to what the database says, events are sent to webhooks, and what is old is forgotten.
//!
//! Several may run: each takes what no other has. Must not answer requests.

mod archive;
mod jobs;
mod parts;
mod scans;
mod status;
mod store;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use ::jobs::Queue;
use anyhow::Context;
use futures_util::{StreamExt, stream};
use isolation::{Database, DatabaseError};
use prometheus::Registry;
use time::OffsetDateTime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;
use uuid::Uuid;

use crate::config::ControlPlaneSettings;
use crate::media::Library;
use crate::quotas;
use crate::worker::jobs::{LANES, Lane, Runner};
use crate::worker::parts::Parts;
use crate::worker::webhooks::{Sender, WebhookMetrics};

/// Time between two looks for workers that are not heard of any more.
const EVERY: Duration = Duration::from_secs(5);

/// Time between two looks for jobs when there was none.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks between two times that quotas are looked at: a minute.
const SETTLE_EVERY: u64 = 12;

/// Time between two looks for parts of tables that are to be made or to go.
const PARTS_EVERY: Duration = Duration::from_secs(600);

/// Looks between two times that what is old is forgotten: an hour.
const FORGET_EVERY: u64 = 720;

/// How long answers to requests with an `Idempotency-Key` are kept.
const ANSWERS_AGE: Duration = Duration::from_secs(24 * 3600);

/// Answers that are forgotten in one go.
const ANSWERS_PAGE: i32 = 1000;

/// Works until it is told to stop, or `once`.
///
/// # Errors
/// When the settings name no database, or no store that can be opened, or, `once`, when it cannot be reached.
pub async fn run(settings: &ControlPlaneSettings, once: bool, registry: Registry) -> anyhow::Result<()> {
    let database = Database::open(&settings.worker_database()).context("control-plane.worker_url")?;
    let worker = Worker::new(settings, database.clone(), &registry)?;
    if once {
        worker.reap().await?;
        worker.see_to_store().await?;
        quotas::sweep(&worker.database).await?;
        for lane in LANES {
            while worker.library.store().is_ok() && worker.runner.run_one(lane).await? {}
        }
        worker.sender.run_once().await?;
        worker.forget().await?;
        return worker.parts.round().await.context("tables by month");
    }
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let status = async {
        match settings.worker_listen {
            Some(listen) => status::serve(listen, database, registry).await.context("control-plane.worker_listen"),
            None => std::future::pending().await,
        }
    };
    tracing::info!("working");
    tokio::select! {
        () = worker.work() => {}
        () = worker.do_jobs() => {}
        () = worker.sender.run() => {}
        ended = status => ended?,
        () = worker.keep_parts() => {}
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    worker.sender.stop(Duration::from_secs(settings.drain_seconds.into())).await;
    tracing::info!("stopped");
    Ok(())
}

struct Worker {
    database: Database,
    queue: Queue,
    library: Library,
    runner: Runner,
    sender: Arc<Sender>,
    /// What is looked at for whoever asks for metrics.
    webhooks: Option<WebhookMetrics>,
    parts: Parts,
    feed_age: Duration,
    job_age: Duration,
}

impl Worker {
    fn new(settings: &ControlPlaneSettings, database: Database, registry: &Registry) -> anyhow::Result<Self> {
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        let queue = Queue::new(database.clone(), Uuid::now_v7(), EVERY);
        let library = Library::open(settings, database.clone())?;
        let (runner, parts) = (Runner::new(settings, library.clone()), Parts::new(settings, &library));
        let webhooks = WebhookMetrics::new(registry)?;
        let sender = Sender::new(settings, database.clone(), webhooks.clone());
        Ok(Self {
            database,
            queue,
            library,
            runner,
            sender,
            webhooks: settings.worker_listen.map(|_| webhooks),
            parts,
            feed_age: days(settings.feed_days),
            job_age: days(settings.job_days),
        })
    }

    /// For ever. What fails is tried again the next time.
    async fn work(&self) {
        for round in 0u64.. {
            let mut done = self.reap().await.and(self.see_to_store().await);
            if let Some(webhooks) = &self.webhooks {
                done = done.and(webhooks.look(&self.database).await.map_err(Into::into));
            }
            if round.is_multiple_of(SETTLE_EVERY) {
                done = done.and(quotas::sweep(&self.database).await.context("quotas"));
            }
            if done.is_ok() && round.is_multiple_of(FORGET_EVERY) {
                done = self.forget().await;
            }
            if let Err(error) = done {
                tracing::warn!("the next round tries again: {error:#}");
            }
            sleep(EVERY).await;
        }
    }

    /// For ever. What fails is tried again the next time.
    async fn keep_parts(&self) {
        loop {
            if let Err(error) = self.parts.round().await {
                tracing::warn!(cause = error.cause(), "parts of tables are looked after again soon: {error}");
            }
            sleep(PARTS_EVERY).await;
        }
    }

    /// For ever, several at once.
    async fn do_jobs(&self) {
        if self.library.store().is_err() {
            tracing::warn!("no uploads are set: jobs about media are left to others");
            return std::future::pending().await;
        }
        let one_after_the_other = async |lane: Lane| {
            loop {
                match self.runner.run_one(lane).await {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(error) => tracing::warn!(cause = error.cause(), "jobs are looked for again soon: {error}"),
                }
                sleep(LOOK_EVERY).await;
            }
        };
        let lines = LANES.into_iter().flat_map(|lane| std::iter::repeat_n(lane, lane.lines));
        stream::iter(lines).for_each_concurrent(None, one_after_the_other).await;
    }

    async fn reap(&self) -> anyhow::Result<()> {
        let jobs = self.queue.reap().await?;
        if jobs > 0 {
            tracing::warn!(jobs, "taken from workers that were not heard of any more");
        }
        Ok(())
    }

    async fn see_to_store(&self) -> anyhow::Result<()> {
        if self.library.store().is_err() {
            return Ok(());
        }
        // One after the other, whatever becomes of the one before.
        let rounds = [
            ("media expired", store::expire(&self.library).await),
            ("pointers written", store::publish(&self.library).await),
            ("objects swept", store::sweep(&self.library).await),
            ("uploads ended", store::end_uploads(&self.library).await),
        ];
        for (what, round) in &rounds {
            if let Ok(round) = round.as_ref().map(|round| *round)
                && round != store::Round::default()
            {
                tracing::info!(done = round.done, failed = round.failed, "{what}");
            }
        }
        for (what, round) in rounds {
            round.context(what)?;
        }
        Ok(())
    }

    async fn forget(&self) -> anyhow::Result<()> {
        let now = OffsetDateTime::now_utc();
        let jobs = self.queue.trim(now - self.job_age).await?;
        let older_than = now - self.feed_age;
        let events = sqlx::query_scalar!(r#"SELECT trim_feed($1) AS "events!""#, older_than);
        let events = events.fetch_one(self.database.across()).await.map_err(DatabaseError::from)?;
        let answers = self.forget_answers(now - ANSWERS_AGE).await?;
        let edges = sqlx::query_scalar!(r#"SELECT trim_usage_reports() AS "edges!""#);
        let edges = edges.fetch_one(self.database.across()).await.map_err(DatabaseError::from)?;
        tracing::info!(jobs, events, answers, edges, "forgotten");
        Ok(())
    }

    /// In small steps, so that nobody waits for a lock.
    async fn forget_answers(&self, older_than: OffsetDateTime) -> Result<u64, DatabaseError> {
        let mut forgotten = 0;
        loop {
            let gone =
                sqlx::query_scalar!(r#"SELECT trim_idempotency_keys($1, $2) AS "gone!""#, older_than, ANSWERS_PAGE);
            let gone = gone.fetch_one(self.database.across()).await?;
            forgotten += u64::from(gone.unsigned_abs());
            if gone < ANSWERS_PAGE {
                return Ok(forgotten);
            }
        }
    }
}
