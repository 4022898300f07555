//! A medium out of another one: the store copies the bytes by itself, and what is said of them is said again, or something else.
//!
//! The way is that of an upload: what may come to be is announced, the object is written, the row made, the pointer published. A copy is a new
//! medium to every workflow, too.

use isolation::{Mandate, TenantTransaction};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::timeout;
use uploads::PublicId;
use uuid::Uuid;

use super::Library;
use super::content::Content;
use super::intake::{Intake, Taken};
use super::orders::Description;
use super::record::{Change, NewMedia, insert};
use super::row::{self, Row};
use crate::etag::Condition;
use crate::problem::ApiError;

/// Media that are larger are copied by a worker: a store takes its time.
const NOW_BYTES_MAX: i64 = 64 << 20;

/// A copy of a medium, and what is said of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CopyOrder {
    media: Uuid,
    said: Description,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filename: Option<String>,
}

impl CopyOrder {
    /// The kind of jobs that do it.
    pub const JOB: &str = "media_copy";

    /// Of a medium as it is, but for what is to be said otherwise; whether it takes no longer than a request may.
    ///
    /// # Errors
    /// [`ApiError::NotFound`]; [`ApiError::MediaState`] of what is not served.
    pub async fn of(transaction: &mut TenantTransaction, media: Uuid, other: Change) -> Result<(Self, bool), ApiError> {
        let row = row::find(transaction, media).await?;
        check(&row)?;
        let expires_at = other.expires_at.unwrap_or(row.expires_at);
        if expires_at.is_some_and(|at| at <= OffsetDateTime::now_utc()) {
            return Err(ApiError::MediaState("expired"));
        }
        let expires_at = expires_at.map(|at| at.format(&Rfc3339)).transpose().map_err(|_| ApiError::Internal)?;
        let said = Description {
            public_id: other.public_id.as_ref().map(PublicId::to_string),
            folder: other.folder.unwrap_or(row.folder),
            tags: other.tags.unwrap_or(row.tags),
            metadata: Some(other.metadata.map_or(row.metadata, Value::Object)),
            expires_at,
        };
        let filename = other.filename.unwrap_or(row.filename);
        Ok((Self { media, said, filename }, row.bytes <= NOW_BYTES_MAX))
    }

    /// Has the store copy the bytes to an object that is announced; which object of the medium they are.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::MediaState`], [`ApiError::UploadTime`], [`ApiError::Conflict`] when it has other bytes
    /// meanwhile, and [`ApiError::Store`].
    pub async fn take(&self, library: &Library, intake: &Intake<'_>) -> Result<Uuid, ApiError> {
        let mandate = Mandate::upkeep(intake.tenant());
        let row = row::find(&mut library.database().begin(&mandate).await?, self.media).await?;
        check(&row)?;
        let copied = timeout(library.upload_time, intake.copy(row.id, row.revision, row.bytes)).await;
        copied.map_err(|_| ApiError::UploadTime)??;
        Ok(row.revision)
    }

    /// Makes the medium of what was [taken](Self::take), if `transaction` commits; then [`published`](super::published) has to follow.
    ///
    /// # Errors
    /// Those of [`insert`]; [`ApiError::NotFound`], [`ApiError::MediaState`] and [`ApiError::Conflict`] when the other medium has become
    /// what may not be copied, or has other bytes.
    pub async fn insert(
        &self,
        transaction: &mut TenantTransaction,
        intake: &Intake<'_>,
        revision: Uuid,
    ) -> Result<Row, ApiError> {
        // Nobody decides about its bytes before this is done.
        let from = row::lock(transaction, self.media, Condition::None).await?;
        check(&from)?;
        if from.revision != revision {
            return Err(ApiError::Conflict);
        }
        let taken = Taken {
            revision: intake.revision(),
            content: Content {
                content_type: from.content_type.into(),
                kind: from.kind.parse().map_err(|()| ApiError::Internal)?,
            },
            bytes: from.bytes,
            sha256: from.sha256.try_into().map_err(|_| ApiError::Internal)?,
            size: from.width.zip(from.height),
        };
        let fields = self.said.check()?;
        let new = NewMedia { intake, taken: &taken, fields: &fields, filename: self.filename.as_deref() };
        insert(transaction, &new).await
    }
}

/// Only what is served is copied: a copy must not be a way around what was decided of the bytes.
fn check(row: &Row) -> Result<(), ApiError> {
    match row.state() {
        Some(state) if state.is_served() => Ok(()),
        Some(state) => Err(ApiError::MediaState(state.as_str())),
        None => Err(ApiError::Internal),
    }
}
