//! A pool of connections, and the transactions that it gives.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Postgres, Transaction};

use crate::replica::{Replica, ReplicaState};
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

/// What a transaction begins with that changes nothing.
const READ_ONLY: &str = "BEGIN READ ONLY";

/// Whether what is read has to be as it was last acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It has.
    Newest,
    /// What was changed a moment ago may be missing: a replica is read from if there is one that can be used.
    MayLag,
}

/// The database, through a pool of connections.
#[derive(Debug, Clone)]
pub struct Database {
    pool: PgPool,
    replica: Option<Arc<Replica>>,
}

impl Database {
    /// Connections are made when they are first needed: a database that is away is an error of each request, not of the start.
    ///
    /// # Errors
    /// [`DatabaseError::Url`].
    pub fn open(options: &DatabaseOptions) -> Result<Self, DatabaseError> {
        Ok(Self { pool: pool(options)?, replica: None })
    }

    /// The same with a replica to [read](Self::read) from, while it is at most so far behind. It is not used before it was
    /// [looked at](Self::look_at_replica).
    ///
    /// # Errors
    /// [`DatabaseError::Url`].
    pub fn with_replica(self, options: &DatabaseOptions, lag_max: Duration) -> Result<Self, DatabaseError> {
        Ok(Self { replica: Some(Arc::new(Replica::new(pool(options)?, options.acquire_time, lag_max))), ..self })
    }

    /// Begins a transaction that sees and changes rows of this tenant only, and whose changes are this author's.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`].
    pub async fn begin(&self, mandate: &Mandate) -> Result<TenantTransaction, DatabaseError> {
        let transaction = self.pool.begin_with(AssertSqlSafe(mandate.statement("BEGIN"))).await?;
        Ok(TenantTransaction { transaction, tenant: mandate.tenant })
    }

    /// Begins a transaction that sees rows of this tenant only and changes nothing.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`].
    pub async fn read(&self, mandate: &Mandate, freshness: Freshness) -> Result<TenantTransaction, DatabaseError> {
        let (tenant, begin) = (mandate.tenant, mandate.statement(READ_ONLY));
        if let Some(replica) = self.usable_replica(freshness)
            && let Some(transaction) =
                replica.within_reason(replica.pool.begin_with(AssertSqlSafe(begin.clone()))).await
        {
            return Ok(TenantTransaction { transaction, tenant });
        }
        self.fell_back(freshness);
        Ok(TenantTransaction { transaction: self.pool.begin_with(AssertSqlSafe(begin)).await?, tenant })
    }

    /// For those of the functions that cross tenants which only read.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`].
    pub async fn read_across(&self, freshness: Freshness) -> Result<PoolConnection<Postgres>, DatabaseError> {
        if let Some(replica) = self.usable_replica(freshness)
            && let Some(connection) = replica.within_reason(replica.pool.acquire()).await
        {
            return Ok(connection);
        }
        self.fell_back(freshness);
        Ok(self.pool.acquire().await?)
    }

    /// Looks whether the replica can be used until the next look, which should come within a second or so; `None` where there is no
    /// replica.
    pub async fn look_at_replica(&self) -> Option<ReplicaState> {
        match &self.replica {
            Some(replica) => Some(replica.look(&self.pool).await),
            None => None,
        }
    }

    fn usable_replica(&self, freshness: Freshness) -> Option<&Replica> {
        let replica = self.replica.as_deref().filter(|replica| replica.is_usable());
        replica.filter(|_| freshness == Freshness::MayLag)
    }

    fn fell_back(&self, freshness: Freshness) {
        if let Some(replica) = self.replica.as_deref().filter(|_| freshness == Freshness::MayLag) {
            replica.fell_back();
        }
    }

    /// For the functions that cross tenants, which `migrations/README.md` lists. Tables of tenants have no rows here.
    #[must_use]
    pub fn across(&self) -> &PgPool {
        &self.pool
    }

    /// Waits until connections that are in use are given back, and closes all.
    pub async fn close(&self) {
        if let Some(replica) = &self.replica {
            replica.pool.close().await;
        }
        self.pool.close().await;
    }
}

fn pool(options: &DatabaseOptions) -> Result<PgPool, DatabaseError> {
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
        .test_before_acquire(true);
    Ok(pool.connect_lazy_with(connect))
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
