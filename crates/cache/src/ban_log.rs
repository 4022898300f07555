//! Bans on disk: one file in the cache folder, appended to and synced for each purge.
//!
//! A header (magic, version, epoch) and records of one length: kind u8 and seven zeros, tenant u64, value u128, number u64,
//! check u64; little endian. Must not lose a ban silently: if the file is missing or damaged, a new epoch begins, and
//! nothing that was kept under the old one is found again.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::bans::Scope;
use crate::key::CacheKey;
use crate::rendition::UnixMillis;

const FILE: &str = "bans";
const MAGIC: &[u8; 8] = b"calobans";
const VERSION: u64 = 1;
const HEADER_BYTES: usize = 32;
const RECORD_BYTES: usize = 48;
/// Records beyond this and twice the bans in force are worth a rewrite.
const WORDY_RECORDS: usize = 4096;
/// The longest file that is read; as many records as there may be bans, and as many again that they replaced.
const FILE_BYTES_MAX: u64 = 256 << 20;

#[derive(Debug)]
pub(crate) struct BanLog {
    file: File,
    path: PathBuf,
    epoch: u128,
    records: usize,
    /// Whether the end of the file may hold half a record.
    is_torn: bool,
}

impl BanLog {
    /// Opens the file of a claimed folder and hands each ban to `add`, oldest first; begins a new epoch if there is none
    /// that can be trusted.
    ///
    /// # Errors
    /// When the folder cannot be read or written.
    pub(crate) fn open(dir: &Path, mut add: impl FnMut(Scope, u64)) -> io::Result<Self> {
        let path = dir.join(FILE);
        match read(&path)?.and_then(|bytes| parse(&bytes)) {
            Some((epoch, bans)) => {
                let file = OpenOptions::new().read(true).write(true).open(&path)?;
                let records = bans.len();
                for (scope, number) in bans {
                    add(scope, number);
                }
                let whole = (HEADER_BYTES + records * RECORD_BYTES) as u64;
                // Half a record at the end was never acknowledged.
                file.set_len(whole)?;
                let mut log = Self { file, path, epoch, records, is_torn: false };
                log.file.seek(SeekFrom::End(0))?;
                Ok(log)
            }
            None => Self::begin(path, new_epoch(), std::iter::empty()),
        }
    }

    pub(crate) fn epoch(&self) -> u128 {
        self.epoch
    }

    /// Whether most of the file is about bans that others have replaced.
    pub(crate) fn is_wordy(&self, in_force: usize) -> bool {
        self.records > WORDY_RECORDS + 2 * in_force
    }

    /// Writes bans and waits until they are on disk.
    ///
    /// # Errors
    /// When they are not; none of them is remembered then.
    pub(crate) fn append(&mut self, bans: &[(Scope, u64)]) -> io::Result<()> {
        let end = (HEADER_BYTES + self.records * RECORD_BYTES) as u64;
        if self.is_torn {
            self.file.set_len(end)?;
            self.file.seek(SeekFrom::Start(end))?;
        }
        self.is_torn = true;
        let records: Vec<u8> = bans.iter().flat_map(|(scope, number)| record(self.epoch, *scope, *number)).collect();
        self.file.write_all(&records)?;
        self.file.sync_data()?;
        self.is_torn = false;
        self.records += bans.len();
        Ok(())
    }

    /// Replaces the file by one with only these bans.
    ///
    /// # Errors
    /// When the folder cannot be written; the file is the old one then.
    pub(crate) fn rewrite(&mut self, bans: impl Iterator<Item = (Scope, u64)>) -> io::Result<()> {
        *self = Self::begin(self.path.clone(), self.epoch, bans)?;
        Ok(())
    }

    fn begin(path: PathBuf, epoch: u128, bans: impl Iterator<Item = (Scope, u64)>) -> io::Result<Self> {
        let part = path.with_extension("part");
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&part)?;
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&epoch.to_le_bytes());
        let mut records = 0;
        for (scope, number) in bans {
            bytes.extend_from_slice(&record(epoch, scope, number));
            records += 1;
        }
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&part, &path)?;
        // The new name must be on disk before anything is kept under the new epoch.
        if let Some(dir) = path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(Self { file, path, epoch, records, is_torn: false })
    }
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    // A longer one is not ours; what was read of it could be a log of its own.
    Ok((bytes.len() as u64 <= FILE_BYTES_MAX).then_some(bytes))
}

/// The epoch and the bans; `None` if anything but the very end is not as it was written.
fn parse(bytes: &[u8]) -> Option<(u128, Vec<(Scope, u64)>)> {
    let (header, records) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let (magic, rest) = header.split_first_chunk::<8>()?;
    let (version, epoch) = rest.split_first_chunk::<8>()?;
    if magic != MAGIC || u64::from_le_bytes(*version) != VERSION {
        return None;
    }
    let epoch = u128::from_le_bytes(*epoch.first_chunk()?);
    let bans = records.chunks_exact(RECORD_BYTES).map(|bytes| parse_record(epoch, bytes)).collect::<Option<_>>()?;
    Some((epoch, bans))
}

/// Bans in a form for other nodes: records as in the file, under no epoch, with a time in milliseconds for a number.
#[must_use]
pub fn bans_to_bytes(scopes: &[Scope], at: UnixMillis) -> Vec<u8> {
    scopes.iter().flat_map(|scope| record(0, *scope, at.0)).collect()
}

/// What [`bans_to_bytes`] made; `None` if it was not this.
#[must_use]
pub fn bans_from_bytes(bytes: &[u8]) -> Option<Vec<(Scope, UnixMillis)>> {
    let records = bytes.chunks(RECORD_BYTES).map(|bytes| parse_record(0, bytes));
    records.map(|record| record.map(|(scope, at)| (scope, UnixMillis(at)))).collect()
}

fn record(epoch: u128, scope: Scope, number: u64) -> [u8; RECORD_BYTES] {
    let (kind, tenant, value) = match scope {
        Scope::Everything => (0_u8, 0, 0),
        Scope::Tenant { tenant } => (1, tenant, 0),
        Scope::Source { tenant, source } => (2, tenant, source.into()),
        Scope::Tag { tenant, tag } => (3, tenant, tag.into()),
        Scope::Key { tenant, key } => (4, tenant, key.as_u128()),
    };
    let mut record = [0; RECORD_BYTES];
    record[0] = kind;
    record[8..16].copy_from_slice(&tenant.to_le_bytes());
    record[16..32].copy_from_slice(&value.to_le_bytes());
    record[32..40].copy_from_slice(&number.to_le_bytes());
    let check = check(epoch, &record[..40]);
    record[40..].copy_from_slice(&check);
    record
}

fn parse_record(epoch: u128, bytes: &[u8]) -> Option<(Scope, u64)> {
    let (fields, found) = bytes.split_at_checked(40)?;
    if check(epoch, fields) != found {
        return None;
    }
    let tenant = u64::from_le_bytes(*fields.get(8..)?.first_chunk()?);
    let value = u128::from_le_bytes(*fields.get(16..)?.first_chunk()?);
    let number = u64::from_le_bytes(*fields.get(32..)?.first_chunk()?);
    let small = u64::try_from(value);
    let scope = match fields.first()? {
        0 => Scope::Everything,
        1 => Scope::Tenant { tenant },
        2 => Scope::Source { tenant, source: small.ok()? },
        3 => Scope::Tag { tenant, tag: small.ok()? },
        4 => Scope::Key { tenant, key: CacheKey::from_u128(value) },
        _ => return None,
    };
    Some((scope, number))
}

fn check(epoch: u128, fields: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&epoch.to_le_bytes()).update(fields);
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    first
}

/// A number that no epoch before had. It need not be secret, only different.
fn new_epoch() -> u128 {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let here = Box::new(0_u8);
    let mut hasher = blake3::Hasher::new();
    hasher.update(&nanos.to_le_bytes()).update(&std::process::id().to_le_bytes());
    hasher.update(&(std::ptr::from_ref(&*here) as usize).to_le_bytes());
    hasher.update(&std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), nanos).to_le_bytes());
    let mut half = [0; 16];
    half.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_le_bytes(half)
}
