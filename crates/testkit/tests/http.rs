//! The client sends what it is told and reads what is there.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::SocketAddr;

use http::StatusCode;
use testkit::http::{Request, send, send_raw, split_url};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A server for one request: gives back what it received up to the end of the head, after answering with `answer`.
async fn one_shot(answer: &'static str) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let received = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        while !received.windows(4).any(|window| window == b"\r\n\r\n") {
            assert!(stream.read_buf(&mut received).await.unwrap() > 0);
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(received).unwrap()
    });
    (address, received)
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn targets_go_out_byte_for_byte() {
    for target in ["/", "/a/../b", "//a//", "/%2e%2E/%41?q=%20&&", "/./x;y,z=1", "/a?b?c", "*", "http://other/x"] {
        let (server, received) = one_shot(OK).await;
        assert_eq!(send(server, &Request::get(target)).await.unwrap().text(), "ok");
        let received = received.await.unwrap();
        assert!(received.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{target}: {received}");
    }
}

#[tokio::test]
async fn targets_that_would_change_are_refused() {
    let (server, _received) = one_shot(OK).await;
    for target in ["/a#b", "/a b", "", "/\u{0}"] {
        send(server, &Request::get(target)).await.expect_err(target);
    }
}

#[tokio::test]
async fn raw_bytes_go_out_as_they_are() {
    let (server, received) = one_shot(OK).await;
    let response = send_raw(server, b"BREW /a b#c HTTP/1.1\r\nno colon here\r\n\r\n").await.unwrap();
    assert_eq!((response.status, response.text().as_str()), (StatusCode::OK, "ok"));
    assert_eq!(received.await.unwrap(), "BREW /a b#c HTTP/1.1\r\nno colon here\r\n\r\n");
}

#[tokio::test]
async fn raw_answers_end_where_they_say() {
    for (request, answer, body) in [
        (
            "GET",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n",
            "abcdefg",
        ),
        ("GET", "HTTP/1.1 200 OK\r\n\r\nuntil the end", "until the end"),
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n", ""),
        ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 10\r\n\r\n", ""),
    ] {
        let (server, _received) = one_shot(answer).await;
        let request = format!("{request} / HTTP/1.1\r\nhost: h\r\n\r\n");
        assert_eq!(send_raw(server, request.as_bytes()).await.unwrap().text(), body, "{answer}");
    }
    for broken in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort", "SSH-2.0\r\n\r\n"] {
        let (server, _received) = one_shot(broken).await;
        send_raw(server, b"GET / HTTP/1.1\r\n\r\n").await.expect_err(broken);
    }
}

#[test]
fn urls_split_into_server_and_target() {
    let (server, target) = split_url("http://127.0.0.1:80/a?b=/c").unwrap();
    assert_eq!((server.port(), target.as_str()), (80, "/a?b=/c"));
    assert_eq!(split_url("http://127.0.0.1:80").unwrap().1, "/");
    for wrong in ["https://127.0.0.1/", "http://localhost:80/", "127.0.0.1:80/"] {
        split_url(wrong).expect_err(wrong);
    }
}
