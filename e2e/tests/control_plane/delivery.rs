//! What a tenant sets for delivery: policy, registered images and origins, which lean on each other.

use http::Method;
use serde_json::{Value, json};
use sqlx::{PgPool, Row};
use testkit::control_plane::{ControlPlane, EDGE_TOKEN, MASTER_KEY, TestTenant};
use testkit::database::TestDatabase;
use testkit::http::Response;
use tokio::task::JoinSet;

use crate::support::{etag, ok, problem};

const SECRET: &str = "the secret part of a key pair";

async fn put(api: &ControlPlane, tenant: &TestTenant, what: &str, body: Value) -> Response {
    api.json(Method::PUT, &tenant.key, &format!("/v1/{what}"), &body).await
}

fn bucket() -> Value {
    json!({"s3": {"bucket": "pictures", "access_key_id": "id", "secret_access_key": SECRET}, "tags": ["all"]})
}

#[tokio::test]
async fn a_policy_is_put_as_a_whole_and_held_to_the_rules_of_edges() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let seen = api.get(&shop.key, "/v1/policy").await;
    assert_eq!((ok(&seen, 200), etag(&seen).as_str()), (json!({}), "\"v1\""));
    let policy = json!({"open": true, "max_age_seconds": 60, "allowed_urls": ["https://example.com/*"]});
    let made = put(&api, &shop, "policy", policy.clone()).await;
    assert_eq!((ok(&made, 200), etag(&made).as_str()), (policy.clone(), "\"v2\""));
    assert_eq!(ok(&api.get(&shop.key, "/v1/policy").await, 200), policy);
    for (wrong, why) in [
        (json!({"opne": true}), "opne: unknown field"),
        (json!({"open": "yes"}), "open: expected a boolean"),
        (json!({"open": true, "signed": "required"}), "signed: "),
        (json!({"rates": {"requests_per_second": -1}}), "rates.requests_per_second: expected u32"),
        (json!({"max_age_seconds": 1_000_000_000}), "max_age_seconds: "),
        (json!({"unsigned": {"presets": ["gone"]}}), "unsigned.presets: there is no preset"),
        (json!({"keys": {"k": "x"}}), "keys: it is not a part of the policy"),
        (json!({"hosts": ["taken.example"]}), "hosts: it is not a part of the policy"),
        (json!({"allowed_urls": ["file:///etc/passwd"]}), "allowed_urls: "),
        (json!({"allowed_urls": ["https://a/*"], "allow_private": ["10.0.0.1"]}), "allow_private: \"10.0.0.1\" is not"),
    ] {
        let detail = problem(&put(&api, &shop, "policy", wrong).await, 422, "bad-field");
        assert!(detail.starts_with(why), "{detail}");
    }
    problem(&put(&api, &shop, "policy", json!([1])).await, 400, "bad-json");
    assert_eq!(ok(&api.get(&shop.key, "/v1/policy").await, 200), policy, "what was refused has changed nothing");
}

#[tokio::test]
async fn what_others_lean_on_is_not_taken_away() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    ok(&put(&api, &shop, "origins/main", bucket()).await, 201);
    ok(&put(&api, &shop, "overlays/logo", json!({"source": "@main/logo.png"})).await, 201);
    ok(&put(&api, &shop, "overlays/mark", json!({"source": "brand/mark.png"})).await, 201);
    ok(&put(&api, &shop, "presets/thumb", json!({"ops": "w=100"})).await, 201);
    ok(&put(&api, &shop, "policy", json!({"unsigned": {"presets": ["thumb"]}})).await, 200);
    for (what, by) in [("origins/main", "images.logo"), ("presets/thumb", "unsigned.presets")] {
        let detail = problem(&api.delete(&shop.key, &format!("/v1/{what}")).await, 409, "in-use");
        assert!(detail.contains(by), "{detail}");
    }
    for (source, why) in [
        ("@gone/a.png", "images.new: the tenant has no origin \"gone\""),
        ("https://example.com/a.png", "images.new: an image is not registered by its URL"),
        ("a/../b", "images.new: "),
        ("", "source: has 1 to 2048 bytes"),
    ] {
        let detail = problem(&put(&api, &shop, "overlays/new", json!({ "source": source })).await, 422, "bad-field");
        assert!(detail.starts_with(why), "{detail}");
    }
    ok(&put(&api, &shop, "policy", json!({})).await, 200);
    for what in ["presets/thumb", "overlays/logo", "origins/main"] {
        ok(&api.delete(&shop.key, &format!("/v1/{what}")).await, 204);
        problem(&api.get(&shop.key, &format!("/v1/{what}")).await, 404, "not-found");
    }
}

#[tokio::test]
async fn two_changes_at_once_cannot_break_what_each_would_have_kept() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    for round in 0..8 {
        ok(&put(&api, &shop, "presets/thumb", json!({"ops": "w=100"})).await, if round == 0 { 201 } else { 200 });
        let mut both = JoinSet::new();
        let (addr, key) = (api.addr(), format!("Bearer {}", shop.key));
        let name = testkit::http::Request::put("/v1/policy", json!({"unsigned": {"presets": ["thumb"]}}).to_string());
        let delete = testkit::http::Request::new(Method::DELETE, "/v1/presets/thumb");
        for request in [name.header("content-type", "application/json"), delete] {
            let request = request.header("authorization", &key);
            both.spawn(async move { testkit::http::send(addr, &request).await.expect("an answer").status.as_u16() });
        }
        let mut statuses = both.join_all().await;
        statuses.sort_unstable();
        assert!(statuses == [200, 409] || statuses == [204, 422], "{statuses:?}");
        ok(&put(&api, &shop, "policy", json!({})).await, 200);
        if statuses == [204, 422] {
            ok(&put(&api, &shop, "presets/thumb", json!({"ops": "w=100"})).await, 201);
        }
    }
}

#[tokio::test]
async fn secrets_of_origins_are_sealed_and_told_to_edges_only() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let made = ok(&put(&api, &shop, "origins/main", bucket()).await, 201);
    assert_eq!(
        (&made["s3"], &made["has_secrets"]),
        (&json!({"bucket": "pictures", "access_key_id": "id"}), &json!(true))
    );
    let web = json!({"http": {"base_url": "https://example.com/img/", "headers": {"x-key": SECRET}}});
    let replaced = ok(&put(&api, &shop, "origins/web", web.clone()).await, 201);
    assert_eq!(replaced["http"], json!({"base_url": "https://example.com/img/"}));
    let bare = json!({"http": {"base_url": "https://example.com/"}});
    assert_eq!(ok(&put(&api, &shop, "origins/bare", bare.clone()).await, 201)["has_secrets"], false);
    let list = api.get(&shop.key, "/v1/origins").await;
    assert_eq!(ok(&list, 200)["items"].as_array().map(Vec::len), Some(3));

    let superuser = PgPool::connect(&api.database.superuser_url()).await.expect("reached");
    let row = "SELECT (SELECT string_agg(config::text || encode(secrets, 'escape'), ' ') FROM origins),
        (SELECT string_agg(body::text, ' ') FROM feed_events WHERE kind = 'origin')";
    let row = sqlx::query(row).fetch_one(&superuser).await.expect("read");
    let (kept, told): (String, String) = (row.get(0), row.get(1));
    for text in [kept, told, list.text(), api.log(), format!("{:?}", api.events())] {
        assert!(!text.contains(SECRET));
    }
    let check = async |api: &ControlPlane| {
        let all = ok(&api.get(EDGE_TOKEN, "/internal/v1/snapshot").await, 200);
        let told = json!({"main": bucket(), "web": web, "bare": bare});
        assert_eq!(all["tenants"][0]["origins"], told);
    };
    check(&api).await;

    // With another master key as well, once all is sealed anew.
    let (old, new) = (MASTER_KEY.to_owned(), "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=".to_owned());
    let keys = [("MASTER_KEY", new.clone()), ("PREVIOUS_MASTER_KEYS", format!("[\"{old}\"]"))];
    let done = api.run(&["reseal"], &keys).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let api = ControlPlane::start_with(api.stop().await, &[("MASTER_KEY", new)]).await;
    check(&api).await;
}

#[tokio::test]
async fn an_origin_reaches_no_further_than_the_operator_lets_it() {
    let settings = [
        ("MASTER_KEY", MASTER_KEY.to_owned()),
        ("PRIVATE_HOSTS", "[\"images.internal\"]".to_owned()),
        ("S3_ENDPOINTS", "[\"https://s3.example.com\"]".to_owned()),
    ];
    let api = ControlPlane::start_with(TestDatabase::new().await, &settings).await;
    let shop = api.tenant("shop").await;
    let with = |key: &str, value: &str| {
        let mut origin = bucket();
        origin["s3"][key] = json!(value);
        origin
    };
    let web = |private: &str| json!({"http": {"base_url": "http://images.internal/", "allow_private": [private]}});
    ok(&put(&api, &shop, "origins/store", with("endpoint", "https://S3.example.com/")).await, 201);
    ok(&put(&api, &shop, "origins/web", web("IMAGES.internal")).await, 201);
    for (origin, why) in [
        (json!({"folder": "/etc"}), "origins.new.folder: only the operator"),
        (json!({"s3": {"bucket": "b"}}), "origins.new.s3: it needs access_key_id"),
        (json!({"s3": {"bucket": "b", "access_key_id": "x"}}), "origins.new.s3: it needs access_key_id"),
        // The edge's own keys would be used.
        (
            json!({"s3": {"bucket": "b", "access_key_id": null, "secret_access_key": null}}),
            "origins.new.s3: it needs access_key_id",
        ),
        (
            json!({"s3": {"bucket": "b", "access_key_id": "", "secret_access_key": ""}}),
            "origins.new.s3: it needs access_key_id",
        ),
        (with("endpoint", "http://169.254.169.254/"), "s3.endpoint: "),
        (with("endpoint", "https://s3.example.com.evil.example"), "s3.endpoint: "),
        (with("region", "x/../@evil.example"), "origins.new.s3.region: "),
        (with("bucket", "evil.example/#"), "origins.new.s3.bucket: "),
        (web("10.0.0.1"), "http.allow_private: "),
        (json!({"http": {"base_url": "ftp://x/"}}), "origins.new.http.base_url: "),
        (json!({"http": {"base_url": "https://x/", "headers": {"host": "y"}}}), "origins.new.http.headers.host: "),
        (json!({"s3": {"bucket": "b", "access_key_id": "x", "secret_access_key": "y", "x": 1}}), "origins.new.s3"),
        (json!({}), "origins.new: "),
    ] {
        let detail = problem(&put(&api, &shop, "origins/new", origin).await, 422, "bad-field");
        assert!(detail.starts_with(why), "{detail}");
        assert!(!detail.contains(SECRET), "{detail}");
    }
    for name in ["A", "a%20b", "-a", &"a".repeat(64)] {
        problem(&put(&api, &shop, &format!("origins/{name}"), bucket()).await, 422, "bad-field");
    }
}

#[tokio::test]
async fn all_that_a_tenant_sets_has_a_limit() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let mut origin = bucket();
    origin["s3"]["prefix"] = json!("x".repeat(60_000));
    let mut made = 0;
    let refused = loop {
        let answer = put(&api, &shop, &format!("origins/o{made}"), origin.clone()).await;
        if answer.status != 201 {
            break answer;
        }
        made += 1;
        assert!(made < 20);
    };
    assert!(problem(&refused, 422, "bad-field").starts_with("body: policy, presets, overlays and origins"));
    // Less is taken all the same.
    ok(&put(&api, &shop, "origins/o0", bucket()).await, 200);
    ok(&put(&api, &shop, &format!("origins/o{made}"), bucket()).await, 201);
}
