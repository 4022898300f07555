//! A tenant's keys: what they may do, and how they end.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use testkit::control_plane::{ControlPlane, TestTenant};
use testkit::edge::eventually;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::support::{ok, problem};

async fn key(api: &ControlPlane, tenant: &TestTenant, body: &Value) -> Value {
    ok(&api.json(Method::POST, &tenant.key, "/v1/api-keys", body).await, 201)
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

#[tokio::test]
async fn a_key_may_do_what_its_scopes_say() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let reader = key(&api, &shop, &json!({"name": "reader", "scopes": ["media:read"]})).await;
    let writer = key(&api, &shop, &json!({"name": "writer", "scopes": ["media:read", "delivery:write"]})).await;
    let put = async |key: &Value| {
        api.json(Method::PUT, text(&key["key"]), "/v1/presets/thumb", &json!({"ops": "w=100"})).await
    };
    assert_eq!(problem(&put(&reader).await, 403, "scope-missing"), "the key lacks the scope delivery:write");
    ok(&put(&writer).await, 201);
    ok(&api.get(text(&reader["key"]), "/v1/presets/thumb").await, 200);
    for key in [&reader, &writer] {
        problem(&api.get(text(&key["key"]), "/v1/api-keys").await, 403, "scope-missing");
        let more = json!({"name": "more", "scopes": ["admin"]});
        problem(&api.json(Method::POST, text(&key["key"]), "/v1/api-keys", &more).await, 403, "scope-missing");
    }
}

#[tokio::test]
async fn keys_are_listed_without_their_secrets() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let made =
        key(&api, &shop, &json!({"name": "ci", "scopes": ["media:write"], "expires_at": "2999-01-01T00:00:00Z"})).await;
    let answer = api.get(&shop.key, "/v1/api-keys").await;
    assert!(!answer.text().contains(&text(&made["key"])[12..]));
    let page = ok(&answer, 200);
    let items = page["items"].as_array().expect("a list");
    let names: Vec<_> = items.iter().map(|key| text(&key["name"])).collect();
    assert_eq!(names, ["first key", "ci"]);
    let listed = &items[1];
    assert!(text(&made["key"]).starts_with(text(&listed["prefix"])));
    assert_eq!((&listed["id"], &listed["scopes"]), (&made["id"], &json!(["media:write"])));
    assert_eq!(listed["expires_at"], "2999-01-01T00:00:00Z");
}

#[tokio::test]
async fn a_revoked_key_stops_within_a_second_and_stays_in_the_list() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let made = key(&api, &shop, &json!({"name": "ci", "scopes": ["media:read"]})).await;
    ok(&api.get(text(&made["key"]), "/v1/presets").await, 200);
    let target = format!("/v1/api-keys/{}", text(&made["id"]));
    ok(&api.delete(&shop.key, &target).await, 204);
    ok(&api.delete(&shop.key, &target).await, 204);
    eventually("the end of the key", async || {
        (api.get(text(&made["key"]), "/v1/presets").await.status == 401).then_some(())
    })
    .await;
    let page = ok(&api.get(&shop.key, "/v1/api-keys").await, 200);
    assert!(page["items"][1]["revoked_at"].is_string());
    for missing in ["/v1/api-keys/00000000-0000-0000-0000-000000000000", "/v1/api-keys/x"] {
        problem(&api.delete(&shop.key, missing).await, 404, "not-found");
    }
}

#[tokio::test]
async fn a_key_ends_when_it_expires() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let soon = (OffsetDateTime::now_utc() + Duration::from_millis(1500)).format(&Rfc3339).expect("a time");
    let made = key(&api, &shop, &json!({"name": "short", "scopes": ["media:read"], "expires_at": soon})).await;
    ok(&api.get(text(&made["key"]), "/v1/presets").await, 200);
    eventually("its end", async || (api.get(text(&made["key"]), "/v1/presets").await.status == 401).then_some(()))
        .await;
    let past = json!({"name": "late", "scopes": ["media:read"], "expires_at": "2020-01-01T00:00:00Z"});
    problem(&api.json(Method::POST, &shop.key, "/v1/api-keys", &past).await, 422, "bad-field");
}

#[tokio::test]
async fn when_a_key_was_used_is_known_after_a_stop() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    ok(&api.get(&shop.key, "/v1/presets").await, 200);
    let api = ControlPlane::start_on(api.stop().await).await;
    let page = ok(&api.get(&shop.key, "/v1/api-keys").await, 200);
    assert!(page["items"][0]["last_used_at"].is_string(), "{page}");
}
