//! The row of a medium: made, found, changed, deleted. Every change ends with the pointers that it concerns.

use std::collections::HashMap;

use isolation::{Actor, Author, DatabaseError, Mandate, TenantKey, TenantTransaction};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use uploads::PublicId;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Library;
use super::content::Kind;
use super::fields::Fields;
use super::intake::{Intake, Taken};
use super::publish::{Published, hexadecimal};
use super::review::{begin, to_json};
use super::state::MediaState;
use crate::etag::Condition;
use crate::events::{EventKind, emit};
use crate::problem::ApiError;
use crate::workflows::{Occasion, Scan};

/// What is called when there is none.
const MEDIUM: &str = "medium";

/// A medium, as the database has it.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its unchanging id.
    pub id: Uuid,
    public_id: String,
    folder: Option<String>,
    kind: String,
    state: String,
    /// Grows with each change.
    pub version: i64,
    content_type: String,
    bytes: i64,
    sha256: Vec<u8>,
    width: Option<i32>,
    height: Option<i32>,
    filename: Option<String>,
    tags: Vec<String>,
    metadata: Value,
    expires_at: Option<OffsetDateTime>,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    scan: Option<Value>,
    replacement: Option<Value>,
    published: bool,
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
}

/// Media, by the rest of a statement.
macro_rules! select {
    ($rest:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            Row,
            r#"SELECT media.id, media.public_id, media.folder, media.kind, media.state, media.version, media.content_type,
                 media.bytes, media.sha256, media.width, media.height, media.filename, media.tags, media.metadata,
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

/// Which media a list has.
#[derive(Debug, Default)]
pub struct Filter {
    /// Those in this folder, and in none within it; `Some(None)` is the top.
    pub folder: Option<Option<String>>,
    /// Those with this tag.
    pub tag: Option<String>,
    /// Those of this kind.
    pub kind: Option<Kind>,
    /// Those whose public id starts so.
    pub public_id_prefix: Option<String>,
    /// Those in this state.
    pub state: Option<MediaState>,
    /// Those with a replacement in this state.
    pub replacement: Option<MediaState>,
}

/// The newest media after this one, at most so many. What a list goes by first has an index, the rest is left out on the way.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn list(
    transaction: &mut TenantTransaction,
    filter: &Filter,
    after: Option<Uuid>,
    count: i64,
) -> Result<Vec<Row>, ApiError> {
    // Nothing is after the greatest id.
    let (after, kind) = (after.unwrap_or(Uuid::max()), filter.kind.map(Kind::as_str));
    let (folder, is_top) = (filter.folder.clone().flatten(), filter.folder == Some(None));
    let prefix = filter.public_id_prefix.as_deref();
    let (state, replacement) = (filter.state.map(MediaState::as_str), filter.replacement.map(MediaState::as_str));
    let connection = transaction.connection();
    let rows = if let Some(replacement) = replacement {
        let rows = select!(
            "JOIN replacements ON replacements.tenant_id = media.tenant_id AND replacements.media_id = media.id
             WHERE replacements.state = $1 AND replacements.media_id < $2
                 AND ($3::text IS NULL OR media.folder = $3) AND (NOT $4 OR media.folder IS NULL)
                 AND ($5::text IS NULL OR media.kind = $5) AND ($6::text IS NULL OR starts_with(media.public_id, $6))
                 AND ($7::text IS NULL OR media.state = $7) AND ($8::text IS NULL OR $8 = ANY (media.tags))
             ORDER BY replacements.media_id DESC LIMIT $9",
            replacement,
            after,
            folder,
            is_top,
            kind,
            prefix,
            state,
            filter.tag,
            count
        );
        rows.fetch_all(connection).await?
    } else if let Some(tag) = &filter.tag {
        let rows = select!(
            "JOIN media_tags ON media_tags.tenant_id = media.tenant_id AND media_tags.media_id = media.id
             WHERE media_tags.tag = $1 AND media_tags.media_id < $2
                 AND ($3::text IS NULL OR media.folder = $3) AND (NOT $4 OR media.folder IS NULL)
                 AND ($5::text IS NULL OR media.kind = $5) AND ($6::text IS NULL OR starts_with(media.public_id, $6))
                 AND ($7::text IS NULL OR media.state = $7)
             ORDER BY media_tags.media_id DESC LIMIT $8",
            tag,
            after,
            folder,
            is_top,
            kind,
            prefix,
            state,
            count
        );
        rows.fetch_all(connection).await?
    } else if let Some(prefix) = prefix {
        let rows = select!(
            "WHERE media.public_id BETWEEN $1 AND $1 || repeat(chr(1114111), 128) AND starts_with(media.public_id, $1)
                 AND media.id < $2
                 AND ($3::text IS NULL OR media.folder = $3) AND (NOT $4 OR media.folder IS NULL)
                 AND ($5::text IS NULL OR media.kind = $5) AND ($6::text IS NULL OR media.state = $6)
             ORDER BY media.id DESC LIMIT $7",
            prefix,
            after,
            folder,
            is_top,
            kind,
            state,
            count
        );
        rows.fetch_all(connection).await?
    } else if let Some(folder) = folder {
        let rows = select!(
            "WHERE media.folder = $1 AND media.id < $2 AND ($3::text IS NULL OR media.kind = $3)
                 AND ($4::text IS NULL OR media.state = $4)
             ORDER BY media.id DESC LIMIT $5",
            folder,
            after,
            kind,
            state,
            count
        );
        rows.fetch_all(connection).await?
    } else if is_top {
        let rows = select!(
            "WHERE media.folder IS NULL AND media.id < $1 AND ($2::text IS NULL OR media.kind = $2)
                 AND ($3::text IS NULL OR media.state = $3)
             ORDER BY media.id DESC LIMIT $4",
            after,
            kind,
            state,
            count
        );
        rows.fetch_all(connection).await?
    } else if let Some(state) = state {
        let rows = select!(
            "WHERE media.state = $1 AND media.id < $2 AND ($3::text IS NULL OR media.kind = $3)
             ORDER BY media.id DESC LIMIT $4",
            state,
            after,
            kind,
            count
        );
        rows.fetch_all(connection).await?
    } else if let Some(kind) = kind {
        let rows =
            select!("WHERE media.kind = $1 AND media.id < $2 ORDER BY media.id DESC LIMIT $3", kind, after, count);
        rows.fetch_all(connection).await?
    } else {
        let rows = select!("WHERE media.id < $1 ORDER BY media.id DESC LIMIT $2", after, count);
        rows.fetch_all(connection).await?
    };
    Ok(rows)
}

/// The medium of this id.
///
/// # Errors
/// [`ApiError::NotFound`].
pub async fn find(transaction: &mut TenantTransaction, id: Uuid) -> Result<Row, ApiError> {
    let row = select!("WHERE media.id = $1", id).fetch_optional(transaction.connection()).await?;
    row.ok_or(ApiError::NotFound(MEDIUM))
}

/// Those of these media that are there.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn find_all(transaction: &mut TenantTransaction, ids: &[Uuid]) -> Result<HashMap<Uuid, Row>, ApiError> {
    let rows = select!("WHERE media.id = ANY ($1)", ids).fetch_all(transaction.connection()).await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

/// The medium that a public id means.
///
/// # Errors
/// [`ApiError::NotFound`].
pub async fn find_by_public_id(transaction: &mut TenantTransaction, id: &PublicId) -> Result<Row, ApiError> {
    let row = select!("WHERE media.public_id = $1", id.as_str()).fetch_optional(transaction.connection()).await?;
    row.ok_or(ApiError::NotFound(MEDIUM))
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

/// What is kept of a new medium.
#[derive(Debug)]
pub struct NewMedia<'a> {
    /// Where its bytes are.
    pub intake: &'a Intake<'a>,
    /// What they are.
    pub taken: &'a Taken,
    /// What is said of it.
    pub fields: &'a Fields,
    /// What its file was called.
    pub filename: Option<&'a str>,
}

/// Makes a medium, if `transaction` commits; then [`published`] has to follow.
///
/// # Errors
/// [`ApiError::Exists`] when the public id is taken, and those of [`Intake::settle`].
pub async fn insert(transaction: &mut TenantTransaction, new: &NewMedia<'_>) -> Result<Row, ApiError> {
    let NewMedia { intake, taken, fields, filename } = new;
    let public_id = match &fields.public_id {
        Some(id) => id.clone(),
        None => PublicId::new(intake.media.to_string()).map_err(|_| ApiError::Internal)?,
    };
    intake.settle(transaction).await?;
    make_folder(transaction, fields.folder.as_deref()).await?;
    let scan = begin(transaction, (intake.media, taken.revision), taken.content.kind, Occasion::Created).await?;
    let state = if scan.as_ref().is_some_and(Scan::holds) { MediaState::Quarantined } else { MediaState::Ready };
    let (tenant, metadata) = (transaction.tenant().as_uuid(), Value::Object(fields.metadata.clone()));
    sqlx::query!(
        "INSERT INTO media (tenant_id, id, public_id, folder, kind, revision, content_type, bytes, sha256, width, height,
             filename, tags, metadata, expires_at, state, scan)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
        tenant,
        intake.media,
        public_id.as_str(),
        fields.folder,
        taken.content.kind.as_str(),
        taken.revision,
        taken.content.content_type,
        taken.bytes,
        &taken.sha256[..],
        taken.size.map(|size| size.0),
        taken.size.map(|size| size.1),
        *filename,
        &fields.tags[..],
        metadata,
        fields.expires_at,
        state.as_str(),
        scan.as_ref().map(to_json).transpose()?
    )
    .execute(transaction.connection())
    .await
    .map_err(refused)?;
    let row = find(transaction, intake.media).await?;
    tell(intake.library, transaction, EventKind::MediaCreated, row.clone()).await?;
    if state == MediaState::Quarantined {
        tell(intake.library, transaction, EventKind::MediaQuarantined, row.clone()).await?;
    }
    Ok(row)
}

/// Makes a medium.
///
/// # Errors
/// Those of [`insert`].
pub async fn create(library: &Library, mandate: &Mandate, new: &NewMedia<'_>) -> Result<Row, ApiError> {
    let mut transaction = library.database().begin(mandate).await?;
    let row = insert(&mut transaction, new).await?;
    transaction.commit().await?;
    published(library, mandate.tenant, row, None).await
}

/// What becomes of a medium; what is `None` stays as it is.
#[derive(Debug, Default)]
pub struct Change {
    /// Another name in URLs; the old one means nothing any more.
    pub public_id: Option<PublicId>,
    /// Another folder; `Some(None)` is the top.
    pub folder: Option<Option<String>>,
    /// Other tags.
    pub tags: Option<Vec<String>>,
    /// Other metadata.
    pub metadata: Option<Map<String, Value>>,
    /// Another end, or none.
    pub expires_at: Option<Option<OffsetDateTime>>,
    /// Another name for people, or none.
    pub filename: Option<Option<String>>,
}

/// Changes what is said of a medium. `change` is made of what it is, under a lock; `None` changes nothing.
///
/// # Errors
/// [`ApiError::NotFound`], [`ApiError::Changed`], and [`ApiError::Exists`] when the public id is taken.
pub async fn change(
    library: &Library,
    mandate: &Mandate,
    id: Uuid,
    condition: Condition,
    change: impl FnOnce(&[String]) -> Result<Option<Change>, ApiError> + Send,
) -> Result<Row, ApiError> {
    let mut transaction = library.database().begin(mandate).await?;
    let before = lock(&mut transaction, id, condition).await?;
    let Some(change) = change(&before.tags)? else { return find(&mut transaction, id).await };
    if let Some(folder) = &change.folder {
        make_folder(&mut transaction, folder.as_deref()).await?;
    }
    sqlx::query!(
        "UPDATE media SET
             public_id = coalesce($2, public_id),
             folder = CASE WHEN $3 THEN $4 ELSE folder END,
             tags = coalesce($5, tags),
             metadata = coalesce($6, metadata),
             expires_at = CASE WHEN $7 THEN $8 ELSE expires_at END,
             filename = CASE WHEN $9 THEN $10 ELSE filename END,
             version = version + 1,
             updated_at = now()
         WHERE id = $1",
        id,
        change.public_id.as_ref().map(PublicId::as_str),
        change.folder.is_some(),
        change.folder.flatten(),
        change.tags.as_deref(),
        change.metadata.map(Value::Object),
        change.expires_at.is_some(),
        change.expires_at.flatten(),
        change.filename.is_some(),
        change.filename.flatten()
    )
    .execute(transaction.connection())
    .await
    .map_err(refused)?;
    let row = find(&mut transaction, id).await?;
    tell(library, &mut transaction, EventKind::MediaUpdated, row.clone()).await?;
    transaction.commit().await?;
    published(library, mandate.tenant, row, Some(before.public_id)).await
}

/// Deletes a medium. Its public id means nothing any more; its bytes go later.
///
/// # Errors
/// [`ApiError::NotFound`] and [`ApiError::Changed`].
pub async fn delete(
    library: &Library,
    mandate: &Mandate,
    id: Uuid,
    condition: Condition,
) -> Result<Published, ApiError> {
    library.store()?;
    let mut transaction = library.database().begin(mandate).await?;
    let before = lock(&mut transaction, id, condition).await?;
    let row = find(&mut transaction, id).await?;
    sqlx::query!("DELETE FROM media WHERE id = $1", id).execute(transaction.connection()).await?;
    tell(library, &mut transaction, EventKind::MediaDeleted, row).await?;
    transaction.commit().await?;
    gone(library, mandate.tenant, before.public_id).await
}

/// Deletes a medium if its time is over.
///
/// # Errors
/// [`ApiError::NotFound`] when there is none whose time is.
pub async fn delete_expired(library: &Library, tenant: TenantKey, id: Uuid) -> Result<Published, ApiError> {
    library.store()?;
    let mandate = Mandate::new(tenant, &Author::new(Actor::Worker, "expiry"));
    let mut transaction = library.database().begin(&mandate).await?;
    let before = lock(&mut transaction, id, Condition::None).await?;
    let row = find(&mut transaction, id).await?;
    let deleted = sqlx::query!("DELETE FROM media WHERE id = $1 AND expires_at <= now()", id)
        .execute(transaction.connection())
        .await?;
    if deleted.rows_affected() == 0 {
        return Err(ApiError::NotFound(MEDIUM));
    }
    tell(library, &mut transaction, EventKind::MediaExpired, row).await?;
    transaction.commit().await?;
    gone(library, tenant, before.public_id).await
}

/// Tells of what has happened to a medium, which is as this row says, or was before it was deleted.
pub(super) async fn tell(
    library: &Library,
    transaction: &mut TenantTransaction,
    kind: EventKind,
    row: Row,
) -> Result<(), ApiError> {
    let slug = sqlx::query_scalar!("SELECT slug FROM tenants").fetch_one(transaction.connection()).await?;
    let mut data = serde_json::to_value(row.seen_by(library, &slug)).map_err(|_| ApiError::Internal)?;
    // Of no meaning by the time that it is heard.
    data.as_object_mut().and_then(|medium| medium.remove("published"));
    emit(transaction, kind, data).await?;
    Ok(())
}

async fn gone(library: &Library, tenant: TenantKey, public_id: String) -> Result<Published, ApiError> {
    let public_id = PublicId::new(public_id).map_err(|_| ApiError::Internal)?;
    Ok(library.publisher()?.publish(tenant, &public_id).await)
}

/// What the statements of a change need to know of the medium before.
pub(super) struct Before {
    public_id: String,
    tags: Vec<String>,
    /// Whether edges might serve it.
    pub(super) is_served: bool,
}

/// Keeps others from changing it before this transaction ends.
pub(super) async fn lock(
    transaction: &mut TenantTransaction,
    id: Uuid,
    condition: Condition,
) -> Result<Before, ApiError> {
    let found = sqlx::query!(
        r#"SELECT version, public_id, tags, is_served(state) AS "is_served!" FROM media WHERE id = $1 FOR UPDATE"#,
        id
    )
    .fetch_optional(transaction.connection())
    .await?
    .ok_or(ApiError::NotFound(MEDIUM))?;
    condition.check(Some(found.version))?;
    Ok(Before { public_id: found.public_id, tags: found.tags, is_served: found.is_served })
}

/// The row after its pointer was written, and that of the public id that it had before.
///
/// # Errors
/// [`ApiError::NoStore`].
pub async fn published(
    library: &Library,
    tenant: TenantKey,
    mut row: Row,
    before: Option<String>,
) -> Result<Row, ApiError> {
    let publisher = library.publisher()?;
    row.published = true;
    for id in before.into_iter().filter(|before| *before != row.public_id).chain([row.public_id.clone()]) {
        let public_id = PublicId::new(id).map_err(|_| ApiError::Internal)?;
        row.published &= publisher.publish(tenant, &public_id).await == Published::Yes;
    }
    Ok(row)
}

/// Makes a folder, and those that it is in.
pub async fn make_folder(transaction: &mut TenantTransaction, path: Option<&str>) -> Result<(), ApiError> {
    let Some(path) = path else { return Ok(()) };
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    let all: Vec<String> = ends.map(|end| path[..end].to_owned()).collect();
    let tenant = transaction.tenant().as_uuid();
    sqlx::query!(
        "INSERT INTO folders (tenant_id, path) SELECT $1, path FROM unnest($2::text[]) AS paths (path)
         ON CONFLICT DO NOTHING",
        tenant,
        &all[..]
    )
    .execute(transaction.connection())
    .await
    .map_err(refused)?;
    Ok(())
}

/// What a constraint says.
fn refused(error: sqlx::Error) -> ApiError {
    match error.into() {
        DatabaseError::Exists { constraint } if constraint == "media_public_id" => {
            ApiError::Exists("medium of this public id")
        }
        // The folder was deleted at this moment.
        DatabaseError::Refers { .. } => ApiError::Conflict,
        error => error.into(),
    }
}
