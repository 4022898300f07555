//! Ten thousand connections that do nothing: what each costs in memory, and whether hits on others notice.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use testkit::http::Connection;

use crate::bench::Bench;
use crate::edge::{self, Edge, EdgeHome, FOLDER};
use crate::pictures::SMALL;
use crate::quiet;
use crate::report::{Figure, Goal, Row, Unit};
use crate::wrk;

const CONNECTIONS: usize = 10_000;

/// Files that this process has open beside the connections.
const OTHER_FILES: usize = 1000;

/// All of them come from one address, and stay while hits are measured.
const SETTINGS: &str = "connections.per_address = 0\nconnections.idle_seconds = 3600\n";

const OPEN: &str = "calotype_connections_open";

/// Longest wait for the edge to notice that connections were closed.
const CLOSE_LIMIT: Duration = Duration::from_secs(30);

/// One round.
struct Round {
    /// CPU time of a hit with no other connection, and with all.
    alone_micros: f64,
    among_micros: f64,
    alone_per_second: f64,
    among_per_second: f64,
}

pub async fn measure(bench: &Bench) -> anyhow::Result<Figure> {
    let count = connections()?;
    let (edge, _) = EdgeHome::prepare_with(bench, "idle", SETTINGS)?.start(bench).await?;
    let target = edge::target("w=200,f=jpeg", "idle", FOLDER, SMALL);
    edge::fetch(&mut edge.connect().await?, &target).await?;
    let bytes = memory(bench, &edge, &target, count).await?;
    let wanted = bench.effort.hit_rounds;
    let quiet = quiet::rounds(wanted, async |number| {
        let round = round(bench, &edge, &target, count).await?;
        let (alone, among) = (round.alone_micros, round.among_micros);
        eprintln!("  round {} ({wanted} wanted): {alone:.1} µs alone, {among:.1} µs among them", number + 1);
        Ok(round)
    })
    .await?;
    edge.stop().await?;
    let each = |number: fn(&Round) -> f64| quiet.rounds.iter().map(number).collect::<Vec<f64>>();
    let rows = vec![
        Row::single("idle connections", Unit::Count, count as f64).with_goal(Goal::Exactly(CONNECTIONS as f64)),
        Row::single("memory of the edge for each", Unit::Bytes, bytes.round()),
        Row::median(
            "CPU time of a hit among them, against alone",
            Unit::Ratio,
            each(|round| round.among_micros / round.alone_micros),
        )?
        .with_goal(Goal::AtMost(1.1)),
        Row::median("CPU time of a hit alone", Unit::Microseconds, each(|round| round.alone_micros))?,
        Row::median("CPU time of a hit among them", Unit::Microseconds, each(|round| round.among_micros))?,
        Row::median("hits alone", Unit::PerSecond, each(|round| round.alone_per_second))?,
        Row::median("hits among them", Unit::PerSecond, each(|round| round.among_per_second))?,
        Row::others(&quiet)?,
    ];
    let method = vec![
        format!(
            "Each of {count} connections is answered a hit and then kept; meanwhile wrk asks for hits on {} others.",
            wrk::CONNECTIONS
        ),
        "Memory is the growth of the edge's resident set when they come for the first time. The kernel's share is not in it."
            .to_owned(),
    ];
    Ok(Figure { method, rows, ..Figure::default() })
}

/// As many connections as wanted, or as this process may have.
fn connections() -> anyhow::Result<usize> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("the limit on open files stays")?;
    let allowed = maximum.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    Ok(CONNECTIONS.min(allowed.saturating_sub(OTHER_FILES)))
}

/// Growth of the edge's resident memory by each connection.
async fn memory(bench: &Bench, edge: &Edge, target: &str, count: usize) -> anyhow::Result<f64> {
    ask(bench, edge, target).await?;
    until_open(edge, 0).await?;
    let before = edge.memory_bytes().await?;
    let idle = connect(edge, target, count).await?;
    let bytes = (edge.memory_bytes().await? as f64 - before as f64) / count as f64;
    eprintln!("  {bytes:.0} bytes a connection");
    drop(idle);
    Ok(bytes)
}

async fn round(bench: &Bench, edge: &Edge, target: &str, count: usize) -> anyhow::Result<Round> {
    until_open(edge, 0).await?;
    let (alone_micros, alone_per_second) = ask(bench, edge, target).await?;
    until_open(edge, 0).await?;
    let idle = connect(edge, target, count).await?;
    let (among_micros, among_per_second) = ask(bench, edge, target).await?;
    until_open(edge, count).await?;
    drop(idle);
    Ok(Round { alone_micros, among_micros, alone_per_second, among_per_second })
}

/// Connections that have been answered and are kept.
async fn connect(edge: &Edge, target: &str, count: usize) -> anyhow::Result<Vec<Connection>> {
    let mut idle = Vec::with_capacity(count);
    for _ in 0..count {
        let mut connection = edge.connect().await?;
        edge::fetch(&mut connection, target).await?;
        idle.push(connection);
    }
    until_open(edge, count).await?;
    Ok(idle)
}

/// CPU time of a hit, and hits per second.
async fn ask(bench: &Bench, edge: &Edge, target: &str) -> anyhow::Result<(f64, f64)> {
    let before = edge.cpu_time()?;
    let answered = wrk::run(&bench.tools.wrk, edge.address, target, bench.effort.hit_seconds).await?;
    let took = edge.cpu_time()? - before;
    edge.empty_access_log()?;
    Ok((took.as_secs_f64() * 1e6 / answered.requests as f64, answered.per_second))
}

/// Waits until the edge has so many connections.
async fn until_open(edge: &Edge, count: usize) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let open = edge.metrics().await?.sum(OPEN, "");
        if open == count as f64 {
            return Ok(());
        }
        ensure!(started.elapsed() < CLOSE_LIMIT, "{open} connections are open, and not {count}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
