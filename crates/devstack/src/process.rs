//! One started process: stopped by its id, never left behind.
//!
//! Must not know what it runs. The child has its own process group, so that a Ctrl-C in the terminal reaches only the
//! one who started it, who then stops it in order.

use std::net::SocketAddr;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Time between two looks at a process that starts.
const POLL: Duration = Duration::from_millis(20);

/// Time for one answer to such a look.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `command`.
    ///
    /// # Errors
    /// When the program cannot be started. Needs a tokio runtime.
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        Ok(Self { child })
    }

    /// Its standard input, if that is a pipe and was not taken before. Waiting for the end closes what was not taken.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Its process id; `None` once it has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub async fn exited(&mut self) -> anyhow::Result<ExitStatus> {
        Ok(self.child.wait().await?)
    }

    /// Sends it a signal; one that has ended takes no notice.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
            kill_process(pid, signal)?;
        }
        Ok(())
    }

    /// Sends a signal to it and to all that it has started, unless they left its process group.
    ///
    /// # Errors
    /// When the system refuses, or all have ended.
    pub fn signal_group(&self, signal: Signal) -> anyhow::Result<()> {
        let group = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        kill_process_group(group.context("it has ended")?, signal)?;
        Ok(())
    }

    /// Asks it to end (SIGTERM) and waits; kills it when it has not ended within `limit`.
    ///
    /// # Errors
    /// When it had to be killed.
    pub async fn stop(mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        match timeout(limit, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => {
                self.child.kill().await?;
                bail!("the process did not stop within {limit:?} and was killed")
            }
        }
    }

    /// Kills it at once (SIGKILL), as a crash would.
    ///
    /// # Errors
    /// When the system refuses.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// Waits until an HTTP server answers `GET path` with 200.
///
/// # Errors
/// When it has not within `limit`; names the last answer.
pub async fn answers(address: SocketAddr, path: &str, limit: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let asked = timeout_at(deadline, timeout(ANSWER_LIMIT, ask(address, path))).await;
        match asked {
            Ok(Ok(Ok(status_line))) if status_line.contains(" 200 ") => return Ok(()),
            Ok(_) if Instant::now() < deadline => sleep(POLL).await,
            Ok(Ok(last)) => return last.map(drop).context("the last try failed"),
            Ok(Err(_)) | Err(_) => bail!("no answer from http://{address}{path} within {limit:?}"),
        }
    }
}

/// The status line. Only that is read: a server may keep the connection open.
async fn ask(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut line = String::new();
    BufReader::new(stream.take(4096)).read_line(&mut line).await?;
    Ok(line)
}
