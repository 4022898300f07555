//! A server or a network that is down, slow, denying, cutting off or shaky.

use std::time::Duration;

use futures_util::StreamExt;
use http::StatusCode;
use storage::{ListLimit, ObjectPrefix, ObjectStore, PutOptions, S3Config, S3Limits, S3Store, StorageError};
use testkit::faulty::{Fault, FaultyRelay};

use crate::stores::{BUCKET, Place, config, get, noise, path, put, read, s3};

const ATTEMPTS: u32 = 3;

struct Shaky {
    place: Place,
    relay: FaultyRelay,
    /// Reaches the server through the relay.
    store: ObjectStore,
}

/// A store with one object of `len` bytes behind a relay. The read timeout is short only where a test waits for it.
async fn shaky(len: usize, read_timeout: Duration) -> Shaky {
    let place = s3().await;
    put(&place.store, "object", noise(len)).await;
    let relay = FaultyRelay::start(place.server_address()).await.unwrap();
    let limits = S3Limits { read_timeout, attempts: ATTEMPTS, ..S3Limits::default() };
    let config = S3Config { limits, ..config(&relay.url()) };
    Shaky { place, relay, store: S3Store::new(config).unwrap().into() }
}

const PATIENT: Duration = Duration::from_secs(60);
const IMPATIENT: Duration = Duration::from_millis(200);

#[tokio::test]
async fn a_relay_alone_changes_nothing() {
    let shaky = shaky(100_000, PATIENT).await;
    assert_eq!(read(&shaky.store, "object").await, noise(100_000));
    put(&shaky.store, "a+b ü%2F?", "x").await;
    assert_eq!(read(&shaky.place.store, "a+b ü%2F?").await, "x");
    assert_eq!(shaky.relay.requests_for(&format!("/{BUCKET}/object")), 1);
}

#[tokio::test]
async fn down_is_unavailable_until_it_is_up() {
    let shaky = shaky(10, PATIENT).await;
    read(&shaky.store, "object").await;
    shaky.relay.take_down().await;
    for _ in 0..2 {
        let error = get(&shaky.store, "object").await.unwrap_err();
        assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}");
        assert!(error.is_retryable());
    }
    let put = shaky.store.put(&path("other"), "x".into(), PutOptions::default()).await;
    assert!(matches!(put, Err(StorageError::Unavailable { .. })), "{put:?}");
    shaky.relay.bring_up().await;
    assert_eq!(read(&shaky.store, "object").await, noise(10));
}

#[tokio::test]
async fn an_answer_that_does_not_come_times_out() {
    let shaky = shaky(10, IMPATIENT).await;
    shaky.relay.set(Fault::StallBeforeHead);
    let error = get(&shaky.store, "object").await.unwrap_err();
    assert!(matches!(error, StorageError::TimedOut { limit: IMPATIENT, .. }), "{error:?}");
    assert!(error.is_retryable());
    assert_eq!(shaky.relay.requests(), u64::from(ATTEMPTS));
}

#[tokio::test]
async fn a_body_that_stalls_times_out() {
    let shaky = shaky(1_000_000, IMPATIENT).await;
    shaky.relay.set(Fault::StallInBody { after_bytes: 1000 });
    let mut body = get(&shaky.store, "object").await.unwrap().body;
    assert_eq!(body.len(), 1_000_000);
    let mut got = 0;
    let error = loop {
        match body.next().await.unwrap() {
            Ok(chunk) => got += chunk.len(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StorageError::TimedOut { limit: IMPATIENT, source: None }), "{error:?}");
    assert_eq!(got, 1000);
    assert!(body.next().await.is_none());
    assert_eq!(shaky.relay.requests(), 1, "a body that has begun is not asked for again");
}

#[tokio::test]
async fn a_stalled_body_that_goes_on_in_time_is_whole() {
    let shaky = shaky(1_000_000, PATIENT).await;
    shaky.relay.set(Fault::StallInBody { after_bytes: 1000 });
    let body = get(&shaky.store, "object").await.unwrap().body;
    shaky.relay.heal();
    assert!(body.collect(1_000_000).await.unwrap() == noise(1_000_000));
}

#[tokio::test]
async fn a_reader_that_takes_its_time_is_not_timed_out() {
    // Larger than what sockets buffer, so that the connection is idle while the reader is.
    let shaky = shaky(20 * 1024 * 1024, IMPATIENT).await;
    let mut body = get(&shaky.store, "object").await.unwrap().body;
    let first = body.next().await.unwrap().unwrap();
    tokio::time::sleep(3 * IMPATIENT).await;
    let rest = body.collect(u64::MAX).await.unwrap();
    assert_eq!(first.len() + rest.len(), 20 * 1024 * 1024);
}

#[tokio::test]
async fn a_body_cut_short_is_truncated() {
    let shaky = shaky(1_000_000, PATIENT).await;
    for after_bytes in [0, 1, 999_999] {
        shaky.relay.set(Fault::Truncate { after_bytes });
        let object = get(&shaky.store, "object").await.unwrap();
        assert_eq!(object.meta.size, 1_000_000);
        let error = object.body.collect(u64::MAX).await.unwrap_err();
        match &error {
            StorageError::Truncated { expected: 1_000_000, got, source: Some(_) } => assert_eq!(*got, after_bytes),
            other => panic!("after {after_bytes}: {other:?}"),
        }
        assert!(error.is_retryable());
    }
}

#[tokio::test]
async fn refusals_are_final_at_once() {
    let shaky = shaky(10, PATIENT).await;
    let is_denied = |error: &StorageError| matches!(error, StorageError::AccessDenied { .. });
    let is_absent = |error: &StorageError| matches!(error, StorageError::NotFound);
    let is_refused = |error: &StorageError| matches!(error, StorageError::CredentialsRefused { .. });
    let is_rejected = |error: &StorageError| matches!(error, StorageError::Rejected { .. });
    let mut requests = 0;
    for (status, is_right) in [
        (StatusCode::FORBIDDEN, &is_denied as &dyn Fn(&StorageError) -> bool),
        (StatusCode::NOT_FOUND, &is_absent),
        (StatusCode::UNAUTHORIZED, &is_refused),
        (StatusCode::BAD_REQUEST, &is_rejected),
        (StatusCode::MOVED_PERMANENTLY, &is_rejected),
    ] {
        shaky.relay.set(Fault::Answer(status));
        let error = get(&shaky.store, "object").await.unwrap_err();
        assert!(is_right(&error) && !error.is_retryable(), "GET {status}: {error:?}");
        let error = shaky.store.head(&path("object")).await.unwrap_err();
        assert!(is_right(&error) && !error.is_retryable(), "HEAD {status}: {error:?}");
        requests += 2;
        assert_eq!(shaky.relay.requests(), requests, "{status} is not tried again");
    }
}

#[tokio::test]
async fn failures_of_the_server_are_tried_again_a_few_times() {
    let shaky = shaky(10, PATIENT).await;
    let mut requests = 0;
    for status in [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE] {
        shaky.relay.set(Fault::Answer(status));
        let outcomes = [
            get(&shaky.store, "object").await.map(drop),
            shaky.store.put(&path("other"), "x".into(), PutOptions::default()).await.map(drop),
            shaky.store.list(&ObjectPrefix::all(), None, ListLimit::MAX).await.map(drop),
        ];
        for outcome in outcomes {
            let error = outcome.unwrap_err();
            assert!(matches!(error, StorageError::Unavailable { .. }) && error.is_retryable(), "{status}: {error:?}");
            requests += u64::from(ATTEMPTS);
        }
        assert_eq!(shaky.relay.requests(), requests, "{status}");
    }
}

#[tokio::test]
async fn what_flaps_is_served() {
    let shaky = shaky(10, PATIENT).await;
    for fault in [Fault::Answer(StatusCode::SERVICE_UNAVAILABLE), Fault::Reset] {
        let before = shaky.relay.requests();
        shaky.relay.set_for(u64::from(ATTEMPTS) - 1, fault);
        assert_eq!(read(&shaky.store, "object").await, noise(10), "{fault:?}");
        assert_eq!(shaky.relay.requests() - before, u64::from(ATTEMPTS), "{fault:?}");
    }
}

#[tokio::test]
async fn a_connection_that_is_always_reset_is_unavailable() {
    let shaky = shaky(10, PATIENT).await;
    shaky.relay.set(Fault::Reset);
    let error = get(&shaky.store, "object").await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn slow_but_within_the_limit_is_fine() {
    let shaky = shaky(10, PATIENT).await;
    shaky.relay.set_latency(Duration::from_millis(100));
    let started = std::time::Instant::now();
    assert_eq!(read(&shaky.store, "object").await, noise(10));
    assert!(started.elapsed() >= Duration::from_millis(100));
}
