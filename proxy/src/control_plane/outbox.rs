//! What is still to be reported of usage, on this machine's disk: an edge that dies loses what it has not written down, and nothing is
//! counted twice.
//!
//! One file for each life of an edge, its boot. It is written before anything in it is sent, and a batch is sent under the same number
//! until it is taken: whoever goes on after a crash sends what was sent before, and the control plane tells by boot and number that it
//! has it. While nobody takes anything, what is used is added up by tenant and day, so that the file grows with those only.
//!
//! File: BLAKE3 of the rest in hexadecimal, a line feed, JSON.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tenancy::usage::{ROWS_MAX, UsageReport, UsageRow};

use super::journal::private;
use crate::usage::Used;

/// Days that are kept: the control plane takes nothing of earlier ones.
const DAYS_MAX: u32 = 62;

const PREFIX: &str = "usage-";

/// What of a boot is to be reported.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Content {
    /// Of the last batch that was made.
    number: u64,
    /// As they are sent.
    batches: VecDeque<UsageReport>,
    /// In no batch yet.
    waiting: Vec<UsageRow>,
}

/// The reports of a boot. One process has it at a time.
#[derive(Debug)]
pub struct Outbox {
    path: PathBuf,
    edge: String,
    boot: String,
    content: Content,
    /// Whether the file says what is known here.
    is_written: bool,
    /// Locked for as long as it is held; `None` where there is no file.
    lock: Option<File>,
}

impl Outbox {
    /// That of this life, in this folder. Where it cannot be written it is kept in memory.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn begin(folder: &Path, edge: &str) -> io::Result<Self> {
        let boot = boot()?;
        let path = folder.join(format!("{PREFIX}{boot}"));
        let (edge, content) = (edge.to_owned(), Content::default());
        Ok(Self { path, edge, boot, content, is_written: false, lock: None })
    }

    /// Those of lives that are over: each is the caller's from now on.
    pub fn left_over(folder: &Path, edge: &str) -> Vec<Self> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let boot = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(".lock"));
            let Some(boot) = boot else { continue };
            let path = folder.join(format!("{PREFIX}{boot}"));
            // Held by whoever lives; gone when another one was here first.
            let Ok(lock) = File::options().write(true).open(entry.path()) else { continue };
            if lock.try_lock().is_err() || !is_at(&lock, &entry.path()) {
                continue;
            }
            let content = match read(&path) {
                Ok(content) => content,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Content::default(),
                Err(error) if error.kind() != io::ErrorKind::InvalidData => {
                    tracing::error!(%error, file = %path.display(), "what was used cannot be read yet");
                    continue;
                }
                Err(error) => {
                    tracing::error!(%error, file = %path.display(), "what was used cannot be read, and is not reported");
                    // For whoever can make something of it.
                    let _ = fs::rename(&path, path.with_extension("damaged"));
                    Content::default()
                }
            };
            let (edge, boot) = (edge.to_owned(), boot.to_owned());
            found.push(Self { path, edge, boot, content, is_written: true, lock: Some(lock) });
        }
        found
    }

    /// Adds what was used; what is too long ago is left out.
    pub fn add(&mut self, used: Used, today: u32) {
        let mut all: Used = self.content.waiting.drain(..).map(|row| ((row.day, row.tenant), row.counts)).collect();
        for (of, counts) in used {
            *all.entry(of).or_default() += counts;
            self.is_written = false;
        }
        let recent = all.into_iter().filter(|((day, _), _)| day + DAYS_MAX >= today);
        self.content.waiting = recent.map(|((day, tenant), counts)| UsageRow { tenant, day, counts }).collect();
    }

    /// Puts what waits into batches, unless there are some: those come first.
    pub fn pack(&mut self) {
        let Content { number, batches, waiting } = &mut self.content;
        if !batches.is_empty() || waiting.is_empty() {
            return;
        }
        for rows in waiting.chunks(ROWS_MAX) {
            *number += 1;
            let (edge, boot) = (self.edge.clone(), self.boot.clone());
            batches.push_back(UsageReport { edge, boot, number: *number, rows: rows.to_vec() });
        }
        waiting.clear();
        self.is_written = false;
    }

    /// Writes it down, in one step; nothing is left when there is nothing to report. Blocking.
    ///
    /// # Errors
    /// When it cannot be written; it is known here all the same.
    pub fn save(&mut self) -> io::Result<()> {
        if self.is_empty() {
            match fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            self.is_written = true;
            return Ok(());
        }
        if self.is_written {
            return Ok(());
        }
        self.claim()?;
        let part = self.path.with_extension("part");
        let mut file = private().write(true).create(true).truncate(true).open(&part)?;
        let content = serde_json::to_vec(&self.content)?;
        writeln!(file, "{}", blake3::hash(&content).to_hex())?;
        file.write_all(&content)?;
        file.sync_all()?;
        fs::rename(&part, &self.path)?;
        if let Some(folder) = self.path.parent() {
            File::open(folder)?.sync_all()?;
        }
        self.is_written = true;
        Ok(())
    }

    /// Whether nothing is to be reported.
    pub fn is_empty(&self) -> bool {
        self.content.batches.is_empty() && self.content.waiting.is_empty()
    }

    /// Rows that are to be reported.
    pub fn rows(&self) -> usize {
        self.content.batches.iter().map(|batch| batch.rows.len()).sum::<usize>() + self.content.waiting.len()
    }

    /// The batch that is to be sent next.
    pub fn next(&self) -> Option<&UsageReport> {
        self.content.batches.front()
    }

    /// It was taken. That need not be written down: to send it again does no harm.
    pub fn taken(&mut self) {
        self.content.batches.pop_front();
    }

    /// Gives it up for good, with its files: there is nothing in it.
    pub fn end(mut self) {
        if self.save().is_ok() && self.lock.is_some() {
            let _ = fs::remove_file(self.path.with_extension("lock"));
        }
    }

    fn claim(&mut self) -> io::Result<()> {
        if self.lock.is_none() {
            let path = self.path.with_extension("lock");
            let lock = private().write(true).create(true).truncate(false).open(&path)?;
            lock.try_lock().map_err(io::Error::from)?;
            if !is_at(&lock, &path) {
                // Somebody took it for that of a life that is over, in this very moment.
                return Err(io::ErrorKind::NotFound.into());
            }
            self.lock = Some(lock);
        }
        Ok(())
    }
}

/// Whether a file is still the one of this name.
fn is_at(file: &File, path: &Path) -> bool {
    let id = |meta: fs::Metadata| (meta.dev(), meta.ino());
    matches!((file.metadata().map(id), fs::metadata(path).map(id)), (Ok(one), Ok(other)) if one == other)
}

fn read(path: &Path) -> io::Result<Content> {
    let bytes = fs::read(path)?;
    let damage = || io::Error::new(io::ErrorKind::InvalidData, "it is damaged");
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(damage)?;
    let (hash, content) = (&bytes[..end], &bytes[end + 1..]);
    if hash != blake3::hash(content).to_hex().as_bytes() {
        return Err(damage());
    }
    serde_json::from_slice(content).map_err(|_| damage())
}

/// A UUID (RFC 9562, version 4) that no other life has.
fn boot() -> io::Result<String> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use tenancy::TenantId;
    use tenancy::usage::Counts;

    use super::*;

    const TODAY: u32 = 20_000;

    fn used(tenants: std::ops::Range<usize>, day: u32, requests: u64) -> Used {
        let counts = Counts { requests, ..Counts::default() };
        tenants.map(|number| ((day, TenantId::new(&format!("t{number:05}"))), counts)).collect()
    }

    fn outbox(home: &TempDir) -> Outbox {
        Outbox::begin(home.path(), "edge-1").expect("random numbers")
    }

    fn files(home: &TempDir) -> usize {
        fs::read_dir(home.path()).expect("a folder").count()
    }

    #[test]
    fn what_waits_is_added_up_and_what_is_sent_stays_as_it_is() {
        let home = tempfile::tempdir().expect("a folder");
        let mut outbox = outbox(&home);
        outbox.add(used(0..ROWS_MAX + 1, TODAY, 1), TODAY);
        outbox.pack();
        let first = outbox.next().expect("a batch").clone();
        assert_eq!((first.number, first.rows.len()), (1, ROWS_MAX));
        for _ in 0..3 {
            outbox.add(used(0..10, TODAY, 5), TODAY);
            outbox.pack();
        }
        assert_eq!(outbox.next(), Some(&first));
        assert_eq!(outbox.rows(), ROWS_MAX + 1 + 10);
        outbox.taken();
        assert_eq!(outbox.next().map(|batch| (batch.number, batch.rows.len())), Some((2, 1)));
        outbox.taken();
        outbox.pack();
        let last = outbox.next().expect("what came since");
        assert_eq!((last.number, last.rows.len(), last.rows[0].counts.requests), (3, 10, 15));
    }

    #[test]
    fn another_life_goes_on_with_the_same_batches() {
        let home = tempfile::tempdir().expect("a folder");
        let mut dead = outbox(&home);
        dead.add(used(0..3, TODAY, 1), TODAY);
        dead.pack();
        dead.save().expect("written");
        dead.add(used(0..3, TODAY, 4), TODAY);
        dead.save().expect("written");
        let sent = dead.next().expect("a batch").clone();
        assert!(Outbox::left_over(home.path(), "edge-1").is_empty(), "it lives");
        drop(dead);
        let [mut left] = <[_; 1]>::try_from(Outbox::left_over(home.path(), "edge-1")).expect("one");
        assert!(Outbox::left_over(home.path(), "edge-1").is_empty(), "it has been taken over");
        assert_eq!(left.next(), Some(&sent));
        left.taken();
        left.pack();
        assert_eq!(left.next().map(|batch| (batch.boot == sent.boot, batch.number)), Some((true, 2)));
        left.taken();
        left.end();
        assert_eq!(files(&home), 0);
    }

    #[test]
    fn a_torn_or_damaged_file_is_not_believed() {
        let home = tempfile::tempdir().expect("a folder");
        let mut dead = outbox(&home);
        dead.add(used(0..1, TODAY, 7), TODAY);
        dead.save().expect("written");
        let (path, whole) = (dead.path.clone(), fs::read(&dead.path).expect("there"));
        drop(dead);
        let left = || Outbox::left_over(home.path(), "edge-1").pop().expect("one").rows();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).expect("written");
            assert_eq!(left(), 0, "byte {at}");
            fs::write(&path, &whole[..at]).expect("written");
            assert_eq!(left(), 0, "{at} bytes");
        }
        fs::write(&path, &whole).expect("written");
        assert_eq!(left(), 1);
    }

    #[test]
    fn days_of_long_ago_are_left_out() {
        let home = tempfile::tempdir().expect("a folder");
        let mut outbox = outbox(&home);
        outbox.add(used(0..1, TODAY - DAYS_MAX - 1, 1), TODAY);
        assert!(outbox.is_empty());
        outbox.add(used(0..1, TODAY - DAYS_MAX, 1), TODAY);
        assert_eq!(outbox.rows(), 1);
    }

    #[test]
    fn a_folder_that_cannot_be_written_loses_nothing_that_is_known() {
        let home = tempfile::tempdir().expect("a folder");
        let mut outbox = Outbox::begin(&home.path().join("none"), "edge-1").expect("random numbers");
        outbox.add(used(0..1, TODAY, 1), TODAY);
        outbox.pack();
        assert!(outbox.save().is_err());
        assert_eq!(outbox.next().map(|batch| batch.rows.len()), Some(1));
        fs::create_dir(home.path().join("none")).expect("made");
        outbox.save().expect("written");
    }
}
