//! Edges: how soon what was replaced is served by each, and what a hundred thousand tenants take.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;
use http::Method;
use testkit::http::{Connection, Request};
use testkit::images;
use tokio::time::sleep;

use super::seed::{self, TENANTS};
use super::service::{Edge, Service, ask, request};
use super::writes::{form, sending};
use crate::report::{Goal, Row, Unit};

/// Time between two looks at an edge, which bounds what can be told.
const POLL: Duration = Duration::from_millis(1);

/// Longest wait for anything.
const WAIT_LIMIT: Duration = Duration::from_secs(120);

const MIB: f64 = 1024.0 * 1024.0;

/// How soon two edges serve what a `PUT` has replaced, after its answer.
///
/// # Errors
/// When one of them does not.
pub async fn replace(service: &Service, proxy: &Path, times: usize) -> anyhow::Result<Vec<Row>> {
    let edges = [service.edge("edge-1", proxy)?.start().await?, service.edge("edge-2", proxy)?.start().await?];
    let mut connection = service.connect().await?;
    let make = sending(Method::POST, "/v1/media", 0, form(&picture(0), Some("swap")));
    let made: serde_json::Value = serde_json::from_slice(&ask(&mut connection, &make).await?.body)?;
    let file = format!("/v1/media/{}/file", made["id"].as_str().context("it has an id")?);
    let target = format!("/{}/w=16,f=png/swap", seed::slug(0));
    let (mut answers, mut waits) = (Vec::new(), Vec::new());
    for number in 1..=times {
        let all = edges.iter().map(|edge| until(edge.address, &target, |body| !body.is_empty()));
        let before = try_join_all(all).await?.swap_remove(0);
        let put = sending(Method::PUT, &file, 0, form(&picture(number), None));
        let started = Instant::now();
        ask(&mut connection, &put).await?;
        answers.push(started.elapsed().as_secs_f64() * 1e3);
        let acknowledged = Instant::now();
        let all = edges.iter().map(|edge| async {
            until(edge.address, &target, |body| *body != before).await?;
            anyhow::Ok(acknowledged.elapsed().as_secs_f64() * 1e3)
        });
        waits.push(try_join_all(all).await?.into_iter().fold(0.0, f64::max));
    }
    for edge in edges {
        edge.stop().await?;
    }
    let name = |percent| format!("from the answer to a replacement until both edges serve it, p{percent}");
    Ok(vec![
        Row::percentile("replacement by a small picture, p95", Unit::Milliseconds, 95, answers)?,
        Row::percentile(name(50), Unit::Milliseconds, 50, waits.clone())?,
        Row::percentile(name(99), Unit::Milliseconds, 99, waits)?.with_goal(Goal::Below(1000.0)),
    ])
}

/// What so many tenants take of an edge.
///
/// # Errors
/// When it does not know them all.
pub async fn crowd(service: &Service, proxy: &Path, tenants: usize, times: usize) -> anyhow::Result<Vec<Row>> {
    let small = service.edge("edge-few", proxy)?;
    let edge = small.start().await?;
    let few = known(&edge, TENANTS).await?;
    edge.stop().await?;
    seed::tenants(service, TENANTS, tenants).await?;
    let home = service.edge("edge-many", proxy)?;
    let started = Instant::now();
    let edge = home.start().await?;
    let many = known(&edge, tenants).await?;
    let snapshot = started.elapsed();
    let changes = changes(service, &edge, times).await?;
    edge.stop().await?;
    let started = Instant::now();
    let edge = home.start().await?;
    let again = known(&edge, tenants).await?;
    let restart = started.elapsed();
    edge.stop().await?;
    let mib = |what: &str, bytes: u64| Row::single(format!("{what}, MiB"), Unit::Points, bytes as f64 / MIB);
    let milliseconds = |took: Duration| took.as_secs_f64() * 1e3;
    let each = (many.saturating_sub(few)) as f64 / (tenants - TENANTS) as f64;
    Ok(vec![
        mib(&format!("memory of an edge with {TENANTS} tenants"), few),
        mib(&format!("memory of an edge with {tenants} tenants, after the snapshot"), many),
        mib(&format!("memory of an edge with {tenants} tenants, after a restart"), again),
        Row::single("memory for each tenant of ten presets", Unit::Bytes, each),
        Row::single(format!("start with a snapshot of {tenants} tenants"), Unit::Milliseconds, milliseconds(snapshot)),
        Row::single(
            format!("start with {tenants} tenants from the journal"),
            Unit::Milliseconds,
            milliseconds(restart),
        ),
        Row::percentile("one change among them in force, p50", Unit::Milliseconds, 50, changes.clone())?,
        Row::percentile("one change among them in force, p99", Unit::Milliseconds, 99, changes)?,
    ])
}

/// Milliseconds from the answer to a change until it is in force.
async fn changes(service: &Service, edge: &Edge, times: usize) -> anyhow::Result<Vec<f64>> {
    let mut connection = service.connect().await?;
    let mut waits = Vec::new();
    for number in 0..times {
        let (_, before) = edge.knows().await?;
        let body = format!("{{\"ops\":\"w={}\"}}", number + 100);
        let put = request(Method::PUT, "/v1/presets/p1", number).header("content-type", "application/json");
        ask(&mut connection, &put.body(body)).await?;
        let acknowledged = Instant::now();
        while edge.knows().await?.1 == before {
            ensure!(acknowledged.elapsed() < WAIT_LIMIT, "a change is not in force within {WAIT_LIMIT:?}");
            sleep(POLL).await;
        }
        waits.push(acknowledged.elapsed().as_secs_f64() * 1e3);
    }
    Ok(waits)
}

/// Waits until an edge knows so many tenants; its memory then.
async fn known(edge: &Edge, tenants: usize) -> anyhow::Result<u64> {
    let started = Instant::now();
    while edge.knows().await?.0 != tenants as u64 {
        ensure!(started.elapsed() < WAIT_LIMIT, "{tenants} tenants are not known within {WAIT_LIMIT:?}");
        sleep(POLL).await;
    }
    edge.resident_bytes()
}

/// Asks until the body is as it must be.
async fn until(edge: SocketAddr, target: &str, is_wanted: impl Fn(&Bytes) -> bool) -> anyhow::Result<Bytes> {
    let (mut connection, started) = (Connection::open(edge).await?, Instant::now());
    loop {
        let answer = connection.send(&Request::get(target)).await?;
        if answer.status == 200 && is_wanted(&answer.body) {
            return Ok(answer.body);
        }
        ensure!(started.elapsed() < WAIT_LIMIT, "{target} is answered {} after {WAIT_LIMIT:?}", answer.status);
        sleep(POLL).await;
    }
}

/// A picture that differs from that of the number before.
fn picture(number: usize) -> Vec<u8> {
    let shade = (number * 37 % 251) as u8;
    images::png::rgb(&images::swatches(&[[shade, 255 - shade, 128]], 64), &images::png::Extras::default())
}
