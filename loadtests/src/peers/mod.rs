//! Image servers of other projects: where they were installed, how one is started, asked, looked at and stopped.
//!
//! `peers/` beside the sources has the settings of each, and how it is installed; `kinds` knows what to call it by. Must not
//! link any of them: they are run as programs, as their users do.

mod kinds;

use std::fs::{self, File, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use devstack::process::Process;
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use testkit::http::{Connection, Request};
use testkit::web::{Page, WebServer};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::Instant;

pub use self::kinds::{ALL, Kind};
use crate::bench::Bench;
use crate::cpu_time;
use crate::edge::free_address;
use crate::memory;

/// Longest wait for a start or an end.
const WAIT_LIMIT: Duration = Duration::from_secs(30);

/// Most characters of a refusal that are told.
const WORDS: usize = 120;

/// Time between two looks while waiting.
const POLL: Duration = Duration::from_millis(20);

/// What all peers share: the folder that was installed into, the originals in a folder that everybody may read, and the same
/// on a web server. The originals have a name for each client, because some peers make for several at once what has one name.
#[derive(Debug)]
pub struct Place {
    installed: PathBuf,
    folder: TempDir,
    web: WebServer,
}

/// What is wanted of an original.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The name of the original.
    pub source: &'a str,
    /// `jpeg`, `webp` or `avif`.
    pub format: &'a str,
    /// The encoder's own number.
    pub quality: u8,
}

/// A running peer on the server's core. Dropping it kills it with all its processes.
#[derive(Debug)]
pub struct Peer {
    kind: &'static Kind,
    process: Option<Process>,
    id: u32,
    address: SocketAddr,
    log: PathBuf,
    // A folder of its own: nginx may not enter the one of whoever measures.
    _home: TempDir,
}

impl Place {
    /// Puts the `sources` in place, under names for so many clients.
    ///
    /// # Errors
    /// When a file cannot be read or written, or no port is free.
    pub async fn prepare(bench: &Bench, sources: &[&str], clients: usize) -> anyhow::Result<Self> {
        let folder = open_folder("calotype-loadtest-peers-")?;
        let web = WebServer::start().await.context("no port for a web server")?;
        for source in sources {
            let bytes = Bytes::from(fs::read(bench.photo(source))?);
            for client in 0..clients {
                let name = name_for(client, source);
                fs::write(folder.path().join(&name), &bytes)?;
                web.put(&format!("/{name}"), Page::new(bytes.clone()).header("content-type", media_type(source)));
            }
        }
        Ok(Self { installed: bench.tools.peers.clone(), folder, web })
    }

    /// The folder of the originals.
    pub fn photos(&self) -> &Path {
        self.folder.path()
    }

    /// Where a web server has them.
    pub fn web(&self) -> SocketAddr {
        self.web.address()
    }
}

/// What is known of a peer that was installed.
#[derive(Debug, Clone)]
pub struct Installed {
    /// Where.
    pub folder: PathBuf,
    /// What, in its own words.
    pub version: String,
}

impl Installed {
    /// Looks for the peer of this name in the folder that `script/loadtest` installs into.
    ///
    /// # Errors
    /// When it is not there, with the reason.
    pub fn find(peers: &Path, name: &str) -> anyhow::Result<Self> {
        let folder = fs::canonicalize(peers).unwrap_or_else(|_| peers.to_owned()).join(name);
        if let Ok(why) = fs::read_to_string(peers.join(format!("{name}.missing"))) {
            bail!("{}", why.trim());
        }
        let version = fs::read_to_string(folder.join("version"));
        let version = version.context("it is not installed; script/loadtest installs it")?.trim().to_owned();
        Ok(Self { folder, version })
    }

    /// The folder of a newer libvips that it runs on, if it was given one.
    pub fn libvips(&self) -> Option<PathBuf> {
        Some(self.folder.join("libvips")).filter(|folder| folder.join("libvips.so.42").exists())
    }
}

impl Peer {
    /// Starts it. Returns once it takes connections.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub async fn start(bench: &Bench, place: &Place, kind: &'static Kind) -> anyhow::Result<Self> {
        let installed = Installed::find(&place.installed, kind.folder)?;
        let (address, home) = (free_address()?, open_folder("calotype-loadtest-peer-")?);
        let log = home.path().join("log");
        let values = [
            ("{{port}}", address.port().to_string()),
            ("{{address}}", address.to_string()),
            ("{{photos}}", place.photos().display().to_string()),
            ("{{folder}}", home.path().display().to_string()),
        ];
        let settings = values.iter().fold(kind.settings.to_owned(), |text, (name, value)| text.replace(name, value));
        let started = kinds::Start { installed: &installed, home: home.path(), address, settings: &settings };
        let mut command = (kind.command)(bench, &started)?;
        command.stdin(Stdio::null()).stdout(File::create(&log)?).stderr(File::options().append(true).open(&log)?);
        let process = Process::start(command).context("it cannot be started")?;
        let id = process.id().context("it has ended at once")?;
        let peer = Self { kind, process: Some(process), id, address, log, _home: home };
        peer.until_listening().await?;
        Ok(peer)
    }

    async fn until_listening(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + WAIT_LIMIT;
        while TcpStream::connect(self.address).await.is_err() {
            ensure!(
                cpu_time::of_tree(self.id).is_ok() && Instant::now() < deadline,
                "it does not listen: {}",
                self.last_words()
            );
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// A connection that is kept alive.
    ///
    /// # Errors
    /// When it takes none.
    pub async fn connect(&self) -> anyhow::Result<Connection> {
        Connection::open(self.address).await
    }

    /// What it makes, which must be of the format that is wanted.
    ///
    /// # Errors
    /// On any other answer.
    pub async fn fetch(
        &self,
        connection: &mut Connection,
        place: &Place,
        client: usize,
        wanted: Wanted<'_>,
    ) -> anyhow::Result<Bytes> {
        let name = name_for(client, wanted.source);
        let target = (self.kind.target)(place, Wanted { source: &name, ..wanted });
        let answer = connection.send(&Request::get(&target)).await.with_context(|| self.last_words())?;
        let words: String = answer.text().chars().take(WORDS).collect();
        ensure!(answer.status == 200, "answers {} and says \"{}\"", answer.status, words.trim());
        let format = format_of(&answer.body).context("what it makes is no picture")?;
        ensure!(format == wanted.format, "makes {format} of it");
        Ok(answer.body)
    }

    /// CPU time so far, of all its processes.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        cpu_time::of_tree(self.id).with_context(|| self.last_words())
    }

    /// The most memory that its processes have had.
    ///
    /// # Errors
    /// When it is gone.
    pub fn peak_bytes(&self) -> anyhow::Result<u64> {
        memory::peak_bytes_of_tree(self.id)
    }

    /// Stops it. Some end by the signal and some in order; that it ends is enough.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let process = self.process.take().context("a peer is stopped once")?;
        process.stop(WAIT_LIMIT).await.with_context(|| self.kind.name)?;
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        format!("its log ends: {}", log.lines().last().unwrap_or("(empty)"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let group = i32::try_from(self.id).ok().and_then(Pid::from_raw);
        if let (Some(_), Some(group)) = (&self.process, group) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The format of an encoded picture, by its first bytes.
pub fn format_of(picture: &[u8]) -> Option<&'static str> {
    match picture {
        [0xff, 0xd8, ..] => Some("jpeg"),
        [0x89, b'P', b'N', b'G', ..] => Some("png"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("webp"),
        [_, _, _, _, b'f', b't', b'y', b'p', b'a', b'v', b'i', b'f', ..] => Some("avif"),
        _ => None,
    }
}

fn name_for(client: usize, source: &str) -> String {
    format!("{client}-{source}")
}

fn media_type(name: &str) -> &'static str {
    if name.ends_with(".png") { "image/png" } else { "image/jpeg" }
}

/// A temporary folder that every user may enter.
fn open_folder(prefix: &str) -> anyhow::Result<TempDir> {
    let folder = tempfile::Builder::new().prefix(prefix).tempdir().context("no temporary folder")?;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    Ok(folder)
}

/// Runs `command` as nobody when root measures, and gives it `folder`.
///
/// # Errors
/// When the system refuses.
pub fn give_up_root(command: &mut Command, folder: &Path) -> anyhow::Result<()> {
    /// Debian's `nobody` and `nogroup`.
    const NOBODY: u32 = 65_534;
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(folder, Some(NOBODY), Some(NOBODY))?;
        command.uid(NOBODY).gid(NOBODY);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_first_bytes() {
        assert_eq!(format_of(b"\xff\xd8\xff"), Some("jpeg"));
        assert_eq!(format_of(b"RIFF1234WEBPVP8 "), Some("webp"));
        assert_eq!(format_of(b"\0\0\0\x1cftypavif"), Some("avif"));
        assert_eq!((format_of(b"RIFF1234WAVE"), format_of(b"")), (None, None));
    }

    #[test]
    fn what_was_not_installed_tells_why() {
        let folder = tempfile::tempdir().expect("a folder");
        let find = || Installed::find(folder.path(), "x").map(|found| found.version);
        assert!(find().expect_err("nothing there").to_string().contains("not installed"));
        fs::create_dir(folder.path().join("x")).expect("made");
        fs::write(folder.path().join("x/version"), "x 1.0\n").expect("written");
        assert_eq!(find().expect("is there"), "x 1.0");
        fs::write(folder.path().join("x.missing"), "no compiler\n").expect("written");
        assert_eq!(find().expect_err("failed").to_string(), "no compiler");
    }
}
