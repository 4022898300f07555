//! The cache of originals: one fetch for many renditions, and what must not come from it.

use testkit::edge::{assert_problem, eventually, picture};
use testkit::faulty::Fault;
use testkit::http;
use testkit::images;
use testkit::web::Page;

use crate::support::{S3Rig, WebRig, cache_status, photo, plain, purge, with_token};

#[tokio::test]
async fn many_renditions_cost_one_fetch_before_and_after_a_restart() {
    let rig = S3Rig::start().await;
    rig.put("a.jpg", photo(400, 300));
    let edge = rig.edge().tenant("max_age_seconds = 3600").start().await;
    let targets: Vec<_> = (30..38).map(|width| format!("/demo/w={width},f=jpeg/@s3/a.jpg")).collect();
    let address = edge.addr();
    let together: Vec<_> =
        targets.into_iter().map(|target| tokio::spawn(async move { http::get(address, &target).await })).collect();
    for client in together {
        picture(&client.await.expect("no panic").expect("an answer"), "image/jpeg");
    }
    picture(&edge.get("/demo/w=60,f=jpeg/@s3/a.jpg").await, "image/jpeg");
    assert_eq!(rig.relay.requests(), 1);
    eventually("an empty queue of writes", async || {
        (edge.metric("calotype_originals_cache_unflushed_entries").await == 0.0).then_some(())
    })
    .await;
    let edge = edge.kill().await.start().await;
    picture(&edge.get("/demo/w=70,f=jpeg/@s3/a.jpg").await, "image/jpeg");
    assert_eq!(rig.relay.requests(), 1);
    assert_eq!(edge.metric("calotype_originals_total{from=\"cache\"}").await, 1.0);
    edge.stop().await;
}

#[tokio::test]
async fn one_check_serves_all_renditions_and_none_is_fresher_than_its_original() {
    let rig = WebRig::start().await;
    let page = |colour| Page::new(plain(colour)).header("age", "90");
    rig.server.put("/img/a.png", page([200, 0, 0]));
    let edge = rig.edge().tenant("max_age_seconds = 0\nstale_while_revalidate_seconds = 0").start().await;
    let (one, two) = ("/demo/w=32,f=png/@web/a.png", "/demo/w=16,f=png/@web/a.png");
    let red = edge.get(one).await;
    picture(&edge.get(two).await, "image/png");
    assert_eq!(cache_status(&edge.get(one).await), "Calotype; fwd=stale; fwd-status=304; stored");
    // The second is asked with the first one's validators, and so are all that follow.
    assert!(rig.server.seen()[1..].iter().all(|seen| seen.headers.contains_key("if-none-match")));
    assert_eq!(edge.metric("calotype_originals_total{from=\"source\"}").await, 1.0);
    rig.server.put("/img/a.png", page([0, 0, 200]));
    let blue = edge.get(one).await;
    assert_eq!(cache_status(&blue), "Calotype; fwd=stale; stored");
    assert_ne!(blue.body, red.body);
    edge.stop().await;

    let edge = rig.edge().tenant("max_age_seconds = 3600").start().await;
    let first = edge.get(one).await;
    rig.server.put("/img/a.png", page([200, 0, 0]));
    let second = edge.get("/demo/w=8,f=png/@web/a.png").await;
    assert_eq!(images::decode(&second.body).to_rgb8().get_pixel(1, 1).0, [0, 0, 200], "of the same original");
    let age = |answer: &http::Response| answer.header("age").expect("there").parse::<u64>().expect("a number");
    assert!(age(&second) >= age(&first));
    edge.stop().await;
}

#[tokio::test]
async fn a_new_version_is_not_made_of_the_old_original() {
    let rig = S3Rig::start().await;
    let edge = rig.edge().tenant("max_age_seconds = 3600").start().await;
    for (version, colour) in [(1, [200, 0, 0]), (2, [0, 0, 200])] {
        rig.put("a.png", plain(colour));
        let answer = edge.get(&format!("/demo/w=32,f=png,v={version}/@s3/a.png")).await;
        assert_eq!(images::decode(&answer.body).to_rgb8().get_pixel(1, 1).0, colour);
    }
    edge.stop().await;
}

#[tokio::test]
async fn what_is_purged_is_fetched_anew() {
    let rig = WebRig::start().await;
    let edge = with_token(rig.edge().tenant("max_age_seconds = 3600")).start().await;
    // Same size, same entity tag, same time: a server that says that nothing changed.
    let page = |colour| Page::new(plain(colour)).header("etag", "\"same\"").header("cache-tag", "red");
    let orders = [
        r#"{"source":"@web/a.png","tenant":"demo"}"#,
        r#"{"url":"/demo/w=32,f=png/@web/a.png"}"#,
        r#"{"tag":"red","tenant":"demo"}"#,
        r#"{"all":true,"tenant":"demo"}"#,
        r#"{"all":true}"#,
    ];
    for order in orders {
        rig.server.put("/img/a.png", page([200, 0, 0]));
        assert_eq!(purge(&edge, r#"{"all":true}"#).await.status, 200);
        edge.get("/demo/w=32,f=png/@web/a.png").await;
        rig.server.put("/img/a.png", page([0, 0, 200]));
        assert_eq!(purge(&edge, order).await.status, 200);
        let blue = edge.get("/demo/w=32,f=png/@web/a.png").await;
        assert_eq!(images::decode(&blue.body).to_rgb8().get_pixel(1, 1).0, [0, 0, 200], "{order}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn while_the_source_is_down_new_renditions_are_made_of_what_is_cached() {
    let rig = S3Rig::start().await;
    rig.put("a.jpg", photo(400, 300));
    let edge = rig.edge().tenant("max_age_seconds = 0\nstale_while_revalidate_seconds = 0").start().await;
    picture(&edge.get("/demo/w=30,f=jpeg/@s3/a.jpg").await, "image/jpeg");
    rig.relay.set(Fault::Reset);
    let held = edge.get("/demo/w=60,f=jpeg/@s3/a.jpg").await;
    assert_eq!(picture(&held, "image/jpeg").len(), held.body.len());
    assert_eq!(cache_status(&held), "Calotype; fwd=stale; detail=stale-if-error");
    assert_eq!(cache_status(&edge.get("/demo/w=60,f=jpeg/@s3/a.jpg").await), "Calotype; hit; detail=stale-if-error");
    assert_problem(&edge.get("/demo/w=60,f=jpeg/@s3/b.jpg").await, 502, "source-unavailable");
    edge.stop().await;
}

#[tokio::test]
async fn what_must_not_be_stored_is_not() {
    let rig = WebRig::start().await;
    rig.server.put("/img/a.png", Page::new(plain([200, 0, 0])).header("cache-control", "no-store"));
    let edge = rig.edge().start().await;
    for width in 30..33 {
        let answer = edge.get(&format!("/demo/w={width},f=png/@web/a.png")).await;
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    assert_eq!(rig.server.seen().len(), 3);
    edge.stop().await;
}
