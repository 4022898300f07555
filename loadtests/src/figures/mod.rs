//! The figures, one file each.
//!
//! A figure asserts whatever must hold for its numbers to mean anything, and fails when it does not.

mod burst;
mod cold;
mod crash;
mod crowd;
mod disk;
mod fairness;
mod hit;
mod idle;
mod latency;
mod later;
mod memory;
mod peers;
mod purge;

use clap::ValueEnum;
use serde::Serialize;

use crate::bench::Bench;
use crate::report::Figure;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FigureName {
    /// CPU time of a memory hit, beside nginx and Varnish.
    Hit,
    /// CPU time of making a rendition, beside a plain libvips loop.
    Cold,
    /// How long one client waits for a picture of a large original.
    Latency,
    /// Server-side time and CPU time of a disk hit.
    Disk,
    /// Making a rendition, beside other image servers.
    Peers,
    /// Many clients that want the same new rendition at once.
    Crowd,
    /// What one tenant's flood does to another tenant, and to hits.
    Fairness,
    /// Eight widths of one picture at once.
    Burst,
    /// What a crash leaves.
    Crash,
    /// What connections cost that do nothing.
    Idle,
    /// How soon a purge is in force.
    Purge,
    /// The most memory that cold work takes.
    Memory,
    /// What renditions that are made again in idle time save.
    Later,
}

impl FigureName {
    /// In the order of the report.
    pub const ALL: [Self; 13] = [
        Self::Hit,
        Self::Disk,
        Self::Peers,
        Self::Cold,
        Self::Latency,
        Self::Crowd,
        Self::Fairness,
        Self::Burst,
        Self::Crash,
        Self::Idle,
        Self::Purge,
        Self::Memory,
        Self::Later,
    ];

    /// As on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Disk => "disk",
            Self::Peers => "peers",
            Self::Cold => "cold",
            Self::Latency => "latency",
            Self::Crowd => "crowd",
            Self::Fairness => "fairness",
            Self::Burst => "burst",
            Self::Crash => "crash",
            Self::Idle => "idle",
            Self::Purge => "purge",
            Self::Memory => "memory",
            Self::Later => "later",
        }
    }

    /// As a heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Hit => "Memory hit: CPU time per answered request, against nginx and Varnish",
            Self::Disk => "Disk hit of 100 KiB: time on the server",
            Self::Peers => "Misses: CPU time, bytes, looks and memory, against other image servers",
            Self::Cold => "Cold 512 px: CPU time per rendition, against a plain libvips loop",
            Self::Latency => "A 5 MB JPEG at 800 px: what one client waits",
            Self::Crowd => "500 clients at once on one cold URL",
            Self::Fairness => "One tenant floods, another asks for one picture at a time",
            Self::Burst => "A srcset of eight widths at once, with and without sharing the decode",
            Self::Crash => "kill -9 after many fills",
            Self::Idle => "10,000 idle connections",
            Self::Purge => "A purge of a tenant, with few renditions and with many",
            Self::Memory => "Memory: minutes of cold work on large originals",
            Self::Later => "Better later: bytes that idle time saves, at the same score",
        }
    }

    /// Measures it.
    ///
    /// # Errors
    /// When it cannot be measured.
    pub async fn measure(self, bench: &Bench) -> anyhow::Result<Figure> {
        match self {
            Self::Hit => hit::measure(bench).await,
            Self::Disk => disk::measure(bench).await,
            Self::Peers => peers::measure(bench).await,
            Self::Cold => cold::measure(bench).await,
            Self::Latency => latency::measure(bench).await,
            Self::Crowd => crowd::measure(bench).await,
            Self::Fairness => fairness::measure(bench).await,
            Self::Burst => burst::measure(bench).await,
            Self::Crash => crash::measure(bench).await,
            Self::Idle => idle::measure(bench).await,
            Self::Purge => purge::measure(bench).await,
            Self::Memory => memory::measure(bench).await,
            Self::Later => later::measure(bench).await,
        }
    }
}
