//! A purge of a tenant: how soon it is in force, with few renditions in the cache and with very many.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures_util::future::try_join_all;
use http::Method;
use testkit::http::{Connection, Request};

use crate::bench::Bench;
use crate::edge::{self, CacheStatus, Edge, EdgeHome, FOLDER};
use crate::pictures::SMALL;
use crate::report::{Figure, Goal, Row, Unit};

/// Clients that fill; enough to keep the libvips thread busy, and each within the requests that a connection may send.
const CLIENTS: usize = 16;

const OPS: &str = "w=16,f=jpeg";

const TOKEN: &str = "a token for the load test";

/// Renditions of the small cache.
const FEW: usize = 1000;

/// Renditions that are asked for before a purge and after it.
const SAMPLES: usize = 200;

/// Purges of which the median is taken.
const PURGES: usize = 20;

pub async fn measure(bench: &Bench) -> anyhow::Result<Figure> {
    let settings = format!("admin_token = \"{TOKEN}\"\n");
    let (edge, _) = EdgeHome::prepare_with(bench, "purge", &settings)?.start(bench).await?;
    let mut rows = Vec::new();
    let many = bench.effort.purge_renditions;
    let mut first_version = 0;
    for count in [FEW, many] {
        fill(&edge, first_version, count).await?;
        ensure!(hits(&edge, first_version, count).await? == SAMPLES, "not all of {count} renditions are in the cache");
        let took = purge(&edge).await?;
        let left = hits(&edge, first_version, count).await?;
        ensure!(left == 0, "{left} of {SAMPLES} renditions were served after the purge");
        let mut all = vec![took.as_secs_f64() * 1e3];
        for _ in 1..PURGES {
            all.push(purge(&edge).await?.as_secs_f64() * 1e3);
        }
        eprintln!("  {count} renditions: {:.2} ms, then {:.2} ms", all[0], all[PURGES / 2]);
        let first = Row::single(format!("purge of {count} renditions, until acknowledged"), Unit::Milliseconds, all[0]);
        rows.push(first.with_goal(Goal::Below(10.0)));
        rows.push(Row::median(format!("purge beside {count} purged ones"), Unit::Milliseconds, all)?);
        first_version += count;
    }
    edge.stop().await?;
    let method = vec![
        format!("Distinct renditions of one tenant, which is purged; {FEW} and {many} of them in memory and on disk."),
        format!(
            "From the first byte of the order to the last of the answer, which comes when the purge is synced to disk. Then \
             {SAMPLES} renditions, spread over all, are asked for: none may come from the cache."
        ),
    ];
    Ok(Figure { method, rows, ..Figure::default() })
}

async fn fill(edge: &Edge, first: usize, count: usize) -> anyhow::Result<()> {
    let clients = (0..CLIENTS).map(|client| async move {
        let mut connection = edge.connect().await?;
        for version in (first..first + count).skip(client).step_by(CLIENTS) {
            let (_, status) = edge::fetch(&mut connection, &target(version)).await?;
            ensure!(status == CacheStatus::Filled, "version {version} was not made for this request");
            if version.is_multiple_of(5000) {
                edge.empty_access_log()?;
            }
        }
        anyhow::Ok(())
    });
    try_join_all(clients).await?;
    Ok(())
}

/// How many of a sample come from the cache.
async fn hits(edge: &Edge, first: usize, count: usize) -> anyhow::Result<usize> {
    let mut connection = edge.connect().await?;
    let mut hits = 0;
    for version in (first..first + count).step_by(count / SAMPLES).take(SAMPLES) {
        hits += usize::from(edge::fetch(&mut connection, &target(version)).await?.1 == CacheStatus::Hit);
    }
    Ok(hits)
}

async fn purge(edge: &Edge) -> anyhow::Result<Duration> {
    let mut connection = Connection::open(edge.admin()).await?;
    let order = Request::new(Method::POST, "/purge").header("authorization", format!("Bearer {TOKEN}"));
    let order = order.body(r#"{"tenant":"demo","all":true}"#);
    let started = Instant::now();
    let answer = connection.send(&order).await?;
    let took = started.elapsed();
    ensure!(answer.status == 200, "the purge was answered {}", answer.text());
    Ok(took)
}

fn target(version: usize) -> String {
    edge::target(OPS, version, FOLDER, SMALL)
}
