//! The number of the newest change, as far as this process knows: what waiting edges wait for.
//!
//! Postgres tells of each (`LISTEN`), on a connection of its own; it is asked every now and then as well, because what is told while
//! the connection is away is lost. Must not be trusted for more than waking up: what has changed is read from the database.

use std::time::Duration;

use isolation::{Database, DatabaseError};
use sqlx::postgres::PgListener;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Where the database tells of changes.
const CHANNEL: &str = "calotype_feed";

/// Time between two times that the database is asked although it told nothing.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// Time until another try when the database is away.
const RETRY: Duration = Duration::from_secs(1);

/// The newest number that is known.
#[derive(Debug)]
pub struct FeedHead {
    seq: watch::Sender<i64>,
}

impl FeedHead {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self { seq: watch::Sender::new(0) }
    }

    /// Returns when there may be a change after this one.
    pub async fn passed(&self, after: i64) {
        // The sender is a field of `self`, so the channel outlives the wait.
        let _ = self.seq.subscribe().wait_for(|seq| *seq > after).await;
    }

    /// Keeps up with the database, for ever.
    pub async fn follow(&self, database: &Database) {
        loop {
            if let Err(error) = self.listen(database).await {
                tracing::warn!(%error, "changes are not heard of; the database is asked again soon");
            }
            sleep(RETRY).await;
        }
    }

    async fn listen(&self, database: &Database) -> Result<(), DatabaseError> {
        let mut listener = PgListener::connect_with(database.across()).await?;
        listener.listen(CHANNEL).await?;
        loop {
            // Also after it was told nothing, and after the connection was lost: something may have been missed.
            let seq = position(database).await?;
            self.seq.send_if_modified(|known| std::mem::replace(known, seq) != seq);
            if let Ok(told) = timeout(ASK_EVERY, listener.try_recv()).await {
                told?;
            }
        }
    }
}

async fn position(database: &Database) -> Result<i64, DatabaseError> {
    let seq = sqlx::query_scalar!(r#"SELECT seq AS "seq!" FROM feed_position()"#);
    Ok(seq.fetch_one(database.across()).await?)
}
