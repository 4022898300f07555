//! Tables by month: parts are made ahead of time, and what is old is taken out, archived and dropped (`migrations/0006_partitions.sql`).
//!
//! Each step is a transaction, and may be done again by whoever comes after one that was killed: a part that was taken out waits until it is
//! dropped, and it is dropped by whoever has read all of its rows back from the store. Must not know which tables there are.

use std::collections::BTreeMap;

use isolation::{Database, DatabaseError};
use storage::ObjectStore;

use super::archive::{self, RetiredPart};
use crate::config::ControlPlaneSettings;
use crate::media::Library;
use crate::problem::ApiError;

/// Longest time for the rows of a part to be counted, and dropped.
const DROP_TIME: &str = "BEGIN; SET LOCAL statement_timeout = '10min'";

/// Parts that one round takes out of a table, and that it drops: those of a worker that was away for ten years.
const PARTS_MAX: usize = 120;

/// What keeps tables in parts.
pub struct Parts {
    database: Database,
    /// Where parts go; `None` where they are only dropped.
    archive: Option<Library>,
    /// Months for which tables keep their rows, where the operator has said.
    keep_months: BTreeMap<String, u32>,
}

impl Parts {
    /// As the settings say.
    pub fn new(settings: &ControlPlaneSettings, library: &Library) -> Self {
        let archive = settings.archive.then(|| library.clone());
        Self { database: library.database().clone(), archive, keep_months: settings.keep_months.clone() }
    }

    /// One round of everything. What fails is told, and does not keep the rest from being done.
    ///
    /// # Errors
    /// The first that failed.
    pub async fn round(&self) -> Result<(), ApiError> {
        let tables = sqlx::query!("SELECT relation, keep_months FROM monthly_tables ORDER BY relation")
            .fetch_all(self.database.across())
            .await?;
        for unknown in self.keep_months.keys().filter(|name| tables.iter().all(|table| table.relation != **name)) {
            tracing::warn!(table = unknown, "keep_months names a table that is not kept by month");
        }
        let mut outcome = Ok(());
        for table in &tables {
            let months = self.keep_months.get(&table.relation).map_or(table.keep_months, |months| *months as i32);
            let done = self.roll(&table.relation).await.and(self.retire(&table.relation, months).await);
            outcome = outcome.and(done);
        }
        outcome.and(self.drop_retired().await)
    }

    async fn roll(&self, table: &str) -> Result<(), ApiError> {
        let made = sqlx::query_scalar!(r#"SELECT roll_parts($1) AS "made!""#, table);
        let made = made.fetch_one(self.database.across()).await?;
        if made > 0 {
            tracing::info!(table, made, "parts were made");
        }
        Ok(())
    }

    /// Takes out what is too old, unless there is no place for it to go.
    async fn retire(&self, table: &str, months: i32) -> Result<(), ApiError> {
        if let Some(library) = &self.archive
            && library.store().is_err()
        {
            return Ok(());
        }
        for _ in 0..PARTS_MAX {
            let retired = sqlx::query_scalar!("SELECT retire_part($1, $2)", table, months);
            let Some(month) = retired.fetch_one(self.database.across()).await? else { break };
            tracing::info!(table, %month, "a part is over");
        }
        Ok(())
    }

    async fn drop_retired(&self) -> Result<(), ApiError> {
        let store = match &self.archive {
            Some(library) => match library.store() {
                Ok(store) => Some(store),
                Err(_) => return Ok(()),
            },
            None => None,
        };
        // One that has changed meanwhile is given again at once.
        for _ in 0..PARTS_MAX {
            let Some(part) = self.claim().await? else { break };
            self.drop_part(&part, store).await?;
        }
        Ok(())
    }

    async fn claim(&self) -> Result<Option<RetiredPart>, DatabaseError> {
        let claimed = sqlx::query_as!(
            RetiredPart,
            r#"SELECT id AS "id!", relation AS "relation!", month AS "month!", claim AS "claim!", columns AS "columns!",
                 blocks AS "blocks!"
               FROM claim_retired_part()"#
        );
        Ok(claimed.fetch_optional(self.database.across()).await?)
    }

    async fn drop_part(&self, part: &RetiredPart, store: Option<&ObjectStore>) -> Result<(), ApiError> {
        let archived = match store {
            Some(store) => Some(archive::write(&self.database, store, part).await?),
            None => None,
        };
        let object = archived.as_ref().map(|archived| archived.object.as_str());
        let mut transaction = self.database.across().begin_with(DROP_TIME).await?;
        let dropped = sqlx::query_scalar!(
            r#"SELECT drop_retired_part($1, $2, $3, $4, $5, $6) AS "dropped!""#,
            part.id,
            part.claim,
            object,
            archived.as_ref().map(|archived| archived.rows),
            archived.as_ref().map(|archived| archived.bytes),
            archived.as_ref().map(|archived| &archived.sha256[..])
        );
        let dropped = dropped.fetch_one(&mut *transaction).await?;
        transaction.commit().await?;
        let (table, month, rows) = (&part.relation, part.month, archived.as_ref().map(|archived| archived.rows));
        if dropped {
            tracing::info!(table, %month, rows, object, "a part was dropped");
        } else {
            tracing::warn!(table, %month, rows, "a part has changed or is another worker's by now: it stays");
        }
        Ok(())
    }
}
