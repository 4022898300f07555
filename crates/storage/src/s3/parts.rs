//! Objects that others send in parts: S3's multipart upload, with a URL for each part.
//!
//! Must not hold or see the bytes: whoever has a URL sends its part to the store. Must not decide when an upload is given up: who
//! began it aborts it, or a lifecycle rule of the bucket (`AbortIncompleteMultipartUpload`) does.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};

use super::S3Store;
use super::error::failed;
use super::multipart::{self, unusable};
use super::presign::config;
use crate::{ObjectPath, PresignExpiry, PresignedUrl, PutOptions, StorageError, Stored};

/// A part of an upload, as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPart {
    /// Its place in the object: 1 to 10,000.
    pub number: u16,
    /// Size in bytes.
    pub size: u64,
    /// Entity tag as HTTP writes it, with quotes.
    pub etag: String,
}

impl S3Store {
    /// Begins an upload in parts; its id. The object is there once [`S3Store::complete_parts`] has put them together.
    ///
    /// # Errors
    /// The errors of writing.
    pub async fn begin_parts(&self, path: &ObjectPath) -> Result<String, StorageError> {
        multipart::begin(self, &self.key(path)?, PutOptions::default()).await
    }

    /// A URL that lets its holder send one part, of exactly so many bytes, until it expires. Nothing is sent to the store.
    ///
    /// # Errors
    /// [`StorageError::Rejected`] for what cannot be signed.
    pub async fn presign_part(
        &self,
        (path, upload): (&ObjectPath, &str),
        number: u16,
        bytes: u64,
        expires_in: PresignExpiry,
    ) -> Result<PresignedUrl, StorageError> {
        let request = self.bucket.client.upload_part().bucket(&self.bucket.name).key(self.key(path)?);
        let request = request.upload_id(upload).part_number(number.into()).content_length(length(bytes)?);
        let signed =
            request.presigned(config(expires_in)?).await.map_err(|error| failed(error, self.read_timeout()))?;
        Ok(signed.uri().to_owned().into())
    }

    /// The parts that have come, in their order.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when there is no such upload, or not any more, and the errors of reading.
    pub async fn list_parts(&self, path: &ObjectPath, upload: &str) -> Result<Vec<StoredPart>, StorageError> {
        let (mut parts, mut after) = (Vec::new(), None);
        loop {
            let request = self.bucket.client.list_parts().bucket(&self.bucket.name).key(self.key(path)?);
            let request = request.upload_id(upload).set_part_number_marker(after);
            let page = request.send().await.map_err(|error| self.of_upload(error))?;
            for part in page.parts.unwrap_or_default() {
                let number = part.part_number.and_then(|number| number.try_into().ok());
                let size = part.size.and_then(|size| size.try_into().ok());
                let (Some(number), Some(size), Some(etag)) = (number, size, part.e_tag) else {
                    return Err(unusable("a part without number, size or tag"));
                };
                parts.push(StoredPart { number, size, etag });
            }
            after = page.next_part_number_marker.filter(|_| page.is_truncated == Some(true));
            if after.is_none() {
                parts.sort_unstable_by_key(|part| part.number);
                return Ok(parts);
            }
        }
    }

    /// Puts an object together out of these parts. From then on, URLs of parts are good for nothing.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when there is no such upload, or not any more; [`StorageError::Rejected`] when a part is not as
    /// named here, and the errors of writing.
    pub async fn complete_parts(
        &self,
        path: &ObjectPath,
        upload: &str,
        parts: Vec<StoredPart>,
    ) -> Result<Stored, StorageError> {
        let size = parts.iter().map(|part| part.size).sum();
        let parts = parts
            .into_iter()
            .map(|part| CompletedPart::builder().part_number(part.number.into()).e_tag(part.etag).build());
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.collect())).build();
        let limit = self.completion_timeout();
        let request = self.bucket.client.complete_multipart_upload().bucket(&self.bucket.name).key(self.key(path)?);
        let request = request.upload_id(upload).multipart_upload(parts);
        let answer = request.customize().config_override(self.with_attempt_timeout(limit)).send().await;
        let answer = answer.map_err(|error| self.of_upload(error))?;
        Ok(Stored { size, etag: answer.e_tag })
    }

    /// Gives an upload up, and its parts with it. Doing so to one that is not there succeeds.
    ///
    /// # Errors
    /// The errors of writing.
    pub async fn abort_parts(&self, path: &ObjectPath, upload: &str) -> Result<(), StorageError> {
        let request = self.bucket.client.abort_multipart_upload().bucket(&self.bucket.name).key(self.key(path)?);
        match request.upload_id(upload).send().await.map_err(|error| self.of_upload(error)) {
            Ok(_) | Err(StorageError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What a failure means where an upload is named: that one may be gone.
    fn of_upload<E>(&self, error: SdkError<E, aws_sdk_s3::config::http::HttpResponse>) -> StorageError
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let is_gone = matches!(&error, SdkError::ServiceError(answer) if answer.err().code() == Some("NoSuchUpload"));
        if is_gone { StorageError::NotFound } else { failed(error, self.read_timeout()) }
    }
}

/// A size as S3 has it.
pub(super) fn length(bytes: u64) -> Result<i64, StorageError> {
    i64::try_from(bytes).map_err(|_| StorageError::TooLarge { limit: i64::MAX.unsigned_abs() })
}
