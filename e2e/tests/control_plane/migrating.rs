//! A database that an operator makes as `migrations/README.md` says, with no more rights than that gives.

use devstack::postgres::{Cluster, Life, Postgres, SUPERUSER};
use sqlx::{AssertSqlSafe, PgPool};
use testkit::edge::{program, without_settings_of_ours};
use tokio::process::Command;

const README: &str = include_str!("../../../migrations/README.md");

async fn migrate(url: &str) -> std::process::Output {
    let mut command = Command::new(program("control-plane"));
    without_settings_of_ours(&mut command);
    command.arg("migrate").env("CALOTYPE_CONTROL_PLANE__MIGRATE_URL", url).kill_on_drop(true);
    command.output().await.expect("the program is there and may be run")
}

async fn run(postgres: &Postgres, statements: impl Iterator<Item = &str>) {
    let superuser = PgPool::connect(&postgres.url(SUPERUSER, SUPERUSER)).await.expect("reached");
    for statement in statements {
        let done = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&superuser).await;
        done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
}

#[tokio::test]
async fn users_and_database_are_made_by_hand_and_migrated_by_a_user_without_special_rights() {
    let folder = tempfile::Builder::new().prefix("calotype-postgres-").tempdir().expect("a folder can be made");
    let cluster = Cluster::prepare(folder.path(), Life::Volatile).await.expect("Postgres can be had");
    let postgres = cluster.start().await.expect("Postgres starts");
    // Without the roles, the user is told what is missing.
    run(&postgres, ["CREATE ROLE nobody LOGIN", "CREATE DATABASE other OWNER nobody"].into_iter()).await;
    let refused = migrate(&postgres.url("nobody", "other")).await;
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("CREATE ROLE calotype_owner NOLOGIN"), "{told}");

    let by_hand =
        README.split("```sql\n").nth(1).and_then(|rest| rest.split("```").next()).expect("the block is there");
    let statements: Vec<_> = by_hand.split(';').map(str::trim).filter(|statement| !statement.is_empty()).collect();
    assert!(statements.len() >= 6);
    run(&postgres, statements.iter().copied()).await;
    for time in ["first", "second"] {
        let done = migrate(&postgres.url("migrate", "calotype")).await;
        assert!(done.status.success(), "the {time} time: {}", String::from_utf8_lossy(&done.stderr));
    }
    let app = PgPool::connect(&postgres.url("app", "calotype")).await.expect("reached");
    let found = sqlx::query("SELECT 1 FROM find_tenant('a')").fetch_optional(&app).await.expect("it may ask");
    assert!(found.is_none());
    let created = sqlx::query("CREATE TABLE mine (x int)").execute(&app).await;
    assert!(created.is_err(), "the app makes no tables");
    // Its user does not become what it must not be.
    assert!(sqlx::query("SET ROLE calotype_owner").execute(&app).await.is_err());
}
