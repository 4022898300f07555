//! What the control plane has told, on this machine's disk: an edge that starts while the control plane is away knows all of it.
//!
//! Records are appended as changes come, each sealed (XChaCha20-Poly1305) with a key made of the edge token and bound to its place
//! in its file: there are secrets in them, and nobody may add, change or swap any. A record that does not open ends the file, as
//! a torn one at the end does: what stands before it is whole, and what came after it is asked for again.
//!
//! File: magic (8 bytes), id (16), then for each record its length (4, little-endian), nonce (24), ciphertext with tag.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use tenancy::feed::{FeedEvent, TenantSnapshot};

use super::directory::Directory;

const MAGIC: &[u8; 8] = b"CALFEED1";
const ID_BYTES: usize = 16;
const NONCE_BYTES: usize = 24;

/// Largest record, in bytes. A longer one is damage.
const RECORD_BYTES_MAX: usize = 256 << 20;

/// Tenants of one record.
const TENANTS_PER_RECORD: usize = 100;

/// The file is written anew when what was appended is as long as it was, but not for less than this many bytes.
const APPENDED_BYTES_MIN: u64 = 1 << 20;

/// How far an edge has taken the feed in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Of which feed.
    pub epoch: String,
    /// The number of the last change.
    pub seq: u64,
}

#[derive(Serialize, Deserialize)]
enum Record {
    /// Some of all tenants.
    Tenants(Vec<TenantSnapshot>),
    /// That was all of them: as of here.
    Whole(Position),
    /// Changes after that.
    Events(Vec<FeedEvent>),
}

/// Records as they are written, without copying what they hold.
#[derive(Serialize)]
enum RecordRef<'a> {
    Tenants(Vec<TenantRef<'a>>),
    Whole(&'a Position),
    Events(&'a [FeedEvent]),
}

#[derive(Serialize)]
struct TenantRef<'a> {
    id: &'a tenancy::TenantId,
    #[serde(flatten)]
    parts: &'a tenancy::TenantParts,
}

/// The file, and what seals it. One process writes it at a time.
pub struct Journal {
    path: PathBuf,
    cipher: XChaCha20Poly1305,
    /// Held while this process writes.
    lock: Option<File>,
    open: Option<OpenFile>,
}

struct OpenFile {
    file: File,
    id: [u8; ID_BYTES],
    records: u64,
    whole_bytes: u64,
    appended_bytes: u64,
}

impl Journal {
    /// The journal in this folder, which is made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(dir: &Path, token: &str) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let key = blake3::derive_key("calotype edge 2026-11 journal of the feed", token.as_bytes());
        let cipher = XChaCha20Poly1305::new(&key.into());
        Ok(Self { path: dir.join("journal"), cipher, lock: None, open: None })
    }

    /// Reads what is there. `None` if it is nothing, of another token, or not whole.
    pub fn load(&self) -> Option<(Position, Directory)> {
        let mut reader = Reader::open(&self.path, &self.cipher)?;
        let mut directory = Directory::default();
        let mut position = loop {
            match reader.next()? {
                Record::Tenants(tenants) => directory.extend(tenants),
                Record::Whole(position) => break position,
                Record::Events(_) => return None,
            }
        };
        while let Some(Record::Events(events)) = reader.next() {
            // What comes after a gap is asked for again, and what the gap lacks with it.
            if !is_next(position.seq, &events) {
                break;
            }
            for event in events {
                position.seq = event.seq;
                // What was taken back is remembered by the bans.
                directory.apply(event);
            }
        }
        Some((position, directory))
    }

    /// Whether this process may write: no other one does. Tries to become so.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn claim(&mut self) -> io::Result<bool> {
        if self.lock.is_none() {
            let lock = private().write(true).create(true).truncate(false).open(self.path.with_extension("lock"))?;
            self.lock = lock.try_lock().is_ok().then_some(lock);
        }
        Ok(self.lock.is_some())
    }

    /// Whether there is a file to append to, and it is not much longer than it has to be.
    pub fn is_appendable(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.appended_bytes < open.whole_bytes.max(APPENDED_BYTES_MIN))
    }

    /// Adds changes, and waits until they are on disk. Blocking. After an error the file has to be written anew.
    ///
    /// # Errors
    /// When they are not.
    pub fn append(&mut self, events: &[FeedEvent]) -> io::Result<()> {
        let mut open = self.open.take().ok_or(io::ErrorKind::NotFound)?;
        let sealed = seal(&self.cipher, (&open.id, open.records), &RecordRef::Events(events))?;
        open.file.write_all(&sealed)?;
        open.file.sync_data()?;
        open.records += 1;
        open.appended_bytes += sealed.len() as u64;
        self.open = Some(open);
        Ok(())
    }

    /// What the file says is not what is known any more: it has to be written anew.
    pub fn abandon(&mut self) {
        self.open = None;
    }

    /// Writes all of it anew, in one step. Blocking.
    ///
    /// # Errors
    /// When it cannot be written; the file is the old one then.
    pub fn rewrite(&mut self, position: &Position, directory: &Directory) -> io::Result<()> {
        self.open = None;
        let part = self.path.with_extension("part");
        let file = private().write(true).create(true).truncate(true).open(&part)?;
        let mut id = [0; ID_BYTES];
        getrandom::fill(&mut id).map_err(io::Error::other)?;
        let (mut writer, mut records, mut bytes) = (BufWriter::new(file), 0, 0);
        writer.write_all(MAGIC)?;
        writer.write_all(&id)?;
        let mut write = |record: &RecordRef<'_>| {
            let sealed = seal(&self.cipher, (&id, records), record)?;
            (records, bytes) = (records + 1, bytes + sealed.len() as u64);
            writer.write_all(&sealed)
        };
        let mut tenants = directory.iter().map(|(id, parts)| TenantRef { id, parts }).peekable();
        while tenants.peek().is_some() {
            write(&RecordRef::Tenants(tenants.by_ref().take(TENANTS_PER_RECORD).collect()))?;
        }
        write(&RecordRef::Whole(position))?;
        let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(&part, &self.path)?;
        if let Some(dir) = self.path.parent() {
            File::open(dir)?.sync_all()?;
        }
        self.open = Some(OpenFile { file, id, records, whole_bytes: bytes, appended_bytes: 0 });
        Ok(())
    }
}

/// Whether changes follow this one, and each other, without a gap.
pub fn is_next(seq: u64, events: &[FeedEvent]) -> bool {
    events.iter().map(|event| event.seq).eq((seq + 1..).take(events.len()))
}

/// Nobody else may read it.
pub fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn place(id: &[u8; ID_BYTES], number: u64) -> Vec<u8> {
    [&id[..], &number.to_le_bytes()].concat()
}

fn seal(
    cipher: &XChaCha20Poly1305,
    (id, number): (&[u8; ID_BYTES], u64),
    record: &RecordRef<'_>,
) -> io::Result<Vec<u8>> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(io::Error::other)?;
    let payload = Payload { msg: &serde_json::to_vec(record)?, aad: &place(id, number) };
    let sealed =
        cipher.encrypt(XNonce::from_slice(&nonce), payload).map_err(|_| io::Error::other("too long to be sealed"))?;
    let length = u32::try_from(NONCE_BYTES + sealed.len()).map_err(io::Error::other)?;
    Ok([&length.to_le_bytes()[..], &nonce, &sealed].concat())
}

struct Reader<'a> {
    file: BufReader<File>,
    cipher: &'a XChaCha20Poly1305,
    id: [u8; ID_BYTES],
    number: u64,
}

impl<'a> Reader<'a> {
    fn open(path: &Path, cipher: &'a XChaCha20Poly1305) -> Option<Self> {
        let mut file = BufReader::new(File::open(path).ok()?);
        let (mut magic, mut id) = ([0; MAGIC.len()], [0; ID_BYTES]);
        file.read_exact(&mut magic).ok()?;
        file.read_exact(&mut id).ok()?;
        (magic == *MAGIC).then_some(Self { file, cipher, id, number: 0 })
    }

    fn next(&mut self) -> Option<Record> {
        let mut length = [0; 4];
        self.file.read_exact(&mut length).ok()?;
        let length = u32::from_le_bytes(length) as usize;
        if !(NONCE_BYTES..=RECORD_BYTES_MAX).contains(&length) {
            return None;
        }
        let mut sealed = Vec::new();
        // Gathered as it comes: a length that is damage costs no memory.
        self.file.by_ref().take(length as u64).read_to_end(&mut sealed).ok()?;
        if sealed.len() != length {
            return None;
        }
        let (nonce, ciphertext) = sealed.split_at_checked(NONCE_BYTES)?;
        let payload = Payload { msg: ciphertext, aad: &place(&self.id, self.number) };
        let opened = self.cipher.decrypt(XNonce::from_slice(nonce), payload).ok()?;
        self.number += 1;
        serde_json::from_slice(&opened).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tempfile::TempDir;
    use tenancy::TenantId;
    use tenancy::feed::kind;

    use super::*;

    const TOKEN: &str = "0123456789abcdefghijklmnopqrstuv";

    fn event(seq: u64, kind: &str, name: &str, body: serde_json::Value) -> FeedEvent {
        let tenant = TenantId::new(&format!("id-{}", seq % 3));
        FeedEvent { seq, at: 0, tenant, kind: kind.to_owned(), name: name.to_owned(), body: Some(body) }
    }

    /// A file with three tenants and five changes after them, each in a record of its own.
    fn written(home: &TempDir) -> (Journal, Directory) {
        let mut journal = Journal::new(home.path(), TOKEN).expect("a folder");
        assert!(journal.load().is_none() && !journal.is_appendable());
        assert!(journal.claim().expect("ours"));
        let mut directory = Directory::default();
        for seq in 1..=3 {
            directory.apply(event(seq, kind::TENANT, "", json!({ "slug": format!("shop-{seq}"), "state": "active" })));
        }
        journal.rewrite(&Position { epoch: "e".to_owned(), seq: 3 }, &directory).expect("written");
        for seq in 4..=8 {
            let change = event(seq, kind::PRESET, &format!("p{seq}"), json!("w=1"));
            journal.append(std::slice::from_ref(&change)).expect("written");
            directory.apply(change);
        }
        (journal, directory)
    }

    fn same(one: &Directory, other: &Directory) -> bool {
        one.iter().eq(other.iter())
    }

    #[test]
    fn all_of_it_is_read_again_and_only_with_the_token() {
        let home = tempfile::tempdir().expect("a folder");
        let (journal, directory) = written(&home);
        let (position, read) = journal.load().expect("all of it");
        assert_eq!(position, Position { epoch: "e".to_owned(), seq: 8 });
        assert!(same(&read, &directory));
        let other = Journal::new(home.path(), "another token").expect("a folder");
        assert!(other.load().is_none());
        let bytes = fs::read(home.path().join("journal")).expect("there");
        assert!(!bytes.windows(4).any(|part| part == b"shop"), "it is sealed");
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(home.path().join("journal")).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_comes_after_a_gap_is_not_read() {
        let home = tempfile::tempdir().expect("a folder");
        let (mut journal, _) = written(&home);
        for seq in [10, 11] {
            journal.append(&[event(seq, kind::PRESET, "late", json!("w=1"))]).expect("written");
        }
        assert_eq!(journal.load().expect("what is before").0.seq, 8);
        journal.abandon();
        assert!(!journal.is_appendable() && journal.append(&[]).is_err());
    }

    #[test]
    fn one_process_writes_it() {
        let home = tempfile::tempdir().expect("a folder");
        let (journal, _) = written(&home);
        let mut second = Journal::new(home.path(), TOKEN).expect("a folder");
        assert!(second.load().is_some(), "reading is free");
        assert!(!second.claim().expect("asked"));
        drop(journal);
        assert!(second.claim().expect("asked"));
    }

    #[test]
    fn a_torn_or_damaged_file_is_read_as_far_as_it_is_whole() {
        let home = tempfile::tempdir().expect("a folder");
        let (journal, _) = written(&home);
        let path = home.path().join("journal");
        let whole = fs::read(&path).expect("there");
        let mut last = 9;
        for end in (0..whole.len()).rev() {
            fs::write(&path, &whole[..end]).expect("written");
            let seq = journal.load().map_or(0, |(position, _)| position.seq);
            assert!(
                seq < last || (seq == last && seq < 8) || (last == 9 && seq == 7),
                "{seq} after {last}, {end} bytes"
            );
            last = seq;
        }
        assert_eq!(last, 0);
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x20;
            fs::write(&path, &damaged).expect("written");
            if let Some((position, read)) = journal.load() {
                assert!((3..8).contains(&position.seq), "byte {at}: {}", position.seq);
                assert_eq!(read.len(), 3);
            }
        }
    }
}
