//! Uploads and copies in parts: whole, failed, dropped.

use std::io;

use futures_util::{StreamExt, stream};
use http::StatusCode;
use storage::{ObjectStore, PartSize, PutOptions, S3Config, S3Limits, S3Store, StorageError};
use testkit::faulty::{Fault, FaultyRelay};

use crate::stores::{Place, config, get, noise, path, put, read, s3};

const PART: usize = 5 * 1024 * 1024;

struct Uploads {
    place: Place,
    relay: FaultyRelay,
    store: ObjectStore,
}

async fn uploads() -> Uploads {
    let place = s3().await;
    let relay = FaultyRelay::start(place.server_address()).await.unwrap();
    let limits = S3Limits { part_size: PartSize::MIN, copy_size: PartSize::MIN, attempts: 1, ..S3Limits::default() };
    let store = S3Store::new(S3Config { limits, ..config(&relay.url()) }).unwrap().into();
    Uploads { place, relay, store }
}

#[tokio::test]
async fn parts_join_in_order() {
    let uploads = uploads().await;
    let bytes = noise(6 * PART + 12_345);
    let chunks: Vec<_> = bytes.chunks(300_000).map(|chunk| Ok::<_, io::Error>(chunk.to_vec().into())).collect();
    let options = PutOptions { content_type: Some("video/mp4".to_owned()), ..PutOptions::default() };
    let limit = bytes.len() as u64;
    let stored = uploads.store.put_stream(&path("a/film"), stream::iter(chunks), limit, options).await.unwrap();
    // Begin, seven parts, complete.
    assert_eq!(uploads.relay.requests(), 9);
    assert_eq!(stored.size, limit);
    assert!(stored.etag.as_deref().unwrap().contains("-7"), "{stored:?} was not made of parts");
    assert!(read(&uploads.place.store, "a/film").await == bytes);
    let meta = uploads.place.store.head(&path("a/film")).await.unwrap();
    assert_eq!((meta.content_type.as_deref(), meta.etag), (Some("video/mp4"), stored.etag));
    assert_eq!(uploads.place.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn a_short_stream_is_one_request() {
    let uploads = uploads().await;
    let body = stream::iter([Ok::<_, io::Error>(noise(PART - 1))]);
    uploads.store.put_stream(&path("short"), body, u64::MAX, PutOptions::default()).await.unwrap();
    assert_eq!(uploads.relay.requests(), 1);
    assert!(read(&uploads.place.store, "short").await == noise(PART - 1));
}

#[tokio::test]
async fn a_part_that_fails_fails_the_upload_and_aborts_it() {
    let uploads = uploads().await;
    put(&uploads.store, "film", "old").await;
    // The fault comes with the third part; the abort that follows gets through again.
    let relay = &uploads.relay;
    let body = stream::iter(0..5).then(|part| async move {
        if part == 3 {
            // Begun (after the put above), and two parts on the wire.
            relay.wait_for_requests(4).await.unwrap();
            relay.set_for(1, Fault::Answer(StatusCode::INTERNAL_SERVER_ERROR));
        }
        Ok::<_, io::Error>(noise(PART))
    });
    let answer = uploads.store.put_stream(&path("film"), body.boxed(), u64::MAX, PutOptions::default()).await;
    assert!(matches!(answer, Err(StorageError::Unavailable { .. })), "{answer:?}");
    uploads.place.wait_for_leftovers(0).await;
    assert_eq!(read(&uploads.place.store, "film").await, "old");
}

#[tokio::test]
async fn an_upload_that_is_dropped_is_aborted() {
    let uploads = uploads().await;
    let endless = stream::iter(0..).then(|part| async move {
        if part < 2 { Ok::<_, io::Error>(noise(PART)) } else { std::future::pending().await }
    });
    {
        let target = path("film");
        let upload = uploads.store.put_stream(&target, endless.boxed(), u64::MAX, PutOptions::default());
        tokio::select! {
            ended = upload => panic!("{ended:?}"),
            // The record of the upload and its two parts.
            () = uploads.place.wait_for_leftovers(3) => {}
        }
    }
    uploads.place.wait_for_leftovers(0).await;
    assert!(matches!(get(&uploads.place.store, "film").await, Err(StorageError::NotFound)));
}

#[tokio::test]
async fn what_is_large_is_copied_in_parts() {
    let uploads = uploads().await;
    for (len, requests) in [(PART, 2), (PART + 1, 5), (6 * PART + 12_345, 10)] {
        let bytes = noise(len);
        put(&uploads.place.store, "film", bytes.clone()).await;
        let before = uploads.relay.requests();
        let stored = uploads.store.copy(&path("film"), &path("copy")).await.unwrap();
        // A look, and the copy; or a look, begin, the parts, complete.
        assert_eq!((uploads.relay.requests() - before, stored.size), (requests, len as u64));
        assert!(read(&uploads.place.store, "copy").await == bytes, "{len} bytes");
    }
    assert_eq!(uploads.place.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn a_copy_in_parts_that_fails_is_aborted() {
    let uploads = uploads().await;
    put(&uploads.place.store, "film", noise(3 * PART)).await;
    put(&uploads.place.store, "copy", "old").await;
    let (from, to) = (path("film"), path("copy"));
    let break_it = async {
        // A look, and begun: what fails is a part, or at the latest the end.
        uploads.relay.wait_for_requests(2).await.unwrap();
        uploads.relay.set_for(1, Fault::Answer(StatusCode::INTERNAL_SERVER_ERROR));
    };
    let (answer, ()) = tokio::join!(uploads.store.copy(&from, &to), break_it);
    assert!(matches!(answer, Err(StorageError::Unavailable { .. })), "{answer:?}");
    uploads.place.wait_for_leftovers(0).await;
    assert_eq!(read(&uploads.place.store, "copy").await, "old");
}
