//! Copies that the server makes by itself: in one go, or in parts where an object is large.
//!
//! Must not leave an unfinished copy in the bucket: what is copied in parts is an upload as any other (`multipart`).

use std::time::Duration;

use aws_sdk_s3::types::CompletedPart;
use futures_util::{StreamExt, TryStreamExt, stream};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::S3Store;
use super::error::failed;
use super::multipart::{Upload, unusable};
use crate::{ObjectPath, PutOptions, StorageError, Stored};

/// Parts of one copy that the server makes at once.
const PARTS_IN_FLIGHT_MAX: usize = 4;

/// The slowest copy that counts as progress: nothing is sent while the server copies.
const COPY_BYTES_PER_SECOND_MIN: u64 = 4 * 1024 * 1024;

/// What the name of an object is not written with in a header.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

impl S3Store {
    pub(crate) async fn copy(&self, from: &ObjectPath, to: &ObjectPath) -> Result<Stored, StorageError> {
        let meta = self.head(from).await?;
        let source = format!("{}/{}", self.bucket.name, utf8_percent_encode(&self.key(from)?, ENCODED));
        let etag = if meta.size <= self.bucket.limits.copy_size.get() {
            self.copy_whole(source, meta.etag, to, meta.size).await?
        } else {
            self.copy_in_parts(&source, meta.etag.as_deref(), to, meta.size).await?
        };
        Ok(Stored { size: meta.size, etag })
    }

    async fn copy_whole(
        &self,
        source: String,
        if_match: Option<String>,
        to: &ObjectPath,
        bytes: u64,
    ) -> Result<Option<String>, StorageError> {
        let limit = self.copy_timeout(bytes);
        let request = self.bucket.client.copy_object().bucket(&self.bucket.name).key(self.key(to)?);
        let request = request.copy_source(source).set_copy_source_if_match(if_match);
        let answer = request.customize().config_override(self.with_attempt_timeout(limit)).send().await;
        let answer = answer.map_err(|error| failed(error, limit))?;
        Ok(answer.copy_object_result.and_then(|copied| copied.e_tag))
    }

    async fn copy_in_parts(
        &self,
        source: &str,
        if_match: Option<&str>,
        to: &ObjectPath,
        bytes: u64,
    ) -> Result<Option<String>, StorageError> {
        let part_bytes = self.bucket.limits.copy_size.get();
        let mut upload = Upload::begin(self.clone(), self.key(to)?, PutOptions::default()).await?;
        let starts = (1..).zip((0..bytes).step_by(usize::try_from(part_bytes).unwrap_or(usize::MAX)));
        let copies = starts.map(|(number, first)| {
            let last = bytes.min(first.saturating_add(part_bytes)) - 1;
            copy_part(&upload, number, source, if_match, (first, last))
        });
        let copied = stream::iter(copies.collect::<Vec<_>>()).buffered(PARTS_IN_FLIGHT_MAX).try_collect().await;
        let completed = match copied {
            Ok(parts) => upload.complete(parts).await,
            Err(error) => Err(error),
        };
        if completed.is_err() {
            upload.abort().await;
        }
        completed
    }

    /// How long an attempt to have so many bytes copied may take.
    fn copy_timeout(&self, bytes: u64) -> Duration {
        self.completion_timeout() + Duration::from_secs(bytes / COPY_BYTES_PER_SECOND_MIN)
    }
}

async fn copy_part(
    upload: &Upload,
    number: i32,
    source: &str,
    if_match: Option<&str>,
    (first, last): (u64, u64),
) -> Result<CompletedPart, StorageError> {
    let store = &upload.store;
    let limit = store.copy_timeout(last - first + 1);
    let request = store.bucket.client.upload_part_copy().bucket(&store.bucket.name).key(&upload.key);
    let request = request.upload_id(&upload.id).part_number(number).copy_source(source);
    let request = request.copy_source_range(format!("bytes={first}-{last}"));
    let request = request.set_copy_source_if_match(if_match.map(str::to_owned));
    let answer = request.customize().config_override(store.with_attempt_timeout(limit)).send().await;
    let answer = answer.map_err(|error| failed(error, limit))?;
    let etag =
        answer.copy_part_result.and_then(|copied| copied.e_tag).ok_or_else(|| unusable("a part without a tag"))?;
    Ok(CompletedPart::builder().part_number(number).e_tag(etag).build())
}
