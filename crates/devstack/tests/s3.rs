//! The S3 server as a stranger sees it, and its end. What it stores is tested with the client that uses it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::SocketAddr;

use devstack::s3::{S3Keys, S3Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn start(folder: &std::path::Path, port: u16) -> anyhow::Result<S3Server> {
    let keys = S3Keys { access_key: "AKTEST".to_owned(), secret_key: "secret".to_owned() };
    S3Server::start(folder, &["bucket"], keys, port).await
}

async fn exchange(server: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn strangers_get_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), 0).await.unwrap();
    std::fs::write(folder.path().join("bucket/object"), "secret bytes").unwrap();
    for target in ["/bucket?list-type=2", "/bucket/object", "/bucket/missing"] {
        for method in ["GET", "PUT", "DELETE"] {
            let request =
                format!("{method} {target} HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let answer = exchange(server.address(), &request).await;
            assert!(answer.starts_with("HTTP/1.1 403 "), "{method} {target}: {answer}");
            assert!(!answer.contains("secret bytes"));
        }
    }
    assert!(folder.path().join("bucket/object").exists());
}

#[tokio::test]
async fn a_port_is_free_again_after_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let server = start(folder.path(), 0).await.unwrap();
    let address = server.address();
    assert_eq!(server.endpoint(), format!("http://{address}"));
    start(folder.path(), address.port()).await.expect_err("the port is taken");
    // A kept connection that idles must not hold the stop up.
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"HEAD /bucket HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    assert!(idle.read(&mut [0; 4096]).await.unwrap() > 0);
    server.stop().await;
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.expect("closed in order");
    TcpStream::connect(address).await.expect_err("nobody listens");
    let again = start(folder.path(), address.port()).await.unwrap();
    drop(again);
}

#[tokio::test]
async fn a_missing_folder_or_a_wrong_port_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "x").unwrap();
    start(&folder.path().join("file"), 0).await.expect_err("a file is no folder");
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = start(folder.path(), taken.local_addr().unwrap().port()).await.unwrap_err();
    assert!(error.to_string().contains("cannot listen"), "{error}");
}

#[test]
fn keys_do_not_show_their_secret() {
    let keys = S3Keys { access_key: "AKTEST".to_owned(), secret_key: "hush".to_owned() };
    let shown = format!("{keys:?}");
    assert!(shown.contains("AKTEST") && !shown.contains("hush"), "{shown}");
}
