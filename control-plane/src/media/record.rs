//! Media are made, changed, deleted. Every change ends with the pointers that it concerns.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use isolation::{Actor, Author, DatabaseError, Mandate, TenantKey, TenantTransaction};
use serde::Serialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use uploads::PublicId;
use uuid::Uuid;

use super::Library;
use super::fields::Fields;
use super::folders::make_folder;
use super::intake::{Intake, Taken};
use super::publish::Published;
use super::review::{begin, to_json};
use super::row::{Row, find, find_all, lock};
use super::state::MediaState;
use crate::etag::Condition;
use crate::events::{EventKind, emit};
use crate::problem::ApiError;
use crate::workflows::{Occasion, Scan};

/// Pointers that are written at the same time.
const POINTERS_AT_ONCE: usize = 8;

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
        &taken.content.content_type,
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

/// Changes what is said of a medium.
///
/// # Errors
/// [`ApiError::NotFound`], [`ApiError::Changed`], and [`ApiError::Exists`] when the public id is taken.
pub async fn change(
    library: &Library,
    mandate: &Mandate,
    id: Uuid,
    condition: Condition,
    change: Change,
) -> Result<Row, ApiError> {
    let mut transaction = library.database().begin(mandate).await?;
    let before = lock(&mut transaction, id, condition).await?;
    let before_id = before.public_id.clone();
    let row = rewrite(library, &mut transaction, &[(before, change)]).await?.pop().ok_or(ApiError::Internal)?;
    transaction.commit().await?;
    published(library, mandate.tenant, row, Some(before_id)).await
}

/// What a row of `media` becomes. What may be nothing is there as it is to be; of the rest, what is not there stays as it is.
#[derive(Serialize)]
struct Rewritten<'a> {
    id: Uuid,
    public_id: Option<&'a PublicId>,
    folder: Option<&'a str>,
    tags: Option<&'a [String]>,
    metadata: Option<&'a Map<String, Value>>,
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    filename: Option<&'a str>,
}

impl<'a> Rewritten<'a> {
    fn of((row, change): &'a (Row, Change)) -> Self {
        Self {
            id: row.id,
            public_id: change.public_id.as_ref(),
            folder: change.folder.as_ref().unwrap_or(&row.folder).as_deref(),
            tags: change.tags.as_deref(),
            metadata: change.metadata.as_ref(),
            expires_at: change.expires_at.unwrap_or(row.expires_at),
            filename: change.filename.as_ref().unwrap_or(&row.filename).as_deref(),
        }
    }
}

/// Changes what is said of media that are [locked](lock), and tells of it, if `transaction` commits; the media as they are then, the newest
/// first. It is one statement, and should be the transaction's only one that changes media: what counts them is locked from then on.
///
/// # Errors
/// [`ApiError::Exists`] when a public id is taken, [`ApiError::Conflict`] when a folder was deleted at this moment.
pub async fn rewrite(
    library: &Library,
    transaction: &mut TenantTransaction,
    changes: &[(Row, Change)],
) -> Result<Vec<Row>, ApiError> {
    let folders: BTreeSet<_> = changes.iter().filter_map(|(_, change)| change.folder.as_ref()?.as_deref()).collect();
    for folder in folders {
        make_folder(transaction, Some(folder)).await?;
    }
    let rewritten: Vec<_> = changes.iter().map(Rewritten::of).collect();
    sqlx::query!(
        "UPDATE media SET
             public_id = coalesce(new.public_id, media.public_id),
             folder = new.folder,
             tags = coalesce(new.tags, media.tags),
             metadata = coalesce(new.metadata, media.metadata),
             expires_at = new.expires_at,
             filename = new.filename,
             version = media.version + 1,
             updated_at = now()
         FROM jsonb_to_recordset($1) AS new (
             id uuid, public_id text, folder text, tags text[], metadata jsonb, expires_at timestamptz, filename text)
         WHERE media.id = new.id",
        serde_json::to_value(&rewritten).map_err(|_| ApiError::Internal)?
    )
    .execute(transaction.connection())
    .await
    .map_err(refused)?;
    let ids: Vec<_> = changes.iter().map(|(row, _)| row.id).collect();
    let rows = find_all(transaction, &ids).await?;
    tell_all(library, transaction, EventKind::MediaUpdated, &rows).await?;
    Ok(rows)
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
    let row = lock(&mut transaction, id, condition).await?;
    remove(library, &mut transaction, EventKind::MediaDeleted, std::slice::from_ref(&row)).await?;
    transaction.commit().await?;
    gone(library, mandate.tenant, row.public_id).await
}

/// Deletes a medium if its time is over.
///
/// # Errors
/// [`ApiError::NotFound`] when there is none whose time is.
pub async fn delete_expired(library: &Library, tenant: TenantKey, id: Uuid) -> Result<Published, ApiError> {
    library.store()?;
    let mandate = Mandate::new(tenant, &Author::new(Actor::Worker, "expiry"));
    let mut transaction = library.database().begin(&mandate).await?;
    let row = lock(&mut transaction, id, Condition::None).await?;
    let is_over = sqlx::query_scalar!(r#"SELECT expires_at <= now() AS "is_over" FROM media WHERE id = $1"#, id);
    if is_over.fetch_one(transaction.connection()).await? != Some(true) {
        return Err(ApiError::NotFound("medium"));
    }
    remove(library, &mut transaction, EventKind::MediaExpired, std::slice::from_ref(&row)).await?;
    transaction.commit().await?;
    gone(library, tenant, row.public_id).await
}

/// Deletes media that are [locked](lock), and tells of it as this kind of event, if `transaction` commits.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn remove(
    library: &Library,
    transaction: &mut TenantTransaction,
    kind: EventKind,
    rows: &[Row],
) -> Result<(), ApiError> {
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    sqlx::query!("DELETE FROM media WHERE id = ANY ($1)", &ids).execute(transaction.connection()).await?;
    tell_all(library, transaction, kind, rows).await
}

/// Tells of what has happened to a medium, which is as this row says, or was before it was deleted.
pub(super) async fn tell(
    library: &Library,
    transaction: &mut TenantTransaction,
    kind: EventKind,
    row: Row,
) -> Result<(), ApiError> {
    tell_all(library, transaction, kind, &[row]).await
}

/// The same of several.
async fn tell_all(
    library: &Library,
    transaction: &mut TenantTransaction,
    kind: EventKind,
    rows: &[Row],
) -> Result<(), ApiError> {
    let slug = sqlx::query_scalar!("SELECT slug FROM tenants").fetch_one(transaction.connection()).await?;
    for row in rows {
        let mut data = serde_json::to_value(row.clone().seen_by(library, &slug)).map_err(|_| ApiError::Internal)?;
        // Of no meaning by the time that it is heard.
        data.as_object_mut().and_then(|medium| medium.remove("published"));
        emit(transaction, kind, data).await?;
    }
    Ok(())
}

async fn gone(library: &Library, tenant: TenantKey, public_id: String) -> Result<Published, ApiError> {
    let public_id = PublicId::new(public_id).map_err(|_| ApiError::Internal)?;
    Ok(library.publisher()?.publish(tenant, &public_id).await)
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

/// Writes the pointers of public ids whose meaning was changed just now. Once one cannot be written, the others are left to the rounds of the
/// workers, so that nobody waits for a store that is down.
///
/// # Errors
/// [`ApiError::NoStore`].
pub async fn publish_all(library: &Library, tenant: TenantKey, public_ids: &[PublicId]) -> Result<Published, ApiError> {
    let publisher = &library.publisher()?;
    for some in public_ids.chunks(POINTERS_AT_ONCE) {
        let written = join_all(some.iter().map(async |id| publisher.publish(tenant, id).await)).await;
        if written.contains(&Published::Later) {
            return Ok(Published::Later);
        }
    }
    Ok(Published::Yes)
}

/// What a constraint says.
pub(super) fn refused(error: sqlx::Error) -> ApiError {
    match error.into() {
        DatabaseError::Exists { constraint } if constraint == "media_public_id" => {
            ApiError::Exists("medium of this public id")
        }
        // The folder was deleted at this moment.
        DatabaseError::Refers { .. } => ApiError::Conflict,
        error => error.into(),
    }
}
