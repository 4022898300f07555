//! Varnish as a caching proxy, for comparison. Its settings are in `varnish/default.vcl`.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use devstack::process::{self, Process};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::process::Command;

use crate::bench::Bench;
use crate::cpu_time;
use crate::edge::free_address;
use crate::peers::give_up_root;

const TEMPLATE: &str = include_str!("../varnish/default.vcl");

/// Longest wait for its start or end. It compiles its settings first.
const WAIT_LIMIT: Duration = Duration::from_secs(30);

/// A running Varnish on the server's core. Dropping it kills it and its worker.
#[derive(Debug)]
pub struct Varnish {
    /// Taken out when it is stopped in order.
    process: Option<Process>,
    id: u32,
    /// Where it listens.
    pub address: SocketAddr,
    // A folder of its own: it may not enter the one of whoever measures.
    folder: TempDir,
}

impl Varnish {
    /// Starts it in front of `upstream`.
    ///
    /// # Errors
    /// When it does not serve `target`.
    pub async fn start(bench: &Bench, upstream: SocketAddr, target: &str) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("calotype-loadtest-varnish-").tempdir()?;
        let address = free_address()?;
        let settings = folder.path().join("default.vcl");
        fs::write(&settings, fill_in(upstream))?;
        let mut command = bench.cores.server_command(&bench.tools.varnishd);
        // In the foreground, without a jail of its own as it is nobody already, and with everything in memory.
        command.args(["-F", "-j", "none", "-s", "malloc,256m", "-a", &address.to_string()]);
        command.arg("-f").arg(&settings).arg("-n").arg(folder.path().join("work"));
        let log = fs::File::create(folder.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        give_up_root(&mut command, folder.path())?;
        let process = Process::start(command).context("Varnish cannot be started")?;
        let id = process.id().context("Varnish has ended at once")?;
        let varnish = Self { process: Some(process), id, address, folder };
        process::answers(address, target, WAIT_LIMIT).await.with_context(|| varnish.last_words())?;
        Ok(varnish)
    }

    /// CPU time so far, of manager and worker.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        cpu_time::of_tree(self.id)
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// When it does not stop.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let process = self.process.take().context("Varnish is stopped once")?;
        let status = process.stop(WAIT_LIMIT).await?;
        ensure!(status.success(), "Varnish ended with {status}");
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        format!("Varnish did not start; its log ends: {}", log.lines().last().unwrap_or("(empty)"))
    }
}

impl Drop for Varnish {
    fn drop(&mut self) {
        // A worker outlives a manager that is killed for a moment, so it is the whole group that goes.
        let group = i32::try_from(self.id).ok().and_then(Pid::from_raw);
        if let (Some(_), Some(group)) = (&self.process, group) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Its version, for the report.
///
/// # Errors
/// When it cannot be run.
pub async fn version(varnishd: &Path) -> anyhow::Result<String> {
    ensure!(varnishd.is_file(), "it is not installed");
    let output = Command::new(varnishd).arg("-V").output().await.context("Varnish cannot be run")?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.lines().next().context("Varnish does not tell its version")?;
    Ok(line.trim_start_matches("varnishd ").trim_matches(['(', ')']).to_owned())
}

fn fill_in(upstream: SocketAddr) -> String {
    TEMPLATE.replace("{{host}}", &upstream.ip().to_string()).replace("{{port}}", &upstream.port().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_in_the_settings_is_filled_in() {
        let text = fill_in(SocketAddr::from(([127, 0, 0, 1], 81)));
        assert!(!text.contains("{{") && !text.contains("}}"), "{text}");
        assert!(text.contains(".host = \"127.0.0.1\";") && text.contains(".port = \"81\";"), "{text}");
    }
}
