//! S3 that is down, slow, denying or cutting off. A failure that passes is never cached.

use std::time::{Duration, Instant};

use ::http::StatusCode;
use testkit::edge::{Edge, assert_problem, picture};
use testkit::faulty::Fault;
use testkit::http::{self, Request};

use crate::support::{BUCKET, S3Rig, Warm, healed, photo};

const TARGET: &str = "/demo/w=40,f=jpeg/@s3/a.jpg";

/// A fault makes this answer, hits are served meanwhile, and once it is healed the picture comes.
async fn check(rig: &S3Rig, edge: &Edge, fault: Fault, status: u16, code: &str) {
    let warm = Warm::up(edge).await;
    rig.relay.set(fault);
    assert_problem(&edge.get(TARGET).await, status, code);
    warm.assert_hit(edge).await;
    rig.relay.heal();
    picture(&healed(edge, TARGET).await, "image/jpeg");
}

async fn rig_and_edge() -> (S3Rig, Edge) {
    let rig = S3Rig::start().await;
    rig.put("a.jpg", photo(400, 300));
    let edge = rig.edge().start().await;
    (rig, edge)
}

#[tokio::test]
async fn down() {
    let (rig, edge) = rig_and_edge().await;
    let warm = Warm::up(&edge).await;
    rig.relay.take_down().await;
    assert_problem(&edge.get(TARGET).await, 502, "source-unavailable");
    assert_problem(&edge.get("/demo/-/@s3/a.jpg").await, 502, "source-unavailable");
    warm.assert_hit(&edge).await;
    rig.relay.bring_up().await;
    picture(&edge.get(TARGET).await, "image/jpeg");
}

#[tokio::test]
async fn failing_inside() {
    let (rig, edge) = rig_and_edge().await;
    check(&rig, &edge, Fault::Answer(StatusCode::SERVICE_UNAVAILABLE), 502, "source-unavailable").await;
}

#[tokio::test]
async fn resetting_connections() {
    let (rig, edge) = rig_and_edge().await;
    check(&rig, &edge, Fault::Reset, 502, "source-unavailable").await;
}

#[tokio::test]
async fn denying() {
    let (rig, edge) = rig_and_edge().await;
    check(&rig, &edge, Fault::Answer(StatusCode::FORBIDDEN), 502, "source-denied").await;
}

#[tokio::test]
async fn refusing_our_secret() {
    let rig = S3Rig::start().await;
    rig.put("a.jpg", photo(60, 40));
    let edge = rig.edge().tenant(&rig.origin("wrong", BUCKET, "another-secret")).start().await;
    let answer = edge.get("/demo/w=40/@wrong/a.jpg").await;
    assert_problem(&answer, 502, "source-denied");
    assert!(!answer.text().contains("another-secret") && !answer.text().contains("SignatureDoesNotMatch"));
    assert_problem(&edge.get("/demo/-/@wrong/a.jpg").await, 502, "source-denied");
    assert_eq!(edge.get("/demo/w=40/@s3/a.jpg").await.status, 200, "the neighbour's secret is right");
    let events = edge.stop().await.events();
    assert!(events[0]["cause"].as_str().expect("a cause").contains("SignatureDoesNotMatch"), "{}", events[0]);
    assert!(!events[0].to_string().contains("another-secret"));
}

#[tokio::test]
async fn without_the_object() {
    let rig = S3Rig::start().await;
    let edge = rig.edge().start().await;
    assert_problem(&edge.get("/demo/w=40/@s3/a.jpg").await, 404, "source-not-found");
    assert_problem(&edge.get("/demo/-/@s3/a.jpg").await, 404, "source-not-found");
}

#[tokio::test]
async fn too_slow_to_begin_or_to_end() {
    let rig = S3Rig::start().await;
    rig.put("a.jpg", photo(400, 300));
    let edge = rig.edge().set("transform.deadline_seconds", 1).start().await;
    for fault in [Fault::StallBeforeHead, Fault::StallInBody { after_bytes: 1000 }] {
        let started = Instant::now();
        check_slow(&rig, &edge, fault).await;
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    }
}

async fn check_slow(rig: &S3Rig, edge: &Edge, fault: Fault) {
    let warm = Warm::up(edge).await;
    rig.relay.set(fault);
    // One of its own for each fault: the other one's is in the cache.
    let target = format!("/demo/w=41,f=jpeg,v={}/@s3/a.jpg", rig.relay.requests());
    let asked = Instant::now();
    let answer = edge.get(&target).await;
    assert_problem(&answer, 504, "deadline");
    assert!(asked.elapsed() >= Duration::from_secs(1), "{:?}", asked.elapsed());
    warm.assert_hit(edge).await;
    rig.relay.heal();
    picture(&healed(edge, &target).await, "image/jpeg");
}

#[tokio::test]
async fn too_slow_with_an_original() {
    let rig = S3Rig::start().await;
    rig.put("a.jpg", photo(400, 300));
    let edge = rig.edge().set("transform.deadline_seconds", 1).start().await;
    rig.relay.set(Fault::StallBeforeHead);
    let target = "/demo/-/@s3/a.jpg";
    for request in [Request::get(target), Request::get(target).header("if-none-match", "\"x\"")] {
        let asked = Instant::now();
        assert_problem(&edge.send(&request).await, 504, "deadline");
        assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    }
}

#[tokio::test]
async fn cutting_the_body_off() {
    let (rig, edge) = rig_and_edge().await;
    check(&rig, &edge, Fault::Truncate { after_bytes: 1000 }, 502, "source-incomplete").await;
}

#[tokio::test]
async fn an_original_that_is_cut_off_does_not_look_whole() {
    let (rig, edge) = rig_and_edge().await;
    rig.relay.set(Fault::Truncate { after_bytes: 1000 });
    let answer = http::get(edge.addr(), "/demo/-/@s3/a.jpg").await;
    assert!(answer.is_err(), "a short body passed for a whole one");
    rig.relay.heal();
    assert_eq!(edge.get("/demo/-/@s3/a.jpg").await.body, photo(400, 300));
    let events = edge.stop().await.events();
    assert_eq!(events[0]["code"], "source-incomplete", "{}", events[0]);
}
