//! Tenants: made, read, changed and deleted by the operator.

use http::Method;
use serde_json::json;
use testkit::control_plane::{ADMIN_KEY, ControlPlane};
use testkit::http::Request;

use crate::support::{etag, ok, problem};

#[tokio::test]
async fn a_tenant_is_made_with_a_key_that_works_at_once() {
    let api = ControlPlane::start().await;
    let answer =
        api.json(Method::POST, ADMIN_KEY, "/v1/tenants", &json!({"slug": "shop", "name": "Shop & Söhne"})).await;
    let made = ok(&answer, 201);
    assert_eq!((answer.header("location"), etag(&answer).as_str()), (Some("/v1/tenants/shop"), "\"v1\""));
    assert_eq!(
        (&made["slug"], &made["name"], &made["state"]),
        (&"shop".into(), &"Shop & Söhne".into(), &"active".into())
    );
    assert_eq!(made["api_key"]["scopes"], json!(["admin"]));
    let key = made["api_key"]["key"].as_str().expect("a key");
    assert!(key.starts_with("cal_"));
    ok(&api.get(key, "/v1/presets").await, 200);
    let seen = ok(&api.get(ADMIN_KEY, "/v1/tenants/shop").await, 200);
    assert_eq!(seen["id"], made["id"]);
    assert!(seen.get("api_key").is_none(), "a key is shown once");
}

#[tokio::test]
async fn a_slug_is_given_once() {
    let api = ControlPlane::start().await;
    api.tenant("shop").await;
    let again = api.json(Method::POST, ADMIN_KEY, "/v1/tenants", &json!({"slug": "shop", "name": "x"})).await;
    assert_eq!(problem(&again, 409, "exists"), "there is already a tenant of this slug");
    assert_eq!(ok(&api.get(ADMIN_KEY, "/v1/tenants").await, 200)["items"].as_array().expect("a list").len(), 1);
}

#[tokio::test]
async fn all_are_listed_by_pages() {
    let api = ControlPlane::start().await;
    for slug in ["e", "a", "d", "b", "c"] {
        api.tenant(slug).await;
    }
    let (mut target, mut slugs) = ("/v1/tenants?limit=2".to_owned(), Vec::new());
    loop {
        let page = ok(&api.get(ADMIN_KEY, &target).await, 200);
        let items = page["items"].as_array().expect("a list");
        slugs.extend(items.iter().map(|tenant| tenant["slug"].as_str().expect("a slug").to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        target = format!("/v1/tenants?limit=2&cursor={cursor}");
    }
    assert_eq!(slugs, ["a", "b", "c", "d", "e"]);
}

#[tokio::test]
async fn the_largest_page_is_not_the_last_one() {
    let api = ControlPlane::start().await;
    let superuser = sqlx::PgPool::connect(&api.database.superuser_url()).await.expect("reached");
    let many = "INSERT INTO tenants (id, slug, name) SELECT gen_random_uuid(), 't' || n, 'x' FROM generate_series(1, 1001) AS n";
    sqlx::query(many).execute(&superuser).await.expect("all rights");
    let first = ok(&api.get(ADMIN_KEY, "/v1/tenants?limit=1000").await, 200);
    let cursor = first["next_cursor"].as_str().expect("there is one more");
    let rest = ok(&api.get(ADMIN_KEY, &format!("/v1/tenants?limit=1000&cursor={cursor}")).await, 200);
    let count = |page: &serde_json::Value| page["items"].as_array().expect("a list").len();
    assert_eq!((count(&first), count(&rest), &rest["next_cursor"]), (1000, 1, &serde_json::Value::Null));
}

#[tokio::test]
async fn a_suspended_tenants_keys_stop_and_come_back() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    ok(&api.get(&shop.key, "/v1/presets").await, 200);
    ok(&api.json(Method::PATCH, ADMIN_KEY, "/v1/tenants/shop", &json!({"state": "suspended"})).await, 200);
    within_a_second(async || api.get(&shop.key, "/v1/presets").await.status == 401).await;
    ok(&api.json(Method::PATCH, ADMIN_KEY, "/v1/tenants/shop", &json!({"state": "active"})).await, 200);
    within_a_second(async || api.get(&shop.key, "/v1/presets").await.status == 200).await;
}

#[tokio::test]
async fn a_change_can_depend_on_the_version() {
    let api = ControlPlane::start().await;
    api.tenant("shop").await;
    let change = |tag: &str, name: &str| {
        let body = json!({ "name": name }).to_string();
        let request = Request::new(Method::PATCH, "/v1/tenants/shop").header("content-type", "application/json");
        request.header("authorization", format!("Bearer {ADMIN_KEY}")).header("if-match", tag).body(body)
    };
    let first = api.send(&change("\"v1\"", "one")).await;
    assert_eq!((ok(&first, 200)["name"].as_str(), etag(&first).as_str()), (Some("one"), "\"v2\""));
    problem(&api.send(&change("\"v1\"", "two")).await, 412, "changed");
    problem(&api.send(&change("v2", "two")).await, 400, "bad-condition");
    assert_eq!(ok(&api.send(&change("*", "three")).await, 200)["name"], "three");
}

#[tokio::test]
async fn only_a_suspended_tenant_is_deleted_and_then_with_all_that_it_has() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    ok(&api.json(Method::PUT, &shop.key, "/v1/presets/thumb", &json!({"ops": "w=100"})).await, 201);
    problem(&api.delete(ADMIN_KEY, "/v1/tenants/shop").await, 422, "bad-field");
    ok(&api.json(Method::PATCH, ADMIN_KEY, "/v1/tenants/shop", &json!({"state": "suspended"})).await, 200);
    ok(&api.delete(ADMIN_KEY, "/v1/tenants/shop").await, 204);
    problem(&api.get(ADMIN_KEY, "/v1/tenants/shop").await, 404, "not-found");
    problem(&api.delete(ADMIN_KEY, "/v1/tenants/shop").await, 404, "not-found");
    let again = api.tenant("shop").await;
    assert_ne!(again.id, shop.id);
    assert_eq!(ok(&api.get(&again.key, "/v1/presets").await, 200)["items"], json!([]));
    within_a_second(async || api.get(&shop.key, "/v1/presets").await.status == 401).await;
}

#[tokio::test]
async fn a_tenants_key_does_not_administer() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    for answer in [
        api.get(&shop.key, "/v1/tenants").await,
        api.get(&shop.key, "/v1/tenants/shop").await,
        api.json(Method::POST, &shop.key, "/v1/tenants", &json!({"slug": "x", "name": "x"})).await,
        api.json(Method::PATCH, &shop.key, "/v1/tenants/shop", &json!({"name": "x"})).await,
        api.delete(&shop.key, "/v1/tenants/shop").await,
    ] {
        problem(&answer, 403, "admin-only");
    }
    problem(&api.get(ADMIN_KEY, "/v1/presets").await, 403, "tenant-only");
    for key in ["", "wrong", &ADMIN_KEY[1..]] {
        problem(&api.get(key, "/v1/tenants").await, 401, "unauthenticated");
    }
}

/// Fails unless it is so within a second, and some time for a busy machine.
async fn within_a_second(mut is_so: impl AsyncFnMut() -> bool) {
    testkit::edge::eventually("it to be so", async || is_so().await.then_some(())).await;
}
