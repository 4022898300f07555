//! Clients that take their time, or never end what they have begun.

use std::time::Duration;

use testkit::control_plane::{ADMIN_KEY, ControlPlane};
use testkit::database::TestDatabase;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::support::ok;

/// Longer than any server under test waits.
const LIMIT: Duration = Duration::from_secs(30);

/// What a body begins with; before the first 14 bytes Rocket lets nobody look at the request.
const BEGUN: &str = "{\"slug\":\"a-shop\",";

async fn start() -> ControlPlane {
    ControlPlane::start_with(TestDatabase::new().await, &[("BODY_SECONDS", "1".to_owned())]).await
}

fn head(length: usize) -> String {
    format!(
        "POST /v1/tenants HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {ADMIN_KEY}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

/// What the server sends until it closes the connection.
async fn everything(mut stream: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut bytes = Vec::new();
    let read = timeout(LIMIT, stream.read_to_end(&mut bytes)).await.expect("the connection is closed");
    // Whether by an end or a reset depends on what the client had in flight.
    let _ = read;
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn a_body_that_does_not_end_is_not_waited_for() {
    let api = start().await;
    let mut stream = TcpStream::connect(api.addr()).await.expect("it listens");
    stream.write_all(format!("{}{BEGUN}", head(40)).as_bytes()).await.expect("sent");
    let answer = everything(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("\"code\":\"body-slow\""), "{answer}");
}

#[tokio::test]
async fn a_body_that_comes_byte_by_byte_has_no_longer() {
    let api = start().await;
    let stream = TcpStream::connect(api.addr()).await.expect("it listens");
    let (reader, mut writer) = stream.into_split();
    let trickle = tokio::spawn(async move {
        writer.write_all(head(60_000).as_bytes()).await.expect("sent");
        // Until the server has had enough.
        while writer.write_all(b" ").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    let answer = everything(reader).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    timeout(LIMIT, trickle).await.expect("the connection is closed").expect("no panic");
}

#[tokio::test]
async fn many_who_hold_connections_open_do_not_stop_others() {
    let api = start().await;
    let mut held = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(api.addr()).await.expect("it listens");
        stream.write_all(b"GET /v1/pre").await.expect("sent");
        held.push(stream);
    }
    let mut bodies = JoinSet::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(api.addr()).await.expect("it listens");
        stream.write_all(format!("{}{BEGUN}", head(40)).as_bytes()).await.expect("sent");
        bodies.spawn(everything(stream));
    }
    ok(&api.get(ADMIN_KEY, "/v1/tenants").await, 200);
    for answer in bodies.join_all().await {
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    drop(held);
}

#[tokio::test]
async fn connections_are_closed_after_each_answer_where_that_is_set() {
    let settings = [("KEEP_ALIVE", "false".to_owned())];
    let api = ControlPlane::start_with(TestDatabase::new().await, &settings).await;
    let mut stream = TcpStream::connect(api.addr()).await.expect("it listens");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: api\r\n\r\n").await.expect("sent");
    assert!(everything(&mut stream).await.starts_with("HTTP/1.1 200 "));
}
