//! Writing a stream of unknown length: S3's multipart upload.
//!
//! Must not hold more than three parts of a stream in memory, and must not leave an unfinished upload in the bucket,
//! which would cost money unseen: failed and dropped uploads are aborted. If the process dies or the abort itself
//! fails, only a lifecycle rule of the bucket (`AbortIncompleteMultipartUpload`) cleans up.

use std::time::Duration;

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::S3Store;
use super::error::failed;
use crate::{BoxError, ObjectPath, PutOptions, StorageError, Stored};

/// Parts of one upload on the wire at once; one more is being gathered.
const PARTS_IN_FLIGHT_MAX: usize = 2;

/// S3's limit on the parts of an upload.
const PARTS_MAX: u64 = 10_000;

/// Servers may put a large object together before they answer.
const COMPLETE_PATIENCE: u32 = 6;

impl S3Store {
    /// How long an attempt to put parts together may take.
    pub(super) fn completion_timeout(&self) -> Duration {
        self.read_timeout().saturating_mul(COMPLETE_PATIENCE)
    }

    pub(crate) async fn put_stream<S, E>(
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
        // The size of the parts stays the same to the end: not every server takes growing ones.
        let part_bytes = self.bucket.limits.part_size.get();
        let limit_bytes = limit_bytes.min(part_bytes.saturating_mul(PARTS_MAX));
        let (gathered, rest) = (BytesMut::new(), Bytes::new());
        let mut parts = Parts { body, gathered, rest, total: 0, limit_bytes, part_bytes };
        let first = parts.next().await?.unwrap_or_default();
        if (first.len() as u64) < part_bytes {
            return self.put(path, first, options).await;
        }
        let mut upload = Upload::begin(self.clone(), self.key(path)?, options).await?;
        match upload.send_all(first, &mut parts).await {
            Ok(etag) => Ok(Stored { size: parts.total, etag }),
            Err(error) => {
                upload.abort().await;
                Err(error)
            }
        }
    }
}

/// Cuts a stream into parts, all of the same size but the last.
struct Parts<S> {
    body: S,
    gathered: BytesMut,
    /// What came together with the end of a part.
    rest: Bytes,
    total: u64,
    limit_bytes: u64,
    part_bytes: u64,
}

impl<S, E> Parts<S>
where
    S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
    E: Into<BoxError>,
{
    /// `None` after the last part.
    async fn next(&mut self) -> Result<Option<Bytes>, StorageError> {
        let part_bytes = usize::try_from(self.part_bytes).unwrap_or(usize::MAX);
        loop {
            if self.gathered.capacity() < part_bytes {
                // No part lies in a larger piece of memory than it needs.
                self.gathered.reserve(part_bytes - self.gathered.len());
            }
            let missing = part_bytes - self.gathered.len();
            self.gathered.extend_from_slice(&self.rest.split_to(missing.min(self.rest.len())));
            if self.gathered.len() == part_bytes {
                return Ok(Some(std::mem::take(&mut self.gathered).freeze()));
            }
            let Some(chunk) = self.body.next().await else {
                let last = std::mem::take(&mut self.gathered).freeze();
                return Ok((!last.is_empty()).then_some(last));
            };
            let chunk = chunk.map_err(|error| StorageError::Input { source: error.into() })?;
            self.total = self.total.saturating_add(chunk.len() as u64);
            if self.total > self.limit_bytes {
                return Err(StorageError::TooLarge { limit: self.limit_bytes });
            }
            self.rest = chunk;
        }
    }
}

/// An upload that the server keeps until it is completed or aborted. Dropping it aborts it in the background.
pub(super) struct Upload {
    pub(super) store: S3Store,
    pub(super) key: String,
    pub(super) id: String,
    /// Completed or aborted.
    over: bool,
}

impl Upload {
    pub(super) async fn begin(store: S3Store, key: String, options: PutOptions) -> Result<Self, StorageError> {
        let id = begin(&store, &key, options).await?;
        Ok(Self { store, key, id, over: false })
    }

    /// Sends all parts, several at once, and completes the upload. Gives the entity tag.
    async fn send_all<S, E>(&mut self, first: Bytes, parts: &mut Parts<S>) -> Result<Option<String>, StorageError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: Into<BoxError>,
    {
        let mut in_flight = JoinSet::new();
        let mut sent = Vec::new();
        let mut number = 0;
        let mut next = Some(first);
        while let Some(part) = next {
            number += 1;
            if in_flight.len() == PARTS_IN_FLIGHT_MAX {
                sent.extend(finished(&mut in_flight).await?);
            }
            in_flight.spawn(send_part(self.store.clone(), self.key.clone(), self.id.clone(), number, part));
            next = parts.next().await?;
        }
        while let Some(part) = finished(&mut in_flight).await? {
            sent.push(part);
        }
        sent.sort_unstable_by_key(|part| part.part_number);
        self.complete(sent).await
    }

    /// Puts the parts together. Gives the entity tag.
    pub(super) async fn complete(&mut self, parts: Vec<CompletedPart>) -> Result<Option<String>, StorageError> {
        let limit = self.store.completion_timeout();
        let answer = self
            .store
            .bucket
            .client
            .complete_multipart_upload()
            .bucket(&self.store.bucket.name)
            .key(&self.key)
            .upload_id(&self.id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .customize()
            .config_override(self.store.with_attempt_timeout(limit))
            .send()
            .await
            .map_err(|error| failed(error, limit))?;
        self.over = true;
        Ok(answer.e_tag)
    }

    pub(super) async fn abort(mut self) {
        self.over = true;
        abort(self.store.clone(), self.key.clone(), self.id.clone()).await;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.over
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(abort(self.store.clone(), self.key.clone(), self.id.clone()));
        }
    }
}

/// Begins an upload; its id.
pub(super) async fn begin(store: &S3Store, key: &str, options: PutOptions) -> Result<String, StorageError> {
    let answer = store
        .bucket
        .client
        .create_multipart_upload()
        .bucket(&store.bucket.name)
        .key(key)
        .set_content_type(options.content_type)
        .set_cache_control(options.cache_control)
        .send()
        .await
        .map_err(|error| failed(error, store.read_timeout()))?;
    answer.upload_id.ok_or_else(|| unusable("an upload without an id"))
}

async fn send_part(
    store: S3Store,
    key: String,
    upload_id: String,
    number: i32,
    part: Bytes,
) -> Result<CompletedPart, StorageError> {
    let limit = store.upload_timeout(part.len() as u64);
    let answer = store
        .bucket
        .client
        .upload_part()
        .bucket(&store.bucket.name)
        .key(key)
        .upload_id(upload_id)
        .part_number(number)
        .body(ByteStream::from(part))
        .customize()
        .config_override(store.with_attempt_timeout(limit))
        .send()
        .await
        .map_err(|error| failed(error, limit))?;
    Ok(CompletedPart::builder().part_number(number).set_e_tag(answer.e_tag).build())
}

/// Waits for one part on the wire; `None` if there is none.
async fn finished(
    in_flight: &mut JoinSet<Result<CompletedPart, StorageError>>,
) -> Result<Option<CompletedPart>, StorageError> {
    match in_flight.join_next().await {
        None => Ok(None),
        Some(Ok(outcome)) => outcome.map(Some),
        Some(Err(error)) => Err(StorageError::Unavailable { source: error.into() }),
    }
}

async fn abort(store: S3Store, key: String, upload_id: String) {
    let request = store.bucket.client.abort_multipart_upload().bucket(&store.bucket.name).key(&key);
    if let Err(error) = request.upload_id(upload_id).send().await {
        let error = failed(error, store.read_timeout());
        tracing::warn!(%error, bucket = store.bucket.name, key, "an unfinished upload stays in the bucket");
    }
}

pub(super) fn unusable(what: &str) -> StorageError {
    StorageError::Unavailable { source: BoxError::from(format!("the store answered {what}")) }
}
