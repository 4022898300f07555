//! What has to be done again and again about media: pointers that are not written yet, objects that nothing leads to, media whose
//! time is over, uploads that are.
//!
//! Each round takes what is due until nothing is, a page at a time; what fails is due again later. Must not hold a row of the
//! database locked while the store is asked.

use futures_util::{StreamExt, stream};
use uploads::PublicId;

use crate::incoming;
use crate::media::{self, Library, Published};
use crate::problem::ApiError;

/// Things that are taken in one go.
const PAGE: i32 = 100;

/// Things that are done at the same time.
const AT_ONCE: usize = 3;

/// Pages of a round: what one tenant has left behind must not keep the other work waiting, nor what is due for ever because it
/// fails at once.
const PAGES_MAX: usize = 5;

/// What a round has done.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Things that were done.
    pub done: usize,
    /// Things that have to be tried again.
    pub failed: usize,
}

impl Round {
    /// Does things, a few at the same time, and counts them by whether they were done.
    async fn add(&mut self, things: impl Iterator<Item = impl Future<Output = bool>>) {
        let mut outcomes = stream::iter(things).buffer_unordered(AT_ONCE);
        while let Some(done) = outcomes.next().await {
            *(if done { &mut self.done } else { &mut self.failed }) += 1;
        }
    }
}

/// Writes pointers whose writer has died or failed.
///
/// # Errors
/// When the database cannot be asked what is due.
pub async fn publish(library: &Library) -> Result<Round, ApiError> {
    let publisher = &library.publisher()?;
    let mut round = Round::default();
    for _ in 0..PAGES_MAX {
        let due = sqlx::query!(
            r#"SELECT tenant_id AS "tenant_id!", public_id AS "public_id!", claim AS "claim!"
               FROM claim_unpublished_pointers($1)"#,
            PAGE
        )
        .fetch_all(library.database().across())
        .await?;
        let writes = due.iter().map(async |pointer| {
            let tenant = pointer.tenant_id.into();
            let written = match PublicId::new(pointer.public_id.as_str()) {
                Ok(public_id) => publisher.write(tenant, &public_id, pointer.claim).await,
                Err(_) => Err(ApiError::Internal),
            };
            told(written.map(|published| published == Published::Yes), "a pointer could not be written")
        });
        round.add(writes).await;
        if due.len() < PAGE as usize {
            break;
        }
    }
    Ok(round)
}

/// Deletes objects that nothing leads to.
///
/// # Errors
/// When the database cannot be asked what is due.
pub async fn sweep(library: &Library) -> Result<Round, ApiError> {
    library.store()?;
    let mut round = Round::default();
    for _ in 0..PAGES_MAX {
        let due = sqlx::query!(
            r#"SELECT tenant_id AS "tenant_id!", media_id AS "media_id!", revision AS "revision!" FROM claim_due_objects($1)"#,
            PAGE
        )
        .fetch_all(library.database().across())
        .await?;
        let sweeps = due.iter().map(async |object| {
            let swept = media::sweep(library, (object.tenant_id, object.media_id, object.revision)).await;
            told(swept.map(|()| true), "an object could not be deleted")
        });
        round.add(sweeps).await;
        if due.len() < PAGE as usize {
            break;
        }
    }
    Ok(round)
}

/// Deletes media whose time is over.
///
/// # Errors
/// When the database cannot be asked.
pub async fn expire(library: &Library) -> Result<Round, ApiError> {
    library.store()?;
    let mut round = Round::default();
    for _ in 0..PAGES_MAX {
        let due = sqlx::query!(r#"SELECT tenant_id AS "tenant_id!", id AS "id!" FROM expired_media($1)"#, PAGE)
            .fetch_all(library.database().across())
            .await?;
        for medium in &due {
            match media::delete_expired(library, medium.tenant_id.into(), medium.id).await {
                Ok(Published::Yes) => round.done += 1,
                // Deleted, but the store cannot be written to at the moment: the others can wait for it.
                Ok(Published::Later) => {
                    round.done += 1;
                    return Ok(round);
                }
                // Somebody else was first, or gave it more time.
                Err(ApiError::NotFound(_)) => {}
                // It would be found again at once.
                Err(error) => return Err(error),
            }
        }
        if due.len() < PAGE as usize {
            break;
        }
    }
    Ok(round)
}

/// Ends uploads that are over, and goes on with those that somebody has died over.
///
/// # Errors
/// When the database cannot be asked what is due.
pub async fn end_uploads(library: &Library) -> Result<Round, ApiError> {
    library.store()?;
    let mut round = Round::default();
    for _ in 0..PAGES_MAX {
        let due = incoming::due(library, PAGE).await?;
        let ends = due
            .iter()
            .map(async |due| told(incoming::see_to(library, due).await.map(|()| true), "an upload could not be ended"));
        round.add(ends).await;
        if due.len() < PAGE as usize {
            break;
        }
    }
    Ok(round)
}

/// Tells of a failure, once.
fn told(outcome: Result<bool, ApiError>, what: &'static str) -> bool {
    match outcome {
        Ok(done) => done,
        Err(error) => {
            tracing::warn!(cause = error.cause(), "{what}: {error}");
            false
        }
    }
}
