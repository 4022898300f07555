//! The edge under measurement: its settings, its start, its crash, and a look at its metrics.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use devstack::process::Process;
use testkit::http::{self, Connection, Request, Response};

use crate::bench::{BUCKET, Bench};
use crate::cpu_time;
use crate::memory;
use crate::metrics::Metrics;

/// Longest wait for the edge to start, to stop, or to write what it has to its disk.
const WAIT_LIMIT: Duration = Duration::from_secs(30);

/// Time between two looks while waiting.
const POLL: Duration = Duration::from_millis(1);

/// The origin that is a folder, as it stands in a URL.
pub const FOLDER: &str = "@local";
/// The origin that is a bucket behind latency.
pub const S3: &str = "@s3";

/// What an edge keeps over a crash: settings, ports, cache.
#[derive(Debug)]
pub struct EdgeHome {
    folder: PathBuf,
    listen: SocketAddr,
    admin: SocketAddr,
}

/// A running edge on the server's core. Dropping it kills it.
#[derive(Debug)]
pub struct Edge {
    process: Process,
    id: u32,
    /// Where it serves pictures.
    pub address: SocketAddr,
    admin: SocketAddr,
    access_log: PathBuf,
}

/// Disk of each edge's caches: reserved at the start, for each of a dozen edges, and enough for the buffers that are usual.
const CACHE_DISK_BYTES: u64 = 1 << 30;
const ORIGINALS_DISK_BYTES: u64 = 256 << 20;

impl EdgeHome {
    /// Writes settings and policy for an edge called `name`: one serving thread, one libvips thread, access log on, disks
    /// that are large enough, everything else as it comes.
    ///
    /// # Errors
    /// When a file cannot be written or no port is free.
    pub fn prepare(bench: &Bench, name: &str) -> anyhow::Result<Self> {
        Self::prepare_with(bench, name, "")
    }

    /// The same with further lines of settings.
    ///
    /// # Errors
    /// As for [`Self::prepare`].
    pub fn prepare_with(bench: &Bench, name: &str, further: &str) -> anyhow::Result<Self> {
        let folder = bench.folder(name)?;
        let (listen, admin) = (free_address()?, free_address()?);
        let settings = format!(
            "[proxy]\nlisten = \"{listen}\"\nadmin_listen = \"{admin}\"\nthreads = 1\naccess_log = true\n\
             policy_file = {policy:?}\ncache.dir = {cache:?}\ncache.disk_bytes = {CACHE_DISK_BYTES}\n\
             originals.disk_bytes = {ORIGINALS_DISK_BYTES}\ntransform.threads = 1\n{further}",
            policy = folder.join("policy.toml"),
            cache = folder.join("cache"),
        );
        let keys = bench.s3_keys();
        let policy = format!(
            "[tenants.demo]\nopen = true\norigins.local.folder = {photos:?}\n[tenants.demo.origins.s3.s3]\n\
             bucket = \"{BUCKET}\"\nendpoint = \"{endpoint}\"\naccess_key_id = \"{key}\"\n\
             secret_access_key = \"{secret}\"\n\
             [tenants.shop]\nopen = true\norigins.local.folder = {photos:?}\n\
             [tenants.later]\nopen = true\nimprove_when_idle = true\nmax_age_seconds = 3600\n\
             origins.local.folder = {photos:?}\n",
            photos = bench.photos(),
            endpoint = bench.s3_relay.url(),
            key = keys.access_key,
            secret = keys.secret_key,
        );
        fs::write(folder.join("settings.toml"), settings)?;
        fs::write(folder.join("policy.toml"), policy)?;
        Ok(Self { folder, listen, admin })
    }

    /// Starts the edge. Returns it with the time from the start of its process until it was ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start(&self, bench: &Bench) -> anyhow::Result<(Edge, Duration)> {
        let access_log = self.folder.join("access.log");
        let mut command = bench.cores.server_command(&fs::canonicalize(&bench.tools.proxy)?);
        command.arg("--config").arg(self.folder.join("settings.toml"));
        // The environment of whoever measures must not change what is measured. Which libvips is used is theirs to say.
        command.env_clear().envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "LD_LIBRARY_PATH"));
        command.stdin(Stdio::null()).stdout(append(&access_log)?).stderr(append(&self.folder.join("log"))?);
        let started = Instant::now();
        let process = Process::start(command).context("the edge cannot be started")?;
        let id = process.id().context("the edge has ended at once")?;
        let edge = Edge { process, id, address: self.listen, admin: self.admin, access_log };
        edge.until_ready(started).await.with_context(|| self.last_words())?;
        Ok((edge, started.elapsed()))
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        format!("the edge did not start; its log ends: {}", log.lines().last().unwrap_or("(empty)"))
    }
}

impl Edge {
    async fn until_ready(&self, started: Instant) -> anyhow::Result<()> {
        loop {
            match http::get(self.admin, "/readyz").await {
                Ok(answer) if answer.status.is_success() => return Ok(()),
                _ => ensure!(started.elapsed() < WAIT_LIMIT, "not ready within {WAIT_LIMIT:?}"),
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// A keep-alive connection to it.
    ///
    /// # Errors
    /// When it takes none.
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        Connection::open(self.address).await
    }

    /// CPU time so far, of all its threads.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        cpu_time::of_tree(self.id)
    }

    /// Its resident memory, and the bodies that it holds for the kernel to send, which count as resident only where they were
    /// read.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn memory_bytes(&self) -> anyhow::Result<u64> {
        Ok(self.resident_bytes()? + self.pages_bytes().await?)
    }

    /// The most resident memory that it has had, and those bodies as they are now.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn memory_bytes_max(&self) -> anyhow::Result<u64> {
        Ok(memory::peak_bytes(self.id)? + self.pages_bytes().await?)
    }

    async fn pages_bytes(&self) -> anyhow::Result<u64> {
        Ok(self.metrics().await?.sum("calotype_body_pages_bytes", "") as u64)
    }

    fn resident_bytes(&self) -> anyhow::Result<u64> {
        memory::resident_bytes(self.id)
    }

    /// Where the operator's port is.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its metrics now.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> anyhow::Result<Metrics> {
        let answer = http::get(self.admin, "/metrics").await?;
        ensure!(answer.status.is_success(), "the metrics answered {}", answer.status);
        Ok(Metrics::new(answer.text()))
    }

    /// Waits until all renditions are on disk.
    ///
    /// # Errors
    /// When they are not within half a minute, or one was dropped.
    pub async fn until_flushed(&self) -> anyhow::Result<()> {
        const UNFLUSHED: &str = "calotype_cache_unflushed_entries";
        let started = Instant::now();
        loop {
            let metrics = self.metrics().await?;
            ensure!(metrics.has(UNFLUSHED), "the edge does not tell {UNFLUSHED}");
            let dropped = metrics.sum("calotype_cache_entries_dropped_total", "");
            ensure!(dropped == 0.0, "{dropped} renditions were dropped on their way to disk");
            if metrics.sum(UNFLUSHED, "") == 0.0 {
                return Ok(());
            }
            ensure!(started.elapsed() < WAIT_LIMIT, "renditions wait for the disk after {WAIT_LIMIT:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What libvips it runs on.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn libvips(&self) -> anyhow::Result<String> {
        let answer = http::get(self.admin, "/capabilities").await?;
        let capabilities: serde_json::Value = serde_json::from_slice(&answer.body)?;
        Ok(capabilities["libvips"].as_str().context("the edge does not tell its libvips")?.to_owned())
    }

    /// Empties the access log, which a few seconds of hits fill with hundreds of megabytes.
    ///
    /// # Errors
    /// When the file cannot be cut.
    pub fn empty_access_log(&self) -> anyhow::Result<()> {
        Ok(File::options().write(true).open(&self.access_log)?.set_len(0)?)
    }

    /// What is in the access log; the edge writes it a moment after each answer.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn access_log(&self) -> anyhow::Result<String> {
        fs::read_to_string(&self.access_log).context("the access log cannot be read")
    }

    /// Kills it as a crash would.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn crash(self) -> anyhow::Result<()> {
        self.process.kill().await
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// When it does not stop.
    pub async fn stop(self) -> anyhow::Result<()> {
        let status = self.process.stop(WAIT_LIMIT).await?;
        ensure!(status.success(), "the edge ended with {status}");
        Ok(())
    }
}

/// The target of a rendition that no other `version` shares.
pub fn target(ops: &str, version: impl std::fmt::Display, origin: &str, name: &str) -> String {
    target_of("demo", ops, version, origin, name)
}

/// The same of another tenant than `demo`.
pub fn target_of(tenant: &str, ops: &str, version: impl std::fmt::Display, origin: &str, name: &str) -> String {
    format!("/{tenant}/{ops},v={version}/{origin}/{name}")
}

/// Asks for a picture that must be answered 200. Returns the body and how the cache took part.
///
/// # Errors
/// On any other answer.
pub async fn fetch(connection: &mut Connection, target: &str) -> anyhow::Result<(Bytes, CacheStatus)> {
    let answer = connection.send(&Request::get(target)).await?;
    ensure!(answer.status == 200, "{target} answered {}: {}", answer.status, answer.text());
    let status = CacheStatus::of(&answer);
    Ok((answer.body, status))
}

/// How the cache took part in an answer (RFC 9211).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheStatus {
    /// Answered from memory or disk.
    Hit,
    /// Made for this request.
    Filled,
    /// Anything else, made for another request for instance.
    Other,
}

impl CacheStatus {
    fn of(answer: &Response) -> Self {
        match answer.header("cache-status").unwrap_or_default() {
            status if status.contains("; hit") => Self::Hit,
            status if status.contains("fwd=uri-miss; stored") => Self::Filled,
            _ => Self::Other,
        }
    }
}

/// A port of the loopback address that was free a moment ago.
///
/// # Errors
/// When the system has none.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Opened for appending, so that it can be emptied while a process writes to it.
fn append(path: &Path) -> anyhow::Result<File> {
    File::options().append(true).create(true).open(path).with_context(|| format!("{} cannot be opened", path.display()))
}
