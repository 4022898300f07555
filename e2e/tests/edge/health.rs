//! `proxy --check-health`, as a container's health check calls it.

use testkit::edge::{EdgeSetup, eventually};
use testkit::faulty::Fault;

use crate::support::{S3Rig, photo};

#[tokio::test]
async fn it_tells_a_serving_edge_from_none_and_changes_nothing() {
    let setup = EdgeSetup::new();
    let ended = setup.run_to_end(&["--check-health"]).await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("no edge answers on admin_listen"), "{}", ended.stderr);
    assert!(!setup.cache_dir().exists(), "a check must not make folders");

    let edge = setup.start().await;
    let ended = edge.setup().run_to_end(&["--check-health"]).await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    edge.stop().await;
}

#[tokio::test]
async fn an_edge_that_is_stopping_is_not_healthy() {
    let rig = S3Rig::start().await;
    rig.put("a.jpg", photo(60, 40));
    let edge = rig.edge().start().await;
    rig.relay.set(Fault::StallBeforeHead);
    let address = edge.addr();
    let client = tokio::spawn(async move { testkit::http::get(address, "/demo/w=40,f=jpeg/@s3/a.jpg").await });
    rig.relay.wait_for_requests(1).await.expect("the store is asked");
    edge.signal(testkit::edge::Signal::TERM);
    eventually("the drain", async || (edge.admin("/readyz").await.status == 503).then_some(())).await;
    let ended = edge.setup().run_to_end(&["--check-health"]).await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("is not ready: HTTP/1.1 503"), "{}", ended.stderr);
    rig.relay.heal();
    client.await.expect("no panic").expect("an answer");
    assert_eq!(edge.exited().await.0.code(), Some(0));
}

#[tokio::test]
async fn wrong_settings_are_told_as_always() {
    let ended = EdgeSetup::new().set("treads", 4).run_to_end(&["--check-health"]).await;
    assert_eq!(ended.status.code(), Some(64), "{}", ended.stderr);
}
