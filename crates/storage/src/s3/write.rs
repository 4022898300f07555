//! Writing objects whose bytes are at hand, and deleting them.
//!
//! Must not stream: a body in memory is signed as a whole and can be sent again. Streams go through `multipart`.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;

use super::error::failed;
use super::{S3Store, config};
use crate::{ObjectPath, PutOptions, StorageError, Stored};

/// The slowest upload that counts as progress.
const UPLOAD_BYTES_PER_SECOND_MIN: u64 = 64 * 1024;

impl S3Store {
    pub(crate) async fn put(
        &self,
        path: &ObjectPath,
        body: Bytes,
        options: PutOptions,
    ) -> Result<Stored, StorageError> {
        let size = body.len() as u64;
        let limit = self.upload_timeout(size);
        let answer = self
            .bucket
            .client
            .put_object()
            .bucket(&self.bucket.name)
            .key(self.key(path)?)
            .set_content_type(options.content_type)
            .set_cache_control(options.cache_control)
            .body(ByteStream::from(body))
            .customize()
            .config_override(self.with_attempt_timeout(limit))
            .send()
            .await
            .map_err(|error| failed(error, limit))?;
        Ok(Stored { size, etag: answer.e_tag })
    }

    pub(crate) async fn delete(&self, path: &ObjectPath) -> Result<(), StorageError> {
        let request = self.bucket.client.delete_object().bucket(&self.bucket.name).key(self.key(path)?);
        match request.send().await.map_err(|error| failed(error, self.read_timeout())) {
            // S3 answers 204 also for what is not there; some servers do not.
            Ok(_) | Err(StorageError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// How long an attempt that sends `bytes` may take until the head of the answer.
    pub(super) fn upload_timeout(&self, bytes: u64) -> Duration {
        self.read_timeout() + Duration::from_secs(bytes / UPLOAD_BYTES_PER_SECOND_MIN)
    }

    pub(super) fn with_attempt_timeout(&self, limit: Duration) -> aws_sdk_s3::config::Builder {
        aws_sdk_s3::Config::builder().timeout_config(config::timeouts(&self.bucket.limits, limit))
    }
}
