//! Bodies in an anonymous file in memory, which the kernel sends to a socket without copying them.
//!
//! A body that is kept here reads like any other [`Bytes`], through a mapping of the file, and is given back when the last of
//! its clones is gone. What sends it asks [`MemFile::send`], which hands the kernel the pages themselves (sendfile(2)).
//!
//! Pages that were sent may wait in a socket long after the body is gone. So they are never written again: giving a range
//! back punches a hole, which leaves those pages to the socket, and what is kept there next gets new ones.
//!
//! The file is as sparse as it is long: a body only takes the pages that it fills, of a range that is a power of two long, and
//! ranges of one length are used again for that length. So nothing is ever moved, and the address space, of which there is
//! plenty, is all that fragments.
//!
//! There is one file for a process, as there is one allocator: [`install`] and [`keep`]. Must not know what bodies are of.

mod ranges;

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use memmap2::{MmapOptions, MmapRaw};
use parking_lot::Mutex;
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, memfd_create, sendfile};
use rustix::param::page_size;

use self::ranges::{Range, Ranges};

/// The shortest body that is kept here, in bytes: below it, a copy is cheaper than handing over pages.
pub const BODY_BYTES_MIN: usize = 16 << 10;

/// The longest body that is kept here, in bytes.
pub const BODY_BYTES_MAX: usize = 64 << 20;

/// What memory comes in, nearly everywhere; where it is more, a little more is held than is counted.
const PAGE_BYTES: usize = 4096;

/// Length of the file for each byte that is to be kept at a time: each of the 13 lengths of ranges may have held everything
/// at some time, in ranges of up to twice the length of what they held.
const SPARSENESS: u64 = 32;

/// Shortest length of the file: some of the longest bodies fit, however little is to be kept.
const FILE_BYTES_MIN: u64 = 4 << 30;

/// Longest length of the file: a quarter of what a process can address on machines of 47 bits.
const FILE_BYTES_MAX: u64 = 1 << 45;

static INSTALLED: OnceLock<Arc<MemFile>> = OnceLock::new();

/// Makes this the file that [`keep`] keeps bodies in. Only the first is.
pub fn install(file: Arc<MemFile>) {
    let _ = INSTALLED.set(file);
}

/// The file of this process, if there is one.
pub fn installed() -> Option<&'static Arc<MemFile>> {
    INSTALLED.get()
}

/// Keeps a body in the file of this process: see [`MemFile::keep`]. Without one, it stays where it is.
#[must_use]
pub fn keep(body: Bytes) -> Bytes {
    match installed() {
        Some(file) => file.keep(body),
        None => body,
    }
}

/// Whether [`keep`] would leave this body where it is: it is kept, or its length or the lack of a file lets it be.
#[must_use]
pub fn is_kept(body: &Bytes) -> bool {
    match installed() {
        Some(file) => !is_length(body.len()) || file.holds(body),
        None => true,
    }
}

fn is_length(bytes: usize) -> bool {
    (BODY_BYTES_MIN..=BODY_BYTES_MAX).contains(&bytes)
}

/// The memory that a body of so many bytes takes, kept here or elsewhere.
#[must_use]
pub fn occupied_bytes(bytes: usize) -> usize {
    if is_length(bytes) { bytes.next_multiple_of(PAGE_BYTES) } else { bytes }
}

/// An anonymous file that holds bodies.
pub struct MemFile {
    file: File,
    /// All of the file. Only ever read: bodies are written through the file.
    map: MmapRaw,
    ranges: Mutex<Ranges>,
    held_bytes: AtomicU64,
}

impl MemFile {
    /// An empty one, for bodies of about `bytes` bytes at a time.
    ///
    /// # Errors
    /// When the system has no such files, or so much address space is not to be had; or where pages are longer than the shortest
    /// bodies, so that two of them might share one.
    pub fn new(bytes: u64) -> io::Result<Arc<Self>> {
        if page_size() > BODY_BYTES_MIN {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        // Newer systems want to be told that it is not a program, and older ones do not know that word.
        let file =
            memfd_create(c"bodies", flags | MemfdFlags::NOEXEC_SEAL).or_else(|_| memfd_create(c"bodies", flags))?;
        let file = File::from(file);
        let length = bytes.saturating_mul(SPARSENESS).clamp(FILE_BYTES_MIN, FILE_BYTES_MAX);
        file.set_len(length)?;
        // Reading a mapping beyond the end of its file kills the process.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let length_mapped = usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let map = MmapOptions::new().len(length_mapped).map_raw_read_only(&file)?;
        let ranges = Mutex::new(Ranges::new(length));
        Ok(Arc::new(Self { file, map, ranges, held_bytes: AtomicU64::new(0) }))
    }

    /// The same bytes, kept in the file until their last clone is gone. A body that is too short or too long, or that there is
    /// no room for, stays where it is.
    #[must_use]
    pub fn keep(self: &Arc<Self>, body: Bytes) -> Bytes {
        if !is_length(body.len()) || self.position(&body).is_some() {
            return body;
        }
        let Some(range) = self.ranges.lock().take(body.len() as u64) else { return body };
        let kept = Kept { file: Arc::clone(self), range, length: body.len() };
        self.held_bytes.fetch_add(occupied_bytes(kept.length) as u64, Ordering::Relaxed);
        // On an error, dropping what was kept gives the range back.
        match self.file.write_all_at(&body, range.start) {
            Ok(()) => Bytes::from_owner(kept),
            Err(_) => body,
        }
    }

    /// Sends some of `bytes` to a socket without copying them, as many as it takes at once; how many it took. `None` when they
    /// are not kept here, or the kernel did not take any: then they can be written as any others are.
    #[must_use]
    pub fn send(&self, socket: BorrowedFd<'_>, bytes: &[u8]) -> Option<usize> {
        let mut position = self.position(bytes)?;
        sendfile(socket, self.file.as_fd(), Some(&mut position), bytes.len()).ok().filter(|count| *count > 0)
    }

    /// Whether these bytes are kept here.
    #[must_use]
    pub fn holds(&self, bytes: &[u8]) -> bool {
        self.position(bytes).is_some()
    }

    /// The memory that bodies take here, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Where in the file these bytes are, if they are in it.
    fn position(&self, bytes: &[u8]) -> Option<u64> {
        // Nothing else has addresses within the mapping.
        let offset = bytes.as_ptr().addr().checked_sub(self.map.as_ptr().addr())?;
        (offset < self.map.len()).then_some(offset as u64)
    }

    fn give_back(&self, range: Range) {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // A range whose pages could not be given up is never used again.
        if fallocate(&self.file, hole, range.start, range.length()).is_ok() {
            self.ranges.lock().give_back(range);
        }
    }
}

impl fmt::Debug for MemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemFile").field("held_bytes", &self.held_bytes()).finish_non_exhaustive()
    }
}

/// A body in the file.
struct Kept {
    file: Arc<MemFile>,
    range: Range,
    length: usize,
}

impl AsRef<[u8]> for Kept {
    #[allow(unsafe_code, reason = "memory that the kernel writes is not Rust's own")]
    fn as_ref(&self) -> &[u8] {
        // Ranges are within the file, which its seal keeps as long as it is.
        let start = self.file.map.as_ptr().wrapping_add(self.range.start as usize);
        // SAFETY: the mapping lives as long as `file`, and holds the range. The range is taken until this is dropped, so nobody
        // writes it: it was written before there was a `Bytes` to read it by, and a hole comes after the last of them.
        unsafe { std::slice::from_raw_parts(start, self.length) }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.file.held_bytes.fetch_sub(occupied_bytes(self.length) as u64, Ordering::Relaxed);
        self.file.give_back(self.range);
    }
}

#[cfg(test)]
mod tests;
