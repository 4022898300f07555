//! Other bytes for a medium: in the place of those before at once, or beside them until they have passed.

use isolation::{Mandate, TenantTransaction};
use uuid::Uuid;

use super::Library;
use super::intake::{Intake, Taken};
use super::record;
use super::review::{begin, to_json, touch};
use super::row::{self, Row};
use super::state::MediaState;
use crate::etag::Condition;
use crate::events::EventKind;
use crate::problem::ApiError;
use crate::workflows::{Occasion, Scan};

/// Gives a medium other bytes.
///
/// # Errors
/// Those of [`replace_in`].
pub async fn replace(
    library: &Library,
    mandate: &Mandate,
    condition: Condition,
    intake: &Intake<'_>,
    taken: &Taken,
    filename: Option<&str>,
) -> Result<Row, ApiError> {
    let mut transaction = library.database().begin(mandate).await?;
    let row = replace_in(&mut transaction, condition, intake, taken, filename).await?;
    transaction.commit().await?;
    record::published(library, mandate.tenant, row, None).await
}

/// Gives a medium other bytes, if `transaction` commits; then [`record::published`] has to follow. Those that have to wait do so beside the
/// ones that are served.
///
/// # Errors
/// As [`record::change`], and those of [`Intake::settle`].
pub async fn replace_in(
    transaction: &mut TenantTransaction,
    condition: Condition,
    intake: &Intake<'_>,
    taken: &Taken,
    filename: Option<&str>,
) -> Result<Row, ApiError> {
    let media = intake.media;
    let before = row::lock(transaction, media, condition).await?;
    intake.settle(transaction).await?;
    let scan = begin(transaction, (media, taken.revision), taken.content.kind, Occasion::Replaced).await?;
    let waits = scan.as_ref().is_some_and(Scan::holds);
    match scan {
        Some(scan) if waits && before.state().is_some_and(MediaState::is_served) => {
            wait_beside(transaction, media, taken, filename, &scan).await?
        }
        scan => take_place(transaction, media, taken, filename, scan.as_ref()).await?,
    }
    let row = row::find(transaction, media).await?;
    let kind = if waits { EventKind::MediaQuarantined } else { EventKind::MediaReplaced };
    record::tell(intake.library, transaction, kind, row.clone()).await?;
    Ok(row)
}

/// Lets a medium lead to these bytes, and forgets what was to take the place of those before.
async fn take_place(
    transaction: &mut TenantTransaction,
    media: Uuid,
    taken: &Taken,
    filename: Option<&str>,
    scan: Option<&Scan>,
) -> Result<(), ApiError> {
    sqlx::query!(
        "WITH superseded AS (DELETE FROM replacements WHERE media_id = $1 RETURNING 1)
         UPDATE media SET kind = $2, revision = $3, content_type = $4, bytes = $5, sha256 = $6, width = $7, height = $8,
             filename = coalesce($9, filename), stored_at = now(), version = version + 1, updated_at = now(), scan = $10,
             state = CASE WHEN $11 THEN 'quarantined' WHEN is_served(state) THEN state ELSE 'ready' END
         FROM (SELECT count(*) FROM superseded) AS before_it
         WHERE id = $1",
        media,
        taken.content.kind.as_str(),
        taken.revision,
        &taken.content.content_type,
        taken.bytes,
        &taken.sha256[..],
        taken.size.map(|size| size.0),
        taken.size.map(|size| size.1),
        filename,
        scan.map(to_json).transpose()?,
        scan.is_some_and(Scan::holds)
    )
    .execute(transaction.connection())
    .await?;
    Ok(())
}

/// Keeps bytes beside those of a medium until they have passed. Others that waited are forgotten.
async fn wait_beside(
    transaction: &mut TenantTransaction,
    media: Uuid,
    taken: &Taken,
    filename: Option<&str>,
    scan: &Scan,
) -> Result<(), ApiError> {
    let tenant = transaction.tenant().as_uuid();
    sqlx::query!(
        "INSERT INTO replacements (tenant_id, media_id, kind, revision, content_type, bytes, sha256, width, height, filename, scan)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         ON CONFLICT (tenant_id, media_id) DO UPDATE SET
             state = 'quarantined', kind = $3, revision = $4, content_type = $5, bytes = $6, sha256 = $7, width = $8,
             height = $9, filename = $10, scan = $11, stored_at = now()",
        tenant,
        media,
        taken.content.kind.as_str(),
        taken.revision,
        &taken.content.content_type,
        taken.bytes,
        &taken.sha256[..],
        taken.size.map(|size| size.0),
        taken.size.map(|size| size.1),
        filename,
        to_json(scan)?
    )
    .execute(transaction.connection())
    .await?;
    touch(transaction, media).await
}
