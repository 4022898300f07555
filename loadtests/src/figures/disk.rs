//! Disk hits: how long the server is busy with one, by its own access log, and its CPU time.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use serde::Deserialize;

use crate::bench::Bench;
use crate::edge::{self, CacheStatus, Edge, EdgeHome, FOLDER};
use crate::pictures::PHOTO;
use crate::quiet;
use crate::report::{Figure, Goal, Row, Unit};
use crate::statistics::Samples;

/// The size of the renditions, in bytes, roughly.
const BYTES: usize = 100 * 1024;

/// A rendition may differ from it by this share.
const SIZE_TOLERANCE: f64 = 0.1;

/// Widths to look among, in pixels.
const WIDTHS: std::ops::Range<u32> = 200..2500;

/// Renditions that are asked for in turn: many times what fits into memory.
const RENDITIONS: usize = 320;

/// The smallest cache in memory that there may be: room for some ten of these renditions.
const SETTINGS: &str = "cache.memory_bytes = 1_048_576\n";

/// Share of the answers that must come from the disk, in per cent: some renditions stay in memory.
const FROM_DISK: f64 = 95.0;

/// Clients that ask at the same time when it is CPU time that is measured.
const CLIENTS: usize = 8;

/// What a round found.
struct Round {
    /// The server's own times of one client's hits, in microseconds.
    alone: Samples,
    /// The same with many clients.
    together: Samples,
    /// CPU time of one hit, of many clients, in microseconds.
    cpu_micros: f64,
    per_second: f64,
    from_disk_percent: f64,
}

/// What the access log tells of a request.
#[derive(Debug, Deserialize)]
struct Event {
    cache: String,
    duration_ms: f64,
}

pub async fn measure(bench: &Bench) -> anyhow::Result<Figure> {
    let home = EdgeHome::prepare_with(bench, "disk", SETTINGS)?;
    let (edge, _) = home.start(bench).await?;
    let (width, size) = width_of(&edge, BYTES).await?;
    fill(&edge, width).await?;
    edge.until_flushed().await?;
    // What was just written must not be answered out of buffers.
    edge.stop().await?;
    let (edge, _) = home.start(bench).await?;
    let hits = bench.effort.disk_hits;
    let wanted = bench.effort.disk_rounds;
    let quiet = quiet::rounds(wanted, async |number| {
        let round = round(&edge, width, hits).await?;
        let (p50, cpu) = (round.alone.median(), round.cpu_micros);
        eprintln!("  round {} ({wanted} wanted): p50 {p50:.0} µs, {cpu:.0} µs of CPU", number + 1);
        Ok(round)
    })
    .await?;
    edge.stop().await?;
    let each = |number: fn(&Round) -> f64| quiet.rounds.iter().map(number).collect::<Vec<f64>>();
    let micros = Unit::Microseconds;
    let rows = vec![
        Row::median("time on the server, p50, one client", micros, each(|round| round.alone.median()))?
            .with_goal(Goal::Below(150.0)),
        Row::median("time on the server, p95, one client", micros, each(|round| round.alone.percentile(95)))?,
        Row::median(
            format!("time on the server, p50, {CLIENTS} clients"),
            micros,
            each(|round| round.together.median()),
        )?,
        Row::median(format!("CPU of a hit, {CLIENTS} clients"), micros, each(|round| round.cpu_micros))?,
        Row::median(format!("answered, {CLIENTS} clients"), Unit::PerSecond, each(|round| round.per_second))?,
        Row::median("answers that came from the disk", Unit::Percent, each(|round| round.from_disk_percent))?,
        Row::others(&quiet)?,
    ];
    let method = vec![
        format!(
            "{RENDITIONS} renditions of {size} bytes each, asked for in turn by an edge that was started anew and keeps 1 MiB in memory. \
             Only answers from the disk count, by the access log; a round with less than 95 % of them fails. The files are in the system's page cache: this is the cost of the \
             cache, not of the disk."
        ),
        format!(
            "Time on the server is duration_ms of our access log, in whole microseconds: from the request's last header byte to the \
             answer's last. Rounds of {hits} hits, each first with one client and then with {CLIENTS}."
        ),
    ];
    Ok(Figure { method, rows, ..Figure::default() })
}

/// A width at which renditions have about so many bytes, and how many they have.
async fn width_of(edge: &Edge, bytes: usize) -> anyhow::Result<(u32, usize)> {
    let mut connection = edge.connect().await?;
    let (mut low, mut high) = (WIDTHS.start, WIDTHS.end);
    while high - low > 1 {
        let width = u32::midpoint(low, high);
        let (body, _) = edge::fetch(&mut connection, &target(width, "size")).await?;
        if (body.len() as f64 / bytes as f64 - 1.0).abs() <= SIZE_TOLERANCE {
            return Ok((width, body.len()));
        }
        if body.len() < bytes { low = width } else { high = width }
    }
    anyhow::bail!("no rendition of about {bytes} bytes was found")
}

fn target(width: u32, version: impl std::fmt::Display) -> String {
    edge::target(&format!("w={width},f=jpeg"), version, FOLDER, PHOTO)
}

/// Makes all of them.
async fn fill(edge: &Edge, width: u32) -> anyhow::Result<()> {
    let mut connection = edge.connect().await?;
    for version in 0..RENDITIONS {
        let (_, status) = edge::fetch(&mut connection, &target(width, version)).await?;
        ensure!(status == CacheStatus::Filled, "rendition {version} was not made for this request");
    }
    Ok(())
}

async fn round(edge: &Edge, width: u32, hits: usize) -> anyhow::Result<Round> {
    edge.empty_access_log()?;
    ask(edge, width, hits, 1).await?;
    let (alone, _) = logged(edge, hits).await?;
    edge.empty_access_log()?;
    let (before, started) = (edge.cpu_time()?, std::time::Instant::now());
    ask(edge, width, hits, CLIENTS).await?;
    let (cpu, wall) = (edge.cpu_time()?.saturating_sub(before), started.elapsed());
    let (together, from_disk_percent) = logged(edge, hits).await?;
    Ok(Round {
        alone,
        together,
        cpu_micros: cpu.as_secs_f64() * 1e6 / hits as f64,
        per_second: hits as f64 / wall.as_secs_f64(),
        from_disk_percent,
    })
}

async fn ask(edge: &Edge, width: u32, hits: usize, clients: usize) -> anyhow::Result<()> {
    try_join_all((0..clients).map(async |client| {
        let mut connection = edge.connect().await?;
        for hit in (0..hits).skip(client).step_by(clients) {
            let (_, status) = edge::fetch(&mut connection, &target(width, hit % RENDITIONS)).await?;
            ensure!(status == CacheStatus::Hit, "a rendition is no longer on disk");
        }
        Ok(())
    }))
    .await?;
    Ok(())
}

/// The server's times of the hits from the disk, once all `hits` are in the access log, and the share of them.
async fn logged(edge: &Edge, hits: usize) -> anyhow::Result<(Samples, f64)> {
    /// Longest wait for the log, and time between two looks.
    const LIMIT: Duration = Duration::from_secs(5);
    const POLL: Duration = Duration::from_millis(50);
    let started = std::time::Instant::now();
    let events = loop {
        let log = edge.access_log()?;
        if log.lines().count() >= hits && log.ends_with('\n') {
            break log.lines().map(serde_json::from_str).collect::<Result<Vec<Event>, _>>()?;
        }
        ensure!(started.elapsed() < LIMIT, "the access log has {} of {hits} lines", log.lines().count());
        tokio::time::sleep(POLL).await;
    };
    let micros: Vec<f64> =
        events.iter().filter(|event| event.cache == "disk").map(|event| event.duration_ms * 1e3).collect();
    let percent = micros.len() as f64 / events.len() as f64 * 100.0;
    ensure!(percent >= FROM_DISK, "only {percent:.1} % of the answers came from the disk");
    Ok((Samples::new(micros).context("nothing came from the disk")?, percent))
}
