//! A database for each test: a copy of one that was migrated once, in a cluster that ends with the test program; or one in a
//! cluster of its own, which may crash.
//!
//! Must not be shared between tests: each has its own rows, and may break what it likes.

use std::sync::atomic::{AtomicU32, Ordering};

use devstack::postgres::{Cluster, Life, Postgres, SUPERUSER};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tempfile::TempDir;
use tokio::sync::OnceCell;

/// What tests' databases are copies of.
const TEMPLATE: &str = "migrated";

/// Who the control plane is to the database, with its rights and no others.
pub const APP: &str = "app";
/// Who workers are to it.
pub const WORKER: &str = "worker";

static SHARED: OnceCell<Postgres> = OnceCell::const_new();
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A database with all tables and no tenant.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    own: Option<OwnCluster>,
}

#[derive(Debug)]
struct OwnCluster {
    /// `None` while it is down.
    postgres: Option<Postgres>,
    folder: TempDir,
}

impl TestDatabase {
    /// A new one.
    ///
    /// # Panics
    /// When there is no Postgres (`script/postgres` fetches it), or a migration fails.
    pub async fn new() -> Self {
        let postgres = SHARED.get_or_init(start_shared).await;
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        execute(&postgres.url(SUPERUSER, SUPERUSER), &format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}")).await;
        Self { name, own: None }
    }

    /// A new one in a cluster of its own, which takes a second.
    ///
    /// # Panics
    /// As [`Self::new`].
    pub async fn alone() -> Self {
        let folder = tempfile::Builder::new().prefix("calotype-postgres-").tempdir().expect("a folder can be made");
        let cluster = Cluster::prepare(folder.path(), Life::Volatile).await.expect("Postgres can be had");
        let postgres = cluster.start().await.expect("Postgres starts");
        set_up(&postgres).await;
        Self { name: TEMPLATE.to_owned(), own: Some(OwnCluster { postgres: Some(postgres), folder }) }
    }

    /// Ends the server of its own at once, as a crash would.
    ///
    /// # Panics
    /// When it has none, or it is down.
    pub async fn crash(&mut self) {
        let own = self.own.as_mut().expect("only one that is alone may crash");
        own.postgres.take().expect("it runs").crash().await.expect("our own child may be killed");
    }

    /// Starts the server of its own again.
    ///
    /// # Panics
    /// When it has none, or it does not start.
    pub async fn start_again(&mut self) {
        self.own.as_mut().expect("only one that is alone was down").start_again().await;
    }

    /// A streaming replica of the server of its own.
    ///
    /// # Panics
    /// When it has none, or it cannot be copied.
    pub async fn replica(&self) -> TestReplica {
        let postgres =
            self.own.as_ref().and_then(|own| own.postgres.as_ref()).expect("only one that is alone is copied");
        let folder = tempfile::Builder::new().prefix("calotype-replica-").tempdir().expect("a folder can be made");
        let cluster = Cluster::prepare_replica(postgres, folder.path()).await.expect("the server is copied");
        let postgres = cluster.start().await.expect("the replica starts");
        TestReplica { name: self.name.clone(), own: OwnCluster { postgres: Some(postgres), folder } }
    }

    /// Its URL for a user.
    ///
    /// # Panics
    /// While it is down.
    #[must_use]
    pub fn url(&self, user: &str) -> String {
        let postgres = match &self.own {
            Some(own) => own.postgres.as_ref(),
            None => SHARED.get(),
        };
        postgres.expect("it runs").url(user, &self.name)
    }

    /// Its URL for the one with all rights.
    ///
    /// # Panics
    /// While it is down.
    #[must_use]
    pub fn superuser_url(&self) -> String {
        self.url(SUPERUSER)
    }

    /// Connections of a user.
    ///
    /// # Panics
    /// While it is down.
    #[must_use]
    pub fn pool(&self, user: &str) -> PgPool {
        PgPoolOptions::new().max_connections(4).connect_lazy(&self.url(user)).expect("the URL is ours")
    }
}

/// A copy of a database that follows it.
#[derive(Debug)]
pub struct TestReplica {
    name: String,
    own: OwnCluster,
}

impl TestReplica {
    /// Its URL for a user, also while it is down.
    #[must_use]
    pub fn url(&self, user: &str) -> String {
        format!("postgres://{user}@localhost/{}?host={}", self.name, self.own.folder.path().display())
    }

    /// It with all rights that there are on a replica.
    ///
    /// # Panics
    /// While it is down.
    pub async fn superuser(&self) -> PgPool {
        PgPool::connect(&self.url(SUPERUSER)).await.expect("it takes connections")
    }

    /// Changes one of its settings, of those that need no new start.
    ///
    /// # Panics
    /// While it is down.
    pub async fn set(&self, name: &str, value: &str) {
        execute(&self.url(SUPERUSER), &format!("ALTER SYSTEM SET {name} = {value}")).await;
        execute(&self.url(SUPERUSER), "SELECT pg_reload_conf()").await;
    }

    /// Keeps it as it is, while the database goes on.
    ///
    /// # Panics
    /// While it is down.
    pub async fn pause(&self) {
        execute(&self.url(SUPERUSER), "SELECT pg_wal_replay_pause()").await;
        let mut connection = PgConnection::connect(&self.url(SUPERUSER)).await.expect("it takes connections");
        crate::edge::eventually("the pause", async || {
            let state = sqlx::query_scalar::<_, String>("SELECT pg_get_wal_replay_pause_state()");
            (state.fetch_one(&mut connection).await.expect("it says so") == "paused").then_some(())
        })
        .await;
    }

    /// Lets it follow again.
    ///
    /// # Panics
    /// While it is down.
    pub async fn resume(&self) {
        execute(&self.url(SUPERUSER), "SELECT pg_wal_replay_resume()").await;
    }

    /// Ends it at once, as a crash would.
    ///
    /// # Panics
    /// When it is down.
    pub async fn crash(&mut self) {
        self.own.postgres.take().expect("it runs").crash().await.expect("our own child may be killed");
    }

    /// Starts it again.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_again(&mut self) {
        self.own.start_again().await;
    }
}

impl OwnCluster {
    async fn start_again(&mut self) {
        // Those whom the old server had started have to notice that it is gone.
        let folder = self.folder.path();
        let started = crate::edge::eventually("Postgres", async || {
            let cluster = Cluster::prepare(folder, Life::Volatile).await.expect("it was there before");
            cluster.start().await.ok()
        });
        self.postgres = Some(started.await);
    }
}

async fn start_shared() -> Postgres {
    // Not `TempDir`: nobody drops what is static. The server removes it at its end, as the user that it runs as.
    let folder = tempfile::Builder::new().prefix("calotype-postgres-").tempdir().expect("a folder can be made").keep();
    let cluster = Cluster::prepare(&folder, Life::Temporary).await.expect("Postgres can be had");
    let postgres = cluster.start().await.expect("Postgres starts");
    set_up(&postgres).await;
    postgres
}

/// Makes the database that others are copies of, and the users.
async fn set_up(postgres: &Postgres) {
    let administration = postgres.url(SUPERUSER, SUPERUSER);
    execute(&administration, &format!("CREATE DATABASE {TEMPLATE}")).await;
    isolation::migrate(&postgres.url(SUPERUSER, TEMPLATE)).await.expect("the migrations run");
    for (user, role) in [(APP, "calotype_app"), (WORKER, "calotype_worker")] {
        execute(&administration, &format!("CREATE ROLE {user} LOGIN IN ROLE {role}")).await;
    }
}

async fn execute(url: &str, statement: &str) {
    let mut connection = PgConnection::connect(url).await.expect("the server takes connections");
    let done = sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await;
    done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    connection.close().await.expect("it ends in order");
}
