//! Many clients, leaving clients, and more work than there is room for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use testkit::edge::{Edge, EdgeSetup, assert_problem, eventually, picture};
use testkit::faulty::Fault;
use testkit::http::{Connection, Request, Response};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, JoinSet};

use crate::support::{BUCKET, S3Rig, Warm, cache_status, photo};

const CLIENTS: usize = 500;
const COLLAPSED: &str = "Calotype; fwd=uri-miss; collapsed";
const MEMORY: &str = "Calotype; hit; detail=memory";
const MISS: &str = "Calotype; fwd=uri-miss; stored";
const QUEUE: &str = "calotype_transform_queue_jobs{lane=\"light\"}";

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_clients_on_one_cold_picture_are_one_fetch_and_one_transform() {
    testkit::http::allow_many_connections();
    let rig = S3Rig::start().await;
    rig.put("a.jpg", photo(400, 300));
    let edge = rig.edge().start().await;
    let warm = Warm::up(&edge).await;
    let made_before = edge.metric("calotype_transform_run_seconds_count").await;

    let mut connections = Vec::new();
    for _ in 0..CLIENTS {
        connections.push(Connection::open(edge.addr()).await.expect("taken"));
    }
    // The store says nothing until everybody has asked.
    rig.relay.set(Fault::StallBeforeHead);
    let mut clients = JoinSet::new();
    for mut connection in connections {
        clients.spawn(async move { connection.send(&Request::get("/demo/w=200,f=webp/@s3/a.jpg")).await });
    }
    rig.relay.wait_for_requests(1).await.expect("the store is asked");
    warm.assert_hit(&edge).await;
    rig.relay.heal();

    let answers: Vec<Response> = clients.join_all().await.into_iter().map(|sent| sent.expect("an answer")).collect();
    let body = picture(&answers[0], "image/webp");
    let mut came = BTreeMap::new();
    for answer in &answers {
        assert_eq!((answer.status.as_u16(), &answer.body), (200, &body));
        *came.entry(cache_status(answer)).or_insert(0) += 1;
    }
    assert_eq!(answers.len(), CLIENTS);
    assert_eq!(came.get(MISS), Some(&1), "{came:?}");
    // Who was read after the store went on may find it in memory; nobody gets it any other way.
    let shared = came.get(COLLAPSED).unwrap_or(&0) + came.get(MEMORY).unwrap_or(&0);
    assert_eq!(shared, CLIENTS - 1, "{came:?}");
    assert_eq!(rig.relay.requests_for(&S3Rig::path("a.jpg")), 1);
    assert_eq!(rig.relay.requests(), 1);
    assert_eq!(edge.metric("calotype_transform_run_seconds_count").await, made_before + 1.0);
    edge.stop().await;
}

#[tokio::test]
async fn those_who_wait_for_a_fill_that_fails_share_the_failure_and_the_next_one_tries_anew() {
    let rig = S3Rig::start().await;
    rig.put("a.jpg", photo(60, 40));
    let edge = rig.edge().tenant(&rig.origin("wrong", BUCKET, "another-secret")).start().await;
    let target = "/demo/w=50,f=jpeg/@wrong/a.jpg";
    rig.relay.set(Fault::StallBeforeHead);
    let clients: Vec<_> = (0..10).map(|_| spawn(&edge, target)).collect();
    rig.relay.wait_for_requests(1).await.expect("the store is asked");
    rig.relay.heal();
    for client in clients {
        assert_problem(&client.await.expect("no panic"), 502, "source-denied");
    }
    let asked = rig.relay.requests();
    assert_problem(&edge.get(target).await, 502, "source-denied");
    assert_eq!(rig.relay.requests(), asked + 1, "a failure that may pass is not kept");
    edge.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_nothing_from_the_others() {
    let rig = S3Rig::start().await;
    rig.put("a.jpg", photo(400, 300));
    let edge = rig.edge().start().await;
    let target = "/demo/w=50,f=jpeg/@s3/a.jpg";
    rig.relay.set(Fault::StallBeforeHead);
    let mut leaver = TcpStream::connect(edge.addr()).await.expect("taken");
    let request = format!("GET {target} HTTP/1.1\r\nHost: edge\r\n\r\n");
    leaver.write_all(request.as_bytes()).await.expect("sent");
    rig.relay.wait_for_requests(1).await.expect("the store is asked");
    let follower = spawn(&edge, target);
    drop(leaver);
    rig.relay.heal();

    picture(&follower.await.expect("no panic"), "image/jpeg");
    assert_eq!(cache_status(&edge.get(target).await), MEMORY);
    assert_eq!(rig.relay.requests(), 1);
    edge.stop().await;
}

#[tokio::test]
async fn the_only_client_leaves_and_the_picture_is_kept_for_the_next() {
    let rig = S3Rig::start().await;
    rig.put("a.jpg", photo(400, 300));
    let edge = rig.edge().start().await;
    let target = "/demo/w=50,f=jpeg/@s3/a.jpg";
    rig.relay.set(Fault::StallInBody { after_bytes: 1000 });
    let mut leaver = TcpStream::connect(edge.addr()).await.expect("taken");
    let request = format!("GET {target} HTTP/1.1\r\nHost: edge\r\n\r\n");
    leaver.write_all(request.as_bytes()).await.expect("sent");
    rig.relay.wait_for_requests(1).await.expect("the store is asked");
    drop(leaver);
    rig.relay.heal();
    eventually("the fill that nobody waits for", async || {
        (edge.metric("calotype_transform_run_seconds_count").await == 1.0).then_some(())
    })
    .await;
    let next = edge.get(target).await;
    picture(&next, "image/jpeg");
    assert!([MEMORY, COLLAPSED].contains(&cache_status(&next)), "{}", cache_status(&next));
    assert_eq!(rig.relay.requests(), 1);
    edge.stop().await;
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_while_hits_are_served() {
    let setup = EdgeSetup::new().set("transform.threads", 1).set("transform.queue", 1);
    let edge = setup.set("transform.deadline_seconds", 60).start().await;
    let warm = Warm::up(&edge).await;
    // Seconds of work for one thread: noise is what AVIF is slowest with.
    edge.setup().put("heavy.jpg", photo(3000, 2000));
    let heavy = |quality: u8| format!("/demo/w=2400,f=avif,q={quality}/@local/heavy.jpg");
    let running = spawn(&edge, &heavy(90));
    gauge(&edge, "calotype_transform_running_jobs", 1.0).await;
    let queued = spawn(&edge, &heavy(91));
    gauge(&edge, QUEUE, 1.0).await;

    let asked = Instant::now();
    let refused = edge.get("/demo/w=41,f=jpeg/@local/warm.jpg").await;
    assert_problem(&refused, 503, "busy");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    warm.assert_hit(&edge).await;
    assert_eq!(edge.metric("calotype_transform_refused_total{reason=\"queue-full\"}").await, 1.0);
    assert_eq!(edge.metric(QUEUE).await, 1.0, "the heavy picture was not heavy enough");

    // Nothing of it lasts.
    running.abort();
    queued.abort();
    eventually("room in the queue", async || {
        Some(edge.get("/demo/w=41,f=jpeg/@local/warm.jpg").await).filter(|made| made.status == 200)
    })
    .await;
    edge.kill().await;
}

#[tokio::test]
async fn fills_that_wait_for_a_slow_store_are_bounded_too() {
    let rig = S3Rig::start().await;
    for number in 30..33 {
        rig.put(&format!("{number}.jpg"), photo(60, 40));
    }
    let edge = rig.edge().set("transform.fills", 2).start().await;
    let warm = Warm::up(&edge).await;
    rig.relay.set(Fault::StallBeforeHead);
    let waiting: Vec<_> = (30..32).map(|number| spawn(&edge, &format!("/demo/w=30,f=jpeg/@s3/{number}.jpg"))).collect();
    rig.relay.wait_for_requests(2).await.expect("the store is asked");
    let refused = edge.get("/demo/w=30,f=jpeg/@s3/32.jpg").await;
    assert_problem(&refused, 503, "busy");
    assert_eq!(refused.header("retry-after"), Some("1"));
    warm.assert_hit(&edge).await;
    rig.relay.heal();
    for client in waiting {
        picture(&client.await.expect("no panic"), "image/jpeg");
    }
    picture(&edge.get("/demo/w=30,f=jpeg/@s3/32.jpg").await, "image/jpeg");
    edge.stop().await;
}

#[tokio::test]
async fn slow_stores_do_not_hold_the_threads_that_make_pictures() {
    let rig = S3Rig::start().await;
    for number in 0..10 {
        rig.put(&format!("{number}.jpg"), photo(60, 40));
    }
    let edge = rig.edge().set("transform.threads", 1).set("transform.queue", 1).start().await;
    edge.setup().put("b.jpg", photo(60, 40));
    rig.relay.set(Fault::StallBeforeHead);
    let waiting: Vec<_> = (0..10).map(|number| spawn(&edge, &format!("/demo/w=30,f=jpeg/@s3/{number}.jpg"))).collect();
    rig.relay.wait_for_requests(10).await.expect("the store is asked");
    picture(&edge.get("/demo/w=30,f=jpeg/@local/b.jpg").await, "image/jpeg");
    for client in waiting {
        client.abort();
    }
    edge.kill().await;
}

fn spawn(edge: &Edge, target: &str) -> JoinHandle<Response> {
    let (address, target) = (edge.addr(), target.to_owned());
    tokio::spawn(async move { testkit::http::get(address, &target).await.expect("an answer") })
}

async fn gauge(edge: &Edge, name: &str, value: f64) {
    eventually(name, async || (edge.metric(name).await == value).then_some(())).await;
}
