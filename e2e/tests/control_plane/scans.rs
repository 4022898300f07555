//! Media that are judged before they are served: by ClamAV itself, with real edges that look on.

use ::http::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::edge::{Edge, eventually};
use testkit::http::Request;
use testkit::scanner::{Clamd, SIGNATURE};
use uploads::Pointer;

use crate::media_rig::{MediaRig, TestForm, id, picture};
use crate::scan_rig::{
    BLUE, RED, ask, decide, harmful, job, listed, medium, put_workflow, rig_with, settings, told, try_again, upload,
};
use crate::support::{ok, problem};

const TARGETS: [&str; 2] = ["/shop/w=32,f=png/a", "/shop/-/a"];

/// An edge that serves all that there is, and looks anew at what there was not.
async fn edge(rig: &MediaRig) -> Edge {
    let policy = json!({"open": true, "originals": true, "negative_max_age_seconds": 0});
    ok(&rig.api.json(Method::PUT, &rig.shop.key, "/v1/policy", &policy).await, 200);
    let edge = rig.edge().start().await;
    eventually("the tenant", async || (edge.get("/shop/-/none").await.status == 404).then_some(())).await;
    edge
}

#[tokio::test]
async fn a_medium_is_served_once_it_has_passed() {
    let scanner = Clamd::start().await;
    let rig = rig_with(scanner.address()).await;
    let edge = edge(&rig).await;
    let made = upload(&rig, "a", &picture(RED)).await;
    assert_eq!((&made["state"], &made["scan"]["verdict"]), (&json!("quarantined"), &json!("pending")), "{made}");
    assert_eq!(made["scan"]["steps"][0]["name"], "virus");
    assert_eq!((&made["scan"]["event"], &made["scan"]["workflow"]["kind"]), (&json!("created"), &json!("any")));
    assert_eq!(rig.pointer("a"), Some(Pointer::Gone));
    for target in TARGETS {
        assert_eq!(edge.get(target).await.status, 404);
    }
    assert_eq!((listed(&rig, "state=quarantined").await, listed(&rig, "state=ready").await), (vec![id(&made)], vec![]));
    rig.worker().await;
    let passed = medium(&rig, &made).await;
    assert_eq!((&passed["state"], &passed["scan"]["verdict"]), (&json!("ready"), &json!("passed")), "{passed}");
    assert!(passed["version"].as_i64() > made["version"].as_i64());
    for target in TARGETS {
        eventually("the picture", async || (edge.get(target).await.status == 200).then_some(())).await;
    }
    let job = job(&rig, &passed["scan"]).await;
    assert_eq!((&job["kind"], &job["state"]), (&json!("scan"), &json!("done")));
    assert_eq!(job["result"], json!({"media": id(&made), "verdict": "passed"}));
    assert_eq!((listed(&rig, "state=quarantined").await, listed(&rig, "state=ready").await), (vec![], vec![id(&made)]));
    assert_eq!(told(&rig).await, ["media.created", "media.quarantined", "media.released"]);
    rig.assert_tidy().await;
}

#[tokio::test]
async fn harmful_bytes_are_never_served_however_often_an_edge_is_asked() {
    let scanner = Clamd::start().await;
    let rig = rig_with(scanner.address()).await;
    let edge = edge(&rig).await;
    let over = tokio::sync::watch::channel(false);
    let look = async {
        let (mut looks, over) = (0, over.1);
        while !*over.borrow() {
            for target in TARGETS {
                assert_eq!(edge.get(target).await.status, 404, "{target} was served");
                looks += 1;
            }
        }
        looks
    };
    let act = async {
        let made = upload(&rig, "a", &harmful(RED)).await;
        assert_eq!(made["state"], "quarantined");
        rig.worker().await;
        let rejected = medium(&rig, &made).await;
        assert_eq!((&rejected["state"], &rejected["scan"]["verdict"]), (&json!("rejected"), &json!("rejected")));
        assert_eq!(rejected["scan"]["reason"], format!("virus: {SIGNATURE}"));
        // Other names, other bytes that are no better, and another round of everything.
        ok(&rig.patch(&id(&made), &json!({"public_id": "b"})).await, 200);
        ok(&rig.patch(&id(&made), &json!({"public_id": "a", "tags": ["x"]})).await, 200);
        let replaced = ok(&rig.put(&id(&made), &harmful(BLUE)).await, 200);
        assert_eq!((&replaced["state"], &replaced["replacement"]), (&json!("quarantined"), &Value::Null));
        rig.worker().await;
        assert_eq!(medium(&rig, &made).await["state"], "rejected");
        over.0.send_replace(true);
    };
    let (looks, ()) = tokio::join!(look, act);
    assert!(looks > 20, "{looks}");
    assert_eq!(rig.pointer("a"), Some(Pointer::Gone));
    let (kinds, last) = (told(&rig).await, "media.rejected");
    assert_eq!(kinds.last().map(String::as_str), Some(last));
    assert_eq!(kinds.iter().filter(|kind| *kind == last).count(), 2);
    assert!(!kinds.contains(&"media.released".to_owned()) && !kinds.contains(&"media.replaced".to_owned()));
}

#[tokio::test]
async fn new_bytes_wait_beside_the_old_ones_until_they_have_passed() {
    let scanner = Clamd::start().await;
    let rig = rig_with(scanner.address()).await;
    let made = upload(&rig, "a", &picture(RED)).await;
    rig.worker().await;
    let edge = edge(&rig).await;
    eventually("the picture", async || (edge.get("/shop/-/a").await.body == picture(RED)).then_some(())).await;

    let replaced = ok(&rig.put(&id(&made), &harmful(BLUE)).await, 200);
    assert_eq!((&replaced["state"], &replaced["replacement"]["state"]), (&json!("ready"), &json!("quarantined")));
    assert_eq!(replaced["bytes"], picture(RED).len());
    assert_eq!(replaced["replacement"]["bytes"], harmful(BLUE).len());
    assert_eq!(listed(&rig, "replacement=quarantined").await, [id(&made)]);
    rig.worker().await;
    let rejected = medium(&rig, &made).await;
    assert_eq!((&rejected["state"], &rejected["replacement"]["state"]), (&json!("ready"), &json!("rejected")));
    assert_eq!(rejected["replacement"]["scan"]["reason"], format!("virus: {SIGNATURE}"));
    assert_eq!(
        (listed(&rig, "replacement=rejected").await, listed(&rig, "replacement=quarantined").await),
        (vec![id(&made)], vec![])
    );
    assert_eq!(rig.stored("a"), picture(RED));
    assert_eq!(edge.get("/shop/-/a").await.body, picture(RED));

    // Those that come after them are judged by themselves; the last ones count.
    ok(&rig.put(&id(&made), &harmful(RED)).await, 200);
    ok(&rig.put(&id(&made), &picture(BLUE)).await, 200);
    assert_eq!(rig.stored("a"), picture(RED));
    rig.worker().await;
    let passed = medium(&rig, &made).await;
    assert_eq!((&passed["state"], &passed["replacement"]), (&json!("ready"), &Value::Null));
    assert_eq!((&passed["scan"]["event"], &passed["scan"]["verdict"]), (&json!("replaced"), &json!("passed")));
    assert_eq!(rig.stored("a"), picture(BLUE));
    eventually("the new one", async || (edge.get("/shop/-/a").await.body == picture(BLUE)).then_some(())).await;
    let replaced = told(&rig).await.into_iter().filter(|kind| kind == "media.replaced").count();
    assert_eq!(replaced, 1, "what has not passed has replaced nothing");
    rig.all_is_due().await;
    rig.worker().await;
    rig.assert_tidy().await;
}

#[tokio::test]
async fn rejected_bytes_are_kept_for_a_while_and_then_deleted() {
    let scanner = Clamd::start().await;
    let rig = rig_with(scanner.address()).await;
    let (first, second) = (upload(&rig, "a", &harmful(RED)).await, upload(&rig, "b", &harmful(BLUE)).await);
    rig.worker().await;
    let left = "SELECT min(due_at - now()) > '29 days' AND max(due_at - now()) < '31 days' FROM stored_objects WHERE state = 'rejected'";
    let is_month: bool = sqlx::query_scalar(left).fetch_one(&rig.superuser().await).await.expect("read");
    assert!(is_month);
    assert_eq!(rig.objects().len(), 2);
    rig.all_is_due().await;
    rig.worker().await;
    assert_eq!(rig.objects().len(), 0);
    // What is known of them stays, until somebody deletes it; nobody can let them through any more.
    let kept = medium(&rig, &first).await;
    assert_eq!((&kept["state"], &kept["scan"]["reason"]), (&json!("rejected"), &json!(format!("virus: {SIGNATURE}"))));
    for what in ["release", "scan"] {
        let detail = problem(&ask(&rig, &first, what, &json!({"reason": "x"})).await, 409, "media-state");
        assert!(detail.contains("deleted"), "{detail}");
    }
    assert_eq!(rig.delete(&id(&first)).await.status, 204);
    // New bytes are a new beginning.
    ok(&rig.put(&id(&second), &picture(BLUE)).await, 200);
    rig.worker().await;
    assert_eq!(medium(&rig, &second).await["state"], "ready");
    rig.all_is_due().await;
    rig.worker().await;
    rig.assert_tidy().await;
}

#[tokio::test]
async fn somebody_decides_and_has_the_last_word() {
    let scanner = Clamd::start().await;
    let rig = rig_with(scanner.address()).await;
    let made = upload(&rig, "a", &picture(RED)).await;
    // Before anybody has looked: the job ends with it.
    let rejected = decide(&rig, &made, "reject").await;
    assert_eq!((&rejected["state"], &rejected["scan"]["by_hand"]), (&json!("rejected"), &json!(true)));
    assert_eq!((&rejected["scan"]["reason"], &rejected["published"]), (&json!("looked at it"), &json!(true)));
    assert_eq!(job(&rig, &rejected["scan"]).await["state"], "cancelled");
    rig.worker().await;
    assert_eq!(medium(&rig, &made).await["state"], "rejected");
    let detail = problem(&ask(&rig, &made, "scan", &json!({})).await, 409, "media-state");
    assert!(detail.contains("by hand"), "{detail}");
    problem(&ask(&rig, &made, "reject", &json!({"reason": "x"})).await, 409, "media-state");
    let released = decide(&rig, &made, "release").await;
    assert_eq!((&released["state"], &released["scan"]["verdict"]), (&json!("ready"), &json!("passed")));
    assert_eq!(rig.stored("a"), picture(RED));
    problem(&ask(&rig, &made, "release", &json!({"reason": "x"})).await, 409, "media-state");
    let log = format!("/v1/audit-log?resource=media/{}&limit=2", id(&made));
    let log = ok(&rig.api.get(&rig.shop.key, &log).await, 200);
    let entries = log["items"].as_array().expect("a list");
    for (entry, what) in entries.iter().zip(["release", "reject"]) {
        assert_eq!(entry["operation"], format!("POST /v1/media/<id>/{what}"), "{entry}");
        assert!(entry["actor"].as_str().is_some_and(|actor| actor.starts_with("key:")), "{entry}");
    }
    let rejection = &entries[1]["after"];
    assert_eq!((&rejection["state"], &rejection["scan"]["reason"]), (&json!("rejected"), &json!("looked at it")));

    // What the scanner is wrong about.
    let wrong = upload(&rig, "b", &harmful(RED)).await;
    rig.worker().await;
    assert_eq!(decide(&rig, &wrong, "release").await["state"], "ready");
    assert_eq!(rig.stored("b"), harmful(RED));
    // And what it does not know, although it is served.
    assert_eq!(decide(&rig, &wrong, "reject").await["state"], "rejected");
    assert_eq!(rig.pointer("b"), Some(Pointer::Gone));

    // Of a replacement: what is served stays, or goes with it.
    ok(&rig.put(&id(&made), &harmful(BLUE)).await, 200);
    let rejected = decide(&rig, &made, "reject").await;
    assert_eq!((&rejected["state"], &rejected["replacement"]["state"]), (&json!("ready"), &json!("rejected")));
    let released = decide(&rig, &made, "release").await;
    assert_eq!((&released["state"], &released["replacement"]), (&json!("ready"), &Value::Null));
    assert_eq!(rig.stored("a"), harmful(BLUE));
    assert_eq!(decide(&rig, &made, "reject").await["state"], "rejected");
    rig.worker().await;
    assert_eq!(rig.pointer("a"), Some(Pointer::Gone));
}

#[tokio::test]
async fn decisions_need_the_right_key_a_reason_and_the_version_that_was_seen() {
    let scanner = Clamd::start().await;
    let rig = rig_with(scanner.address()).await;
    let made = upload(&rig, "a", &picture(RED)).await;
    let key = json!({"name": "x", "scopes": ["media:read", "media:write", "delivery:write"]});
    let key = ok(&rig.api.json(Method::POST, &rig.shop.key, "/v1/api-keys", &key).await, 201);
    let key = key["key"].as_str().expect("a key");
    for what in ["release", "reject"] {
        let target = format!("/v1/media/{}/{what}", id(&made));
        problem(&rig.api.json(Method::POST, key, &target, &json!({"reason": "x"})).await, 403, "scope-missing");
        for reason in [String::new(), "a".repeat(501), "a\nb".to_owned()] {
            problem(&ask(&rig, &made, what, &json!({ "reason": reason })).await, 422, "bad-field");
        }
        problem(&ask(&rig, &made, what, &json!({})).await, 400, "bad-json");
        let stale = Request::new(Method::POST, target).header("authorization", format!("Bearer {}", rig.shop.key));
        let stale = stale.header("content-type", "application/json").header("if-match", "\"v99\"");
        problem(&rig.api.send(&stale.body("{\"reason\":\"x\"}")).await, 412, "changed");
    }
    problem(&rig.api.json(Method::POST, key, "/v1/media/0/scan", &json!({})).await, 404, "not-found");
    assert_eq!(medium(&rig, &made).await["state"], "quarantined");
    // The same twice is done once.
    let release = Request::new(Method::POST, format!("/v1/media/{}/release", id(&made)))
        .header("authorization", format!("Bearer {}", rig.shop.key))
        .header("content-type", "application/json")
        .header("idempotency-key", "one")
        .body("{\"reason\":\"x\"}");
    let (first, second) = (rig.api.send(&release).await, rig.api.send(&release).await);
    assert_eq!(
        (ok(&first, 200)["state"].clone(), second.header("idempotency-replayed")),
        (json!("ready"), Some("true"))
    );
}

#[tokio::test]
async fn a_medium_is_judged_anew_when_somebody_asks() {
    let scanner = Clamd::start().await;
    let rig = MediaRig::with_folder(&settings(&scanner.address().to_string())).await;
    // From before there was a workflow.
    let old = upload(&rig, "old", &harmful(RED)).await;
    assert_eq!((&old["state"], &old["scan"]), (&json!("ready"), &Value::Null));
    problem(&ask(&rig, &old, "scan", &json!({})).await, 409, "no-workflow");
    put_workflow(&rig, "image", json!([{"name": "virus", "scan": {}}])).await;
    let answer = ask(&rig, &old, "scan", &json!({})).await;
    let ordered = ok(&answer, 202);
    assert_eq!(answer.header("location"), Some(format!("/v1/jobs/{}", id(&ordered)).as_str()));
    let asked = medium(&rig, &old).await;
    assert_eq!(
        (&asked["state"], &asked["scan"]["event"]),
        (&json!("ready"), &json!("requested")),
        "it is served meanwhile"
    );
    rig.worker().await;
    assert_eq!(medium(&rig, &old).await["state"], "rejected");
    assert_eq!(rig.pointer("old"), Some(Pointer::Gone));
    // Another word of the scanner's lets it through: it waits for that in quarantine.
    ok(&ask(&rig, &old, "scan", &json!({})).await, 202);
    assert_eq!(
        (medium(&rig, &old).await["state"].clone(), rig.pointer("old")),
        (json!("quarantined"), Some(Pointer::Gone))
    );
    rig.worker().await;
    assert_eq!(medium(&rig, &old).await["state"], "rejected");
    // One that was asked for again ends the one before.
    let made = upload(&rig, "new", &picture(RED)).await;
    ok(&ask(&rig, &made, "scan", &json!({})).await, 202);
    assert_eq!(job(&rig, &made["scan"]).await["state"], "cancelled");
    try_again(&rig).await;
    assert_eq!(medium(&rig, &made).await["state"], "ready");
    assert!(matches!(rig.pointer("new"), Some(Pointer::Here(_))));
}

#[tokio::test]
async fn the_kind_that_is_found_in_the_bytes_decides_which_workflow_it_is() {
    let scanner = Clamd::start().await;
    let rig = MediaRig::with_folder(&settings(&scanner.address().to_string())).await;
    put_workflow(&rig, "any", json!([{"name": "virus", "scan": {}}])).await;
    put_workflow(&rig, "document", json!([])).await;
    let form = TestForm::default().add("file", Some("a.txt"), &harmful(RED));
    let disguised = ok(&rig.post(form).await, 201);
    assert_eq!((&disguised["kind"], &disguised["state"]), (&json!("image"), &json!("quarantined")));
    let text = upload(&rig, "text", b"hello").await;
    assert_eq!((&text["kind"], &text["state"], &text["scan"]), (&json!("document"), &json!("ready"), &Value::Null));
    // New bytes of another kind go that kind's way.
    let replaced = ok(&rig.put(&id(&text), &harmful(BLUE)).await, 200);
    assert_eq!((&replaced["kind"], &replaced["replacement"]["kind"]), (&json!("document"), &json!("image")));
    rig.worker().await;
    assert_eq!(medium(&rig, &text).await["replacement"]["state"], "rejected");
    assert_eq!(rig.stored("text"), b"hello");
}

#[tokio::test]
async fn bytes_that_wait_are_stored_bytes_like_others() {
    let scanner = Clamd::start().await;
    let rig = rig_with(scanner.address()).await;
    let stored = async || {
        let totals = "SELECT bytes, files FROM stored_totals";
        let now: (i64, i64) = sqlx::query_as(totals).fetch_one(&rig.superuser().await).await.expect("read");
        (now.0 as usize, now.1)
    };
    let (red, blue) = (picture(RED).len(), picture(BLUE).len() + 1000);
    let larger = [picture(BLUE), vec![0; 1000]].concat();
    let made = upload(&rig, "a", &picture(RED)).await;
    rig.worker().await;
    // Room for one more of them, and not for two.
    rig.sql(&format!("INSERT INTO quotas (tenant_id, storage_bytes) VALUES ('{}', {})", rig.shop.id, red + blue + 10))
        .await;
    ok(&rig.put(&id(&made), &larger).await, 200);
    assert_eq!(stored().await, (red + blue, 1));
    problem(&rig.put(&id(&made), &[larger.clone(), vec![0; 100]].concat()).await, 403, "quota-storage");
    assert_eq!(stored().await, (red + blue, 1));
    rig.worker().await;
    assert_eq!(rig.stored("a"), larger);
    assert_eq!(stored().await, (blue, 1));
    // One that is forgotten is not stored any more.
    ok(&rig.put(&id(&made), &picture(RED)).await, 200);
    assert_eq!(rig.api.delete(&rig.shop.key, "/v1/workflows/any").await.status, 204);
    ok(&rig.put(&id(&made), &picture(RED)).await, 200);
    assert_eq!(stored().await, (red, 1));
    rig.worker().await;
    assert_eq!(rig.delete(&id(&made)).await.status, 204);
    assert_eq!(stored().await, (0, 0));
    rig.all_is_due().await;
    rig.worker().await;
    rig.assert_tidy().await;
}

#[tokio::test]
async fn bytes_that_waited_are_let_through_whatever_the_quota_is_by_then() {
    let scanner = Clamd::start().await;
    let rig = rig_with(scanner.address()).await;
    let larger = [picture(BLUE), vec![0; 1000]].concat();
    let (first, second) = (upload(&rig, "a", &picture(RED)).await, upload(&rig, "b", &picture(RED)).await);
    rig.worker().await;
    for made in [&first, &second] {
        ok(&rig.put(&id(made), &larger).await, 200);
    }
    rig.sql(&format!("INSERT INTO quotas (tenant_id, storage_bytes) VALUES ('{}', 10)", rig.shop.id)).await;
    // By a person, and by the workflow.
    ok(&ask(&rig, &first, "release", &json!({"reason": "x"})).await, 200);
    rig.worker().await;
    assert_eq!((rig.stored("a"), rig.stored("b")), (larger.clone(), larger.clone()));
    let stored = format!("stored_totals WHERE bytes = {} AND files = 2", 2 * larger.len());
    assert_eq!(rig.count(&stored).await, 1);
    assert_eq!(rig.count("replacements").await, 0);
    // It takes nothing more.
    problem(&rig.put(&id(&first), &[larger, vec![0]].concat()).await, 403, "quota-storage");
}

#[tokio::test]
async fn rejected_bytes_are_stored_until_they_are_deleted() {
    let scanner = Clamd::start().await;
    let rig = rig_with(scanner.address()).await;
    let stored = async || {
        let totals = "SELECT t.bytes, t.files, sum(d.bytes)::bigint FROM stored_totals t, stored_days d GROUP BY 1, 2";
        let now: (i64, i64, i64) = sqlx::query_as(totals).fetch_one(&rig.superuser().await).await.expect("read");
        assert_eq!(now.0, now.2, "by days it is as much");
        (now.0 as usize, now.1)
    };
    let (good, bad) = (picture(RED), harmful(BLUE));
    let (rejected, served) = (upload(&rig, "a", &bad).await, upload(&rig, "b", &good).await);
    rig.worker().await;
    ok(&rig.put(&id(&served), &bad).await, 200);
    rig.worker().await;
    assert_eq!(stored().await, (good.len() + 2 * bad.len(), 2));
    let entries = rig.count("audit_log").await;
    rig.all_is_due().await;
    rig.worker().await;
    assert_eq!(stored().await, (good.len(), 2));
    assert_eq!(rig.count("audit_log").await, entries, "nobody has changed anything");
    assert_eq!(medium(&rig, &rejected).await["bytes"], bad.len());
    // Others in their place are stored again, and what is deleted later is not taken off twice.
    ok(&rig.put(&id(&rejected), &good).await, 200);
    assert_eq!(stored().await, (2 * good.len(), 2));
    ok(&rig.put(&id(&served), &bad).await, 200);
    assert_eq!(stored().await, (2 * good.len() + bad.len(), 2));
    rig.worker().await;
    rig.all_is_due().await;
    rig.worker().await;
    assert_eq!(stored().await, (2 * good.len(), 2));
    for made in [&rejected, &served] {
        assert_eq!(rig.delete(&id(made)).await.status, 204);
    }
    assert_eq!(stored().await, (0, 0));
}

#[tokio::test]
async fn states_that_are_none_are_told() {
    let rig = MediaRig::start().await;
    for query in ["state=", "state=gone", "replacement=ready", "replacement=x"] {
        problem(&rig.api.get(&rig.shop.key, &format!("/v1/media?{query}")).await, 422, "bad-field");
    }
    for query in
        ["state=ready", "state=failed&kind=image", "replacement=rejected&tag=x&folder=y", "state=ready&folder="]
    {
        assert_eq!(listed(&rig, query).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn what_the_operator_sees_of_scanner_and_quarantine() {
    let mut scanner = Clamd::start().await;
    let rig = rig_with(scanner.address()).await;
    let metric = async |line: &str| {
        let metrics = rig.api.send(&Request::get("/metrics")).await.text();
        metrics.lines().any(|found| found == line)
    };
    let shows = async |line: &str| eventually(line, async || metric(line).await.then_some(())).await;
    shows("calotype_api_scanner_down 0").await;
    shows("calotype_api_quarantine_files 0").await;
    upload(&rig, "a", &picture(RED)).await;
    scanner.kill().await;
    shows("calotype_api_scanner_down 1").await;
    shows("calotype_api_quarantine_files 1").await;
    // The API goes on without it.
    assert_eq!(rig.api.send(&Request::get("/readyz")).await.status, StatusCode::OK);
}
