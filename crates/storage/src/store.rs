//! The facade: one type for both kinds of store.
//!
//! Must not add behaviour of its own: each method hands over to the kind in use. An enum, not a trait object: there
//! are two kinds, and callers keep plain futures.

use bytes::Bytes;
use futures_util::Stream;

use crate::{
    BoxError, FolderStore, GetOptions, ListCursor, ListLimit, ListPage, Object, ObjectMeta, ObjectPath, ObjectPrefix,
    PresignExpiry, PresignMethod, PresignedUrl, PutOptions, S3Store, StorageError, Stored,
};

/// A place for objects. Cheap to clone; clones share connections and limits.
#[derive(Debug, Clone)]
pub enum ObjectStore {
    /// Files under a folder.
    Folder(FolderStore),
    /// Objects in a bucket that speaks the S3 protocol.
    S3(S3Store),
}

impl From<FolderStore> for ObjectStore {
    fn from(store: FolderStore) -> Self {
        Self::Folder(store)
    }
}

impl From<S3Store> for ObjectStore {
    fn from(store: S3Store) -> Self {
        Self::S3(store)
    }
}

impl ObjectStore {
    /// Opens an object for reading. When this returns, the metadata is there and the body waits to be read.
    ///
    /// # Errors
    /// Those of [`StorageError`] that concern reading; [`StorageError::RangeNotSatisfiable`] and
    /// [`StorageError::NotModified`] only if `options` asks for them. If both would apply, `NotModified` wins.
    pub async fn get(&self, path: &ObjectPath, options: GetOptions) -> Result<Object, StorageError> {
        match self {
            Self::Folder(store) => store.get(path, options).await,
            Self::S3(store) => store.get(path, options).await,
        }
    }

    /// What is known of an object, without its bytes.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] and the errors of reading. On S3 a missing bucket looks like a missing object here:
    /// answers to `HEAD` have no body that could tell.
    pub async fn head(&self, path: &ObjectPath) -> Result<ObjectMeta, StorageError> {
        match self {
            Self::Folder(store) => store.head(path).await,
            Self::S3(store) => store.head(path).await,
        }
    }

    /// Stores `body` under `path`, replacing what is there in one step: readers see the old object or the new one.
    ///
    /// # Errors
    /// [`StorageError::Rejected`] if the store cannot hold an object of this name, and the errors of writing.
    pub async fn put(&self, path: &ObjectPath, body: Bytes, options: PutOptions) -> Result<Stored, StorageError> {
        match self {
            Self::Folder(store) => store.put(path, body).await,
            Self::S3(store) => store.put(path, body, options).await,
        }
    }

    /// Stores a stream of unknown length, at most `limit_bytes`, as [`ObjectStore::put`] does: all of it or nothing.
    ///
    /// # Errors
    /// [`StorageError::TooLarge`] over the limit or that of S3 (see [`PartSize`](crate::PartSize)),
    /// [`StorageError::Input`] if the stream fails, and those of `put`. What was uploaded until then is discarded.
    pub async fn put_stream<S, E>(
        &self,
        path: &ObjectPath,
        body: S,
        limit_bytes: u64,
        options: PutOptions,
    ) -> Result<Stored, StorageError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: Into<BoxError>,
    {
        match self {
            Self::Folder(store) => store.put_stream(path, body, limit_bytes).await,
            Self::S3(store) => store.put_stream(path, body, limit_bytes, options).await,
        }
    }

    /// Stores what is under `from` under `to` as well, without its bytes coming here: an object of its own, which nothing that
    /// becomes of the other one changes. Gives its size. As with [`ObjectStore::put`], it is there as a whole or not at all.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] if there is no such object, [`StorageError::Changed`] if it is replaced meanwhile, and those of `put`.
    pub async fn copy(&self, from: &ObjectPath, to: &ObjectPath) -> Result<Stored, StorageError> {
        match self {
            Self::Folder(store) => store.copy(from, to).await,
            Self::S3(store) => store.copy(from, to).await,
        }
    }

    /// Removes an object. Removing what is not there succeeds.
    ///
    /// # Errors
    /// The errors of writing.
    pub async fn delete(&self, path: &ObjectPath) -> Result<(), StorageError> {
        match self {
            Self::Folder(store) => store.delete(path).await,
            Self::S3(store) => store.delete(path).await,
        }
    }

    /// One page of the objects whose names start with `prefix`, in the order of their UTF-8 bytes.
    ///
    /// # Errors
    /// The errors of reading.
    pub async fn list(
        &self,
        prefix: &ObjectPrefix,
        after: Option<&ListCursor>,
        limit: ListLimit,
    ) -> Result<ListPage, StorageError> {
        match self {
            Self::Folder(store) => store.list(prefix, after, limit).await,
            Self::S3(store) => store.list(prefix, after, limit).await,
        }
    }

    /// A URL that lets its holder do one thing with one object until it expires. Nothing is sent to the store.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] for a folder.
    pub async fn presign(
        &self,
        method: PresignMethod,
        path: &ObjectPath,
        expires_in: PresignExpiry,
    ) -> Result<PresignedUrl, StorageError> {
        match self {
            Self::Folder(_) => Err(StorageError::Unsupported { what: "sign URLs" }),
            Self::S3(store) => store.presign(method, path, expires_in).await,
        }
    }
}
