//! A private Postgres: made whole or not at all, reached by root too, and kept.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use devstack::postgres::{Cluster, ELSEWHERE};

fn folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("calotype-postgres-").tempdir().expect("a folder can be made");
    // Whoever runs the server has to get through.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).expect("ours");
    folder
}

#[tokio::test]
async fn a_cluster_that_is_only_half_made_is_made_anew_and_one_that_is_whole_is_kept() {
    let home = folder();
    let place = home.path().join("postgres");
    // What an initdb that was killed leaves.
    fs::create_dir_all(place.join("data.new")).expect("ours");
    fs::write(place.join("data.new/PG_VERSION"), "18\n").expect("ours");
    let postgres = Cluster::prepare_kept(&place).await.expect("made").start().await.expect("starts");
    postgres.run("CREATE DATABASE kept;").await.expect("it may");
    postgres.stop().await.expect("in order");
    assert!(!place.join("data.new").exists());

    let postgres = Cluster::prepare_kept(&place).await.expect("there").start().await.expect("starts");
    let twice = postgres.run("CREATE DATABASE kept;\nCREATE DATABASE not_reached;").await.expect_err("it is there");
    assert!(format!("{twice:#}").contains("\"kept\" already exists"), "{twice:#}");
    postgres.run("CREATE DATABASE not_reached;").await.expect("the statement after the failed one was not run");
    postgres.stop().await.expect("in order");
}

#[tokio::test]
async fn for_root_it_lies_elsewhere_where_nobody_else_may_enter() {
    let home = folder();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).expect("ours");
    let place = home.path().join("postgres");
    let postgres = Cluster::prepare_kept(&place).await.expect("made").start().await.expect("starts");
    let lies = place.canonicalize().expect("there");
    let _removed = Removed(lies.clone());
    postgres.run("CREATE DATABASE kept;").await.expect("it may");
    postgres.stop().await.expect("in order");

    let postgres = Cluster::prepare_kept(&place).await.expect("there").start().await.expect("starts");
    let twice = postgres.run("CREATE DATABASE kept;").await.expect_err("it is the same cluster");
    assert!(format!("{twice:#}").contains("already exists"), "{twice:#}");
    postgres.stop().await.expect("in order");
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    assert_eq!(lies.starts_with(ELSEWHERE), is_root, "{}", lies.display());
}

/// Is not in a temporary folder.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
