//! `/v1/workflows`: what may be put, and what is never shown again.

use ::http::Method;
use serde_json::{Value, json};
use testkit::control_plane::{ControlPlane, MASTER_KEY, TestTenant};
use testkit::database::TestDatabase;
use testkit::http::{Request, Response};

use crate::support::{etag, ok, problem};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn with_scanner() -> (ControlPlane, TestTenant) {
    let settings = [("MASTER_KEY", MASTER_KEY.to_owned()), ("SCANNER__ADDRESS", "127.0.0.1:9".to_owned())];
    let api = ControlPlane::start_with(TestDatabase::new().await, &settings).await;
    let shop = api.tenant("shop").await;
    (api, shop)
}

async fn put(api: &ControlPlane, tenant: &TestTenant, kind: &str, steps: Value) -> Response {
    api.json(Method::PUT, &tenant.key, &format!("/v1/workflows/{kind}"), &json!({ "steps": steps })).await
}

fn look(more: Value) -> Value {
    let mut http = json!({"url": "https://judge.example/look"});
    http.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    json!([{"name": "virus", "scan": {}, "on_failure": "open"}, {"name": "look", "http": http, "wait": false, "timeout_seconds": 5}])
}

#[tokio::test]
async fn a_workflow_is_put_read_replaced_and_deleted() {
    let (api, shop) = with_scanner().await;
    let answer = put(&api, &shop, "image", look(json!({"secret": SECRET, "events": ["created"]}))).await;
    let made = ok(&answer, 201);
    assert_eq!((etag(&answer).as_str(), answer.header("location")), ("\"v1\"", Some("/v1/workflows/image")));
    let expected = json!([
        {"name": "virus", "scan": {}, "wait": true, "on_failure": "open", "timeout_seconds": 60},
        {"name": "look", "http": {"url": "https://judge.example/look", "events": ["created"]}, "wait": false,
         "on_failure": "closed", "timeout_seconds": 5},
    ]);
    assert_eq!((&made["kind"], &made["steps"]), (&json!("image"), &expected));
    assert!(!answer.text().contains("whsec"));
    let read = api.get(&shop.key, "/v1/workflows/image").await;
    assert_eq!((&ok(&read, 200), etag(&read).as_str()), (&made, "\"v1\""));
    // What is read can be put: secrets stay.
    let conditional = Request::new(Method::PUT, "/v1/workflows/image")
        .header("authorization", format!("Bearer {}", shop.key))
        .header("content-type", "application/json")
        .header("if-match", "\"v1\"")
        .body(json!({"steps": expected}).to_string());
    assert_eq!(etag(&api.send(&conditional).await), "\"v2\"");
    problem(&api.send(&conditional).await, 412, "changed");
    ok(&put(&api, &shop, "any", json!([])).await, 201);
    let page = ok(&api.get(&shop.key, "/v1/workflows?limit=1").await, 200);
    assert_eq!(page["items"][0]["kind"], "any");
    let next = format!("/v1/workflows?limit=1&cursor={}", page["next_cursor"].as_str().expect("another page"));
    let page = ok(&api.get(&shop.key, &next).await, 200);
    assert_eq!((&page["items"][0]["kind"], &page["next_cursor"]), (&json!("image"), &Value::Null));
    assert_eq!(api.delete(&shop.key, "/v1/workflows/image").await.status, 204);
    problem(&api.get(&shop.key, "/v1/workflows/image").await, 404, "not-found");
    problem(&api.delete(&shop.key, "/v1/workflows/image").await, 404, "not-found");
    // A secret goes with its workflow.
    let detail = problem(&put(&api, &shop, "image", look(json!({}))).await, 422, "bad-field");
    assert!(detail.contains("secret is missing"), "{detail}");
}

#[tokio::test]
async fn what_is_not_allowed_is_told() {
    let (api, shop) = with_scanner().await;
    for (steps, code, told) in [
        (json!([{"name": "A", "scan": {}}]), 422, "a name is"),
        (json!([{"name": "a"}]), 422, "either"),
        (json!([{"name": "a", "scan": {}, "wait": false}, {"name": "b", "scan": {}}]), 422, "come before"),
        (look(json!({"secret": "hunter2"})), 422, "whsec_"),
        (look(json!({"secret": SECRET, "url": "file:///etc/passwd"})), 422, "url: "),
        (look(json!({"secret": SECRET, "events": ["deleted"]})), 400, "unknown variant"),
        (look(json!({"secret": SECRET, "method": "GET"})), 400, "unknown field"),
        (json!([{"name": "a", "scan": {"address": "10.0.0.1:3310"}}]), 400, "unknown field"),
        (json!([{"name": "a", "scan": {}, "on_failure": "ignore"}]), 400, "unknown variant"),
        (json!([{"name": "a", "scan": {}, "timeout_seconds": 601}]), 422, "1 to 600"),
    ] {
        let answer = put(&api, &shop, "image", steps.clone()).await;
        let detail = problem(&answer, code, if code == 422 { "bad-field" } else { "bad-json" });
        assert!(detail.contains(told), "{steps}: {detail}");
        assert!(!detail.contains("hunter2"), "{detail}");
    }
    problem(&put(&api, &shop, "picture", json!([])).await, 404, "not-found");
    assert_eq!(ok(&api.get(&shop.key, "/v1/workflows").await, 200)["items"], json!([]));
    let key = json!({"name": "x", "scopes": ["media:read", "media:write", "delivery:write"]});
    let key = ok(&api.json(Method::POST, &shop.key, "/v1/api-keys", &key).await, 201);
    let key = key["key"].as_str().expect("a key");
    for answer in [
        api.get(key, "/v1/workflows").await,
        api.get(key, "/v1/workflows/any").await,
        api.json(Method::PUT, key, "/v1/workflows/any", &json!({"steps": []})).await,
        api.delete(key, "/v1/workflows/any").await,
    ] {
        problem(&answer, 403, "scope-missing");
    }
}

#[tokio::test]
async fn without_a_scanner_or_a_master_key_nothing_is_promised() {
    let api = ControlPlane::start_with(TestDatabase::new().await, &[]).await;
    let shop = api.tenant("shop").await;
    problem(&put(&api, &shop, "any", json!([{"name": "virus", "scan": {}}])).await, 501, "no-scanner");
    let look = json!([{"name": "look", "http": {"url": "https://judge.example/", "secret": SECRET}}]);
    problem(&put(&api, &shop, "any", look).await, 501, "no-master-key");
    let metrics = api.send(&Request::get("/metrics")).await.text();
    assert!(
        metrics.contains("calotype_api_scanner_down 0") && metrics.contains("calotype_api_quarantine_files 0"),
        "{metrics}"
    );
}

#[tokio::test]
async fn secrets_are_sealed_and_sealed_anew() {
    let (api, shop) = with_scanner().await;
    ok(&put(&api, &shop, "any", look(json!({"secret": SECRET}))).await, 201);
    let superuser = sqlx::PgPool::connect(&api.database.superuser_url()).await.expect("reached");
    let kept = async || {
        let row: (Value, Vec<u8>) =
            sqlx::query_as("SELECT steps, secrets FROM workflows").fetch_one(&superuser).await.expect("read");
        row
    };
    let (steps, sealed) = kept().await;
    assert!(!steps.to_string().contains("whsec") && !String::from_utf8_lossy(&sealed).contains("MfKQ"));
    let newer = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=".to_owned();
    let keys = [("MASTER_KEY", newer), ("PREVIOUS_MASTER_KEYS", format!("[\"{MASTER_KEY}\"]"))];
    let done = api.run(&["reseal"], &keys).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_ne!(kept().await.1, sealed);
}
