//! Presets: a thing with a name of its own that a tenant puts, replaces and deletes.

use http::Method;
use serde_json::json;
use testkit::control_plane::ControlPlane;
use testkit::http::Request;
use tokio::task::JoinSet;

use crate::support::{etag, ok, problem};

#[tokio::test]
async fn a_preset_is_made_replaced_and_deleted() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let put = async |ops: &str| api.json(Method::PUT, &shop.key, "/v1/presets/thumb", &json!({ "ops": ops })).await;
    let made = put("w=100,h=100,fit=cover").await;
    assert_eq!(ok(&made, 201)["ops"], "w=100,h=100,fit=cover");
    assert_eq!((made.header("location"), etag(&made).as_str()), (Some("/v1/presets/thumb"), "\"v1\""));
    let replaced = put("w=200").await;
    assert_eq!((ok(&replaced, 200)["ops"].as_str(), etag(&replaced).as_str()), (Some("w=200"), "\"v2\""));
    let seen = api.get(&shop.key, "/v1/presets/thumb").await;
    assert_eq!((ok(&seen, 200)["ops"].as_str(), etag(&seen).as_str()), (Some("w=200"), "\"v2\""));
    ok(&api.delete(&shop.key, "/v1/presets/thumb").await, 204);
    problem(&api.get(&shop.key, "/v1/presets/thumb").await, 404, "not-found");
    problem(&api.delete(&shop.key, "/v1/presets/thumb").await, 404, "not-found");
}

#[tokio::test]
async fn one_of_many_who_make_it_at_once_has_made_it() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let mut tries = JoinSet::new();
    for width in 1..=8 {
        let request = Request::put("/v1/presets/thumb", json!({ "ops": format!("w={width}") }).to_string())
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", shop.key))
            .header("if-none-match", "*");
        let addr = api.addr();
        tries.spawn(async move { testkit::http::send(addr, &request).await.expect("an answer") });
    }
    let answers = tries.join_all().await;
    let made: Vec<_> = answers.iter().filter(|answer| answer.status == 201).collect();
    assert_eq!(made.len(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        problem(answer, 412, "changed");
    }
    let seen = api.get(&shop.key, "/v1/presets/thumb").await;
    assert_eq!(seen.body, made[0].body);
}

#[tokio::test]
async fn what_no_url_could_use_is_refused_with_the_reason() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    for (ops, why) in [
        ("w=0", "op \"width\" does not take \"0\""),
        ("witdh=10", "width"),
        ("p=other", "a preset cannot use a preset"),
        ("w=1,w=2", "width"),
    ] {
        let answer = api.json(Method::PUT, &shop.key, "/v1/presets/thumb", &json!({ "ops": ops })).await;
        let detail = problem(&answer, 422, "bad-field");
        assert!(detail.starts_with("presets.thumb: ") && detail.contains(why), "{detail}");
    }
    let answer = api.json(Method::PUT, &shop.key, "/v1/presets/a%2Cb", &json!({"ops": "w=1"})).await;
    assert!(problem(&answer, 422, "bad-field").starts_with("name: "));
}

#[tokio::test]
async fn tenants_have_presets_of_the_same_name() {
    let api = ControlPlane::start().await;
    let (shop, blog) = (api.tenant("shop").await, api.tenant("blog").await);
    ok(&api.json(Method::PUT, &shop.key, "/v1/presets/thumb", &json!({"ops": "w=1"})).await, 201);
    problem(&api.get(&blog.key, "/v1/presets/thumb").await, 404, "not-found");
    problem(&api.delete(&blog.key, "/v1/presets/thumb").await, 404, "not-found");
    ok(&api.json(Method::PUT, &blog.key, "/v1/presets/thumb", &json!({"ops": "w=2"})).await, 201);
    assert_eq!(ok(&api.get(&shop.key, "/v1/presets/thumb").await, 200)["ops"], "w=1");
    let page = ok(&api.get(&blog.key, "/v1/presets").await, 200);
    assert_eq!(page["items"].as_array().expect("a list").len(), 1);
}
