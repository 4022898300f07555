//! What breaks while media is changed: processes that are killed, a store and a database that fail, changes at the same moment.
//! Afterwards every acknowledged upload is there, nothing is told that is not there, and what nothing leads to is swept.

use http::{Method, StatusCode};
use serde_json::json;
use testkit::control_plane::body;
use testkit::database::TestDatabase;
use testkit::edge::eventually;
use testkit::faulty::Fault;
use testkit::http::{Request, send};
use tokio::task::JoinSet;
use uploads::Pointer;

use crate::media_rig::{MediaRig, TestForm, id, picture};
use crate::support::{ok, problem};

/// More than fits into a single request to the store.
const LARGE: usize = 20_000_000;

async fn bucket() -> MediaRig {
    MediaRig::with_bucket(TestDatabase::new().await, &[]).await
}

/// What waits for its time is done, and then nothing is left to be done.
async fn settle(rig: &MediaRig) {
    rig.all_is_due().await;
    rig.worker().await;
    rig.assert_tidy().await;
}

/// Sends a request without waiting for its answer.
fn in_background(rig: &MediaRig, request: Request) -> tokio::task::JoinHandle<()> {
    let addr = rig.api.addr();
    // Whatever comes of it: the server is about to be killed.
    tokio::spawn(async move { drop(send(addr, &request).await) })
}

#[tokio::test]
async fn killed_while_bytes_are_on_their_way() {
    let rig = bucket().await;
    let kept = ok(&rig.post(TestForm::file(b"kept").text("public_id", "kept")).await, 201);
    // In the middle of the form, and of the object.
    let before = rig.relay().requests();
    let half = rig.begin(TestForm::file(&vec![7; LARGE]), LARGE / 2).await;
    rig.relay().wait_for_requests(before + 1).await.expect("a first part");
    let rig = rig.restart_after_crash().await;
    assert!(half.finish().await.is_none(), "nobody is left to answer");
    assert_eq!((rig.count("media").await, rig.count("stored_objects").await), (1, 1));
    assert_eq!(ok(&rig.get(&id(&kept)).await, 200), kept);
    assert_eq!(rig.stored("kept"), b"kept");
    settle(&rig).await;
}

#[tokio::test]
async fn killed_before_the_store_has_answered() {
    let rig = bucket().await;
    rig.relay().set(Fault::StallBeforeHead);
    let before = rig.relay().requests();
    let form = TestForm::file(b"x").text("public_id", "a");
    let sent = in_background(&rig, form.request(Method::POST, "/v1/media", &rig.shop.key));
    rig.relay().wait_for_requests(before + 1).await.expect("the object's request");
    let rig = rig.restart_after_crash().await;
    rig.relay().heal();
    sent.await.expect("no panic");
    assert_eq!((rig.count("media").await, rig.pointer("a")), (0, None));
    settle(&rig).await;
    // The name is not taken.
    ok(&rig.post(TestForm::file(b"y").text("public_id", "a")).await, 201);
    assert_eq!(rig.stored("a"), b"y");
}

#[tokio::test]
async fn killed_between_the_object_and_the_row() {
    let rig = bucket().await;
    let lock = rig.superuser().await;
    let lock = lock.begin_with("BEGIN; LOCK TABLE media IN ACCESS EXCLUSIVE MODE").await.expect("nobody else has it");
    let form = TestForm::file(b"x").text("public_id", "a");
    let sent = in_background(&rig, form.request(Method::POST, "/v1/media", &rig.shop.key));
    eventually("the object", async || (rig.objects().len() == 1).then_some(())).await;
    let rig = rig.restart_after_crash().await;
    sent.await.expect("no panic");
    lock.rollback().await.expect("given back");
    assert_eq!((rig.count("media").await, rig.objects().len()), (0, 1));
    // Not before its time: it could still become a medium.
    rig.worker().await;
    assert_eq!(rig.objects().len(), 1);
    settle(&rig).await;
    assert!(rig.objects().is_empty());
}

#[tokio::test]
async fn killed_between_the_row_and_the_pointer() {
    let rig = bucket().await;
    let made = ok(&rig.post(TestForm::file(b"x").text("public_id", "old")).await, 201);
    rig.relay().set(Fault::StallBeforeHead);
    let before = rig.relay().requests();
    let sent = in_background(&rig, rig.patch_request(&id(&made), &json!({"public_id": "new"})));
    rig.relay().wait_for_requests(before + 1).await.expect("a pointer's request");
    let rig = rig.restart_after_crash().await;
    rig.relay().heal();
    sent.await.expect("no panic");
    let seen = ok(&rig.get(&id(&made)).await, 200);
    assert_eq!((&seen["public_id"], &seen["published"]), (&"new".into(), &false.into()));
    // Who was writing it may not be dead.
    rig.worker().await;
    assert_eq!(rig.pointer("new"), None);
    settle(&rig).await;
    assert_eq!((rig.pointer("old"), rig.stored("new")), (Some(Pointer::Gone), b"x".to_vec()));
    assert_eq!(ok(&rig.get(&id(&made)).await, 200)["published"], true);
}

#[tokio::test]
async fn a_worker_that_is_killed_while_it_writes_a_pointer() {
    let rig = bucket().await;
    let made = ok(&rig.post(TestForm::file(b"x").text("public_id", "a")).await, 201);
    rig.sql("DELETE FROM feed_events").await;
    rig.sql("UPDATE media SET tags = '{t}'").await;
    rig.all_is_due().await;
    rig.relay().set(Fault::StallBeforeHead);
    let before = rig.relay().requests();
    // Dropping it kills it.
    tokio::select! {
        done = rig.try_worker() => panic!("it did not wait: {done:?}"),
        arrived = rig.relay().wait_for_requests(before + 1) => arrived.expect("the pointer's request"),
    }
    rig.relay().heal();
    assert_eq!(rig.count("feed_events").await, 0, "edges are told afterwards");
    assert_eq!(ok(&rig.get(&id(&made)).await, 200)["published"], false);
    settle(&rig).await;
    assert_eq!(rig.target("a").tags, ["t"]);
    assert_eq!(rig.count("feed_events WHERE kind = 'media' AND name = 'a'").await, 1);
}

#[tokio::test]
async fn a_store_that_fails_half_way() {
    let rig = bucket().await;
    for fault in [Fault::Answer(StatusCode::SERVICE_UNAVAILABLE), Fault::Reset] {
        let before = rig.relay().requests();
        let half = rig.begin(TestForm::file(&vec![7; LARGE]), LARGE / 2).await;
        rig.relay().wait_for_requests(before + 1).await.expect("a first part");
        rig.relay().set(fault);
        let (status, problem) = half.finish().await.expect("an answer");
        assert_eq!((status, &problem["code"]), (503, &"store-unavailable".into()), "{fault:?}: {problem}");
        rig.relay().heal();
    }
    assert_eq!(rig.count("media").await, 0);
    settle(&rig).await;
    let made = ok(&rig.post(TestForm::file(&vec![7; LARGE]).text("public_id", "a")).await, 201);
    assert_eq!(made["bytes"], LARGE);
    assert!(rig.stored("a") == vec![7; LARGE]);
    rig.assert_tidy().await;
}

#[tokio::test]
async fn a_store_that_is_down_is_told_and_what_is_in_it_can_still_be_listed() {
    let rig = bucket().await;
    let made = ok(&rig.post(TestForm::file(b"x").text("public_id", "a")).await, 201);
    rig.relay().take_down().await;
    let answer = rig.post(TestForm::file(b"y")).await;
    let detail = problem(&answer, 503, "store-unavailable");
    assert!(!detail.contains("127.0.0.1"), "{detail}");
    assert_eq!(answer.header("retry-after"), Some("1"));
    // What needs no bytes is done, and edges are told later.
    let changed = ok(&rig.patch(&id(&made), &json!({"tags": ["t"]})).await, 200);
    assert_eq!((&changed["tags"], &changed["published"]), (&json!(["t"]), &false.into()));
    ok(&rig.api.get(&rig.shop.key, "/v1/media").await, 200);
    let deleted = rig.delete(&id(&made)).await;
    assert_eq!((deleted.status.as_u16(), body(&deleted)), (202, json!({"published": false})));
    // A worker that cannot do it either leaves it for later.
    rig.all_is_due().await;
    rig.worker().await;
    rig.relay().bring_up().await;
    assert_eq!(rig.objects().len(), 1);
    settle(&rig).await;
    assert_eq!((rig.pointer("a"), rig.objects().len()), (Some(Pointer::Gone), 0));
}

#[tokio::test]
async fn a_pointer_that_cannot_be_written_is_written_later() {
    let rig = MediaRig::start().await;
    let folder = rig.root().join("t").join(&rig.shop.id);
    std::fs::create_dir_all(&folder).expect("the folder is ours");
    // A file where the folder of pointers has to be.
    std::fs::write(folder.join("n"), b"").expect("the folder is ours");
    let made = ok(&rig.post(TestForm::file(b"x").text("public_id", "a")).await, 201);
    assert_eq!(made["published"], false);
    assert_eq!(rig.count("feed_events WHERE kind = 'media'").await, 0);
    rig.all_is_due().await;
    rig.worker().await;
    assert_eq!(rig.count("pointers WHERE try_at > now()").await, 1, "it is tried again later");
    std::fs::remove_file(folder.join("n")).expect("it is there");
    settle(&rig).await;
    assert_eq!(
        (rig.stored("a"), ok(&rig.get(&id(&made)).await, 200)["published"].clone()),
        (b"x".to_vec(), true.into())
    );
}

#[tokio::test]
async fn a_database_that_is_restarted_during_an_upload() {
    let mut rig = MediaRig::with_bucket(TestDatabase::alone().await, &[]).await;
    let kept = ok(&rig.post(TestForm::file(b"kept").text("public_id", "kept")).await, 201);
    let before = rig.relay().requests();
    let half = rig.begin(TestForm::file(&vec![7; LARGE]).text("public_id", "a"), LARGE / 2).await;
    rig.relay().wait_for_requests(before + 1).await.expect("a first part");
    rig.api.database.crash().await;
    let (status, problem) = half.finish().await.expect("an answer");
    assert_eq!((status, &problem["code"]), (503, &"database-unavailable".into()), "{problem}");
    rig.api.database.start_again().await;
    eventually("the database", async || (rig.get(&id(&kept)).await.status == 200).then_some(())).await;
    assert_eq!((rig.count("media").await, rig.objects().len()), (1, 2));
    settle(&rig).await;
    ok(&rig.post(TestForm::file(b"y").text("public_id", "a")).await, 201);
    assert_eq!((rig.stored("kept"), rig.stored("a")), (b"kept".to_vec(), b"y".to_vec()));
}

#[tokio::test]
async fn an_upload_that_takes_longer_than_it_may() {
    let rig = bucket().await;
    let half = rig.begin(TestForm::file(&vec![7; 1_000_000]), 500_000).await;
    eventually("its announcement", async || (rig.count("stored_objects").await == 1).then_some(())).await;
    // A worker takes it for dead, although it is not.
    rig.all_is_due().await;
    rig.worker().await;
    assert_eq!(rig.count("stored_objects").await, 0);
    let (status, problem) = half.finish().await.expect("an answer");
    assert_eq!((status, &problem["code"]), (408, &"upload-time".into()), "{problem}");
    assert_eq!((rig.count("media").await, rig.objects().len()), (0, 1));
    settle(&rig).await;

    let rig = MediaRig::with_folder(&[("UPLOAD_SECONDS", "1".to_owned())]).await;
    let slow = rig.begin(TestForm::file(&[7; 1000]), 500).await;
    eventually("its announcement", async || (rig.count("stored_objects").await == 1).then_some(())).await;
    eventually("its end", async || (rig.count("stored_objects WHERE state = 'doomed'").await == 1).then_some(())).await;
    let (status, problem) = slow.finish().await.expect("an answer");
    assert_eq!((status, &problem["code"]), (408, &"upload-time".into()), "{problem}");
    settle(&rig).await;
}

#[tokio::test]
async fn one_of_many_who_replace_the_same_version_wins() {
    let rig = MediaRig::start().await;
    let made = ok(&rig.post(TestForm::file(b"first").text("public_id", "a")).await, 201);
    let target = format!("/v1/media/{}/file", id(&made));
    for (condition, expected) in [(Some("\"v1\""), 1), (None, 8)] {
        let mut tries = JoinSet::new();
        for n in 0..8u8 {
            let mut request = TestForm::file(&picture([n, 0, 0])).request(Method::PUT, &target, &rig.shop.key);
            if let Some(condition) = condition {
                request = request.header("if-match", condition);
            }
            let addr = rig.api.addr();
            tries.spawn(async move { (n, send(addr, &request).await.expect("an answer")) });
        }
        let answers = tries.join_all().await;
        let mut won: Vec<_> = answers.iter().filter(|(_, answer)| answer.status == 200).collect();
        assert_eq!(won.len(), expected);
        won.sort_by_key(|(_, answer)| body(answer)["version"].as_i64());
        for (_, answer) in answers.iter().filter(|(_, answer)| answer.status != 200) {
            problem(answer, 412, "changed");
        }
        let (last, answer) = won.last().expect("somebody won");
        assert_eq!(rig.stored("a"), picture([*last, 0, 0]), "{}", answer.text());
        assert!(won.iter().all(|(_, answer)| body(answer)["published"] == true), "{won:?}");
    }
    settle(&rig).await;
}

#[tokio::test]
async fn one_of_many_who_take_the_same_name_gets_it() {
    let rig = MediaRig::start().await;
    let mut tries = JoinSet::new();
    for n in 0..8u8 {
        let form = TestForm::file(&[n]).text("public_id", "a").text("folder", "f/g");
        let (addr, request) = (rig.api.addr(), form.request(Method::POST, "/v1/media", &rig.shop.key));
        tries.spawn(async move { (n, send(addr, &request).await.expect("an answer")) });
    }
    let answers = tries.join_all().await;
    let made: Vec<_> = answers.iter().filter(|(_, answer)| answer.status == 201).collect();
    assert_eq!(made.len(), 1);
    for (_, answer) in answers.iter().filter(|(_, answer)| answer.status != 201) {
        problem(answer, 409, "exists");
    }
    assert_eq!(rig.stored("a"), [made[0].0]);
    settle(&rig).await;
}
