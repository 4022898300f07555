//! One side of a hand-over of listening sockets between two edges, which a test can let die at any point.
//!
//! Must not link the edge: the words are written out here, as the other side has them.

use std::io::{IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::ensure;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};

const HELLO: &[u8; 8] = b"caloup-1";

/// A process that wants to take over and has got the sockets; dropping it is its death.
#[derive(Debug)]
pub struct Successor {
    _stream: UnixStream,
    sockets: Vec<OwnedFd>,
}

impl Successor {
    /// Asks for the sockets. Blocking.
    ///
    /// # Errors
    /// When it does not get them.
    pub fn ask(path: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(path)?;
        let mut word = [0; 8];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        rustix::net::recvmsg(&stream, &mut [IoSliceMut::new(&mut word)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        ensure!(word == *HELLO, "{}", word.escape_ascii());
        let mut sockets = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                sockets.extend(fds);
            }
        }
        Ok(Self { _stream: stream, sockets })
    }

    /// The addresses that it may listen on now.
    ///
    /// # Errors
    /// When one is no listening socket.
    pub fn addresses(&self) -> anyhow::Result<Vec<SocketAddr>> {
        self.sockets.iter().map(|socket| Ok(TcpListener::from(socket.try_clone()?).local_addr()?)).collect()
    }
}

/// A process that others may take over from. Blocking.
#[derive(Debug)]
pub struct Predecessor {
    listener: UnixListener,
}

impl Predecessor {
    /// Waits at `path`.
    ///
    /// # Errors
    /// When it cannot be bound.
    pub fn bind(path: &Path) -> anyhow::Result<Self> {
        Ok(Self { listener: UnixListener::bind(path)? })
    }

    /// Gives `sockets` to whoever asks, waits until he serves, and answers `word`; none is its death before that.
    ///
    /// # Errors
    /// When the other side does something else.
    pub fn give(self, sockets: &[TcpListener], word: Option<&[u8; 8]>) -> anyhow::Result<()> {
        let (mut stream, _) = self.listener.accept()?;
        let fds: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        ensure!(control.push(SendAncillaryMessage::ScmRights(&fds)), "too many sockets");
        rustix::net::sendmsg(&stream, &[IoSlice::new(HELLO)], &mut control, SendFlags::NOSIGNAL)?;
        let Some(word) = word else { return Ok(()) };
        let mut serving = [0; 8];
        stream.read_exact(&mut serving)?;
        ensure!(serving == *b"serving.", "{}", serving.escape_ascii());
        Ok(stream.write_all(word)?)
    }
}
