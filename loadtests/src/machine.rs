//! What was measured on: the report is worth nothing without it.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::process::Command;

use crate::bench::Bench;
use crate::edge::EdgeHome;
use crate::nginx;
use crate::peers::{self, Installed};
use crate::table::Table;
use crate::varnish;

/// Machine and system.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// When the report was made, RFC 3339, UTC.
    pub date: String,
    /// The processor as the system names it.
    pub cpu: String,
    /// Cores of the machine.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Kernel.
    pub kernel: String,
    /// Distribution.
    pub system: String,
    /// The commit that was measured, with `+` if files had been changed since.
    pub commit: String,
    /// The load average over the minute before the end.
    pub load: String,
}

impl Machine {
    /// Looks around.
    pub async fn look() -> Self {
        let uname = rustix::system::uname();
        Self {
            date: OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_else(|_| unknown()),
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
            cores: cores(),
            memory_mib: memory_mib().unwrap_or(0),
            kernel: uname.release().to_string_lossy().into_owned(),
            system: field("/etc/os-release", "PRETTY_NAME").unwrap_or_else(unknown),
            commit: commit().await.unwrap_or_else(unknown),
            load: fs::read_to_string("/proc/loadavg").ok().and_then(|text| first_word(&text)).unwrap_or_else(unknown),
        }
    }

    /// In a line.
    pub fn describe(&self) -> String {
        let Self { date, cpu, cores, memory_mib, kernel, system, commit, load } = self;
        format!(
            "{date}, commit {commit}. {cpu}, {cores} cores, {memory_mib} MiB, {system}, kernel {kernel}; load average at \
             the end {load}."
        )
    }
}

/// The servers that were measured.
#[derive(Debug, Serialize)]
pub struct Servers {
    /// How the cores were divided.
    pub division: String,
    /// All of them.
    pub all: Vec<Server>,
}

/// One of the servers.
#[derive(Debug, Serialize)]
pub struct Server {
    name: &'static str,
    /// In its own words, or why it is not there.
    version: String,
    /// Where its settings are, as seen from this crate.
    settings: String,
}

impl Servers {
    /// Starts an edge once more to ask it for its libvips, and looks for what was installed.
    ///
    /// # Errors
    /// When the edge does not start or nginx cannot be run.
    pub async fn ask(bench: &Bench) -> anyhow::Result<Self> {
        let (edge, _) = EdgeHome::prepare(bench, "machine")?.start(bench).await?;
        let libvips = edge.libvips().await?;
        edge.stop().await?;
        let server = |name, version: anyhow::Result<String>, settings: &str| {
            let version = version.unwrap_or_else(|why| format!("not measured: {why:#}"));
            Server { name, version, settings: settings.to_owned() }
        };
        let mut all = vec![
            server("ours", Ok(format!("libvips {libvips}")), "src/edge.rs"),
            server("libvips loop", Ok(format!("libvips {libvips}")), "ceiling/ceiling.c"),
            server("newer libvips loop", newer_libvips(bench), "peers/imgforge/requirements.txt"),
            server("nginx", Ok(nginx::version(&bench.tools.nginx).await?), "nginx/nginx.conf"),
            server("Varnish", varnish::version(&bench.tools.varnishd).await, "varnish/default.vcl"),
        ];
        all.extend(peers::ALL.iter().map(|kind| {
            let found = Installed::find(&bench.tools.peers, kind.folder);
            let settings = format!("peers/{}/{}", kind.folder, kind.settings_file);
            server(kind.name, found.map(|found| found.version), &settings)
        }));
        Ok(Self { division: bench.cores.describe(), all })
    }

    /// As a table.
    pub fn to_markdown(&self) -> String {
        let mut table = Table::new(&["server", "version", "settings"]);
        for Server { name, version, settings } in &self.all {
            table.row(&[*name, version, &format!("[{settings}]({settings})")]);
        }
        table.into_text()
    }
}

/// What the loop with another libvips than the system's runs on: that of a peer which needs one.
fn newer_libvips(bench: &Bench) -> anyhow::Result<String> {
    let found = Installed::find(&bench.tools.peers, "imgforge")?;
    found.libvips().context("imgforge runs on the system's libvips")?;
    Ok(format!("that of {}", found.version))
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn first_word(text: &str) -> Option<String> {
    text.split_whitespace().next().map(str::to_owned)
}

/// The value of the first `name: value` or `name=value` in a file.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(Path::new(file)).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    let (_, value) = line.split_once([':', '='])?;
    Some(value.trim().trim_matches('"').to_owned())
}

/// Of the machine, not only those that the clients were given.
fn cores() -> usize {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    cpus.lines().filter(|line| line.starts_with("processor")).count()
}

fn memory_mib() -> Option<u64> {
    let kib: u64 = first_word(&field("/proc/meminfo", "MemTotal")?)?.parse().ok()?;
    Some(kib / 1024)
}

async fn commit() -> Option<String> {
    let commit = git(&["rev-parse", "--short", "HEAD"]).await?;
    let is_changed = !git(&["status", "--porcelain", "--untracked-files=no"]).await?.is_empty();
    Some(format!("{commit}{}", if is_changed { "+" } else { "" }))
}

async fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().await.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
