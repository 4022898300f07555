//! Purges through the API: checked, and told to edges as changes.

use http::Method;
use serde_json::{Value, json};
use testkit::control_plane::{ControlPlane, EDGE_TOKEN};
use testkit::http::Request;

use crate::support::{ok, problem};

/// What edges were told to purge so far.
async fn told(api: &ControlPlane) -> Vec<Value> {
    let all = ok(&api.get(EDGE_TOKEN, "/internal/v1/snapshot").await, 200);
    let epoch = all["epoch"].as_str().expect("an epoch");
    let feed = ok(&api.get(EDGE_TOKEN, &format!("/internal/v1/feed?epoch={epoch}&after=0")).await, 200);
    let events = feed["events"].as_array().expect("a list").iter().filter(|event| event["kind"] == "purge");
    events.map(|event| json!([event["tenant"], event["name"], event["body"]])).collect()
}

#[tokio::test]
async fn each_kind_of_purge_is_told_to_edges_as_it_was_ordered() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let mut expected = Vec::new();
    for (order, body) in [
        (json!({"url": "/shop/w=400/@local/a.jpg?exp=1"}), json!({"url": "/shop/w=400/@local/a.jpg"})),
        (json!({"url": "/w=400/@local/a.jpg"}), json!({"url": "/w=400/@local/a.jpg"})),
        (json!({"source": "@local/a.jpg"}), json!({"source": "@local/a.jpg"})),
        (json!({"tag": "summer"}), json!({"tag": "summer"})),
        (json!({"all": true}), json!({"all": true})),
    ] {
        let answer = ok(&api.json(Method::POST, &shop.key, "/v1/purge", &order).await, 202);
        assert_eq!(answer["id"].as_str().map(str::len), Some(36), "{answer}");
        expected.push(json!([shop.id, "", body]));
    }
    assert_eq!(told(&api).await, expected);
}

#[tokio::test]
async fn a_purge_that_is_sent_again_is_told_once() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let request = Request::new(Method::POST, "/v1/purge").header("authorization", format!("Bearer {}", shop.key));
    let request = request.header("content-type", "application/json").header("idempotency-key", "one");
    let request = request.body(r#"{"all":true}"#);
    let (first, again) = (api.send(&request).await, api.send(&request).await);
    assert_eq!((first.status.as_u16(), &first.body), (202, &again.body));
    assert_eq!(told(&api).await.len(), 1);
}

#[tokio::test]
async fn orders_that_mean_nothing_are_refused_and_not_told() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    api.tenant("blog").await;
    for (order, field) in [
        (json!({}), "body: "),
        (json!({"tag": "a", "all": true}), "body: "),
        (json!({"url": "/shop/w=1/a.jpg", "source": "a.jpg"}), "body: "),
        (json!({"all": false}), "all: "),
        (json!({"tag": ""}), "tag: "),
        (json!({"tag": "a\nb"}), "tag: "),
        (json!({"tag": "t".repeat(257)}), "tag: "),
        (json!({"source": "../a"}), "source: "),
        (json!({"source": "a".repeat(5000)}), "source: "),
        (json!({"url": "/blog/w=1/@local/a.jpg"}), "url: "),
        (json!({"url": "https://shop.example/w=1/a.jpg"}), "url: "),
        (json!({"url": "/shop/w=0/a.jpg"}), "url: "),
        (json!({"url": "/shop/-/a.jpg"}), "url: "),
        (json!({"url": format!("/shop/w=1/{}", "a".repeat(5000))}), "url: "),
    ] {
        let detail = problem(&api.json(Method::POST, &shop.key, "/v1/purge", &order).await, 422, "bad-field");
        assert!(detail.starts_with(field), "{order}: {detail}");
    }
    let other = json!({"all": true, "tenant": "blog"});
    problem(&api.json(Method::POST, &shop.key, "/v1/purge", &other).await, 400, "bad-json");
    assert_eq!(told(&api).await, [] as [Value; 0]);
    let reader = json!({"name": "r", "scopes": ["media:write"]});
    let reader = ok(&api.json(Method::POST, &shop.key, "/v1/api-keys", &reader).await, 201);
    let answer =
        api.json(Method::POST, reader["key"].as_str().expect("a key"), "/v1/purge", &json!({"all": true})).await;
    problem(&answer, 403, "scope-missing");
}
