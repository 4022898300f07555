//! Archives as they are sent: nothing is compressed, since media is already, so their length is known before their first byte.
//!
//! Pure: what is put in comes out again as bytes, piece by piece. Must not do IO.

use std::io::{self, Write};
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use zip::write::{SimpleFileOptions, StreamWriter};
use zip::{CompressionMethod, DateTime, ZipWriter};

/// What everybody may do with what is unpacked: the owner may change it.
const MODE: u32 = 0o644;

/// Bytes of a block of tar.
const BLOCK: u64 = 512;

/// Longest name that a header of tar has room for.
const TAR_NAME_BYTES_MAX: usize = 100;

/// From how many bytes on zip needs its larger numbers.
const ZIP64_FROM: u64 = u32::MAX as u64;

/// How files are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// What every desktop opens.
    Zip,
    /// What is unpacked while it comes.
    Tar,
}

impl FromStr for Format {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "zip" => Ok(Self::Zip),
            "tar" => Ok(Self::Tar),
            _ => Err(()),
        }
    }
}

impl Format {
    /// What names of archives end with.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Zip => "zip",
            Self::Tar => "tar",
        }
    }

    /// Bytes of an archive of files with these paths and sizes.
    pub(super) fn length<'a>(self, files: impl Iterator<Item = (&'a str, u64)>) -> u64 {
        match self {
            Self::Zip => zip_length(files),
            Self::Tar => {
                files.map(|(path, bytes)| tar_head(path, bytes, 0).len() as u64 + padded(bytes)).sum::<u64>()
                    + 2 * BLOCK
            }
        }
    }

    /// An archive that nothing is in yet.
    pub(super) fn begin(self) -> Archive {
        match self {
            Self::Zip => {
                let made = Made::default();
                Archive::Zip(Box::new(ZipWriter::new_stream(made.clone())), made)
            }
            Self::Tar => Archive::Tar(Vec::new()),
        }
    }
}

/// An archive that is being made.
pub(super) enum Archive {
    Zip(Box<ZipWriter<StreamWriter<Made>>>, Made),
    Tar(Vec<u8>),
}

/// What was made of an archive and not taken yet.
#[derive(Clone, Default)]
pub(super) struct Made(Arc<Mutex<Vec<u8>>>);

impl Write for Made {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Archive {
    /// Begins a file of so many bytes. They have to follow, and then its end.
    pub(super) fn begin_file(&mut self, path: &str, bytes: u64, stored_at: OffsetDateTime) -> io::Result<()> {
        match self {
            Self::Zip(zip, _) => {
                let options = SimpleFileOptions::default()
                    .compression_method(CompressionMethod::Stored)
                    .large_file(bytes >= ZIP64_FROM)
                    .unix_permissions(MODE)
                    .last_modified_time(dos_time(stored_at));
                zip.start_file(path, options)?;
            }
            Self::Tar(made) => {
                made.extend_from_slice(&tar_head(path, bytes, stored_at.unix_timestamp().unsigned_abs()))
            }
        }
        Ok(())
    }

    /// The next bytes of the file.
    pub(super) fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        match self {
            Self::Zip(zip, _) => zip.write_all(piece),
            Self::Tar(made) => {
                made.extend_from_slice(piece);
                Ok(())
            }
        }
    }

    /// Ends a file of so many bytes.
    pub(super) fn end_file(&mut self, bytes: u64) {
        if let Self::Tar(made) = self {
            made.extend(std::iter::repeat_n(0, (padded(bytes) - bytes) as usize));
        }
    }

    /// What was made since this was asked last.
    pub(super) fn take(&mut self) -> Bytes {
        match self {
            Self::Zip(_, made) => std::mem::take(&mut *made.0.lock()).into(),
            Self::Tar(made) => std::mem::take(made).into(),
        }
    }

    /// Ends the archive: what is left of it.
    pub(super) fn end(self) -> io::Result<Bytes> {
        match self {
            Self::Zip(zip, made) => {
                zip.finish()?;
                Ok(std::mem::take(&mut *made.0.lock()).into())
            }
            Self::Tar(mut made) => {
                made.extend_from_slice(&[0; 2 * BLOCK as usize]);
                Ok(made.into())
            }
        }
    }
}

/// As zip knows times: of no zone, from 1980 on, every other second.
fn dos_time(at: OffsetDateTime) -> DateTime {
    let year = u16::try_from(at.year()).unwrap_or_default();
    DateTime::from_date_and_time(year, at.month().into(), at.day(), at.hour(), at.minute(), at.second())
        .unwrap_or_default()
}

/// Before each file its name, after it its sums, which are not known before; at the end all names again.
fn zip_length<'a>(files: impl Iterator<Item = (&'a str, u64)>) -> u64 {
    const LOCAL: u64 = 30;
    const SUMS: u64 = 16;
    const CENTRAL: u64 = 46;
    const END: u64 = 22;
    const END_64: u64 = 56 + 20;
    const EXTRA: u64 = 4;
    let (mut offset, mut central, mut count) = (0, 0, 0);
    for (path, bytes) in files {
        let name = path.len() as u64;
        let (is_large, is_far) = (bytes >= ZIP64_FROM, offset >= ZIP64_FROM);
        let sizes = u64::from(is_large) * 16;
        let extra = sizes + u64::from(is_far) * 8;
        central += CENTRAL + name + extra + u64::from(extra > 0) * EXTRA;
        offset += LOCAL + name + sizes + u64::from(is_large) * EXTRA + bytes + SUMS + sizes / 2;
        count += 1;
    }
    let is_large = count > u64::from(u16::MAX) || central.max(offset) > ZIP64_FROM;
    offset + central + END + u64::from(is_large) * END_64
}

/// What stands before a file. A path that a header of old has no room for, or that is not plain ASCII, stands in one of its own before.
fn tar_head(path: &str, bytes: u64, modified: u64) -> Vec<u8> {
    let mut head = Vec::new();
    if path.len() > TAR_NAME_BYTES_MAX || !path.is_ascii() {
        let mut builder = tar::Builder::new(Vec::new());
        // Into memory, where nothing fails.
        builder.append_pax_extensions([("path", path.as_bytes())]).expect("memory takes it");
        head.extend_from_slice(builder.get_ref());
    }
    let mut header = tar::Header::new_ustar();
    let short: String = path.rsplit('/').next().unwrap_or(path).chars().filter(char::is_ascii).collect();
    let name = if head.is_empty() { path } else { &short[..short.len().min(TAR_NAME_BYTES_MAX)] };
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(bytes);
    header.set_mode(MODE);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(modified);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    head.extend_from_slice(header.as_bytes());
    head
}

/// Bytes of whole blocks.
fn padded(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK) * BLOCK
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read};

    use proptest::prelude::*;

    use super::*;

    const MOMENT: OffsetDateTime = time::macros::datetime!(2026-07-01 12:34:56 UTC);

    /// An archive of files that have the same byte all over, and what is taken of it at a time.
    fn archive(format: Format, files: &[(String, u64)], mut take: impl FnMut(Bytes)) {
        let mut archive = format.begin();
        let piece = vec![7; 1 << 20];
        for (path, bytes) in files {
            archive.begin_file(path, *bytes, MOMENT).expect("memory");
            let mut left = *bytes;
            while left > 0 {
                let size = left.min(piece.len() as u64);
                archive.write(&piece[..size as usize]).expect("memory");
                take(archive.take());
                left -= size;
            }
            archive.end_file(*bytes);
        }
        take(archive.end().expect("memory"));
    }

    fn whole(format: Format, files: &[(String, u64)]) -> Vec<u8> {
        let mut all = Vec::new();
        archive(format, files, |piece| all.extend_from_slice(&piece));
        all
    }

    fn length(format: Format, files: &[(String, u64)]) -> u64 {
        format.length(files.iter().map(|(path, bytes)| (&path[..], *bytes)))
    }

    fn files() -> impl Strategy<Value = Vec<(String, u64)>> {
        let one = (prop_oneof!["[a-z]{1,8}(/[a-z]{1,8}){0,2}", "[é-ü]{1,60}", "[a-z]{90,110}"], 0..3000_u64);
        prop::collection::vec(one, 0..12).prop_map(|files| {
            files.into_iter().enumerate().map(|(at, (path, bytes))| (format!("{at}{path}"), bytes)).collect()
        })
    }

    proptest! {
        #[test]
        fn zip_is_as_long_as_was_said_and_read_back(files in files()) {
            let bytes = whole(Format::Zip, &files);
            prop_assert_eq!(bytes.len() as u64, length(Format::Zip, &files));
            let mut read = zip::ZipArchive::new(Cursor::new(bytes)).expect("an archive");
            prop_assert_eq!(read.len(), files.len());
            for (at, (path, size)) in files.iter().enumerate() {
                let mut file = read.by_index(at).expect("a file");
                prop_assert_eq!(file.size(), *size);
                prop_assert_eq!(file.name().expect("a name"), &path[..]);
                let mut content = Vec::new();
                file.read_to_end(&mut content).expect("its sum is right");
                prop_assert!(content.len() as u64 == *size && content.iter().all(|byte| *byte == 7));
            }
        }

        #[test]
        fn tar_is_as_long_as_was_said_and_read_back(files in files()) {
            let bytes = whole(Format::Tar, &files);
            prop_assert_eq!(bytes.len() as u64, length(Format::Tar, &files));
            let mut read = tar::Archive::new(&bytes[..]);
            let mut expected = files.iter();
            for entry in read.entries().expect("an archive") {
                let mut entry = entry.expect("a file");
                let (path, size) = expected.next().expect("no more than were put in");
                prop_assert_eq!(&entry.path_bytes()[..], path.as_bytes());
                prop_assert_eq!(entry.header().mtime().expect("a time"), MOMENT.unix_timestamp().unsigned_abs());
                let mut content = Vec::new();
                entry.read_to_end(&mut content).expect("memory");
                prop_assert!(content.len() as u64 == *size && content.iter().all(|byte| *byte == 7));
            }
            prop_assert!(expected.next().is_none());
        }
    }

    /// Each of the larger numbers of zip: a size, a place, a count.
    #[test]
    fn large_archives_are_as_long_as_was_said() {
        let named = |name: &str, bytes| (name.to_owned(), bytes);
        let many: Vec<_> = (0..=u32::from(u16::MAX)).map(|n| named(&n.to_string(), 0)).collect();
        for files in [
            vec![named("large", ZIP64_FROM), named("far", 1)],
            vec![named("one", ZIP64_FROM / 2), named("two", ZIP64_FROM / 2 - 80), named("at the limit", 3)],
            many,
        ] {
            let mut sent = 0;
            archive(Format::Zip, &files, |piece| sent += piece.len() as u64);
            assert_eq!(sent, length(Format::Zip, &files), "{:?}", &files[..2]);
        }
    }

    #[test]
    fn a_size_that_tar_has_no_digits_for_is_written_otherwise() {
        let bytes = 50_000_000_000;
        let head = tar_head("film.mp4", bytes, 0);
        assert_eq!(head.len() as u64, BLOCK);
        assert_eq!(tar::Header::from_byte_slice(&head).entry_size().expect("a size"), bytes);
    }
}
