//! Webhooks whose endpoints fail every third time: whether everything arrives, in which order, and after how long.
//!
//! Endpoints are in this process, so that what has happened and what has arrived are told by one clock.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::future::{join_all, try_join_all};
use http::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use testkit::receiver::{Receiver, Reply};
use tokio::time::{Instant as Moment, sleep, sleep_until};

use super::api::seed;
use super::api::service::{Service, ask, request};
use crate::cpu_time;
use crate::report::{Figure, Row, Unit};

/// Pause after a first failure, in milliseconds.
const BACKOFF_MS: u64 = 10;

/// Tenants, with an endpoint each.
const ENDPOINTS: usize = 100;

/// How many of an endpoint's answers there are to a failure.
const FAILS_EVERY: usize = 3;

/// Longest time for everything to arrive.
const LIMIT: Duration = Duration::from_secs(900);

/// Makes the study; its report.
///
/// # Errors
/// When something cannot be measured, does not arrive, or arrives out of order.
pub async fn study(control_plane: &Path, quick: bool) -> anyhow::Result<String> {
    // With threads of its own: what happens is on this one.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let started = runtime.spawn(async { join_all((0..ENDPOINTS).map(|_| Receiver::start())).await });
    let receivers = started.await?;
    let ports: Vec<_> = receivers.iter().map(|receiver| receiver.address.port()).collect();
    let settings = [
        ("WEBHOOKS__PORTS", format!("{ports:?}")),
        ("WEBHOOKS__PRIVATE", "[\"127.0.0.1\"]".to_owned()),
        ("WEBHOOKS__BACKOFF_MS", BACKOFF_MS.to_string()),
        ("LOG__LEVEL", "warn".to_owned()),
    ];
    let service = Service::start_with(control_plane, &settings).await?;
    seed::tenants(&service, 0, ENDPOINTS).await?;
    for (tenant, receiver) in receivers.iter().enumerate() {
        receiver.set(|at, _| Reply::status(if at % FAILS_EVERY == FAILS_EVERY - 1 { 503 } else { 204 }));
        let make = request(Method::POST, "/v1/webhooks", tenant).header("content-type", "application/json");
        let make = make.body(json!({"url": receiver.url("/")}).to_string());
        ask(&mut service.connect().await?, &make).await?;
    }
    let worker = service.steady_worker(control_plane)?;
    let events = if quick { 1000 } else { 10_000 };
    let mut bench =
        Bench { service: &service, receivers: &receivers, worker: worker.id().context("it runs")?, first: 0 };
    let mut rows = Vec::new();
    for (endpoints, rate) in [(1, 20), (10, 100), (ENDPOINTS, 100)] {
        rows.extend(bench.steadily(endpoints, rate, events / if endpoints == 1 { 5 } else { 1 }).await?);
    }
    for endpoints in [1, ENDPOINTS] {
        rows.extend(bench.at_once(endpoints, events).await?);
    }
    worker.stop(Duration::from_secs(30)).await?;
    service.stop().await?;
    drop(receivers);
    runtime.shutdown_background();
    rows.iter().for_each(|row| eprintln!("  {}", row.summary()));
    let method = [
        format!(
            "Each endpoint answers every third request with 503, and the others at once; the pause after a first failure is set to {BACKOFF_MS} ms, where the \
             default is 5 s. One worker; Postgres syncs its log to disk. Endpoints, the worker, Postgres and whoever makes events share the machine."
        ),
        "An event is a transaction of its own. Its time is from the moment that its commit was answered to that in which its endpoint had the last byte of the request that it \
         took; with all at once, from the commit of all of them, in one transaction a tenant."
            .to_owned(),
        "Each event was taken once by its endpoint, and in the order of its tenant's events; a run in which one was not would have no report.".to_owned(),
    ];
    Ok(Figure { method: method.to_vec(), rows, ..Figure::default() }.to_markdown(""))
}

/// What is measured with.
struct Bench<'a> {
    service: &'a Service,
    receivers: &'a [Receiver],
    worker: u32,
    /// The number of the next event.
    first: usize,
}

impl Bench<'_> {
    /// So many events for these endpoints in turn, so many a second.
    async fn steadily(&mut self, endpoints: usize, rate: u32, events: usize) -> anyhow::Result<Vec<Row>> {
        let (seen, cpu) = (self.seen(), cpu_time::of_tree(self.worker)?);
        let mut database = PgConnection::connect(&self.service.database_url()).await?;
        let (started, mut told) = (Moment::now(), HashMap::new());
        for number in 0..events {
            sleep_until(started + Duration::from_secs(1) * u32::try_from(number)? / rate).await;
            let statement =
                sqlx::query("INSERT INTO events (tenant_id, kind, data) VALUES ($1::uuid, 'media.created', $2)");
            let statement = statement.bind(seed::tenant(number % endpoints)).bind(json!({"n": self.first + number}));
            statement.execute(&mut database).await?;
            told.insert(self.first + number, Instant::now());
        }
        database.close().await?;
        let delays = self.arrived(&seen, endpoints, events, |number| told[&number]).await?;
        let cpu = cpu_time::of_tree(self.worker)?.saturating_sub(cpu).as_secs_f64() / events as f64;
        let what = |what: &str| format!("{events} events at {rate}/s to {endpoints} endpoints, {what}");
        self.first += events;
        Ok(vec![
            Row::percentile(what("p50"), Unit::Milliseconds, 50, delays.clone())?,
            Row::percentile(what("p99"), Unit::Milliseconds, 99, delays)?,
            Row::single(what("CPU of the worker for each"), Unit::Microseconds, cpu * 1e6),
        ])
    }

    /// So many events for these endpoints, all at once.
    async fn at_once(&mut self, endpoints: usize, events: usize) -> anyhow::Result<Vec<Row>> {
        let seen = self.seen();
        let (first, url) = (self.first, &self.service.database_url());
        let connections = (0..endpoints).map(|tenant| async move {
            let mut database = PgConnection::connect(url).await?;
            let statement = "INSERT INTO events (tenant_id, kind, data)
                 SELECT $1::uuid, 'media.created', jsonb_build_object('n', n) FROM generate_series($2, $3, $4) AS n";
            let statement = sqlx::query(statement).bind(seed::tenant(tenant)).bind(i64::try_from(first + tenant)?);
            let statement = statement.bind(i64::try_from(first + events - 1)?).bind(i64::try_from(endpoints)?);
            statement.execute(&mut database).await?;
            database.close().await?;
            anyhow::Ok(())
        });
        try_join_all(connections).await?;
        let told = Instant::now();
        let delays = self.arrived(&seen, endpoints, events, |_| told).await?;
        let seconds = delays.iter().copied().fold(0.0, f64::max) / 1e3;
        let what = |what: &str| format!("{events} events at once to {endpoints} endpoints, {what}");
        self.first += events;
        Ok(vec![
            Row::single(what("delivered"), Unit::PerSecond, events as f64 / seconds),
            Row::percentile(what("p99"), Unit::Milliseconds, 99, delays)?,
        ])
    }

    /// How many requests each endpoint has had so far.
    fn seen(&self) -> Vec<usize> {
        self.receivers.iter().map(Receiver::count).collect()
    }

    /// Waits until all have arrived, looks whether each has once and in its order, and tells after how many milliseconds.
    async fn arrived(
        &self,
        seen: &[usize],
        endpoints: usize,
        events: usize,
        told: impl Fn(usize) -> Instant,
    ) -> anyhow::Result<Vec<f64>> {
        let started = Instant::now();
        loop {
            let pending = "SELECT count(*) FROM webhook_deliveries WHERE state <> 'delivered'";
            let mut database = PgConnection::connect(&self.service.database_url()).await?;
            let pending: i64 = sqlx::query_scalar(pending).fetch_one(&mut database).await?;
            database.close().await?;
            if pending == 0 {
                break;
            }
            ensure!(started.elapsed() < LIMIT, "{pending} events do not arrive");
            sleep(Duration::from_millis(200)).await;
        }
        let mut delays = Vec::with_capacity(events);
        for (tenant, receiver) in self.receivers.iter().enumerate().take(endpoints) {
            let received = receiver.received().split_off(seen[tenant]);
            let taken = received.iter().filter(|received| received.was_taken);
            let mut numbers = Vec::new();
            for received in taken {
                let payload: Value = serde_json::from_slice(&received.body)?;
                let number = payload["data"]["n"].as_u64().context("a number")? as usize;
                numbers.push(number);
                delays.push(received.at.saturating_duration_since(told(number)).as_secs_f64() * 1e3);
            }
            let expected: Vec<_> = (self.first + tenant..self.first + events).step_by(endpoints).collect();
            ensure!(numbers == expected, "endpoint {tenant} has not taken each once and in order");
        }
        Ok(delays)
    }
}
