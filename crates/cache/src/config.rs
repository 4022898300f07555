//! Settings of the cache, in two steps: [`CacheConfig`] as an operator wrote it, [`CacheSettings`] checked and complete.
//!
//! Must not touch the file system: a bad folder is not a mistake in the configuration, the cache starts without it.

use std::fmt;
use std::path::{Path, PathBuf};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// foyer aligns everything on disk to this.
pub(crate) const PAGE_BYTES: u64 = 4 * KIB;
/// The index page at the head of each run of entries in a block.
const BLOCK_INDEX_BYTES: u64 = 4 * KIB;
/// foyer's header in front of an entry, and our key behind it.
const ENTRY_FRAME_BYTES: u64 = 36 + 16;

const MEMORY_BYTES_MIN: u64 = MIB;
const MEMORY_BYTES_MAX: u64 = TIB;
const DISK_BYTES_MIN: u64 = 16 * MIB;
const DISK_BYTES_MAX: u64 = 64 * TIB;
const BLOCK_BYTES_MIN: u64 = MIB;
const BLOCK_BYTES_MAX: u64 = GIB;
const BLOCKS_MIN: u64 = 8;
/// Each block is an open file; beyond this a usual limit on open files is too close.
const BLOCKS_DEFAULT_MAX: u64 = 512;
const BLOCKS_MAX: u64 = 65_536;
const BUFFER_BYTES_MIN: u64 = MIB;
const FLIGHTS_MAX: u32 = 1_000_000;

/// What an operator may set. The default is 256 MiB of memory and no disk.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// What is in it: the label `name` of foyer's metrics. Default `renditions`.
    pub name: &'static str,
    /// What the names of its own metrics start with. Default `calotype_cache`.
    pub metrics_prefix: &'static str,
    /// The cache's own folder. Created if missing, used by one process at a time.
    pub dir: PathBuf,
    /// Bytes of renditions kept in memory, 1 MiB to 1 TiB. Default 256 MiB.
    pub memory_bytes: u64,
    /// Bytes of disk, reserved when the cache opens, 16 MiB to 64 TiB; 0 keeps the cache in memory only. Default 0.
    pub disk_bytes: u64,
    /// Bytes that leave the disk at a time, 1 MiB to 1 GiB in steps of 4 KiB, at least 8 to a disk. A larger entry is not
    /// kept on disk. Default: a 32nd of the disk between 1 and 64 MiB, more above 32 GiB to stay at 512 open files.
    pub block_bytes: Option<u64>,
    /// Bytes that may wait for one write, from 1 MiB to an eighth of the disk; costs twice that much memory. What comes
    /// faster than the disk takes it is dropped (and counted). Default: an eighth of the disk, at most 64 MiB.
    pub buffer_bytes: Option<u64>,
    /// Bytes that may wait for the buffer, no less than the buffer. Default: four buffers.
    pub queue_bytes: Option<u64>,
    /// Fills that may run at a time, 1 to 1,000,000. Default 4096.
    pub flights_max: u32,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            name: "renditions",
            metrics_prefix: "calotype_cache",
            dir: PathBuf::new(),
            memory_bytes: 256 * MIB,
            disk_bytes: 0,
            block_bytes: None,
            buffer_bytes: None,
            queue_bytes: None,
            flights_max: 4096,
        }
    }
}

impl CacheConfig {
    /// Checks everything and fills in what was left out.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn validate(self) -> Result<CacheSettings, ConfigMistakes> {
        let mut mistakes = Vec::new();
        let mut range = |field, value: u64, min: u64, max: u64| {
            if !(min..=max).contains(&value) {
                mistakes.push(ConfigMistake { field, value, expected: format!("{min} to {max}") });
            }
        };
        range("memory_bytes", self.memory_bytes, MEMORY_BYTES_MIN, MEMORY_BYTES_MAX);
        range("flights_max", u64::from(self.flights_max), 1, u64::from(FLIGHTS_MAX));
        let disk = match self.disk_bytes {
            0 => None,
            disk_bytes => {
                range("disk_bytes", disk_bytes, DISK_BYTES_MIN, DISK_BYTES_MAX);
                let disk = self.disk_settings(disk_bytes.clamp(DISK_BYTES_MIN, DISK_BYTES_MAX), &mut mistakes);
                Some(disk)
            }
        };
        if !mistakes.is_empty() {
            return Err(ConfigMistakes(mistakes));
        }
        Ok(CacheSettings {
            metrics_prefix: self.metrics_prefix,
            memory: MemorySettings::new(self.name, self.memory_bytes),
            disk,
            flights_max: self.flights_max,
        })
    }

    fn disk_settings(&self, disk_bytes: u64, mistakes: &mut Vec<ConfigMistake>) -> DiskSettings {
        if self.dir.as_os_str().is_empty() {
            let expected = "a folder, because disk_bytes is not 0".to_owned();
            mistakes.push(ConfigMistake { field: "dir", value: 0, expected });
        }
        let block_bytes = self.block_bytes.unwrap_or_else(|| default_block_bytes(disk_bytes));
        let block_max = BLOCK_BYTES_MAX.min(disk_bytes / BLOCKS_MIN);
        if !(BLOCK_BYTES_MIN..=block_max).contains(&block_bytes)
            || !block_bytes.is_multiple_of(PAGE_BYTES)
            || disk_bytes / block_bytes > BLOCKS_MAX
        {
            let expected =
                format!("{BLOCK_BYTES_MIN} to {block_max} in steps of {PAGE_BYTES}, at most {BLOCKS_MAX} to the disk");
            mistakes.push(ConfigMistake { field: "block_bytes", value: block_bytes, expected });
        }
        let buffer_max = disk_bytes / 8;
        let buffer_bytes = self.buffer_bytes.unwrap_or((64 * MIB).min(buffer_max));
        if !(BUFFER_BYTES_MIN..=buffer_max).contains(&buffer_bytes) {
            let expected = format!("{BUFFER_BYTES_MIN} to {buffer_max}");
            mistakes.push(ConfigMistake { field: "buffer_bytes", value: buffer_bytes, expected });
        }
        let queue_bytes = self.queue_bytes.unwrap_or(buffer_bytes.saturating_mul(4));
        if queue_bytes < buffer_bytes {
            let expected = format!("{buffer_bytes} (the buffer) or more");
            mistakes.push(ConfigMistake { field: "queue_bytes", value: queue_bytes, expected });
        }
        DiskSettings {
            dir: self.dir.clone(),
            block_bytes,
            blocks: disk_bytes.checked_div(block_bytes).unwrap_or(0),
            buffer_bytes: buffer_bytes / PAGE_BYTES * PAGE_BYTES,
            queue_bytes,
        }
    }
}

fn default_block_bytes(disk_bytes: u64) -> u64 {
    let even = prev_power_of_two(disk_bytes / 32).clamp(MIB, 64 * MIB);
    let few_files = (disk_bytes / BLOCKS_DEFAULT_MAX).next_power_of_two();
    even.max(few_files).min(BLOCK_BYTES_MAX)
}

fn prev_power_of_two(n: u64) -> u64 {
    if n == 0 { 0 } else { 1 << n.ilog2() }
}

/// Checked settings; made by [`CacheConfig::validate`].
#[derive(Clone, Debug)]
pub struct CacheSettings {
    pub(crate) metrics_prefix: &'static str,
    pub(crate) memory: MemorySettings,
    pub(crate) disk: Option<DiskSettings>,
    pub(crate) flights_max: u32,
}

impl CacheSettings {
    /// The cache folder, or `None` for a cache in memory only.
    #[must_use]
    pub fn dir(&self) -> Option<&Path> {
        self.disk.as_ref().map(|disk| disk.dir.as_path())
    }

    /// The largest encoded entry that the disk takes, in bytes; 0 without a disk. A rendition is encoded as its body and
    /// less than 3 KiB.
    #[must_use]
    pub fn disk_entry_bytes_max(&self) -> u64 {
        self.disk.as_ref().map_or(0, DiskSettings::entry_bytes_max)
    }

    /// The heaviest rendition (body and about 500 bytes) that memory takes, in bytes.
    #[must_use]
    pub fn memory_entry_bytes_max(&self) -> u64 {
        self.memory.entry_bytes_max as u64
    }
}

#[derive(Clone, Debug)]
pub(crate) struct MemorySettings {
    pub(crate) name: &'static str,
    pub(crate) capacity_bytes: usize,
    pub(crate) shards: usize,
    pub(crate) entry_bytes_max: usize,
}

impl MemorySettings {
    /// foyer splits the capacity over its shards, so few and large shards: one entry must not empty a whole shard.
    fn new(name: &'static str, memory_bytes: u64) -> Self {
        let shards = prev_power_of_two(memory_bytes / (16 * MIB)).clamp(1, 64);
        Self {
            name,
            capacity_bytes: to_usize(memory_bytes),
            shards: to_usize(shards),
            entry_bytes_max: to_usize(memory_bytes / shards / 8),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct DiskSettings {
    pub(crate) dir: PathBuf,
    pub(crate) block_bytes: u64,
    pub(crate) blocks: u64,
    pub(crate) buffer_bytes: u64,
    pub(crate) queue_bytes: u64,
}

impl DiskSettings {
    pub(crate) fn capacity_bytes(&self) -> u64 {
        self.block_bytes * self.blocks
    }

    /// An entry has to fit a block beside its index, and the buffer.
    pub(crate) fn entry_bytes_max(&self) -> u64 {
        (self.block_bytes - BLOCK_INDEX_BYTES).min(self.buffer_bytes) - ENTRY_FRAME_BYTES
    }

    /// What an entry of so many encoded bytes takes of the disk.
    pub(crate) fn occupied_bytes(encoded_bytes: u64) -> u64 {
        (encoded_bytes + ENTRY_FRAME_BYTES).next_multiple_of(PAGE_BYTES)
    }
}

pub(crate) fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("limits are far below 64 bits, and only 64-bit targets are supported")
}

/// One bad setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMistake {
    /// The field of [`CacheConfig`].
    pub field: &'static str,
    /// What it was set to; 0 for an empty folder.
    pub value: u64,
    /// What would be accepted.
    pub expected: String,
}

/// Every bad setting of a [`CacheConfig`]; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigMistakes(pub Vec<ConfigMistake>);

impl fmt::Display for ConfigMistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "; " };
            write!(f, "{separator}{} = {}: expected {}", mistake.field, mistake.value, mistake.expected)?;
        }
        Ok(())
    }
}
