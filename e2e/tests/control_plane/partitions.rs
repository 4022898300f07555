//! Tables by month: parts that are made ahead of time, and what is old: taken out, archived, read back, dropped, whoever dies over it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ::http::StatusCode;
use devstack::postgres::programs;
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, PgPool};
use testkit::database::{APP, TestDatabase, WORKER};
use testkit::edge::eventually;
use testkit::faulty::Fault;
use tokio::process::Command;

use crate::media_rig::MediaRig;

/// A table of these tests, with what is hard to write down.
const TABLE: &str = "
    SET ROLE calotype_owner;
    CREATE TABLE measured (
        tenant_id uuid NOT NULL, at timestamptz NOT NULL, n integer NOT NULL, twice integer GENERATED ALWAYS AS (n * 2) STORED,
        note text, raw bytea, tags text[], PRIMARY KEY (tenant_id, at, n)
    ) PARTITION BY RANGE (at);
    CALL isolate('measured');
    CALL keep_by_month('measured', 6);
    CREATE INDEX measured_n ON measured (n);
    RESET ROLE";

/// Rows of so many months ago, in the middle of that month.
fn rows(months: u32, count: u32) -> String {
    format!(
        "INSERT INTO measured (tenant_id, at, n, note, raw, tags)
         SELECT '00000000-0000-0000-0000-00000000000a',
             date_trunc('month', now()) - interval '{months} months' + interval '14 days', n,
             CASE n % 4 WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN 'a \"b\",' || chr(10) || 'ä' || n ELSE repeat('long ', 60) END,
             sha256(n::text::bytea), ARRAY['x', NULL, 'y,z']
         FROM generate_series(1, {count}) AS n"
    )
}

async fn with_table(rig: MediaRig) -> MediaRig {
    let superuser = rig.superuser().await;
    sqlx::raw_sql(TABLE).execute(&superuser).await.expect("all rights");
    rig
}

async fn text(pool: &PgPool, statement: &str) -> String {
    let text = sqlx::query_scalar(AssertSqlSafe(statement.to_owned())).fetch_one(pool).await;
    text.unwrap_or_else(|error| panic!("{statement}: {error}"))
}

/// How many rows each part has, by how many months ago it was; `other` is the part for all others.
async fn parts(rig: &MediaRig) -> BTreeMap<String, i64> {
    let superuser = rig.superuser().await;
    let names =
        "SELECT c.relname::text, coalesce((12 * extract(year FROM age) + extract(month FROM age))::int::text, 'other')
         FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid,
             LATERAL (SELECT CASE WHEN c.relname LIKE '%other' THEN NULL
                 ELSE age(date_trunc('month', now()), to_date(right(c.relname, 7), 'YYYY_MM')) END) AS a (age)
         WHERE i.inhparent = 'measured'::regclass";
    let names: Vec<(String, String)> = sqlx::query_as(names).fetch_all(&superuser).await.expect("the catalog is there");
    let mut parts = BTreeMap::new();
    for (name, months) in names {
        parts.insert(months, rig.count(&name).await);
    }
    parts
}

/// The archives in the store: manifest and object.
fn archives(rig: &MediaRig) -> Vec<(Value, PathBuf)> {
    let mut found = Vec::new();
    for month in std::fs::read_dir(rig.root().join("a/measured")).into_iter().flatten().flatten() {
        for file in std::fs::read_dir(month.path()).expect("a folder").flatten() {
            if file.path().extension().is_some_and(|ending| ending == "json") {
                let manifest: Value = serde_json::from_slice(&std::fs::read(file.path()).expect("read")).expect("JSON");
                let object = rig.root().join(manifest["object"].as_str().expect("a name"));
                found.push((manifest, object));
            }
        }
    }
    found.sort_by_key(|(manifest, _)| manifest["month"].to_string());
    found
}

/// Runs a script in which the database and an archive have names.
async fn bash(rig: &MediaRig, script: &str, object: &std::path::Path) -> std::process::Output {
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", programs().expect("they are there").display());
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", script]).env("PATH", path).env("OBJECT", object);
    bash.env("DATABASE", rig.api.database.superuser_url()).output().await.expect("bash is there")
}

/// Reads an archive back into the table `back`.
async fn read_back(rig: &MediaRig, object: &std::path::Path) {
    rig.sql("CREATE TABLE IF NOT EXISTS back (LIKE measured INCLUDING GENERATED)").await;
    let copy = r#"gunzip -c "$OBJECT" | psql "$DATABASE" -c '\copy back (tenant_id, at, n, note, raw, tags) FROM STDIN (FORMAT csv, HEADER match)'"#;
    let done = bash(rig, copy, object).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Lets what a dead worker has claimed be claimed again.
async fn forget_claims(rig: &MediaRig) {
    rig.sql("UPDATE retired_parts SET claimed_until = now() - interval '1 second'").await;
}

/// Fails unless the only part that was ever retired is in the store once, whole, and not in the database any more.
async fn assert_archived(rig: &MediaRig, count: i64) {
    let [(manifest, object)] = &archives(rig)[..] else { panic!("{:?}", archives(rig)) };
    assert_eq!(manifest["rows"], count);
    read_back(rig, object).await;
    assert_eq!(rig.count("back").await, count);
    assert_eq!(rig.count(&format!("retired_parts WHERE dropped_at IS NOT NULL AND rows = {count}")).await, 1);
    assert_eq!(
        rig.count("pg_class WHERE relname LIKE 'retired_%' AND relkind = 'r' AND relname <> 'retired_parts'").await,
        0
    );
}

#[tokio::test]
async fn parts_are_made_ahead_and_nobody_reads_them_past_their_table() {
    let rig = with_table(MediaRig::start().await).await;
    let made: Vec<_> = parts(&rig).await.into_keys().collect();
    assert_eq!(made, ["-1", "-2", "-3", "0", "1", "other"]);
    rig.sql(&rows(0, 3)).await;
    let superuser = rig.superuser().await;
    let closed = "SELECT string_agg(format('%s %s %s', c.relname, r.rolname, p), ', ')
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        CROSS JOIN pg_roles r CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS p
        WHERE c.relkind = 'r' AND r.rolname IN ('calotype_app', 'calotype_worker', 'app', 'worker')
            AND (has_table_privilege(r.oid, c.oid, p) OR NOT c.relrowsecurity OR NOT c.relforcerowsecurity)";
    let open: Option<String> = sqlx::query_scalar(closed).fetch_one(&superuser).await.expect("the catalog is there");
    assert_eq!(open, None);
    let part = text(&superuser, "SELECT 'measured_' || to_char(now(), 'YYYY_MM')").await;
    for user in [APP, WORKER] {
        let pool = rig.api.database.pool(user);
        let mut transaction = pool.begin().await.expect("begun");
        sqlx::query("SELECT set_config('calotype.tenant', '00000000-0000-0000-0000-00000000000a', true)")
            .execute(&mut *transaction)
            .await
            .expect("named");
        let own: i64 =
            sqlx::query_scalar("SELECT count(*) FROM measured").fetch_one(&mut *transaction).await.expect("read");
        assert_eq!(own, 3);
        let past = sqlx::query(AssertSqlSafe(format!("SELECT FROM {part}"))).execute(&mut *transaction).await;
        assert!(past.expect_err("it is closed").to_string().contains("permission denied"));
        let nobodys: i64 = sqlx::query_scalar("SELECT count(*) FROM measured").fetch_one(&pool).await.expect("read");
        assert_eq!(nobodys, 0);
    }
}

#[tokio::test]
async fn what_cannot_be_kept_by_month_is_refused() {
    let rig = MediaRig::start().await;
    let superuser = rig.superuser().await;
    for table in [
        "CREATE TABLE x (at timestamptz NOT NULL)",
        "CREATE TABLE x (at timestamptz) PARTITION BY RANGE (at)",
        "CREATE TABLE x (at text NOT NULL) PARTITION BY RANGE (at)",
        "CREATE TABLE x (at date NOT NULL, b date NOT NULL) PARTITION BY RANGE (at, b)",
        "CREATE TABLE x (at date NOT NULL) PARTITION BY LIST (at)",
    ] {
        let mut transaction = superuser.begin().await.expect("begun");
        let statements = format!("{table}; CALL keep_by_month('x')");
        let tried = sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut *transaction).await;
        assert!(tried.expect_err(table).to_string().contains("is not partitioned by"), "{table}");
        transaction.rollback().await.expect("it was begun");
    }
}

#[tokio::test]
async fn rows_of_a_month_without_a_part_are_taken_and_moved() {
    let rig = with_table(MediaRig::start().await).await;
    rig.sql(&rows(3, 5)).await;
    rig.sql(&rows(0, 2)).await;
    assert_eq!(parts(&rig).await["other"], 5);
    rig.worker().await;
    let parts = parts(&rig).await;
    assert_eq!((parts["other"], parts["3"], parts["0"]), (0, 5, 2), "{parts:?}");
    assert_eq!(rig.count("measured WHERE twice = 2 * n").await, 7);
}

#[tokio::test]
async fn metrics_tell_whether_workers_keep_up_and_rules_know_them() {
    let rig = with_table(MediaRig::start().await).await;
    rig.sql(&rows(5, 1)).await;
    // It looks at its start.
    let rig = rig.restart_after_crash().await;
    let is_there = |metrics: &str, line: &str| metrics.lines().any(|one| one == line);
    let metrics = testkit::edge::eventually("the metrics", async || {
        let metrics = rig.api.send(&testkit::http::Request::get("/metrics")).await.text();
        is_there(&metrics, "calotype_api_table_strays{table=\"measured\"} 1").then_some(metrics)
    });
    let metrics = metrics.await;
    for line in [
        "calotype_api_table_months_ahead{table=\"measured\"} 3",
        "calotype_api_table_parts_retired{table=\"measured\"} 0",
    ] {
        assert!(is_there(&metrics, line), "{metrics}");
    }
    let rules = include_str!("../../../deploy/prometheus/control-plane.rules.yml");
    let operations = include_str!("../../../docs/operations.md");
    let named: Vec<_> =
        rules.split("calotype_api_").skip(1).filter_map(|rest| rest.split([' ', ')', '{']).next()).collect();
    assert!(named.len() >= 3);
    for name in named {
        assert!(metrics.contains(&format!("# TYPE calotype_api_{name} ")), "no metric calotype_api_{name}");
        assert!(operations.contains(&format!("| `calotype_api_{name}` |")), "calotype_api_{name} is not documented");
    }
}

#[tokio::test]
async fn what_is_over_goes_to_the_store_and_can_be_read_back() {
    let rig = with_table(MediaRig::start().await).await;
    // Many more blocks than are read at a time.
    for (months, count) in [(20, 20_000), (8, 3), (6, 4), (7, 0)] {
        rig.sql(&rows(months, count)).await;
    }
    let superuser = rig.superuser().await;
    let sum = |table: &str, rest: &str| {
        format!("SELECT md5(string_agg(t::text, ';' ORDER BY at, n)) FROM {table} AS t {rest}")
    };
    let before =
        text(&superuser, &sum("measured", "WHERE at < date_trunc('month', now()) - interval '6 months'")).await;
    rig.worker().await;
    let left = parts(&rig).await;
    assert_eq!((left.get("20"), left.get("8"), left["6"], left["other"]), (None, None, 4, 0), "{left:?}");
    let archives = archives(&rig);
    let counts: Vec<_> = archives.iter().map(|(manifest, _)| manifest["rows"].as_i64().expect("a number")).collect();
    assert_eq!(counts, [20_000, 3]);
    for (manifest, object) in &archives {
        let bytes = std::fs::read(object).expect("the object is there");
        assert_eq!(manifest["bytes"], bytes.len());
        assert_eq!(manifest["sha256"], format!("{:x}", Sha256::digest(&bytes)));
        read_back(&rig, object).await;
    }
    assert_eq!(text(&superuser, &sum("back", "")).await, before);
    let kept = "SELECT string_agg(rows::text, ' ' ORDER BY month) FROM retired_parts WHERE dropped_at IS NOT NULL AND sha256 IS NOT NULL";
    assert_eq!(text(&superuser, kept).await, "20000 3");
    rig.worker().await;
    assert_eq!(self::archives(&rig).len(), 2, "what is done is done once");
}

#[tokio::test]
async fn the_guide_tells_how_to_look_into_a_month_of_the_audit_log() {
    let rig = MediaRig::start().await;
    rig.sql("UPDATE audit_log SET at = at - interval '30 months'").await;
    let count = rig.count("audit_log").await;
    rig.worker().await;
    let guide = include_str!("../../../docs/operations.md");
    let blocks = guide.split("```sh\n").filter_map(|block| block.split("```").next());
    let script = blocks.into_iter().find(|block| block.contains("audit_then")).expect("the example is there");
    let month = std::fs::read_dir(rig.root().join("a/audit_log")).expect("it is there").flatten().next();
    let objects =
        std::fs::read_dir(month.expect("a month").path()).expect("a folder").flatten().map(|file| file.path());
    let object = objects.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "gz"));
    let done = bash(&rig, script, &object.expect("an object")).await;
    let (told, wrong) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && told.contains("| create | tenant"), "{told} {wrong}");
    assert_eq!(rig.count("audit_then").await, count);
}

#[tokio::test]
async fn the_operator_says_how_long_rows_are_kept_and_whether_they_are_archived() {
    let rig = with_table(
        MediaRig::with_folder(&[("KEEP_MONTHS__MEASURED", "2".to_owned()), ("ARCHIVE", "false".to_owned())]).await,
    )
    .await;
    for months in [2, 3, 8] {
        rig.sql(&rows(months, 1)).await;
    }
    rig.worker().await;
    let left = parts(&rig).await;
    assert_eq!((left["2"], left.get("3"), left.get("8")), (1, None, None), "{left:?}");
    assert!(archives(&rig).is_empty());
    assert_eq!(rig.count("retired_parts WHERE dropped_at IS NOT NULL AND rows = 1 AND object IS NULL").await, 2);
}

#[tokio::test]
async fn without_a_place_for_them_old_rows_stay() {
    let rig = with_table(MediaRig::start().await).await;
    rig.sql(&rows(8, 2)).await;
    let url = ("WORKER_URL", rig.api.database.url(WORKER));
    let done = rig.api.run(&["worker", "--once"], &[url]).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(parts(&rig).await["8"], 2);
}

/// A worker that is killed at a stall of the store.
async fn killed_at(rig: &MediaRig, fault: Fault, requests: u64) {
    rig.relay().set(fault);
    let before = rig.relay().requests();
    // Dropping it kills it.
    tokio::select! {
        done = rig.try_worker() => panic!("it did not wait: {done:?}"),
        arrived = rig.relay().wait_for_requests(before + requests) => arrived.expect("the request"),
    }
    rig.relay().heal();
}

#[tokio::test]
async fn a_worker_that_is_killed_over_an_archive_leaves_it_to_the_next() {
    let rig = with_table(MediaRig::with_bucket(TestDatabase::new().await, &[]).await).await;
    rig.sql(&rows(8, 1000)).await;
    // While it writes, and while it reads back.
    for (fault, requests) in [(Fault::StallBeforeHead, 1), (Fault::StallInBody { after_bytes: 10 }, 2)] {
        killed_at(&rig, fault, requests).await;
        assert_eq!(rig.count("retired_parts WHERE dropped_at IS NULL").await, 1);
        rig.worker().await;
        assert_eq!(rig.count("retired_parts WHERE dropped_at IS NULL").await, 1, "it is the dead one's for a while");
        forget_claims(&rig).await;
    }
    // When all of it is written.
    let superuser = rig.superuser().await;
    let lock = superuser.begin_with("BEGIN; LOCK TABLE retired_parts IN SHARE MODE").await.expect("nobody else has it");
    lock.rollback().await.expect("given back");
    let table = text(
        &superuser,
        "SELECT relname::text FROM pg_class WHERE relname ~ '^retired_[0-9a-f]{32}$' AND relkind = 'r'",
    )
    .await;
    let lock = format!("BEGIN; LOCK TABLE {table} IN ACCESS SHARE MODE");
    let lock = superuser.begin_with(AssertSqlSafe(lock)).await.expect("nobody else has it");
    assert!(!rig.try_worker().await.status.success(), "somebody reads it");
    assert_eq!(archives(&rig).len(), 1);
    lock.rollback().await.expect("given back");
    forget_claims(&rig).await;
    rig.worker().await;
    assert_archived(&rig, 1000).await;
}

#[tokio::test]
async fn what_the_store_does_not_take_or_give_back_is_not_dropped() {
    let rig = with_table(MediaRig::with_bucket(TestDatabase::new().await, &[]).await).await;
    rig.sql(&rows(8, 1000)).await;
    for fault in [Fault::Answer(StatusCode::SERVICE_UNAVAILABLE), Fault::Reset, Fault::Truncate { after_bytes: 10 }] {
        rig.relay().set(fault);
        assert!(!rig.try_worker().await.status.success(), "{fault:?}");
        rig.relay().heal();
        assert_eq!(rig.count("retired_parts WHERE dropped_at IS NULL").await, 1, "{fault:?}");
        forget_claims(&rig).await;
    }
    rig.worker().await;
    assert_archived(&rig, 1000).await;
}

#[tokio::test]
async fn a_part_that_changes_while_it_is_archived_is_archived_anew() {
    let rig = with_table(MediaRig::with_bucket(TestDatabase::new().await, &[]).await).await;
    rig.sql(&rows(8, 1000)).await;
    rig.relay().set(Fault::StallInBody { after_bytes: 10 });
    let change = async {
        rig.relay().wait_for_requests(2).await.expect("it reads back");
        let superuser = rig.superuser().await;
        let table = text(
            &superuser,
            "SELECT relname::text FROM pg_class WHERE relname ~ '^retired_[0-9a-f]{32}$' AND relkind = 'r'",
        )
        .await;
        rig.sql(&format!("DELETE FROM {table} WHERE n = 1")).await;
        rig.relay().heal();
    };
    tokio::join!(rig.worker(), change);
    assert_archived(&rig, 999).await;
}

#[tokio::test]
async fn a_part_stays_its_workers_however_long_the_store_takes_to_give_it_back() {
    let rig = with_table(MediaRig::with_bucket(TestDatabase::new().await, &[]).await).await;
    rig.sql(&rows(8, 1000)).await;
    rig.relay().set_latency(Duration::from_millis(3500));
    let while_it_reads_back = async {
        rig.relay().wait_for_requests(2).await.expect("it reads back");
        // As after a quarter of an hour.
        forget_claims(&rig).await;
        let renewed = "retired_parts WHERE claimed_until > now() + interval '10 minutes'";
        eventually("the claim to be renewed", async || (rig.count(renewed).await == 1).then_some(())).await;
    };
    tokio::join!(rig.worker(), while_it_reads_back);
    assert_archived(&rig, 1000).await;
}

#[tokio::test]
async fn several_workers_archive_each_part_once() {
    let rig = with_table(MediaRig::start().await).await;
    for months in 8..14 {
        rig.sql(&rows(months, 50)).await;
    }
    tokio::join!(rig.try_worker(), rig.try_worker(), rig.try_worker());
    forget_claims(&rig).await;
    rig.worker().await;
    let counts: Vec<_> = archives(&rig).iter().map(|(manifest, _)| manifest["rows"].clone()).collect();
    assert_eq!(counts, vec![Value::from(50); 6]);
    assert_eq!(rig.count("retired_parts WHERE rows = 50 AND dropped_at IS NOT NULL").await, 6);
    assert_eq!(rig.count("measured").await, 0);
}

#[tokio::test]
async fn nobody_waits_long_for_a_part_that_somebody_reads() {
    let rig = with_table(MediaRig::start().await).await;
    rig.sql(&rows(8, 1)).await;
    let superuser = rig.superuser().await;
    let reader = superuser.begin_with("BEGIN; SELECT count(*) FROM measured").await.expect("begun");
    assert!(!rig.try_worker().await.status.success(), "it waits for no reader");
    let row = rows(0, 1);
    let writing = tokio::time::timeout(Duration::from_secs(30), rig.sql(&row));
    assert_eq!(writing.await.expect("nobody stands in the way"), 1);
    reader.rollback().await.expect("it reads no more");
    rig.worker().await;
    assert_eq!(archives(&rig).len(), 1);
}
