//! One writer at a time: whoever asks for an upload of tus, or brings bytes of it, ends who is writing it.
//!
//! A client comes back because its connection is dead, and the one who still waits at the other end of that cannot know. So it is
//! asked to stop, by the row, wherever it runs: it keeps what it has got and lets go. Who does not within a moment loses its place;
//! what it still stores is not counted, because each change of the row names the writer.

use std::time::Duration;

use isolation::{Database, Mandate, TenantKey};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::problem::ApiError;

/// How long a writer has to store what it has got.
const PATIENCE: Duration = Duration::from_secs(3);

/// Time between two looks at whether it has let go.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Makes this the writer of an upload that is open, as soon as there is no other. `None` only ends who writes.
///
/// Only whoever writes at the beginning is ended: one that comes meanwhile has asked later, and knows better.
///
/// # Errors
/// [`ApiError::UploadLocked`] when another one has become the writer; [`ApiError::Database`].
pub async fn take_over(
    database: &Database,
    tenant: TenantKey,
    upload: Uuid,
    writer: Option<Uuid>,
) -> Result<(), ApiError> {
    let until = Instant::now() + PATIENCE;
    let mut ended = None;
    loop {
        let mut transaction = database.begin(&Mandate::upkeep(tenant)).await?;
        let there = sqlx::query!(
            "SELECT writer, writer_wanted FROM uploads WHERE id = $1 AND state = 'open' FOR UPDATE",
            upload
        );
        // It is not open any more: whoever comes next is told so.
        let Some(there) = there.fetch_optional(transaction.connection()).await? else { return Ok(()) };
        let is_another = ended.is_some() && there.writer.is_some() && there.writer != ended;
        if is_another {
            return if writer.is_some() { Err(ApiError::UploadLocked) } else { Ok(()) };
        }
        if there.writer.is_none() || Instant::now() >= until {
            sqlx::query!("UPDATE uploads SET writer = $2, writer_wanted = false WHERE id = $1", upload, writer)
                .execute(transaction.connection())
                .await?;
            return Ok(transaction.commit().await?);
        }
        ended = there.writer;
        if !there.writer_wanted {
            sqlx::query!("UPDATE uploads SET writer_wanted = true WHERE id = $1", upload)
                .execute(transaction.connection())
                .await?;
        }
        // Nobody waits for the row while this one waits.
        transaction.commit().await?;
        sleep(LOOK_EVERY).await;
    }
}

/// Whether a writer may go on: it is still the one, and nobody else wants to be.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn is_free(database: &Database, tenant: TenantKey, upload: Uuid, writer: Uuid) -> Result<bool, ApiError> {
    let mut transaction = database.begin(&Mandate::upkeep(tenant)).await?;
    let free = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM uploads WHERE id = $1 AND writer = $2 AND NOT writer_wanted) AS "free!""#,
        upload,
        writer
    );
    Ok(free.fetch_one(transaction.connection()).await?)
}
