//! HTTP/1.1 as clients speak it: methods, keep-alive, hosts, and what is no HTTP at all.

use ::http::Method;
use testkit::edge::{EdgeSetup, assert_problem};
use testkit::http::{Connection, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Warm, photo};

const TARGET: &str = "/demo/w=40,f=jpeg/@local/a.jpg";

#[tokio::test]
async fn only_get_and_head() {
    let edge = EdgeSetup::new().start().await;
    let warm = Warm::up(&edge).await;
    edge.setup().put("a.jpg", photo(60, 40));
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        let answer = edge.send(&Request::new(method, TARGET)).await;
        assert_problem(&answer, 405, "method-not-allowed");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"));
    }
    let put = edge.send(&Request::put("/demo/-/@local/a.jpg", vec![0; 100_000])).await;
    assert_problem(&put, 405, "method-not-allowed");
    warm.assert_hit(&edge).await;
}

#[tokio::test]
async fn one_connection_serves_many_requests_of_every_outcome() {
    let edge = EdgeSetup::new().start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    let mut connection = Connection::open(edge.addr()).await.expect("taken");
    let mut send = async |request: Request| connection.send(&request).await.expect("on the same connection");
    let first = send(Request::get(TARGET)).await;
    let etag = first.header("etag").expect("there").to_owned();
    for _ in 0..3 {
        assert_eq!(send(Request::get(TARGET)).await.body, first.body);
        assert_eq!(send(Request::head(TARGET)).await.status, 200);
        assert_eq!(send(Request::get(TARGET).header("if-none-match", &etag)).await.status, 304);
        assert_eq!(send(Request::get(TARGET).header("range", "bytes=0-3")).await.body, first.body.slice(0..4));
        assert_problem(&send(Request::get("/demo/w=0/@local/a.jpg")).await, 400, "bad-value");
        assert_eq!(send(Request::head("/demo/w=0/@local/a.jpg")).await.status, 400);
        assert_problem(&send(Request::get("/demo/w=1/@local/b.jpg")).await, 404, "source-not-found");
        assert_eq!(send(Request::get("/demo/-/@local/a.jpg")).await.body, photo(60, 40));
        assert_eq!(send(Request::head("/demo/-/@local/a.jpg")).await.status, 200);
        assert_eq!(send(Request::get("/demo/-/@local/a.jpg").header("range", "bytes=-4")).await.status, 206);
    }
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_order_or_not_at_all() {
    let edge = EdgeSetup::new().start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    let single = edge.get(TARGET).await;
    let mut stream = TcpStream::connect(edge.addr()).await.expect("taken");
    let request = |target: &str, last: bool| {
        let connection = if last { "Connection: close\r\n" } else { "" };
        format!("GET {target} HTTP/1.1\r\nHost: edge\r\n{connection}\r\n")
    };
    let three = [request(TARGET, false), request("/demo/w=0/@local/a.jpg", false), request(TARGET, true)].concat();
    stream.write_all(three.as_bytes()).await.expect("sent");
    let mut received = Vec::new();
    // Closing with requests unread may show as a reset.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(20), stream.read_to_end(&mut received))
        .await
        .expect("the connection ends");
    assert!(received.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", received.escape_ascii());
    let statuses: Vec<&[u8]> =
        received.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"HTTP/1.1 ")).collect();
    let expected: [&[u8]; 3] = [b"HTTP/1.1 200 OK\r", b"HTTP/1.1 400 Bad Request\r", b"HTTP/1.1 200 OK\r"];
    assert_eq!(statuses, expected[..statuses.len()], "out of order");
    let body = received.windows(single.body.len()).filter(|window| *window == single.body).count();
    assert_eq!(body, statuses.iter().filter(|status| status.ends_with(b"OK\r")).count(), "a body was cut or doubled");
}

#[tokio::test]
async fn an_old_client_gets_its_answer_and_the_end_of_the_connection() {
    let edge = EdgeSetup::new().start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    let expected = edge.get(TARGET).await;
    for (address, target) in [(edge.addr(), TARGET), (edge.admin_addr(), "/healthz")] {
        let mut stream = TcpStream::connect(address).await.expect("taken");
        stream.write_all(format!("GET {target} HTTP/1.0\r\n\r\n").as_bytes()).await.expect("sent");
        let mut received = Vec::new();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(10), stream.read_to_end(&mut received)).await;
        assert!(ended.is_ok(), "{address} keeps the connection of an HTTP/1.0 client open");
        let body: &[u8] = if target == TARGET { &expected.body } else { b"ok\n" };
        assert!(received.ends_with(body), "{}", received.escape_ascii());
    }
}

#[tokio::test]
async fn what_is_no_http_gets_an_end_and_hurts_nobody() {
    let edge = EdgeSetup::new().start().await;
    let warm = Warm::up(&edge).await;
    for nonsense in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"\0\0\0\0\r\n\r\n", b"GET\r\n\r\n", b"G"] {
        let mut stream = TcpStream::connect(edge.addr()).await.expect("taken");
        stream.write_all(nonsense).await.expect("sent");
        stream.shutdown().await.expect("half closed");
        let mut received = Vec::new();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(20), stream.read_to_end(&mut received)).await;
        assert!(ended.is_ok(), "{}", nonsense.escape_ascii());
        assert!(!received.starts_with(b"HTTP/1.1 200"), "{}", received.escape_ascii());
        warm.assert_hit(&edge).await;
    }
}

#[tokio::test]
async fn a_tenants_own_host_has_no_tenant_in_its_paths() {
    let setup = EdgeSetup::new();
    let folder = setup.originals().display().to_string();
    let shop = format!("[tenants.shop]\nopen = true\nhosts = [\"Img.Shop.Example\"]\norigins.pics.folder = {folder:?}");
    let edge = setup.tables(&shop).start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    let at = |host: &str, target: &str| Request::get(target).header("host", host);
    let own = edge.send(&at("img.shop.example", "/w=40,f=jpeg/@pics/a.jpg")).await;
    assert_eq!(own.status, 200, "{}", own.text());
    for host in ["IMG.shop.example", "img.shop.example:8080"] {
        let same = edge.send(&at(host, "/w=40,f=jpeg/@pics/a.jpg")).await;
        assert_eq!(crate::support::cache_status(&same), "Calotype; hit; detail=memory", "{host}");
    }
    // The shared host knows the tenant by its name, and it is the same rendition.
    let shared = edge.get("/shop/w=40,f=jpeg/@pics/a.jpg").await;
    assert_eq!(crate::support::cache_status(&shared), "Calotype; hit; detail=memory");
    // On a tenant's host no other tenant can be reached.
    assert_problem(&edge.send(&at("img.shop.example", "/demo/w=40/@local/a.jpg")).await, 400, "unknown-op");
    assert_problem(&edge.send(&at("other.example", "/w=40/@pics/a.jpg")).await, 400, "bad-path");
}
