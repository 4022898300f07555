//! A pool of connections, and the transactions that it gives.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Transaction};

use crate::{DatabaseError, Mandate, TenantKey};

/// Milliseconds that a transaction may rest between two statements. What it has locked is given back at the latest then, should whoever
/// began it be gone without a word.
const IDLE_IN_TRANSACTION: &str = "60000";

/// How the database is reached.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// `postgres://user:password@host/database`; a folder with a socket is `?host=/folder`.
    pub url: String,
    /// Tells connections apart in `pg_stat_activity`.
    pub application: &'static str,
    /// Connections at a time.
    pub connections: u32,
    /// How long a request waits for one of them.
    pub acquire_time: Duration,
    /// How long a statement may run.
    pub statement_time: Duration,
}

/// The database, through a pool of connections.
#[derive(Debug, Clone)]
pub struct Database {
    pool: PgPool,
}

impl Database {
    /// Connections are made when they are first needed: a database that is away is an error of each request, not of the start.
    ///
    /// # Errors
    /// [`DatabaseError::Url`].
    pub fn open(options: &DatabaseOptions) -> Result<Self, DatabaseError> {
        let connect = PgConnectOptions::from_str(&options.url).map_err(DatabaseError::Url)?;
        let milliseconds = options.statement_time.as_millis().to_string();
        let connect = connect.application_name(options.application).options([
            ("statement_timeout", milliseconds.as_str()),
            ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION),
            ("timezone", "UTC"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(options.connections)
            .acquire_timeout(options.acquire_time)
            // A connection that broke while nobody used it is an error of one statement otherwise.
            .test_before_acquire(true)
            .connect_lazy_with(connect);
        Ok(Self { pool })
    }

    /// Begins a transaction that sees and changes rows of this tenant only, and whose changes are this author's.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`].
    pub async fn begin(&self, mandate: &Mandate) -> Result<TenantTransaction, DatabaseError> {
        let transaction = self.pool.begin_with(AssertSqlSafe(mandate.begin())).await?;
        Ok(TenantTransaction { transaction, tenant: mandate.tenant })
    }

    /// For the functions that cross tenants, which `migrations/README.md` lists. Tables of tenants have no rows here.
    #[must_use]
    pub fn across(&self) -> &PgPool {
        &self.pool
    }

    /// Waits until connections that are in use are given back, and closes all.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// A transaction that works for one tenant. Dropping it undoes what it did.
#[derive(Debug)]
pub struct TenantTransaction {
    transaction: Transaction<'static, Postgres>,
    tenant: TenantKey,
}

impl TenantTransaction {
    /// Whom it works for.
    #[must_use]
    pub fn tenant(&self) -> TenantKey {
        self.tenant
    }

    /// What statements run on.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    /// Makes all that it did last, at once.
    ///
    /// # Errors
    /// When it did not become so, or, where the connection broke, when that is not known.
    pub async fn commit(self) -> Result<(), DatabaseError> {
        Ok(self.transaction.commit().await?)
    }
}
