//! Web servers that lie about the length or the type of what they send.

use std::net::SocketAddr;

use testkit::edge::{Edge, EdgeSetup, assert_problem, picture};
use testkit::images::{self, hostile};
use testkit::web::Page;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Warm, WebRig, photo};

#[tokio::test]
async fn a_type_that_is_not_true_changes_nothing() {
    let rig = WebRig::start().await;
    let pages = [
        ("jpeg-as-html", photo(60, 40), "text/html"),
        ("jpeg-as-nonsense", photo(60, 40), "image/jpeg; \"; x"),
        ("html-as-jpeg", hostile::html(), "image/jpeg"),
        ("text-as-svg", hostile::text(), "image/svg+xml"),
    ];
    for (name, bytes, content_type) in pages {
        rig.server.put(&format!("/img/{name}"), Page::new(bytes).header("content-type", content_type));
    }
    let edge = rig.edge().start().await;
    for name in ["jpeg-as-html", "jpeg-as-nonsense"] {
        let made = picture(&edge.get(&format!("/demo/w=30,f=png/@web/{name}")).await, "image/png");
        assert_eq!(images::decode(&made).width(), 30, "{name}");
    }
    for name in ["html-as-jpeg", "text-as-svg"] {
        assert_problem(&edge.get(&format!("/demo/w=30,f=png/@web/{name}")).await, 415, "not-an-image");
    }
    // Handed out as it is, a page must not run in the tenant's name, whatever it calls itself.
    let page = edge.get("/demo/-/@web/html-as-jpeg").await;
    assert_eq!(
        (page.header("content-type"), page.header("x-content-type-options")),
        (Some("image/jpeg"), Some("nosniff"))
    );
    let page = edge.get("/demo/-/@web/jpeg-as-html").await;
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert!(page.header("content-disposition").expect("a download").starts_with("attachment"), "{:?}", page.headers);
    assert!(page.header("content-security-policy").expect("a sandbox").contains("sandbox"), "{:?}", page.headers);
    edge.stop().await;
}

/// A server that answers each path with bytes of a test, whatever they are, and leaves the connection open.
async fn raw_server(answers: Vec<(&'static str, Vec<u8>)>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answers.clone()));
        }
    });
    address
}

async fn serve(mut stream: TcpStream, answers: Vec<(&'static str, Vec<u8>)>) {
    let mut head = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        if head.ends_with(b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&head).into_owned();
            let path = text.split(' ').nth(1).unwrap_or_default();
            let answer = answers.iter().find(|(name, _)| path.ends_with(name));
            if stream.write_all(&answer.expect("a path of the test").1).await.is_err() {
                return;
            }
            head.clear();
        }
    }
}

/// A head that announces `length` bytes, and a body of another length.
fn announcing(length: usize, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

async fn edge_of(server: SocketAddr) -> Edge {
    let origin = format!("base_url = \"http://{server}/\", allow_private = [\"127.0.0.1\"]");
    EdgeSetup::new()
        .tenant(&format!("origins.web.http = {{ {origin} }}"))
        .set("transform.deadline_seconds", 2)
        .start()
        .await
}

#[tokio::test]
async fn a_body_longer_than_announced_is_cut_there_and_the_rest_answers_nobody() {
    // One is upright, so that they can be told apart.
    let (upright, honest) = (photo(200, 300), photo(60, 40));
    // Behind the announced bytes comes what looks like the answer to the next request on the connection.
    let smuggled = announcing(upright.len(), &upright);
    let liar = [announcing(1000, &upright[..1000]), smuggled].concat();
    let server = raw_server(vec![("liar.jpg", liar), ("honest.jpg", announcing(honest.len(), &honest))]).await;
    let edge = edge_of(server).await;
    let warm = Warm::up(&edge).await;
    for round in 0..10 {
        assert_problem(
            &edge.get(&format!("/demo/w={},f=png/@web/liar.jpg", 20 + round)).await,
            422,
            "source-truncated",
        );
        let made = picture(&edge.get(&format!("/demo/w={},f=png/@web/honest.jpg", 20 + round)).await, "image/png");
        let made = images::decode(&made);
        assert!(made.width() == 20 + round && made.height() < made.width(), "round {round}: {}", made.height());
        assert_eq!(edge.get("/demo/-/@web/honest.jpg").await.body, honest, "round {round}");
    }
    warm.assert_hit(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn a_body_shorter_than_announced_is_waited_for_and_given_up() {
    let bytes = photo(300, 200);
    let server = raw_server(vec![("liar.jpg", announcing(bytes.len() + 1, &bytes))]).await;
    let edge = edge_of(server).await;
    let warm = Warm::up(&edge).await;
    // Every byte of the picture came, and it still is not what was announced.
    assert_problem(&edge.get("/demo/w=30,f=jpeg/@web/liar.jpg").await, 504, "deadline");
    warm.assert_hit(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn lengths_that_are_no_lengths_are_no_answers() {
    let bytes = photo(60, 40);
    let with = |lengths: &str| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n{lengths}\r\n\r\n");
        [head.as_bytes(), &bytes].concat()
    };
    let server = raw_server(vec![
        ("two.jpg", with(&format!("Content-Length: {}\r\nContent-Length: 10", bytes.len()))),
        ("negative.jpg", with("Content-Length: -1")),
        ("huge.jpg", with("Content-Length: 99999999999999999999999999")),
        ("both.jpg", with("Content-Length: 10\r\nTransfer-Encoding: chunked")),
        ("large.jpg", with("Content-Length: 900000000000")),
    ])
    .await;
    let edge = edge_of(server).await;
    for (name, code) in [
        ("two.jpg", "source-failed"),
        ("negative.jpg", "source-failed"),
        ("huge.jpg", "source-failed"),
        ("both.jpg", "source-incomplete"),
    ] {
        assert_problem(&edge.get(&format!("/demo/w=30,f=jpeg/@web/{name}")).await, 502, code);
    }
    assert_problem(&edge.get("/demo/w=30,f=jpeg/@web/large.jpg").await, 422, "source-too-large");
    assert!(edge.metric("process_resident_memory_bytes").await < 1e9);
    edge.stop().await;
}
