//! Objects in a bucket that speaks the S3 protocol: AWS, MinIO, Ceph, Garage, R2 and the like.
//!
//! Must not let types of the AWS SDK out: callers see this crate's. Must not hang: connecting, answering and every
//! pause within a body have limits, attempts are counted, and refusals (4xx) are not retried.

mod config;
mod copy;
mod error;
mod list;
mod multipart;
mod parts;
mod presign;
mod read;
mod write;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;

pub use config::{PartSize, S3Config, S3ConfigError, S3Credentials, S3Limits, Secret};
pub use parts::StoredPart;
pub use presign::{PresignExpiry, PresignMethod, PresignedUrl};
pub(crate) use read::RemoteBody;

use crate::{ObjectPath, PATH_BYTES_MAX, PathError, StorageError};

/// A bucket, or the part of one under a prefix, as an object store. Clones share one pool of connections.
#[derive(Clone)]
pub struct S3Store {
    bucket: Arc<Bucket>,
}

struct Bucket {
    client: Client,
    name: String,
    /// Empty, or ends with a slash.
    prefix: String,
    limits: S3Limits,
}

impl S3Store {
    /// Makes a store from its configuration. Sends nothing: wrong credentials show at the first use.
    ///
    /// # Errors
    /// [`S3ConfigError`] names the setting that is wrong.
    pub fn new(config: S3Config) -> Result<Self, S3ConfigError> {
        let client = config::client(&config)?;
        let prefix = config.prefix.map(|prefix| format!("{prefix}/")).unwrap_or_default();
        let bucket = Bucket { client, name: config.bucket, prefix, limits: config.limits };
        Ok(Self { bucket: Arc::new(bucket) })
    }

    /// The key in the bucket of the object called `path` here.
    fn key(&self, path: &ObjectPath) -> Result<String, StorageError> {
        let key = format!("{}{path}", self.bucket.prefix);
        if key.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong { bytes: key.len() }.into());
        }
        Ok(key)
    }

    fn read_timeout(&self) -> Duration {
        self.bucket.limits.read_timeout
    }
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Store")
            .field("bucket", &self.bucket.name)
            .field("prefix", &self.bucket.prefix)
            .finish_non_exhaustive()
    }
}
