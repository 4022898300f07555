//! Objects as files under a folder.
//!
//! Must not follow anything out of the folder (`..`, absolute paths, symbolic links): every access goes through a
//! `cap-std` directory handle, so the kernel resolves names beneath it and a race cannot slip a link in between. Must
//! not block the async threads: all system calls run on tokio's blocking pool. There is no time limit on them: a disk
//! that hangs keeps a blocking thread.

mod list;
mod read;
mod write;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, Metadata, MetadataExt};

pub(crate) use read::FileBody;

use crate::{ObjectMeta, ObjectPath, StorageError};

/// Why a folder cannot serve as a store.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the folder {}", path.display())]
pub struct FolderError {
    path: PathBuf,
    source: io::Error,
}

/// A folder as an object store.
///
/// Every regular file that can be reached without leaving the folder is an object; symbolic links that stay inside are
/// followed. ETags are made of size, time of last change in nanoseconds and inode, and are weak: a file that is
/// overwritten in place with as many bytes within one tick of the clock (a few milliseconds) keeps its tag. Objects
/// written through this store always get a new inode. Content type and cache header are not kept.
#[derive(Debug, Clone)]
pub struct FolderStore {
    root: Arc<Root>,
}

#[derive(Debug)]
struct Root {
    dir: Dir,
    /// Leftovers of a crash are removed before the first write, not at opening: a folder of originals may be read-only.
    swept: std::sync::Once,
}

impl FolderStore {
    /// Opens an existing folder. Blocks for a moment. Symbolic links on the way *to* the folder are followed.
    ///
    /// # Errors
    /// [`FolderError`] if it is missing, not a folder, or not ours to enter.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FolderError> {
        let path = path.as_ref();
        let dir = Dir::open_ambient_dir(path, ambient_authority())
            .map_err(|source| FolderError { path: path.to_owned(), source })?;
        Ok(Self { root: Arc::new(Root { dir, swept: std::sync::Once::new() }) })
    }

    pub(crate) async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StorageError> {
        let path = path.clone();
        self.blocking(move |root| {
            // Follows links within the folder, and unlike opening cannot be held up by a pipe.
            let meta = root.dir.metadata(path.as_str()).map_err(reading)?;
            object_meta(&meta)
        })
        .await
    }

    /// Runs `work` on the blocking pool.
    async fn blocking<T, F>(&self, work: F) -> Result<T, StorageError>
    where
        T: Send + 'static,
        F: FnOnce(&Root) -> Result<T, StorageError> + Send + 'static,
    {
        let root = Arc::clone(&self.root);
        joined(tokio::task::spawn_blocking(move || work(&root)).await)
    }
}

/// A blocking task ends early only by a panic or by the end of the runtime.
fn joined<T>(outcome: Result<Result<T, StorageError>, tokio::task::JoinError>) -> Result<T, StorageError> {
    outcome.unwrap_or_else(|error| Err(StorageError::Unavailable { source: error.into() }))
}

/// The metadata of an object; what is not a regular file is no object.
fn object_meta(meta: &Metadata) -> Result<ObjectMeta, StorageError> {
    if !meta.is_file() {
        return Err(StorageError::NotFound);
    }
    let changed_ns = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
    Ok(ObjectMeta {
        size: meta.len(),
        content_type: None,
        etag: Some(format!("W/\"{:x}-{changed_ns:x}-{:x}\"", meta.len(), meta.ino())),
        last_modified: meta.modified().ok().map(cap_std::time::SystemTime::into_std),
    })
}

/// What an error of the system means for somebody who reads or deletes an object.
fn reading(error: io::Error) -> StorageError {
    use io::ErrorKind as Kind;
    match error.kind() {
        // A name that no file can have is the name of no object. Sockets answer ENXIO when opened.
        Kind::NotFound | Kind::NotADirectory | Kind::IsADirectory | Kind::InvalidFilename => StorageError::NotFound,
        _ if is_no_device(&error) || is_link_loop(&error) => StorageError::NotFound,
        Kind::PermissionDenied => denied(error),
        _ => StorageError::Unavailable { source: error.into() },
    }
}

/// What an error of the system means for somebody who writes an object.
fn writing(error: io::Error) -> StorageError {
    use io::ErrorKind as Kind;
    match error.kind() {
        // The folder itself exists, so what is missing or in the way is a part of the name, and stays so.
        Kind::NotFound
        | Kind::NotADirectory
        | Kind::IsADirectory
        | Kind::AlreadyExists
        | Kind::DirectoryNotEmpty
        | Kind::InvalidFilename
        | Kind::CrossesDevices
        | Kind::ReadOnlyFilesystem => StorageError::Rejected { source: error.into() },
        _ if is_link_loop(&error) => StorageError::Rejected { source: error.into() },
        Kind::PermissionDenied => denied(error),
        _ => StorageError::Unavailable { source: error.into() },
    }
}

/// `cap-std` reports a way out as "permission denied" that, unlike the system's, has no error number.
fn denied(error: io::Error) -> StorageError {
    if error.raw_os_error().is_none() {
        StorageError::OutsideStore
    } else {
        StorageError::AccessDenied { source: error.into() }
    }
}

fn is_link_loop(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

fn is_no_device(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error())
}
