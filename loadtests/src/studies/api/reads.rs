//! Reading: what one of 64 connections waits at a steady rate, how much there is at most, and what a key costs.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures_util::future::try_join_all;
use http::Method;
use testkit::http::Request;
use tokio::time::{Instant as Moment, sleep_until};

use super::seed::{self, MEDIA, TENANTS};
use super::service::{Service, ask, request};
use crate::report::{Goal, Row, Unit};

/// Connections at once.
const CONNECTIONS: usize = 64;

/// Requests a second, all connections together.
const PER_SECOND: usize = 200;

/// Connections while a key's cost is measured, which a core is busy with.
const BUSY: usize = 16;

/// What is asked for in turn.
const KINDS: [&str; 5] = ["by id", "by public id", "page of 50", "page of 50 with a tag", "presets"];

/// How long each part takes.
pub struct Times {
    /// Of the steady rate.
    pub steady: Duration,
    /// Of the most that there is.
    pub most: Duration,
    /// Requests with a key and as many without.
    pub keys: usize,
}

/// All of them.
///
/// # Errors
/// When an answer is not as it must be.
pub async fn measure(service: &Service, times: &Times) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    // Keys are met, and plans are made.
    most(service, Duration::from_secs(2)).await?;
    let all = steady(service, times.steady).await?;
    for percent in [50, 95, 99] {
        let waits = all.iter().map(|(_, wait)| *wait).collect();
        let row = Row::percentile(format!("read at {PER_SECOND}/s, p{percent}"), Unit::Milliseconds, percent, waits)?;
        rows.push(if percent == 95 { row.with_goal(Goal::Below(10.0)) } else { row });
    }
    for (kind, name) in KINDS.iter().enumerate() {
        let waits = all.iter().filter(|(of, _)| *of == kind).map(|(_, wait)| *wait).collect();
        rows.push(Row::percentile(format!("{name} at {PER_SECOND}/s, p95"), Unit::Milliseconds, 95, waits)?);
    }
    let before = service.cpu_time()?;
    let count = most(service, times.most).await?;
    let cpu = service.cpu_time()?.saturating_sub(before);
    rows.push(Row::single("reads at most", Unit::PerSecond, count as f64 / times.most.as_secs_f64()));
    let micros = cpu.as_secs_f64() * 1e6 / count as f64;
    rows.push(Row::single("CPU of the control plane for a read", Unit::Microseconds, micros));
    rows.push(key_cost(service, times.keys).await?);
    Ok(rows)
}

/// The request of this number, spread over tenants and media.
fn read(number: usize) -> Request {
    let (tenant, medium) = (number * 7919 % TENANTS, number * 104_729 % MEDIA);
    let target = match number % KINDS.len() {
        0 => format!("/v1/media/{}", seed::medium(tenant, medium)),
        1 => format!("/v1/media/by-public-id/pictures/{medium}.jpg"),
        2 => "/v1/media".to_owned(),
        3 => format!("/v1/media?tag=t{}", medium % 10),
        _ => "/v1/presets".to_owned(),
    };
    request(Method::GET, target, tenant)
}

/// Asks at a steady rate, whether answers come or not; the kind and the milliseconds of each, from when it should have been sent.
async fn steady(service: &Service, time: Duration) -> anyhow::Result<Vec<(usize, f64)>> {
    let count = PER_SECOND * time.as_secs() as usize;
    let started = Moment::now() + Duration::from_millis(100);
    let clients = (0..CONNECTIONS).map(|client| async move {
        let mut connection = service.connect().await?;
        let mut waits = Vec::new();
        for number in (0..count).skip(client).step_by(CONNECTIONS) {
            let due = started + Duration::from_secs(1) * u32::try_from(number)? / u32::try_from(PER_SECOND)?;
            sleep_until(due).await;
            ask(&mut connection, &read(number)).await?;
            waits.push((number % KINDS.len(), due.elapsed().as_secs_f64() * 1e3));
        }
        anyhow::Ok(waits)
    });
    Ok(try_join_all(clients).await?.concat())
}

/// Asks as fast as answers come; how many came.
async fn most(service: &Service, time: Duration) -> anyhow::Result<usize> {
    let started = Instant::now();
    let clients = (0..CONNECTIONS).map(|client| async move {
        let mut connection = service.connect().await?;
        let mut count = 0;
        while started.elapsed() < time {
            ask(&mut connection, &read(client + count * CONNECTIONS)).await?;
            count += 1;
        }
        anyhow::Ok(count)
    });
    Ok(try_join_all(clients).await?.into_iter().sum())
}

/// CPU time of the control plane for a request that ends when its key was looked at, less that for one without a key.
async fn key_cost(service: &Service, count: usize) -> anyhow::Result<Row> {
    // Its conditions are read after its key, and are none.
    let with_key = |tenant| request(Method::GET, "/v1/media?unknown=1", tenant);
    let mut differences = Vec::new();
    for _ in 0..5 {
        let without = busy(service, count, 200, |_| Request::get("/healthz")).await?;
        let with = busy(service, count, 422, |number| with_key(number % TENANTS)).await?;
        differences.push((with - without).max(0.0));
    }
    Ok(Row::median("CPU for a key, and to refuse what comes with it", Unit::Microseconds, differences)?
        .with_goal(Goal::Below(50.0)))
}

/// Microseconds of CPU for each of so many requests.
async fn busy(service: &Service, count: usize, status: u16, wanted: impl Fn(usize) -> Request) -> anyhow::Result<f64> {
    let (before, wanted) = (service.cpu_time()?, &wanted);
    let clients = (0..BUSY).map(|client| async move {
        let mut connection = service.connect().await?;
        for number in (0..count).skip(client).step_by(BUSY) {
            let answer = connection.send(&wanted(number)).await?;
            ensure!(answer.status == status, "answered {}: {}", answer.status, answer.text());
        }
        anyhow::Ok(())
    });
    try_join_all(clients).await?;
    Ok(service.cpu_time()?.saturating_sub(before).as_secs_f64() * 1e6 / count as f64)
}
