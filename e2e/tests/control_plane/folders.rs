//! Folders: counted, and moved with all that is in them.

use ::http::Method;
use serde_json::{Value, json};
use testkit::edge::eventually;
use tokio::task::JoinSet;

use crate::edit_rig::{done, hold, job_of, killed_at, names, once, post, taken_up};
use crate::media_rig::{MediaRig, TestForm, id, picture};
use crate::support::{ok, problem};

async fn tree(rig: &MediaRig, query: &str) -> Value {
    ok(&rig.api.get(&rig.shop.key, &format!("/v1/folders/tree?{query}")).await, 200)
}

/// Paths, with the media in each and in all of it.
fn counts(page: &Value) -> Vec<(String, i64, i64)> {
    let count = |folder: &Value, of: &str| folder[of]["media"].as_i64().expect("a number");
    let folders = page["items"].as_array().expect("a list").iter();
    folders
        .map(|folder| {
            (folder["path"].as_str().expect("a path").to_owned(), count(folder, "own"), count(folder, "total"))
        })
        .collect()
}

fn rows(rows: &[(&str, i64, i64)]) -> Vec<(String, i64, i64)> {
    rows.iter().map(|(path, own, total)| ((*path).to_owned(), *own, *total)).collect()
}

/// All folders.
async fn paths(rig: &MediaRig) -> Vec<String> {
    counts(&tree(rig, "levels=32&limit=1000").await).into_iter().map(|(path, ..)| path).collect()
}

async fn put(rig: &MediaRig, folder: &str, name: &str, bytes: &[u8]) -> Value {
    ok(&rig.post(TestForm::file(bytes).text("folder", folder).text("public_id", name)).await, 201)
}

#[tokio::test]
async fn the_tree_tells_how_much_is_in_each_folder_and_within_it() {
    let rig = MediaRig::start().await;
    let blog = rig.api.tenant("blog").await;
    for (folder, name, bytes) in
        [("", "top", &b"1"[..]), ("a", "a1", b"22"), ("a", "a2", b"333"), ("a/b/c", "c", b"4444"), ("a-z", "z", b"5")]
    {
        put(&rig, folder, name, bytes).await;
    }
    let top = tree(&rig, "").await;
    assert_eq!(
        top["folder"],
        json!({"path": "", "created_at": null, "own": {"media": 1, "bytes": 1}, "total": {"media": 5, "bytes": 11}})
    );
    assert_eq!(counts(&top), rows(&[("a", 2, 3), ("a-z", 1, 1)]));
    assert_eq!((&top["items"][0]["own"]["bytes"], &top["items"][0]["total"]["bytes"]), (&5.into(), &9.into()));
    assert!(top["items"][0]["created_at"].is_string());
    assert_eq!(counts(&tree(&rig, "levels=2").await), rows(&[("a", 2, 3), ("a-z", 1, 1), ("a/b", 0, 1)]));
    assert_eq!(counts(&tree(&rig, "parent=a").await), rows(&[("a/b", 0, 1)]));
    let within = tree(&rig, "parent=a&levels=32").await;
    assert_eq!(
        (within["folder"]["path"].as_str(), counts(&within)),
        (Some("a"), rows(&[("a/b", 0, 1), ("a/b/c", 1, 1)]))
    );
    // Page by page it is the same.
    let (mut read, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = tree(&rig, &format!("levels=32&limit=1{cursor}")).await;
        read.extend(counts(&page));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(read, counts(&tree(&rig, "levels=32").await));
    assert_eq!(read.len(), 4);

    for (bad, code, status) in [
        ("levels=0", "bad-field", 422),
        ("levels=33", "bad-field", 422),
        ("levels=all", "bad-field", 422),
        ("parent=a//b", "bad-field", 422),
        ("depth=1", "bad-field", 422),
        ("cursor=x", "bad-cursor", 400),
        ("parent=never", "not-found", 404),
    ] {
        problem(&rig.api.get(&rig.shop.key, &format!("/v1/folders/tree?{bad}")).await, status, code);
    }
    let theirs = ok(&rig.api.get(&blog.key, "/v1/folders/tree").await, 200);
    assert_eq!((&theirs["folder"]["total"]["media"], &theirs["items"]), (&0.into(), &json!([])));
    problem(&rig.api.get(&blog.key, "/v1/folders/tree?parent=a").await, 404, "not-found");
    rig.assert_counts().await;
}

#[tokio::test]
async fn what_is_counted_follows_every_change() {
    let rig = MediaRig::start().await;
    let a = id(&put(&rig, "x", "a", b"123").await);
    let b = id(&put(&rig, "x", "b", b"1").await);
    rig.assert_counts().await;
    ok(&rig.patch(&a, &json!({"folder": "y", "tags": ["s", "t"]})).await, 200);
    rig.assert_counts().await;
    ok(&rig.put(&a, &picture([1, 2, 3])).await, 200);
    rig.assert_counts().await;
    ok(&rig.patch(&a, &json!({"folder": "", "tags": ["t", "u"]})).await, 200);
    rig.assert_counts().await;
    ok(&rig.delete(&b).await, 204);
    rig.assert_counts().await;
    assert_eq!(rig.count("media_counts").await, 3, "names without any have no row");
    // A public id that is taken undoes all of it.
    problem(
        &rig.post(TestForm::file(b"x").text("public_id", "a").text("tags", "t").text("folder", "y")).await,
        409,
        "exists",
    );
    rig.assert_counts().await;
    // The tenant goes, and what was counted with it.
    let admin = testkit::control_plane::ADMIN_KEY;
    ok(&rig.api.json(Method::PATCH, admin, "/v1/tenants/shop", &json!({"state": "suspended"})).await, 200);
    ok(&rig.api.delete(admin, "/v1/tenants/shop").await, 204);
    assert_eq!(rig.count("media_counts").await, 0);
}

#[tokio::test]
async fn a_folder_is_moved_with_all_that_is_in_it() {
    let rig = MediaRig::start().await;
    let mut media = Vec::new();
    for (folder, name) in [("a", "1"), ("a/b", "2"), ("a/b/c", "3"), ("a-z", "4"), ("", "5")] {
        media.push(put(&rig, folder, name, name.as_bytes()).await);
    }
    ok(&rig.api.json(Method::PUT, &rig.shop.key, "/v1/folders/a/empty/too", &json!({})).await, 201);
    let told = rig.count("feed_events WHERE kind = 'media'").await;
    let moved = post(&rig, "/v1/folders/move", &json!({"from": "a", "to": "new/place"})).await;
    assert_eq!(ok(&moved, 200), json!({"done": 3, "missing": 0, "refused": 0}));
    // At once, for whoever asks.
    let everywhere =
        ["a-z", "new", "new/place", "new/place/b", "new/place/b/c", "new/place/empty", "new/place/empty/too"];
    assert_eq!(paths(&rig).await, everywhere);
    for (medium, (folder, version)) in
        media.iter().zip([("new/place", 2), ("new/place/b", 2), ("new/place/b/c", 2), ("a-z", 1), ("", 1)])
    {
        let now = ok(&rig.get(&id(medium)).await, 200);
        assert_eq!((&now["folder"], &now["version"], &now["url"]), (&folder.into(), &version.into(), &medium["url"]));
        assert_eq!(now["updated_at"] == medium["updated_at"], version == 1);
    }
    assert_eq!(rig.count("feed_events WHERE kind = 'media'").await, told, "edges know nothing of folders");
    assert_eq!(rig.count("events WHERE kind = 'media.updated' AND data ->> 'folder' LIKE 'new/place%'").await, 3);
    let by_key = "audit_log WHERE actor LIKE 'key:%' AND operation = 'POST /v1/folders/move' AND resource =";
    assert_eq!(rig.count(&format!("{by_key} 'media' AND action = 'update'")).await, 3);
    assert_eq!(rig.count(&format!("{by_key} 'folder' AND action = 'delete'")).await, 5);
    // Into one that is there: both become one.
    put(&rig, "z/b", "6", b"6").await;
    ok(&post(&rig, "/v1/folders/move", &json!({"from": "new/place", "to": "z"})).await, 200);
    assert_eq!(names(&rig, "folder=z/b").await, ["2", "6"]);
    assert_eq!(paths(&rig).await, ["a-z", "new", "z", "z/b", "z/b/c", "z/empty", "z/empty/too"]);
    // Out of the folder that it is in.
    ok(&post(&rig, "/v1/folders/move", &json!({"from": "z/b/c", "to": "c"})).await, 200);
    assert_eq!(names(&rig, "folder=c").await, ["3"]);
    rig.assert_counts().await;
    rig.assert_tidy().await;
}

#[tokio::test]
async fn moves_that_are_not_allowed() {
    let rig = MediaRig::start().await;
    let blog = rig.api.tenant("blog").await;
    put(&rig, "a/b", "1", b"1").await;
    put(&rig, &format!("deep/{}", vec!["d"; 20].join("/")), "2", b"2").await;
    put(&rig, &format!("long/{}", "l".repeat(400)), "3", b"3").await;
    let before = paths(&rig).await;
    for (from, to, status, told) in [
        ("a", "a", 422, "to: is another folder than"),
        ("a", "a/c", 422, "to: is another folder than"),
        ("a", "a/b/c", 422, "to: is another folder than"),
        ("a/b", "a", 422, "to: is another folder than"),
        ("", "b", 422, "from: is a folder, and not the top"),
        ("a", "", 422, "to: is a folder, and not the top"),
        ("a", "../b", 422, "to: is at most 512 bytes"),
        ("a//b", "b", 422, "from: is at most 512 bytes"),
        ("deep", &vec!["x"; 13].join("/"), 422, "to: makes a path of"),
        ("long", &"x".repeat(112), 422, "to: makes a path of 513 bytes and 2 names"),
        ("never", "b", 404, "there is no such folder"),
        // Not the beginning of a name.
        ("a/", "b", 422, "from: "),
    ] {
        let answer = post(&rig, "/v1/folders/move", &json!({"from": from, "to": to})).await;
        let detail = problem(&answer, status, if status == 404 { "not-found" } else { "bad-field" });
        assert!(detail.contains(told), "{from} {to}: {detail}");
    }
    problem(&post(&rig, "/v1/folders/move", &json!({"from": "a"})).await, 400, "bad-json");
    problem(&post(&rig, "/v1/folders/move", &json!({"from": "a", "to": "b", "merge": true})).await, 400, "bad-json");
    let theirs = rig.api.json(Method::POST, &blog.key, "/v1/folders/move", &json!({"from": "a", "to": "b"})).await;
    problem(&theirs, 404, "not-found");
    let key = json!({"name": "x", "scopes": ["media:read"]});
    let key = ok(&rig.api.json(Method::POST, &rig.shop.key, "/v1/api-keys", &key).await, 201);
    let key = key["key"].as_str().expect("a key");
    problem(
        &rig.api.json(Method::POST, key, "/v1/folders/move", &json!({"from": "a", "to": "b"})).await,
        403,
        "scope-missing",
    );
    assert_eq!(paths(&rig).await, before);
    // As deep and as long as may be.
    let deep = ["x"; 12].join("/");
    ok(&post(&rig, "/v1/folders/move", &json!({"from": "deep", "to": deep})).await, 200);
    ok(&post(&rig, "/v1/folders/move", &json!({"from": "long", "to": "x".repeat(111)})).await, 200);
}

#[tokio::test]
async fn what_is_asked_twice_is_moved_once() {
    let rig = MediaRig::start().await;
    put(&rig, "a", "1", b"1").await;
    let request = once(&rig, "/v1/folders/move", "one", &json!({"from": "a", "to": "b"}));
    let first = rig.api.send(&request).await;
    put(&rig, "a", "2", b"2").await;
    let again = rig.api.send(&request).await;
    assert_eq!((ok(&again, 200), again.header("idempotency-replayed")), (ok(&first, 200), Some("true")));
    assert_eq!(
        (names(&rig, "folder=a").await, names(&rig, "folder=b").await),
        (vec!["2".to_owned()], vec!["1".to_owned()])
    );
    let other = once(&rig, "/v1/folders/move", "one", &json!({"from": "a", "to": "c"}));
    problem(&rig.api.send(&other).await, 422, "idempotency-mismatch");
    rig.seed(200, "c", "{}").await;
    let request = once(&rig, "/v1/folders/move", "two", &json!({"from": "c", "to": "d"}));
    let first = job_of(&rig.api.send(&request).await);
    assert_eq!(job_of(&rig.api.send(&request).await), first);
    assert_eq!(rig.count("jobs").await, 1);
}

#[tokio::test]
async fn a_large_folder_is_moved_by_a_job_that_outlives_its_workers() {
    let rig = MediaRig::start().await;
    rig.seed(250, "a/b", "{t}").await;
    rig.seed(120, "a", "{}").await;
    rig.seed(5, "a/c/d", "{}").await;
    ok(&rig.api.json(Method::PUT, &rig.shop.key, "/v1/folders/a/empty", &json!({})).await, 201);
    let id = job_of(&post(&rig, "/v1/folders/move", &json!({"from": "a", "to": "z"})).await);
    assert_eq!(paths(&rig).await, ["a", "a/b", "a/c", "a/c/d", "a/empty"], "not yet");
    let superuser = rig.superuser().await;
    // The last by path come first: five, and then those of "a/b" by hundreds.
    let held = hold(&superuser, "WHERE folder = 'a/b' ORDER BY id DESC OFFSET 150 LIMIT 1").await;
    killed_at(&rig, &id, 105).await;
    held.rollback().await.expect("given back");
    assert_eq!(
        (rig.count("media WHERE folder LIKE 'z%'").await, rig.count("media WHERE folder LIKE 'a%'").await),
        (105, 270)
    );
    rig.assert_counts().await;
    // Some come meanwhile, into what was moved, and into what is being moved.
    put(&rig, "a/c", "late", b"late").await;
    put(&rig, "a/b", "later", b"later").await;
    put(&rig, "a", "last", b"last").await;
    taken_up(&rig).await;
    assert_eq!(done(&rig, &id).await, json!({"done": 376, "missing": 0, "refused": 0}));
    assert_eq!(
        paths(&rig).await,
        ["a", "a/b", "a/c", "z", "z/b", "z/c", "z/c/d", "z/empty"],
        "what is not empty stays"
    );
    assert_eq!(
        (names(&rig, "folder=a/c").await, names(&rig, "folder=a/b").await),
        (vec!["late".to_owned()], vec!["later".to_owned()])
    );
    assert_eq!(rig.count("events WHERE kind = 'media.updated'").await, 376);
    assert_eq!(rig.count("media WHERE version > 2").await, 0, "each was changed once");
    let counted = counts(&tree(&rig, "parent=z&levels=32").await);
    assert_eq!(counted, rows(&[("z/b", 250, 250), ("z/c", 0, 5), ("z/c/d", 5, 5), ("z/empty", 0, 0)]));
    rig.assert_counts().await;
}

#[tokio::test]
async fn uploads_into_a_folder_that_is_being_moved_are_in_one_or_the_other() {
    let rig = MediaRig::start().await;
    rig.seed(300, "a/b", "{}").await;
    let id = job_of(&post(&rig, "/v1/folders/move", &json!({"from": "a", "to": "z"})).await);
    let mut uploads = JoinSet::new();
    for writer in 0..6u8 {
        let addr = rig.api.addr();
        let folder = if writer % 2 == 0 { "a/b" } else { "a" };
        let request =
            TestForm::file(&[writer]).text("folder", folder).request(Method::POST, "/v1/media", &rig.shop.key);
        uploads.spawn(async move {
            let mut made = Vec::new();
            for _ in 0..15 {
                let answer = testkit::http::send(addr, &request).await.expect("an answer");
                // The folder may be deleted at this moment: then nothing was made, and it is told.
                match answer.status.as_u16() {
                    201 => made.push(crate::media_rig::id(&testkit::control_plane::body(&answer))),
                    _ => drop(problem(&answer, 409, "conflict")),
                }
            }
            made
        });
    }
    let all = async { uploads.join_all().await.concat() };
    let ((), made) = tokio::join!(rig.worker(), all);
    eventually("its end", async || {
        rig.sql("UPDATE jobs SET run_at = now() WHERE state = 'delayed'").await;
        rig.worker().await;
        (crate::edit_rig::job(&rig, &id).await["state"] == "done").then_some(())
    })
    .await;
    assert!(!made.is_empty());
    for id in &made {
        let medium = ok(&rig.get(id).await, 200);
        assert!(["a", "a/b", "z", "z/b"].map(Value::from).contains(&medium["folder"]), "{medium}");
    }
    assert_eq!(rig.count("media").await as usize, 300 + made.len());
    assert_eq!(
        rig.count("media WHERE folder LIKE 'z%'").await + rig.count("media WHERE folder LIKE 'a%'").await,
        rig.count("media").await
    );
    rig.assert_counts().await;
}
