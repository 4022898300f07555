//! `Idempotency-Key`: what is asked twice is done once, whatever happens in between.

use http::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use testkit::control_plane::{ADMIN_KEY, ControlPlane, MASTER_KEY, TestTenant};
use testkit::database::{TestDatabase, WORKER};
use testkit::edge::eventually;
use testkit::http::{Request, Response};
use tokio::task::{JoinHandle, JoinSet};

use crate::support::{ok, problem};

fn request(tenant: &TestTenant, target: &str, key: &str, body: &Value) -> Request {
    let request = Request::new(Method::POST, target).header("authorization", format!("Bearer {}", tenant.key));
    request.header("content-type", "application/json").header("idempotency-key", key).body(body.to_string())
}

fn new_key(name: &str) -> Value {
    json!({"name": name, "scopes": ["media:read"]})
}

fn sent(api: &ControlPlane, request: Request) -> JoinHandle<Response> {
    let addr = api.addr();
    tokio::spawn(async move { testkit::http::send(addr, &request).await.expect("an answer") })
}

/// How many keys a tenant has.
async fn keys(api: &ControlPlane, tenant: &TestTenant) -> usize {
    ok(&api.get(&tenant.key, "/v1/api-keys").await, 200)["items"].as_array().expect("a list").len()
}

#[tokio::test]
async fn what_is_sent_again_is_answered_the_same_and_done_once() {
    let api = ControlPlane::start().await;
    let (shop, blog) = (api.tenant("shop").await, api.tenant("blog").await);
    let once = request(&shop, "/v1/api-keys", "one", &new_key("a"));
    let first = api.send(&once).await;
    ok(&first, 201);
    assert_eq!(first.header("idempotency-replayed"), None);
    for _ in 0..50 {
        let again = api.send(&once).await;
        assert_eq!((again.status, &again.body), (first.status, &first.body));
        for name in ["etag", "location", "content-type"] {
            assert_eq!(again.header(name), first.header(name), "{name}");
        }
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
    }
    assert_eq!(keys(&api, &shop).await, 2);
    // Another body, another route, another tenant.
    for _ in 0..50 {
        problem(&api.send(&request(&shop, "/v1/api-keys", "one", &new_key("b"))).await, 422, "idempotency-mismatch");
    }
    ok(&api.send(&request(&shop, "/v1/signing-keys", "one", &json!({"kid": "k"}))).await, 201);
    let other = api.send(&request(&blog, "/v1/api-keys", "one", &new_key("a"))).await;
    assert_ne!(ok(&other, 201)["key"], ok(&first, 201)["key"]);
    assert_eq!(other.header("idempotency-replayed"), None);
    // Without a key each is a new one.
    for _ in 0..2 {
        ok(&api.json(Method::POST, &shop.key, "/v1/api-keys", &new_key("a")).await, 201);
    }
    assert_eq!(keys(&api, &shop).await, 4);
}

#[tokio::test]
async fn of_many_at_once_one_is_done() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let mut tries = JoinSet::new();
    for _ in 0..24 {
        let (addr, request) = (api.addr(), request(&shop, "/v1/api-keys", "one", &new_key("a")));
        tries.spawn(async move { testkit::http::send(addr, &request).await.expect("an answer") });
    }
    let (mut first, mut bodies) = (0, Vec::new());
    for answer in tries.join_all().await {
        if answer.status == 201 {
            first += usize::from(answer.header("idempotency-replayed").is_none());
            bodies.push(answer.body);
        } else {
            problem(&answer, 409, "idempotency-running");
            assert_eq!(answer.header("retry-after"), Some("1"));
        }
    }
    assert_eq!(first, 1, "of {} that were answered", bodies.len());
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    assert_eq!(keys(&api, &shop).await, 2);
}

/// Nobody gets on with signing keys while this is held.
async fn hold(superuser: &PgPool) -> sqlx::Transaction<'static, sqlx::Postgres> {
    superuser.begin_with("BEGIN; LOCK TABLE signing_keys IN ACCESS EXCLUSIVE MODE").await.expect("nobody else has it")
}

/// Returns when a statement of the control plane waits for a lock.
async fn someone_waits(superuser: &PgPool) {
    eventually("a request that waits", async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'app'
            AND wait_event_type = 'Lock'";
        let count: i64 = sqlx::query_scalar(waiting).fetch_one(superuser).await.expect("read");
        (count > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn while_the_first_is_running_the_second_is_told() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let superuser = PgPool::connect(&api.database.superuser_url()).await.expect("reached");
    let held = hold(&superuser).await;
    let once = request(&shop, "/v1/signing-keys", "one", &json!({"kid": "k"}));
    let first = sent(&api, once.clone());
    someone_waits(&superuser).await;
    problem(&api.send(&once).await, 409, "idempotency-running");
    held.rollback().await.expect("given back");
    let first = first.await.expect("no panic");
    ok(&first, 201);
    let again = api.send(&once).await;
    assert_eq!((&again.body, again.header("idempotency-replayed")), (&first.body, Some("true")));
}

#[tokio::test]
async fn a_server_that_dies_meanwhile_leaves_the_key_free() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let superuser = PgPool::connect(&api.database.superuser_url()).await.expect("reached");
    let held = hold(&superuser).await;
    let once = request(&shop, "/v1/signing-keys", "one", &json!({"kid": "k"}));
    let addr = api.addr();
    let lost = tokio::spawn({
        let once = once.clone();
        async move { testkit::http::send(addr, &once).await }
    });
    someone_waits(&superuser).await;
    let api = api.restart_after_crash().await;
    assert!(lost.await.expect("no panic").is_err(), "it was killed");
    held.rollback().await.expect("given back");
    // The database notices that nobody reads its answer.
    let made = eventually("the key's end", async || {
        let answer = api.send(&once).await;
        (answer.status != 409).then_some(answer)
    })
    .await;
    ok(&made, 201);
    assert_eq!(made.header("idempotency-replayed"), None);
    let again = api.restart_after_crash().await.send(&once).await;
    assert_eq!((&again.body, again.header("idempotency-replayed")), (&made.body, Some("true")));
}

#[tokio::test]
async fn what_was_refused_or_failed_may_be_tried_again() {
    let mut api = ControlPlane::start_on(TestDatabase::alone().await).await;
    let shop = api.tenant("shop").await;
    ok(&api.json(Method::POST, &shop.key, "/v1/signing-keys", &json!({"kid": "k"})).await, 201);
    let once = request(&shop, "/v1/signing-keys", "one", &json!({"kid": "k"}));
    // However soon: nothing is left of what was refused.
    for _ in 0..50 {
        problem(&api.send(&once).await, 409, "exists");
    }
    ok(&api.delete(&shop.key, "/v1/signing-keys/k").await, 204);
    api.database.crash().await;
    // Connections that were open are served until their ends notice: one refusal may be that, a second one is the end of all.
    eventually("the end of the database", async || {
        for _ in 0..2 {
            if api.send(&Request::get("/readyz")).await.status != 503 {
                return None;
            }
        }
        Some(())
    })
    .await;
    problem(&api.send(&once).await, 503, "database-unavailable");
    api.database.start_again().await;
    let made = eventually("the database", async || {
        let answer = api.send(&once).await;
        (answer.status != 503).then_some(answer)
    })
    .await;
    ok(&made, 201);
    assert_eq!(made.header("idempotency-replayed"), None);
}

#[tokio::test]
async fn keys_that_are_none_and_requests_that_are_not_kept() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    for bad in ["", &"k".repeat(256), "a\tb", "ü"] {
        let answer = api.send(&request(&shop, "/v1/api-keys", bad, &new_key("a"))).await;
        problem(&answer, 400, "bad-idempotency-key");
    }
    let twice = request(&shop, "/v1/api-keys", "one", &new_key("a")).header("idempotency-key", "two");
    problem(&api.send(&twice).await, 400, "bad-idempotency-key");
    ok(&api.send(&request(&shop, "/v1/api-keys", &"k".repeat(255), &new_key("a"))).await, 201);
    let tenant = Request::new(Method::POST, "/v1/tenants").header("authorization", format!("Bearer {ADMIN_KEY}"));
    let tenant = tenant.header("content-type", "application/json").header("idempotency-key", "one");
    problem(&api.send(&tenant.body(r#"{"slug":"a","name":"a"}"#)).await, 400, "idempotency-unsupported");
    problem(&api.get(ADMIN_KEY, "/v1/tenants/a").await, 404, "not-found");
}

#[tokio::test]
async fn secrets_are_kept_sealed_or_not_at_all() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let made = ok(&api.send(&request(&shop, "/v1/api-keys", "one", &new_key("a"))).await, 201);
    let superuser = PgPool::connect(&api.database.superuser_url()).await.expect("reached");
    let kept = "SELECT is_sealed, body FROM idempotency_keys";
    let (is_sealed, bytes): (bool, Vec<u8>) = sqlx::query_as(kept).fetch_one(&superuser).await.expect("one");
    let key = made["key"].as_str().expect("a key");
    assert!(is_sealed && !bytes.windows(key.len()).any(|part| part == key.as_bytes()));
    assert!(!format!("{:?}{}", api.events(), api.log()).contains(key));

    let open = ControlPlane::start_with(TestDatabase::new().await, &[]).await;
    let shop = open.tenant("shop").await;
    problem(&open.send(&request(&shop, "/v1/api-keys", "one", &new_key("a"))).await, 501, "no-master-key");
    assert_eq!(keys(&open, &shop).await, 1, "nothing was made");
}

#[tokio::test]
async fn kept_answers_are_sealed_anew_with_a_new_master_key() {
    let other = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=".to_owned();
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let once = request(&shop, "/v1/api-keys", "one", &new_key("a"));
    let first = api.send(&once).await;
    ok(&first, 201);
    let settings = [("MASTER_KEY", other.clone()), ("PREVIOUS_MASTER_KEYS", format!("[\"{MASTER_KEY}\"]"))];
    let done = api.run(&["reseal"], &settings).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    // The old key does not open it any more, and that is no answer to be taken for one.
    problem(&api.send(&once).await, 500, "internal");
    let api = ControlPlane::start_with(api.stop().await, &[("MASTER_KEY", other)]).await;
    let again = api.send(&once).await;
    assert_eq!((&again.body, again.header("idempotency-replayed")), (&first.body, Some("true")));
}

#[tokio::test]
async fn answers_are_kept_for_a_day() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    for key in ["old", "new"] {
        ok(&api.send(&request(&shop, "/v1/api-keys", key, &new_key(key))).await, 201);
    }
    let superuser = PgPool::connect(&api.database.superuser_url()).await.expect("reached");
    let age = "UPDATE idempotency_keys SET created_at = now() - interval '25 hours' WHERE key = 'old'";
    sqlx::query(age).execute(&superuser).await.expect("all rights");
    // It is not given again even before it is forgotten, and may be used for something else.
    let reused = api.send(&request(&shop, "/v1/api-keys", "old", &new_key("other"))).await;
    ok(&reused, 201);
    assert_eq!(reused.header("idempotency-replayed"), None);
    sqlx::query(age).execute(&superuser).await.expect("all rights");
    let url = ("WORKER_URL", api.database.url(WORKER));
    let done = api.run(&["worker", "--once"], &[url]).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let left: String = sqlx::query_scalar("SELECT string_agg(key, ' ') FROM idempotency_keys")
        .fetch_one(&superuser)
        .await
        .expect("read");
    assert_eq!(left, "new");
}
