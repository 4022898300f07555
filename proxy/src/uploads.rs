//! Uploads as a source: what a public id means is read from its pointer, and the bytes from the object that it leads to.
//!
//! Pointers are kept for a moment, and taken back by the bans that the feed brings: after a change of what an id means, the next
//! fill reads its pointer again. The entity tag of an upload is made of its hash, so that whether it changed is known without its
//! bytes. Must not know the control plane: the store is all that it takes to serve.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cache::Bans;
use fetch::{CacheTags, Freshness};
use lru::LruCache;
use parking_lot::Mutex;
use storage::{GetOptions, ObjectBody, ObjectStore, ServedRange, StorageError};
use tenancy::TenantId;
use uploads::{POINTER_BYTES_MAX, Pointer, PublicId, Target};

use crate::marks::{tenant_mark, upload_mark};
use crate::source::{Ask, NotModified, SourceError, SourceMeta};

/// Pointers that are kept.
const POINTERS_MAX: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");

/// How long a pointer is used without being read again. Changes are told by the feed; this is for when the feed is away.
const POINTER_FRESH: Duration = Duration::from_secs(30);

/// Digits of the hash in an entity tag.
const ETAG_DIGITS: usize = 32;

/// The uploads of all tenants.
pub struct UploadStore {
    store: ObjectStore,
    bans: Arc<Bans>,
    pointers: Mutex<LruCache<u64, Kept>>,
}

struct Kept {
    pointer: Arc<Pointer>,
    /// The number of the newest ban when it was asked for.
    begun: u64,
    read: Instant,
}

impl UploadStore {
    /// Uploads in this store. What `bans` cover is read again.
    pub fn new(store: ObjectStore, bans: Arc<Bans>) -> Arc<Self> {
        Arc::new(Self { store, bans, pointers: Mutex::new(LruCache::new(POINTERS_MAX)) })
    }
}

/// The uploads of one tenant. Cheap to clone.
#[derive(Clone)]
pub struct TenantUploads {
    all: Arc<UploadStore>,
    tenant: TenantId,
}

impl std::fmt::Debug for TenantUploads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TenantUploads({})", self.tenant)
    }
}

impl TenantUploads {
    /// Those of this tenant.
    pub fn new(all: &Arc<UploadStore>, tenant: &TenantId) -> Self {
        Self { all: Arc::clone(all), tenant: tenant.clone() }
    }

    /// False where the objects are in a folder of this machine.
    pub fn is_remote(&self) -> bool {
        !matches!(self.all.store, ObjectStore::Folder(_))
    }

    /// What is known of an upload, without its bytes.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the id means nothing, and the errors of reading.
    pub async fn head(&self, public_id: &str) -> Result<SourceMeta, StorageError> {
        Ok(meta(&self.target(public_id).await?))
    }

    /// Opens an upload for reading.
    ///
    /// # Errors
    /// Those of [`Self::head`], and what `ask` asks for.
    pub async fn get(
        &self,
        public_id: &str,
        ask: &Ask,
    ) -> Result<(SourceMeta, Option<ServedRange>, ObjectBody), SourceError> {
        let target = self.target(public_id).await?;
        let meta = meta(&target);
        if ask.if_changed.as_ref().is_some_and(|known| known.etag == meta.etag) {
            return Err(SourceError::Unchanged(NotModified { freshness: meta.freshness, tags: meta.tags }));
        }
        let path = target.path(self.tenant.as_str()).ok_or(StorageError::NotFound)?;
        let object = self.all.store.get(&path, GetOptions { range: ask.range, if_changed: None }).await?;
        Ok((meta, object.range, object.body))
    }

    async fn target(&self, public_id: &str) -> Result<Target, StorageError> {
        let public_id = PublicId::new(public_id).map_err(|_| StorageError::NotFound)?;
        match &*self.pointer(&public_id).await? {
            Pointer::Here(target) if target.expires_at.is_none_or(|end| unix_seconds() < end) => Ok(target.clone()),
            Pointer::Here(_) | Pointer::Gone => Err(StorageError::NotFound),
        }
    }

    /// The pointer of an id. One that is too old, but not banned, is better than none when the store fails.
    async fn pointer(&self, public_id: &PublicId) -> Result<Arc<Pointer>, StorageError> {
        let mark = upload_mark(&self.tenant, public_id.as_str());
        let old = match self.kept(mark) {
            Some((pointer, read)) if read.elapsed() < POINTER_FRESH => return Ok(pointer),
            old => old,
        };
        let begun = self.all.bans.latest();
        match self.read(public_id).await {
            Ok(pointer) => {
                let pointer = Arc::new(pointer);
                let kept = Kept { pointer: Arc::clone(&pointer), begun, read: Instant::now() };
                self.all.pointers.lock().put(mark, kept);
                Ok(pointer)
            }
            Err(StorageError::NotFound) => {
                self.all.pointers.lock().pop(&mark);
                Err(StorageError::NotFound)
            }
            Err(error) => old.map(|(pointer, _)| pointer).ok_or(error),
        }
    }

    /// What is kept of an id, unless it was banned since it was asked for.
    fn kept(&self, mark: u64) -> Option<(Arc<Pointer>, Instant)> {
        let mut pointers = self.all.pointers.lock();
        let kept = pointers.get(&mark)?;
        if self.all.bans.is_original_banned(tenant_mark(&self.tenant), mark, &[], kept.begun) {
            pointers.pop(&mark);
            return None;
        }
        Some((Arc::clone(&kept.pointer), kept.read))
    }

    async fn read(&self, public_id: &PublicId) -> Result<Pointer, StorageError> {
        let path = uploads::pointer_path(self.tenant.as_str(), public_id);
        let object = self.all.store.get(&path, GetOptions::default()).await?;
        let bytes = object.body.collect(POINTER_BYTES_MAX as u64).await?;
        Pointer::from_bytes(self.tenant.as_str(), &bytes).map_err(|error| {
            tracing::error!(tenant = %self.tenant, %public_id, %error, "a pointer is damaged");
            StorageError::NotFound
        })
    }
}

fn meta(target: &Target) -> SourceMeta {
    let max_age = target.expires_at.map(|end| Duration::from_secs(end.saturating_sub(unix_seconds())));
    SourceMeta {
        size: Some(target.bytes),
        content_type: Some(target.content_type.clone()),
        etag: Some(format!("\"{}\"", target.sha256.get(..ETAG_DIGITS).unwrap_or(&target.sha256))),
        last_modified: UNIX_EPOCH.checked_add(Duration::from_secs(target.stored_at)),
        // What ends is not served a moment longer, stale or not.
        freshness: Freshness { may_store: true, max_age, may_serve_stale: target.expires_at.is_none() },
        tags: Some(CacheTags { names: target.tags.clone(), has_others: false }),
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
