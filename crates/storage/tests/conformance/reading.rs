//! Whole objects: bytes, metadata, conditions, limits.

use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use storage::{ByteRange, GetOptions, PutOptions, StorageError, Validators};

use crate::stores::{Place, get, noise, path, put, read};

for_each_store! {
    what_is_missing_is_not_found
    bytes_come_back_whole
    meta_tells_the_same_everywhere
    a_known_object_is_not_sent_again
    an_old_time_alone_is_enough_to_know
    collect_refuses_over_the_limit
    a_body_may_be_dropped_midway
}

async fn what_is_missing_is_not_found(place: Place) {
    put(&place.store, "there/x", "x").await;
    for name in ["missing", "there/missing", "missing/x", "there/x/below"] {
        assert!(matches!(get(&place.store, name).await, Err(StorageError::NotFound)), "{name}");
        assert!(matches!(place.store.head(&path(name)).await, Err(StorageError::NotFound)), "{name}");
    }
}

async fn bytes_come_back_whole(place: Place) {
    const MIB: usize = 1024 * 1024;
    for len in [0, 1, 4096, MIB, MIB + 1, 3 * MIB + 7] {
        let bytes = noise(len);
        put(&place.store, "object", bytes.clone()).await;
        assert_eq!(read(&place.store, "object").await, bytes, "{len} bytes collected");

        let mut body = get(&place.store, "object").await.unwrap().body;
        assert_eq!(body.len(), len as u64);
        let mut streamed = BytesMut::new();
        while let Some(chunk) = body.next().await {
            let chunk = chunk.unwrap();
            assert!(!chunk.is_empty(), "an empty chunk in {len} bytes");
            streamed.extend_from_slice(&chunk);
        }
        assert_eq!(streamed, bytes, "{len} bytes streamed");
        assert!(body.next().await.is_none(), "the end stays the end");
    }
}

async fn meta_tells_the_same_everywhere(place: Place) {
    let before = SystemTime::now() - Duration::from_secs(2);
    let stored = place.store.put(&path("object"), "0123456789".into(), PutOptions::default()).await.unwrap();
    assert_eq!(stored.size, 10);
    let head = place.store.head(&path("object")).await.unwrap();
    assert_eq!(head, get(&place.store, "object").await.unwrap().meta);
    assert_eq!(head.size, 10);
    assert_eq!(head.etag, stored.etag);
    let etag = head.etag.unwrap();
    let opaque = etag.strip_prefix("W/").unwrap_or(&etag);
    assert!(opaque.len() > 2 && opaque.starts_with('"') && opaque.ends_with('"'), "{etag}");
    let modified = head.last_modified.unwrap();
    assert!(before < modified && modified < SystemTime::now() + Duration::from_secs(2));
}

async fn a_known_object_is_not_sent_again(place: Place) {
    put(&place.store, "object", "first").await;
    let known = get(&place.store, "object").await.unwrap().meta.validators();
    let ask = |range| GetOptions { range, if_changed: Some(known.clone()) };
    let impossible = Some(ByteRange::From(1000));
    for range in [None, Some(ByteRange::From(1)), impossible, Some(ByteRange::Last(0))] {
        let answer = place.store.get(&path("object"), ask(range)).await;
        assert!(matches!(answer, Err(StorageError::NotModified)), "{range:?}: {answer:?}");
    }
    put(&place.store, "object", "other").await;
    let object = place.store.get(&path("object"), ask(None)).await.unwrap();
    assert_ne!(object.meta.etag, known.etag);
    assert_eq!(object.body.collect(5).await.unwrap(), "other");
    let answer = place.store.get(&path("object"), ask(impossible)).await;
    assert!(matches!(answer, Err(StorageError::RangeNotSatisfiable { size: 5 })), "{answer:?}");
}

async fn an_old_time_alone_is_enough_to_know(place: Place) {
    put(&place.store, "object", "bytes").await;
    let modified = place.store.head(&path("object")).await.unwrap().last_modified.unwrap();
    let ask = |time| GetOptions {
        if_changed: Some(Validators { etag: None, last_modified: Some(time) }),
        ..GetOptions::default()
    };
    let answer = place.store.get(&path("object"), ask(modified)).await;
    assert!(matches!(answer, Err(StorageError::NotModified)), "{answer:?}");
    let object = place.store.get(&path("object"), ask(modified - Duration::from_secs(1))).await.unwrap();
    assert_eq!(object.body.collect(5).await.unwrap(), "bytes");
}

async fn collect_refuses_over_the_limit(place: Place) {
    for len in [10_usize, 2 * 1024 * 1024] {
        put(&place.store, "object", noise(len)).await;
        let len = len as u64;
        assert_eq!(get(&place.store, "object").await.unwrap().body.collect(len).await.unwrap().len() as u64, len);
        let refused = get(&place.store, "object").await.unwrap().body.collect(len - 1).await;
        assert!(matches!(refused, Err(StorageError::TooLarge { limit }) if limit == len - 1), "{refused:?}");
    }
    put(&place.store, "object", Bytes::new()).await;
    assert!(get(&place.store, "object").await.unwrap().body.collect(0).await.unwrap().is_empty());
}

async fn a_body_may_be_dropped_midway(place: Place) {
    let bytes = noise(4 * 1024 * 1024);
    put(&place.store, "object", bytes.clone()).await;
    let mut body = get(&place.store, "object").await.unwrap().body;
    let first = body.next().await.unwrap().unwrap();
    assert_eq!(first, bytes[..first.len()]);
    drop(body);
    // What was begun as a stream can be gathered to its end.
    let mut body = get(&place.store, "object").await.unwrap().body;
    let first = body.next().await.unwrap().unwrap();
    let rest = body.collect(bytes.len() as u64).await.unwrap();
    assert_eq!(rest, bytes[first.len()..]);
}
