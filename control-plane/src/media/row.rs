//! The row of a medium: as the database has it, as its tenant sees it, and found.

use isolation::TenantTransaction;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use uploads::PublicId;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Library;
use super::content::Kind;
use super::publish::hexadecimal;
use super::state::MediaState;
use crate::etag::Condition;
use crate::problem::ApiError;
use crate::workflows::Scan;

/// What is called when there is none.
const MEDIUM: &str = "medium";

/// A medium, as the database has it.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its unchanging id.
    pub id: Uuid,
    pub(super) public_id: String,
    pub(super) folder: Option<String>,
    pub(super) kind: String,
    pub(super) state: String,
    /// Grows with each change.
    pub version: i64,
    /// Which object has its bytes.
    pub(super) revision: Uuid,
    pub(super) content_type: String,
    pub(super) bytes: i64,
    pub(super) sha256: Vec<u8>,
    pub(super) width: Option<i32>,
    pub(super) height: Option<i32>,
    pub(super) filename: Option<String>,
    pub(super) tags: Vec<String>,
    pub(super) metadata: Value,
    pub(super) expires_at: Option<OffsetDateTime>,
    pub(super) created_at: OffsetDateTime,
    pub(super) updated_at: OffsetDateTime,
    pub(super) scan: Option<Value>,
    pub(super) replacement: Option<Value>,
    pub(super) published: bool,
}

/// A medium, as its tenant sees it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Media {
    id: Uuid,
    /// Its name in URLs.
    pub public_id: String,
    kind: String,
    state: String,
    /// Grows with each change.
    pub version: i64,
    content_type: String,
    bytes: i64,
    width: Option<i32>,
    height: Option<i32>,
    sha256: String,
    folder: String,
    tags: Vec<String>,
    metadata: Value,
    filename: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
    /// How its bytes have fared in their workflow; `null` where there was none.
    #[schema(value_type = Option<Scan>)]
    scan: Option<Value>,
    /// Bytes that are to take the place of these once they have passed, or have not; `null` where there are none.
    #[schema(value_type = Option<Replacement>)]
    replacement: Option<Value>,
    /// Whether edges are told already.
    pub published: bool,
    url: String,
}

/// Bytes that are to take the place of others.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only described: the database writes it")]
struct Replacement {
    /// `quarantined` or `rejected`.
    state: String,
    kind: String,
    content_type: String,
    bytes: i64,
    width: Option<i32>,
    height: Option<i32>,
    sha256: String,
    filename: Option<String>,
    scan: Scan,
}

impl Row {
    /// As the tenant of this name in URLs sees it.
    pub fn seen_by(self, library: &Library, slug: &str) -> Media {
        let ops = if self.kind == Kind::Image.as_str() { "f=auto" } else { "-" };
        // The database has only what was checked when it went in.
        let path = PublicId::new(self.public_id.as_str()).map(|id| id.to_url_path()).unwrap_or_default();
        Media {
            url: format!("{}/{slug}/{ops}/{path}", library.delivery_url),
            id: self.id,
            public_id: self.public_id,
            kind: self.kind,
            state: self.state,
            version: self.version,
            content_type: self.content_type,
            bytes: self.bytes,
            width: self.width,
            height: self.height,
            sha256: hexadecimal(&self.sha256),
            folder: self.folder.unwrap_or_default(),
            tags: self.tags,
            metadata: self.metadata,
            filename: self.filename,
            expires_at: self.expires_at,
            created_at: self.created_at,
            updated_at: self.updated_at,
            scan: self.scan,
            replacement: self.replacement,
            published: self.published,
        }
    }

    /// Whether edges are told already.
    pub fn is_published(&self) -> bool {
        self.published
    }

    /// Where it stands.
    pub(super) fn state(&self) -> Option<MediaState> {
        self.state.parse().ok()
    }
}

/// Media, by the rest of a statement.
macro_rules! select {
    ($rest:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            $crate::media::row::Row,
            r#"SELECT media.id, media.public_id, media.folder, media.kind, media.state, media.version, media.revision,
                 media.content_type, media.bytes, media.sha256, media.width, media.height, media.filename, media.tags, media.metadata,
                 media.expires_at, media.created_at, media.updated_at, media.scan,
                 (
                     SELECT jsonb_build_object(
                         'state', new.state, 'kind', new.kind, 'content_type', new.content_type, 'bytes', new.bytes,
                         'width', new.width, 'height', new.height, 'sha256', encode(new.sha256, 'hex'),
                         'filename', new.filename, 'scan', new.scan)
                     FROM replacements AS new WHERE new.tenant_id = media.tenant_id AND new.media_id = media.id
                 ) AS replacement,
                 NOT EXISTS (
                     SELECT FROM pointers
                     WHERE pointers.tenant_id = media.tenant_id AND pointers.public_id = media.public_id
                         AND (pointers.published < pointers.generation OR pointers.claim IS NOT NULL)
                 ) AS "published!"
               FROM media "# + $rest
            $(, $argument)*
        )
    };
}
pub(super) use select;

/// The medium of this id.
///
/// # Errors
/// [`ApiError::NotFound`].
pub async fn find(transaction: &mut TenantTransaction, id: Uuid) -> Result<Row, ApiError> {
    let row = select!("WHERE media.id = $1", id).fetch_optional(transaction.connection()).await?;
    row.ok_or(ApiError::NotFound(MEDIUM))
}

/// The medium that a public id means.
///
/// # Errors
/// [`ApiError::NotFound`].
pub async fn find_by_public_id(transaction: &mut TenantTransaction, id: &PublicId) -> Result<Row, ApiError> {
    let row = select!("WHERE media.public_id = $1", id.as_str()).fetch_optional(transaction.connection()).await?;
    row.ok_or(ApiError::NotFound(MEDIUM))
}

/// The medium of this id, which nobody else changes before this transaction ends.
///
/// # Errors
/// [`ApiError::NotFound`] and [`ApiError::Changed`].
pub async fn lock(transaction: &mut TenantTransaction, id: Uuid, condition: Condition) -> Result<Row, ApiError> {
    let row = lock_all(transaction, &[id]).await?.pop().ok_or(ApiError::NotFound(MEDIUM))?;
    condition.check(Some(row.version))?;
    Ok(row)
}

/// Those of these media that are there, the newest first, which nobody else changes before this transaction ends. All are locked in one order,
/// so that two who do this do not wait for each other.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn lock_all(transaction: &mut TenantTransaction, ids: &[Uuid]) -> Result<Vec<Row>, ApiError> {
    let rows = select!("WHERE media.id = ANY ($1) ORDER BY media.id DESC FOR UPDATE OF media", ids);
    Ok(rows.fetch_all(transaction.connection()).await?)
}

/// Those of these media that are there, the newest first.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn find_all(transaction: &mut TenantTransaction, ids: &[Uuid]) -> Result<Vec<Row>, ApiError> {
    let rows = select!("WHERE media.id = ANY ($1) ORDER BY media.id DESC", ids);
    Ok(rows.fetch_all(transaction.connection()).await?)
}

/// Whether edges are told what a public id means now.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn is_published(transaction: &mut TenantTransaction, public_id: &str) -> Result<bool, ApiError> {
    let found = sqlx::query_scalar!(
        r#"SELECT NOT EXISTS (
             SELECT FROM pointers WHERE public_id = $1 AND (published < generation OR claim IS NOT NULL)
           ) AS "is_published!""#,
        public_id
    );
    Ok(found.fetch_one(transaction.connection()).await?)
}
