//! Whether workers keep up with tables by month, as metrics: for how long there are parts, and which wait to be archived.
//!
//! Workers have no metrics of their own, and one that does not run could tell nothing. Must not do what workers do.

use std::time::Duration;

use isolation::{Database, DatabaseError};
use prometheus::{IntGaugeVec, Opts, Registry};
use tokio::time::sleep;

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(60);

/// The metrics.
#[derive(Debug)]
pub struct MonthlyTables {
    ahead: IntGaugeVec,
    strays: IntGaugeVec,
    retired: IntGaugeVec,
}

impl MonthlyTables {
    /// Without any table yet.
    ///
    /// # Errors
    /// When the name of a metric is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, about: &str| {
            let gauge = IntGaugeVec::new(Opts::new(name, about), &["table"])?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        Ok(Self {
            ahead: gauge("calotype_api_table_months_ahead", "Months to come for which a table by month has parts")?,
            strays: gauge("calotype_api_table_strays", "1 where rows came for whose month there is no part")?,
            retired: gauge("calotype_api_table_parts_retired", "Parts that are over and not archived and dropped yet")?,
        })
    }

    /// Looks every now and then, for ever.
    pub async fn watch(&self, database: &Database) {
        loop {
            // A database that is away is told by whoever needs it.
            if let Err(error) = self.look(database).await {
                tracing::debug!(%error, "the state of tables by month is not known");
            }
            sleep(EVERY).await;
        }
    }

    async fn look(&self, database: &Database) -> Result<(), DatabaseError> {
        let tables = sqlx::query!(
            r#"SELECT relation AS "table!", months_ahead AS "ahead!", has_strays AS "has_strays!", retired AS "retired!"
               FROM state_of_parts()"#
        );
        for state in tables.fetch_all(database.across()).await? {
            let table = [state.table.as_str()];
            self.ahead.with_label_values(&table).set(state.ahead.into());
            self.strays.with_label_values(&table).set(state.has_strays.into());
            self.retired.with_label_values(&table).set(state.retired);
        }
        Ok(())
    }
}
