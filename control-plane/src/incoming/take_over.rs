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
/// # Errors
/// [`ApiError::Database`].
pub async fn take_over(
    database: &Database,
    tenant: TenantKey,
    upload: Uuid,
    writer: Option<Uuid>,
) -> Result<(), ApiError> {
    let until = Instant::now() + PATIENCE;
    loop {
        let is_late = Instant::now() >= until;
        let mut transaction = database.begin(&Mandate::upkeep(tenant)).await?;
        let taken = sqlx::query!(
            "UPDATE uploads SET writer = $2, writer_wanted = false WHERE id = $1 AND state = 'open' AND (writer IS NULL OR $3)",
            upload,
            writer,
            is_late
        );
        if taken.execute(transaction.connection()).await?.rows_affected() == 1 {
            return Ok(transaction.commit().await?);
        }
        let asked = sqlx::query_scalar!("SELECT writer_wanted FROM uploads WHERE id = $1 AND state = 'open'", upload);
        match asked.fetch_optional(transaction.connection()).await? {
            // It is not open any more: whoever comes next is told so.
            None => return Ok(()),
            Some(true) => {}
            Some(false) => {
                sqlx::query!("UPDATE uploads SET writer_wanted = true WHERE id = $1", upload)
                    .execute(transaction.connection())
                    .await?;
            }
        }
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
