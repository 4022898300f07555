//! Tenants beside each other: what one asks for does not keep the other waiting.

use serde_json::Value;
use testkit::edge::{Edge, EdgeSetup, assert_problem, eventually, picture};
use testkit::faulty::Fault;
use testkit::http::Response;
use tokio::task::JoinHandle;

use crate::support::{S3Rig, Warm, photo};

const LIGHT_QUEUE: &str = "calotype_transform_queue_jobs{lane=\"light\"}";
const HEAVY_QUEUE: &str = "calotype_transform_queue_jobs{lane=\"heavy\"}";
const RUNNING: &str = "calotype_transform_running_jobs";
const STUCK: &str = "calotype_transform_stuck_threads";

/// An edge with another tenant, `shop`, and two pictures. Cold ones take seconds for the first as AVIF: noise is what it is
/// slowest with.
async fn edge(setup: EdgeSetup) -> Edge {
    let folder = setup.originals().display().to_string();
    let edge = setup.tables(&format!("[tenants.shop]\nopen = true\norigins.local.folder = {folder:?}")).start().await;
    edge.setup().put("heavy.jpg", photo(3000, 2000));
    edge.setup().put("camera.jpg", photo(1600, 1200));
    edge
}

fn heavy(quality: u8) -> String {
    format!("/demo/w=2400,f=avif,q={quality}/@local/heavy.jpg")
}

fn spawn(edge: &Edge, target: &str) -> JoinHandle<Response> {
    let (address, target) = (edge.addr(), target.to_owned());
    tokio::spawn(async move { testkit::http::get(address, &target).await.expect("an answer") })
}

async fn until(edge: &Edge, series: &str, value: f64) {
    eventually(series, async || (edge.metric(series).await == value).then_some(())).await;
}

/// Holds the only thread for seconds.
async fn hold_the_thread(edge: &Edge) -> JoinHandle<Response> {
    let held = spawn(edge, &heavy(90));
    until(edge, RUNNING, 1.0).await;
    held
}

#[tokio::test]
async fn a_flood_of_one_tenant_lets_the_other_in_after_a_job_or_two() {
    const FLOOD: usize = 30;
    let setup = EdgeSetup::new().set("transform.threads", 1).set("transform.deadline_seconds", 60);
    let edge = edge(setup).await;
    let held = hold_the_thread(&edge).await;
    let flood: Vec<_> =
        (0..FLOOD).map(|more| spawn(&edge, &format!("/demo/w={},f=webp/@local/camera.jpg", 700 + more))).collect();
    until(&edge, LIGHT_QUEUE, FLOOD as f64).await;
    let single = spawn(&edge, "/shop/w=700,f=webp/@local/camera.jpg");
    until(&edge, LIGHT_QUEUE, FLOOD as f64 + 1.0).await;
    assert_eq!(edge.metric(RUNNING).await, 1.0, "the heavy picture was not heavy enough");

    picture(&single.await.expect("no panic"), "image/webp");
    picture(&held.await.expect("no panic"), "image/avif");
    for client in flood {
        picture(&client.await.expect("no panic"), "image/webp");
    }
    // Events are in the order of the answers. The first one is the heavy picture.
    let events = edge.events(FLOOD + 2).await;
    let tenants: Vec<&str> = events.iter().filter_map(|event| event.get("tenant").and_then(Value::as_str)).collect();
    let before = tenants.iter().position(|tenant| *tenant == "shop").expect("was answered");
    assert!(before <= 3, "{before} answers came first: {tenants:?}");
    edge.stop().await;
}

#[tokio::test]
async fn a_tenants_full_queue_is_its_own() {
    let setup = EdgeSetup::new().set("transform.threads", 1).set("transform.tenant_queue", 2);
    let edge = edge(setup.set("transform.deadline_seconds", 60)).await;
    let warm = Warm::up(&edge).await;
    let held = hold_the_thread(&edge).await;
    let waiting: Vec<_> =
        [60, 61].map(|width| spawn(&edge, &format!("/demo/w={width},f=jpeg/@local/camera.jpg"))).into();
    until(&edge, LIGHT_QUEUE, 2.0).await;
    let refused = edge.get("/demo/w=62,f=jpeg/@local/camera.jpg").await;
    assert_problem(&refused, 503, "busy");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(edge.metric("calotype_transform_refused_total{reason=\"tenant-queue-full\"}").await, 1.0);
    assert_eq!(edge.metric("calotype_transform_refused_total{reason=\"queue-full\"}").await, 0.0);
    warm.assert_hit(&edge).await;
    let other = spawn(&edge, "/shop/w=60,f=jpeg/@local/camera.jpg");
    until(&edge, LIGHT_QUEUE, 3.0).await;
    picture(&other.await.expect("no panic"), "image/jpeg");
    picture(&held.await.expect("no panic"), "image/avif");
    for client in waiting {
        picture(&client.await.expect("no panic"), "image/jpeg");
    }
    edge.stop().await;
}

#[tokio::test]
async fn thumbnails_pass_pictures_that_take_seconds() {
    let edge = edge(EdgeSetup::new().set("transform.threads", 2).set("transform.deadline_seconds", 60)).await;
    let heavies: Vec<_> = (90..93).map(|quality| spawn(&edge, &heavy(quality))).collect();
    until(&edge, HEAVY_QUEUE, 2.0).await;
    assert_eq!(edge.metric(RUNNING).await, 1.0);
    for width in 60..64 {
        picture(&edge.get(&format!("/shop/w={width},f=jpeg/@local/camera.jpg")).await, "image/jpeg");
    }
    assert_eq!(edge.metric(HEAVY_QUEUE).await, 2.0, "the heavy picture was not heavy enough");
    for client in heavies {
        picture(&client.await.expect("no panic"), "image/avif");
    }
    edge.stop().await;
}

#[tokio::test]
async fn pictures_that_need_all_the_memory_are_made_one_after_the_other() {
    // Estimated at some ten megabytes each.
    let setup = EdgeSetup::new().set("transform.threads", 3).set("transform.memory_bytes", 1 << 20);
    let edge = edge(setup.set("transform.deadline_seconds", 60)).await;
    let clients: Vec<_> = (90..93).map(|quality| spawn(&edge, &heavy(quality))).collect();
    until(&edge, HEAVY_QUEUE, 2.0).await;
    assert_eq!(edge.metric(RUNNING).await, 1.0);
    assert!(edge.metric("calotype_transform_memory_bytes").await > (10 << 20) as f64);
    for client in clients {
        picture(&client.await.expect("no panic"), "image/avif");
    }
    assert_eq!(edge.metric("calotype_transform_memory_bytes").await, 0.0);
    edge.stop().await;
}

#[tokio::test]
async fn a_picture_that_takes_too_long_is_answered_504_and_others_go_on() {
    let edge = edge(EdgeSetup::new().set("transform.threads", 1).set("transform.deadline_seconds", 2)).await;
    // Stopped while pixels are made, or not to be stopped in the encoder, as the machine is fast or slow.
    let late = spawn(&edge, "/demo/w=5000,fit=scale-up,f=avif,q=100/@local/heavy.jpg");
    assert_problem(&late.await.expect("no panic"), 504, "deadline");
    picture(&edge.get("/shop/w=60,f=jpeg/@local/camera.jpg").await, "image/jpeg");
    until(&edge, STUCK, 0.0).await;
    picture(&edge.get("/shop/w=61,f=jpeg/@local/camera.jpg").await, "image/jpeg");
    edge.stop().await;
}

#[tokio::test]
async fn originals_that_stall_leave_memory_and_places_to_the_other_tenant() {
    let rig = S3Rig::start().await;
    let original = photo(600, 400);
    for name in ["a", "b", "c", "d", "e"] {
        rig.put(&format!("{name}.jpg"), &original);
    }
    let setup = rig.edge().set("limits.source_bytes", original.len()).set("transform.tenant_fills", 5);
    let edge = edge(setup.set("transform.source_memory_bytes", original.len() * 4 + 4096)).await;
    edge.setup().put("own.jpg", &original);
    rig.relay.set(Fault::StallInBody { after_bytes: 1000 });
    let stalled: Vec<_> =
        ["a", "b", "c", "d", "e"].map(|name| spawn(&edge, &format!("/demo/w=50,f=jpeg/@s3/{name}.jpg"))).into();
    rig.relay.wait_for_requests(5).await.expect("the store is asked");
    let refused = edge.get("/demo/w=51,f=jpeg/@local/own.jpg").await;
    assert_problem(&refused, 503, "busy");
    assert_eq!(refused.header("retry-after"), Some("1"));
    picture(&edge.get("/shop/w=51,f=jpeg/@local/own.jpg").await, "image/jpeg");
    rig.relay.heal();
    for client in stalled {
        picture(&client.await.expect("no panic"), "image/jpeg");
    }
    picture(&edge.get("/demo/w=51,f=jpeg/@local/own.jpg").await, "image/jpeg");
    edge.stop().await;
}

#[tokio::test]
async fn widths_of_one_picture_that_wait_together_decode_it_once_and_have_the_bytes_they_have_alone() {
    const WIDTHS: std::ops::Range<u32> = 1000..1006;
    const SHARED: &str = "calotype_transform_shared_decodes_total";
    let edge = edge(EdgeSetup::new().set("transform.threads", 1).set("transform.deadline_seconds", 60)).await;
    let target = |width: u32, version: &str| format!("/shop/w={width},f=webp,v={version}/@local/camera.jpg");
    let held = hold_the_thread(&edge).await;
    let together: Vec<_> = WIDTHS.map(|width| spawn(&edge, &target(width, "together"))).collect();
    until(&edge, LIGHT_QUEUE, WIDTHS.len() as f64).await;
    assert_eq!(edge.metric(RUNNING).await, 1.0, "the heavy picture was not heavy enough");
    picture(&held.await.expect("no panic"), "image/avif");
    let mut bodies = Vec::new();
    for client in together {
        bodies.push(picture(&client.await.expect("no panic"), "image/webp"));
    }
    assert_eq!(edge.metric(SHARED).await, WIDTHS.len() as f64 - 1.0);
    for (width, together) in WIDTHS.zip(bodies) {
        let alone = picture(&edge.get(&target(width, "alone")).await, "image/webp");
        assert!(alone == together, "{width} px differ");
    }
    assert_eq!(edge.metric(SHARED).await, WIDTHS.len() as f64 - 1.0);
    edge.stop().await;
}
