//! Every operation of the API, by a tenant's key with another tenant's ids.
//!
//! The operations are those that the API describes itself with. One that has no example here fails the test.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};
use testkit::control_plane::{ADMIN_KEY, ControlPlane, EDGE_TOKEN, MASTER_KEY, TestTenant};
use testkit::database::TestDatabase;
use testkit::http::{Request, Response};

use crate::media_rig::{TestForm, id};
use crate::support::ok;

/// What has to come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Expected {
    /// 403 or 404: there is no such thing, as far as the asker is concerned.
    Refused,
    /// This status: what was given is not even an id here.
    Status(u16),
    /// It was done, to the asker's own: names are each tenant's.
    Own,
}
use Expected::{Own, Refused, Status};

/// What the other tenant has.
struct Theirs {
    key_id: String,
    media: String,
    job: String,
    /// Cursors of its lists, by path.
    cursors: BTreeMap<&'static str, String>,
}

/// How an operation is tried: what its target is, with which body, and what has to come of it. `None` where nobody has thought of it.
fn example(method: &str, path: &str, theirs: &Theirs) -> Option<(String, Option<Value>, Expected)> {
    let nobody = "00000000-0000-7000-8000-000000000000";
    let list = || format!("{path}?limit=1&cursor={}", theirs.cursors.get(path).expect("its list has two pages"));
    Some(match (method, path) {
        // Of the operator and of edges: no tenant's key is good for any of these, with whatever ids.
        ("post", "/v1/tenants") => (path.into(), Some(json!({"slug": "blog", "name": "x"})), Refused),
        ("get", "/v1/tenants") => (path.into(), None, Refused),
        ("get" | "delete", "/v1/tenants/{slug}") => ("/v1/tenants/blog".into(), None, Refused),
        ("patch", "/v1/tenants/{slug}") => ("/v1/tenants/blog".into(), Some(json!({"state": "suspended"})), Refused),
        ("get", "/internal/v1/feed" | "/internal/v1/snapshot") => (path.into(), None, Status(401)),
        // Ids.
        ("delete", "/v1/api-keys/{id}") => (format!("/v1/api-keys/{}", theirs.key_id), None, Refused),
        ("delete", "/v1/signing-keys/{kid}") => ("/v1/signing-keys/theirs".into(), None, Refused),
        ("get" | "delete", "/v1/presets/{name}") => ("/v1/presets/theirs".into(), None, Refused),
        ("get" | "delete", "/v1/domains/{host}") => ("/v1/domains/theirs.example".into(), None, Refused),
        ("post", "/v1/domains/{host}/verify") => ("/v1/domains/theirs.example/verify".into(), None, Refused),
        // Cursors are the tenant's, too.
        ("get", "/v1/api-keys" | "/v1/signing-keys" | "/v1/presets" | "/v1/domains") => (list(), None, Status(400)),
        ("post", "/v1/purge") => (path.into(), Some(json!({"url": "/blog/w=1/@local/a.jpg"})), Status(422)),
        // Names.
        ("post", "/v1/api-keys") => (path.into(), Some(json!({"name": "theirs", "scopes": ["admin"]})), Own),
        ("post", "/v1/signing-keys") => (path.into(), Some(json!({"kid": "theirs"})), Own),
        ("put", "/v1/presets/{name}") => ("/v1/presets/theirs".into(), Some(json!({"ops": "w=1"})), Own),
        ("post", "/v1/domains") => (path.into(), Some(json!({"host": "theirs.example"})), Own),
        // What is delivered, and how.
        ("get", "/v1/policy") => (path.into(), None, Own),
        ("put", "/v1/policy") => (path.into(), Some(json!({"open": true})), Own),
        ("get" | "delete", "/v1/origins/{name}") => ("/v1/origins/theirs".into(), None, Refused),
        ("put", "/v1/origins/{name}") => ("/v1/origins/theirs".into(), Some(origin()), Own),
        ("get" | "delete", "/v1/overlays/{name}") => ("/v1/overlays/theirs".into(), None, Refused),
        // The source is of an origin of theirs, which is none of the asker's.
        ("put", "/v1/overlays/{name}") => ("/v1/overlays/theirs".into(), Some(overlay()), Status(422)),
        ("get", "/v1/origins" | "/v1/overlays") => (list(), None, Status(400)),
        // Media, and what is done with it.
        ("get", "/v1/media" | "/v1/folders" | "/v1/jobs") => (path.into(), None, Own),
        ("get" | "delete", "/v1/media/{id}") => (format!("/v1/media/{}", theirs.media), None, Refused),
        ("patch", "/v1/media/{id}") => (format!("/v1/media/{}", theirs.media), Some(json!({"folder": "x"})), Refused),
        ("get", "/v1/media/by-public-id/{public_id}") => ("/v1/media/by-public-id/theirs".into(), None, Refused),
        // Forms with another tenant's ids are tried in `media.rs`.
        ("post", "/v1/media") => (path.into(), Some(json!({})), Status(415)),
        ("put", "/v1/media/{id}/file") => (format!("/v1/media/{}/file", theirs.media), Some(json!({})), Status(415)),
        ("post", "/v1/media/batch") => (path.into(), Some(json!({"action": "delete", "ids": [nobody]})), Own),
        ("post", "/v1/media/fetch") => (path.into(), Some(json!({"url": "http://a.example/"})), Own),
        ("delete", "/v1/folders/{path}") => ("/v1/folders/theirs".into(), None, Refused),
        ("put", "/v1/folders/{path}") => ("/v1/folders/theirs".into(), None, Own),
        ("get", "/v1/jobs/{id}") => (format!("/v1/jobs/{}", theirs.job), None, Refused),
        ("post", "/v1/jobs/{id}/cancel") => (format!("/v1/jobs/{}/cancel", theirs.job), None, Refused),
        ("post", "/v1/jobs/{id}/retry") => (format!("/v1/jobs/{}/retry", theirs.job), None, Refused),
        // Of nobody.
        ("get", "/healthz" | "/readyz" | "/metrics" | "/v1/openapi.json" | "/v1/docs") => (path.into(), None, Own),
        _ => return None,
    })
}

fn origin() -> Value {
    json!({"http": {"base_url": "https://example.com/"}})
}

fn overlay() -> Value {
    json!({"source": "@theirs/a.png"})
}

/// Two of everything, so that lists have a second page.
async fn fill(api: &ControlPlane, tenant: &TestTenant) -> Theirs {
    let make =
        async |method: Method, target: &str, body: Value| ok(&api.json(method, &tenant.key, target, &body).await, 201);
    let key = make(Method::POST, "/v1/api-keys", json!({"name": "secretname", "scopes": ["media:read"]})).await;
    for name in ["theirs", "theirs2"] {
        make(Method::POST, "/v1/signing-keys", json!({"kid": name})).await;
        make(Method::PUT, &format!("/v1/presets/{name}"), json!({"ops": "w=7331"})).await;
        make(Method::PUT, &format!("/v1/origins/{name}"), origin()).await;
        make(Method::PUT, &format!("/v1/overlays/{name}"), overlay()).await;
        make(Method::POST, "/v1/domains", json!({"host": format!("{name}.example")})).await;
    }
    let form = TestForm::file(b"x").text("public_id", "theirs").text("folder", "theirs").text("tags", "secretname");
    let media = id(&ok(&api.send(&form.request(Method::POST, "/v1/media", &tenant.key)).await, 201));
    let order = json!({"action": "delete", "ids": [media]});
    let job = id(&ok(&api.json(Method::POST, &tenant.key, "/v1/media/batch", &order).await, 202));
    let mut cursors = BTreeMap::new();
    for list in ["/v1/api-keys", "/v1/signing-keys", "/v1/presets", "/v1/domains", "/v1/origins", "/v1/overlays"] {
        let page = ok(&api.get(&tenant.key, &format!("{list}?limit=1")).await, 200);
        cursors.insert(list, page["next_cursor"].as_str().expect("a second page").to_owned());
    }
    Theirs { key_id: id(&key), media, job, cursors }
}

/// Everything that a tenant and edges see of it.
async fn state(api: &ControlPlane, tenant: &TestTenant) -> Vec<Value> {
    let mut state = Vec::new();
    for list in
        ["/v1/api-keys", "/v1/signing-keys", "/v1/presets", "/v1/domains", "/v1/media", "/v1/folders", "/v1/jobs"]
    {
        let mut page = ok(&api.get(&tenant.key, list).await, 200);
        for item in page["items"].as_array_mut().expect("a list") {
            // Asking is a use.
            item.as_object_mut().expect("an object").remove("last_used_at");
        }
        state.push(page);
    }
    state.push(ok(&api.get(ADMIN_KEY, &format!("/v1/tenants/{}", tenant.slug)).await, 200));
    let snapshot = ok(&api.get(EDGE_TOKEN, "/internal/v1/snapshot").await, 200);
    let is_its = |one: &&Value| one["id"] == tenant.id.as_str();
    state.push(snapshot["tenants"].as_array().expect("a list").iter().find(is_its).expect("it is there").clone());
    let feed = format!("/internal/v1/feed?epoch={}&after=0", snapshot["epoch"].as_str().expect("an epoch"));
    let feed = ok(&api.get(EDGE_TOKEN, &feed).await, 200);
    let events = feed["events"].as_array().expect("a list").iter();
    state.push(events.filter(|event| event["tenant"] == tenant.id.as_str()).cloned().collect());
    state
}

#[tokio::test]
async fn no_operation_reaches_another_tenants_things() {
    let uploads = tempfile::tempdir().expect("a folder can be made");
    let settings = [("MASTER_KEY", MASTER_KEY.to_owned()), ("UPLOADS__FOLDER", uploads.path().display().to_string())];
    let api = ControlPlane::start_with(TestDatabase::new().await, &settings).await;
    let (shop, blog) = (api.tenant("shop").await, api.tenant("blog").await);
    let theirs = fill(&api, &blog).await;
    let before = state(&api, &blog).await;

    let document = ok(&api.send(&Request::get("/v1/openapi.json")).await, 200);
    let mut tries = Vec::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for method in operations.as_object().expect("operations").keys() {
            let (target, body, expected) = example(method, path, &theirs)
                .unwrap_or_else(|| panic!("{method} {path} is new: how is it tried with another tenant's ids?"));
            assert!(!target.contains('{'), "{target}");
            tries.push((expected, method.to_uppercase(), target, body));
        }
    }
    // What makes something of the asker's own comes last, or it would be found under the other's name.
    tries.sort_by_key(|(expected, ..)| *expected);
    for (expected, method, target, body) in tries {
        let mut request = Request::new(method.parse().expect("a method"), &target);
        request = request.header("authorization", format!("Bearer {}", shop.key));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = api.send(&request).await;
        let status = answer.status.as_u16();
        match expected {
            Refused => assert!([403, 404].contains(&status), "{method} {target}: {status} {}", answer.text()),
            Status(wanted) => assert_eq!(status, wanted, "{method} {target}: {}", answer.text()),
            Own => assert!((200..300).contains(&status), "{method} {target}: {status} {}", answer.text()),
        }
        tells_nothing(&answer, &theirs, &blog, &format!("{method} {target}"));
    }
    assert_eq!(state(&api, &blog).await, before, "something of the other tenant's has changed");
}

/// Fails if an answer has anything in it that only the other tenant knows.
fn tells_nothing(answer: &Response, theirs: &Theirs, tenant: &TestTenant, asked: &str) {
    let text = format!("{:?} {}", answer.headers, answer.text());
    for secret in [&theirs.key_id, &theirs.media, &theirs.job, &tenant.id, &tenant.key, "secretname", "7331"] {
        assert!(!text.contains(secret), "{asked} tells {secret}: {text}");
    }
}
