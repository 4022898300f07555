//! Stopping without losing a request or a rendition.

use testkit::edge::{Edge, EdgeSetup, Signal, eventually, picture};
use testkit::faulty::Fault;
use testkit::http::{self, Connection, Request};
use tokio::task::JoinHandle;

use crate::support::{S3Rig, Warm, cache_status, photo};

const TARGET: &str = "/demo/w=40,f=jpeg/@s3/a.jpg";

fn spawn(edge: &Edge, target: &'static str) -> JoinHandle<anyhow::Result<http::Response>> {
    let address = edge.addr();
    tokio::spawn(async move { http::get(address, target).await })
}

/// The signal comes while a client waits for a slow store: he gets his picture, and it is kept.
async fn check_drain(signal: Signal) {
    let rig = S3Rig::start().await;
    rig.put("a.jpg", photo(60, 40));
    let edge = rig.edge().start().await;
    let warm = Warm::up(&edge).await;
    rig.relay.set(Fault::StallBeforeHead);
    let client = spawn(&edge, TARGET);
    rig.relay.wait_for_requests(1).await.expect("the store is asked");

    edge.signal(signal);
    let readiness =
        eventually("the drain", async || Some(edge.admin("/readyz").await).filter(|ready| ready.status == 503)).await;
    let readiness: serde_json::Value = serde_json::from_slice(&readiness.body).expect("JSON");
    assert_eq!((&readiness["ready"], &readiness["draining"]), (&false.into(), &true.into()));
    assert_eq!(edge.admin("/healthz").await.status, 200, "it is alive, only not ready");
    warm.assert_hit(&edge).await;
    assert!(!client.is_finished());

    rig.relay.heal();
    let answer = client.await.expect("no panic").expect("an answer");
    let body = picture(&answer, "image/jpeg");
    let (status, setup) = edge.exited().await;
    assert_eq!(status.code(), Some(0), "{}", setup.log());

    let edge = setup.start().await;
    let hit = edge.get(TARGET).await;
    assert_eq!((cache_status(&hit), &hit.body), ("Calotype; hit; detail=disk", &body));
    assert_eq!(rig.relay.requests(), 1);
    edge.stop().await;
}

#[tokio::test]
async fn sigterm_lets_running_requests_finish() {
    check_drain(Signal::TERM).await;
}

#[tokio::test]
async fn sigint_lets_running_requests_finish() {
    check_drain(Signal::INT).await;
}

#[tokio::test]
async fn an_original_in_the_midst_of_being_sent_is_sent_to_its_end() {
    let rig = S3Rig::start().await;
    let bytes = photo(400, 300);
    rig.put("a.jpg", &bytes);
    let edge = rig.edge().start().await;
    rig.relay.set(Fault::StallInBody { after_bytes: 1000 });
    let client = spawn(&edge, "/demo/-/@s3/a.jpg");
    rig.relay.wait_for_requests(1).await.expect("the store is asked");
    edge.signal(Signal::TERM);
    eventually("the drain", async || (edge.admin("/readyz").await.status == 503).then_some(())).await;
    rig.relay.heal();
    assert_eq!(client.await.expect("no panic").expect("an answer").body, bytes);
    assert_eq!(edge.exited().await.0.code(), Some(0));
}

#[tokio::test]
async fn idle_connections_do_not_hold_it_up_and_are_told() {
    let rig = S3Rig::start().await;
    rig.put("a.jpg", photo(60, 40));
    let edge = rig.edge().start().await;
    let warm = Warm::up(&edge).await;
    let mut busy = Connection::open(edge.addr()).await.expect("taken");
    let idle = Connection::open(edge.addr()).await.expect("taken");
    rig.relay.set(Fault::StallBeforeHead);
    let client = spawn(&edge, TARGET);
    rig.relay.wait_for_requests(1).await.expect("the store is asked");
    edge.signal(Signal::TERM);
    eventually("the drain", async || (edge.admin("/readyz").await.status == 503).then_some(())).await;
    let last = busy.send(&Request::get("/demo/w=40,f=jpeg/@local/warm.jpg")).await.expect("still served");
    assert_eq!(last.header("connection"), Some("close"));
    warm.assert_hit(&edge).await;
    rig.relay.heal();
    picture(&client.await.expect("no panic").expect("an answer"), "image/jpeg");
    assert_eq!(edge.exited().await.0.code(), Some(0));
    drop(idle);
}

#[tokio::test]
async fn a_request_that_never_ends_is_given_up_at_the_limit() {
    let rig = S3Rig::start().await;
    rig.put("a.jpg", photo(60, 40));
    let setup = rig.edge().set("drain_seconds", 1).set("transform.deadline_seconds", 3);
    let edge = setup.start().await;
    rig.relay.set(Fault::StallBeforeHead);
    let client = spawn(&edge, TARGET);
    rig.relay.wait_for_requests(1).await.expect("the store is asked");
    edge.signal(Signal::TERM);
    let (status, setup) = edge.exited().await;
    assert_eq!(status.code(), Some(0), "{}", setup.log());
    assert!(setup.log().contains("requests still run after the drain limit"), "{}", setup.log());
    drop(client.await.expect("no panic"));
}

#[tokio::test]
async fn a_cache_that_was_full_of_work_is_whole_after_a_stop() {
    let edge = EdgeSetup::new().start().await;
    edge.setup().put("a.jpg", photo(200, 150));
    let targets: Vec<String> = (20..60).map(|width| format!("/demo/w={width},f=jpeg/@local/a.jpg")).collect();
    let mut connection = Connection::open(edge.addr()).await.expect("taken");
    for target in &targets {
        picture(&connection.send(&Request::get(target)).await.expect("an answer"), "image/jpeg");
    }
    let edge = edge.stop().await.start().await;
    for target in &targets {
        assert_eq!(cache_status(&edge.get(target).await), "Calotype; hit; detail=disk");
    }
    edge.stop().await;
}
