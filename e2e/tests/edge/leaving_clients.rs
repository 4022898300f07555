//! Hundreds of clients that leave at the same moment: what they waited for is kept for others, what they held is given back.

use testkit::edge::{Edge, EdgeSetup, eventually, picture};
use testkit::faulty::Fault;
use testkit::http;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{S3Rig, Warm, cache_status, photo};

const CLIENTS: usize = 500;

/// Clients that have asked and read nothing.
async fn ask(edge: &Edge, target: &str) -> Vec<TcpStream> {
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = TcpStream::connect(edge.addr()).await.expect("taken");
        client.write_all(format!("GET {target} HTTP/1.1\r\nHost: edge\r\n\r\n").as_bytes()).await.expect("sent");
        clients.push(client);
    }
    clients
}

/// All at once, every other one without a goodbye (TCP RST).
fn leave(clients: Vec<TcpStream>) {
    for client in clients.iter().step_by(2) {
        client.set_zero_linger().expect("ours");
    }
}

async fn descriptors(edge: &Edge) -> f64 {
    edge.metric("process_open_fds").await
}

/// Waits until the edge holds no more descriptors than before, but for what a connection or two need.
async fn assert_given_back(edge: &Edge, before: f64) {
    eventually("the descriptors", async || (descriptors(edge).await <= before + 5.0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_they_wait_for_a_cold_picture() {
    http::allow_many_connections();
    let rig = S3Rig::start().await;
    rig.put("a.jpg", photo(400, 300));
    let edge = rig.edge().start().await;
    let warm = Warm::up(&edge).await;
    let before = descriptors(&edge).await;
    let target = "/demo/w=200,f=webp/@s3/a.jpg";
    rig.relay.set(Fault::StallBeforeHead);
    let clients = ask(&edge, target).await;
    rig.relay.wait_for_requests(1).await.expect("the store is asked");
    eventually("all connections", async || (descriptors(&edge).await >= before + CLIENTS as f64).then_some(())).await;
    leave(clients);
    warm.assert_hit(&edge).await;
    rig.relay.heal();

    let made = edge.get(target).await;
    picture(&made, "image/webp");
    assert_ne!(cache_status(&made), "Calotype; fwd=uri-miss; stored", "the fill of those who left was made for nobody");
    assert_eq!(rig.relay.requests(), 1);
    assert_given_back(&edge, before).await;
    // One event each, however they ended, beside those of this test.
    edge.events(CLIENTS + 4).await;
    edge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_middle_of_a_large_answer() {
    http::allow_many_connections();
    let edge = EdgeSetup::new().start().await;
    let warm = Warm::up(&edge).await;
    // More than the buffers of a connection take, so that every answer is under way when its client leaves.
    edge.setup().put("large.bin", vec![7; 16 << 20]);
    let before = descriptors(&edge).await;
    let clients = ask(&edge, "/demo/-/@local/large.bin").await;
    eventually("all files", async || (descriptors(&edge).await >= before + 2.0 * CLIENTS as f64).then_some(())).await;
    warm.assert_hit(&edge).await;
    // A MiB for each is too much; a client costs a few chunks of 256 KiB.
    let resident = edge.metric("process_resident_memory_bytes").await;
    assert!(resident < 6e8, "{resident}");
    leave(clients);
    assert_given_back(&edge, before).await;
    warm.assert_hit(&edge).await;
    edge.stop().await;
}
