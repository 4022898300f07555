//! Scanners that are away, hang, lie or leave, workers that die, and answers that come too late.

use ::http::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::database::TestDatabase;
use testkit::edge::eventually;
use testkit::faulty::Fault;
use testkit::port::Port;
use testkit::scanner::{Clamd, STREAM_BYTES_MAX, Says, ScannerStub};
use uploads::Pointer;

use crate::media_rig::{MediaRig, id, picture};
use crate::scan_rig::{
    BLUE, RED, ask, decide, harmful, job, medium, put_workflow, rig_with, settings, try_again, upload,
};
use crate::support::ok;

/// Fails unless the bytes wait, and says why they do.
async fn still_waits(rig: &MediaRig, of: &Value) -> String {
    let now = medium(rig, of).await;
    assert_eq!((&now["state"], &now["scan"]["verdict"]), (&json!("quarantined"), &json!("pending")), "{now}");
    assert_eq!(rig.pointer("a"), Some(Pointer::Gone));
    now["scan"]["steps"][0]["note"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn what_is_closed_on_failure_waits_for_a_scanner_that_is_down() {
    let mut scanner = Clamd::start().await;
    let rig = rig_with(scanner.address()).await;
    scanner.kill().await;
    let made = upload(&rig, "a", &picture(RED)).await;
    for attempt in 1..=7 {
        try_again(&rig).await;
        assert_eq!(still_waits(&rig, &made).await, "the scanner cannot be reached");
        let job = job(&rig, &made["scan"]).await;
        assert_eq!((&job["state"], &job["attempts"]), (&json!("delayed"), &json!(attempt)));
        assert_eq!(job["error"], "virus: the scanner cannot be reached");
    }
    scanner.start_again().await;
    try_again(&rig).await;
    assert_eq!(medium(&rig, &made).await["state"], "ready");
    assert_eq!(rig.stored("a"), picture(RED));
}

#[tokio::test]
async fn what_is_open_on_failure_passes_with_a_note_after_some_tries() {
    let nobody = Port::keep().expect("a port is free");
    let rig = MediaRig::with_folder(&settings(&nobody.address.to_string())).await;
    put_workflow(&rig, "any", json!([{"name": "virus", "scan": {}, "on_failure": "open"}])).await;
    let made = upload(&rig, "a", &picture(RED)).await;
    for _ in 1..5 {
        try_again(&rig).await;
        still_waits(&rig, &made).await;
    }
    try_again(&rig).await;
    let passed = medium(&rig, &made).await;
    assert_eq!((&passed["state"], &passed["scan"]["verdict"]), (&json!("ready"), &json!("passed")));
    let step = &passed["scan"]["steps"][0];
    assert_eq!((&step["verdict"], &step["note"]), (&json!("unknown"), &json!("the scanner cannot be reached")));
    assert_eq!(rig.stored("a"), picture(RED));
}

/// What is noted after one try with a scanner that does this.
async fn noted(rig: &MediaRig, stub: &ScannerStub, says: Says, made: &Value) -> String {
    stub.say(says);
    let before = stub.asked();
    try_again(rig).await;
    assert_eq!(stub.asked(), before + 1, "{says:?}");
    still_waits(rig, made).await
}

#[tokio::test]
async fn a_scanner_that_hangs_lies_or_leaves_has_said_nothing() {
    let stub = ScannerStub::start(Says::Nothing).await;
    let rig = MediaRig::with_folder(&settings(&stub.address().to_string())).await;
    put_workflow(&rig, "any", json!([{"name": "virus", "scan": {}, "timeout_seconds": 1}])).await;
    let made = upload(&rig, "a", &picture(RED)).await;
    for (says, note) in [
        (Says::Nothing, "the scanner has not answered within 1 s"),
        (Says::This("stream: fine, I think"), "the scanner has answered what is no answer"),
        (Says::This("HTTP/1.1 200 OK"), "the scanner has answered what is no answer"),
        (Says::Endless, "the scanner has answered what is no answer"),
        (Says::Leaves(0), "the scanner has ended the connection without an answer"),
        (Says::Leaves(100), "the scanner has ended the connection without an answer"),
        (Says::This("stream: Can't allocate memory ERROR"), "the scanner has failed"),
    ] {
        assert_eq!(noted(&rig, &stub, says, &made).await, note, "{says:?}");
    }
    stub.say(Says::This("stream: OK"));
    try_again(&rig).await;
    assert_eq!(medium(&rig, &made).await["state"], "ready");
}

#[tokio::test]
async fn more_bytes_than_the_scanner_takes_are_what_the_policy_says() {
    let scanner = Clamd::start().await;
    let mut settings = settings(&scanner.address().to_string());
    settings.push(("SCANNER__BYTES", (2 * STREAM_BYTES_MAX).to_string()));
    let rig = MediaRig::with_folder(&settings).await;
    put_workflow(&rig, "file", json!([{"name": "virus", "scan": {}}])).await;
    put_workflow(&rig, "image", json!([{"name": "virus", "scan": {}, "on_failure": "open"}])).await;
    // More than the daemon takes, and more than it is sent.
    for times in [1, 3] {
        let zeros = vec![0; times * STREAM_BYTES_MAX + 1];
        let closed = upload(&rig, "a", &zeros).await;
        let open = upload(&rig, "b", &[picture(RED), zeros].concat()).await;
        rig.worker().await;
        let note = "there are more bytes than the scanner takes";
        assert_eq!(still_waits(&rig, &closed).await, note);
        let failed = job(&rig, &closed["scan"]).await;
        assert_eq!((&failed["state"], &failed["attempts"]), (&json!("failed"), &json!(1)), "another try is of no use");
        let passed = medium(&rig, &open).await;
        assert_eq!((&passed["state"], &passed["scan"]["steps"][0]["note"]), (&json!("ready"), &json!(note)));
        // Somebody can still decide.
        assert_eq!(decide(&rig, &closed, "release").await["state"], "ready");
        for one in [closed, open] {
            assert_eq!(rig.delete(&id(&one)).await.status, 204);
        }
    }
}

/// A worker that is killed once the scanner has been asked.
async fn dies_while_asking(rig: &MediaRig, stub: &ScannerStub) {
    let before = stub.asked();
    // Dropping it kills it.
    tokio::select! {
        done = rig.try_worker() => panic!("it did not wait: {done:?}"),
        () = eventually("the question", async || (stub.asked() > before).then_some(())) => {}
    }
}

#[tokio::test]
async fn a_worker_that_is_killed_over_a_scan_leaves_it_to_the_next() {
    let stub = ScannerStub::start(Says::Nothing).await;
    let rig = rig_with(stub.address()).await;
    let made = upload(&rig, "a", &picture(RED)).await;
    dies_while_asking(&rig, &stub).await;
    still_waits(&rig, &made).await;
    stub.say(Says::This("stream: OK"));
    rig.worker().await;
    assert_eq!(job(&rig, &made["scan"]).await["state"], "running", "its lease has not run out");
    rig.sql("UPDATE jobs SET leased_until = now() - interval '1 second'").await;
    rig.worker().await;
    try_again(&rig).await;
    assert_eq!(medium(&rig, &made).await["state"], "ready");
    let done = job(&rig, &made["scan"]).await;
    assert_eq!((&done["state"], &done["attempts"]), (&json!("done"), &json!(2)));
    rig.assert_tidy().await;
}

/// Has something happen while the scanner is asked, which then says that all is well.
async fn meanwhile<T>(rig: &MediaRig, stub: &ScannerStub, what: impl Future<Output = T>) -> T {
    let before = stub.asked();
    let act = async {
        eventually("the question", async || (stub.asked() > before).then_some(())).await;
        let done = what.await;
        stub.say(Says::This("stream: OK"));
        done
    };
    tokio::join!(rig.worker(), act).1
}

#[tokio::test]
async fn a_verdict_about_other_bytes_lets_nothing_through() {
    let stub = ScannerStub::start(Says::Nothing).await;
    let rig = rig_with(stub.address()).await;
    let made = upload(&rig, "a", &picture(RED)).await;
    // While those are looked at, others take their place, and are looked at next.
    let replaced = meanwhile(&rig, &stub, async {
        let replaced = ok(&rig.put(&id(&made), &harmful(BLUE)).await, 200);
        rig.sql("UPDATE jobs SET state = 'delayed', run_at = now() + interval '1 hour' WHERE state = 'queued'").await;
        replaced
    });
    let replaced = replaced.await;
    assert_eq!(job(&rig, &made["scan"]).await["result"], json!({"media": id(&made), "verdict": "outdated"}));
    let now = medium(&rig, &made).await;
    assert_eq!((&now["state"], &now["scan"]), (&json!("quarantined"), &replaced["scan"]));
    assert_eq!(rig.pointer("a"), Some(Pointer::Gone));
    stub.say(Says::This("stream: Bad FOUND"));
    try_again(&rig).await;
    assert_eq!(medium(&rig, &made).await["state"], "rejected");
    // One that was deleted meanwhile is no matter either.
    stub.say(Says::Nothing);
    let made = upload(&rig, "b", &picture(RED)).await;
    assert_eq!(meanwhile(&rig, &stub, rig.delete(&id(&made))).await.status, 204);
    assert_eq!(job(&rig, &made["scan"]).await["state"], "done");
}

#[tokio::test]
async fn a_worker_that_has_lost_its_job_has_no_say_any_more() {
    let stub = ScannerStub::start(Says::Nothing).await;
    let rig = rig_with(stub.address()).await;
    let made = upload(&rig, "a", &picture(RED)).await;
    meanwhile(&rig, &stub, async {
        // It is taken for dead, and another one has the job by now.
        rig.sql("UPDATE jobs SET token = nextval('job_tokens')").await;
    })
    .await;
    still_waits(&rig, &made).await;
    assert_eq!(job(&rig, &made["scan"]).await["state"], "running");
}

#[tokio::test]
async fn what_is_decided_by_hand_while_the_scanner_is_asked_stands() {
    let stub = ScannerStub::start(Says::Nothing).await;
    let rig = rig_with(stub.address()).await;
    let made = upload(&rig, "a", &picture(RED)).await;
    let rejected = meanwhile(&rig, &stub, decide(&rig, &made, "reject")).await;
    assert_eq!(rejected["state"], "rejected");
    let now = medium(&rig, &made).await;
    assert_eq!((&now["state"], &now["scan"]["by_hand"]), (&json!("rejected"), &json!(true)));
    assert_eq!(rig.pointer("a"), Some(Pointer::Gone));
}

#[tokio::test]
async fn another_workflow_holds_for_what_waits() {
    let stub = ScannerStub::start(Says::Nothing).await;
    let rig = rig_with(stub.address()).await;
    let made = upload(&rig, "a", &picture(RED)).await;
    // One more step, while the first is asked: that answer counts no more.
    let two = json!([{"name": "virus", "scan": {}}, {"name": "again", "scan": {}}]);
    meanwhile(&rig, &stub, put_workflow(&rig, "image", two)).await;
    assert_eq!(stub.asked(), 3, "both steps of the new one");
    let passed = medium(&rig, &made).await;
    assert_eq!((&passed["state"], &passed["scan"]["workflow"]["kind"]), (&json!("ready"), &json!("image")));
    assert_eq!(passed["scan"]["steps"].as_array().expect("a list").len(), 2);

    // None of whose steps is waited for: what waits is let through.
    stub.say(Says::This("nonsense"));
    let made = upload(&rig, "b", &picture(BLUE)).await;
    try_again(&rig).await;
    assert_eq!(medium(&rig, &made).await["state"], "quarantined");
    put_workflow(&rig, "image", json!([{"name": "virus", "scan": {}, "wait": false}])).await;
    try_again(&rig).await;
    let served = medium(&rig, &made).await;
    assert_eq!((&served["state"], &served["scan"]["verdict"]), (&json!("ready"), &json!("pending")));
    // And beside it is judged all the same.
    stub.say(Says::This("stream: Bad FOUND"));
    try_again(&rig).await;
    assert_eq!(medium(&rig, &made).await["state"], "rejected");
    assert_eq!(rig.pointer("b"), Some(Pointer::Gone));
}

#[tokio::test]
async fn a_workflow_that_is_deleted_lets_nothing_through() {
    let stub = ScannerStub::start(Says::Nothing).await;
    let rig = rig_with(stub.address()).await;
    let made = upload(&rig, "a", &picture(RED)).await;
    let deleted = meanwhile(&rig, &stub, rig.api.delete(&rig.shop.key, "/v1/workflows/any")).await;
    assert_eq!(deleted.status, 204);
    still_waits(&rig, &made).await;
    let failed = job(&rig, &made["scan"]).await;
    assert_eq!(
        (&failed["state"], &failed["error"]),
        (&json!("failed"), &json!("no workflow is in force for media of this kind"))
    );
    // New media are served at once, and those that wait go on with the next workflow.
    assert_eq!(upload(&rig, "b", &picture(BLUE)).await["state"], "ready");
    put_workflow(&rig, "image", json!([{"name": "virus", "scan": {}}])).await;
    ok(&ask(&rig, &made, "scan", &json!({})).await, 202);
    rig.worker().await;
    assert_eq!(medium(&rig, &made).await["state"], "ready");
}

#[tokio::test]
async fn a_scan_that_is_cancelled_lets_nothing_through() {
    let stub = ScannerStub::start(Says::Nothing).await;
    let rig = rig_with(stub.address()).await;
    let cancel = async |made: &Value| {
        let job = made["scan"]["job"].as_str().expect("a job").to_owned();
        ok(&rig.api.json(Method::POST, &rig.shop.key, &format!("/v1/jobs/{job}/cancel"), &json!({})).await, 200)
    };
    // Before it has begun.
    let made = upload(&rig, "a", &picture(RED)).await;
    assert_eq!(cancel(&made).await["state"], "cancelled");
    rig.worker().await;
    still_waits(&rig, &made).await;
    // And while it runs.
    let job_id = made["scan"]["job"].as_str().expect("a job");
    ok(&rig.api.json(Method::POST, &rig.shop.key, &format!("/v1/jobs/{job_id}/retry"), &json!({})).await, 200);
    let before = stub.asked();
    let act = async {
        eventually("the question", async || (stub.asked() > before).then_some(())).await;
        cancel(&made).await;
    };
    tokio::join!(rig.worker(), act);
    still_waits(&rig, &made).await;
    assert_eq!(job(&rig, &made["scan"]).await["state"], "cancelled");
    stub.say(Says::This("stream: OK"));
    ok(&ask(&rig, &made, "scan", &json!({})).await, 202);
    rig.worker().await;
    assert_eq!(medium(&rig, &made).await["state"], "ready");
}

#[tokio::test]
async fn bytes_that_the_store_cannot_give_are_not_the_scanners_fault() {
    let scanner = Clamd::start().await;
    let settings = settings(&scanner.address().to_string());
    let rig = MediaRig::with_bucket(TestDatabase::new().await, &settings).await;
    put_workflow(&rig, "any", json!([{"name": "virus", "scan": {}, "on_failure": "open"}])).await;
    let made = upload(&rig, "a", &vec![b'.'; 300_000]).await;
    for fault in
        [Fault::Truncate { after_bytes: 100_000 }, Fault::Answer(StatusCode::SERVICE_UNAVAILABLE), Fault::Reset]
    {
        for _ in 0..2 {
            rig.relay().set(fault);
            rig.sql("UPDATE jobs SET run_at = now() WHERE state = 'delayed'").await;
            // The rest of the round may fail with it.
            let _ = rig.try_worker().await;
            rig.relay().heal();
            assert_eq!(still_waits(&rig, &made).await, "", "nobody was asked");
        }
    }
    try_again(&rig).await;
    let passed = medium(&rig, &made).await;
    assert_eq!((&passed["state"], &passed["scan"]["steps"][0]["verdict"]), (&json!("ready"), &json!("passed")));
}
