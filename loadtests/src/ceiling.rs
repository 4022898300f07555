//! Runs `ceiling/ceiling.c`: the same rendition in a loop of plain libvips calls, with the same allocator.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use serde::Deserialize;

use crate::bench::Bench;

/// Longest time for one run.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// Renditions before the clock starts: libraries loaded, memory taken.
const WARM_UPS: usize = 2;

/// What the loop took.
#[derive(Debug)]
pub struct Loop {
    /// CPU seconds for one rendition.
    pub cpu_seconds: f64,
    /// Seconds for one rendition.
    pub wall_seconds: f64,
    /// Version of libvips.
    pub libvips: String,
    /// Version of jemalloc, which is linked in: nothing answers otherwise.
    pub jemalloc: String,
    /// The last rendition.
    pub body: Bytes,
}

#[derive(Deserialize)]
struct Printed {
    count: f64,
    cpu_seconds: f64,
    wall_seconds: f64,
    libvips: String,
    jemalloc: String,
}

/// Renders `source` so many times at `width`, on the server's core.
///
/// # Errors
/// When the program fails.
pub async fn run(bench: &Bench, source: &Path, width: u32, format: &str, count: usize) -> anyhow::Result<Loop> {
    let out = bench.folder("ceiling")?.join("rendition");
    let mut command = bench.cores.server_command(&fs::canonicalize(&bench.tools.ceiling)?);
    command.arg(source).args([&width.to_string(), format, &WARM_UPS.to_string(), &count.to_string()]).arg(&out);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(TIME_LIMIT, command.output()).await.context("the ceiling does not end")??;
    ensure!(output.status.success(), "the ceiling failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    // libvips only warns about what may still make its numbers worthless.
    ensure!(output.stderr.is_empty(), "the ceiling complains: {}", String::from_utf8_lossy(&output.stderr).trim());
    let printed: Printed = serde_json::from_slice(&output.stdout).context("the ceiling's report cannot be read")?;
    Ok(Loop {
        cpu_seconds: printed.cpu_seconds / printed.count,
        wall_seconds: printed.wall_seconds / printed.count,
        libvips: printed.libvips,
        jemalloc: printed.jemalloc,
        body: fs::read(&out)?.into(),
    })
}
