//! A replica to read lists from: where reads go, how far it may be behind, and that nobody notices when it is gone.

use serde_json::{Value, json};
use testkit::control_plane::ADMIN_KEY;
use testkit::database::{APP, TestDatabase, TestReplica};
use testkit::edge::eventually;
use testkit::http::Request;

use crate::media_rig::{MediaRig, TestForm, id};
use crate::support::{ok, problem};

/// A control plane whose database has a replica, once that is used.
async fn rig(lag_seconds: u64) -> (MediaRig, TestReplica) {
    let database = TestDatabase::alone().await;
    let replica = database.replica().await;
    let settings = [("READ_REPLICA_URL", replica.url(APP)), ("REPLICA_LAG_SECONDS", lag_seconds.to_string())];
    let rig = MediaRig::on(database, &settings).await;
    usable(&rig, true).await;
    (rig, replica)
}

async fn metric(rig: &MediaRig, name: &str) -> f64 {
    let metrics = rig.api.send(&Request::get("/metrics")).await.text();
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name}: {metrics}")).parse().expect("a number")
}

async fn usable(rig: &MediaRig, is_usable: bool) {
    let what = if is_usable { "the replica" } else { "the end of the replica" };
    let wanted = f64::from(u8::from(is_usable));
    eventually(what, async || (metric(rig, "calotype_api_replica_usable").await == wanted).then_some(())).await;
}

async fn upload(rig: &MediaRig, public_id: &str) -> String {
    id(&ok(&rig.post(TestForm::file(b"x").text("public_id", public_id).text("folder", public_id)).await, 201))
}

fn length(page: &Value) -> usize {
    page["items"].as_array().expect("a list").len()
}

#[tokio::test]
async fn lists_are_read_there_and_everything_else_is_not() {
    let (rig, replica) = rig(3600).await;
    let key = &rig.shop.key;
    // What has happened so far is there.
    let newest = Request::get("/v1/audit-log").header("authorization", format!("Bearer {key}"));
    let before = length(&ok(&rig.api.send(&newest.header("cache-control", "no-cache")).await, 200));
    let list = async || length(&ok(&rig.api.get(key, "/v1/audit-log").await, 200));
    eventually("the tenant", async || (list().await == before).then_some(())).await;
    let by_operator = format!("/v1/operator/audit-log?tenant={}", rig.shop.id);
    replica.pause().await;
    let medium = upload(&rig, "a").await;
    let order = json!({"action": "tag", "tags": ["z"], "ids": [medium]});
    ok(&rig.api.json(http::Method::POST, key, "/v1/media/batch", &order).await, 202);
    ok(&rig.get(&medium).await, 200);
    ok(&rig.api.get(key, "/v1/media/by-public-id/a").await, 200);
    let lists = [("/v1/media", 0, 1), ("/v1/folders", 0, 1), ("/v1/jobs", 0, 1), ("/v1/audit-log", before, before + 3)];
    for (target, of_replica, of_primary) in lists {
        let reads = async |newest: bool| {
            let request = Request::get(target).header("authorization", format!("Bearer {key}"));
            let request = if newest { request.header("cache-control", "no-cache") } else { request };
            length(&ok(&rig.api.send(&request).await, 200))
        };
        assert_eq!((reads(false).await, reads(true).await), (of_replica, of_primary), "{target}");
    }
    assert_eq!(length(&ok(&rig.api.get(ADMIN_KEY, &by_operator).await, 200)), before);
    let newest = Request::get(&by_operator).header("authorization", format!("Bearer {ADMIN_KEY}"));
    assert_eq!(length(&ok(&rig.api.send(&newest.header("cache-control", "no-cache")).await, 200)), before + 3);
    let stored = async |key: &str, target: &str| ok(&rig.api.get(key, target).await, 200)["totals"]["files"].clone();
    assert_eq!(
        (stored(key, "/v1/usage").await, stored(ADMIN_KEY, "/v1/tenants/shop/usage").await),
        (0.into(), 0.into())
    );
    // What is set is read where it was set.
    ok(&rig.api.json(http::Method::PUT, key, "/v1/presets/p", &json!({"ops": "w=1"})).await, 201);
    assert_eq!(length(&ok(&rig.api.get(key, "/v1/presets").await, 200)), 1);
    eventually("the count", async || {
        (metric(&rig, "calotype_api_replica_reads_total{from=\"replica\"}").await >= 6.0).then_some(())
    })
    .await;
    replica.resume().await;
    eventually("what was changed", async || {
        (length(&ok(&rig.api.get(key, "/v1/media").await, 200)) == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_that_is_too_far_behind_is_not_read_from_until_it_has_caught_up() {
    let (rig, replica) = rig(1).await;
    replica.pause().await;
    upload(&rig, "a").await;
    usable(&rig, false).await;
    assert_eq!(length(&ok(&rig.api.get(&rig.shop.key, "/v1/media").await, 200)), 1);
    assert!(metric(&rig, "calotype_api_replica_lag_seconds").await > 1.0);
    assert!(rig.api.log().contains("behind"), "{}", rig.api.log());
    replica.resume().await;
    usable(&rig, true).await;
    assert_eq!(length(&ok(&rig.api.get(&rig.shop.key, "/v1/media").await, 200)), 1);
}

#[tokio::test]
async fn when_it_is_down_the_primary_is_read_from_and_nobody_notices() {
    let (rig, mut replica) = rig(5).await;
    upload(&rig, "a").await;
    let list = async || ok(&rig.api.get(&rig.shop.key, "/v1/media").await, 200);
    eventually("the medium", async || (length(&list().await) == 1).then_some(())).await;
    replica.crash().await;
    for _ in 0..20 {
        assert_eq!(length(&list().await), 1);
    }
    usable(&rig, false).await;
    upload(&rig, "b").await;
    assert_eq!(length(&list().await), 2);
    eventually("the count", async || {
        (metric(&rig, "calotype_api_replica_reads_total{from=\"primary\"}").await > 0.0).then_some(())
    })
    .await;
    let warnings = rig.api.log().matches("lists are not read from the replica").count();
    assert!((1..=2).contains(&warnings), "{}", rig.api.log());
    replica.start_again().await;
    usable(&rig, true).await;
    eventually("what was missed", async || (length(&list().await) == 2).then_some(())).await;
}

#[tokio::test]
async fn what_the_replica_gives_up_to_keep_up_is_asked_for_again() {
    let (rig, replica) = rig(60).await;
    upload(&rig, "a").await;
    let list = async || rig.api.get(&rig.shop.key, "/v1/media").await;
    eventually("the medium", async || (length(&ok(&list().await, 200)) == 1).then_some(())).await;
    // Who reads waits for long, and changes of the primary's wait for nobody.
    let slow = "CREATE OR REPLACE FUNCTION current_tenant() RETURNS uuid LANGUAGE plpgsql STABLE AS $$
        BEGIN
            IF pg_is_in_recovery() THEN PERFORM pg_sleep(9); END IF;
            RETURN nullif(current_setting('calotype.tenant', true), '')::uuid;
        END $$";
    rig.sql(slow).await;
    replica.set("max_standby_streaming_delay", "0").await;
    let of_replica = replica.superuser().await;
    eventually("the slow reading", async || {
        let slow = "SELECT prosrc LIKE '%pg_sleep%' FROM pg_proc WHERE proname = 'current_tenant'";
        sqlx::query_scalar::<_, bool>(slow).fetch_one(&of_replica).await.expect("read").then_some(())
    })
    .await;
    let change = async {
        eventually("somebody to read", async || {
            let reading = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
            (sqlx::query_scalar::<_, i64>(reading).fetch_one(&of_replica).await.expect("read") > 0).then_some(())
        })
        .await;
        // As a migration does.
        rig.sql("DO $$ BEGIN LOCK TABLE media IN ACCESS EXCLUSIVE MODE; END $$").await;
    };
    let (given_up, ()) = tokio::join!(list(), change);
    problem(&given_up, 503, "database-unavailable");
    assert!(given_up.header("retry-after").is_some());
    let conflicts = "SELECT confl_lock FROM pg_stat_database_conflicts WHERE datname = current_database()";
    eventually("the conflict to be counted", async || {
        (sqlx::query_scalar::<_, i64>(conflicts).fetch_one(&of_replica).await.expect("read") == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn another_database_is_no_replica() {
    let (database, other) = (TestDatabase::new().await, TestDatabase::new().await);
    let rig = MediaRig::on(database, &[("READ_REPLICA_URL", other.url(APP))]).await;
    upload(&rig, "a").await;
    assert_eq!(length(&ok(&rig.api.get(&rig.shop.key, "/v1/media").await, 200)), 1);
    eventually("a word", async || rig.api.log().contains("it is no streaming replica").then_some(())).await;
    assert_eq!(metric(&rig, "calotype_api_replica_usable").await, 0.0);
}
