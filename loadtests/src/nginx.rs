//! nginx as a caching proxy, for comparison. Its settings are in `nginx/nginx.conf`.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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

const TEMPLATE: &str = include_str!("../nginx/nginx.conf");

/// Longest wait for its start or end.
const WAIT_LIMIT: Duration = Duration::from_secs(10);

/// One of the ports: three in front of the cache, which differ in one setting each, and one of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// The one that is compared.
    Buffered,
    /// Writes to its access log for each request.
    Unbuffered,
    /// Keeps the files of the cache open.
    OpenFiles,
    /// Sends a plain file, which was put there with [`Nginx::put`].
    Files,
}

/// A running nginx on the server's core. Dropping it kills it and its worker.
#[derive(Debug)]
pub struct Nginx {
    /// Taken out when it is stopped in order.
    process: Option<Process>,
    id: u32,
    ports: [SocketAddr; 4],
    // A folder of its own: nginx may not enter the one of whoever measures.
    folder: TempDir,
}

impl Nginx {
    /// Starts it in front of `upstream`.
    ///
    /// # Errors
    /// When it does not serve `target`.
    pub async fn start(bench: &Bench, upstream: SocketAddr, target: &str) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("calotype-loadtest-nginx-").tempdir()?;
        let ports = [free_address()?, free_address()?, free_address()?, free_address()?];
        let settings = folder.path().join("nginx.conf");
        fs::write(&settings, fill_in(folder.path(), ports, upstream))?;
        let mut command = bench.cores.server_command(&bench.tools.nginx);
        command.arg("-c").arg(&settings).arg("-p").arg(folder.path()).arg("-e").arg(folder.path().join("error.log"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        give_up_root(&mut command, folder.path())?;
        let process = Process::start(command).context("nginx cannot be started")?;
        let id = process.id().context("nginx has ended at once")?;
        let nginx = Self { process: Some(process), id, ports, folder };
        for port in [Port::Buffered, Port::Unbuffered, Port::OpenFiles].map(|port| nginx.address(port)) {
            process::answers(port, target, WAIT_LIMIT).await.with_context(|| nginx.last_words())?;
        }
        Ok(nginx)
    }

    /// Where it listens.
    pub fn address(&self, port: Port) -> SocketAddr {
        self.ports[port as usize]
    }

    /// Puts a file where [`Port::Files`] answers `target` with it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(&self, target: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.folder.path().join("files").join(target.trim_start_matches('/'));
        fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
        Ok(fs::write(path, bytes)?)
    }

    /// CPU time so far, of master and worker.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        cpu_time::of_tree(self.id)
    }

    /// Empties its access logs.
    ///
    /// # Errors
    /// When a file cannot be cut.
    pub fn empty_access_logs(&self) -> anyhow::Result<()> {
        for name in ["buffered.log", "unbuffered.log", "open-files.log", "files.log"] {
            fs::File::options().write(true).open(self.folder.path().join(name))?.set_len(0)?;
        }
        Ok(())
    }

    /// Stops it in order.
    ///
    /// # Errors
    /// When it does not stop.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let process = self.process.take().context("nginx is stopped once")?;
        let status = process.stop(WAIT_LIMIT).await?;
        ensure!(status.success(), "nginx ended with {status}");
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default();
        format!("nginx did not start; its log ends: {}", log.lines().last().unwrap_or("(empty)"))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // A worker outlives a master that is killed, so it is the whole group that goes.
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
pub async fn version(nginx: &PathBuf) -> anyhow::Result<String> {
    let output = Command::new(nginx).arg("-v").output().await.context("nginx cannot be run")?;
    Ok(String::from_utf8_lossy(&output.stderr).trim().trim_start_matches("nginx version: ").to_owned())
}

fn fill_in(folder: &Path, [buffered, unbuffered, open_files, files]: [SocketAddr; 4], upstream: SocketAddr) -> String {
    [
        ("{{folder}}", folder.display().to_string()),
        ("{{buffered}}", buffered.to_string()),
        ("{{unbuffered}}", unbuffered.to_string()),
        ("{{open_files}}", open_files.to_string()),
        ("{{files}}", files.to_string()),
        ("{{upstream}}", upstream.to_string()),
    ]
    .into_iter()
    .fold(TEMPLATE.to_owned(), |text, (name, value)| text.replace(name, &value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_in_the_settings_is_filled_in() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let text = fill_in(Path::new("/tmp/x"), [address(1), address(2), address(3), address(5)], address(4));
        assert!(!text.contains("{{") && !text.contains("}}"), "{text}");
        for line in [
            "listen 127.0.0.1:1;",
            "listen 127.0.0.1:2;",
            "listen 127.0.0.1:3;",
            "listen 127.0.0.1:5;",
            "http://127.0.0.1:4;",
        ] {
            assert!(text.contains(line), "{line} is missing");
        }
    }
}
