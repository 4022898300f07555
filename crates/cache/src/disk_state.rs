//! What the disk half of the cache can do, and why not more.
//!
//! Must not decide what follows from it; the operator's readiness check does.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The disk half of a cache. The memory half works in every state.
#[derive(Clone, Debug)]
pub enum DiskState {
    /// Reads and writes.
    Ready,
    /// Configured away.
    Off,
    /// Not opened: the cache is in memory only until it can be, which is tried again and again.
    Unavailable(Arc<DiskFault>),
    /// Failed while running: what is on disk is read, nothing more is written until the process is started anew.
    ReadOnly(Arc<DiskFault>),
}

impl DiskState {
    /// Why the disk cannot do all that was configured; `None` if it can.
    #[must_use]
    pub fn fault(&self) -> Option<&DiskFault> {
        match self {
            Self::Ready | Self::Off => None,
            Self::Unavailable(fault) | Self::ReadOnly(fault) => Some(fault),
        }
    }
}

/// Why the disk half is not fully there.
#[derive(Debug, thiserror::Error)]
pub enum DiskFault {
    /// The folder, or a file in it, cannot be created or written.
    #[error("cache folder {dir} cannot be used")]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process holds the folder's lock.
    #[error("cache folder {dir} is in use by another process")]
    InUse {
        /// The folder.
        dir: PathBuf,
    },
    /// The cache whose purges this one shares does not know those of its folder yet.
    #[error("cache folder {dir} has to wait for the cache whose purges it shares")]
    PurgesUnknown {
        /// The folder.
        dir: PathBuf,
    },
    /// The file system cannot hold what was configured.
    #[error("cache folder {dir} needs {needed_bytes} more bytes, the file system has {available_bytes}")]
    NoSpace {
        /// The folder.
        dir: PathBuf,
        /// Bytes to reserve beyond those reserved already.
        needed_bytes: u64,
        /// Bytes available to this user.
        available_bytes: u64,
    },
    /// foyer could not open the folder.
    #[error("cache folder {dir} cannot be opened")]
    Open {
        /// The folder.
        dir: PathBuf,
        /// What foyer said.
        source: foyer::Error,
    },
    /// Opening ended in a panic, or the runtime was shut down meanwhile.
    #[error("opening cache folder {dir} broke off")]
    OpenAborted {
        /// The folder.
        dir: PathBuf,
    },
    /// Entries were handed over but did not arrive on disk.
    #[error("writes to the cache folder fail")]
    WritesFail,
    /// foyer's writer is gone.
    #[error("the writer of the cache folder has stopped")]
    WriterStopped,
    /// A flush made no progress.
    #[error("a flush to the cache folder did not finish within {waited:?}")]
    Stalled {
        /// How long was waited for it.
        waited: Duration,
    },
}
