//! Reading files: few, large system calls, and an honest end.
//!
//! Must not wait for anything but the disk: a pipe or a device under the name of an object is refused, not read.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use cap_std::fs::{File, FileExt, OpenOptions, OpenOptionsExt};
use futures_util::FutureExt;
use rustix::fs::OFlags;
use tokio::task::JoinHandle;

use super::{FolderStore, Root, joined, object_meta, reading};
use crate::{GetOptions, Object, ObjectBody, ObjectMeta, ObjectPath, StorageError};

/// Largest single read of a stream. Bodies up to this size are read together with the opening of the file, in one trip to the
/// blocking pool; longer ones take one trip for each chunk. A client that stops reading holds a few of them.
const CHUNK_BYTES: u64 = 256 * 1024;

impl FolderStore {
    pub(crate) async fn get(&self, path: &ObjectPath, options: GetOptions) -> Result<Object, StorageError> {
        let path = path.clone();
        self.blocking(move |root| open(root, &path, &options)).await
    }
}

fn open(root: &Root, path: &ObjectPath, options: &GetOptions) -> Result<Object, StorageError> {
    let file = open_file(root, path)?;
    let meta = object_meta(&file.metadata().map_err(reading)?)?;
    if options.if_changed.as_ref().is_some_and(|ours| ours.matches(&meta)) {
        return Err(StorageError::NotModified);
    }
    let range = match options.range {
        None => None,
        Some(range) => Some(range.within(meta.size).ok_or(StorageError::RangeNotSatisfiable { size: meta.size })?),
    };
    let (first, len) = range.map_or((0, meta.size), |range| (range.first, range.len()));
    let source = FileSource { file, meta: meta.clone() };
    let body = if len <= CHUNK_BYTES {
        ObjectBody::whole(source.read_span(Span { first, len, done: 0 }, len)?)
    } else {
        ObjectBody::file(FileBody { source: Arc::new(source), span: Span { first, len, done: 0 }, reading: None })
    };
    Ok(Object { meta, range, body })
}

pub(super) fn open_file(root: &Root, path: &ObjectPath) -> Result<File, StorageError> {
    // Without O_NONBLOCK, opening a pipe waits for a writer; without O_NOCTTY, a terminal could become ours.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    root.dir.open_with(path.as_str(), OpenOptions::new().read(true).custom_flags(flags)).map_err(reading)
}

/// An open file and what it was when it was opened.
#[derive(Debug)]
struct FileSource {
    file: File,
    meta: ObjectMeta,
}

/// The bytes of a body within its file, and how many of them were read.
#[derive(Debug, Clone, Copy)]
struct Span {
    first: u64,
    len: u64,
    done: u64,
}

impl FileSource {
    /// Reads the next `count` bytes of `span`. With its last bytes it makes sure that the file is still the one that
    /// was opened, so that a file that is being overwritten is not taken for a complete one.
    fn read_span(&self, span: Span, count: u64) -> Result<Bytes, StorageError> {
        let too_large = |_| StorageError::TooLarge { limit: usize::MAX as u64 };
        let mut buffer = vec![0; usize::try_from(count).map_err(too_large)?];
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], span.first + span.done + filled as u64) {
                Ok(0) => {
                    let got = span.done + filled as u64;
                    return Err(StorageError::Truncated { expected: span.len, got, source: None });
                }
                Ok(count) => filled += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(reading(error)),
            }
        }
        if span.done + count == span.len && object_meta(&self.file.metadata().map_err(reading)?)? != self.meta {
            return Err(StorageError::Changed);
        }
        Ok(buffer.into())
    }
}

/// The body of a file too large for one read.
pub(crate) struct FileBody {
    source: Arc<FileSource>,
    span: Span,
    reading: Option<JoinHandle<Result<Bytes, StorageError>>>,
}

impl FileBody {
    pub(crate) fn len(&self) -> u64 {
        self.span.len
    }

    pub(crate) fn is_untouched(&self) -> bool {
        self.span.done == 0 && self.reading.is_none()
    }

    /// Reads everything in one trip, straight into the buffer that is handed out. Only for an untouched body.
    pub(crate) async fn read_all(self) -> Result<Bytes, StorageError> {
        joined(tokio::task::spawn_blocking(move || self.source.read_span(self.span, self.span.len)).await)
    }

    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StorageError>>> {
        let remaining = self.span.len - self.span.done;
        if remaining == 0 {
            return Poll::Ready(None);
        }
        let reading = self.reading.get_or_insert_with(|| {
            let (source, span) = (Arc::clone(&self.source), self.span);
            tokio::task::spawn_blocking(move || source.read_span(span, remaining.min(CHUNK_BYTES)))
        });
        let outcome = joined(ready!(reading.poll_unpin(cx)));
        self.reading = None;
        if let Ok(chunk) = &outcome {
            self.span.done += chunk.len() as u64;
        }
        Poll::Ready(Some(outcome))
    }
}
