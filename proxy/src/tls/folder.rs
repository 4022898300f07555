//! The folder of certificates: which pairs there are, which changed, and what of them is in use.
//!
//! A pair is `NAME.pem` with `NAME.key`, or `NAME/fullchain.pem` with `NAME/privkey.pem` as certbot lays them out. Files
//! may be replaced in any order and in any way, so a pair that cannot be used leaves the one before in use: half of a
//! renewal is told and waited out. Must not know names or handshakes.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use thiserror::Error;

use super::certificate::{Certificate, CertificateFault};
use super::metrics::TlsMetrics;

/// Most pairs of a folder; further ones are told and ignored.
const PAIRS_MAX: usize = 4096;
/// Longest certificate or key file that is read.
const FILE_BYTES_MAX: u64 = 256 * 1024;
/// A pair that was not there so often in a row was taken away, and is not just being replaced.
const LOOKS_UNTIL_GONE: u32 = 3;

/// The pairs of a folder.
pub(super) struct CertificateFolder {
    dir: PathBuf,
    /// By the path of the certificate.
    pairs: BTreeMap<PathBuf, Pair>,
    /// Why the folder could not be looked through the last time.
    unreadable: Option<String>,
    is_too_full: bool,
}

/// Where the files of a pair are.
struct Place {
    title: String,
    certificate: PathBuf,
    key: PathBuf,
}

struct Pair {
    title: String,
    in_use: Option<Certificate>,
    /// The files as they were when they were last read.
    seen: Option<(Stamp, Stamp)>,
    /// Why they were not taken then.
    fault: Option<PairFault>,
    missed: u32,
}

#[derive(Debug, Error)]
enum PairFault {
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} has more than {FILE_BYTES_MAX} bytes", path.display())]
    TooLong { path: PathBuf },
    #[error(transparent)]
    Certificate(#[from] CertificateFault),
    #[error("the certificate is not valid yet")]
    NotYetValid,
    #[error("the certificate has expired")]
    Expired,
}

impl CertificateFolder {
    /// A folder that nothing was loaded from yet.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn open(dir: &Path) -> anyhow::Result<Self> {
        fs::read_dir(dir).with_context(|| format!("the folder of certificates {} cannot be read", dir.display()))?;
        Ok(Self { dir: dir.to_owned(), pairs: BTreeMap::new(), unreadable: None, is_too_full: false })
    }

    /// What is in use, by the pair's name.
    pub(super) fn in_use(&self) -> impl Iterator<Item = (&str, &Certificate)> {
        self.pairs.values().filter_map(|pair| Some((pair.title.as_str(), pair.in_use.as_ref()?)))
    }

    /// Looks for changes, at `now` in Unix seconds; whether anything else is in use afterwards.
    pub(super) fn look(&mut self, now: i64, metrics: &TlsMetrics) -> bool {
        let places = match places(&self.dir) {
            Ok(places) => places,
            Err(error) => {
                let error = error.to_string();
                if self.unreadable.as_ref() != Some(&error) {
                    tracing::error!(dir = %self.dir.display(), error, "the folder of certificates cannot be read; those in use stay");
                }
                self.unreadable = Some(error);
                return false;
            }
        };
        self.unreadable = None;
        let mut changed = false;
        for pair in self.pairs.values_mut() {
            pair.missed += 1;
        }
        let is_too_full = places.len() > PAIRS_MAX;
        if is_too_full && !self.is_too_full {
            tracing::error!(dir = %self.dir.display(), found = places.len(), taken = PAIRS_MAX, "too many certificates");
        }
        self.is_too_full = is_too_full;
        for place in places {
            if self.pairs.len() >= PAIRS_MAX && !self.pairs.contains_key(&place.certificate) {
                continue;
            }
            let pair = self.pairs.entry(place.certificate.clone()).or_insert_with(|| Pair::new(&place.title));
            pair.missed = 0;
            changed |= pair.look(&place, now, metrics);
        }
        self.pairs.retain(|path, pair| {
            let is_gone = pair.missed >= LOOKS_UNTIL_GONE;
            if is_gone && pair.in_use.is_some() {
                tracing::info!(certificate = %path.display(), "certificate taken out of use: its files are gone");
                changed = true;
            }
            !is_gone
        });
        changed
    }
}

impl Pair {
    fn new(title: &str) -> Self {
        Self { title: title.to_owned(), in_use: None, seen: None, fault: None, missed: 0 }
    }

    /// Reads the files if they changed; whether they are in use now.
    fn look(&mut self, place: &Place, now: i64, metrics: &TlsMetrics) -> bool {
        let stamps = Some((Stamp::of(&place.certificate), Stamp::of(&place.key)));
        let may_have_begun = matches!(self.fault, Some(PairFault::NotYetValid));
        if stamps == self.seen && !may_have_begun {
            return false;
        }
        let is_news = stamps != self.seen;
        self.seen = stamps;
        match load(place, now, self.in_use.is_some()) {
            Ok(certificate) => {
                told_in_use(place, &certificate, now);
                metrics.loaded.inc();
                self.in_use = Some(certificate);
                self.fault = None;
                true
            }
            Err(fault) => {
                if is_news {
                    let kept = if self.in_use.is_some() { "the last one stays in use" } else { "it is left out" };
                    tracing::error!(certificate = %place.certificate.display(), key = %place.key.display(), reason = %fault, "certificate not loaded; {kept}");
                    metrics.refused.inc();
                }
                self.fault = Some(fault);
                false
            }
        }
    }
}

fn load(place: &Place, now: i64, replaces: bool) -> Result<Certificate, PairFault> {
    let chain = read(&place.certificate)?;
    let certificate = Certificate::parse(&chain, &read(&place.key)?)?;
    if now < certificate.not_before {
        return Err(PairFault::NotYetValid);
    }
    // Where there is nothing else, clients are better told that it has expired than refused without a word.
    if certificate.not_after < now && replaces {
        return Err(PairFault::Expired);
    }
    Ok(certificate)
}

fn told_in_use(place: &Place, certificate: &Certificate, now: i64) {
    let (path, names) = (place.certificate.display(), certificate.names.join(" "));
    tracing::info!(certificate = %path, names, not_after = certificate.not_after, "certificate loaded");
    if certificate.not_after < now {
        tracing::error!(certificate = %path, names, "the certificate has expired");
    }
    if fs::metadata(&place.key).is_ok_and(|metadata| metadata.mode() & 0o007 != 0) {
        tracing::warn!(key = %place.key.display(), "the private key may be read or replaced by every user of this machine");
    }
}

/// What changes when a file does: also when only its rights do.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp(Option<[i64; 6]>);

impl Stamp {
    fn of(file: &Path) -> Self {
        let of = |meta: Metadata| {
            let (inode, size) = (meta.ino().cast_signed(), meta.size().cast_signed());
            [inode, size, meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()]
        };
        Self(fs::metadata(file).ok().map(of))
    }
}

/// Every pair of which at least one file is there.
fn places(dir: &Path) -> io::Result<Vec<Place>> {
    let mut places = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let (Some(stem), Some(name)) = (path.file_stem(), path.file_name()) else { continue };
        if name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let place = if path.is_dir() {
            let (certificate, key) = (path.join("fullchain.pem"), path.join("privkey.pem"));
            if !certificate.exists() && !key.exists() {
                continue;
            }
            Place { title: name.to_string_lossy().into_owned(), certificate, key }
        } else if path.extension().is_some_and(|extension| extension == "pem" || extension == "key") {
            let (certificate, key) = (path.with_extension("pem"), path.with_extension("key"));
            Place { title: stem.to_string_lossy().into_owned(), certificate, key }
        } else {
            continue;
        };
        places.insert(place.certificate.clone(), place);
    }
    Ok(places.into_values().collect())
}

fn read(path: &Path) -> Result<Vec<u8>, PairFault> {
    let unreadable = |source| PairFault::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(PairFault::TooLong { path: path.to_owned() });
    }
    Ok(bytes)
}
