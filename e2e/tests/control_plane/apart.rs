//! Every operation of the API, by a tenant's key with another tenant's ids.
//!
//! The operations are those that the API describes itself with. One that has no example here fails the test.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};
use testkit::control_plane::{ADMIN_KEY, ControlPlane, EDGE_TOKEN, MASTER_KEY, TestTenant};
use testkit::http::{Request, Response};

use crate::media_rig::{MediaRig, TestForm, id};
use crate::support::ok;
use crate::upload_rig::base64;

/// Lists of a tenant's.
const LISTS: [&str; 16] = [
    "/v1/api-keys",
    "/v1/audit-log",
    "/v1/collections",
    "/v1/domains",
    "/v1/events",
    "/v1/folders",
    "/v1/folders/tree",
    "/v1/jobs",
    "/v1/media",
    "/v1/origins",
    "/v1/overlays",
    "/v1/presets",
    "/v1/signing-keys",
    "/v1/tags",
    "/v1/webhooks",
    "/v1/workflows",
];

/// What an endpoint of a workflow is asked with.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

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
    tenant: String,
    key_id: String,
    medium: String,
    job: String,
    /// Of a direct upload, and of one of tus.
    uploads: [String; 2],
    webhook: String,
    event: String,
    collection: String,
    /// Cursors of its lists, by path.
    cursors: BTreeMap<&'static str, String>,
}

/// What an operation is tried with.
enum Given {
    Nothing,
    Json(Value),
    Form(TestForm),
    /// Bytes, with these headers.
    Bytes(Vec<(&'static str, String)>),
}

impl From<Option<Value>> for Given {
    fn from(body: Option<Value>) -> Self {
        body.map_or(Self::Nothing, Self::Json)
    }
}

/// How an operation is tried: what its target is, with which body, and what has to come of it. Empty where nobody has thought of it.
fn examples(method: &str, path: &str, theirs: &Theirs) -> Vec<(String, Given, Expected)> {
    let Theirs { medium, job, .. } = theirs;
    let file = || TestForm::file(b"of the asker");
    match (method, path) {
        // What takes ids in its body: a worker is told, and finds nothing.
        ("post", "/v1/media/batch") => {
            let order = |more: Value| {
                let mut order = json!({"ids": [medium]});
                order.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
                (path.to_owned(), Given::Json(order), Own)
            };
            vec![
                order(json!({"action": "delete"})),
                order(json!({"action": "tag", "tags": ["of-the-asker"]})),
                order(json!({"action": "untag", "tags": ["theirs"]})),
                order(json!({"action": "move", "folder": ""})),
                order(json!({"action": "set", "set": {"add_tags": ["of-the-asker"]}})),
                (path.to_owned(), Given::Json(json!({"action": "delete", "filter": {"tag": "theirs"}})), Own),
            ]
        }
        ("post", "/v1/media") => {
            vec![(path.to_owned(), Given::Form(file().text("public_id", "theirs").text("folder", "theirs")), Own)]
        }
        ("put", "/v1/media/{id}/file") => {
            vec![(format!("/v1/media/{medium}/file"), Given::Form(file()), Refused)]
        }
        // What finds by names finds the asker's own.
        ("get", "/v1/media") => {
            let found = [
                "folder=theirs",
                "tag=theirs",
                "public_id_prefix=theirs",
                "kind=document",
                "state=quarantined",
                "replacement=quarantined",
            ];
            let found = found.map(|query| (format!("{path}?{query}"), Given::Nothing, Own));
            found.into_iter().chain(example(method, path, theirs)).collect()
        }
        ("get", "/v1/audit-log") => {
            let found = ["resource=media", &format!("resource=media/{medium}"), "actor=operator"];
            let found = found.map(|query| (format!("{path}?{query}"), Given::Nothing, Own));
            found.into_iter().chain(example(method, path, theirs)).collect()
        }
        ("get", "/v1/folders") => {
            let found = (format!("{path}?parent=theirs"), Given::Nothing, Own);
            std::iter::once(found).chain(example(method, path, theirs)).collect()
        }
        // Of an origin that the other tenant has.
        ("put", "/v1/overlays/{name}") => {
            let of_origin = Given::Json(json!({"source": "@theirs/a.png"}));
            let of_origin = ("/v1/overlays/theirs".to_owned(), of_origin, Status(422));
            std::iter::once(of_origin).chain(example(method, path, theirs)).collect()
        }
        ("put", "/v1/uploads/{id}/parts/{number}") => {
            // Signed by nobody, and with the asker's key, which is not asked for.
            let query = "tenant=00000000-0000-7000-8000-000000000000&bytes=4&expires=9999999999&signature=00";
            let target = format!("/v1/uploads/{}/parts/1?{query}", theirs.uploads[0]);
            vec![(target, Given::Bytes(Vec::new()), Refused)]
        }
        ("post", "/v1/tus") => {
            let tus = |name: &'static str, value: String| vec![("tus-resumable", "1.0.0".to_owned()), (name, value)];
            let parts = format!("final;/v1/tus/{}", theirs.uploads[1]);
            let replace = format!("media_id {}", base64(theirs.medium.as_bytes()));
            let mut replace = tus("upload-metadata", replace);
            replace.push(("upload-length", "4".to_owned()));
            vec![
                (path.to_owned(), Given::Bytes(tus("upload-length", "4".to_owned())), Own),
                (path.to_owned(), Given::Bytes(tus("upload-concat", parts)), Refused),
                (path.to_owned(), Given::Bytes(replace), Refused),
            ]
        }
        ("head" | "patch" | "delete", "/v1/tus/{id}") => {
            let headers = ["tus-resumable", "upload-offset", "content-type"];
            let headers = headers.into_iter().zip(["1.0.0", "0", "application/offset+octet-stream"].map(str::to_owned));
            vec![(format!("/v1/tus/{}", theirs.uploads[1]), Given::Bytes(headers.collect()), Refused)]
        }
        ("post", "/v1/uploads") => vec![
            (path.to_owned(), Given::Json(json!({"bytes": 4, "public_id": "theirs-too"})), Own),
            (path.to_owned(), Given::Json(json!({"bytes": 4, "media_id": medium})), Refused),
        ],
        ("post", "/v1/media/{id}/copy") => {
            let copy = Given::Json(json!({"public_id": "of-the-asker"}));
            vec![(format!("/v1/media/{medium}/copy"), copy, Refused)]
        }
        // A tag and a folder that only the other tenant has.
        ("post", "/v1/tags/rename" | "/v1/folders/move") => {
            vec![(path.to_owned(), Given::Json(json!({"from": "theirs2", "to": "of-the-asker"})), Refused)]
        }
        ("get", "/v1/tags") => {
            let found = (format!("{path}?prefix=theirs"), Given::Nothing, Own);
            std::iter::once(found).chain(example(method, path, theirs)).collect()
        }
        ("get", "/v1/folders/tree") => {
            let found = (format!("{path}?parent=theirs"), Given::Nothing, Refused);
            std::iter::once(found).chain(example(method, path, theirs)).collect()
        }
        // Ids of theirs in a collection of theirs, and in one of the asker's.
        ("post", "/v1/collections/{id}/media" | "/v1/collections/{id}/media/remove") => {
            let of_theirs = path.replace("{id}", &theirs.collection);
            vec![(of_theirs, Given::Json(json!({"ids": [medium]})), Refused)]
        }
        ("get", "/v1/collections") => {
            let found = (format!("{path}?media={medium}"), Given::Nothing, Own);
            std::iter::once(found).chain(example(method, path, theirs)).collect()
        }
        ("get", "/v1/downloads") => vec![
            (format!("{path}?collection={}", theirs.collection), Given::Nothing, Refused),
            (format!("{path}?folder=theirs"), Given::Nothing, Refused),
        ],
        ("post", "/v1/downloads") => vec![
            (path.to_owned(), Given::Json(json!({"collection": theirs.collection})), Refused),
            (path.to_owned(), Given::Json(json!({"folder": "theirs"})), Refused),
        ],
        ("post", "/v1/media/{id}/scan") => vec![(format!("/v1/media/{medium}/scan"), Given::Nothing, Refused)],
        ("post", "/v1/jobs/{id}/cancel") => vec![(format!("/v1/jobs/{job}/cancel"), Given::Nothing, Refused)],
        ("post", "/v1/jobs/{id}/retry") => vec![(format!("/v1/jobs/{job}/retry"), Given::Nothing, Refused)],
        _ => example(method, path, theirs).into_iter().collect(),
    }
}

/// One that is tried in one way only.
fn example(method: &str, path: &str, theirs: &Theirs) -> Option<(String, Given, Expected)> {
    let list = || format!("{path}?limit=1&cursor={}", theirs.cursors.get(path).expect("its list has two pages"));
    let of_webhook = || path.replace("{id}", &theirs.webhook).replace("{event_id}", &theirs.event);
    let (target, body, expected) = match (method, path) {
        // Of the operator and of edges: no tenant's key is good for any of these, with whatever ids.
        ("post", "/v1/tenants") => (path.into(), Some(json!({"slug": "blog", "name": "x"})), Refused),
        ("get", "/v1/tenants" | "/v1/operator/audit-log") => (path.into(), None, Refused),
        ("get" | "delete", "/v1/tenants/{slug}") => ("/v1/tenants/blog".into(), None, Refused),
        ("patch", "/v1/tenants/{slug}") => ("/v1/tenants/blog".into(), Some(json!({"state": "suspended"})), Refused),
        ("get", "/v1/tenants/{slug}/usage") => ("/v1/tenants/blog/usage".into(), None, Refused),
        ("get", "/v1/tenants/{slug}/quotas") => ("/v1/tenants/blog/quotas".into(), None, Refused),
        ("put", "/v1/tenants/{slug}/quotas") => ("/v1/tenants/blog/quotas".into(), Some(json!({"files": 0})), Refused),
        ("get", "/v1/usage/tenants") => (path.into(), None, Refused),
        ("post", "/internal/v1/usage") => (path.into(), Some(json!({})), Status(401)),
        ("get", "/internal/v1/feed" | "/internal/v1/snapshot") => (path.into(), None, Status(401)),
        // Ids.
        ("delete", "/v1/api-keys/{id}") => (format!("/v1/api-keys/{}", theirs.key_id), None, Refused),
        ("delete", "/v1/signing-keys/{kid}") => ("/v1/signing-keys/theirs".into(), None, Refused),
        ("get" | "delete", "/v1/presets/{name}") => ("/v1/presets/theirs".into(), None, Refused),
        ("get" | "delete", "/v1/domains/{host}") => ("/v1/domains/theirs.example".into(), None, Refused),
        ("post", "/v1/domains/{host}/verify") => ("/v1/domains/theirs.example/verify".into(), None, Refused),
        ("get" | "delete", "/v1/overlays/{name}") => ("/v1/overlays/theirs".into(), None, Refused),
        ("get" | "delete", "/v1/origins/{name}") => ("/v1/origins/theirs".into(), None, Refused),
        ("get" | "delete", "/v1/media/{id}") => (format!("/v1/media/{}", theirs.medium), None, Refused),
        ("patch", "/v1/media/{id}") => {
            (format!("/v1/media/{}", theirs.medium), Some(json!({"public_id": "of-the-asker", "tags": []})), Refused)
        }
        ("get" | "delete", "/v1/uploads/{id}") => (format!("/v1/uploads/{}", theirs.uploads[0]), None, Refused),
        ("post", "/v1/uploads/{id}/parts") => {
            (format!("/v1/uploads/{}/parts", theirs.uploads[0]), Some(json!({"numbers": [1]})), Refused)
        }
        ("post", "/v1/uploads/{id}/complete") => {
            (format!("/v1/uploads/{}/complete", theirs.uploads[0]), Some(json!({})), Refused)
        }
        ("post", "/v1/media/{id}/release" | "/v1/media/{id}/reject") => {
            (path.replace("{id}", &theirs.medium), Some(json!({"reason": "of the asker"})), Refused)
        }
        // A URL that nobody has given out.
        ("get", "/v1/media/{id}/bytes") => {
            let query = format!("tenant={}&token={}", theirs.tenant, "A".repeat(92));
            (format!("/v1/media/{}/bytes?{query}", theirs.medium), None, Refused)
        }
        ("get", "/v1/downloads/link") => {
            (format!("{path}?tenant={}&token={}", theirs.tenant, "A".repeat(92)), None, Refused)
        }
        ("get" | "delete", "/v1/collections/{id}") => (path.replace("{id}", &theirs.collection), None, Refused),
        ("get", "/v1/collections/{id}/media") => (path.replace("{id}", &theirs.collection), None, Refused),
        ("patch", "/v1/collections/{id}") => {
            (path.replace("{id}", &theirs.collection), Some(json!({"name": "of the asker"})), Refused)
        }
        ("post", "/v1/collections") => (path.into(), Some(json!({"name": "theirs"})), Own),
        // The asker has none of this kind.
        ("get" | "delete", "/v1/workflows/{kind}") => ("/v1/workflows/file".into(), None, Refused),
        ("put", "/v1/workflows/{kind}") => ("/v1/workflows/file".into(), Some(json!({"steps": []})), Own),
        ("get", "/v1/media/by-public-id/{public_id}") => ("/v1/media/by-public-id/theirs".into(), None, Refused),
        ("delete", "/v1/folders/{path}") => ("/v1/folders/theirs".into(), None, Refused),
        ("delete", "/v1/tags/{tag}") => ("/v1/tags/theirs".into(), None, Refused),
        ("get", "/v1/events/{id}") => (format!("/v1/events/{}", theirs.event), None, Refused),
        ("post", "/v1/webhooks") => (path.into(), Some(json!({"url": "https://example.com/theirs"})), Own),
        ("patch", "/v1/webhooks/{id}") => {
            (format!("/v1/webhooks/{}", theirs.webhook), Some(json!({"url": "https://example.com/"})), Refused)
        }
        ("post", "/v1/webhooks/{id}/secret") => (of_webhook(), Some(json!({"overlap_seconds": 0})), Refused),
        ("post", "/v1/webhooks/{id}/redeliver") => {
            (of_webhook(), Some(json!({"since": "2026-01-01T00:00:00Z"})), Refused)
        }
        (_, path) if path.starts_with("/v1/webhooks/{id}") => (of_webhook(), None, Refused),
        ("get", "/v1/jobs/{id}") => (format!("/v1/jobs/{}", theirs.job), None, Refused),
        // Cursors are the tenant's, too.
        ("get", path) if LISTS.contains(&path) => (list(), None, Status(400)),
        ("post", "/v1/purge") => (path.into(), Some(json!({"url": "/blog/w=1/@local/a.jpg"})), Status(422)),
        // Names.
        ("post", "/v1/api-keys") => (path.into(), Some(json!({"name": "theirs", "scopes": ["admin"]})), Own),
        ("post", "/v1/signing-keys") => (path.into(), Some(json!({"kid": "theirs"})), Own),
        ("put", "/v1/presets/{name}") => ("/v1/presets/theirs".into(), Some(json!({"ops": "w=1"})), Own),
        ("post", "/v1/domains") => (path.into(), Some(json!({"host": "theirs.example"})), Own),
        ("put", "/v1/overlays/{name}") => ("/v1/overlays/theirs".into(), Some(json!({"source": "a.png"})), Own),
        ("put", "/v1/origins/{name}") => ("/v1/origins/theirs".into(), Some(origin("https://example.com/")), Own),
        ("put", "/v1/folders/{path}") => ("/v1/folders/theirs/within".into(), None, Own),
        ("post", "/v1/media/fetch") => (path.into(), Some(json!({"url": "http://127.0.0.1:1/theirs"})), Own),
        ("get", "/v1/usage" | "/v1/quotas") => (path.into(), None, Own),
        ("get", "/v1/policy") => (path.into(), None, Own),
        ("put", "/v1/policy") => (path.into(), Some(json!({"open": true})), Own),
        // Of nobody.
        ("get", "/healthz" | "/readyz" | "/metrics" | "/v1/openapi.json" | "/v1/docs") => (path.into(), None, Own),
        _ => return None,
    };
    Some((target, body.into(), expected))
}

fn origin(base_url: &str) -> Value {
    json!({"http": {"base_url": base_url}})
}

/// Two of everything, so that lists have a second page.
async fn fill(rig: &MediaRig, tenant: &TestTenant) -> Theirs {
    let api = &rig.api;
    let make =
        async |method: Method, target: &str, body: Value| ok(&api.json(method, &tenant.key, target, &body).await, 201);
    let key = make(Method::POST, "/v1/api-keys", json!({"name": "secretname", "scopes": ["media:read"]})).await;
    let (mut media, mut jobs, mut webhooks) = (Vec::new(), Vec::new(), Vec::new());
    let mut collections = Vec::new();
    for name in ["theirs", "theirs2"] {
        make(Method::POST, "/v1/signing-keys", json!({"kid": name})).await;
        make(Method::PUT, &format!("/v1/presets/{name}"), json!({"ops": "w=7331"})).await;
        make(Method::POST, "/v1/domains", json!({"host": format!("{name}.example")})).await;
        make(Method::PUT, &format!("/v1/origins/{name}"), origin("https://example.com/7331/")).await;
        make(Method::PUT, &format!("/v1/overlays/{name}"), json!({"source": "@theirs/7331.png"})).await;
        let webhook =
            json!({"url": "https://example.com/7331", "types": ["media.created"], "description": "secretname"});
        webhooks.push(id(&make(Method::POST, "/v1/webhooks", webhook).await));
        let form = TestForm::file(b"7331").text("public_id", name).text("folder", name).text("tags", "theirs,theirs2");
        let form = form.text("metadata", "{\"secretname\": 7331}");
        media.push(id(&ok(&api.send(&form.request(Method::POST, "/v1/media", &tenant.key)).await, 201)));
        collections.push(id(&make(Method::POST, "/v1/collections", json!({"name": "secretname"})).await));
        let order = json!({"action": "tag", "tags": ["secretname"], "ids": media});
        jobs.push(id(&ok(&api.json(Method::POST, &tenant.key, "/v1/media/batch", &order).await, 202)));
    }
    for one in &collections {
        ok(
            &api.json(Method::POST, &tenant.key, &format!("/v1/collections/{one}/media"), &json!({"ids": media})).await,
            200,
        );
    }
    ok(&api.json(Method::PUT, &tenant.key, "/v1/policy", &json!({"unsigned": {"widths": [7331]}})).await, 200);
    rig.worker().await;
    for kind in ["file", "video"] {
        let step = json!({"name": "theirs", "http": {"url": "https://example.com/7331", "secret": SECRET}});
        make(Method::PUT, &format!("/v1/workflows/{kind}"), json!({"steps": [step]})).await;
    }
    let mut cursors = BTreeMap::new();
    for list in LISTS {
        let page = ok(&api.get(&tenant.key, &format!("{list}?limit=1")).await, 200);
        cursors.insert(list, page["next_cursor"].as_str().expect("a second page").to_owned());
    }
    let (medium, job) = (media.swap_remove(0), jobs.swap_remove(0));
    let direct = make(Method::POST, "/v1/uploads", json!({"bytes": 4, "metadata": {"secretname": 7331}})).await;
    let tus = Request::new(Method::POST, "/v1/tus").header("authorization", format!("Bearer {}", tenant.key));
    let tus = tus.header("tus-resumable", "1.0.0").header("upload-length", "4").header("upload-concat", "partial");
    let tus = api.send(&tus).await;
    let tus = tus.header("location").and_then(|url| url.rsplit('/').next()).expect("it is there").to_owned();
    let webhook = webhooks.swap_remove(0);
    let deliveries = ok(&api.get(&tenant.key, &format!("/v1/webhooks/{webhook}/deliveries")).await, 200);
    let event = deliveries["items"][0]["event_id"].as_str().expect("what was made is told").to_owned();
    Theirs {
        tenant: tenant.id.clone(),
        key_id: id(&key),
        medium,
        job,
        webhook,
        event,
        collection: collections.swap_remove(0),
        uploads: [id(&direct), tus],
        cursors,
    }
}

/// What the other tenant's uploads are like.
async fn uploads(api: &ControlPlane, tenant: &TestTenant, theirs: &Theirs) -> Vec<Value> {
    let mut seen = Vec::new();
    for id in &theirs.uploads {
        let upload = ok(&api.get(&tenant.key, &format!("/v1/uploads/{id}")).await, 200);
        assert_eq!(upload["state"], "open", "{upload}");
        seen.push(upload);
    }
    seen
}

/// Everything that a tenant and edges see of it.
async fn state(api: &ControlPlane, tenant: &TestTenant) -> Vec<Value> {
    let mut state = Vec::new();
    for list in LISTS {
        let mut page = ok(&api.get(&tenant.key, list).await, 200);
        for item in page["items"].as_array_mut().expect("a list") {
            // Asking is a use.
            item.as_object_mut().expect("an object").remove("last_used_at");
        }
        state.push(page);
    }
    state.push(ok(&api.get(&tenant.key, "/v1/policy").await, 200));
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
    let rig = MediaRig::with_folder(&[("MASTER_KEY", MASTER_KEY.to_owned())]).await;
    let (api, shop, blog) = (&rig.api, &rig.shop, rig.api.tenant("blog").await);
    let theirs = fill(&rig, &blog).await;
    let before = (state(api, &blog).await, uploads(api, &blog, &theirs).await);

    let document = ok(&api.send(&Request::get("/v1/openapi.json")).await, 200);
    let mut tries = Vec::new();
    for (path, operations) in document["paths"].as_object().expect("paths") {
        for method in operations.as_object().expect("operations").keys() {
            let examples = examples(method, path, &theirs);
            assert!(!examples.is_empty(), "{method} {path} is new: how is it tried with another tenant's ids?");
            for (target, given, expected) in examples {
                assert!(!target.contains('{'), "{target}");
                tries.push((expected, method.to_uppercase(), target, given));
            }
        }
    }
    // What makes something of the asker's own comes last, or it would be found under the other's name.
    tries.sort_by_key(|(expected, ..)| *expected);
    for (expected, method, target, given) in tries {
        let http_method: Method = method.parse().expect("a method");
        let with_key = |request: Request| request.header("authorization", format!("Bearer {}", shop.key));
        let request = match given {
            Given::Nothing => with_key(Request::new(http_method, &target)),
            Given::Json(body) => with_key(Request::new(http_method, &target))
                .header("content-type", "application/json")
                .body(body.to_string()),
            Given::Form(form) => form.request(http_method, &target, &shop.key),
            Given::Bytes(headers) => {
                let bytes: &[u8] = if http_method == Method::HEAD { b"" } else { b"mine" };
                let request = with_key(Request::new(http_method, &target)).body(bytes);
                headers.into_iter().fold(request, |request, (name, value)| request.header(name, value))
            }
        };
        let answer = api.send(&request).await;
        let status = answer.status.as_u16();
        match expected {
            Refused => assert!([403, 404].contains(&status), "{method} {target}: {status} {}", answer.text()),
            Status(wanted) => assert_eq!(status, wanted, "{method} {target}: {}", answer.text()),
            Own => assert!((200..300).contains(&status), "{method} {target}: {status} {}", answer.text()),
        }
        tells_nothing(&answer, &theirs, &blog, &format!("{method} {target}"));
    }
    rig.worker().await;
    let jobs = ok(&api.get(&shop.key, "/v1/jobs?state=done").await, 200);
    let jobs = jobs["items"].as_array().expect("a list");
    assert_eq!(jobs.len(), 6, "all batches are done");
    for job in jobs {
        let result = &job["result"];
        assert_eq!((&result["done"], &result["refused"]), (&0.into(), &0.into()), "{job}");
    }
    let after = (state(api, &blog).await, uploads(api, &blog, &theirs).await);
    assert_eq!(after, before, "something of the other tenant's has changed");
}

/// Fails if an answer has anything in it that only the other tenant knows.
fn tells_nothing(answer: &Response, theirs: &Theirs, tenant: &TestTenant, asked: &str) {
    let text = format!("{:?} {}", answer.headers, answer.text());
    // Cursors and ids that were asked with are not told again either.
    // The number never alone: random ids have it in them now and then.
    let numbers = ["w=7331", "[7331", ":7331", "/7331"];
    let [direct, tus] = &theirs.uploads;
    let texts = [
        &theirs.key_id,
        &theirs.medium,
        &theirs.job,
        &theirs.webhook,
        &theirs.event,
        &theirs.collection,
        direct,
        tus,
        &tenant.id,
        &tenant.key,
        "secretname",
    ];
    for secret in texts.into_iter().chain(numbers) {
        assert!(!text.contains(secret), "{asked} tells {secret}: {text}");
    }
}
