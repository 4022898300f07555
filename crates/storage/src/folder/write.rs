//! Writing files: all of an object or nothing, and on the disk before anybody is told so.
//!
//! Must not write under the final name: bytes go to an unfinished file first, which replaces the old one by a rename.
//! Unfinished files live in one folder at the root, so that what a crash leaves behind is found without a search.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cap_std::fs::{Dir, File, OpenOptions};
use futures_util::{Stream, StreamExt};

use super::read::open_file;
use super::{FolderStore, Root, object_meta, reading, writing};
use crate::path::UNFINISHED;
use crate::{BoxError, ObjectPath, StorageError, Stored};

/// Unfinished files untouched for so long belong to nobody: no upload pauses for a day.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// How often an object is given its name again when its folder has gone meanwhile.
const PLACE_AGAIN_MAX: usize = 10;

/// Bytes gathered from a stream before a trip to the blocking pool: small chunks cost more in trips than in copying.
const WRITE_BYTES: usize = 1024 * 1024;

impl FolderStore {
    pub(crate) async fn put(&self, path: &ObjectPath, body: Bytes) -> Result<Stored, StorageError> {
        let path = path.clone();
        let root = Arc::clone(&self.root);
        self.blocking(move |_| {
            let mut unfinished = Unfinished::create(root)?;
            unfinished.append(&[body])?;
            unfinished.finish(&path)
        })
        .await
    }

    pub(crate) async fn put_stream<S, E>(
        &self,
        path: &ObjectPath,
        mut body: S,
        limit_bytes: u64,
    ) -> Result<Stored, StorageError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: Into<BoxError>,
    {
        let root = Arc::clone(&self.root);
        let mut unfinished = self.blocking(move |_| Unfinished::create(root)).await?;
        let mut pending = Pending::default();
        let mut total = 0_u64;
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| StorageError::Input { source: error.into() })?;
            total = total.saturating_add(chunk.len() as u64);
            if total > limit_bytes {
                return Err(StorageError::TooLarge { limit: limit_bytes });
            }
            if let Some(full) = pending.push(chunk) {
                unfinished = self.blocking(move |_| unfinished.append(&full).map(|()| unfinished)).await?;
            }
        }
        let path = path.clone();
        self.blocking(move |_| {
            unfinished.append(&pending.chunks)?;
            unfinished.finish(&path)
        })
        .await
    }

    pub(crate) async fn copy(&self, from: &ObjectPath, to: &ObjectPath) -> Result<Stored, StorageError> {
        let (from, to) = (from.clone(), to.clone());
        let root = Arc::clone(&self.root);
        self.blocking(move |_| {
            let source = open_file(&root, &from)?;
            let meta = object_meta(&source.metadata().map_err(reading)?)?;
            let mut unfinished = Unfinished::create(root)?;
            unfinished.fill(&source)?;
            let is_as_it_was = object_meta(&source.metadata().map_err(reading)?)? == meta;
            if is_as_it_was && unfinished.size == meta.size {
                unfinished.finish(&to)
            } else {
                Err(StorageError::Changed)
            }
        })
        .await
    }

    pub(crate) async fn delete(&self, path: &ObjectPath) -> Result<(), StorageError> {
        let path = path.clone();
        self.blocking(move |root| match delete(root, &path) {
            Err(StorageError::NotFound) => Ok(()),
            outcome => outcome,
        })
        .await
    }
}

fn delete(root: &Root, path: &ObjectPath) -> Result<(), StorageError> {
    // Only objects: not folders, pipes or devices. A link is removed itself, never what it points to.
    object_meta(&root.dir.metadata(path.as_str()).map_err(reading)?)?;
    root.dir.remove_file(path.as_str()).map_err(reading)?;
    match sync_dir(&root.dir, parent(path)) {
        // Whoever has deleted the last object beside this one was faster.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        synced => synced.map_err(writing)?,
    }
    // Folders come with the first object in them, and go with the last.
    for folder in Path::new(path.as_str()).ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()) {
        if root.dir.remove_dir(folder).is_err() {
            break;
        }
    }
    Ok(())
}

/// Chunks that wait to be written together.
#[derive(Default)]
struct Pending {
    chunks: Vec<Bytes>,
    bytes: usize,
}

impl Pending {
    /// Takes a chunk; gives all of them back once there are enough.
    fn push(&mut self, chunk: Bytes) -> Option<Vec<Bytes>> {
        self.bytes += chunk.len();
        self.chunks.push(chunk);
        (self.bytes >= WRITE_BYTES).then(|| std::mem::take(self).chunks)
    }
}

/// A file on its way in. Removed when dropped, unless it was finished.
struct Unfinished {
    root: Arc<Root>,
    name: String,
    file: File,
    size: u64,
    renamed: bool,
}

impl Unfinished {
    fn create(root: Arc<Root>) -> Result<Self, StorageError> {
        match root.dir.create_dir(UNFINISHED) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(writing(error)),
            _ => {}
        }
        root.swept.call_once(|| sweep(&root.dir));
        let name = unique_name();
        let file = root.dir.open_with(&name, OpenOptions::new().write(true).create_new(true)).map_err(writing)?;
        Ok(Self { root, name, file, size: 0, renamed: false })
    }

    fn append(&mut self, chunks: &[Bytes]) -> Result<(), StorageError> {
        for chunk in chunks {
            self.file.write_all(chunk).map_err(writing)?;
            self.size += chunk.len() as u64;
        }
        Ok(())
    }

    /// Takes all bytes of another file in. The system does that without showing them to us, and without reading them where the file
    /// system can let two files share what they have alike.
    fn fill(&mut self, source: &File) -> Result<(), StorageError> {
        let std = |file: &File| file.try_clone().map(File::into_std).map_err(writing);
        self.size += io::copy(&mut std(source)?, &mut std(&self.file)?).map_err(writing)?;
        Ok(())
    }

    /// Gives the file its name. Bytes first, then the name: after a power cut there is the old object or the new one.
    fn finish(mut self, path: &ObjectPath) -> Result<Stored, StorageError> {
        self.file.sync_all().map_err(writing)?;
        let (dir, parent) = (&self.root.dir, parent(path));
        let place = || -> Result<bool, StorageError> {
            let new_folders = match parent {
                Some(parent) => make_folder(dir, parent)?,
                None => false,
            };
            dir.rename(&self.name, dir, path.as_str()).map_err(writing)?;
            Ok(new_folders)
        };
        let mut placed = place();
        for _ in 0..PLACE_AGAIN_MAX {
            // The last object of the folder was deleted at this moment, and the folder with it.
            let is_gone = matches!(&placed, Err(StorageError::Rejected { source })
                if source.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound));
            if !is_gone {
                break;
            }
            placed = place();
        }
        let new_folders = placed?;
        self.renamed = true;
        sync_dir(dir, parent).map_err(writing)?;
        if new_folders {
            for ancestor in Path::new(path.as_str()).ancestors().skip(2) {
                sync_dir(dir, Some(ancestor)).map_err(writing)?;
            }
        }
        let meta = object_meta(&self.file.metadata().map_err(writing)?)?;
        Ok(Stored { size: self.size, etag: meta.etag })
    }
}

impl Drop for Unfinished {
    /// A dropped upload may end on an async thread; unlinking one file is short enough for it.
    fn drop(&mut self) {
        if !self.renamed
            && let Err(error) = self.root.dir.remove_file(&self.name)
        {
            tracing::warn!(%error, file = self.name, "an unfinished file stays behind");
        }
    }
}

/// A name that no other writer to this folder uses, in this process or another.
fn unique_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{UNFINISHED}/{:x}-{:x}-{count:x}", since_epoch.as_nanos(), std::process::id())
}

/// Removes what earlier crashes left behind. What cannot be removed is only logged: it must not stop new writes.
fn sweep(dir: &Dir) {
    let swept = dir.read_dir(UNFINISHED).and_then(|entries| {
        for entry in entries {
            let entry = entry?;
            let modified = entry.metadata()?.modified()?.into_std();
            if SystemTime::now().duration_since(modified).is_ok_and(|age| age > ABANDONED_AFTER) {
                entry.remove_file()?;
            }
        }
        Ok(())
    });
    if let Err(error) = swept {
        tracing::warn!(%error, folder = UNFINISHED, "cannot remove abandoned files");
    }
}

/// Makes a folder and those above it, if it is not there. Gives whether it was made. What leads out of the store is
/// told as such, not as "already exists".
fn make_folder(dir: &Dir, path: &Path) -> Result<bool, StorageError> {
    match dir.metadata(path) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            dir.create_dir_all(path).map_err(writing)?;
            Ok(true)
        }
        Err(error) => Err(writing(error)),
    }
}

fn parent(path: &ObjectPath) -> Option<&Path> {
    Path::new(path.as_str()).parent().filter(|parent| !parent.as_os_str().is_empty())
}

/// Makes the names in a folder (the root if `None`) survive a power cut. Opened anew for reading: the handle of the
/// root was opened by path only, which the system refuses to sync.
fn sync_dir(dir: &Dir, path: Option<&Path>) -> io::Result<()> {
    let path = path.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    dir.open(path)?.sync_all()
}
