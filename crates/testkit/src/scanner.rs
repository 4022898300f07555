//! Scanners of uploads: ClamAV's daemon with one signature of our own, and a stub that says what it is told to.
//!
//! The daemon is the distribution's (`script/test` installs it), in a private folder, with a database that is made here: nothing is
//! fetched. Everything here panics when it fails.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use devstack::process::Process;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::edge::eventually;
use crate::port::Port;

/// What the daemon takes for harmful, wherever in a file it is.
pub const HARMFUL: &[u8] = b"CALOTYPE-TEST-SIGNATURE";

/// What the daemon calls it: signatures that are not ClamAV's own have the last word.
pub const SIGNATURE: &str = "Calotype.Test.Signature.UNOFFICIAL";

/// Most bytes that the daemon takes.
pub const STREAM_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Where the daemon may be, since an ordinary user's `PATH` has no such folder.
const PROGRAMS: [&str; 3] = ["/usr/sbin/clamd", "/usr/local/sbin/clamd", "/usr/bin/clamd"];

/// A running `clamd`. Dropping it kills it.
#[derive(Debug)]
pub struct Clamd {
    /// `None` while it is down.
    process: Option<Process>,
    port: Port,
    folder: TempDir,
}

impl Clamd {
    /// Starts one, and waits until it listens.
    ///
    /// # Panics
    /// When it is not installed, or does not start.
    pub async fn start() -> Self {
        let (folder, port) =
            (tempfile::tempdir().expect("a folder can be made"), Port::keep().expect("a port is free"));
        let database = folder.path().join("database");
        fs::create_dir(&database).expect("the folder is ours");
        let hex: String = HARMFUL.iter().map(|byte| format!("{byte:02x}")).collect();
        // Any type of file, any place in it.
        fs::write(database.join("test.ndb"), format!("Calotype.Test.Signature:0:*:{hex}\n")).expect("ours");
        let process = Some(launch(&folder, &port));
        let started = Self { process, port, folder };
        started.wait().await;
        started
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Where it listens over TCP.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address
    }

    /// Kills it as a crash would. Its socket stays.
    ///
    /// # Panics
    /// When it has ended before.
    pub async fn kill(&mut self) {
        let process = self.process.take().expect("it runs");
        process.kill().await.expect("our own child may be killed");
    }

    /// Starts it anew.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub async fn start_again(&mut self) {
        self.process = Some(launch(&self.folder, &self.port));
        self.wait().await;
    }

    async fn wait(&self) {
        eventually("clamd", async || {
            let mut stream = UnixStream::connect(self.socket()).await.ok()?;
            stream.write_all(b"zPING\0").await.ok()?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.ok()?;
            (answer == b"PONG\0").then_some(())
        })
        .await;
    }
}

fn launch(folder: &TempDir, port: &Port) -> Process {
    let path = folder.path();
    let settings = format!(
        "Foreground yes\nDatabaseDirectory {0}/database\nLocalSocket {0}/socket\nFixStaleSocket yes\nTCPAddr {1}\n\
         TCPSocket {2}\nStreamMaxLength {STREAM_BYTES_MAX}\nTemporaryDirectory {0}\nMaxThreads 4\n",
        path.display(),
        port.address.ip(),
        port.address.port()
    );
    fs::write(path.join("clamd.conf"), settings).expect("the folder is ours");
    let program = PROGRAMS.iter().find(|program| fs::exists(program).unwrap_or(false));
    let program = program.expect("clamd is not installed: script/test does that");
    let log = File::create(path.join("log")).expect("the folder is ours");
    let mut command = Command::new(program);
    command.arg("--config-file").arg(path.join("clamd.conf")).stdin(Stdio::null());
    command.stdout(log.try_clone().expect("a file")).stderr(log);
    Process::start(command).expect("the program is there and may be run")
}

/// What a stub does with whoever asks it to judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// Takes all bytes, and answers this.
    This(&'static str),
    /// Answers this before it has taken a byte, and goes.
    AtOnce(&'static str),
    /// Takes all bytes, and says nothing until it is told otherwise.
    Nothing,
    /// Takes so many bytes, and goes.
    Leaves(usize),
    /// Takes all bytes, and answers without an end.
    Endless,
}

/// A scanner that says what it is told to.
#[derive(Debug)]
pub struct ScannerStub {
    address: SocketAddr,
    says: watch::Sender<Says>,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl ScannerStub {
    /// Starts one.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(says: Says) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (says, told) = watch::channel(says);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Whoever asks may go away at any moment.
                tokio::spawn(serve(stream, told.clone(), Arc::clone(&count)));
            }
        });
        Self { address, says, asked, task }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says something else from now on, to those who wait, too.
    pub fn say(&self, says: Says) {
        self.says.send_replace(says);
    }

    /// How often it was asked to judge.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for ScannerStub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, mut told: watch::Receiver<Says>, asked: Arc<AtomicUsize>) -> std::io::Result<()> {
    let mut command = Vec::new();
    while command.last() != Some(&0) {
        command.push(stream.read_u8().await?);
    }
    if command != b"zINSTREAM\0" {
        return answer(&mut stream, "ClamAV 0.0.0").await;
    }
    asked.fetch_add(1, Ordering::SeqCst);
    let now = *told.borrow();
    if let Says::AtOnce(text) = now {
        return answer(&mut stream, text).await;
    }
    let mut left = if let Says::Leaves(bytes) = now { bytes } else { usize::MAX };
    loop {
        let length = stream.read_u32().await? as usize;
        if length == 0 {
            break;
        }
        let mut piece = vec![0; length.min(left)];
        stream.read_exact(&mut piece).await?;
        left -= piece.len();
        if left == 0 {
            return Ok(());
        }
    }
    let now = told.wait_for(|says| *says != Says::Nothing).await.map(|says| *says);
    match now {
        Ok(Says::This(text) | Says::AtOnce(text)) => answer(&mut stream, text).await,
        Ok(Says::Endless) => loop {
            stream.write_all(&[b'x'; 4096]).await?;
            tokio::time::sleep(Duration::from_millis(1)).await;
        },
        _ => Ok(()),
    }
}

async fn answer(stream: &mut TcpStream, text: &str) -> std::io::Result<()> {
    stream.write_all(text.as_bytes()).await?;
    stream.write_all(b"\0").await
}
