//! What edges are told: a snapshot, and every change after it, whatever happens in between.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use testkit::control_plane::{ADMIN_KEY, ControlPlane, EDGE_TOKEN, TestTenant};
use testkit::http::{Request, Response};
use tokio::task::JoinHandle;

use crate::support::{ok, problem};

const SECRET: &str = "a secret that an application has already";

async fn feed(api: &ControlPlane, query: &str) -> Value {
    ok(&api.get(EDGE_TOKEN, &format!("/internal/v1/feed?{query}")).await, 200)
}

async fn snapshot(api: &ControlPlane, query: &str) -> Value {
    ok(&api.get(EDGE_TOKEN, &format!("/internal/v1/snapshot{query}")).await, 200)
}

async fn preset(api: &ControlPlane, tenant: &TestTenant, ops: &str) {
    let answer = api.json(Method::PUT, &tenant.key, "/v1/presets/thumb", &json!({ "ops": ops })).await;
    assert!(answer.status.is_success(), "{}", answer.text());
}

/// Where the feed is.
async fn position(api: &ControlPlane) -> (String, i64) {
    let answer = feed(api, "").await;
    (answer["epoch"].as_str().expect("an epoch").to_owned(), answer["seq"].as_i64().expect("a number"))
}

/// An edge that waits for a change.
fn waiting(api: &ControlPlane, query: String) -> JoinHandle<Response> {
    let request = Request::get(format!("/internal/v1/feed?{query}"));
    let (addr, request) = (api.addr(), request.header("authorization", format!("Bearer {EDGE_TOKEN}")));
    tokio::spawn(async move { testkit::http::send(addr, &request).await.expect("an answer") })
}

#[tokio::test]
async fn an_edge_begins_with_a_snapshot_and_goes_on_with_changes() {
    let api = ControlPlane::start().await;
    let (shop, _blog) = (api.tenant("shop").await, api.tenant("blog").await);
    preset(&api, &shop, "w=1").await;
    ok(&api.json(Method::POST, &shop.key, "/v1/signing-keys", &json!({"kid": "k1", "secret": SECRET})).await, 201);
    let first = feed(&api, "").await;
    assert_eq!((&first["snapshot"], &first["events"]), (&json!(true), &json!([])));
    let all = snapshot(&api, "").await;
    let (epoch, seq) = (all["epoch"].as_str().expect("an epoch"), all["seq"].as_i64().expect("a number"));
    assert_eq!((&all["epoch"], &all["next"]), (&first["epoch"], &Value::Null));
    let tenants = all["tenants"].as_array().expect("a list");
    let of_shop = tenants.iter().find(|tenant| tenant["slug"] == "shop").expect("it is there");
    assert_eq!((&of_shop["id"], &of_shop["state"]), (&json!(shop.id), &json!("active")));
    assert_eq!((&of_shop["presets"], &of_shop["images"]), (&json!({"thumb": "w=1"}), &json!({})));
    assert_eq!(of_shop["signing_keys"], json!({"k1": SECRET}));
    assert_eq!((tenants.len(), &of_shop["domains"]), (2, &json!([])));

    assert_eq!(feed(&api, &format!("epoch={epoch}&after={seq}")).await["events"], json!([]));
    preset(&api, &shop, "w=2").await;
    ok(&api.json(Method::POST, &shop.key, "/v1/signing-keys", &json!({"kid": "k2", "secret": SECRET})).await, 201);
    ok(&api.delete(&shop.key, "/v1/signing-keys/k1").await, 204);
    let after = feed(&api, &format!("epoch={epoch}&after={seq}")).await;
    assert_eq!((&after["snapshot"], &after["seq"]), (&json!(false), &json!(seq + 3)));
    let event = |number: i64, kind: &str, name: &str, body: Value| json!({"seq": seq + number, "tenant": shop.id, "kind": kind, "name": name, "body": body});
    let expected = json!([
        event(1, "preset", "thumb", json!("w=2")),
        event(2, "signing_key", "k2", json!(SECRET)),
        event(3, "signing_key", "k1", Value::Null),
    ]);
    let mut told = after["events"].clone();
    for event in told.as_array_mut().expect("a list") {
        assert!(event.as_object_mut().and_then(|event| event.remove("at")).is_some_and(|at| at.is_u64()));
    }
    assert_eq!(told, expected);
}

#[tokio::test]
async fn an_edge_that_waits_is_told_at_once() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let (epoch, seq) = position(&api).await;
    let begun = Instant::now();
    let edges: Vec<_> = (0..3).map(|_| waiting(&api, format!("epoch={epoch}&after={seq}&wait=30"))).collect();
    // Refused, so nothing is told.
    assert_eq!(api.json(Method::PUT, &shop.key, "/v1/presets/thumb", &json!({"ops": "w=0"})).await.status, 422);
    preset(&api, &shop, "w=1").await;
    for edge in edges {
        let answer = ok(&edge.await.expect("no panic"), 200);
        assert_eq!((&answer["events"][0]["body"], &answer["seq"]), (&json!("w=1"), &json!(seq + 1)));
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let nothing = feed(&api, &format!("epoch={epoch}&after={}&wait=1", seq + 1)).await;
    assert_eq!((&nothing["events"], &nothing["snapshot"]), (&json!([]), &json!(false)));
}

#[tokio::test]
async fn an_edge_that_was_away_for_too_long_starts_over() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let (epoch, seq) = position(&api).await;
    for ops in ["w=1", "w=2", "w=3"] {
        preset(&api, &shop, ops).await;
    }
    let superuser = PgPool::connect(&api.database.superuser_url()).await.expect("reached");
    let trim = async |upto: i64| {
        sqlx::query("DELETE FROM feed_events WHERE seq <= $1")
            .bind(upto)
            .execute(&superuser)
            .await
            .expect("all rights");
    };
    trim(seq + 1).await;
    assert_eq!(feed(&api, &format!("epoch={epoch}&after={seq}")).await["snapshot"], true);
    assert_eq!(
        feed(&api, &format!("epoch={epoch}&after={}", seq + 1)).await["events"].as_array().map(Vec::len),
        Some(2)
    );
    trim(seq + 3).await;
    assert_eq!(feed(&api, &format!("epoch={epoch}&after={}", seq + 2)).await["snapshot"], true);
    assert_eq!(feed(&api, &format!("epoch={epoch}&after={}", seq + 3)).await["snapshot"], false);
    let other = "00000000-0000-0000-0000-000000000000";
    assert_eq!(feed(&api, &format!("epoch={other}&after={}", seq + 3)).await["snapshot"], true);
}

#[tokio::test]
async fn a_database_that_was_set_back_begins_a_new_epoch() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    preset(&api, &shop, "w=1").await;
    let (epoch, seq) = position(&api).await;
    let superuser = PgPool::connect(&api.database.superuser_url()).await.expect("reached");
    for back in ["DELETE FROM feed_events WHERE kind = 'preset'", "UPDATE feed_head SET seq = seq - 1"] {
        sqlx::query(back).execute(&superuser).await.expect("all rights");
    }
    // The first edge to come knows more than the database.
    let told = feed(&api, &format!("epoch={epoch}&after={seq}")).await;
    assert_eq!((&told["snapshot"], told["epoch"] == epoch.as_str()), (&json!(true), false));
    // Another change is given the number that edges know for the lost one: none takes it for that.
    preset(&api, &shop, "w=2").await;
    assert_eq!(feed(&api, &format!("epoch={epoch}&after={seq}")).await["snapshot"], true);
    let (new, now) = position(&api).await;
    assert_eq!((&told["epoch"], now), (&json!(new), seq));
}

#[tokio::test]
async fn a_snapshot_of_many_tenants_comes_by_pages_and_misses_none() {
    let api = ControlPlane::start().await;
    let superuser = PgPool::connect(&api.database.superuser_url()).await.expect("reached");
    let many = "INSERT INTO tenants (id, slug, name) SELECT gen_random_uuid(), 't' || n, 'x' FROM generate_series(1, 1200) AS n";
    sqlx::query(many).execute(&superuser).await.expect("all rights");
    let (mut query, mut slugs) = (String::new(), std::collections::BTreeSet::new());
    loop {
        let page = snapshot(&api, &query).await;
        let tenants = page["tenants"].as_array().expect("a list");
        assert!(tenants.len() <= 500);
        for tenant in tenants {
            assert!(slugs.insert(tenant["slug"].as_str().expect("a slug").to_owned()), "{tenant} comes twice");
        }
        let Some(next) = page["next"].as_str() else { break };
        query = format!("?after={next}");
    }
    assert_eq!(slugs.len(), 1200);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_edges_that_wait() {
    let api = ControlPlane::start().await;
    let (epoch, seq) = position(&api).await;
    let edge = waiting(&api, format!("epoch={epoch}&after={seq}&wait=30"));
    testkit::edge::eventually("an edge that waits", async || {
        let metrics = api.send(&Request::get("/metrics")).await.text();
        // This request, and the edge's.
        metrics.contains("calotype_api_requests_running 2").then_some(())
    })
    .await;
    let begun = Instant::now();
    api.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(ok(&edge.await.expect("no panic"), 200)["events"], json!([]));
}

#[tokio::test]
async fn only_edges_are_told() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    for target in ["/internal/v1/feed", "/internal/v1/snapshot"] {
        for key in ["", ADMIN_KEY, &shop.key, &EDGE_TOKEN[1..]] {
            problem(&api.get(key, target).await, 401, "unauthenticated");
        }
    }
    problem(&api.get(EDGE_TOKEN, "/v1/tenants").await, 401, "unauthenticated");
    for bad in ["epoch=x", "after=-1", "after=x", "wait=31", "wait=x", "more=1"] {
        problem(&api.get(EDGE_TOKEN, &format!("/internal/v1/feed?{bad}")).await, 422, "bad-field");
    }
    problem(&api.get(EDGE_TOKEN, "/internal/v1/snapshot?after=x").await, 422, "bad-field");
}
