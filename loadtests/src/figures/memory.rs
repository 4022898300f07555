//! Minutes of nothing but cold work on large originals: the most memory that it takes, and whether that grows.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;

use crate::bench::Bench;
use crate::edge::{self, CacheStatus, Edge, EdgeHome, FOLDER};
use crate::pictures::{self, LARGE};
use crate::report::{Figure, Goal, Row, Unit};

/// Clients; more than the libvips thread, so that originals wait in memory.
const CLIENTS: usize = 4;

/// What is asked for in turn: each format, small and large, and an op that needs the whole picture in memory.
const OPS: [&str; 6] = [
    "w=800,f=jpeg",
    "w=1600,f=webp",
    "w=640,f=avif",
    "w=400,h=400,fit=cover,g=auto,f=webp",
    "w=2400,rotate=90,f=jpeg",
    "w=500,blur=20,f=png",
];

/// Time between two looks at the memory.
const EVERY: Duration = Duration::from_secs(2);

/// What the caches may take by their settings, in bytes: their memory, two write buffers each and what waits for those.
const CACHES_BYTES: f64 = (32 + 6 * 64 + 32 + 6 * 32) as f64 * 1024.0 * 1024.0;

/// A cache in memory that is full before the first fifth of the time is over: growth after that is something else.
const SETTINGS: &str = "cache.memory_bytes = 33_554_432\n";

/// What everything else may take.
const OTHER_BYTES: f64 = 600e6;

pub async fn measure(bench: &Bench) -> anyhow::Result<Figure> {
    pictures::write_large(&bench.photos())?;
    let (edge, _) = EdgeHome::prepare_with(bench, "memory", SETTINGS)?.start(bench).await?;
    let idle = edge.memory_bytes().await? as f64;
    let (until, started) = (Instant::now() + bench.effort.memory_time, Instant::now());
    let clients = try_join_all((0..CLIENTS).map(|client| ask(&edge, client, until)));
    let (asked, samples) = tokio::try_join!(clients, watch(&edge, until))?;
    let made: usize = asked.into_iter().sum();
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    let most = edge.memory_bytes_max().await? as f64;
    edge.stop().await?;
    // The first two fifths fill the caches.
    let later: Vec<_> = samples.iter().copied().filter(|(at, _)| *at > minutes * 0.4).collect();
    let (slope, noise) = line(&later).context("too few looks at the memory")?;
    eprintln!("  {made} renditions, {:.0} MB at most, {:.1} MB a minute", most / 1e6, slope / 1e6);
    let rows = vec![
        Row::single("most memory (VmHWM, and bodies held for the kernel)", Unit::Megabytes, most / 1e6)
            .with_goal(Goal::AtMost((CACHES_BYTES + OTHER_BYTES) / 1e6)),
        Row::single("growth a minute, in the last three fifths", Unit::Megabytes, slope / 1e6),
        Row::single("deviation of single looks from that line", Unit::Megabytes, noise / 1e6),
        Row::single("before the first request", Unit::Megabytes, idle / 1e6),
        Row::single("renditions made", Unit::Count, made as f64),
    ];
    let method = vec![
        format!(
            "{minutes:.1} minutes; {CLIENTS} clients ask for distinct renditions of a JPEG of 24 megapixels, of {} kinds in turn, with one libvips thread \
             and 32 MiB for renditions in memory.",
            OPS.len()
        ),
        "The goal is what the caches may take by their settings, and 600 MB.".to_owned(),
    ];
    Ok(Figure { method, rows, ..Figure::default() })
}

/// Asks for new renditions until the time is up; how many.
async fn ask(edge: &Edge, client: usize, until: Instant) -> anyhow::Result<usize> {
    let mut connection = edge.connect().await?;
    let mut made = 0;
    while Instant::now() < until {
        let target = edge::target(OPS[(client + made) % OPS.len()], format!("{client}-{made}"), FOLDER, LARGE);
        let (_, status) = edge::fetch(&mut connection, &target).await?;
        ensure!(status == CacheStatus::Filled, "{target} was not made for this request");
        made += 1;
    }
    Ok(made)
}

/// Minutes since the start, and resident bytes.
async fn watch(edge: &Edge, until: Instant) -> anyhow::Result<Vec<(f64, f64)>> {
    let started = Instant::now();
    let mut samples = Vec::new();
    while Instant::now() < until {
        tokio::time::sleep(EVERY).await;
        samples.push((started.elapsed().as_secs_f64() / 60.0, edge.memory_bytes().await? as f64));
    }
    Ok(samples)
}

/// The slope of the line through the points by least squares, and the standard deviation of the points from it.
fn line(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let slope = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>() / spread;
    let off: f64 = points.iter().map(|point| (point.1 - y - slope * (point.0 - x)).powi(2)).sum();
    (points.len() > 2).then(|| (slope, (off / count).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_through_its_points() {
        let points: Vec<_> = (0..10).map(|x| (f64::from(x), 3.0 * f64::from(x) + 7.0)).collect();
        let (slope, noise) = line(&points).expect("a line");
        assert!((slope - 3.0).abs() < 1e-9 && noise < 1e-9);
        assert!(line(&points[..2]).is_none());
    }
}
