//! HTTP/2: everything that holds over HTTP/1.1, many streams at a time, and clients that misuse them.

use ::http::Method;
use testkit::edge::{Edge, EdgeSetup, Signal, assert_problem, eventually, picture};
use testkit::faulty::Fault;
use testkit::http::{self, Request, Response};
use testkit::http2::{Http2, finish};
use testkit::tls::{Hello, Pair, connect};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{S3Rig, Warm, cache_status, photo};

const TARGET: &str = "/demo/w=40,f=jpeg/@local/a.jpg";

async fn edge() -> Edge {
    let edge = EdgeSetup::new().set("h2c", true).start().await;
    edge.setup().put("a.jpg", photo(600, 400));
    edge
}

/// What does not depend on the moment or on the protocol.
fn essence(answer: &Response) -> (u16, Vec<(String, String)>, bytes::Bytes) {
    let passing = ["date", "age", "x-request-id", "server-timing", "cache-status", "connection", "timing-allow-origin"];
    let kept = answer.headers.iter().filter(|(name, _)| !passing.contains(&name.as_str()));
    let mut headers: Vec<_> =
        kept.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect();
    headers.sort();
    // Problems carry nothing passing either.
    (answer.status.as_u16(), headers, answer.body.clone())
}

/// Method, target, headers, and the status that they are answered with.
type Case<'a> = (Method, &'a str, &'a [(&'a str, &'a str)], u16);

#[tokio::test]
async fn every_kind_of_answer_is_as_over_http_1() {
    let edge = edge().await;
    let mut connection = Http2::open(edge.addr()).await.expect("HTTP/2");
    let first = edge.get(TARGET).await;
    let etag = first.header("etag").expect("there").to_owned();
    let table: &[Case<'_>] = &[
        (Method::GET, TARGET, &[], 200),
        (Method::HEAD, TARGET, &[], 200),
        (Method::GET, TARGET, &[("if-none-match", &etag)], 304),
        (Method::GET, TARGET, &[("range", "bytes=2-9")], 206),
        (Method::GET, TARGET, &[("range", "bytes=999999-")], 416),
        (Method::HEAD, TARGET, &[("range", "bytes=2-9")], 200),
        (Method::GET, "/demo/w=40/@local/a.jpg", &[("accept", "image/webp")], 200),
        (Method::GET, "/demo/w=0/@local/a.jpg", &[], 400),
        (Method::HEAD, "/demo/w=0/@local/a.jpg", &[], 400),
        (Method::GET, "/demo/w=1/@local/b.jpg", &[], 404),
        (Method::GET, "/nobody/w=1/@local/b.jpg", &[], 404),
        (Method::POST, TARGET, &[], 405),
        (Method::GET, TARGET, &[("cdn-loop", "calotype")], 508),
        (Method::GET, "/demo/-/@local/a.jpg", &[], 200),
        (Method::HEAD, "/demo/-/@local/a.jpg", &[], 200),
        (Method::GET, "/demo/-/@local/a.jpg", &[("range", "bytes=-7")], 206),
    ];
    for (method, target, headers, status) in table {
        let mut request = Request::new(method.clone(), *target);
        for (name, value) in *headers {
            request = request.header(*name, *value);
        }
        let over_1 = edge.send(&request).await;
        let over_2 = connection.send(method.clone(), "edge", target, headers).await.expect("an answer");
        assert_eq!(over_2.status.as_u16(), *status, "{method} {target} {headers:?}");
        assert_eq!(essence(&over_2), essence(&over_1), "{method} {target} {headers:?}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn both_protocols_share_the_port_and_a_short_request_is_enough() {
    let edge = edge().await;
    let mut stream = TcpStream::connect(edge.addr()).await.expect("taken");
    // Shorter than what a client of HTTP/2 says first.
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.expect("sent");
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.expect("an answer");
    assert!(
        received.starts_with(b"HTTP/1.1 400 Bad Request\r\n") || received.starts_with(b"HTTP/1.1 404"),
        "{}",
        received.escape_ascii()
    );
    let mut connection = Http2::open(edge.addr()).await.expect("HTTP/2");
    picture(&connection.get("edge", TARGET).await.expect("an answer"), "image/jpeg");
    edge.stop().await;

    let edge = EdgeSetup::new().start().await;
    assert!(
        async { Http2::open(edge.addr()).await?.get("edge", TARGET).await }.await.is_err(),
        "without the setting there is no HTTP/2"
    );
    edge.stop().await;
}

#[tokio::test]
async fn the_authority_is_the_host() {
    let edge = EdgeSetup::new().tls().set("h2c", true).tenant("hosts = [\"img.example.com\"]").start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    Pair::new(&["img.example.com"], 30).put(&edge.setup().certificates(), "a");
    let target = "/w=40,f=jpeg/@local/a.jpg";
    let mut connection = Http2::open(edge.addr()).await.expect("HTTP/2");
    for authority in ["img.example.com", "IMG.example.com", "img.example.com:8443"] {
        picture(&connection.get(authority, target).await.expect("an answer"), "image/jpeg");
    }
    // Elsewhere the path needs its tenant.
    assert_ne!(connection.get("other.example.com", target).await.expect("an answer").status, 200);
    // A host that says something else is a way around whoever looked at the authority.
    let two = connection.send(Method::GET, "other.example.com", target, &[("host", "img.example.com")]).await;
    assert_ne!(two.expect("an answer").status, 200);

    let stream = eventually("the certificate", async || {
        connect(edge.setup().tls_addr(), Hello::to("img.example.com")).await.ok()
    });
    let mut connection = Http2::over(stream.await, "https").await.expect("HTTP/2");
    picture(&connection.get("img.example.com", target).await.expect("an answer"), "image/jpeg");
    edge.stop().await;
}

#[tokio::test]
async fn many_streams_of_one_connection_run_at_the_same_time() {
    let rig = S3Rig::start().await;
    rig.put("slow.jpg", photo(60, 40));
    let edge = rig.edge().set("h2c", true).start().await;
    let warm = Warm::up(&edge).await;
    let mut connection = Http2::open(edge.addr()).await.expect("HTTP/2");
    rig.relay.set(Fault::StallBeforeHead);
    let mut slow = Vec::new();
    // Each version has an original of its own.
    for version in 10..20 {
        let target = format!("/demo/w=30,f=jpeg,v={version}/@s3/slow.jpg");
        slow.push(connection.start(Method::GET, "edge", &target, &[]).await.expect("sent"));
    }
    rig.relay.wait_for_requests(10).await.expect("all of them are asked for");
    // Those that wait hold up nobody.
    let hit = connection.get("edge", "/demo/w=40,f=jpeg/@local/warm.jpg").await.expect("an answer");
    assert_eq!(cache_status(&hit), "Calotype; hit; detail=memory");
    rig.relay.heal();
    for sent in slow {
        picture(&finish(sent).await.expect("an answer"), "image/jpeg");
    }
    let mut sent = Vec::new();
    for _ in 0..100 {
        sent.push(connection.start(Method::GET, "edge", "/demo/w=40,f=jpeg/@local/warm.jpg", &[]).await.expect("sent"));
    }
    for sent in sent {
        assert_eq!(finish(sent).await.expect("an answer").body, hit.body);
    }
    warm.assert_hit(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn a_large_original_waits_for_a_client_that_reads_slowly() {
    let edge = edge().await;
    let original: Vec<u8> = (0..8_000_000u32).map(|n| (n % 251) as u8).collect();
    edge.setup().put("large.jpg", &original);
    let mut connection = Http2::open(edge.addr()).await.expect("HTTP/2");
    let sent = connection.start(Method::GET, "edge", "/demo/-/@local/large.jpg", &[]).await.expect("sent");
    let (head, mut body) = sent.await.expect("a head").into_parts();
    assert_eq!(head.headers["content-length"], original.len().to_string());
    // The window is full and stays so; other streams have windows of their own, but share the connection's.
    let mut received = Vec::new();
    while received.len() < 32 * 1024 {
        received.extend_from_slice(&body.data().await.expect("more").expect("data"));
    }
    let other = connection.send(Method::HEAD, "edge", TARGET, &[]).await.expect("an answer");
    assert_eq!(other.status, 200);
    body.flow_control().release_capacity(received.len()).expect("it was received");
    while let Some(chunk) = body.data().await {
        let chunk = chunk.expect("data");
        body.flow_control().release_capacity(chunk.len()).expect("it was received");
        received.extend_from_slice(&chunk);
    }
    assert!(received == original);
    edge.stop().await;
}

#[tokio::test]
async fn an_original_that_breaks_off_is_no_whole_answer() {
    let rig = S3Rig::start().await;
    rig.put("a.jpg", photo(400, 300));
    let edge = rig.edge().set("h2c", true).start().await;
    let warm = Warm::up(&edge).await;
    let mut connection = Http2::open(edge.addr()).await.expect("HTTP/2");
    rig.relay.set(Fault::Truncate { after_bytes: 5000 });
    assert!(connection.get("edge", "/demo/-/@s3/a.jpg").await.is_err());
    // The connection goes on.
    rig.relay.heal();
    assert_eq!(connection.get("edge", "/demo/-/@s3/a.jpg").await.expect("an answer").body, photo(400, 300));
    warm.assert_hit(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn a_stream_that_is_reset_frees_its_request_and_the_picture_is_made_all_the_same() {
    let rig = S3Rig::start().await;
    rig.put("a.jpg", photo(60, 40));
    let edge = rig.edge().set("h2c", true).start().await;
    let mut connection = Http2::open(edge.addr()).await.expect("HTTP/2");
    rig.relay.set(Fault::StallBeforeHead);
    let target = "/demo/w=40,f=jpeg/@s3/a.jpg";
    drop(connection.start(Method::GET, "edge", target, &[]).await.expect("sent"));
    let mut sent = connection.start(Method::GET, "edge", target, &[]).await.expect("sent");
    rig.relay.wait_for_requests(1).await.expect("the store is asked");
    drop(std::mem::replace(&mut sent, connection.start(Method::GET, "edge", target, &[]).await.expect("sent")));
    let events = edge.events(1).await;
    assert_eq!((&events[0]["status"], &events[0]["target"]), (&0.into(), &target.into()));
    rig.relay.heal();
    picture(&finish(sent).await.expect("an answer"), "image/jpeg");
    assert_eq!(cache_status(&edge.get(target).await), "Calotype; hit; detail=memory");
    edge.stop().await;
}

#[tokio::test]
async fn a_flood_of_resets_ends_the_connection_and_nobody_else_notices() {
    let edge = edge().await;
    let warm = Warm::up(&edge).await;
    let mut connection = Http2::open(edge.addr()).await.expect("HTTP/2");
    for width in 0..20_000 {
        let target = format!("/demo/w={},f=jpeg/@local/a.jpg", 1 + width % 4000);
        match connection.start(Method::GET, "edge", &target, &[]).await {
            Ok(started) => drop(started),
            Err(_) => break,
        }
    }
    let after = connection.get("edge", TARGET).await;
    assert!(after.is_err(), "the connection goes on: {after:?}");
    warm.assert_hit(&edge).await;
    // Nothing of it runs on.
    edge.stop().await;
}

/// A frame as RFC 9113, section 4.1 has it.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[tokio::test]
async fn headers_without_end_end_the_connection() {
    let edge = edge().await;
    let warm = Warm::up(&edge).await;
    let mut stream = TcpStream::connect(edge.addr()).await.expect("taken");
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("sent");
    stream.write_all(&frame(4, 0, 0, &[])).await.expect("sent");
    // HEADERS without END_HEADERS, then CONTINUATION frames of literal headers until the edge has enough.
    let literal = [&[0x40, 1, b'x', 127, 0x81, 0x7e][..], &[b'y'; 16_256]].concat();
    let mut written = stream.write_all(&frame(1, 0, 1, &[0x82])).await;
    let mut sent = 0;
    while written.is_ok() && sent < 10_000 {
        written = stream.write_all(&frame(9, 0, 1, &literal)).await;
        sent += 1;
    }
    assert!(sent < 1000, "the edge has read {sent} frames");
    warm.assert_hit(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn headers_over_the_limit_are_refused() {
    let edge = edge().await;
    let mut connection = Http2::open(edge.addr()).await.expect("HTTP/2");
    let long = "y".repeat(40_000);
    let answer = connection.send(Method::GET, "edge", TARGET, &[("x-long", &long)]).await;
    assert!(answer.map_or(true, |answer| answer.status == 431));
    let mut connection = Http2::open(edge.addr()).await.expect("HTTP/2");
    let fits = "y".repeat(20_000);
    let answer = connection.send(Method::GET, "edge", TARGET, &[("x-long", &fits)]).await.expect("an answer");
    picture(&answer, "image/jpeg");
    let long = format!("/demo/w=40/@local/{}", "y".repeat(5000));
    assert_problem(&connection.get("edge", &long).await.expect("an answer"), 414, "url-too-long");
    edge.stop().await;
}

#[tokio::test]
async fn a_stop_lets_streams_finish_and_tells_the_connection() {
    let rig = S3Rig::start().await;
    rig.put("a.jpg", photo(60, 40));
    let edge = rig.edge().set("h2c", true).start().await;
    let warm = Warm::up(&edge).await;
    let mut connection = Http2::open(edge.addr()).await.expect("HTTP/2");
    let idle = Http2::open(edge.addr()).await.expect("HTTP/2");
    rig.relay.set(Fault::StallBeforeHead);
    let sent = connection.start(Method::GET, "edge", "/demo/w=40,f=jpeg/@s3/a.jpg", &[]).await.expect("sent");
    rig.relay.wait_for_requests(1).await.expect("the store is asked");
    edge.signal(Signal::TERM);
    eventually("the drain", async || (edge.admin("/readyz").await.status == 503).then_some(())).await;
    // GOAWAY: no new stream gets in, while the old one waits.
    idle.ended().await.expect("in order");
    eventually("GOAWAY", async || connection.get("edge", TARGET).await.is_err().then_some(())).await;
    warm.assert_hit(&edge).await;
    rig.relay.heal();
    picture(&finish(sent).await.expect("an answer"), "image/jpeg");
    connection.ended().await.expect("in order");
    assert_eq!(edge.exited().await.0.code(), Some(0));
}

#[tokio::test]
async fn http_1_goes_on_beside_it() {
    let edge = edge().await;
    let one = http::get(edge.addr(), TARGET).await.expect("an answer");
    let mut connection = Http2::open(edge.addr()).await.expect("HTTP/2");
    let two = connection.get("edge", TARGET).await.expect("an answer");
    assert_eq!(essence(&one), essence(&two));
    edge.stop().await;
}
