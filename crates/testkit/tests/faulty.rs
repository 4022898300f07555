//! Each fault is what it says, seen by a plain client; a relay that lies about lying would make other tests worthless.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use testkit::faulty::{Fault, FaultyRelay};
use testkit::http::{Connection, Request, get, send};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const BODY: &str = "0123456789";

/// An origin that answers every request with [`BODY`] and the head it received as a header.
async fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let head = String::from_utf8(head).unwrap();
                let line = head.lines().next().unwrap();
                let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nx-line: {line}\r\nx-host: {host}\r\ncontent-length: {}\r\n\r\n{BODY}",
                    BODY.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    address
}

async fn relay() -> FaultyRelay {
    FaultyRelay::start(origin().await).await.unwrap()
}

/// What a client receives until the connection ends, as raw text.
async fn raw_get(relay: &FaultyRelay) -> (String, Option<ErrorKind>) {
    let mut stream = TcpStream::connect(relay.address()).await.unwrap();
    stream.write_all(b"GET /x HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    let mut received = Vec::new();
    let error = stream.read_to_end(&mut received).await.err().map(|error| error.kind());
    (String::from_utf8(received).unwrap(), error)
}

#[tokio::test]
async fn requests_pass_as_they_came_and_are_counted() {
    let relay = relay().await;
    let mut connection = Connection::open(relay.address()).await.unwrap();
    for _ in 0..2 {
        let request = Request::get("/a/../b%2F%2f?x=1&y").header("host", "elsewhere.example");
        let response = connection.send(&request).await.unwrap();
        assert_eq!((response.status, response.text().as_str()), (StatusCode::OK, BODY));
        assert_eq!(response.header("x-line"), Some("GET /a/../b%2F%2f?x=1&y HTTP/1.1"));
        assert_eq!(response.header("x-host"), Some("elsewhere.example"));
    }
    assert_eq!((relay.requests(), relay.requests_for("/a/../b%2F%2f"), relay.requests_for("/b")), (2, 2, 0));
    relay.wait_for_requests(2).await.unwrap();
}

#[tokio::test]
async fn down_refuses_connections_and_up_takes_them_on_the_same_port() {
    let relay = relay().await;
    let mut open = Connection::open(relay.address()).await.unwrap();
    open.send(&Request::get("/")).await.unwrap();
    for _ in 0..2 {
        relay.take_down().await;
        open.send(&Request::get("/")).await.expect_err("open connections are closed");
        let refused = TcpStream::connect(relay.address()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        relay.bring_up().await;
        assert_eq!(get(relay.address(), "/").await.unwrap().text(), BODY);
    }
}

#[tokio::test]
async fn truncate_keeps_the_promised_length() {
    let relay = relay().await;
    for after_bytes in [0, 4] {
        relay.set(Fault::Truncate { after_bytes });
        let (received, _) = raw_get(&relay).await;
        assert!(received.contains("content-length: 10\r\n"), "{received}");
        let body = received.split("\r\n\r\n").nth(1).unwrap();
        assert_eq!(body, &BODY[..usize::try_from(after_bytes).unwrap()]);
        get(relay.address(), "/").await.expect_err("a client that counts notices");
    }
}

#[tokio::test]
async fn answers_come_without_the_origin() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let relay = FaultyRelay::start(dead).await.unwrap();
    for status in [StatusCode::FORBIDDEN, StatusCode::SERVICE_UNAVAILABLE] {
        relay.set(Fault::Answer(status));
        let response = send(relay.address(), &Request::put("/", "body")).await.unwrap();
        assert_eq!((response.status, response.body.len()), (status, 0));
    }
    relay.heal();
    assert_eq!(get(relay.address(), "/").await.unwrap().status, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn reset_is_a_reset() {
    let relay = relay().await;
    relay.set(Fault::Reset);
    assert_eq!(raw_get(&relay).await, (String::new(), Some(ErrorKind::ConnectionReset)));
}

#[tokio::test]
async fn a_fault_for_some_requests_ends_by_itself() {
    let relay = relay().await;
    relay.set_for(2, Fault::Answer(StatusCode::BAD_GATEWAY));
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(get(relay.address(), "/").await.unwrap().status.as_u16());
    }
    assert_eq!(statuses, [502, 502, 200, 200]);
}

#[tokio::test]
async fn stalls_last_until_healed() {
    let relay = Arc::new(relay().await);
    for fault in [Fault::StallBeforeHead, Fault::StallInBody { after_bytes: 3 }] {
        relay.set(fault);
        let before = relay.requests();
        let pending = tokio::spawn({
            let address = relay.address();
            async move { get(address, "/").await }
        });
        relay.wait_for_requests(before + 1).await.unwrap();
        assert!(!pending.is_finished(), "{fault:?}");
        relay.heal();
        assert_eq!(pending.await.unwrap().unwrap().text(), BODY, "{fault:?}");
    }
}

#[tokio::test]
async fn a_stalled_body_has_sent_its_beginning() {
    let relay = relay().await;
    relay.set(Fault::StallInBody { after_bytes: 3 });
    let mut stream = TcpStream::connect(relay.address()).await.unwrap();
    stream.write_all(b"GET /x HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    let mut received = Vec::new();
    while !received.ends_with(b"\r\n\r\n012") {
        assert!(stream.read_buf(&mut received).await.unwrap() > 0, "{}", String::from_utf8_lossy(&received));
    }
    let more = tokio::time::timeout(Duration::from_millis(100), stream.read_buf(&mut received)).await;
    assert!(more.is_err(), "nothing more comes");
}

#[tokio::test]
async fn latency_delays_every_request() {
    let relay = relay().await;
    relay.set_latency(Duration::from_millis(50));
    let started = Instant::now();
    for _ in 0..2 {
        get(relay.address(), "/").await.unwrap();
    }
    assert!(started.elapsed() >= Duration::from_millis(100));
}
