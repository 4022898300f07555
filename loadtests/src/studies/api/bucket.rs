//! A bucket for uploads, in a folder of its own.

use std::path::PathBuf;

use devstack::s3::{S3Keys, S3Server};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const NAME: &str = "uploads";

/// A bucket, on an S3 server with threads of its own: clients are on those of the study.
pub struct Bucket {
    server: S3Server,
    keys: S3Keys,
    runtime: Runtime,
    folder: TempDir,
}

impl Bucket {
    /// An empty one.
    ///
    /// # Errors
    /// When the server does not start.
    pub async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("calotype-s3-").tempdir()?;
        let keys = S3Keys { access_key: "study".into(), secret_key: "a secret of this study".into() };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (path, served) = (folder.path().to_owned(), keys.clone());
        let server = runtime.spawn(async move { S3Server::start(&path, &[NAME], served, 0).await }).await??;
        Ok(Self { server, keys, runtime, folder })
    }

    /// What a control plane is told of it.
    pub fn settings(&self) -> [(&'static str, String); 4] {
        [
            ("UPLOADS__BUCKET", NAME.to_owned()),
            ("UPLOADS__ENDPOINT", self.server.endpoint()),
            ("UPLOADS__ACCESS_KEY_ID", self.keys.access_key.clone()),
            ("UPLOADS__SECRET_ACCESS_KEY", self.keys.secret_key.clone()),
        ]
    }

    /// Where its objects are.
    pub fn objects(&self) -> PathBuf {
        self.folder.path().join(NAME)
    }

    /// Stops it, without waiting for anybody.
    pub fn stop(self) {
        drop(self.server);
        self.runtime.shutdown_background();
    }
}
