//! Bringing a database to what this version needs.
//!
//! Roles come first, because they belong to the whole cluster and every table is granted to them. Then the files in `migrations/`
//! run as the owner of all tables, each in a transaction, one process at a time.

use std::str::FromStr;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use thiserror::Error;

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations");

/// Roles that tables are granted to; whoever logs in is a member of one of them. `migrations/README.md` tells who is what.
const ROLES: [&str; 3] = ["calotype_owner", "calotype_app", "calotype_worker"];

/// Why a database is not up to date.
#[derive(Debug, Error)]
pub enum MigrationError {
    /// It cannot be reached as this user.
    #[error("the database cannot be reached")]
    Connect(#[source] sqlx::Error),
    /// A role is missing, and this user may not make it.
    #[error("the role {role} is missing and cannot be made; let a superuser run: CREATE ROLE {role} NOLOGIN")]
    Role {
        /// Its name.
        role: &'static str,
        /// What the database said.
        source: sqlx::Error,
    },
    /// This user may not give the schema to the owner of all tables.
    #[error("the schema \"public\" cannot be given to calotype_owner: migrate as the owner of the database")]
    Schema(#[source] sqlx::Error),
    /// This user may not become the owner of all tables.
    #[error("this user must be a member of calotype_owner")]
    NotOwner(#[source] sqlx::Error),
    /// A migration failed, and nothing of it is left; or the database is newer than this version.
    #[error("the migrations in the database and of this version do not go together, or one failed")]
    Migration(#[from] MigrateError),
}

/// Brings the database up to date. Safe to run again, and while older versions serve.
///
/// # Errors
/// [`MigrationError`]; what ran before the failure stays.
pub async fn migrate(url: &str) -> Result<(), MigrationError> {
    let options = PgConnectOptions::from_str(url).map_err(MigrationError::Connect)?;
    let mut connection = PgConnection::connect_with(&options).await.map_err(MigrationError::Connect)?;
    for role in ROLES {
        make(&mut connection, role).await?;
    }
    for grant in [
        "GRANT ALL ON SCHEMA public TO calotype_owner",
        "GRANT USAGE ON SCHEMA public TO calotype_app, calotype_worker",
    ] {
        sqlx::query(grant).execute(&mut connection).await.map_err(MigrationError::Schema)?;
    }
    sqlx::query("SET ROLE calotype_owner").execute(&mut connection).await.map_err(MigrationError::NotOwner)?;
    MIGRATIONS.run(&mut connection).await?;
    // It has all been committed; how the connection ends is no matter.
    let _ = connection.close().await;
    Ok(())
}

async fn make(connection: &mut PgConnection, role: &'static str) -> Result<(), MigrationError> {
    let failed = |source| MigrationError::Role { role, source };
    let exists = sqlx::query_scalar::<_, bool>("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)").bind(role);
    if exists.fetch_one(&mut *connection).await.map_err(failed)? {
        return Ok(());
    }
    match sqlx::query(AssertSqlSafe(format!("CREATE ROLE {role} NOLOGIN"))).execute(&mut *connection).await {
        Ok(_) => Ok(()),
        // Another process made it at this moment, for this database or another one of the cluster.
        Err(sqlx::Error::Database(error)) if matches!(error.code().as_deref(), Some("42710" | "23505")) => Ok(()),
        Err(error) => Err(failed(error)),
    }
}
