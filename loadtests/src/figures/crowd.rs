//! A crowd at one URL that nobody asked for before: how often its original is fetched and its rendition made.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use bytes::Bytes;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::bench::Bench;
use crate::edge::{self, Edge, EdgeHome, S3};
use crate::pictures::PHOTO;
use crate::report::{Figure, Goal, Row, Unit};

const CLIENTS: usize = 500;

/// One visit of the crowd.
struct Visit {
    fetches: f64,
    transforms: f64,
    /// Answers with status 200 and the same body as the first.
    identical: f64,
    /// From the first request until the last answer.
    all_answered_ms: f64,
}

pub async fn measure(bench: &Bench) -> anyhow::Result<Figure> {
    let (edge, _) = EdgeHome::prepare(bench, "crowd")?.start(bench).await?;
    let mut visits = Vec::new();
    for round in 0..bench.effort.crowd_rounds {
        let target = edge::target("w=512,f=webp", format!("crowd-{round}"), S3, PHOTO);
        let visit = visit(bench, &edge, &target).await?;
        eprintln!(
            "  round {} of {}: {} fetches, {} transforms, {} identical, {:.0} ms",
            round + 1,
            bench.effort.crowd_rounds,
            visit.fetches,
            visit.transforms,
            visit.identical,
            visit.all_answered_ms
        );
        visits.push(visit);
    }
    edge.stop().await?;
    let each = |number: fn(&Visit) -> f64| visits.iter().map(number).collect::<Vec<f64>>();
    let crowd = Goal::Exactly(CLIENTS as f64);
    let rows = vec![
        Row::worst("requests to the S3 server, worst round", Unit::Count, Goal::Exactly(1.0), each(|v| v.fetches))?,
        Row::worst("transforms, worst round", Unit::Count, Goal::Exactly(1.0), each(|v| v.transforms))?,
        Row::worst("identical answers, worst round", Unit::Count, crowd, each(|v| v.identical))?,
        Row::median("until all were answered", Unit::Milliseconds, each(|v| v.all_answered_ms))?,
    ];
    let method = vec![
        format!(
            "{CLIENTS} connections are opened first; then all ask at once for a rendition that was never made, from S3 with \
             latency. A new URL each round."
        ),
        "Requests are counted in front of the S3 server, transforms by our metrics.".to_owned(),
    ];
    Ok(Figure { method, rows })
}

async fn visit(bench: &Bench, edge: &Edge, target: &str) -> anyhow::Result<Visit> {
    let barrier = Arc::new(Barrier::new(CLIENTS + 1));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let mut connection = edge.connect().await?;
        let (barrier, target) = (Arc::clone(&barrier), target.to_owned());
        clients.spawn(async move {
            barrier.wait().await;
            edge::fetch(&mut connection, &target).await.map(|(body, _)| body)
        });
    }
    let (fetches, transforms) = (bench.s3_relay.requests(), transforms(edge).await?);
    barrier.wait().await;
    let started = Instant::now();
    let mut first: Option<Bytes> = None;
    let mut identical = 0_u32;
    while let Some(answer) = clients.join_next().await {
        let body = answer.context("a client panicked")??;
        let first = first.get_or_insert_with(|| body.clone());
        identical += u32::from(body == *first);
    }
    let all_answered_ms = started.elapsed().as_secs_f64() * 1e3;
    ensure!(first.is_some_and(|body| !body.is_empty()), "the crowd got nothing");
    Ok(Visit {
        fetches: (bench.s3_relay.requests() - fetches) as f64,
        transforms: self::transforms(edge).await? - transforms,
        identical: f64::from(identical),
        all_answered_ms,
    })
}

async fn transforms(edge: &Edge) -> anyhow::Result<f64> {
    Ok(edge.metrics().await?.sum("calotype_transform_run_seconds_count", ""))
}
