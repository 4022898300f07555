//! Copies of media: what they have of the other, and whoever dies over them.

use ::http::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::database::TestDatabase;
use testkit::edge::eventually;
use testkit::faulty::Fault;
use testkit::http::{Response, send};

use crate::edit_rig::{job, job_of, once, post};
use crate::media_rig::{MediaRig, TestForm, id, picture};
use crate::support::{etag, ok, problem};

async fn copy(rig: &MediaRig, of: &str, other: &Value) -> Response {
    post(rig, &format!("/v1/media/{of}/copy"), other).await
}

/// What waits for its time is done, and then nothing is left to be done.
async fn settle(rig: &MediaRig) {
    rig.all_is_due().await;
    rig.worker().await;
    rig.assert_tidy().await;
    rig.assert_counts().await;
}

/// A medium with all that can be said of one.
async fn medium(rig: &MediaRig) -> Value {
    let form = TestForm::file(&picture([1, 2, 3])).text("public_id", "one").text("folder", "a/b").text("tags", "s,t");
    let form = form.text("metadata", "{\"year\": 2026}").text("expires_at", "2090-01-01T00:00:00Z");
    ok(&rig.post(form).await, 201)
}

#[tokio::test]
async fn a_copy_has_the_same_bytes_and_is_a_medium_of_its_own() {
    for rig in [MediaRig::start().await, MediaRig::with_bucket(TestDatabase::new().await, &[]).await] {
        let one = medium(&rig).await;
        let answer = copy(&rig, &id(&one), &json!({})).await;
        let made = ok(&answer, 201);
        assert_ne!(made["id"], one["id"]);
        assert_eq!(answer.header("location").expect("a place"), format!("/v1/media/{}", id(&made)));
        assert_eq!(
            (etag(&answer).as_str(), &made["public_id"], &made["published"]),
            ("\"v1\"", &made["id"], &true.into())
        );
        for name in [
            "kind",
            "state",
            "content_type",
            "bytes",
            "width",
            "height",
            "sha256",
            "folder",
            "tags",
            "metadata",
            "filename",
            "expires_at",
        ] {
            assert_eq!(made[name], one[name], "{name}");
        }
        assert_eq!(ok(&rig.get(&id(&made)).await, 200), made);
        let other = json!({"public_id": "two", "folder": "", "tags": ["u"], "metadata": {"a": 1}, "expires_at": null, "filename": "b.png"});
        let two = ok(&copy(&rig, &id(&one), &other).await, 201);
        for (name, value) in other.as_object().expect("an object") {
            assert_eq!(&two[name], value, "{name}");
        }
        assert_eq!((rig.stored("two"), rig.target("two").tags), (picture([1, 2, 3]), vec!["u".to_owned()]));
        assert_eq!(rig.count("events WHERE kind = 'media.created'").await, 3);
        // What becomes of one is nothing to the others.
        assert_eq!(rig.objects().len(), 3);
        ok(&rig.put(&id(&one), &picture([9, 9, 9])).await, 200);
        ok(&rig.delete(&id(&made)).await, 204);
        settle(&rig).await;
        assert_eq!((rig.stored("two"), rig.stored("one")), (picture([1, 2, 3]), picture([9, 9, 9])));
        assert_eq!(rig.objects().len(), 2);
    }
}

#[tokio::test]
async fn a_copy_is_a_new_medium_to_a_workflow() {
    let scanner = testkit::scanner::Clamd::start().await;
    let rig = crate::scan_rig::rig_with(scanner.address()).await;
    let one = crate::scan_rig::upload(&rig, "one", &picture([1, 2, 3])).await;
    problem(&copy(&rig, &id(&one), &json!({})).await, 409, "media-state");
    rig.worker().await;
    let two = ok(&copy(&rig, &id(&one), &json!({"public_id": "two"})).await, 201);
    assert_eq!((&two["state"], rig.pointer("two")), (&"quarantined".into(), Some(uploads::Pointer::Gone)));
    rig.worker().await;
    assert_eq!(
        (&ok(&rig.get(&id(&two)).await, 200)["state"], rig.stored("two")),
        (&"ready".into(), picture([1, 2, 3]))
    );
}

#[tokio::test]
async fn copies_that_are_not_allowed_leave_nothing() {
    let rig = MediaRig::start().await;
    let blog = rig.api.tenant("blog").await;
    let one = medium(&rig).await;
    let one_id = id(&one);
    for (other, status, code) in [
        (json!({"public_id": "one"}), 409, "exists"),
        (json!({"public_id": "../a"}), 422, "bad-field"),
        (json!({"folder": "/a"}), 422, "bad-field"),
        (json!({"tags": ["a,b"]}), 422, "bad-field"),
        (json!({"metadata": []}), 422, "bad-field"),
        (json!({"expires_at": "2020-01-01T00:00:00Z"}), 422, "bad-field"),
        (json!({"filename": "a/b"}), 422, "bad-field"),
        (json!({"bytes": 1}), 400, "bad-json"),
    ] {
        problem(&copy(&rig, &one_id, &other).await, status, code);
    }
    for never in ["00000000-0000-7000-8000-000000000000", "x"] {
        problem(&copy(&rig, never, &json!({})).await, 404, "not-found");
    }
    let theirs = rig.api.json(Method::POST, &blog.key, &format!("/v1/media/{one_id}/copy"), &json!({})).await;
    problem(&theirs, 404, "not-found");
    for state in ["quarantined", "rejected"] {
        rig.sql(&format!("UPDATE media SET state = '{state}'")).await;
        assert_eq!(
            problem(&copy(&rig, &one_id, &json!({})).await, 409, "media-state"),
            format!("the medium is {state}")
        );
    }
    rig.sql("UPDATE media SET state = 'ready', expires_at = now() - interval '1 second'").await;
    assert_eq!(problem(&copy(&rig, &one_id, &json!({})).await, 409, "media-state"), "the medium is expired");
    rig.sql("UPDATE media SET expires_at = NULL").await;
    let bytes = one["bytes"].as_i64().expect("a number");
    for (quota, code) in
        [(json!({"storage_bytes": 2 * bytes - 1}), "quota-storage"), (json!({"files": 1}), "quota-files")]
    {
        let admin = testkit::control_plane::ADMIN_KEY;
        ok(&rig.api.json(Method::PUT, admin, "/v1/tenants/shop/quotas", &quota).await, 200);
        problem(&copy(&rig, &one_id, &json!({})).await, 403, code);
    }
    assert_eq!(rig.count("media").await, 1);
    settle(&rig).await;
    assert_eq!(rig.objects().len(), 1);
}

#[tokio::test]
async fn what_is_asked_twice_is_copied_once() {
    let rig = MediaRig::start().await;
    let one = id(&medium(&rig).await);
    let target = format!("/v1/media/{one}/copy");
    let request = once(&rig, &target, "one", &json!({"public_id": "two"}));
    let first = ok(&rig.api.send(&request).await, 201);
    let again = rig.api.send(&request).await;
    assert_eq!((ok(&again, 201), again.header("idempotency-replayed")), (first, Some("true")));
    problem(
        &rig.api.send(&once(&rig, &target, "one", &json!({"public_id": "three"}))).await,
        422,
        "idempotency-mismatch",
    );
    assert_eq!(rig.count("media").await, 2);
    settle(&rig).await;
    assert_eq!(rig.objects().len(), 2);
}

#[tokio::test]
async fn killed_while_the_store_copies() {
    let rig = MediaRig::with_bucket(TestDatabase::new().await, &[]).await;
    let one = id(&medium(&rig).await);
    let before = rig.relay().requests();
    rig.relay().set(Fault::StallBeforeHead);
    let (addr, request) =
        (rig.api.addr(), once(&rig, &format!("/v1/media/{one}/copy"), "one", &json!({"public_id": "two"})));
    let again = request.clone();
    let sent = tokio::spawn(async move { drop(send(addr, &request).await) });
    rig.relay().wait_for_requests(before + 1).await.expect("the store is asked");
    assert_eq!(rig.count("stored_objects WHERE state = 'pending'").await, 1, "it was announced before");
    let rig = rig.restart_after_crash().await;
    rig.relay().heal();
    sent.await.expect("no panic");
    assert_eq!((rig.count("media").await, rig.pointer("two")), (1, None));
    settle(&rig).await;
    assert_eq!(rig.objects().len(), 1);
    ok(&rig.api.send(&again).await, 201);
    assert_eq!(rig.stored("two"), picture([1, 2, 3]));
}

#[tokio::test]
async fn killed_between_the_copy_and_its_row_and_before_its_pointer() {
    let rig = MediaRig::with_bucket(TestDatabase::new().await, &[]).await;
    let one = id(&medium(&rig).await);
    let lock = rig.superuser().await;
    // Whoever copies may look, and nothing more.
    let lock = lock.begin_with("BEGIN; LOCK TABLE media IN EXCLUSIVE MODE").await.expect("nobody else has it");
    let (addr, request) =
        (rig.api.addr(), once(&rig, &format!("/v1/media/{one}/copy"), "one", &json!({"public_id": "two"})));
    let again = request.clone();
    let sent = tokio::spawn(async move { drop(send(addr, &request).await) });
    eventually("the copy", async || (rig.objects().len() == 2).then_some(())).await;
    let rig = rig.restart_after_crash().await;
    sent.await.expect("no panic");
    lock.rollback().await.expect("given back");
    assert_eq!((rig.count("media").await, rig.objects().len()), (1, 2));
    settle(&rig).await;
    assert_eq!(rig.objects().len(), 1);

    // The row is made, and the pointer cannot be written: a look and the copy get through.
    let before = rig.relay().requests();
    let (addr, request) = (rig.api.addr(), again.clone());
    let row = rig.superuser().await;
    let row = row.begin_with("BEGIN; LOCK TABLE media IN EXCLUSIVE MODE").await.expect("nobody else has it");
    let sent = tokio::spawn(async move { drop(send(addr, &request).await) });
    eventually("the copy", async || (rig.objects().len() == 2).then_some(())).await;
    rig.relay().wait_for_requests(before + 2).await.expect("a look and the copy");
    rig.relay().set(Fault::StallBeforeHead);
    row.rollback().await.expect("given back");
    rig.relay().wait_for_requests(before + 3).await.expect("a pointer's request");
    let rig = rig.restart_after_crash().await;
    rig.relay().heal();
    sent.await.expect("no panic");
    assert_eq!((rig.count("media").await, rig.pointer("two")), (2, None));
    // Whoever asks again is answered what was done.
    let told = ok(&rig.api.send(&again).await, 201);
    assert_eq!((&told["public_id"], &told["published"]), (&"two".into(), &false.into()));
    settle(&rig).await;
    assert_eq!((rig.stored("two"), rig.objects().len()), (picture([1, 2, 3]), 2));
}

#[tokio::test]
async fn a_store_that_fails_is_told_and_nothing_is_left() {
    let rig = MediaRig::with_bucket(TestDatabase::new().await, &[]).await;
    let one = id(&medium(&rig).await);
    for fault in [Fault::Answer(StatusCode::SERVICE_UNAVAILABLE), Fault::Reset] {
        rig.relay().set(fault);
        problem(&copy(&rig, &one, &json!({})).await, 503, "store-unavailable");
        rig.relay().heal();
    }
    settle(&rig).await;
    ok(&copy(&rig, &one, &json!({})).await, 201);
}

#[tokio::test]
async fn a_medium_that_is_replaced_or_rejected_while_it_is_copied_is_not_copied() {
    for (meanwhile, status, code) in [
        ("UPDATE media SET revision = gen_random_uuid()", 409, "conflict"),
        ("UPDATE media SET state = 'rejected'", 409, "media-state"),
        ("DELETE FROM media", 404, "not-found"),
    ] {
        let rig = MediaRig::start().await;
        let one = id(&medium(&rig).await);
        let superuser = rig.superuser().await;
        let mut lock =
            superuser.begin_with("BEGIN; LOCK TABLE media IN EXCLUSIVE MODE").await.expect("nobody else has it");
        let change = async {
            eventually("the copy", async || (rig.objects().len() == 2).then_some(())).await;
            sqlx::query(meanwhile).execute(&mut *lock).await.expect("changed");
            lock.commit().await.expect("changed");
        };
        let other = json!({});
        let (answer, ()) = tokio::join!(copy(&rig, &one, &other), change);
        problem(&answer, status, code);
        rig.all_is_due().await;
        rig.sql("DELETE FROM pointers").await;
        rig.worker().await;
        assert_eq!(rig.count("stored_objects").await, 0);
        assert!(rig.count("media").await <= 1);
    }
}

/// Makes the only medium as large as a store needs time for: the file has a hole.
async fn grow(rig: &MediaRig, bytes: i64) {
    let object = rig.root().join(rig.target("one").object);
    std::fs::File::options().write(true).open(object).and_then(|file| file.set_len(bytes as u64)).expect("it is ours");
    rig.sql(&format!("UPDATE media SET bytes = {bytes}, tags = '{{large}}'")).await;
    rig.all_is_due().await;
    rig.worker().await;
}

#[tokio::test]
async fn a_large_one_is_copied_by_a_job_that_outlives_its_worker() {
    let rig = MediaRig::start().await;
    let one = id(&medium(&rig).await);
    grow(&rig, (64 << 20) + 1).await;
    let copied = job_of(&copy(&rig, &one, &json!({"public_id": "two", "tags": []})).await);
    let superuser = rig.superuser().await;
    let lock = superuser.begin_with("BEGIN; LOCK TABLE media IN EXCLUSIVE MODE").await.expect("nobody else has it");
    // Dropping it kills it.
    tokio::select! {
        done = rig.try_worker() => panic!("it did not wait: {done:?}"),
        () = eventually("the copy", async || (rig.objects().len() == 2).then_some(())) => {}
    }
    lock.rollback().await.expect("given back");
    assert_eq!(rig.count("media").await, 1);
    rig.sql("UPDATE jobs SET leased_until = now() - interval '1 second'").await;
    crate::edit_rig::taken_up(&rig).await;
    rig.worker().await;
    let done = job(&rig, &copied).await;
    assert_eq!((&done["state"], &done["result"]["media"]), (&"done".into(), &copied.as_str().into()), "{done}");
    assert_eq!((rig.stored("two").len(), rig.target("two").tags.len()), ((64 << 20) + 1, 0));
    // A worker that died before it could say that it was done: the next one finds that it is.
    rig.sql("UPDATE jobs SET state = 'queued', finished_at = NULL").await;
    rig.worker().await;
    assert_eq!((rig.count("media").await, &job(&rig, &copied).await["state"]), (2, &"done".into()));
    settle(&rig).await;
    assert_eq!(rig.objects().len(), 2);

    let taken = job_of(&copy(&rig, &one, &json!({"public_id": "two"})).await);
    rig.worker().await;
    let failed = job(&rig, &taken).await;
    assert_eq!(
        (&failed["state"], &failed["error"]),
        (&"failed".into(), &"there is already a medium of this public id".into())
    );
    settle(&rig).await;
}
