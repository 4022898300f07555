//! The end of uploads: what they leave in the store is deleted, and again when no URL is good any more; those that somebody died over
//! are gone on with.

use isolation::{Mandate, TenantKey, TenantTransaction};
use jobs::{JobId, JobState, JobsError};
use storage::{ListLimit, StorageError};
use uploads::incoming_prefix;
use uuid::Uuid;

use super::record::{self, State, Upload};
use super::{bucket, complete, whole_path};
use crate::media::Library;
use crate::problem::ApiError;

/// Most jobs that are put in, each because the one before has failed: for four days.
const ROUNDS_MAX: i16 = 8;

/// An upload that a worker has to look at.
#[derive(Debug)]
pub struct Due {
    tenant: TenantKey,
    id: Uuid,
    is_completing: bool,
}

/// Those that are due, at most so many. If nothing comes of one, it is due again later.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn due(library: &Library, page: i32) -> Result<Vec<Due>, ApiError> {
    let rows = sqlx::query!(
        r#"SELECT tenant_id AS "tenant_id!", id AS "id!", state AS "state!" FROM claim_due_uploads($1)"#,
        page
    );
    let rows = rows.fetch_all(library.database().across()).await?;
    let due = rows.into_iter().map(|row| Due {
        tenant: row.tenant_id.into(),
        id: row.id,
        is_completing: row.state == State::Completing.as_str(),
    });
    Ok(due.collect())
}

/// Does what an upload is due for.
///
/// # Errors
/// [`ApiError::Store`] and [`ApiError::Database`].
pub async fn see_to(library: &Library, due: &Due) -> Result<(), ApiError> {
    if due.is_completing && go_on(library, due.tenant, due.id).await? {
        return Ok(());
    }
    clear(library, due.tenant, due.id).await?;
    let mut transaction = library.database().begin(&Mandate::upkeep(due.tenant)).await?;
    // Until then, somebody may have a URL that is still good.
    sqlx::query!(
        "DELETE FROM uploads
         WHERE id = $1 AND state NOT IN ('open', 'completing') AND expires_at <= now() - interval '1 hour'",
        due.id
    )
    .execute(transaction.connection())
    .await?;
    sqlx::query!(
        "UPDATE uploads SET due_at = expires_at + interval '1 hour' WHERE id = $1 AND state NOT IN ('open', 'completing')",
        due.id
    )
    .execute(transaction.connection())
    .await?;
    // What it was put together of goes with it.
    sqlx::query!(
        "UPDATE uploads SET due_at = now(), state = 'expired' WHERE final_id = $1 AND state = 'completing'",
        due.id
    )
    .execute(transaction.connection())
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// Deletes all that has come of an upload.
///
/// # Errors
/// [`ApiError::Store`] and [`ApiError::Database`].
pub(super) async fn clear(library: &Library, tenant: TenantKey, id: Uuid) -> Result<(), ApiError> {
    let store = library.store()?;
    let mut transaction = library.database().begin(&Mandate::upkeep(tenant)).await?;
    let multipart = sqlx::query_scalar!("SELECT multipart FROM uploads WHERE id = $1", id);
    let multipart = multipart.fetch_optional(transaction.connection()).await?.flatten();
    transaction.commit().await?;
    if let (Some(bucket), Some(multipart)) = (bucket(store), multipart) {
        bucket.abort_parts(&whole_path(tenant, id), &multipart).await?;
    }
    let prefix = incoming_prefix(tenant.as_uuid(), id);
    loop {
        let page = match store.list(&prefix, None, ListLimit::MAX).await {
            Ok(page) => page,
            Err(StorageError::NotFound) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for entry in &page.entries {
            store.delete(&entry.path).await?;
        }
        if page.next.is_none() {
            return Ok(());
        }
    }
}

/// Has a worker complete an upload over which somebody has died or failed, unless one is at it; whether there is still anybody
/// to complete it for.
async fn go_on(library: &Library, tenant: TenantKey, id: Uuid) -> Result<bool, ApiError> {
    let mut transaction = library.database().begin(&Mandate::upkeep(tenant)).await?;
    let upload = record::lock(&mut transaction, id).await?;
    if upload.state != State::Completing {
        return Ok(true);
    }
    let is_there =
        sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM tenants WHERE id = $1) AS "is_there!""#, tenant.as_uuid());
    if !is_there.fetch_one(transaction.connection()).await? {
        sqlx::query!("UPDATE uploads SET state = 'expired' WHERE id = $1", id)
            .execute(transaction.connection())
            .await?;
        transaction.commit().await?;
        return Ok(false);
    }
    match job_of(&mut transaction, &upload).await? {
        Some(state) if !state.is_over() => {
            sqlx::query!("UPDATE uploads SET due_at = now() + interval '1 hour' WHERE id = $1", id)
                .execute(transaction.connection())
                .await?;
        }
        // Somebody did not want it, and may complete or abort it.
        Some(JobState::Cancelled) => {
            sqlx::query!("UPDATE uploads SET state = 'open', job_id = NULL, due_at = expires_at WHERE id = $1", id)
                .execute(transaction.connection())
                .await?;
        }
        _ => {
            // What has failed for an hour may well for longer: the next looks are after 2, 4, 8, 16 and 24 hours.
            let counted = sqlx::query!(
                "UPDATE uploads SET rounds = rounds + 1,
                     due_at = now() + least(interval '1 hour' * power(2, rounds), interval '1 day')
                 WHERE id = $1 AND rounds < $2",
                id,
                ROUNDS_MAX
            );
            if counted.execute(transaction.connection()).await?.rows_affected() == 0 {
                give_up(&mut transaction, id).await?;
                transaction.commit().await?;
                return Ok(false);
            }
            let job = complete::enqueue(&mut transaction, id).await?;
            sqlx::query!("UPDATE uploads SET job_id = $2 WHERE id = $1", id, job.0)
                .execute(transaction.connection())
                .await?;
        }
    }
    transaction.commit().await?;
    Ok(true)
}

/// Ends an upload that could not be completed however often it was tried.
async fn give_up(transaction: &mut TenantTransaction, id: Uuid) -> Result<(), ApiError> {
    sqlx::query!(
        "UPDATE uploads SET state = 'failed', job_id = NULL, error_code = coalesce(error_code, 'internal'),
             error = coalesce(error, 'no worker could complete it')
         WHERE id = $1",
        id
    )
    .execute(transaction.connection())
    .await?;
    let tenant = transaction.tenant();
    tracing::warn!(%tenant, upload = %id, rounds = ROUNDS_MAX, "an upload could not be completed, and is given up");
    Ok(())
}

/// Whether the job that was to complete an upload has ended without a medium: nobody is at it until somebody says what is to become of
/// it, or a worker looks.
///
/// # Errors
/// [`ApiError::Database`].
pub(super) async fn is_left(transaction: &mut TenantTransaction, upload: &Upload) -> Result<bool, ApiError> {
    let has_job = upload.state == State::Completing && upload.job.is_some();
    Ok(has_job && job_of(transaction, upload).await?.is_none_or(JobState::is_over))
}

/// How the job is that completes an upload. `None` where there is none, or none any more.
async fn job_of(transaction: &mut TenantTransaction, upload: &Upload) -> Result<Option<JobState>, ApiError> {
    let Some(job) = upload.job else { return Ok(None) };
    match jobs::find(transaction, JobId(job)).await {
        Ok(job) => Ok(Some(job.state)),
        Err(JobsError::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
