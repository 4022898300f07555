//! The way of bytes into the store: announced, streamed, measured on the way.
//!
//! Before the first byte is sent, a row says that an object may come to be, so that one that nothing comes of is found. Must not hold
//! more of the bytes than a beginning of a fixed size.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use isolation::{Mandate, TenantKey, TenantTransaction};
use sha2::{Digest, Sha256};
use sqlx::postgres::types::PgInterval;
use storage::{BoxError, ObjectPath, PutOptions, StorageError};
use uploads::object_path;
use uuid::Uuid;

use super::content::{self, Content, TextCheck};
use super::{Library, dimensions};
use crate::problem::ApiError;

/// Time after the end of an upload's own for whatever of it is still on its way to the store.
const MARGIN: Duration = Duration::from_secs(600);

/// An object that is about to be written.
#[derive(Debug)]
pub struct Intake<'a> {
    /// Where it is kept.
    pub library: &'a Library,
    tenant: TenantKey,
    /// The medium that it is to be the bytes of.
    pub media: Uuid,
    revision: Uuid,
}

/// What was written.
#[derive(Debug)]
pub struct Taken {
    /// Which object it is.
    pub revision: Uuid,
    /// What it is.
    pub content: Content,
    /// How many bytes it has.
    pub bytes: i64,
    /// SHA-256 of them.
    pub sha256: [u8; 32],
    /// Width and height in pixels, where they are known.
    pub size: Option<(i32, i32)>,
}

impl<'a> Intake<'a> {
    /// Says that an object may come to be.
    ///
    /// # Errors
    /// [`ApiError::NoStore`] and [`ApiError::Database`].
    pub async fn begin(library: &'a Library, tenant: TenantKey, media: Uuid) -> Result<Self, ApiError> {
        Self::begin_within(library, tenant, media, library.upload_time).await
    }

    /// The same of one that may take such a time.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub async fn begin_within(
        library: &'a Library,
        tenant: TenantKey,
        media: Uuid,
        time: Duration,
    ) -> Result<Self, ApiError> {
        library.store()?;
        let revision = Uuid::now_v7();
        let mut transaction = library.database.begin(&Mandate::upkeep(tenant)).await?;
        sqlx::query!(
            "INSERT INTO stored_objects (tenant_id, media_id, revision, state, due_at)
             VALUES ($1, $2, $3, 'pending', now() + $4)",
            tenant.as_uuid(),
            media,
            revision,
            interval(time + MARGIN)
        )
        .execute(transaction.connection())
        .await?;
        transaction.commit().await?;
        Ok(Self { library, tenant, media, revision })
    }

    /// Writes the object.
    ///
    /// # Errors
    /// [`ApiError::FileTooLarge`]; [`ApiError::Field`] when there are no bytes; [`ApiError::Store`], and what `body` ends with as
    /// [`StorageError::Input`].
    pub async fn take<S, E>(&self, body: S) -> Result<Taken, ApiError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: Into<BoxError>,
    {
        let mut meter = Meter::default();
        let limit = self.library.bytes_max;
        let measured = body.inspect(|piece| {
            if let Ok(piece) = piece {
                meter.update(piece);
            }
        });
        let stored = self.library.store()?.put_stream(&self.path(), measured, limit, PutOptions::default()).await;
        match stored {
            Ok(_) if meter.bytes == 0 => Err(ApiError::field("file", "is empty")),
            Ok(stored) if stored.size != meter.bytes => Err(ApiError::Internal),
            Ok(_) => meter.finish(self.revision),
            Err(StorageError::TooLarge { limit }) => Err(ApiError::FileTooLarge { limit }),
            Err(error) => Err(error.into()),
        }
    }

    /// Has the store write the object: a copy of that of a medium, which has so many bytes.
    ///
    /// # Errors
    /// [`ApiError::Conflict`] when it is not there any more; [`ApiError::Store`].
    pub async fn copy(&self, media: Uuid, revision: Uuid, bytes: i64) -> Result<(), ApiError> {
        let from = object_path(self.tenant.as_uuid(), media, revision);
        match self.library.store()?.copy(&from, &self.path()).await {
            Ok(stored) if stored.size == bytes.unsigned_abs() => Ok(()),
            Ok(_) => Err(ApiError::Internal),
            // The medium has other bytes, or none, for an hour at least.
            Err(StorageError::NotFound | StorageError::Changed) => Err(ApiError::Conflict),
            Err(error) => Err(error.into()),
        }
    }

    /// Whose it is.
    pub fn tenant(&self) -> TenantKey {
        self.tenant
    }

    /// Which object it is.
    pub fn revision(&self) -> Uuid {
        self.revision
    }

    /// Gives the object to a medium, if `transaction`, which makes it lead to the object, commits.
    ///
    /// # Errors
    /// [`ApiError::UploadTime`] when it was given up meanwhile.
    pub async fn settle(&self, transaction: &mut TenantTransaction) -> Result<(), ApiError> {
        let settled = sqlx::query!(
            "DELETE FROM stored_objects WHERE media_id = $1 AND revision = $2 AND state = 'pending'",
            self.media,
            self.revision
        )
        .execute(transaction.connection())
        .await?;
        if settled.rows_affected() == 1 { Ok(()) } else { Err(ApiError::UploadTime) }
    }

    /// Nothing comes of it, for this reason. If this fails, or was never called, the object is found later.
    pub async fn give_up(&self, reason: &ApiError) {
        // Its announcement may be gone by then, while the object came late. Otherwise, only what is announced is doomed: when an
        // answer to a commit did not come, a medium may lead to the object.
        let is_late = matches!(reason, ApiError::UploadTime);
        if let Err(error) = self.doom(is_late).await {
            tracing::debug!(%error, media = %self.media, "an object that nothing came of is swept later");
        }
    }

    async fn doom(&self, anew: bool) -> Result<(), ApiError> {
        let mut transaction = self.library.database.begin(&Mandate::upkeep(self.tenant)).await?;
        sqlx::query!(
            "UPDATE stored_objects SET state = 'doomed', due_at = now() + $3
             WHERE media_id = $1 AND revision = $2 AND state = 'pending'",
            self.media,
            self.revision,
            interval(MARGIN)
        )
        .execute(transaction.connection())
        .await?;
        if anew {
            sqlx::query!(
                "INSERT INTO stored_objects (tenant_id, media_id, revision, state, due_at)
                 VALUES ($1, $2, $3, 'doomed', now() + $4) ON CONFLICT DO NOTHING",
                self.tenant.as_uuid(),
                self.media,
                self.revision,
                interval(MARGIN)
            )
            .execute(transaction.connection())
            .await?;
        }
        Ok(transaction.commit().await?)
    }

    fn path(&self) -> ObjectPath {
        object_path(self.tenant.as_uuid(), self.media, self.revision)
    }
}

/// Deletes an object that nothing leads to, and what is known of it.
///
/// # Errors
/// [`ApiError::Store`], [`ApiError::Database`]; then it is found again.
pub async fn sweep(library: &Library, object: (Uuid, Uuid, Uuid)) -> Result<(), ApiError> {
    let (tenant, media, revision) = object;
    library.store()?.delete(&object_path(tenant, media, revision)).await?;
    let mut transaction = library.database.begin(&Mandate::upkeep(tenant.into())).await?;
    // Something leads to bytes that were rejected, but nobody can let them through any more: they are not stored.
    sqlx::query!("UPDATE media SET swept = revision WHERE id = $1 AND revision = $2", media, revision)
        .execute(transaction.connection())
        .await?;
    sqlx::query!("UPDATE replacements SET swept = revision WHERE media_id = $1 AND revision = $2", media, revision)
        .execute(transaction.connection())
        .await?;
    sqlx::query!(
        "DELETE FROM stored_objects WHERE media_id = $1 AND revision = $2 AND state = 'doomed'",
        media,
        revision
    )
    .execute(transaction.connection())
    .await?;
    Ok(transaction.commit().await?)
}

/// What is learnt of bytes that pass by.
#[derive(Default)]
struct Meter {
    bytes: u64,
    hash: Sha256,
    text: TextCheck,
    beginning: Vec<u8>,
}

impl Meter {
    fn update(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        self.hash.update(piece);
        self.text.update(piece);
        let wanted = dimensions::BEGINNING_BYTES - self.beginning.len();
        self.beginning.extend_from_slice(&piece[..piece.len().min(wanted)]);
    }

    fn finish(self, revision: Uuid) -> Result<Taken, ApiError> {
        let content = content::of(&self.beginning, self.text.is_text());
        let is_image = content.kind == content::Kind::Image;
        let size = is_image.then(|| dimensions::of(&self.beginning, &content.content_type)).flatten();
        let bytes = i64::try_from(self.bytes).map_err(|_| ApiError::Internal)?;
        Ok(Taken { revision, content, bytes, sha256: self.hash.finalize().into(), size })
    }
}

/// A time as the database has it.
pub(super) fn interval(time: Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(time.as_micros()).unwrap_or(i64::MAX) }
}
