//! Uploads, batches and fetches that are sent again with the same `Idempotency-Key`.

use http::Method;
use serde_json::{Value, json};
use testkit::control_plane::MASTER_KEY;
use testkit::edge::eventually;
use testkit::http::{Request, Response};
use tokio::task::JoinSet;

use crate::media_rig::{BOUNDARY, MediaRig, TestForm, id, picture};
use crate::support::{etag, ok, problem};

/// A request that sends a form as a new medium, with a key.
fn upload(rig: &MediaRig, key: &str, form: TestForm) -> Request {
    form.request(Method::POST, "/v1/media", &rig.shop.key).header("idempotency-key", key)
}

fn order(rig: &MediaRig, target: &str, key: &str, order: &Value) -> Request {
    let request = Request::new(Method::POST, target).header("authorization", format!("Bearer {}", rig.shop.key));
    request.header("content-type", "application/json").header("idempotency-key", key).body(order.to_string())
}

#[track_caller]
fn assert_replayed(again: &Response, first: &Response) {
    assert_eq!((again.status, &again.body), (first.status, &first.body), "{}", again.text());
    for name in ["etag", "location", "content-type"] {
        assert_eq!(again.header(name), first.header(name), "{name}");
    }
    assert_eq!((first.header("idempotency-replayed"), again.header("idempotency-replayed")), (None, Some("true")));
}

/// Lets workers sweep what nothing came of, and looks whether there is anything left of it.
async fn assert_swept(rig: &MediaRig, media: usize) {
    rig.all_is_due().await;
    rig.worker().await;
    rig.assert_tidy().await;
    assert_eq!(rig.objects().len(), media);
}

#[tokio::test]
async fn a_file_that_is_sent_again_is_the_same_medium() {
    let rig = MediaRig::start().await;
    let form = || {
        let form = TestForm::default().text("public_id", "beach").text("tags", "sun,sea").text("folder", "holidays");
        form.text("metadata", "{\"b\": 1, \"a\": [2]}").add("file", Some("beach.png"), &picture([9, 8, 7]))
    };
    let first = rig.api.send(&upload(&rig, "one", form())).await;
    let made = ok(&first, 201);
    assert_eq!((&made["published"], etag(&first)), (&true.into(), "\"v1\"".to_owned()));
    for _ in 0..10 {
        assert_replayed(&rig.api.send(&upload(&rig, "one", form())).await, &first);
    }
    // What stands between the parts is no part of it: clients choose it anew each time.
    let mut bytes = form().bytes();
    let other = "----another-one-of-this-tes";
    assert_eq!(other.len(), BOUNDARY.len());
    while let Some(at) = bytes.windows(BOUNDARY.len()).position(|part| part == BOUNDARY.as_bytes()) {
        bytes[at..at + BOUNDARY.len()].copy_from_slice(other.as_bytes());
    }
    let again = Request::new(Method::POST, "/v1/media")
        .header("authorization", format!("Bearer {}", rig.shop.key))
        .header("content-type", format!("multipart/form-data; boundary={other}"))
        .header("idempotency-key", "one")
        .body(bytes);
    assert_replayed(&rig.api.send(&again).await, &first);
    // The same with another key is another request.
    problem(&rig.api.send(&upload(&rig, "two", form())).await, 409, "exists");
    assert_eq!(rig.count("media").await, 1);
    assert_swept(&rig, 1).await;
    // It is the answer that is kept, whatever has become of the medium since.
    ok(&rig.delete(&id(&made)).await, 204);
    assert_replayed(&rig.api.send(&upload(&rig, "one", form())).await, &first);
    problem(&rig.get(&id(&made)).await, 404, "not-found");
    assert_swept(&rig, 0).await;
}

#[tokio::test]
async fn another_file_or_word_with_the_same_key_is_refused() {
    let rig = MediaRig::start().await;
    let bytes = picture([1, 2, 3]);
    let form = || TestForm::file(&bytes).text("tags", "a").text("folder", "x");
    let first = rig.api.send(&upload(&rig, "one", form())).await;
    ok(&first, 201);
    for (what, other) in [
        ("another file", TestForm::file(&picture([1, 2, 4])).text("tags", "a").text("folder", "x")),
        ("another name", TestForm::default().add("file", Some("b.png"), &bytes).text("tags", "a").text("folder", "x")),
        ("another tag", TestForm::file(&bytes).text("tags", "b").text("folder", "x")),
        ("no tag", TestForm::file(&bytes).text("folder", "x")),
        ("a tag as a folder", TestForm::file(&bytes).text("tags", "x").text("folder", "a")),
        ("one more", form().text("public_id", "x")),
    ] {
        let refused = rig.api.send(&upload(&rig, "one", other)).await;
        let detail = problem(&refused, 422, "idempotency-mismatch");
        assert!(detail.contains("Idempotency-Key"), "{what}: {detail}");
    }
    assert_replayed(&rig.api.send(&upload(&rig, "one", form())).await, &first);
    // Another tenant's keys are its own.
    let blog = rig.api.tenant("blog").await;
    let of_blog = form().request(Method::POST, "/v1/media", &blog.key).header("idempotency-key", "one");
    let of_blog = rig.api.send(&of_blog).await;
    assert_ne!(ok(&of_blog, 201)["id"], ok(&first, 201)["id"]);
    assert_eq!(of_blog.header("idempotency-replayed"), None);
    assert_swept(&rig, 2).await;
}

#[tokio::test]
async fn of_uploads_at_once_one_is_done() {
    let rig = MediaRig::start().await;
    let mut tries = JoinSet::new();
    for _ in 0..12 {
        let (addr, request) = (rig.api.addr(), upload(&rig, "one", TestForm::file(&picture([5, 5, 5]))));
        tries.spawn(async move { testkit::http::send(addr, &request).await.expect("an answer") });
    }
    let (mut first, mut made) = (0, Vec::new());
    for answer in tries.join_all().await {
        if answer.status == 201 {
            first += usize::from(answer.header("idempotency-replayed").is_none());
            made.push(id(&ok(&answer, 201)));
        } else {
            problem(&answer, 409, "idempotency-running");
        }
    }
    assert_eq!(first, 1, "of {} that were answered", made.len());
    assert!(made.iter().all(|id| *id == made[0]));
    assert_eq!(rig.count("media").await, 1);
    assert_swept(&rig, 1).await;
}

#[tokio::test]
async fn an_upload_whose_answer_was_lost_is_found_again() {
    let rig = MediaRig::start().await;
    let form = || TestForm::file(&picture([4, 4, 4]));
    let (addr, request) = (rig.api.addr(), upload(&rig, "one", form()));
    let lost = tokio::spawn(async move { testkit::http::send(addr, &request).await });
    eventually("the medium", async || (rig.count("media").await == 1).then_some(())).await;
    let rig = rig.restart_after_crash().await;
    // It had an answer or none: it was made all the same.
    drop(lost.await.expect("no panic"));
    let again = rig.api.send(&upload(&rig, "one", form())).await;
    let made = ok(&again, 201);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(rig.count("media").await, 1);
    rig.all_is_due().await;
    rig.worker().await;
    // What edges know by now is told, not what they knew when the answer was kept.
    let again = ok(&rig.api.send(&upload(&rig, "one", form())).await, 201);
    assert_eq!((&again["published"], &again["id"]), (&true.into(), &made["id"]));
    assert_eq!(ok(&rig.get(&id(&made)).await, 200), again);
    assert_swept(&rig, 1).await;
}

#[tokio::test]
async fn what_was_refused_may_be_sent_again_with_the_same_key() {
    let rig = MediaRig::with_folder(&[("UPLOAD_BYTES", "1000".to_owned())]).await;
    let taken = ok(&rig.post(TestForm::file(b"a").text("public_id", "a")).await, 201);
    let form = || TestForm::file(b"b").text("public_id", "a");
    problem(&rig.api.send(&upload(&rig, "one", form())).await, 409, "exists");
    problem(&rig.api.send(&upload(&rig, "one", TestForm::file(&[0; 1001]))).await, 413, "file-too-large");
    problem(&rig.api.send(&upload(&rig, "one", TestForm::default())).await, 400, "bad-form");
    problem(&rig.api.send(&upload(&rig, "", form())).await, 400, "bad-idempotency-key");
    assert_swept(&rig, 1).await;
    ok(&rig.delete(&id(&taken)).await, 204);
    let made = rig.api.send(&upload(&rig, "one", form())).await;
    ok(&made, 201);
    assert_replayed(&rig.api.send(&upload(&rig, "one", form())).await, &made);
    assert_swept(&rig, 1).await;
}

#[tokio::test]
async fn batches_and_fetches_are_ordered_once() {
    let rig = MediaRig::with_folder(&[("MASTER_KEY", MASTER_KEY.to_owned())]).await;
    let batch =
        |action: &str| json!({"action": action, "ids": ["00000000-0000-7000-8000-000000000000"], "tags": ["a"]});
    let fetch = |name: &str| json!({"url": format!("https://example.com/{name}.jpg")});
    for (at, (target, body, other)) in
        [("/v1/media/batch", &batch("tag"), &batch("untag")), ("/v1/media/fetch", &fetch("a"), &fetch("b"))]
            .into_iter()
            .enumerate()
    {
        let first = rig.api.send(&order(&rig, target, "one", body)).await;
        let job = ok(&first, 202);
        assert_eq!(first.header("location"), Some(&*format!("/v1/jobs/{}", id(&job))));
        assert_replayed(&rig.api.send(&order(&rig, target, "one", body)).await, &first);
        problem(&rig.api.send(&order(&rig, target, "one", other)).await, 422, "idempotency-mismatch");
        ok(&rig.api.send(&order(&rig, target, "two", body)).await, 202);
        assert_eq!(rig.count("jobs").await, 2 * (at as i64 + 1));
    }
}
