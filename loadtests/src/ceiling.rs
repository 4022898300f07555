//! Runs `ceiling/ceiling.c`: the same rendition in a loop of plain libvips calls, with the same allocator.

use std::fs;
use std::path::{Path, PathBuf};
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
    /// The most resident memory, in bytes.
    pub peak_bytes: u64,
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
    peak_kib: u64,
    libvips: String,
    jemalloc: String,
}

/// How well the encoder is to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quality {
    /// As the edge does when nobody says.
    Edge,
    /// As libvips does when nobody says, with all its other settings too.
    Libvips,
    /// The edge's settings at this number.
    At(u8),
}

/// What the loop is to do.
#[derive(Debug)]
pub struct Job<'a> {
    /// The original.
    pub source: &'a Path,
    /// Width of the rendition.
    pub width: u32,
    /// `jpeg`, `webp` or `avif`.
    pub format: &'a str,
    /// Of the encoder.
    pub quality: Quality,
    /// How often.
    pub count: usize,
    /// A folder with another libvips than the system's.
    pub libvips: Option<PathBuf>,
}

/// Does `job` on the server's core.
///
/// # Errors
/// When the program fails.
pub async fn run(bench: &Bench, job: &Job<'_>) -> anyhow::Result<Loop> {
    let out = bench.folder("ceiling")?.join("rendition");
    let mut command = bench.cores.server_command(&fs::canonicalize(&bench.tools.ceiling)?);
    let quality = match job.quality {
        Quality::Edge => "edge".to_owned(),
        Quality::Libvips => "libvips".to_owned(),
        Quality::At(number) => number.to_string(),
    };
    command.arg(job.source).args([&job.width.to_string(), job.format, &quality]);
    command.args([WARM_UPS.to_string(), job.count.to_string()]).arg(&out);
    if let Some(libvips) = &job.libvips {
        command.env("LD_LIBRARY_PATH", libvips);
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(TIME_LIMIT, command.output()).await.context("the ceiling does not end")??;
    ensure!(output.status.success(), "the ceiling failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    // libvips only warns about what may still make its numbers worthless.
    ensure!(output.stderr.is_empty(), "the ceiling complains: {}", String::from_utf8_lossy(&output.stderr).trim());
    let printed: Printed = serde_json::from_slice(&output.stdout).context("the ceiling's report cannot be read")?;
    Ok(Loop {
        cpu_seconds: printed.cpu_seconds / printed.count,
        wall_seconds: printed.wall_seconds / printed.count,
        peak_bytes: printed.peak_kib * 1024,
        libvips: printed.libvips,
        jemalloc: printed.jemalloc,
        body: fs::read(&out)?.into(),
    })
}
