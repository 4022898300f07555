//! The database: a private Postgres in the state folder, or the one that `DATABASE_URL` names.
//!
//! Must not touch tables: `control-plane migrate` does.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use devstack::postgres::{Cluster, Postgres};
use tokio::time::{Instant, sleep};

/// Names a database with another user than ours: one that may make roles, and owns it.
pub const VARIABLE: &str = "DATABASE_URL";

/// Makes users and database, whatever is there of them.
const USERS: &str = include_str!("users.sql");

/// How long a server that was left to itself may take to end, before another may have its cluster.
const LEFT_LIMIT: Duration = Duration::from_secs(10);

/// Time between two tries.
const POLL: Duration = Duration::from_millis(200);

/// URLs of the database, for those who use it.
pub struct DatabaseUrls {
    /// Who makes tables.
    pub migrate: String,
    /// The control plane.
    pub app: String,
    /// Workers.
    pub worker: String,
}

/// The URL that the caller has set.
pub fn given() -> anyhow::Result<Option<String>> {
    match std::env::var(VARIABLE) {
        Ok(url) if url.is_empty() => Ok(None),
        Ok(url) => Ok(Some(url)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => bail!("{VARIABLE} is not UTF-8"),
    }
}

impl DatabaseUrls {
    /// Those of a database that is not ours. The one user becomes what each of the parts is.
    pub fn of(url: &str) -> Self {
        let sign = if url.contains('?') { '&' } else { '?' };
        let as_role = |role: &str| format!("{url}{sign}options%5Brole%5D={role}");
        Self { migrate: url.to_owned(), app: as_role("calotype_app"), worker: as_role("calotype_worker") }
    }

    /// Those of the private server, whose users have no passwords: only who started it gets to its socket.
    pub fn of_private(postgres: &Postgres) -> Self {
        let url = |user: &str| postgres.url(user, "calotype");
        Self { migrate: url("migrate"), app: url("app"), worker: url("worker") }
    }
}

/// Starts the private server, with its users and its database.
pub async fn start(data: &Path) -> anyhow::Result<Postgres> {
    let folder = data.join("postgres");
    let deadline = Instant::now() + LEFT_LIMIT;
    loop {
        let cluster = Cluster::prepare_kept(&folder).await?;
        match cluster.start().await {
            // One whose `calotype up` was killed may be about to end.
            Err(_) if Instant::now() < deadline => sleep(POLL).await,
            started => return started.with_context(|| folder.display().to_string()),
        }
    }
}

/// Makes what is missing of users and database.
pub async fn make_users(postgres: &Postgres) -> anyhow::Result<()> {
    postgres.run(USERS).await.context("the users of the database cannot be made")
}
