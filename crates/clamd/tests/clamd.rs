//! ClamAV's own daemon, and whatever else may be at the other end of the socket.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clamd::{Address, Clamd, ClamdError, Verdict};
use futures_util::{Stream, stream};
use testkit::port::Port;
use testkit::scanner::{self, HARMFUL, SIGNATURE, STREAM_BYTES_MAX, Says, ScannerStub};

const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes in pieces of this size.
fn pieces(bytes: &[u8], size: usize) -> impl Stream<Item = Result<Bytes, Infallible>> + use<> {
    stream::iter(bytes.chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect::<Vec<_>>())
}

async fn scan(client: &Clamd, bytes: &[u8]) -> Result<Verdict, ClamdError> {
    client.scan(pieces(bytes, 100_000), bytes.len() as u64, PATIENCE).await
}

fn over_tcp(address: std::net::SocketAddr) -> Clamd {
    Clamd::new(Address::Tcp(address.to_string()), u64::MAX)
}

#[tokio::test]
async fn the_daemon_tells_harmful_bytes_from_others_over_either_socket() {
    let daemon = scanner::Clamd::start().await;
    for client in [Clamd::new(Address::Unix(daemon.socket()), u64::MAX), over_tcp(daemon.address())] {
        assert!(client.version().await.expect("it answers").program.starts_with("ClamAV "));
        let padding = vec![b'.'; 300_000];
        for harmless in [&b"hello"[..], b"", &padding] {
            assert_eq!(scan(&client, harmless).await.expect("judged"), Verdict::Clean);
        }
        let harmful = [&padding[..], HARMFUL, &padding].concat();
        assert_eq!(scan(&client, &harmful).await.expect("judged"), Verdict::Found(SIGNATURE.to_owned()));
        // However it is cut.
        for size in [1, 7, HARMFUL.len() - 1] {
            let judged = client.scan(pieces(HARMFUL, size), HARMFUL.len() as u64, PATIENCE).await;
            assert_eq!(judged.expect("judged"), Verdict::Found(SIGNATURE.to_owned()), "{size}");
        }
    }
}

#[tokio::test]
async fn more_than_the_daemon_takes_is_told_apart_from_a_failure() {
    let daemon = scanner::Clamd::start().await;
    let large = vec![0; 3 * STREAM_BYTES_MAX];
    for client in [Clamd::new(Address::Unix(daemon.socket()), u64::MAX), over_tcp(daemon.address())] {
        assert!(matches!(scan(&client, &large).await, Err(ClamdError::TooLarge)));
        // It is as good as ever.
        assert_eq!(scan(&client, b"small").await.expect("judged"), Verdict::Clean);
    }
    // What is known beforehand is not sent at all.
    let stub = ScannerStub::start(Says::This("stream: OK")).await;
    let client = Clamd::new(Address::Tcp(stub.address().to_string()), 10);
    assert!(matches!(scan(&client, b"eleven byte").await, Err(ClamdError::TooLarge)));
    assert_eq!(stub.asked(), 0);
    assert_eq!(scan(&client, b"ten bytes.").await.expect("judged"), Verdict::Clean);
}

#[tokio::test]
async fn whatever_is_no_verdict_is_an_error() {
    let bytes = vec![b'.'; 2_000_000];
    for (says, expected) in [
        (Says::This("what?"), "no answer"),
        (Says::This("stream: FOUND"), "no answer"),
        (Says::This("stream: OK\nstream: X FOUND"), "no answer"),
        (Says::AtOnce("stream: Can't write to temporary file ERROR"), "the scanner has failed"),
        (Says::Leaves(0), "without an answer"),
        (Says::Leaves(100_000), "without an answer"),
        (Says::Endless, "no answer"),
    ] {
        let stub = ScannerStub::start(says).await;
        let error = scan(&over_tcp(stub.address()), &bytes).await.expect_err("no verdict");
        assert!(error.to_string().contains(expected), "{says:?}: {error:?}");
        assert_eq!(stub.asked(), 1);
    }
}

#[tokio::test]
async fn nobody_waits_longer_than_the_limit() {
    let stub = ScannerStub::start(Says::Nothing).await;
    let (client, limit, started) = (over_tcp(stub.address()), Duration::from_millis(300), Instant::now());
    let error = client.scan(pieces(b"hello", 5), 5, limit).await.expect_err("it says nothing");
    assert!(matches!(error, ClamdError::TimedOut { .. }), "{error:?}");
    // Bytes that do not come are waited for no longer either.
    let never = stream::pending::<Result<Bytes, Infallible>>();
    let error = client.scan(never, 5, limit).await.expect_err("they do not come");
    assert!(matches!(error, ClamdError::TimedOut { .. }), "{error:?}");
    assert!(started.elapsed() >= 2 * limit);
}

#[tokio::test]
async fn a_daemon_that_is_not_there_cannot_be_reached() {
    let nobody = Port::keep().expect("a port is free");
    for address in [Address::Unix("/nowhere/at/all".into()), Address::Tcp(nobody.address.to_string())] {
        let client = Clamd::new(address, u64::MAX);
        assert!(matches!(scan(&client, b"hello").await, Err(ClamdError::Unreachable(_))));
        assert!(matches!(client.version().await, Err(ClamdError::Unreachable(_))));
    }
}

#[tokio::test]
async fn bytes_that_end_early_are_not_judged() {
    let daemon = scanner::Clamd::start().await;
    let client = Clamd::new(Address::Unix(daemon.socket()), u64::MAX);
    let cut = stream::iter([Ok(Bytes::from_static(b"half")), Err(std::io::Error::other("the store is gone"))]);
    assert!(matches!(client.scan(cut, 8, PATIENCE).await, Err(ClamdError::Input(_))));
}
