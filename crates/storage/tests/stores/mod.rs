//! Stores to test against, each in a private place that goes away with it.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use devstack::s3::{S3Keys, S3Server};
use storage::{
    FolderStore, GetOptions, Object, ObjectPath, ObjectStore, PutOptions, S3Config, S3Credentials, S3Store, Secret,
    StorageError,
};
use tempfile::TempDir;

pub(crate) const BUCKET: &str = "pictures";
pub(crate) const ACCESS_KEY: &str = "AKTEST";
pub(crate) const SECRET_KEY: &str = "a-secret-that-no-log-shows";

/// A store and what it stands on.
pub(crate) struct Place {
    pub(crate) store: ObjectStore,
    pub(crate) dir: TempDir,
    pub(crate) server: Option<S3Server>,
}

impl Place {
    /// Where the server, or the folder store, keeps its files.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn server_address(&self) -> SocketAddr {
        self.server.as_ref().unwrap().address()
    }

    /// Files of unfinished writes that either kind of store has left anywhere.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        let unfinished = std::fs::read_dir(self.path().join(".calotype-unfinished"));
        let of_server = std::fs::read_dir(self.path()).unwrap();
        let is_part = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(".upload") || name.starts_with(".tmp")
        };
        let unfinished = unfinished.into_iter().flatten().map(|entry| entry.unwrap().path());
        unfinished.chain(of_server.map(|entry| entry.unwrap().path()).filter(is_part)).collect()
    }

    /// Waits until something that another task does has left so many files of unfinished writes.
    pub(crate) async fn wait_for_leftovers(&self, count: usize) {
        let arrived = async {
            while self.leftovers().len() != count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), arrived).await;
        waited.unwrap_or_else(|_| panic!("not {count} leftovers but {:?}", self.leftovers()));
    }
}

pub(crate) async fn folder() -> Place {
    let dir = TempDir::new().unwrap();
    Place { store: FolderStore::open(dir.path()).unwrap().into(), dir, server: None }
}

pub(crate) async fn s3() -> Place {
    let (dir, server) = server().await;
    let store = S3Store::new(config(&server.endpoint())).unwrap();
    Place { store: store.into(), dir, server: Some(server) }
}

pub(crate) async fn s3_under_prefix() -> Place {
    let (dir, server) = server().await;
    let config = S3Config { prefix: Some(path("tenants/ä b")), ..config(&server.endpoint()) };
    let place = Place { store: S3Store::new(config).unwrap().into(), dir, server: Some(server) };
    // What lies beside the prefix must never show.
    for beside in ["tenants/ä b-too", "tenants/z", "a"] {
        std::fs::create_dir_all(place.path().join(BUCKET).join("tenants")).unwrap();
        std::fs::write(place.path().join(BUCKET).join(beside), "beside").unwrap();
    }
    place
}

pub(crate) async fn server() -> (TempDir, S3Server) {
    let dir = TempDir::new().unwrap();
    let keys = S3Keys { access_key: ACCESS_KEY.to_owned(), secret_key: SECRET_KEY.to_owned() };
    let server = S3Server::start(dir.path(), &[BUCKET], keys, 0).await.unwrap();
    (dir, server)
}

pub(crate) fn config(endpoint: &str) -> S3Config {
    S3Config {
        endpoint: Some(endpoint.to_owned()),
        ..S3Config::new(BUCKET, S3Credentials::new(ACCESS_KEY, Secret::new(SECRET_KEY)))
    }
}

pub(crate) fn path(text: &str) -> ObjectPath {
    text.parse().unwrap()
}

/// Bytes in which every part differs from every other.
pub(crate) fn noise(len: usize) -> Bytes {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}

pub(crate) async fn put(store: &ObjectStore, name: &str, body: impl Into<Bytes>) {
    store.put(&path(name), body.into(), PutOptions::default()).await.unwrap();
}

pub(crate) async fn get(store: &ObjectStore, name: &str) -> Result<Object, StorageError> {
    store.get(&path(name), GetOptions::default()).await
}

pub(crate) async fn read(store: &ObjectStore, name: &str) -> Bytes {
    get(store, name).await.unwrap().body.collect(u64::MAX).await.unwrap()
}
