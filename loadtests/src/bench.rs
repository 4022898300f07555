//! What all figures share: the programs, the pictures, a folder and an S3 server full of them, and how long to measure.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use devstack::s3::{S3Keys, S3Server};
use tempfile::TempDir;
use testkit::faulty::FaultyRelay;

use crate::cores::Cores;
use crate::pictures;

/// The bucket of the pictures.
pub const BUCKET: &str = "photos";

/// What each request to the S3 server takes longer: about as far as another region of the same continent.
pub const S3_LATENCY: Duration = Duration::from_millis(30);

/// The programs that are measured and measured with. `script/loadtest` builds and installs them.
#[derive(Debug, Args)]
pub struct Tools {
    /// The edge, built for release.
    #[arg(long, value_name = "FILE", default_value = "target/release/proxy")]
    pub proxy: PathBuf,
    /// The compiled ceiling/ceiling.c.
    #[arg(long, value_name = "FILE", default_value = "target/release/ceiling")]
    pub ceiling: PathBuf,
    /// nginx.
    #[arg(long, value_name = "FILE", default_value = "/usr/sbin/nginx")]
    pub nginx: PathBuf,
    /// Varnish. What it is in is left out without it.
    #[arg(long, value_name = "FILE", default_value = "/usr/sbin/varnishd")]
    pub varnishd: PathBuf,
    /// The folder that loadtests/peers/install installed into.
    #[arg(long, value_name = "FOLDER", default_value = "target/peers")]
    pub peers: PathBuf,
    /// wrk.
    #[arg(long, value_name = "FILE", default_value = "/usr/bin/wrk")]
    pub wrk: PathBuf,
}

/// How long and how often to measure.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Rounds of the hit figure; each asks every server once.
    pub hit_rounds: usize,
    /// Seconds for which each server is asked in a round.
    pub hit_seconds: u64,
    /// Rounds of the cold figure; each makes every rendition with every contender.
    pub cold_rounds: usize,
    /// CPU time that a contender takes in such a round, roughly.
    pub cold_cpu: Duration,
    /// Rounds of the figure of peers; each makes every rendition with every contender at every quality.
    pub peer_rounds: usize,
    /// CPU time that a contender takes in such a round at one quality, roughly.
    pub peer_cpu: Duration,
    /// Rounds of hits from the disk.
    pub disk_rounds: usize,
    /// Hits from the disk in a round.
    pub disk_hits: usize,
    /// Renditions of which the cold p95 is taken.
    pub latency_cold: usize,
    /// Hits of which the warm p95 is taken.
    pub latency_warm: usize,
    /// How often the crowd comes.
    pub crowd_rounds: usize,
    /// How often one tenant floods.
    pub fairness_rounds: usize,
    /// Hits of which the p99 is taken, before a flood and during it.
    pub fairness_hits: usize,
    /// Rounds of bursts, with sharing and without.
    pub burst_rounds: usize,
    /// Fills before the crash.
    pub crash_fills: usize,
    /// Crashes and restarts.
    pub crash_rounds: usize,
    /// Renditions that are purged at once.
    pub purge_renditions: usize,
    /// How long memory is watched.
    pub memory_time: Duration,
}

impl Effort {
    /// All of it in an hour and a half at most.
    pub fn full() -> Self {
        Self {
            hit_rounds: 8,
            hit_seconds: 4,
            cold_rounds: 5,
            cold_cpu: Duration::from_millis(2500),
            peer_rounds: 5,
            peer_cpu: Duration::from_millis(700),
            disk_rounds: 8,
            disk_hits: 8000,
            latency_cold: 80,
            latency_warm: 3000,
            crowd_rounds: 5,
            fairness_rounds: 5,
            fairness_hits: 2000,
            burst_rounds: 5,
            crash_fills: 2000,
            crash_rounds: 5,
            purge_renditions: 100_000,
            memory_time: Duration::from_secs(300),
        }
    }

    /// All of it in ten minutes at most.
    pub fn quick() -> Self {
        Self {
            hit_rounds: 3,
            hit_seconds: 1,
            cold_rounds: 2,
            cold_cpu: Duration::from_millis(800),
            peer_rounds: 1,
            peer_cpu: Duration::from_millis(100),
            disk_rounds: 2,
            disk_hits: 1000,
            latency_cold: 20,
            latency_warm: 500,
            crowd_rounds: 2,
            fairness_rounds: 1,
            fairness_hits: 500,
            burst_rounds: 2,
            crash_fills: 400,
            crash_rounds: 2,
            purge_renditions: 5000,
            memory_time: Duration::from_secs(20),
        }
    }
}

/// Everything that a figure needs.
#[derive(Debug)]
pub struct Bench {
    /// The programs.
    pub tools: Tools,
    /// How much to do.
    pub effort: Effort,
    /// Which core is whose.
    pub cores: Cores,
    /// In front of the S3 server: adds [`S3_LATENCY`] and counts requests.
    pub s3_relay: FaultyRelay,
    s3: S3Server,
    root: TempDir,
}

impl Bench {
    /// Paints the pictures and starts the S3 server.
    ///
    /// # Errors
    /// When a program is missing, or folder or server cannot be made.
    pub async fn prepare(tools: Tools, effort: Effort, cores: Cores) -> anyhow::Result<Self> {
        for program in [&tools.proxy, &tools.ceiling, &tools.nginx, &tools.wrk] {
            anyhow::ensure!(program.is_file(), "{} is missing; script/loadtest sees to it", program.display());
        }
        eprintln!("painting the pictures");
        let root = tempfile::Builder::new().prefix("calotype-loadtest-").tempdir().context("no temporary folder")?;
        let photos = photos_folder(root.path());
        std::fs::create_dir_all(&photos)?;
        pictures::write(&photos)?;
        let keys = S3Keys { access_key: "loadtest".to_owned(), secret_key: "loadtest-secret".to_owned() };
        // The bucket is the very folder that the folder origin reads: the same bytes both ways.
        let s3 = S3Server::start(photos.parent().context("the photos lie in a folder")?, &[BUCKET], keys, 0).await?;
        let s3_relay = FaultyRelay::start(s3.address()).await?;
        s3_relay.set_latency(S3_LATENCY);
        Ok(Self { tools, effort, cores, s3_relay, s3, root })
    }

    /// The folder of the pictures.
    pub fn photos(&self) -> PathBuf {
        photos_folder(self.root.path())
    }

    /// One of the pictures.
    pub fn photo(&self, name: &str) -> PathBuf {
        self.photos().join(name)
    }

    /// A folder of its own for `name`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.root.path().join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        Ok(folder)
    }

    /// The key of the S3 server.
    pub fn s3_keys(&self) -> &S3Keys {
        self.s3.keys()
    }
}

fn photos_folder(root: &Path) -> PathBuf {
    root.join("buckets").join(BUCKET)
}
