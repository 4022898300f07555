//! A crash after many fills: what of them is still answered from the cache, and how soon.

use std::time::{Duration, Instant};

use anyhow::ensure;
use futures_util::future::try_join_all;

use crate::bench::Bench;
use crate::edge::{self, CacheStatus, Edge, EdgeHome, FOLDER};
use crate::pictures::SMALL;
use crate::report::{Figure, Goal, Row, Unit};

/// Clients that fill; enough to keep the libvips thread busy.
const CLIENTS: usize = 4;

const OPS: &str = "w=300,f=jpeg";

pub async fn measure(bench: &Bench) -> anyhow::Result<Figure> {
    let count = bench.effort.crash_fills;
    let home = EdgeHome::prepare(bench, "crash")?;
    let (mut edge, first_start) = home.start(bench).await?;
    let started = Instant::now();
    let filled = ask_all(&edge, count, CacheStatus::Filled).await?;
    ensure!(filled == count, "only {filled} of {count} were fills");
    let fills_per_second = count as f64 / started.elapsed().as_secs_f64();
    let waited = Instant::now();
    edge.until_flushed().await?;
    let flushed_after = waited.elapsed();
    eprintln!("  {count} fills, {fills_per_second:.0} a second");

    let (mut hits, mut ready, mut first_hit) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..bench.effort.crash_rounds {
        edge.crash().await?;
        let spawned = Instant::now();
        let until_ready;
        (edge, until_ready) = home.start(bench).await?;
        let mut connection = edge.connect().await?;
        let (_, status) = edge::fetch(&mut connection, &target(0)).await?;
        let until_hit = spawned.elapsed();
        ensure!(status == CacheStatus::Hit, "the first rendition is lost");
        // Each crash is measured on all fills; those that were lost are made again and must be on disk for the next one.
        let share = ask_all(&edge, count, CacheStatus::Hit).await? as f64 / count as f64 * 100.0;
        edge.until_flushed().await?;
        let millis = |time: Duration| time.as_secs_f64() * 1e3;
        eprintln!(
            "  crash {} of {}: {share:.2} % hits, ready after {:.0} ms",
            round + 1,
            bench.effort.crash_rounds,
            millis(until_ready)
        );
        hits.push(share);
        ready.push(millis(until_ready));
        first_hit.push(millis(until_hit));
    }
    edge.stop().await?;
    let rows = vec![
        Row::worst("hits after a crash, worst round", Unit::Percent, Goal::AtLeast(99.0), hits)?,
        Row::worst("restart until ready, worst round", Unit::Milliseconds, Goal::Below(500.0), ready)?,
        Row::median("restart until the first hit was answered", Unit::Milliseconds, first_hit)?,
        Row::single("start with an empty cache", Unit::Milliseconds, first_start.as_secs_f64() * 1e3),
        Row::single("fills before the crash", Unit::PerSecond, fills_per_second),
        Row::single("from the last fill to an empty queue", Unit::Milliseconds, flushed_after.as_secs_f64() * 1e3),
    ];
    let method = vec![
        format!(
            "{count} distinct renditions, asked for by {CLIENTS} clients as fast as one libvips thread makes them."
        ),
        "SIGKILL once our metrics tell that no rendition waits for the disk; then all are asked for again.".to_owned(),
        "The time counts from the start of the process until /readyz answers 200.".to_owned(),
    ];
    Ok(Figure { method, rows, ..Figure::default() })
}

fn target(version: usize) -> String {
    edge::target(OPS, version, FOLDER, SMALL)
}

/// Asks for the first `count` renditions and returns how many came as `expected`.
async fn ask_all(edge: &Edge, count: usize, expected: CacheStatus) -> anyhow::Result<usize> {
    let client = |first: usize| async move {
        let mut connection = edge.connect().await?;
        let mut as_expected = 0;
        for version in (first..count).step_by(CLIENTS) {
            let (_, status) = edge::fetch(&mut connection, &target(version)).await?;
            as_expected += usize::from(status == expected);
        }
        anyhow::Ok(as_expected)
    };
    Ok(try_join_all((0..CLIENTS).map(client)).await?.into_iter().sum())
}
