//! What breaks while parts come, and while they become a medium. Whoever comes again gets on, and nothing that was acknowledged is lost.

use http::{Method, StatusCode};
use serde_json::json;
use testkit::database::TestDatabase;
use testkit::edge::eventually;
use testkit::faulty::Fault;
use testkit::http::{Request, send};

use crate::media_rig::{MediaRig, TestForm, id};
use crate::support::{ok, problem};
use crate::upload_rig::{
    Half, PART, assert_swept, assert_taken, begin, both, complete, look, noise, part, put, put_all, put_part, sha256,
    url,
};

async fn bucket() -> MediaRig {
    MediaRig::with_bucket(TestDatabase::new().await, &[]).await
}

/// Orders the completion of an upload without waiting for its answer.
fn complete_in_background(rig: &MediaRig, upload: &str) -> tokio::task::JoinHandle<()> {
    let request = Request::new(Method::POST, format!("/v1/uploads/{upload}/complete"));
    let request = request.header("authorization", format!("Bearer {}", rig.shop.key));
    let request = request.header("content-type", "application/json").body("{}");
    let addr = rig.api.addr();
    // Whatever comes of it: the server is about to be killed.
    tokio::spawn(async move { drop(send(addr, &request).await) })
}

#[tokio::test]
async fn killed_while_a_part_comes() {
    let rig = MediaRig::start().await;
    let bytes = noise(2 * PART, 1);
    let upload = begin(&rig, &json!({"bytes": bytes.len(), "public_id": "a"})).await;
    put_part(&upload, &bytes, 1).await;
    let target = url(&upload, 2);
    let head = format!("PUT /v1{} HTTP/1.1\r\n", target.split_once("/v1").expect("ours").1);
    let half = Half::send(&rig, &head, PART, &part(&bytes, 2)[..PART / 2]).await;
    eventually("its first bytes", async || (rig.unfinished() > 0).then_some(())).await;
    let rig = rig.restart_after_crash().await;
    drop(half);
    let seen = look(&rig, &id(&upload)).await;
    assert_eq!(seen["parts"].as_array().map(Vec::len), Some(1), "{seen}");
    put_part(&upload, &bytes, 2).await;
    ok(&complete(&rig, &id(&upload)).await, 200);
    assert_taken(&rig, "a", &bytes).await;
}

#[tokio::test]
async fn killed_after_the_order_and_before_the_bucket_knows_of_it() {
    let rig = bucket().await;
    rig.relay().set(Fault::StallBeforeHead);
    let before = rig.relay().requests();
    let request = Request::new(Method::POST, "/v1/uploads").header("idempotency-key", "once");
    let request = request.header("authorization", format!("Bearer {}", rig.shop.key));
    let request = request.header("content-type", "application/json").body(json!({"bytes": 2 * PART}).to_string());
    let (addr, first) = (rig.api.addr(), request.clone());
    let sent = tokio::spawn(async move { drop(send(addr, &first).await) });
    rig.relay().wait_for_requests(before + 1).await.expect("the bucket is asked");
    let rig = rig.restart_after_crash().await;
    rig.relay().heal();
    sent.await.expect("no panic");
    let answer = rig.api.send(&request).await;
    assert_eq!(answer.header("idempotency-replayed"), Some("true"));
    let (upload, bytes) = (ok(&answer, 201), noise(2 * PART, 2));
    put_all(&upload, &bytes).await;
    ok(&complete(&rig, &id(&upload)).await, 200);
    assert_taken(&rig, &id(&upload), &bytes).await;
}

#[tokio::test]
async fn killed_while_the_medium_is_made() {
    let rig = bucket().await;
    let bytes = noise(2 * PART, 3);
    let upload = begin(&rig, &json!({"bytes": bytes.len(), "public_id": "a"})).await;
    put_all(&upload, &bytes).await;
    // The parts are put together, and the last transaction waits.
    let lock = rig.superuser().await;
    let lock = lock.begin_with("BEGIN; LOCK TABLE media IN ACCESS EXCLUSIVE MODE").await.expect("nobody else has it");
    let sent = complete_in_background(&rig, &id(&upload));
    eventually("the object", async || (rig.objects().len() == 1).then_some(())).await;
    let rig = rig.restart_after_crash().await;
    sent.await.expect("no panic");
    lock.rollback().await.expect("given back");
    assert_eq!(look(&rig, &id(&upload)).await["state"], "completing");
    assert_eq!(rig.count("media").await, 0);
    // The client comes again.
    ok(&complete(&rig, &id(&upload)).await, 200);
    assert_taken(&rig, "a", &bytes).await;
    assert_eq!(rig.objects().len(), 1, "what the first try has written is swept");
}

#[tokio::test]
async fn a_worker_goes_on_where_somebody_has_died() {
    for rig in both(&[]).await {
        let upload = begin(&rig, &json!({"bytes": 4, "public_id": "a"})).await;
        put(&url(&upload, 1), "four").await;
        let lock = rig.superuser().await;
        let lock = lock.begin_with("BEGIN; LOCK TABLE media IN ACCESS EXCLUSIVE MODE").await.expect("it is free");
        let sent = complete_in_background(&rig, &id(&upload));
        eventually("the object", async || (rig.objects().len() == 1).then_some(())).await;
        let rig = rig.restart_after_crash().await;
        sent.await.expect("no panic");
        lock.rollback().await.expect("given back");
        // Not before its time: somebody may be at it.
        rig.worker().await;
        assert_eq!(look(&rig, &id(&upload)).await["state"], "completing");
        rig.sql("UPDATE uploads SET due_at = now()").await;
        rig.worker().await;
        assert_eq!(look(&rig, &id(&upload)).await["state"], "done");
        assert_taken(&rig, "a", b"four").await;
    }
}

#[tokio::test]
async fn a_worker_that_is_killed_over_a_large_one_leaves_it_to_the_next() {
    let rig = bucket().await;
    let bytes = noise((64 << 20) + 1, 4);
    let upload = begin(&rig, &json!({"bytes": bytes.len(), "public_id": "a"})).await;
    put_all(&upload, &bytes).await;
    ok(&complete(&rig, &id(&upload)).await, 202);
    let before = rig.relay().requests();
    // Dropping it kills it.
    tokio::select! {
        done = rig.try_worker() => panic!("it was to be killed: {done:?}"),
        asked = rig.relay().wait_for_requests(before + 5) => asked.expect("it is at it"),
    }
    assert_eq!(look(&rig, &id(&upload)).await["state"], "completing");
    rig.sql("UPDATE jobs SET leased_until = now() - interval '1 minute', run_at = now()").await;
    eventually("the medium", async || {
        rig.sql("UPDATE jobs SET run_at = now() WHERE state IN ('queued', 'delayed')").await;
        rig.worker().await;
        (look(&rig, &id(&upload)).await["state"] == "done").then_some(())
    })
    .await;
    assert_taken(&rig, "a", &bytes).await;
}

#[tokio::test]
async fn a_store_that_is_away_is_told_and_waited_for() {
    let rig = bucket().await;
    rig.relay().take_down().await;
    let order = json!({"bytes": PART + 1});
    let refused = rig.api.json(Method::POST, &rig.shop.key, "/v1/uploads", &order).await;
    problem(&refused, 503, "store-unavailable");
    rig.relay().bring_up().await;
    let bytes = noise(PART + 1, 5);
    let upload = begin(&rig, &json!({"bytes": bytes.len(), "public_id": "a"})).await;
    put_all(&upload, &bytes).await;
    rig.relay().set(Fault::Answer(StatusCode::SERVICE_UNAVAILABLE));
    problem(&complete(&rig, &id(&upload)).await, 503, "store-unavailable");
    rig.relay().heal();
    // The parts are together, and the object cannot be written.
    rig.relay().set_for(1, Fault::Reset);
    let _ = complete(&rig, &id(&upload)).await;
    eventually("it is complete", async || (complete(&rig, &id(&upload)).await.status == 200).then_some(())).await;
    assert_taken(&rig, "a", &bytes).await;
}

#[tokio::test]
async fn a_database_that_is_restarted_in_between() {
    let mut rig = MediaRig::with_bucket(TestDatabase::alone().await, &[]).await;
    let bytes = noise(PART + 1, 6);
    let upload = begin(&rig, &json!({"bytes": bytes.len(), "public_id": "a"})).await;
    put_part(&upload, &bytes, 1).await;
    rig.api.database.crash().await;
    // By whether it is back already.
    assert!([503, 409].contains(&complete(&rig, &id(&upload)).await.status.as_u16()));
    // The bucket takes parts all the same.
    put_part(&upload, &bytes, 2).await;
    rig.api.database.start_again().await;
    eventually("it is complete", async || (complete(&rig, &id(&upload)).await.status == 200).then_some(())).await;
    assert_taken(&rig, "a", &bytes).await;
}

#[tokio::test]
async fn a_file_that_is_not_the_one_announced_becomes_nothing() {
    for rig in both(&[]).await {
        let order = json!({"bytes": 5, "sha256": sha256(b"right"), "public_id": "a"});
        let upload = begin(&rig, &order).await;
        put(&url(&upload, 1), "wrong").await;
        for _ in 0..2 {
            problem(&complete(&rig, &id(&upload)).await, 422, "hash-mismatch");
        }
        let seen = look(&rig, &id(&upload)).await;
        assert_eq!((&seen["state"], &seen["error"]["code"]), (&"failed".into(), &"hash-mismatch".into()));
        assert_eq!((rig.count("media").await, rig.pointer("a")), (0, None));
        assert_swept(&rig).await;
        let upload = begin(&rig, &order).await;
        put(&url(&upload, 1), "right").await;
        ok(&complete(&rig, &id(&upload)).await, 200);
        assert_taken(&rig, "a", b"right").await;
    }
}

#[tokio::test]
async fn many_who_complete_the_same_at_once_make_one_medium() {
    for rig in both(&[]).await {
        let bytes = noise(PART + 1, 7);
        let upload = begin(&rig, &json!({"bytes": bytes.len(), "public_id": "a"})).await;
        put_all(&upload, &bytes).await;
        let upload = id(&upload);
        let answers = {
            let all = (0..6).map(|_| complete(&rig, &upload));
            let mut answers = Vec::new();
            for answer in futures_util::future::join_all(all).await {
                answers.push(answer);
            }
            answers
        };
        // Whoever was too late to put the parts together is told to try again.
        let done = answers.iter().filter(|answer| answer.status == 200).count();
        assert!(done >= 1 && answers.iter().all(|answer| [200, 409].contains(&answer.status.as_u16())), "{answers:?}");
        ok(&complete(&rig, &upload).await, 200);
        assert_eq!(rig.count("media").await, 1);
        assert_taken(&rig, "a", &bytes).await;
    }
}

#[tokio::test]
async fn of_many_who_complete_the_same_at_once_one_reads_it() {
    let rig = MediaRig::start().await;
    let upload = begin(&rig, &json!({"bytes": 4, "public_id": "a"})).await;
    put(&url(&upload, 1), "four").await;
    // The last transaction of whoever is first waits.
    let lock = rig.superuser().await;
    let lock = lock.begin_with("BEGIN; LOCK TABLE media IN ACCESS EXCLUSIVE MODE").await.expect("it is free");
    let all: Vec<_> = (0..6).map(|_| complete_in_background(&rig, &id(&upload))).collect();
    eventually("the object", async || (rig.objects().len() == 1).then_some(())).await;
    lock.rollback().await.expect("given back");
    for sent in all {
        sent.await.expect("no panic");
    }
    assert_eq!(rig.count("stored_objects").await, 0, "copies that nothing came of");
    ok(&complete(&rig, &id(&upload)).await, 200);
    assert_taken(&rig, "a", b"four").await;
}

#[tokio::test]
async fn without_room_nothing_is_copied_and_the_bytes_do_not_wait_for_ever() {
    for rig in both(&[]).await {
        ok(&rig.post(TestForm::file(&[7; 900])).await, 201);
        let upload = begin(&rig, &json!({"bytes": 200, "public_id": "a"})).await;
        put(&url(&upload, 1), vec![1; 200]).await;
        let quotas = async |bytes: u64| {
            let target = "/v1/tenants/shop/quotas";
            let quotas = json!({"storage_bytes": bytes});
            ok(&rig.api.json(Method::PUT, testkit::control_plane::ADMIN_KEY, target, &quotas).await, 200)
        };
        quotas(1000).await;
        problem(&complete(&rig, &id(&upload)).await, 403, "quota-storage");
        assert_eq!(rig.count("stored_objects").await, 0, "something was copied");
        // However often it is tried, it has an hour from the first time.
        rig.sql("UPDATE uploads SET refused_at = now() - interval '59 minutes', expires_at = now() + interval '30 s'")
            .await;
        for _ in 0..2 {
            problem(&complete(&rig, &id(&upload)).await, 403, "quota-storage");
        }
        let late = "uploads WHERE state = 'open' AND expires_at = due_at AND expires_at < now() + interval '2 minutes'";
        assert_eq!(rig.count(late).await, 1);
        quotas(2000).await;
        ok(&complete(&rig, &id(&upload)).await, 200);
        assert_taken(&rig, "a", &[1; 200]).await;
    }
}

#[tokio::test]
async fn what_can_never_be_completed_is_given_up_one_day() {
    let rig = bucket().await;
    let upload = begin(&rig, &json!({"bytes": 4, "public_id": "a"})).await;
    put(&url(&upload, 1), "four").await;
    rig.relay().set(Fault::Answer(StatusCode::SERVICE_UNAVAILABLE));
    problem(&complete(&rig, &id(&upload)).await, 503, "store-unavailable");
    rig.sql("UPDATE uploads SET state = 'completing'").await;
    let mut rounds = 0;
    let seen = loop {
        // Time passes, and each job fails as often as it may.
        rig.sql("UPDATE uploads SET due_at = now()").await;
        let _ = rig.try_worker().await;
        let failed = "UPDATE jobs SET state = 'failed', finished_at = now() WHERE state IN ('queued', 'delayed')";
        rounds += rig.sql(failed).await;
        rig.relay().heal();
        let seen = look(&rig, &id(&upload)).await;
        rig.relay().set(Fault::Answer(StatusCode::SERVICE_UNAVAILABLE));
        if seen["state"] != "completing" || rounds > 20 {
            break seen;
        }
    };
    assert_eq!((rounds, &seen["state"]), (8, &"failed".into()), "{seen}");
    assert_eq!(seen["error"]["code"], "store-unavailable");
    rig.relay().heal();
    problem(&complete(&rig, &id(&upload)).await, 409, "upload-state");
    rig.sql("UPDATE uploads SET due_at = now()").await;
    assert_swept(&rig).await;
}

#[tokio::test]
async fn a_name_that_somebody_else_has_got_meanwhile() {
    for rig in both(&[]).await {
        let bytes = noise(PART + 1, 8);
        let upload = begin(&rig, &json!({"bytes": bytes.len(), "public_id": "a"})).await;
        put_all(&upload, &bytes).await;
        let other = ok(&rig.post(TestForm::file(b"x").text("public_id", "a")).await, 201);
        problem(&complete(&rig, &id(&upload)).await, 409, "exists");
        problem(&complete(&rig, &id(&upload)).await, 409, "exists");
        assert_eq!(rig.stored("a"), b"x");
        assert_eq!(rig.delete(&id(&other)).await.status, 204);
        ok(&complete(&rig, &id(&upload)).await, 200);
        assert_taken(&rig, "a", &bytes).await;
    }
}
