//! What one client, one address and one tenant may take: who the client is, rates, connections, headers, patience.

use std::fs::File;
use std::time::{Duration, Instant};

use ::http::Method;
use serde_json::Value;
use testkit::edge::{Edge, EdgeSetup, assert_problem, eventually};
use testkit::http::{Connection, Request, Response};
use testkit::http2::Http2;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::support::{Warm, cache_status, photo};

const TARGET: &str = "/demo/w=40,f=jpeg/@local/a.jpg";

/// More than any test lets through before it is refused.
const REQUESTS_MAX: usize = 10_000;

fn behind_a_proxy() -> EdgeSetup {
    EdgeSetup::new().set("trusted_proxies", "[\"127.0.0.1\", \"10.0.0.0/8\"]")
}

fn from(client: &str, target: &str) -> Request {
    Request::get(target).header("x-forwarded-for", client)
}

/// Sends the requests that `request` makes until one is answered 429; how many were not, and the refusal.
async fn until_limited(edge: &Edge, mut request: impl FnMut(usize) -> Request) -> (usize, Response) {
    let mut connection = Connection::open(edge.addr()).await.expect("taken");
    for number in 0..REQUESTS_MAX {
        let answer = connection.send(&request(number)).await.expect("on the same connection");
        if answer.status == 429 {
            return (number, answer);
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    panic!("{REQUESTS_MAX} requests were let through");
}

/// One a second: the next is never further away.
fn assert_limited(answer: &Response) {
    assert_problem(answer, 429, "rate-limited");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

/// Reads to the end of a connection that the edge is to end.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    // It may end by a reset.
    let read = timeout(Duration::from_secs(30), stream.read_to_end(&mut received)).await;
    let _ = read.expect("the edge ends the connection");
    received
}

async fn metric_becomes(edge: &Edge, series: &str, value: f64) {
    eventually(series, async || (edge.metric(series).await == value).then_some(())).await;
}

#[tokio::test]
async fn a_trusted_proxy_names_the_client() {
    let edge = behind_a_proxy().start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    let requests = [
        (Request::get(TARGET), "127.0.0.1", None),
        (from("198.51.100.7", TARGET), "198.51.100.7", Some("127.0.0.1")),
        (from("1.1.1.1, 198.51.100.7, 10.9.9.9", TARGET), "198.51.100.7", Some("127.0.0.1")),
        (from("::ffff:198.51.100.7", TARGET), "198.51.100.7", Some("127.0.0.1")),
        (from("2001:db8::7", TARGET), "2001:db8::7", Some("127.0.0.1")),
        (from("<script>", TARGET), "127.0.0.1", None),
        (Request::get(TARGET).header("forwarded", "for=198.51.100.7"), "127.0.0.1", None),
    ];
    for (request, ..) in &requests {
        assert_eq!(edge.send(request).await.status, 200);
    }
    let events = edge.stop().await.events();
    assert_eq!(events.len(), requests.len());
    for (event, (request, client, proxy)) in events.iter().zip(&requests) {
        assert_eq!(event["client"], *client, "{request:?}");
        assert_eq!(event["proxy"], proxy.map_or(Value::Null, Value::from), "{request:?}");
    }
}

#[tokio::test]
async fn nobody_else_names_a_client() {
    let edge = EdgeSetup::new().set("trusted_proxies", "[\"10.0.0.0/8\"]").start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    for claim in ["198.51.100.7", "10.0.0.1", "127.0.0.2, 10.0.0.1", "\"", "for=198.51.100.7"] {
        assert_eq!(edge.send(&from(claim, TARGET).header("forwarded", claim)).await.status, 200);
    }
    for event in edge.stop().await.events() {
        assert_eq!((&event["client"], &event["proxy"]), (&Value::from("127.0.0.1"), &Value::Null), "{event}");
    }
}

#[tokio::test]
async fn rfc_7239_where_it_is_asked_for() {
    let edge = behind_a_proxy().set("forwarded_header", "\"forwarded\"").start().await;
    let forwarded = "for=1.1.1.1, for=\"[2001:db8::7]:4711\";proto=https, for=10.1.1.1";
    edge.send(&from("198.51.100.8", TARGET).header("forwarded", forwarded)).await;
    assert_eq!(edge.stop().await.events()[0]["client"], "2001:db8::7");
}

#[tokio::test]
async fn a_tenants_rate_is_for_the_tenant_whoever_asks() {
    let setup = behind_a_proxy().tenant("rates = { requests_per_second = 1, requests_burst = 30 }");
    let folder = setup.originals().display().to_string();
    let other = format!("[tenants.other]\nopen = true\norigins.local.folder = {folder:?}");
    let edge = setup.tables(&other).start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    let begun = Instant::now();
    let (count, refused) = until_limited(&edge, |number| from(&format!("198.51.100.{number}"), TARGET)).await;
    let most = 30 + usize::try_from(begun.elapsed().as_secs()).expect("a short while") + 1;
    assert!((30..=most).contains(&count), "{count} were let through, {most} may be");
    assert_limited(&refused);
    assert!(edge.metric("calotype_rate_limited_total{of=\"tenant\",rate=\"requests\"}").await >= 1.0);
    assert_eq!(edge.get("/other/w=40,f=jpeg/@local/a.jpg").await.status, 200);
    // What is refused by the policy is not counted, and not limited.
    for _ in 0..50 {
        assert_problem(&edge.get("/demo/w=0/@local/a.jpg").await, 400, "bad-value");
    }
    let event = edge.stop().await.events().into_iter().find(|event| event["status"] == 429).expect("there is one");
    assert_eq!(
        (&event["code"], &event["tenant"], &event["cache"]),
        (&"rate-limited".into(), &"demo".into(), &"none".into())
    );
}

#[tokio::test]
async fn a_reload_keeps_the_count_unless_the_rate_changes() {
    let rates = "rates = { requests_per_second = 1, requests_burst = 500 }";
    let edge = EdgeSetup::new().tenant(rates).start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    until_limited(&edge, |_| Request::get(TARGET)).await;
    let reload = async |policy: &str, sequence: u32| {
        edge.setup().write_policy(policy);
        eventually("the new policy", async || (edge.readiness().await["policy_sequence"] == sequence).then_some(()))
            .await;
        until_limited(&edge, |_| Request::get(TARGET)).await.0
    };
    let policy = edge.setup().policy();
    let same = reload(&policy.replace("open = true", "open = true\nmax_age_seconds = 61"), 2).await;
    assert!(same < 500, "{same}: as many as after a start");
    let fewer = reload(&policy.replace("requests_burst = 500", "requests_burst = 499"), 3).await;
    assert!(fewer >= 499, "{fewer}: a new rate begins anew");
    edge.stop().await;
}

#[tokio::test]
async fn an_address_has_its_rate_and_an_ipv6_network_is_one() {
    let edge = behind_a_proxy().set("rates.requests_per_second", 1).set("rates.requests_burst", 20).start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    let network = |number| from(&format!("2001:db8:1:2::{number:x}"), TARGET);
    let (count, refused) = until_limited(&edge, network).await;
    assert!(count >= 20, "{count}");
    assert_limited(&refused);
    assert!(refused.text().contains("this address"), "{}", refused.text());
    for other in ["2001:db8:1:3::1", "198.51.100.7", "127.0.0.1"] {
        assert_eq!(edge.send(&from(other, TARGET)).await.status, 200, "{other}");
    }
    assert!(edge.metric("calotype_rate_limited_total{of=\"address\",rate=\"requests\"}").await >= 1.0);
    edge.stop().await;
}

#[tokio::test]
async fn who_has_too_much_made_still_gets_what_is_there() {
    let edge = behind_a_proxy().set("rates.fills_per_second", 1).set("rates.fills_burst", 5).start().await;
    edge.setup().put("a.jpg", photo(600, 400));
    let width = |number: usize| from("198.51.100.7", &format!("/demo/w={},f=jpeg/@local/a.jpg", number + 1));
    let (count, refused) = until_limited(&edge, width).await;
    assert!(count >= 5, "{count}");
    assert_limited(&refused);
    for number in 0..5 {
        let hit = edge.send(&width(number)).await;
        assert_eq!(cache_status(&hit), "Calotype; hit; detail=memory", "{}", hit.text());
    }
    // Originals are no fills, and others have a rate of their own.
    assert_eq!(edge.send(&from("198.51.100.7", "/demo/-/@local/a.jpg")).await.status, 200);
    assert_eq!(edge.send(&from("198.51.100.8", "/demo/w=599,f=jpeg/@local/a.jpg")).await.status, 200);
    assert!(edge.metric("calotype_rate_limited_total{of=\"address\",rate=\"fills\"}").await >= 1.0);
    edge.stop().await;
}

#[tokio::test]
async fn beyond_the_rate_of_fills_stale_is_served_and_not_refreshed() {
    let rates = "max_age_seconds = 0\nrates = { fills_per_second = 1, fills_burst = 3 }";
    let edge = EdgeSetup::new().tenant(rates).start().await;
    edge.setup().put("a.jpg", photo(600, 400));
    assert_eq!(edge.get("/demo/w=1,f=jpeg/@local/a.jpg").await.status, 200);
    let put_off = "calotype_rate_limited_total{of=\"tenant\",rate=\"fills\"}";
    // Each asks for a refresh; those that come too fast go without.
    eventually("a refresh that is put off", async || {
        let stale = edge.get("/demo/w=1,f=jpeg/@local/a.jpg").await;
        assert_eq!((stale.status.as_u16(), cache_status(&stale)), (200, "Calotype; hit; detail=stale"));
        (edge.metric(put_off).await > 0.0).then_some(())
    })
    .await;
    edge.stop().await;
}

#[tokio::test]
async fn an_address_has_so_many_connections() {
    let edge = EdgeSetup::new().set("connections.per_address", 3).start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    one_more_is_refused(&edge, "per_address").await;
    edge.stop().await;
}

#[tokio::test]
async fn all_have_so_many_connections() {
    let edge = behind_a_proxy().set("connections.per_address", 1).set("connections.max", 3).start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    // A trusted proxy has no limit of its own.
    one_more_is_refused(&edge, "max").await;
    edge.stop().await;
}

async fn one_more_is_refused(edge: &Edge, reason: &str) {
    let mut kept = Vec::new();
    for _ in 0..3 {
        let mut connection = Connection::open(edge.addr()).await.expect("taken");
        assert_eq!(connection.send(&Request::get(TARGET)).await.expect("an answer").status, 200);
        kept.push(connection);
    }
    assert_eq!(edge.metric("calotype_connections_open").await, 3.0);
    let mut fourth = TcpStream::connect(edge.addr()).await.expect("the kernel takes it");
    let _ = fourth.write_all(format!("GET {TARGET} HTTP/1.1\r\nHost: edge\r\n\r\n").as_bytes()).await;
    assert_eq!(rest(&mut fourth).await, b"");
    assert_eq!(edge.metric(&format!("calotype_connections_refused_total{{reason=\"{reason}\"}}")).await, 1.0);
    for connection in &mut kept {
        assert_eq!(connection.send(&Request::get(TARGET)).await.expect("an answer").status, 200);
    }
    kept.pop();
    metric_becomes(edge, "calotype_connections_open", 2.0).await;
    assert_eq!(edge.get(TARGET).await.status, 200);
}

#[tokio::test]
async fn a_header_has_a_size() {
    let edge = EdgeSetup::new().set("connections.header_bytes", 4096).set("connections.header_lines", 40).start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    let cookie = |bytes: usize| Request::get(TARGET).header("cookie", "x".repeat(bytes));
    assert_eq!(edge.send(&cookie(4000)).await.status, 200);
    assert_problem(&edge.send(&cookie(4096)).await, 431, "header-too-large");
    let lines = |count: usize| (0..count).fold(Request::get(TARGET), |get, n| get.header(format!("x-{n}"), "1"));
    assert_eq!(edge.send(&lines(39)).await.status, 200);
    assert_problem(&edge.send(&lines(40)).await, 431, "header-too-large");
    // So large that nobody reads it to its end.
    let huge = format!("GET {TARGET} HTTP/1.1\r\nHost: edge\r\nCookie: {}", "x".repeat(900_000));
    assert_problem(&edge.send_raw(huge.as_bytes()).await, 431, "header-too-large");
    assert_eq!(edge.metric("calotype_connections_cut_total{reason=\"header_too_large\"}").await, 1.0);
    assert_eq!(edge.get(TARGET).await.status, 200);
    edge.stop().await;
}

#[tokio::test]
async fn a_header_has_a_time() {
    let edge = EdgeSetup::new().set("connections.header_seconds", 1).start().await;
    let warm = Warm::up(&edge).await;
    for begun in ["G", "GET ", "GET / HTTP/1.1\r\nHost: ", "GET / HTTP/1.1\r\nHost: edge\r\n"] {
        let mut stream = TcpStream::connect(edge.addr()).await.expect("taken");
        stream.write_all(begun.as_bytes()).await.expect("sent");
        let received = String::from_utf8(rest(&mut stream).await).expect("text");
        assert!(received.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{received}");
        assert!(
            received.contains("\"code\":\"header-too-slow\"") && received.contains("connection: close"),
            "{received}"
        );
        warm.assert_hit(&edge).await;
    }
    assert_eq!(edge.metric("calotype_connections_cut_total{reason=\"header_too_slow\"}").await, 4.0);
    metric_becomes(&edge, "calotype_connections_open", 0.0).await;
    // Not a failure of ours.
    assert!(!edge.log().contains("\"ERROR\""), "{}", edge.log());
    edge.stop().await;
}

#[tokio::test]
async fn a_get_has_no_body() {
    let edge = EdgeSetup::new().start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    for body in ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"] {
        let request = format!("GET {TARGET} HTTP/1.1\r\nHost: edge\r\n{body}");
        assert_problem(&edge.send_raw(request.as_bytes()).await, 413, "body-not-allowed");
    }
    assert_eq!(edge.send(&Request::get(TARGET).header("content-length", "0")).await.status, 200);
    edge.stop().await;
}

#[tokio::test]
async fn a_connection_is_not_kept_for_ever() {
    let edge = EdgeSetup::new().set("connections.idle_seconds", 1).set("connections.requests", 3).start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    let expected = edge.get(TARGET).await.body;
    let request = format!("GET {TARGET} HTTP/1.1\r\nHost: edge\r\n\r\n");
    // Idle, after one request.
    let mut stream = TcpStream::connect(edge.addr()).await.expect("taken");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let received = rest(&mut stream).await;
    assert!(received.starts_with(b"HTTP/1.1 200 OK\r\n") && received.ends_with(&expected));
    // Used up, by three.
    let mut connection = Connection::open(edge.addr()).await.expect("taken");
    for number in 1..=3 {
        let answer = connection.send(&Request::get(TARGET)).await.expect("an answer");
        assert_eq!((answer.status.as_u16(), answer.header("connection") == Some("close")), (200, number == 3));
    }
    assert!(connection.send(&Request::get(TARGET)).await.is_err(), "the connection has ended");
    edge.stop().await;
}

#[tokio::test]
async fn who_does_not_take_his_answer_is_dropped() {
    let edge = EdgeSetup::new().set("connections.send_seconds", 1).start().await;
    let warm = Warm::up(&edge).await;
    let original = File::create(edge.setup().originals().join("large.bin")).expect("ours");
    original.set_len(64 << 20).expect("there are holes in it");
    let ask = async || {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small one");
        let mut stream = socket.connect(edge.addr()).await.expect("taken");
        stream.write_all(b"GET /demo/-/@local/large.bin HTTP/1.1\r\nHost: edge\r\n\r\n").await.expect("sent");
        stream
    };
    let mut deaf = ask().await;
    let mut sipping = ask().await;
    let sips = tokio::spawn(async move {
        while sipping.read_u8().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });

    metric_becomes(&edge, "calotype_connections_cut_total{reason=\"slow_reader\"}", 2.0).await;
    metric_becomes(&edge, "calotype_connections_open", 0.0).await;
    assert!(rest(&mut deaf).await.len() < 64 << 20);
    sips.abort();
    warm.assert_hit(&edge).await;
    // Who reads gets all of it.
    assert_eq!(edge.get("/demo/-/@local/large.bin").await.body.len(), 64 << 20);
    let events = edge.stop().await.events();
    let failed: Vec<&Value> = events.iter().filter(|event| event["cause"].is_string()).collect();
    assert_eq!(failed.len(), 2, "{events:?}");
    for event in failed {
        assert!(event["cause"].as_str().is_some_and(|cause| cause.contains("too slowly")), "{event}");
        assert_eq!((&event["cache"], &event["status"]), (&"original".into(), &200.into()));
    }
}

#[tokio::test]
async fn who_holds_back_one_stream_loses_that_one() {
    let setup = EdgeSetup::new().set("h2c", true).set("connections.send_seconds", 1);
    let edge = setup.set("connections.send_bytes_per_second", 1 << 20).start().await;
    let warm = Warm::up(&edge).await;
    let original = File::create(edge.setup().originals().join("large.bin")).expect("ours");
    original.set_len(64 << 20).expect("there are holes in it");
    let mut connection = Http2::open(edge.addr()).await.expect("HTTP/2");
    let sent = connection.start(Method::GET, "edge", "/demo/-/@local/large.bin", &[]).await.expect("sent");
    let (head, mut body) = sent.await.expect("a head").into_parts();
    assert_eq!(head.status, 200);
    // Nobody makes room in the stream's window.
    metric_becomes(&edge, "calotype_connections_cut_total{reason=\"slow_reader\"}", 1.0).await;
    let ended = loop {
        match body.data().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => break Err(error),
            None => break Ok(()),
        }
    };
    assert!(ended.is_err(), "the body looks whole");
    let other = connection.send(Method::HEAD, "edge", "/demo/-/@local/large.bin", &[]).await.expect("an answer");
    assert_eq!(other.status, 200, "the connection goes on");
    warm.assert_hit(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn settings_that_cannot_be_are_named_together() {
    let setup = EdgeSetup::new()
        .set("trusted_proxies", "[\"10.0.0.0/8\", \"proxy.example\"]")
        .set("connections.max", 0)
        .set("connections.header_bytes", 1)
        .set("rates.fills_burst", 5);
    let ended = setup.run_to_end(&["--check-config"]).await;
    assert_eq!(ended.status.code(), Some(64), "{}", ended.stderr);
    for named in ["proxy.example", "connections.max", "connections.header_bytes", "rates.fills_burst"] {
        assert!(ended.stderr.contains(named), "{named} is not in {}", ended.stderr);
    }
}
