//! One process taking over from another without a connection being refused: the old one gives its listening sockets to
//! the new one, and stops when the new one says that it serves.
//!
//! Over a Unix socket, for the same user only. The old one sends `HELLO` with the sockets; the new one starts with them
//! and sends `SERVING`; the old one answers `STOPPING` and drains. Until `SERVING` nothing has happened: if the new one
//! ends before, the old one goes on. Must not touch the cache folder, which changes hands by its lock (`cache`).
//!
//! Pingora has a hand-over of its own, which is not used: it goes through a socket that every user may connect to, waits
//! for fixed times, goes on accepting beside its successor, and stops even if that one never served.

use std::fs;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use cache::Bans;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

use crate::drain::Drain;

/// With it come the sockets. The number is that of this protocol.
const HELLO: &[u8; 8] = b"caloup-1";
const SERVING: &[u8; 8] = b"serving.";
const STOPPING: &[u8; 8] = b"stopping";
/// The old process has given up waiting, and goes on.
const TOO_LATE: &[u8; 8] = b"too late";

/// Most sockets of a hand-over.
const SOCKETS_MAX: usize = 16;
/// How long each side waits for the next word of the other. Starting loads libvips and opens a cache.
const LIMIT: Duration = Duration::from_secs(60);

/// A running edge that has given up its sockets, if the one that has them now serves.
#[derive(Debug)]
pub struct Predecessor {
    stream: UnixStream,
}

impl Predecessor {
    /// Asks the edge that listens at `path` for its sockets; `None` if there is none.
    ///
    /// # Errors
    /// When there is one, but it does not give them.
    pub fn find(path: &Path) -> anyhow::Result<Option<(Self, Vec<OwnedFd>)>> {
        let stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(error).with_context(|| format!("upgrade_socket {}", path.display())),
        };
        ensure!(is_of_us(&stream)?, "upgrade_socket {} belongs to another user", path.display());
        stream.set_read_timeout(Some(LIMIT))?;
        let (word, sockets) = receive(&stream)?;
        ensure!(
            word.as_ref() == Some(HELLO),
            "the running edge does not hand over: it is stopping already, or of another version"
        );
        Ok(Some((Self { stream }, sockets)))
    }

    /// Has it stop, now that this process serves.
    ///
    /// # Errors
    /// When it goes on: two must not.
    pub fn replace(mut self) -> anyhow::Result<()> {
        let mut word = [0; 8];
        let answered = self.stream.write_all(SERVING).and_then(|()| self.stream.read_exact(&mut word));
        match answered {
            Ok(()) if word == *STOPPING => tracing::info!("the edge before this one stops"),
            Ok(()) => bail!("the edge before this one had given up waiting, and goes on"),
            // Killed: there is nobody to replace.
            Err(error) => tracing::warn!(%error, "the edge before this one has ended without a word"),
        }
        Ok(())
    }
}

/// Where a successor asks for the sockets.
pub struct UpgradeSocket {
    listener: UnixListener,
    bound: PathBuf,
    path: PathBuf,
}

impl UpgradeSocket {
    /// Binds it beside `path`, which may be that of a running edge.
    ///
    /// # Errors
    /// When it cannot be bound there.
    pub fn bind(path: &Path) -> anyhow::Result<Self> {
        let context = || format!("upgrade_socket = {} cannot be bound", path.display());
        let mut name = path.file_name().with_context(context)?.to_owned();
        name.push(format!(".{}", std::process::id()));
        let bound = path.with_file_name(name);
        // Left by a process that had the same id.
        let _ = fs::remove_file(&bound);
        let listener = UnixListener::bind(&bound).with_context(context)?;
        fs::set_permissions(&bound, fs::Permissions::from_mode(0o600)).with_context(context)?;
        Ok(Self { listener, bound, path: path.to_owned() })
    }

    /// Takes its place at `path`, and waits on a thread of its own for a successor, which is sent `sockets`.
    ///
    /// # Errors
    /// When it cannot take that place, or there is no thread.
    pub fn serve(self, drain: Arc<Drain>, bans: Arc<Bans>) -> anyhow::Result<()> {
        fs::rename(&self.bound, &self.path)?;
        std::thread::Builder::new().name("upgrade".to_owned()).spawn(move || {
            for stream in self.listener.incoming() {
                match stream.map_err(anyhow::Error::from).and_then(|stream| hand_over(stream, &drain, &bans)) {
                    Ok(()) => {
                        drain.supersede();
                        return;
                    }
                    Err(error) => {
                        bans.hand_over(false);
                        tracing::warn!("{error:#}; this edge goes on");
                        // Whatever fails at once must not fail in a circle.
                        std::thread::sleep(Duration::from_millis(100));
                    }
                }
            }
        })?;
        Ok(())
    }
}

impl Drop for UpgradeSocket {
    /// A start that fails leaves nothing behind. One that did not has moved it.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.bound);
    }
}

/// Gives the sockets away and waits until the other process serves.
fn hand_over(mut stream: UnixStream, drain: &Drain, bans: &Bans) -> anyhow::Result<()> {
    ensure!(is_of_us(&stream)?, "another user has asked for the listening sockets");
    stream.set_read_timeout(Some(LIMIT))?;
    // What is purged from here on the other process might have fetched before, and keep.
    bans.hand_over(true);
    let is_sent = drain.with_sockets(|sockets| send(&stream, sockets.as_fds().as_slice()));
    is_sent.context("a process has asked for the listening sockets, but this one is stopping")??;
    tracing::info!("the listening sockets were given to another process");
    let mut word = [0; 8];
    match stream.read_exact(&mut word) {
        Ok(()) if word == *SERVING => Ok(stream.write_all(STOPPING)?),
        Ok(()) => bail!("the process that was to take over says something else"),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            stream.write_all(TOO_LATE)?;
            bail!("the process that was to take over did not serve within {LIMIT:?}")
        }
        Err(error) => Err(error).context("the process that was to take over has ended before it served"),
    }
}

/// Root may do anything anyway.
fn is_of_us(stream: &UnixStream) -> io::Result<bool> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?.uid;
    Ok(peer.is_root() || peer == rustix::process::geteuid())
}

fn send(stream: &UnixStream, sockets: &[std::os::fd::BorrowedFd<'_>]) -> anyhow::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    ensure!(control.push(SendAncillaryMessage::ScmRights(sockets)), "too many sockets");
    // Eight bytes into an empty buffer go out whole.
    rustix::net::sendmsg(stream, &[IoSlice::new(HELLO)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The next word, if there is a whole one, and what came with it.
fn receive(stream: &UnixStream) -> io::Result<(Option<[u8; 8]>, Vec<OwnedFd>)> {
    let mut word = [0; 8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        rustix::net::recvmsg(stream, &mut [IoSliceMut::new(&mut word)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut sockets = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            sockets.extend(fds);
        }
    }
    Ok(((received.bytes == word.len()).then_some(word), sockets))
}
