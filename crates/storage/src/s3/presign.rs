//! URLs that carry their own permission.
//!
//! Must not send anything: a URL is only computed. Must not show up in logs: whoever holds one may use it.

use std::fmt;
use std::time::Duration;

use aws_sdk_s3::presigning::PresigningConfig;

use super::S3Store;
use super::error::failed;
use super::parts::length;
use crate::{ObjectPath, StorageError};

/// What the holder of a URL may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresignMethod {
    /// Read the object.
    Get,
    /// Write the object, with any content type.
    Put,
    /// The same, with exactly so many bytes.
    PutExactly(u64),
}

/// How long a URL works: 1 s..=7 days (the limit of S3), in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PresignExpiry(u32);

impl PresignExpiry {
    /// The longest.
    pub const MAX: Self = Self(7 * 24 * 60 * 60);

    /// `None` outside 1 s..=7 days.
    #[must_use]
    pub fn from_secs(seconds: u32) -> Option<Self> {
        (1..=Self::MAX.0).contains(&seconds).then_some(Self(seconds))
    }

    /// The time as a duration.
    #[must_use]
    pub fn as_duration(self) -> Duration {
        Duration::from_secs(u64::from(self.0))
    }
}

/// A URL with a signature. `Debug` shows it without.
#[derive(Clone, PartialEq, Eq)]
pub struct PresignedUrl(String);

impl PresignedUrl {
    /// The whole URL, signature included.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for PresignedUrl {
    fn from(url: String) -> Self {
        Self(url)
    }
}

impl fmt::Debug for PresignedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}?[signature]", self.0.split('?').next().unwrap_or_default())
    }
}

pub(super) fn config(expires_in: PresignExpiry) -> Result<PresigningConfig, StorageError> {
    PresigningConfig::expires_in(expires_in.as_duration())
        .map_err(|error| StorageError::Rejected { source: error.into() })
}

impl S3Store {
    pub(crate) async fn presign(
        &self,
        method: PresignMethod,
        path: &ObjectPath,
        expires_in: PresignExpiry,
    ) -> Result<PresignedUrl, StorageError> {
        let config = config(expires_in)?;
        let (client, bucket, key) = (&self.bucket.client, &self.bucket.name, self.key(path)?);
        let limit = self.read_timeout();
        let request = match method {
            PresignMethod::Get => {
                client.get_object().bucket(bucket).key(key).presigned(config).await.map_err(|e| failed(e, limit))
            }
            PresignMethod::Put => {
                client.put_object().bucket(bucket).key(key).presigned(config).await.map_err(|e| failed(e, limit))
            }
            PresignMethod::PutExactly(bytes) => {
                let request = client.put_object().bucket(bucket).key(key).content_length(length(bytes)?);
                request.presigned(config).await.map_err(|e| failed(e, limit))
            }
        }?;
        Ok(request.uri().to_owned().into())
    }
}
