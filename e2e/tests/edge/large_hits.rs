//! Hits that are too large to be copied: the kernel sends the pages that they are kept in.

use devstack::samples::scene;
use testkit::edge::{Edge, EdgeSetup, picture};
use testkit::http::Request;
use testkit::images::jpeg;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{cache_status, purge, with_token};

/// Above what is copied, and below what a socket takes at once.
const BODY_BYTES: std::ops::Range<usize> = 20_000..120_000;

fn target(version: usize) -> String {
    format!("/demo/w=500,f=jpeg,q=90,v={version}/@local/a.jpg")
}

async fn start() -> Edge {
    let edge = with_token(EdgeSetup::new()).start().await;
    let scenery = scene::paint(scene::BEACH, 900, 600);
    edge.setup().put("a.jpg", jpeg::rgb(&scenery, &jpeg::Extras { quality: 92, ..jpeg::Extras::default() }));
    edge
}

async fn pages(edge: &Edge) -> f64 {
    edge.metric("calotype_body_pages_bytes").await
}

#[tokio::test]
async fn are_the_same_as_the_first_answer_whole_and_in_part() {
    let edge = start().await;
    let first = edge.get(&target(0)).await;
    let body = picture(&first, "image/jpeg");
    assert!(BODY_BYTES.contains(&body.len()), "{} bytes", body.len());
    let kept = pages(&edge).await;
    assert!(kept >= body.len() as f64, "{kept} bytes are held");
    let hit = edge.get(&target(0)).await;
    assert_eq!((cache_status(&hit), &hit.body), ("Calotype; hit; detail=memory", &body));
    for (range, part) in [
        ("bytes=1-", &body[1..]),
        ("bytes=4095-16500", &body[4095..=16_500]),
        ("bytes=-17000", &body[body.len() - 17_000..]),
        ("bytes=5-5", &body[5..=5]),
    ] {
        let answer = edge.send(&Request::get(target(0)).header("range", range)).await;
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (206, part), "{range}");
    }
    assert!(edge.send(&Request::head(target(0))).await.body.is_empty());
}

#[tokio::test]
async fn that_a_client_has_not_read_yet_outlive_their_purge() {
    let edge = start().await;
    let body = edge.get(&target(0)).await.body;
    // The second answer comes from memory. All of it waits in the sockets before the client reads a byte.
    let mut slow = TcpStream::connect(edge.addr()).await.expect("it listens");
    let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", target(0));
    slow.write_all(request.as_bytes()).await.expect("it reads");
    edge.events(2).await;
    let purged = purge(&edge, r#"{"all":true}"#).await;
    assert!(purged.status.is_success(), "{}", purged.text());
    let fresh = edge.get(&target(0)).await;
    assert!(cache_status(&fresh).contains("fwd"), "{}", cache_status(&fresh));
    // Nothing but the sockets has it now, and others are kept in its place.
    for version in 1..6 {
        assert_ne!(edge.get(&target(version)).await.body.len(), 0);
    }
    let mut answer = Vec::new();
    slow.read_to_end(&mut answer).await.expect("all of it comes");
    assert!(answer.ends_with(&body), "{} bytes came", answer.len());
}

#[tokio::test]
async fn that_came_from_the_disk_are_kept_in_pages_from_their_second_hit_on() {
    let edge = start().await;
    let body = edge.get(&target(0)).await.body;
    let edge = edge.stop().await.start().await;
    let from_disk = edge.get(&target(0)).await;
    assert_eq!((cache_status(&from_disk), &from_disk.body), ("Calotype; hit; detail=disk", &body));
    assert_eq!(pages(&edge).await, 0.0);
    for _ in 0..3 {
        let hit = edge.get(&target(0)).await;
        assert_eq!((cache_status(&hit), &hit.body), ("Calotype; hit; detail=memory", &body));
        assert_eq!(pages(&edge).await, body.len().next_multiple_of(4096) as f64, "it is kept, and kept once");
    }
}
