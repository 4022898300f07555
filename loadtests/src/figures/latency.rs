//! What one client waits for a rendition of a large original: the first time, and afterwards.

use std::time::Instant;

use anyhow::ensure;
use testkit::http::Connection;

use crate::bench::Bench;
use crate::edge::{self, CacheStatus, EdgeHome, FOLDER, S3};
use crate::pictures::CAMERA;
use crate::report::{Figure, Goal, Row, Unit};

/// The targets of the system that this one replaces.
const COLD: Goal = Goal::Below(200.0);
const WARM: Goal = Goal::Below(50.0);

const FORMATS: [&str; 3] = ["jpeg", "webp", "avif"];

pub async fn measure(bench: &Bench) -> anyhow::Result<Figure> {
    let (edge, _) = EdgeHome::prepare(bench, "latency")?.start(bench).await?;
    let mut connection = edge.connect().await?;
    let (mut rows, mut medians) = (Vec::new(), Vec::new());
    for origin in [FOLDER, S3] {
        let from = if origin == FOLDER { "a folder" } else { "S3" };
        for format in FORMATS {
            let ops = format!("w=800,f={format}");
            // The first one also opens connections to the store and loads codecs.
            timed(&mut connection, &ops, "warm-up", origin, CacheStatus::Filled).await?;
            let mut cold = Vec::new();
            for version in 0..bench.effort.latency_cold {
                cold.push(timed(&mut connection, &ops, &version.to_string(), origin, CacheStatus::Filled).await?);
            }
            medians.push(Row::median(format!("cold median, {format} from {from}"), Unit::Milliseconds, cold.clone())?);
            let row = Row::percentile(format!("cold p95, {format} from {from}"), Unit::Milliseconds, 95, cold)?;
            eprintln!("  {}", row.summary());
            rows.push(row.with_goal(COLD));
        }
    }
    let mut warm = Vec::new();
    for _ in 0..bench.effort.latency_warm {
        warm.push(timed(&mut connection, "w=800,f=jpeg", "warm-up", FOLDER, CacheStatus::Hit).await?);
    }
    medians.push(Row::median("warm median", Unit::Milliseconds, warm.clone())?);
    let row = Row::percentile("warm p95", Unit::Milliseconds, 95, warm)?;
    eprintln!("  {}", row.summary());
    rows.push(row.with_goal(WARM));
    rows.extend(medians);
    edge.stop().await?;
    let size = std::fs::metadata(bench.photo(CAMERA))?.len();
    let method = vec![
        format!(
            "A JPEG of 4000 × 3000 pixels and {size} bytes. One client, one connection, one request after another."
        ),
        "From the request's first byte to the answer's last; one core for the server.".to_owned(),
    ];
    Ok(Figure { method, rows, ..Figure::default() })
}

/// Milliseconds that one answer took.
async fn timed(
    connection: &mut Connection,
    ops: &str,
    version: &str,
    origin: &str,
    expected: CacheStatus,
) -> anyhow::Result<f64> {
    let target = edge::target(ops, version, origin, CAMERA);
    let started = Instant::now();
    let (_, status) = edge::fetch(connection, &target).await?;
    let took = started.elapsed();
    ensure!(status == expected, "{target} was {status:?} and not {expected:?}");
    Ok(took.as_secs_f64() * 1e3)
}
