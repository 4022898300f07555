//! Jobs about media: batches, fetches, folders that they move things into, and workers that die over them.

use ::http::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::database::TestDatabase;
use testkit::edge::eventually;
use testkit::faulty::{Fault, FaultyRelay};
use testkit::web::{Page, WebServer};
use uploads::Pointer;

use crate::media_rig::{MediaRig, TestForm, id, picture};
use crate::support::{ok, problem};

/// Orders something; the id of the job.
async fn order(rig: &MediaRig, what: &str, order: &Value) -> String {
    let answer = rig.api.json(Method::POST, &rig.shop.key, &format!("/v1/media/{what}"), order).await;
    let job = ok(&answer, 202);
    assert_eq!(answer.header("location").expect("a place"), format!("/v1/jobs/{}", id(&job)));
    assert_eq!((&job["state"], &job["progress"], &job["attempts"]), (&"queued".into(), &0.0.into(), &0.into()));
    id(&job)
}

async fn job(rig: &MediaRig, job: &str) -> Value {
    ok(&rig.api.get(&rig.shop.key, &format!("/v1/jobs/{job}")).await, 200)
}

/// The job after a worker's round.
async fn worked(rig: &MediaRig, id: &str) -> Value {
    rig.worker().await;
    job(rig, id).await
}

async fn post(rig: &MediaRig, target: &str) -> testkit::http::Response {
    rig.api.json(Method::POST, &rig.shop.key, target, &json!({})).await
}

/// A web server behind a relay, and a control plane that may fetch from it.
async fn web() -> (MediaRig, WebServer, FaultyRelay) {
    let server = WebServer::start().await.expect("a web server");
    let relay = FaultyRelay::start(server.address()).await.expect("a relay");
    let settings = [
        ("FETCH_PRIVATE", "[\"127.0.0.1\"]".to_owned()),
        ("FETCH_PORTS", format!("[{}, {}]", relay.address().port(), server.address().port())),
        ("UPLOAD_BYTES", "1000000".to_owned()),
    ];
    (MediaRig::with_folder(&settings).await, server, relay)
}

#[tokio::test]
async fn a_batch_changes_each_medium_as_one_request_would() {
    let rig = MediaRig::start().await;
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        let form = TestForm::file(name.as_bytes()).text("public_id", name).text("tags", "old");
        ids.push(id(&ok(&rig.post(form).await, 201)));
    }
    let full: Vec<_> = (0..50).map(|n| n.to_string()).collect();
    ok(&rig.patch(&ids[2], &json!({"tags": full})).await, 200);
    let nowhere = "00000000-0000-7000-8000-000000000000";
    let tagged = order(
        &rig,
        "batch",
        &json!({"action": "tag", "ids": [&ids[0], &ids[1], &ids[2], nowhere, &ids[0]], "tags": ["new"]}),
    )
    .await;
    let done = worked(&rig, &tagged).await;
    assert_eq!((&done["state"], &done["progress"]), (&"done".into(), &1.0.into()), "{done}");
    assert_eq!(done["result"], json!({"done": 2, "missing": 1, "refused": 1}));
    assert_eq!(rig.target("a").tags, ["new", "old"]);
    assert_eq!(rig.target("c").tags.len(), 50);
    let untagged = order(&rig, "batch", &json!({"action": "untag", "ids": &ids[..2], "tags": ["old", "none"]})).await;
    let moved = order(&rig, "batch", &json!({"action": "move", "ids": &ids[..2], "folder": "x/y"})).await;
    assert_eq!(worked(&rig, &untagged).await["result"]["done"], 2);
    assert_eq!(job(&rig, &moved).await["result"]["done"], 2, "a round does all jobs");
    assert_eq!(rig.target("a").tags, ["new"]);
    assert_eq!(ok(&rig.get(&ids[1]).await, 200)["folder"], "x/y");
    let deleted = order(&rig, "batch", &json!({"action": "delete", "ids": &ids[1..]})).await;
    assert_eq!(worked(&rig, &deleted).await["result"], json!({"done": 2, "missing": 0, "refused": 0}));
    assert_eq!(
        (rig.pointer("b"), rig.pointer("c"), rig.stored("a")),
        (Some(Pointer::Gone), Some(Pointer::Gone), b"a".to_vec())
    );
    rig.all_is_due().await;
    rig.worker().await;
    rig.assert_tidy().await;
}

#[tokio::test]
async fn orders_that_are_not_allowed() {
    let rig = MediaRig::start().await;
    let one = "00000000-0000-7000-8000-000000000000";
    let many = vec![one; 1001];
    for (what, order, code, told) in [
        ("batch", json!({"action": "delete", "ids": []}), 422, "ids: "),
        ("batch", json!({"action": "delete", "ids": many}), 422, "ids: "),
        ("batch", json!({"action": "delete", "ids": [one], "tags": ["a"]}), 422, "tags: "),
        ("batch", json!({"action": "tag", "ids": [one]}), 422, "tags: "),
        ("batch", json!({"action": "tag", "ids": [one], "tags": []}), 422, "tags: "),
        ("batch", json!({"action": "tag", "ids": [one], "tags": ["a,b"]}), 422, "tags: "),
        ("batch", json!({"action": "move", "ids": [one]}), 422, "folder: "),
        ("batch", json!({"action": "move", "ids": [one], "folder": "../x"}), 422, "folder: "),
        ("batch", json!({"action": "drop", "ids": [one]}), 400, "unknown variant"),
        ("batch", json!({"action": "delete", "ids": ["' OR 1=1"]}), 400, "the body cannot be used"),
        ("batch", json!({"action": "delete", "ids": [one], "all": true}), 400, "unknown field `all`"),
        ("fetch", json!({"url": "file:///etc/passwd"}), 422, "url: "),
        ("fetch", json!({"url": "s3://bucket/key"}), 422, "url: "),
        ("fetch", json!({"url": "http://user:secret@a.example/"}), 422, "url: "),
        ("fetch", json!({"url": "http:\\\\a.example\\"}), 422, "url: "),
        ("fetch", json!({"url": format!("http://a.example/{}", "a".repeat(2048))}), 422, "url: "),
        ("fetch", json!({"url": "http://a.example/", "public_id": "../a"}), 422, "public_id: "),
        ("fetch", json!({"url": "http://a.example/", "expires_at": "soon"}), 422, "expires_at: "),
        ("fetch", json!({"url": "http://a.example/", "metadata": []}), 422, "metadata: "),
        ("fetch", json!({"url": "http://a.example/", "headers": {}}), 400, "unknown field `headers`"),
    ] {
        let answer = rig.api.json(Method::POST, &rig.shop.key, &format!("/v1/media/{what}"), &order).await;
        let detail = problem(&answer, code, if code == 422 { "bad-field" } else { "bad-json" });
        assert!(detail.contains(told), "{order}: {detail}");
        assert!(!detail.contains("secret"), "{detail}");
    }
    assert_eq!(rig.count("jobs").await, 0);
}

#[tokio::test]
async fn what_is_at_a_url_becomes_a_medium() {
    let (rig, server, relay) = web().await;
    let bytes = picture([1, 2, 3]);
    server.put("/img/beach.png?w=1", Page::new(bytes.clone()).header("content-type", "text/html"));
    let what = json!({"url": format!("{}/img/beach.png?w=1#x", relay.url()), "public_id": "beach", "folder": "f", "tags": ["t"]});
    let fetched = order(&rig, "fetch", &what).await;
    let done = worked(&rig, &fetched).await;
    assert_eq!(done["state"], "done", "{done}");
    let medium = ok(&rig.get(done["result"]["media"].as_str().expect("an id")).await, 200);
    assert_eq!((&medium["public_id"], &medium["content_type"]), (&"beach".into(), &"image/png".into()));
    assert_eq!(
        (&medium["filename"], &medium["folder"], &medium["tags"]),
        (&"beach.png".into(), &"f".into(), &json!(["t"]))
    );
    assert_eq!(rig.stored("beach"), bytes);
    // A worker that died before it could say that it was done: the next one finds that it is.
    rig.sql("UPDATE jobs SET state = 'queued', finished_at = NULL").await;
    assert_eq!(worked(&rig, &fetched).await["result"], done["result"]);
    assert_eq!((rig.count("media").await, relay.requests()), (1, 1));
    // The name is taken by now.
    let again = order(&rig, "fetch", &what).await;
    let failed = worked(&rig, &again).await;
    assert_eq!(
        (&failed["state"], &failed["error"]),
        (&"failed".into(), &"there is already a medium of this public id".into())
    );
    rig.all_is_due().await;
    rig.worker().await;
    rig.assert_tidy().await;
}

#[tokio::test]
async fn what_cannot_be_fetched_is_told_and_tried_again_if_it_may_pass() {
    let (rig, server, relay) = web().await;
    server.put("/missing", Page::status(StatusCode::NOT_FOUND, ""));
    server.put("/broken", Page::status(StatusCode::BAD_GATEWAY, ""));
    server.put("/large", Page::new(vec![0; 1_000_001]));
    server.put("/empty", Page::new(""));
    server.put("/inwards", Page::status(StatusCode::FOUND, "").header("location", "http://169.254.169.254/latest"));
    for (path, state, told) in [
        ("/missing", "failed", "the server answered 404"),
        ("/broken", "delayed", "the server answered 502"),
        ("/large", "failed", "the body is larger than 1000000 bytes"),
        ("/empty", "failed", "file: is empty"),
        ("/inwards", "failed", "the host's address is not allowed"),
    ] {
        let fetched = order(&rig, "fetch", &json!({"url": format!("{}{path}", relay.url())})).await;
        let job = worked(&rig, &fetched).await;
        assert_eq!((&job["state"], &job["error"]), (&state.into(), &told.into()), "{path}: {job}");
        assert_eq!(job["result"], Value::Null);
    }
    assert_eq!(rig.count("media").await, 0);
    server.put("/broken", Page::new("well again"));
    rig.sql("UPDATE jobs SET run_at = now() WHERE state = 'delayed'").await;
    rig.worker().await;
    assert_eq!(rig.count("media").await, 1);
    rig.all_is_due().await;
    rig.worker().await;
    rig.assert_tidy().await;
}

#[tokio::test]
async fn own_networks_are_not_reached_unless_the_operator_lists_them() {
    let rig = MediaRig::start().await;
    for url in [
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/",
        "http://2130706433/",
        "http://[::ffff:127.0.0.1]/",
        "http://localhost/",
    ] {
        let fetched = order(&rig, "fetch", &json!({ "url": url })).await;
        let job = worked(&rig, &fetched).await;
        assert_eq!(
            (&job["state"], &job["error"]),
            (&"failed".into(), &"the host's address is not allowed".into()),
            "{url}"
        );
    }
    let port = order(&rig, "fetch", &json!({"url": "http://127.0.0.1:5432/"})).await;
    assert_eq!(worked(&rig, &port).await["error"], "the URL is refused: its port is not allowed");
}

#[tokio::test]
async fn jobs_are_listed_cancelled_and_tried_again_by_their_own_tenant() {
    let rig = MediaRig::start().await;
    let blog = rig.api.tenant("blog").await;
    let what = json!({"action": "delete", "ids": ["00000000-0000-7000-8000-000000000000"]});
    let (first, second) = (order(&rig, "batch", &what).await, order(&rig, "batch", &what).await);
    let page = ok(&rig.api.get(&rig.shop.key, "/v1/jobs?limit=1&state=queued").await, 200);
    assert_eq!(page["items"][0]["id"], second.as_str());
    let cursor = page["next_cursor"].as_str().expect("there is more");
    let page = ok(&rig.api.get(&rig.shop.key, &format!("/v1/jobs?limit=1&cursor={cursor}")).await, 200);
    assert_eq!((&page["items"][0]["id"], &page["next_cursor"]), (&first.as_str().into(), &Value::Null));
    problem(&rig.api.get(&blog.key, &format!("/v1/jobs?cursor={cursor}")).await, 400, "bad-cursor");
    assert_eq!(ok(&rig.api.get(&blog.key, "/v1/jobs").await, 200)["items"], json!([]));
    problem(&rig.api.get(&blog.key, &format!("/v1/jobs/{first}")).await, 404, "not-found");
    for verb in ["cancel", "retry"] {
        let target = format!("/v1/jobs/{first}/{verb}");
        problem(&rig.api.json(Method::POST, &blog.key, &target, &json!({})).await, 404, "not-found");
    }
    problem(&rig.api.get(&rig.shop.key, "/v1/jobs?state=odd").await, 422, "bad-field");
    problem(&rig.api.get(&rig.shop.key, "/v1/jobs/x").await, 404, "not-found");

    let cancelled = ok(&post(&rig, &format!("/v1/jobs/{first}/cancel")).await, 200);
    assert_eq!((&cancelled["state"], &cancelled["cancel_requested"]), (&"cancelled".into(), &true.into()));
    assert_eq!(
        problem(&post(&rig, &format!("/v1/jobs/{first}/cancel")).await, 409, "job-state"),
        "the job is cancelled"
    );
    assert_eq!(problem(&post(&rig, &format!("/v1/jobs/{second}/retry")).await, 409, "job-state"), "the job is queued");
    assert_eq!(worked(&rig, &first).await["state"], "cancelled");
    ok(&post(&rig, &format!("/v1/jobs/{first}/retry")).await, 200);
    assert_eq!(worked(&rig, &first).await["state"], "done");
    problem(&post(&rig, &format!("/v1/jobs/{first}/retry")).await, 409, "job-state");
}

#[tokio::test]
async fn a_worker_that_dies_over_a_job_leaves_it_to_the_next() {
    let (rig, server, relay) = web().await;
    server.put("/a", Page::new(vec![7; 500_000]));
    relay.set(Fault::StallInBody { after_bytes: 100_000 });
    let fetched = order(&rig, "fetch", &json!({"url": format!("{}/a", relay.url()), "public_id": "a"})).await;
    // Dropping it kills it.
    tokio::select! {
        done = rig.try_worker() => panic!("it did not wait: {done:?}"),
        arrived = relay.wait_for_requests(1) => arrived.expect("the request"),
    }
    assert_eq!(job(&rig, &fetched).await["state"], "running");
    relay.heal();
    rig.worker().await;
    assert_eq!(job(&rig, &fetched).await["state"], "running", "its lease has not run out");
    rig.sql("UPDATE jobs SET leased_until = now() - interval '1 second'").await;
    let reaped = worked(&rig, &fetched).await;
    assert_eq!((&reaped["state"], &reaped["attempts"]), (&"delayed".into(), &1.into()), "{reaped}");
    rig.sql("UPDATE jobs SET run_at = now()").await;
    let done = worked(&rig, &fetched).await;
    assert_eq!((&done["state"], &done["attempts"]), (&"done".into(), &2.into()), "{done}");
    assert_eq!(rig.stored("a"), vec![7; 500_000]);
    rig.all_is_due().await;
    rig.worker().await;
    rig.assert_tidy().await;
}

#[tokio::test]
async fn fetches_that_hang_keep_no_other_tenant_waiting() {
    let (rig, server, relay) = web().await;
    server.put("/a", Page::new("bytes"));
    relay.set(Fault::StallBeforeHead);
    for _ in 0..8 {
        order(&rig, "fetch", &json!({"url": format!("{}/a", relay.url())})).await;
    }
    let _worker = rig.start_worker(&[]);
    relay.wait_for_requests(2).await.expect("its share of a worker");
    let other = rig.api.tenant("other").await;
    for (what, order) in [
        ("fetch", json!({"url": format!("http://{}/a", server.address())})),
        ("batch", json!({"action": "delete", "ids": [uuid::Uuid::now_v7()]})),
    ] {
        let job = ok(&rig.api.json(Method::POST, &other.key, &format!("/v1/media/{what}"), &order).await, 202);
        let target = format!("/v1/jobs/{}", id(&job));
        eventually(what, async || (ok(&rig.api.get(&other.key, &target).await, 200)["state"] == "done").then_some(()))
            .await;
    }
    assert_eq!(relay.requests(), 2, "the others of the first tenant wait for their turn");
}

#[tokio::test]
async fn a_running_job_is_given_up_when_it_is_cancelled() {
    let (rig, server, relay) = web().await;
    server.put("/a", Page::new(vec![7; 500_000]));
    relay.set(Fault::StallBeforeHead);
    let fetched = order(&rig, "fetch", &json!({"url": format!("{}/a", relay.url())})).await;
    let cancel = async {
        relay.wait_for_requests(1).await.expect("the request");
        let asked = ok(&post(&rig, &format!("/v1/jobs/{fetched}/cancel")).await, 200);
        assert_eq!((&asked["state"], &asked["cancel_requested"]), (&"running".into(), &true.into()));
    };
    tokio::join!(rig.worker(), cancel);
    assert_eq!(job(&rig, &fetched).await["state"], "cancelled");
    assert_eq!(rig.count("media").await, 0);
    rig.all_is_due().await;
    rig.worker().await;
    rig.assert_tidy().await;
}

#[tokio::test]
async fn a_job_that_the_store_fails_is_tried_again() {
    let rig = MediaRig::with_bucket(TestDatabase::new().await, &[]).await;
    let made = ok(&rig.post(TestForm::file(b"x").text("public_id", "a")).await, 201);
    rig.relay().set(Fault::Answer(StatusCode::SERVICE_UNAVAILABLE));
    let deleted = order(&rig, "batch", &json!({"action": "delete", "ids": [id(&made)]})).await;
    // What the database says is done; edges are told when the store is well again.
    assert_eq!(worked(&rig, &deleted).await["result"]["done"], 1);
    assert_ne!(rig.pointer("a"), Some(Pointer::Gone));
    rig.relay().heal();
    rig.all_is_due().await;
    rig.worker().await;
    assert_eq!(rig.pointer("a"), Some(Pointer::Gone));
    rig.assert_tidy().await;
}

#[tokio::test]
async fn folders_are_made_listed_and_deleted_when_they_are_empty() {
    let rig = MediaRig::start().await;
    let blog = rig.api.tenant("blog").await;
    let put =
        async |path: &str| rig.api.json(Method::PUT, &rig.shop.key, &format!("/v1/folders/{path}"), &json!({})).await;
    assert_eq!(ok(&put("a/b%20c/d").await, 201)["path"], "a/b c/d");
    ok(&put("a").await, 200);
    let made = ok(&rig.post(TestForm::file(b"x").text("folder", "e/f")).await, 201);
    let paths = async |query: &str| {
        let page = ok(&rig.api.get(&rig.shop.key, &format!("/v1/folders{query}")).await, 200);
        let items = page["items"].as_array().expect("a list").iter();
        items.map(|item| item["path"].as_str().expect("a path").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(paths("").await, ["a", "a/b c", "a/b c/d", "e", "e/f"]);
    assert_eq!(paths("?parent=").await, ["a", "e"]);
    assert_eq!(paths("?parent=a").await, ["a/b c"]);
    assert_eq!(ok(&rig.api.get(&blog.key, "/v1/folders").await, 200)["items"], json!([]));
    problem(&rig.api.delete(&blog.key, "/v1/folders/a").await, 404, "not-found");
    for full in ["a", "a/b%20c", "e", "e/f"] {
        problem(&rig.api.delete(&rig.shop.key, &format!("/v1/folders/{full}")).await, 409, "not-empty");
    }
    ok(&rig.delete(&id(&made)).await, 204);
    for empty in ["e/f", "e", "a/b%20c/d"] {
        ok(&rig.api.delete(&rig.shop.key, &format!("/v1/folders/{empty}")).await, 204);
    }
    assert_eq!(paths("").await, ["a", "a/b c"]);
    problem(&rig.api.delete(&rig.shop.key, "/v1/folders/e").await, 404, "not-found");
    for bad in ["..%2Fx", "a%2F%2Fb", "a%00", "%20a"] {
        problem(&put(bad).await, 422, "bad-field");
    }
}
