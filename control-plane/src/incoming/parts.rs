//! Direct uploads: parts of a size that we choose, each sent by itself to a URL of its own, in any order and several at once.
//!
//! A bucket takes the parts itself. For a folder we do, with the same behaviour: so many bytes and no others, an entity tag for each
//! part, and a part that is sent again takes the place of the one before.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use isolation::{Mandate, TenantKey};
use parking_lot::Mutex;
use rocket::data::Data;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use storage::{ObjectStore, PresignExpiry, PresignMethod, PutOptions, StorageError, StoredPart};
use time::OffsetDateTime;
use tokio::time::timeout;
use utoipa::ToSchema;
use uuid::Uuid;

use super::body::Body;
use super::record::{self, Upload, number};
use super::{Incoming, SignedPart, bucket, whole_path};
use crate::media::hexadecimal;
use crate::problem::ApiError;

/// Smallest part but the last: what S3 takes. What is not larger is sent in one piece.
const PART_BYTES_MIN: u64 = 5 << 20;

/// Sizes of parts are whole numbers of these.
const PART_BYTES_STEP: u64 = 1 << 20;

/// Most parts: one page of a bucket's list, and few enough to be told in one answer.
const PARTS_MAX: u64 = 1000;

/// Most URLs that are given at once.
pub const PART_URLS_MAX: usize = 100;

/// A part that has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PartThere {
    /// From 1.
    pub number: u16,
    /// How many bytes it has.
    pub bytes: u64,
    /// Its entity tag, as it was answered to whoever sent it.
    pub etag: String,
}

/// Where a part is sent to.
#[derive(Debug, Serialize, ToSchema)]
pub struct PartUrl {
    /// From 1.
    number: u16,
    /// How many bytes it has to have.
    bytes: u64,
    /// The URL to `PUT` it to.
    url: String,
}

/// A part as whoever completes an upload knows it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamedPart {
    /// From 1.
    number: u16,
    /// Its entity tag, as it was answered.
    etag: String,
}

/// The size of all parts but the last of so many bytes. What is not larger is one part.
pub fn part_bytes(bytes: u64) -> u64 {
    bytes.div_ceil(PARTS_MAX).next_multiple_of(PART_BYTES_STEP).max(PART_BYTES_MIN)
}

/// The sizes of the parts of a direct upload, in their order.
fn sizes(upload: &Upload) -> Result<impl ExactSizeIterator<Item = u64>, ApiError> {
    let (Some(bytes), Some(part)) = (upload.bytes, upload.part_bytes) else {
        return Err(ApiError::UploadState("not a direct one"));
    };
    let count = u16::try_from(bytes.div_ceil(part)).map_err(|_| ApiError::Internal)?;
    Ok((0..count).map(move |at| part.min(bytes - u64::from(at) * part)))
}

impl Incoming {
    /// Where parts are sent to: those of these numbers, or the first ones.
    ///
    /// # Errors
    /// [`ApiError::Field`] for a number that there is not.
    pub async fn part_urls(
        &self,
        tenant: TenantKey,
        upload: &Upload,
        numbers: Option<&[u16]>,
        host: Option<&str>,
    ) -> Result<Vec<PartUrl>, ApiError> {
        upload.must_be_open()?;
        let sizes: Vec<u64> = sizes(upload)?.collect();
        let first: Vec<u16> = (1..=sizes.len().min(PART_URLS_MAX) as u16).collect();
        let mut urls = Vec::new();
        for number in numbers.unwrap_or(&first).iter().copied() {
            let bytes = usize::from(number).checked_sub(1).and_then(|at| sizes.get(at)).copied();
            let why = || format!("are {} numbers from 1 to {}", sizes.len().min(PART_URLS_MAX), sizes.len());
            let bytes = bytes.ok_or_else(|| ApiError::field("numbers", why()))?;
            urls.push(PartUrl { number, bytes, url: self.part_url(tenant, upload, (number, bytes), host).await? });
        }
        Ok(urls)
    }

    async fn part_url(
        &self,
        tenant: TenantKey,
        upload: &Upload,
        (number, bytes): (u16, u64),
        host: Option<&str>,
    ) -> Result<String, ApiError> {
        let store = self.library.store()?;
        let Some(bucket) = bucket(store) else {
            let expires = upload.expires_at.unix_timestamp();
            let part = SignedPart { tenant, upload: upload.id, number, bytes, expires };
            return Ok(self.url(host, &self.sign(&part).await?));
        };
        let left = (upload.expires_at - OffsetDateTime::now_utc()).whole_seconds();
        let left = u32::try_from(left).unwrap_or(0).clamp(1, PresignExpiry::MAX.as_duration().as_secs() as u32);
        let left = PresignExpiry::from_secs(left).ok_or(ApiError::Internal)?;
        let path = whole_path(tenant, upload.id);
        let url = match &upload.multipart {
            Some(multipart) => bucket.presign_part((&path, multipart), number, bytes, left).await?,
            None => store.presign(PresignMethod::PutExactly(bytes), &path, left).await?,
        };
        Ok(url.as_str().to_owned())
    }

    /// Has a bucket ready for the parts of an upload that has more than one, unless it is. Whoever made the row may have died before.
    ///
    /// # Errors
    /// [`ApiError::Store`] and [`ApiError::Database`].
    pub async fn ready(&self, tenant: TenantKey, mut upload: Upload) -> Result<Upload, ApiError> {
        let is_parted = upload.bytes.zip(upload.part_bytes).is_some_and(|(bytes, part)| bytes > part);
        let Some(bucket) = bucket(self.library.store()?).filter(|_| is_parted) else { return Ok(upload) };
        if upload.multipart.is_some() || upload.must_be_open().is_err() {
            return Ok(upload);
        }
        let path = whole_path(tenant, upload.id);
        let begun = bucket.begin_parts(&path).await?;
        let mut transaction = self.library.database().begin(&Mandate::upkeep(tenant)).await?;
        let kept = sqlx::query_scalar!(
            r#"UPDATE uploads SET multipart = coalesce(multipart, $2) WHERE id = $1 AND state = 'open'
               RETURNING multipart AS "multipart!""#,
            upload.id,
            begun
        );
        let kept = kept.fetch_optional(transaction.connection()).await?;
        transaction.commit().await?;
        if kept.as_ref() != Some(&begun) {
            // Another request was first, or it is over.
            bucket.abort_parts(&path, &begun).await?;
        }
        upload.multipart = kept;
        Ok(upload)
    }

    /// The parts of an upload that have come, in their order.
    ///
    /// # Errors
    /// [`ApiError::Store`] and [`ApiError::Database`].
    pub async fn parts_there(&self, tenant: TenantKey, upload: &Upload) -> Result<Vec<PartThere>, ApiError> {
        let store = self.library.store()?;
        let Some(bucket) = bucket(store) else { return self.parts_received(tenant, upload.id).await };
        let path = whole_path(tenant, upload.id);
        if let Some(multipart) = &upload.multipart {
            return match bucket.list_parts(&path, multipart).await {
                Ok(parts) => Ok(parts.into_iter().map(PartThere::from).collect()),
                // They were put together, or given up.
                Err(StorageError::NotFound) => Ok(Vec::new()),
                Err(error) => Err(error.into()),
            };
        }
        match store.head(&path).await {
            Ok(meta) => Ok(vec![PartThere { number: 1, bytes: meta.size, etag: meta.etag.unwrap_or_default() }]),
            Err(StorageError::NotFound) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    async fn parts_received(&self, tenant: TenantKey, upload: Uuid) -> Result<Vec<PartThere>, ApiError> {
        let mut transaction = self.library.database().begin(&Mandate::upkeep(tenant)).await?;
        let rows = sqlx::query!(
            r#"SELECT number, bytes, sha256 AS "sha256!" FROM upload_parts
               WHERE upload_id = $1 AND sha256 IS NOT NULL ORDER BY number"#,
            upload
        );
        let rows = rows.fetch_all(transaction.connection()).await?;
        let part = |number: i32, bytes: i64, sha256: &[u8]| PartThere {
            number: number.try_into().unwrap_or(0),
            bytes: bytes.unsigned_abs(),
            etag: etag(sha256),
        };
        Ok(rows.into_iter().map(|row| part(row.number, row.bytes, &row.sha256)).collect())
    }

    /// Takes a part that a URL of ours is good for; its entity tag.
    ///
    /// # Errors
    /// [`ApiError::UrlRefused`] when the tenant is suspended or gone, [`ApiError::UploadGone`], [`ApiError::UploadState`] when no parts
    /// are taken any more, [`ApiError::UploadLength`] for any other number of bytes, [`ApiError::BodyCut`], [`ApiError::UploadTime`],
    /// [`ApiError::Busy`], [`ApiError::TenantBusy`].
    pub async fn receive_part(&self, part: &SignedPart, data: Data<'_>) -> Result<String, ApiError> {
        let _place = self.place(part.tenant)?;
        let database = self.library.database();
        let mut transaction = database.begin(&Mandate::upkeep(part.tenant)).await?;
        // As its keys, its URLs do not work while a tenant is suspended, nor after its end.
        let is_active = sqlx::query_scalar!(
            r#"SELECT EXISTS (SELECT FROM tenants WHERE id = $1 AND state = 'active') AS "is_active!""#,
            part.tenant.as_uuid()
        );
        if !is_active.fetch_one(transaction.connection()).await? {
            return Err(ApiError::UrlRefused);
        }
        let upload = record::find(&mut transaction, part.upload).await?;
        drop(transaction);
        upload.must_be_open()?;
        let size = sizes(&upload)?.nth(usize::from(part.number).wrapping_sub(1));
        if size != Some(part.bytes) {
            return Err(ApiError::UrlRefused);
        }
        let object = Uuid::now_v7();
        let path = uploads::incoming_path(part.tenant.as_uuid(), part.upload, object);
        let store = self.library.store()?;
        let stored = async {
            let body = Body::open(data, part.bytes, self.pace);
            let sha256 = store_hashed(store, &path, body, part.bytes, self.library.upload_time).await?;
            self.keep_part(part, object, &sha256).await?;
            Ok(etag(&sha256))
        };
        let stored: Result<String, ApiError> = stored.await;
        // When it is not known whether a row leads to it, it is swept with the upload.
        if !matches!(stored, Ok(_) | Err(ApiError::Database(_)))
            && let Err(error) = store.delete(&path).await
        {
            tracing::debug!(%error, upload = %part.upload, "a part that nothing came of is deleted later");
        }
        stored
    }

    async fn keep_part(&self, part: &SignedPart, object: Uuid, sha256: &[u8]) -> Result<(), ApiError> {
        let mut transaction = self.library.database().begin(&Mandate::upkeep(part.tenant)).await?;
        record::lock(&mut transaction, part.upload).await?.must_be_open()?;
        let before = sqlx::query_scalar!(
            "SELECT object FROM upload_parts WHERE upload_id = $1 AND number = $2",
            part.upload,
            i32::from(part.number)
        );
        let before = before.fetch_optional(transaction.connection()).await?;
        sqlx::query!(
            "INSERT INTO upload_parts (tenant_id, upload_id, number, object, bytes, sha256) VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (tenant_id, upload_id, number) DO UPDATE SET object = $4, bytes = $5, sha256 = $6, stored_at = now()",
            part.tenant.as_uuid(),
            part.upload,
            i32::from(part.number),
            object,
            number(part.bytes)?,
            sha256
        )
        .execute(transaction.connection())
        .await?;
        transaction.commit().await?;
        if let Some(before) = before {
            let path = uploads::incoming_path(part.tenant.as_uuid(), part.upload, before);
            if let Err(error) = self.library.store()?.delete(&path).await {
                tracing::debug!(%error, upload = %part.upload, "a part that was sent again is deleted later");
            }
        }
        Ok(())
    }
}

/// Stores exactly so many bytes; their SHA-256.
async fn store_hashed(
    store: &ObjectStore,
    path: &storage::ObjectPath,
    body: Body<'_>,
    bytes: u64,
    limit: Duration,
) -> Result<[u8; 32], ApiError> {
    let (hash, counted, failed) = (Mutex::new(Sha256::new()), AtomicU64::new(0), Mutex::new(None));
    let pieces = body.pieces().map(|piece| match piece {
        Ok(piece) => {
            hash.lock().update(&piece);
            counted.fetch_add(piece.len() as u64, Ordering::Relaxed);
            Ok(piece)
        }
        // The store keeps only that it was the body.
        Err(error) => {
            let text = error.to_string();
            *failed.lock() = Some(error);
            Err::<Bytes, _>(text)
        }
    });
    let stored = store.put_stream(path, Box::pin(pieces), bytes, PutOptions::default());
    let stored = timeout(limit, stored).await.map_err(|_| ApiError::UploadTime)?;
    if let Some(error) = failed.into_inner() {
        return Err(error);
    }
    match stored {
        Ok(_) if counted.into_inner() == bytes => Ok(hash.into_inner().finalize().into()),
        Ok(_) | Err(StorageError::TooLarge { .. }) => Err(ApiError::UploadLength),
        Err(error) => Err(error.into()),
    }
}

fn etag(sha256: &[u8]) -> String {
    format!("\"{}\"", hexadecimal(sha256))
}

impl From<StoredPart> for PartThere {
    fn from(part: StoredPart) -> Self {
        Self { number: part.number, bytes: part.size, etag: part.etag }
    }
}

/// Holds the parts that have come against those that have to, and those that are named.
///
/// # Errors
/// [`ApiError::UploadIncomplete`] names the first that is missing; [`ApiError::UploadLength`] when one has other bytes;
/// [`ApiError::Field`] when one was named that is not there, or not so.
pub(super) fn check(upload: &Upload, there: &[PartThere], named: Option<&[NamedPart]>) -> Result<(), ApiError> {
    let sizes = sizes(upload)?;
    let count = sizes.len();
    for (at, size) in sizes.enumerate() {
        let part = there.iter().find(|part| usize::from(part.number) == at + 1);
        let part = part.ok_or_else(|| ApiError::UploadIncomplete { missing: format!("part {}", at + 1) })?;
        if part.bytes != size {
            return Err(ApiError::UploadLength);
        }
    }
    let Some(named) = named else { return Ok(()) };
    let is_there = |named: &NamedPart| {
        let opaque = named.etag.trim_matches('"');
        there.iter().any(|part| part.number == named.number && part.etag.trim_matches('"') == opaque)
    };
    let numbers: std::collections::BTreeSet<_> = named.iter().map(|part| part.number).collect();
    if numbers.len() == named.len() && named.len() == count && named.iter().all(is_there) {
        return Ok(());
    }
    Err(ApiError::field("parts", format!("are all {count} parts, each once, with the ETag that it was answered with")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_few_and_not_smaller_than_a_bucket_takes() {
        for (bytes, expected) in [
            (1, 5 << 20),
            (5 << 20, 5 << 20),
            ((5 << 20) + 1, 5 << 20),
            (5000 << 20, 5 << 20),
            ((5000 << 20) + 1, 6 << 20),
            (50_000_000_000, 48 << 20),
        ] {
            let part = part_bytes(bytes);
            assert_eq!(part, expected, "{bytes}");
            assert!(bytes.div_ceil(part) <= PARTS_MAX);
        }
    }
}
