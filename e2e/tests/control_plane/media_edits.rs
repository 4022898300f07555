//! Many media edited alike: by ids or by a filter, and whoever dies meanwhile.

use ::http::Method;
use serde_json::{Value, json};
use testkit::database::TestDatabase;
use testkit::faulty::Fault;
use tokio::task::JoinSet;
use uploads::Pointer;

use crate::edit_rig::{done, hold, job, job_of, killed_at, names, post, taken_up};
use crate::media_rig::{MediaRig, TestForm, id, picture};
use crate::support::{ok, problem};

async fn batch(rig: &MediaRig, order: &Value) -> String {
    job_of(&post(rig, "/v1/media/batch", order).await)
}

/// What a batch has come to, once a worker has done it.
async fn edited(rig: &MediaRig, order: &Value) -> Value {
    let job = batch(rig, order).await;
    done(rig, &job).await
}

fn tally(done: u64, missing: u64, refused: u64) -> Value {
    json!({"done": done, "missing": missing, "refused": refused})
}

#[tokio::test]
async fn all_that_can_be_said_is_said_of_those_that_are_named() {
    let rig = MediaRig::start().await;
    let mut ids = Vec::new();
    for name in ["a", "b"] {
        let form = TestForm::file(name.as_bytes()).text("public_id", name).text("tags", "old,kept");
        let form = form.text("metadata", "{\"year\": 2025, \"gone\": 1, \"kept\": [1]}").text("folder", "x");
        ids.push(id(&ok(&rig.post(form).await, 201)));
    }
    let set = json!({
        "folder": "y/z", "remove_tags": ["old", "never"], "add_tags": ["new"],
        "metadata": {"year": 2026, "gone": null, "never": null}, "expires_at": "2090-01-01T00:00:00Z",
    });
    let order = json!({"action": "set", "ids": [ids[0], ids[1], "00000000-0000-7000-8000-000000000000"], "set": set});
    assert_eq!(edited(&rig, &order).await, tally(2, 1, 0));
    for (name, id) in ["a", "b"].iter().zip(&ids) {
        let medium = ok(&rig.get(id).await, 200);
        assert_eq!((&medium["folder"], &medium["tags"]), (&"y/z".into(), &json!(["kept", "new"])));
        assert_eq!(medium["metadata"], json!({"year": 2026, "kept": [1]}));
        assert_eq!((&medium["expires_at"], &medium["version"]), (&"2090-01-01T00:00:00Z".into(), &2.into()));
        // Edges are told as of a `PATCH`.
        let target = rig.target(name);
        assert_eq!((target.tags, target.expires_at), (vec!["kept".to_owned(), "new".to_owned()], Some(3_786_912_000)));
        assert_eq!(rig.count(&format!("feed_events WHERE kind = 'media' AND name = '{name}'")).await, 2);
    }
    let updated = rig.count("events WHERE kind = 'media.updated'").await;
    assert_eq!(updated, 2);
    let audited =
        "audit_log WHERE resource = 'media' AND action = 'update' AND actor LIKE 'job:%' AND operation = 'media_batch'";
    assert_eq!(rig.count(audited).await, 2);
    // What is so already is not changed.
    assert_eq!(edited(&rig, &order).await, tally(2, 1, 0));
    assert_eq!(rig.count("events WHERE kind = 'media.updated'").await, updated);
    assert_eq!(ok(&rig.get(&ids[0]).await, 200)["version"], 2);

    let order = json!({"action": "set", "ids": ids, "set": {"folder": "", "tags": ["only", "these"], "remove_tags": ["these"], "expires_at": null}});
    assert_eq!(edited(&rig, &order).await, tally(2, 0, 0));
    let medium = ok(&rig.get(&ids[1]).await, 200);
    assert_eq!(
        (&medium["folder"], &medium["tags"], &medium["expires_at"]),
        (&"".into(), &json!(["only"]), &Value::Null)
    );
    assert_eq!(rig.target("b").expires_at, None);
    rig.assert_tidy().await;
    rig.assert_counts().await;
}

#[tokio::test]
async fn a_filter_has_what_a_list_has() {
    let rig = MediaRig::start().await;
    for (name, folder, tags, bytes) in [
        ("p/a", "x", "t", picture([1, 2, 3])),
        ("p/b", "x", "t,u", b"text".to_vec()),
        ("p/c", "x/y", "t", b"text".to_vec()),
        ("q/d", "", "u", picture([1, 2, 3])),
    ] {
        let form = TestForm::file(&bytes).text("public_id", name).text("folder", folder).text("tags", tags);
        ok(&rig.post(form).await, 201);
    }
    for (filter, query, expected) in [
        (json!({"folder": "x"}), "folder=x", &["p/a", "p/b"][..]),
        (json!({"folder": ""}), "folder=", &["q/d"]),
        (json!({"tag": "t"}), "tag=t", &["p/a", "p/b", "p/c"]),
        (json!({"tag": "t", "folder": "x", "kind": "document"}), "tag=t&folder=x&kind=document", &["p/b"]),
        (json!({"kind": "image"}), "kind=image", &["p/a", "q/d"]),
        (json!({"public_id_prefix": "p/"}), "public_id_prefix=p/", &["p/a", "p/b", "p/c"]),
        (json!({"state": "ready", "tag": "u"}), "state=ready&tag=u", &["p/b", "q/d"]),
        (json!({"state": "quarantined"}), "state=quarantined", &[]),
        (json!({"replacement": "rejected"}), "replacement=rejected", &[]),
        (json!({"folder": "never"}), "folder=never", &[]),
    ] {
        assert_eq!(names(&rig, query).await, expected, "{query}");
        let order = json!({"action": "tag", "filter": filter, "tags": ["found"]});
        assert_eq!(edited(&rig, &order).await, tally(expected.len() as u64, 0, 0), "{filter}");
        assert_eq!(names(&rig, "tag=found").await, expected, "{filter}");
        let order = json!({"action": "untag", "filter": {"tag": "found"}, "tags": ["found"]});
        assert_eq!(edited(&rig, &order).await, tally(expected.len() as u64, 0, 0), "{filter}");
    }
    let gone = json!({"action": "delete", "filter": {"tag": "t", "public_id_prefix": "p/"}});
    assert_eq!(edited(&rig, &gone).await, tally(3, 0, 0));
    assert_eq!((names(&rig, "").await, rig.pointer("p/a")), (vec!["q/d".to_owned()], Some(Pointer::Gone)));
    rig.all_is_due().await;
    rig.worker().await;
    rig.assert_tidy().await;
    rig.assert_counts().await;
}

#[tokio::test]
async fn edits_that_are_not_allowed() {
    let rig = MediaRig::start().await;
    let one = "00000000-0000-7000-8000-000000000000";
    let set = |set: Value| json!({"action": "set", "ids": [one], "set": set});
    let filter = |filter: Value| json!({"action": "delete", "filter": filter});
    for (order, status, told) in [
        (json!({"action": "delete"}), 422, "ids: or a filter says which media, and not both"),
        (json!({"action": "delete", "ids": [one], "filter": {"tag": "a"}}), 422, "ids: or a filter"),
        (filter(json!({})), 422, "filter: says at least one thing"),
        (filter(json!({"tag": "a,b"})), 422, "tag: "),
        (filter(json!({"kind": "film"})), 422, "kind: "),
        (filter(json!({"state": "odd"})), 422, "state: "),
        (filter(json!({"replacement": "ready"})), 422, "replacement: "),
        (filter(json!({"folder": "../x"})), 422, "folder: "),
        (filter(json!({"public_id_prefix": "../"})), 422, "public_id_prefix: "),
        (filter(json!({"id": one})), 400, "unknown field `id`"),
        (json!({"action": "set", "ids": [one]}), 422, "set: belongs to the action"),
        (
            json!({"action": "tag", "ids": [one], "tags": ["a"], "set": {"folder": ""}}),
            422,
            "set: belongs to the action",
        ),
        (set(json!({})), 422, "set: says at least one thing"),
        (set(json!({"add_tags": [], "metadata": {}})), 422, "set: says at least one thing"),
        (set(json!({"add_tags": ["a,b"]})), 422, "tags: "),
        (set(json!({"tags": vec!["a"; 1], "folder": "a//b"})), 422, "folder: "),
        (set(json!({"metadata": {"a": "\0"}})), 422, "metadata: "),
        (set(json!({"metadata": []})), 400, "invalid type"),
        (set(json!({"expires_at": "2020-01-01T00:00:00Z"})), 422, "expires_at: is a time to come"),
        (set(json!({"expires_at": "soon"})), 422, "expires_at: "),
        (set(json!({"public_id": "a"})), 400, "unknown field `public_id`"),
    ] {
        let answer = post(&rig, "/v1/media/batch", &order).await;
        let detail = problem(&answer, status, if status == 422 { "bad-field" } else { "bad-json" });
        assert!(detail.contains(told), "{order}: {detail}");
    }
    assert_eq!(rig.count("jobs").await, 0);
    // What would be more than may be said of one is left out, and told.
    let full: Vec<_> = (0..50).map(|n| n.to_string()).collect();
    let form = TestForm::file(b"a").text("public_id", "full").text("tags", &full.join(","));
    ok(&rig.post(form).await, 201);
    ok(&rig.post(TestForm::file(b"b").text("public_id", "b")).await, 201);
    let keys: serde_json::Map<_, _> = (0..50).map(|n| (n.to_string(), json!(n))).collect();
    let both = json!({"state": "ready"});
    for set in [json!({"add_tags": ["new"]}), json!({"metadata": keys})] {
        let refused = u64::from(set["add_tags"].is_array());
        assert_eq!(
            edited(&rig, &json!({"action": "set", "filter": both, "set": set})).await,
            tally(2 - refused, 0, refused)
        );
    }
    let more = json!({"action": "set", "filter": both, "set": {"metadata": {"another": 1}}});
    assert_eq!(edited(&rig, &more).await, tally(0, 0, 2));
    assert_eq!(rig.target("full").tags.len(), 50);
}

#[tokio::test]
async fn a_worker_that_dies_amid_a_thousand_has_changed_each_once() {
    let rig = MediaRig::start().await;
    rig.seed(450, "", "{t}").await;
    let order =
        json!({"action": "set", "filter": {"tag": "t"}, "set": {"metadata": {"done": true}, "add_tags": ["u"]}});
    let id = batch(&rig, &order).await;
    let superuser = rig.superuser().await;
    // The first round of a worker would take these as its own.
    let held = hold(&superuser, "ORDER BY id DESC OFFSET 250 LIMIT 1").await;
    killed_at(&rig, &id, 200).await;
    let begun = job(&rig, &id).await;
    assert_eq!((&begun["state"], begun["result"].is_null()), (&"running".into(), true), "{begun}");
    held.rollback().await.expect("given back");
    // All of a step or nothing.
    assert_eq!(rig.count("media WHERE version = 2").await, 200);
    assert_eq!(rig.count("events WHERE kind = 'media.updated'").await, 200);
    rig.assert_counts().await;
    taken_up(&rig).await;
    assert_eq!(done(&rig, &id).await, tally(450, 0, 0));
    assert_eq!(job(&rig, &id).await["attempts"], 2);
    assert_eq!(rig.count("media WHERE version = 2 AND tags = '{t,u}' AND metadata = '{\"done\": true}'").await, 450);
    assert_eq!(rig.count("events WHERE kind = 'media.updated'").await, 450);
    assert_eq!(rig.count("audit_log WHERE resource = 'media' AND action = 'update'").await, 450);
    rig.assert_counts().await;
    rig.all_is_due().await;
    rig.worker().await;
    assert_eq!(rig.count("pointers WHERE published < generation OR claim IS NOT NULL").await, 0);
}

#[tokio::test]
async fn who_is_taken_for_dead_changes_nothing_more() {
    let rig = MediaRig::start().await;
    rig.seed(150, "", "{t}").await;
    let id = batch(&rig, &json!({"action": "tag", "filter": {"tag": "t"}, "tags": ["u"]})).await;
    let superuser = rig.superuser().await;
    let held = hold(&superuser, "ORDER BY id DESC OFFSET 120 LIMIT 1").await;
    let meanwhile = async {
        let noted = "jobs WHERE (checkpoint ->> 'seen')::bigint = 100";
        testkit::edge::eventually("its first step", async || (rig.count(noted).await == 1).then_some(())).await;
        // Somebody else has the job by now, as far as the database knows.
        rig.sql("UPDATE jobs SET token = token + 1000").await;
        held.rollback().await.expect("given back");
    };
    let (ended, ()) = tokio::join!(rig.try_worker(), meanwhile);
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(rig.count("media WHERE version = 2").await, 100, "the second step is undone");
    assert_eq!(job(&rig, &id).await["state"], "running");
}

#[tokio::test]
async fn a_batch_that_is_cancelled_and_tried_again_goes_on_where_it_was() {
    let rig = MediaRig::start().await;
    rig.seed(250, "", "{t}").await;
    let id = batch(&rig, &json!({"action": "tag", "filter": {"tag": "t"}, "tags": ["u"]})).await;
    let superuser = rig.superuser().await;
    let held = hold(&superuser, "ORDER BY id DESC OFFSET 220 LIMIT 1").await;
    let cancel = async {
        let noted = "jobs WHERE (checkpoint ->> 'seen')::bigint = 200";
        testkit::edge::eventually("its second step", async || (rig.count(noted).await == 1).then_some(())).await;
        ok(&post(&rig, &format!("/v1/jobs/{id}/cancel"), &json!({})).await, 200);
    };
    // It hears of it when it renews its lease.
    tokio::join!(rig.worker(), cancel);
    assert_eq!(job(&rig, &id).await["state"], "cancelled");
    held.rollback().await.expect("given back");
    assert_eq!(rig.count("media WHERE 'u' = ANY (tags)").await, 200);
    ok(&post(&rig, &format!("/v1/jobs/{id}/retry"), &json!({})).await, 200);
    assert_eq!(done(&rig, &id).await, tally(250, 0, 0));
    assert_eq!(rig.count("events WHERE kind = 'media.updated'").await, 250);
}

#[tokio::test]
async fn a_store_that_is_down_keeps_no_batch_from_its_end() {
    let rig = MediaRig::with_bucket(TestDatabase::new().await, &[]).await;
    for name in ["a", "b", "c"] {
        ok(&rig.post(TestForm::file(name.as_bytes()).text("public_id", name).text("tags", "t")).await, 201);
    }
    rig.relay().set(Fault::Reset);
    let order = json!({"action": "set", "filter": {"tag": "t"}, "set": {"expires_at": "2090-01-01T00:00:00Z"}});
    assert_eq!(edited(&rig, &order).await, tally(3, 0, 0));
    assert_eq!(rig.target("a").expires_at, None);
    rig.relay().heal();
    rig.all_is_due().await;
    rig.worker().await;
    for name in ["a", "b", "c"] {
        assert_eq!(rig.target(name).expires_at, Some(3_786_912_000));
    }
    rig.assert_tidy().await;
}

/// Everybody changes what everybody else counts, in every order: nobody waits in a circle, and what is counted is true.
#[tokio::test]
async fn many_who_change_tags_and_folders_at_once_do_not_wait_for_each_other_in_a_circle() {
    let rig = MediaRig::start().await;
    let mut ids = Vec::new();
    for n in 0..8u8 {
        let form = TestForm::file(&[n]).text("public_id", &n.to_string()).text("tags", "a,b,c,d").text("folder", "f/a");
        ids.push(id(&ok(&rig.post(form).await, 201)));
    }
    rig.seed(150, "f/b", "{a,b}").await;
    batch(&rig, &json!({"action": "set", "filter": {"tag": "a"}, "set": {"folder": "f/c", "add_tags": ["z"], "remove_tags": ["b"]}})).await;
    batch(
        &rig,
        &json!({"action": "set", "ids": ids, "set": {"folder": "f/b", "add_tags": ["b"], "remove_tags": ["z"]}}),
    )
    .await;
    let mut tries = JoinSet::new();
    for (n, id) in ids.iter().enumerate() {
        let change = |tags: [&str; 3], folder: &str| rig.patch_request(id, &json!({"tags": tags, "folder": folder}));
        let (addr, changes) = (rig.api.addr(), [change(["z", "a", "b"], "f/a"), change(["c", "b", "a"], "f/b")]);
        tries.spawn(async move {
            for round in 0..10 {
                let answer = testkit::http::send(addr, &changes[(n + round) % 2]).await.expect("an answer");
                assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
            }
        });
        let form = TestForm::file(&[7]).text("tags", "d,c,b,a,z").text("folder", "f/c");
        let (addr, upload) = (rig.api.addr(), form.request(Method::POST, "/v1/media", &rig.shop.key));
        tries.spawn(async move {
            for _ in 0..5 {
                let answer = testkit::http::send(addr, &upload).await.expect("an answer");
                assert_eq!(answer.status.as_u16(), 201, "{}", answer.text());
            }
        });
    }
    tokio::join!(rig.worker(), async {
        while tries.join_next().await.is_some_and(|done| {
            done.expect("it goes well");
            true
        }) {}
    });
    rig.worker().await;
    assert_eq!(rig.count("jobs WHERE state = 'done' AND attempts = 1").await, 2);
    rig.assert_counts().await;
}
