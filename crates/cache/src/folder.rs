//! The cache folder before foyer opens it: its lock, its space, its leftovers, the age of its blocks.
//!
//! Holds `lock`, `position` (how far the write log had come) and `blocks/` (foyer's files, one a block).
//! Must not read or write what is inside blocks, except that a block of zeros is an empty one.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, FileTimes, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use fs4::FileExt as _;

use crate::config::{DiskSettings, PAGE_BYTES, to_usize};
use crate::disk_state::DiskFault;
use crate::write_log::LogPosition;

/// How foyer names the files of a folder device.
const BLOCK_FILE_PREFIX: &str = "foyer-storage-direct-fs-";

/// A claimed cache folder. The claim ends when this is dropped, which must be after foyer's last write.
#[derive(Debug)]
pub(crate) struct Folder {
    _lock: File,
    position_file: File,
    position: LogPosition,
    blocks: Vec<BlockFile>,
    blocks_dir: PathBuf,
}

#[derive(Debug)]
struct BlockFile {
    path: PathBuf,
    written: SystemTime,
}

impl Folder {
    /// Locks the folder, removes what another layout left, reserves the space and leaves at least one block empty.
    /// Blocking; takes milliseconds for a folder that was used before.
    ///
    /// # Errors
    /// [`DiskFault::Folder`], [`DiskFault::InUse`] or [`DiskFault::NoSpace`]; on the last, space reserved so far is freed.
    pub(crate) fn claim(settings: &DiskSettings) -> Result<Self, DiskFault> {
        let folder_fault = |source| DiskFault::Folder { dir: settings.dir.clone(), source };
        let blocks_dir = settings.dir.join("blocks");
        // Only for this user: it holds private pictures, and foyer pads entries with whatever its memory held before.
        DirBuilder::new().recursive(true).mode(0o700).create(&blocks_dir).map_err(folder_fault)?;
        let lock = open_rw(&settings.dir.join("lock")).map_err(folder_fault)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => DiskFault::InUse { dir: settings.dir.clone() },
            TryLockError::Error(source) => folder_fault(source),
        })?;
        let position_file = open_rw(&settings.dir.join("position")).map_err(folder_fault)?;

        sweep(&blocks_dir, settings).map_err(folder_fault)?;
        let blocks = reserve(&blocks_dir, settings)?;
        empty_one(&blocks, settings.block_bytes).map_err(folder_fault)?;
        let position = read_position(&position_file).unwrap_or_default();
        Ok(Self { _lock: lock, position_file, position, blocks, blocks_dir })
    }

    /// Where foyer keeps its files.
    pub(crate) fn blocks_dir(&self) -> &Path {
        &self.blocks_dir
    }

    /// How far the write log had come when it was last noted; zero for a new folder.
    pub(crate) fn position(&self) -> LogPosition {
        self.position
    }

    /// Keeps how far the write log has come. Losing a note costs a few rewrites, so nothing waits for the disk here.
    pub(crate) fn note_position(&self, position: LogPosition) -> io::Result<()> {
        let mut note = [0; 16];
        note[..8].copy_from_slice(&position.0.to_le_bytes());
        note[8..].copy_from_slice(&(!position.0).to_le_bytes());
        self.position_file.write_all_at(&note, 0)
    }

    /// For each block its place in the order of writing, oldest lowest.
    pub(crate) fn block_ranks(&self) -> Vec<u64> {
        let mut oldest_first: Vec<usize> = (0..self.blocks.len()).collect();
        oldest_first.sort_by_key(|&block| self.blocks[block].written);
        let mut ranks = vec![0; self.blocks.len()];
        for (rank, block) in (0..).zip(oldest_first) {
            ranks[block] = rank;
        }
        ranks
    }

    /// Puts back the modification times, which carry the order of the blocks and which opening the files has reset.
    pub(crate) fn restore_times(&self) -> io::Result<()> {
        for block in &self.blocks {
            let file = OpenOptions::new().write(true).open(&block.path)?;
            file.set_times(FileTimes::new().set_modified(block.written))?;
        }
        Ok(())
    }
}

fn open_rw(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

fn block_file_name(block: u64) -> OsString {
    format!("{BLOCK_FILE_PREFIX}{block:08}").into()
}

/// Removes block files of another layout: foyer would keep them open, or read them at the wrong offsets.
/// The folder `blocks/` is the cache's own, so nothing else belongs in it.
fn sweep(blocks_dir: &Path, settings: &DiskSettings) -> io::Result<()> {
    let expected: std::collections::HashSet<OsString> = (0..settings.blocks).map(block_file_name).collect();
    for file in fs::read_dir(blocks_dir)? {
        let file = file?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            fs::remove_dir_all(file.path())?;
        } else if !metadata.is_file() || metadata.len() != settings.block_bytes || !expected.contains(&file.file_name())
        {
            fs::remove_file(file.path())?;
        }
    }
    Ok(())
}

/// Takes the whole space now. Running out of it later is not only a write error: foyer's flusher does not survive one.
fn reserve(blocks_dir: &Path, settings: &DiskSettings) -> Result<Vec<BlockFile>, DiskFault> {
    let folder_fault = |source| DiskFault::Folder { dir: settings.dir.clone(), source };
    let mut missing = Vec::new();
    let mut needed_bytes = 0u64;
    let mut blocks = Vec::new();
    for block in 0..settings.blocks {
        let path = blocks_dir.join(block_file_name(block));
        let (written, held_bytes) = match fs::metadata(&path) {
            Ok(metadata) => {
                let held_bytes = (metadata.blocks() * 512).min(metadata.len());
                (metadata.modified().map_err(folder_fault)?, held_bytes)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => (SystemTime::UNIX_EPOCH, 0),
            Err(error) => return Err(folder_fault(error)),
        };
        if held_bytes < settings.block_bytes {
            needed_bytes += settings.block_bytes - held_bytes;
            missing.push(blocks.len());
        }
        blocks.push(BlockFile { path, written });
    }
    let available_bytes = fs4::available_space(blocks_dir).map_err(folder_fault)?;
    let no_space = || DiskFault::NoSpace { dir: settings.dir.clone(), needed_bytes, available_bytes };
    if needed_bytes > available_bytes {
        return Err(no_space());
    }
    let reserved = missing.iter().try_for_each(|&block| reserve_block(&blocks[block].path, settings.block_bytes));
    match reserved {
        Ok(()) => Ok(blocks),
        Err(error) => {
            let freed = missing.iter().try_for_each(|&block| remove_if_there(&blocks[block].path));
            let out_of_space =
                matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge);
            Err(match freed {
                Ok(()) if out_of_space => no_space(),
                Ok(()) => folder_fault(error),
                Err(remove_error) => folder_fault(remove_error),
            })
        }
    }
}

fn reserve_block(path: &Path, block_bytes: u64) -> io::Result<()> {
    let file = open_rw(path)?;
    file.set_len(block_bytes)?;
    match file.allocate(block_bytes) {
        // Some file systems cannot reserve. The flush watch notices if they run full.
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(()),
        reserved => reserved,
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// After recovery foyer waits for a clean block, but starts to reclaim one only when it takes one: a process killed
/// between the two would leave a disk that is never written again. So the oldest block goes if none is empty.
fn empty_one(blocks: &[BlockFile], block_bytes: u64) -> io::Result<()> {
    let mut head = vec![0; to_usize(PAGE_BYTES)];
    for block in blocks {
        File::open(&block.path)?.read_exact(&mut head)?;
        if head.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
    }
    let Some(oldest) = blocks.iter().min_by_key(|block| block.written) else { return Ok(()) };
    OpenOptions::new().write(true).open(&oldest.path)?.set_len(0)?;
    reserve_block(&oldest.path, block_bytes)
}

fn read_position(file: &File) -> Option<LogPosition> {
    let mut note = [0; 16];
    file.read_exact_at(&mut note, 0).ok()?;
    let [position, check] = [&note[..8], &note[8..]].map(|half| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(half);
        u64::from_le_bytes(bytes)
    });
    (position == !check).then_some(LogPosition(position))
}
