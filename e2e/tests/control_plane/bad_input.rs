//! What clients send by mistake or on purpose: each has a status, a code and a text that helps.

use http::Method;
use serde_json::json;
use testkit::control_plane::{ADMIN_KEY, ControlPlane};
use testkit::http::Request;

use crate::support::{ok, problem};

fn post(body: impl Into<bytes::Bytes>) -> Request {
    let request = Request::new(Method::POST, "/v1/tenants").header("authorization", format!("Bearer {ADMIN_KEY}"));
    request.header("content-type", "application/json").body(body)
}

#[tokio::test]
async fn bodies_that_are_not_what_is_wanted() {
    let api = ControlPlane::start().await;
    for (body, told) in [
        (&b""[..], "EOF"),
        (b"{", "EOF"),
        (b"null", "invalid type"),
        (b"{\"slug\":\"a\",\"name\":\"b\",\"admin\":true}", "unknown field `admin`, expected `slug` or `name`"),
        (b"{\"slug\":\"a\"}", "missing field `name`"),
        (b"{\"slug\":1,\"name\":\"b\"}", "invalid type: integer `1`, expected a string"),
        (b"{\"slug\":\"a\",\"slug\":\"b\",\"name\":\"c\"}", "duplicate field `slug`"),
        (b"{\"slug\":\"\xff\",\"name\":\"b\"}", "invalid unicode"),
        (b"{\"slug\":\"a\",\"name\":\"b\"} x", "trailing characters"),
    ] {
        let detail = problem(&api.send(&post(body.to_vec())).await, 400, "bad-json");
        assert!(detail.contains(told), "{detail}");
    }
    problem(&api.send(&post("[".repeat(60_000))).await, 400, "bad-json");
    let detail = problem(&api.send(&post(vec![b' '; 70_000])).await, 413, "body-too-large");
    assert_eq!(detail, "the body has more than 65536 bytes");
    let form = Request::new(Method::POST, "/v1/tenants").header("authorization", format!("Bearer {ADMIN_KEY}"));
    problem(&api.send(&form.header("content-type", "text/plain").body("x")).await, 415, "not-json");
}

#[tokio::test]
async fn names_that_are_not_allowed_or_look_like_an_attack() {
    let api = ControlPlane::start().await;
    for slug in ["", "A", "a b", "../etc", "v1", "healthz", "a'; DROP TABLE tenants; --", "ü", &"a".repeat(64)] {
        let answer = api.json(Method::POST, ADMIN_KEY, "/v1/tenants", &json!({"slug": slug, "name": "x"})).await;
        assert!(problem(&answer, 422, "bad-field").starts_with("slug: "), "{slug}");
    }
    for name in ["", "a\u{0}b", "a\nlevel=error msg=forged", &"x".repeat(201)] {
        let answer = api.json(Method::POST, ADMIN_KEY, "/v1/tenants", &json!({"slug": "a", "name": name})).await;
        assert!(problem(&answer, 422, "bad-field").starts_with("name: "), "{name:?}");
    }
    // Text is text.
    let name = "'; DROP TABLE tenants; -- \" \\ %s ${jndi:ldap://x} \u{202e}";
    let made = api.json(Method::POST, ADMIN_KEY, "/v1/tenants", &json!({"slug": "a", "name": name})).await;
    assert_eq!(ok(&made, 201)["name"], name);
    for slug in ["%27%3B%20DROP%20TABLE%20tenants", "a%00b", "%FF", "..%2F..%2Fa"] {
        let answer = api.get(ADMIN_KEY, &format!("/v1/tenants/{slug}")).await;
        assert_eq!(answer.status, 404, "{slug}: {}", answer.text());
    }
    ok(&api.get(ADMIN_KEY, "/v1/tenants/a").await, 200);
    let shop = api.tenant("shop").await;
    for name in ["%27%20OR%201%3D1", "a%00b", "%FF", "..%2Fa"] {
        for answer in [
            api.get(&shop.key, &format!("/v1/presets/{name}")).await,
            api.delete(&shop.key, &format!("/v1/presets/{name}")).await,
            api.delete(&shop.key, &format!("/v1/api-keys/{name}")).await,
        ] {
            assert_eq!(answer.status, 404, "{name}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn queries_and_cursors_that_are_not_ours() {
    let api = ControlPlane::start().await;
    let (shop, blog) = (api.tenant("shop").await, api.tenant("blog").await);
    for name in ["a", "b", "c"] {
        let target = format!("/v1/presets/{name}");
        ok(&api.json(Method::PUT, &shop.key, &target, &json!({"ops": "w=1"})).await, 201);
    }
    let page = ok(&api.get(&shop.key, "/v1/presets?limit=1").await, 200);
    let cursor = page["next_cursor"].as_str().expect("there is more");
    problem(&api.get(&blog.key, &format!("/v1/presets?cursor={cursor}")).await, 400, "bad-cursor");
    problem(&api.get(&shop.key, &format!("/v1/api-keys?cursor={cursor}")).await, 400, "bad-cursor");
    for bad in ["x", "%00", "AAAA", &"A".repeat(3000)] {
        problem(&api.get(&shop.key, &format!("/v1/presets?cursor={bad}")).await, 400, "bad-cursor");
    }
    for bad in ["limit=0", "limit=1001", "limit=x", "limit=99999999999999999999", "offset=1", "limit=1&x=2"] {
        problem(&api.get(&shop.key, &format!("/v1/presets?{bad}")).await, 422, "bad-field");
    }
}

#[tokio::test]
async fn keys_that_are_none() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let with = |value: &str| Request::get("/v1/presets").header("authorization", value);
    let (cut, longer) = (&shop.key[..shop.key.len() - 1], format!("{}A", shop.key));
    for value in
        ["", "Bearer", "Bearer ", "Basic YTpi", &format!("Bearer {cut}"), &format!("Bearer {longer}"), &shop.key]
    {
        let answer = api.send(&with(value)).await;
        problem(&answer, 401, "unauthenticated");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    ok(&api.send(&with(&format!("bearer {}", shop.key))).await, 200);
    let twice = with(&format!("Bearer {}", shop.key)).header("authorization", "Bearer x");
    problem(&api.send(&twice).await, 401, "unauthenticated");
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there() {
    let api = ControlPlane::start().await;
    for target in ["/", "/v1", "/v1/", "/v2/tenants", "/v1/tenants/a/b", "/v1/unknown", "/internal"] {
        problem(&api.get(ADMIN_KEY, target).await, 404, "no-such-path");
    }
    problem(&api.delete(ADMIN_KEY, "/v1/tenants").await, 405, "method-not-allowed");
    // Of paths with slashes in their last part, too.
    for target in ["/v1/folders/a/b", "/v1/media/by-public-id/a/b/c"] {
        problem(&api.json(Method::POST, ADMIN_KEY, target, &json!({})).await, 405, "method-not-allowed");
    }
    problem(&api.json(Method::PUT, ADMIN_KEY, "/v1/tenants/a", &json!({})).await, 405, "method-not-allowed");
}
