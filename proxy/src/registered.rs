//! Registered images: what overlays and fallbacks are made of, fetched once and kept for a while.
//!
//! They are few, small and wanted by many fills, so they are held in memory beside the cache of renditions. Must not hold
//! more than its budget, and must not let a hundred fills fetch the same image at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache::{Bans, UnixMillis};
use parking_lot::Mutex;
use storage::Validators;
use tenancy::TenantId;
use traces::Kind;

use crate::marks::{tag_marks, tenant_mark};
use crate::origins::OpenOrigin;
use crate::problem::EdgeError;
use crate::source::{Ask, Source, SourceError, SourceMeta, SourcePath};

/// Bytes of registered images held in memory.
const BUDGET_BYTES: usize = 64 * 1024 * 1024;

/// Largest registered image: it is laid over pictures, or shown in their place, and needs no more.
const IMAGE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Fetches that may run at the same time; two images that share a place wait for each other.
const PLACES: usize = 64;

/// A registered image that an op names, and where it is.
pub struct Registered {
    /// The name in the URL.
    pub name: String,
    /// Its tenant.
    pub tenant: TenantId,
    /// Its own mark.
    pub source: u64,
    /// Where it is.
    pub origin: Arc<OpenOrigin>,
    /// The path in that origin.
    pub path: SourcePath,
}

/// The bytes of a registered image.
#[derive(Debug, Clone)]
pub struct RegisteredBytes {
    /// The image as stored.
    pub bytes: Bytes,
    /// Names its content in 64 bits: what is made with it is made anew when this changes.
    pub version: u64,
    /// The number of the newest ban when it was asked for.
    pub begun: u64,
    /// When it was asked for.
    pub asked: UnixMillis,
    /// The marks of its tags: those of its origin, and those that its server gives it.
    pub tags: Arc<[u64]>,
}

/// The registered images in memory.
pub struct RegisteredImages {
    bans: Arc<Bans>,
    kept: Mutex<HashMap<u64, Kept>>,
    places: Vec<tokio::sync::Mutex<()>>,
}

/// When an image was asked for: by the number of the newest ban, and by the clock.
#[derive(Clone, Copy)]
struct Asked {
    begun: u64,
    at: UnixMillis,
}

struct Kept {
    image: RegisteredBytes,
    validators: Validators,
    checked: Instant,
    used: Instant,
}

impl RegisteredImages {
    /// None yet. What is purged is not held any longer.
    pub fn new(bans: Arc<Bans>) -> Self {
        let places = std::iter::repeat_with(Default::default).take(PLACES).collect();
        Self { bans, kept: Mutex::default(), places }
    }

    /// The image, asked about at its origin at most every `max_age`. If the origin fails, the image that is held goes on
    /// being used.
    ///
    /// # Errors
    /// [`EdgeError::RegisteredImage`].
    pub async fn get(&self, wanted: &Registered, max_age: Duration) -> Result<RegisteredBytes, EdgeError> {
        self.drop_purged(wanted);
        if let Some(image) = self.fresh(wanted.source, max_age) {
            return Ok(image);
        }
        // The remainder is below PLACES, which fits every usize.
        let _place = self.places[(wanted.source % PLACES as u64) as usize].lock().await;
        if let Some(image) = self.fresh(wanted.source, max_age) {
            return Ok(image);
        }
        let asked = Asked { begun: self.bans.latest(), at: UnixMillis::now() };
        let failed = |error| EdgeError::RegisteredImage { name: wanted.name.clone(), error: Arc::new(error) };
        let store = wanted.origin.store.as_ref().map_err(|reason| EdgeError::BrokenOrigin(reason.clone()))?;
        let span = traces::child("fetch", Kind::Internal);
        match span.over(fetch(store, &wanted.path, self.validators(wanted.source))).await {
            Ok((bytes, meta)) => Ok(self.keep(wanted, bytes, &meta, asked)),
            Err(error) if error.is_not_found() => {
                self.kept.lock().remove(&wanted.source);
                Err(failed(error))
            }
            Err(error) if error.not_modified().is_some() => {
                self.renew(wanted.source, Some(asked)).ok_or_else(|| failed(error))
            }
            Err(error) => self.renew(wanted.source, None).ok_or_else(|| failed(error)),
        }
    }

    fn fresh(&self, source: u64, max_age: Duration) -> Option<RegisteredBytes> {
        let mut kept = self.kept.lock();
        let found = kept.get_mut(&source).filter(|kept| kept.checked.elapsed() < max_age)?;
        found.used = Instant::now();
        Some(found.image.clone())
    }

    fn validators(&self, source: u64) -> Option<Validators> {
        Some(self.kept.lock().get(&source)?.validators.clone())
    }

    /// Forgets the image if it was purged since it was asked for.
    fn drop_purged(&self, wanted: &Registered) {
        let tenant = tenant_mark(&wanted.tenant);
        let mut kept = self.kept.lock();
        let is_purged =
            |held: &Kept| self.bans.is_original_banned(tenant, wanted.source, &held.image.tags, held.image.begun);
        if kept.get(&wanted.source).is_some_and(is_purged) {
            kept.remove(&wanted.source);
        }
    }

    /// The image that is held counts as checked now: it did not change since it was `asked` for, or its origin cannot tell.
    fn renew(&self, source: u64, asked: Option<Asked>) -> Option<RegisteredBytes> {
        let mut kept = self.kept.lock();
        let found = kept.get_mut(&source)?;
        if let Some(asked) = asked {
            (found.image.begun, found.image.asked) = (asked.begun, asked.at);
        }
        found.checked = Instant::now();
        found.used = found.checked;
        Some(found.image.clone())
    }

    fn keep(&self, wanted: &Registered, bytes: Bytes, meta: &SourceMeta, asked: Asked) -> RegisteredBytes {
        let mut first = [0; 8];
        first.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..8]);
        let tags = tag_marks(&wanted.tenant, &wanted.origin, meta.tags.as_ref()).into();
        let (version, Asked { begun, at }) = (u64::from_le_bytes(first), asked);
        let image = RegisteredBytes { bytes, version, begun, asked: at, tags };
        let (validators, now) = (meta.validators(), Instant::now());
        let mut kept = self.kept.lock();
        kept.insert(wanted.source, Kept { image: image.clone(), validators, checked: now, used: now });
        let mut held: usize = kept.values().map(|kept| kept.image.bytes.len()).sum();
        while held > BUDGET_BYTES {
            let Some((&oldest, _)) = kept.iter().min_by_key(|(_, kept)| kept.used) else { break };
            held -= kept.remove(&oldest).map_or(0, |kept| kept.image.bytes.len());
        }
        image
    }
}

async fn fetch(
    store: &Source,
    path: &SourcePath,
    if_changed: Option<Validators>,
) -> Result<(Bytes, SourceMeta), SourceError> {
    let object = store.get(path, &Ask { if_changed, ..Ask::new(IMAGE_BYTES_MAX) }).await?;
    if object.meta.size.is_some_and(|size| size > IMAGE_BYTES_MAX) {
        return Err(SourceError::too_large(IMAGE_BYTES_MAX));
    }
    Ok((object.body.collect(IMAGE_BYTES_MAX).await?, object.meta))
}
