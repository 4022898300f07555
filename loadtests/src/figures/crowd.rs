//! A crowd at one URL that nobody asked for before: how often its original is fetched and its rendition made, and how long the
//! last one waits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use testkit::faulty::FaultyRelay;
use testkit::http::Connection;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::bench::{Bench, S3_LATENCY};
use crate::edge::{self, Edge, EdgeHome, S3};
use crate::pictures::PHOTO;
use crate::report::{Figure, Goal, Row, Unit, Versus};
use crate::statistics::Samples;
use crate::varnish::Varnish;

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

/// What each request to an origin takes longer here.
const LATENCY: Duration = Duration::from_millis(200);

/// How long the last of the crowd may wait.
const ALL_ANSWERED: Goal = Goal::AtMost(350.0);

pub async fn measure(bench: &Bench) -> anyhow::Result<Figure> {
    bench.s3_relay.set_latency(LATENCY);
    let figure = measure_far(bench).await;
    bench.s3_relay.set_latency(S3_LATENCY);
    figure
}

/// With origins that are far.
async fn measure_far(bench: &Bench) -> anyhow::Result<Figure> {
    let (edge, _) = EdgeHome::prepare(bench, "crowd")?.start(bench).await?;
    let behind = Behind::start(bench, &edge).await;
    if let Err(why) = &behind {
        eprintln!("  Varnish: not measured: {why:#}");
    }
    let rounds = bench.effort.crowd_rounds;
    let (mut visits, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let target = edge::target("w=512,f=webp", format!("crowd-{round}"), S3, PHOTO);
        let visit = visit(bench, &edge, &target).await?;
        eprintln!(
            "  round {} of {rounds}: {} fetches, {} transforms, {} identical, {:.0} ms",
            round + 1,
            visit.fetches,
            visit.transforms,
            visit.identical,
            visit.all_answered_ms
        );
        visits.push(visit);
        if let Ok(behind) = &behind {
            // The edge has it by now, and is the origin of the finished bytes.
            theirs.push(behind.visit(&target).await?);
        }
    }
    let mut method = method();
    match behind {
        Ok(behind) => behind.varnish.stop().await?,
        Err(why) => method.push(format!("Varnish was not measured: {why:#}.")),
    }
    edge.stop().await?;
    let each = |number: fn(&Visit) -> f64| visits.iter().map(number).collect::<Vec<f64>>();
    let crowd = Goal::Exactly(CLIENTS as f64);
    let mut rows = vec![
        Row::worst("requests to the S3 server, worst round", Unit::Count, Goal::Exactly(1.0), each(|v| v.fetches))?,
        Row::worst("transforms, worst round", Unit::Count, Goal::Exactly(1.0), each(|v| v.transforms))?,
        Row::worst("identical answers, worst round", Unit::Count, crowd, each(|v| v.identical))?,
        Row::median("until all were answered", Unit::Milliseconds, each(|v| v.all_answered_ms))?
            .with_goal(ALL_ANSWERED),
    ];
    let mut versus = Vec::new();
    if !theirs.is_empty() {
        let median = |all: &[f64]| Samples::new(all.to_vec()).context("there were no rounds").map(|all| all.median());
        versus.push(Versus {
            what: format!("{CLIENTS} clients, one cold URL, origin {} ms away", LATENCY.as_millis()),
            peer: "Varnish, which transforms nothing".to_owned(),
            measure: "until all were answered",
            unit: Unit::Milliseconds,
            ours: Some(median(&each(|v| v.all_answered_ms))?),
            theirs: median(&theirs)?,
        });
        rows.push(Row::median("until all were answered by Varnish", Unit::Milliseconds, theirs)?);
    }
    Ok(Figure { method, rows, versus, ..Figure::default() })
}

fn method() -> Vec<String> {
    vec![
        format!(
            "{CLIENTS} connections are opened first; then all ask at once for a rendition that was never made, from S3 with {} ms of \
             latency. A new URL each round.",
            LATENCY.as_millis()
        ),
        "Requests are counted in front of the S3 server, transforms by our metrics.".to_owned(),
        "Varnish is asked for the same URL in the same way, in front of an origin with the same latency that has the finished bytes: our \
         edge, which has made them a moment before."
            .to_owned(),
    ]
}

/// Varnish in front of an origin that is as far, and has the bytes that the edge made.
struct Behind {
    varnish: Varnish,
    origin: FaultyRelay,
}

impl Behind {
    async fn start(bench: &Bench, edge: &Edge) -> anyhow::Result<Self> {
        let origin = FaultyRelay::start(edge.address).await?;
        let first = edge::target("w=512,f=webp", "crowd-first", S3, PHOTO);
        let varnish = Varnish::start(bench, origin.address(), &first).await?;
        origin.set_latency(LATENCY);
        Ok(Self { varnish, origin })
    }

    /// Milliseconds from the first request until the last answer.
    async fn visit(&self, target: &str) -> anyhow::Result<f64> {
        let before = self.origin.requests();
        let (identical, all_answered_ms) = crowd(self.varnish.address, target).await?;
        ensure!(identical == CLIENTS, "Varnish gave {identical} of {CLIENTS} clients the same");
        let asked = self.origin.requests() - before;
        ensure!(asked == 1, "Varnish asked its origin {asked} times");
        Ok(all_answered_ms)
    }
}

async fn visit(bench: &Bench, edge: &Edge, target: &str) -> anyhow::Result<Visit> {
    let (fetches, transforms) = (bench.s3_relay.requests(), transforms(edge).await?);
    let (identical, all_answered_ms) = crowd(edge.address, target).await?;
    Ok(Visit {
        fetches: (bench.s3_relay.requests() - fetches) as f64,
        transforms: self::transforms(edge).await? - transforms,
        identical: identical as f64,
        all_answered_ms,
    })
}

/// All ask at once. How many got the same as the first, and the milliseconds until the last had its answer.
async fn crowd(server: SocketAddr, target: &str) -> anyhow::Result<(usize, f64)> {
    let barrier = Arc::new(Barrier::new(CLIENTS + 1));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let mut connection = Connection::open(server).await?;
        let (barrier, target) = (Arc::clone(&barrier), target.to_owned());
        clients.spawn(async move {
            barrier.wait().await;
            edge::fetch(&mut connection, &target).await.map(|(body, _)| body)
        });
    }
    barrier.wait().await;
    let started = Instant::now();
    let mut first: Option<Bytes> = None;
    let mut identical = 0;
    while let Some(answer) = clients.join_next().await {
        let body = answer.context("a client panicked")??;
        let first = first.get_or_insert_with(|| body.clone());
        identical += usize::from(body == *first);
    }
    let all_answered_ms = started.elapsed().as_secs_f64() * 1e3;
    ensure!(first.is_some_and(|body| !body.is_empty()), "the crowd got nothing");
    Ok((identical, all_answered_ms))
}

async fn transforms(edge: &Edge) -> anyhow::Result<f64> {
    Ok(edge.metrics().await?.sum("calotype_transform_run_seconds_count", ""))
}
