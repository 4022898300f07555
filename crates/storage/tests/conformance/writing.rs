//! Writing: all or nothing, streams of any length, deleting.

use std::io;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use storage::{PutOptions, StorageError};

use crate::stores::{Place, get, noise, path, put, read};

for_each_store! {
    put_replaces
    delete_is_idempotent
    a_folder_is_no_object
    streams_of_any_length_are_stored
    a_stream_over_the_limit_stores_nothing
    a_stream_that_fails_stores_nothing
    readers_see_one_whole_version
    a_copy_is_an_object_of_its_own
    what_is_not_there_is_not_copied
}

const MIB: usize = 1024 * 1024;

async fn put_stream(place: &Place, bytes: &Bytes, chunk: usize, limit_bytes: u64) -> Result<(), StorageError> {
    let chunks: Vec<_> =
        (0..bytes.len()).step_by(chunk).map(|at| bytes.slice(at..bytes.len().min(at + chunk))).collect();
    let body = stream::iter(chunks.into_iter().map(Ok::<_, io::Error>));
    let stored = place.store.put_stream(&path("streamed"), body, limit_bytes, PutOptions::default()).await?;
    assert_eq!(stored.size, bytes.len() as u64);
    assert_eq!(stored.etag, place.store.head(&path("streamed")).await?.etag);
    Ok(())
}

async fn put_replaces(place: Place) {
    put(&place.store, "deep/in/object", "a longer first version").await;
    put(&place.store, "deep/in/object", "second").await;
    assert_eq!(read(&place.store, "deep/in/object").await, "second");
}

async fn delete_is_idempotent(place: Place) {
    put(&place.store, "a/object", "x").await;
    put(&place.store, "a/other", "y").await;
    for _ in 0..2 {
        place.store.delete(&path("a/object")).await.unwrap();
        assert!(matches!(get(&place.store, "a/object").await, Err(StorageError::NotFound)));
    }
    place.store.delete(&path("never/was")).await.unwrap();
    assert_eq!(read(&place.store, "a/other").await, "y");
}

async fn a_folder_is_no_object(place: Place) {
    put(&place.store, "a/b", "x").await;
    assert!(matches!(get(&place.store, "a").await, Err(StorageError::NotFound)));
    assert!(matches!(place.store.head(&path("a")).await, Err(StorageError::NotFound)));
    place.store.delete(&path("a")).await.unwrap();
    assert_eq!(read(&place.store, "a/b").await, "x");
}

async fn streams_of_any_length_are_stored(place: Place) {
    // The default part has 8 MiB: below, exactly one, between, and more than two with an odd end.
    for (len, chunk) in [
        (0, 1),
        (1, 1),
        (100_000, 777),
        (8 * MIB, MIB),
        (8 * MIB + 1, 3 * MIB),
        (17 * MIB + 3, 17 * MIB + 3),
        (25 * MIB + 11, 65_536),
    ] {
        let bytes = noise(len);
        put_stream(&place, &bytes, chunk, len as u64).await.unwrap();
        assert!(read(&place.store, "streamed").await == bytes, "{len} bytes in chunks of {chunk}");
    }
    assert_eq!(place.leftovers(), Vec::<std::path::PathBuf>::new());
}

async fn a_stream_over_the_limit_stores_nothing(place: Place) {
    put(&place.store, "streamed", "old").await;
    for len in [10, 9 * MIB, 20 * MIB] {
        let limit = len as u64 - 1;
        let refused = put_stream(&place, &noise(len), 64 * 1024, limit).await;
        assert!(matches!(refused, Err(StorageError::TooLarge { limit: told }) if told == limit), "{len}: {refused:?}");
        assert_eq!(read(&place.store, "streamed").await, "old", "{len}");
    }
    assert_eq!(place.leftovers(), Vec::<std::path::PathBuf>::new());
}

async fn a_stream_that_fails_stores_nothing(place: Place) {
    put(&place.store, "streamed", "old").await;
    for len in [0, 10, 9 * MIB, 20 * MIB] {
        let broken = stream::iter([Ok(noise(len)), Err(io::Error::other("the client left"))]);
        let refused = place.store.put_stream(&path("streamed"), broken.boxed(), u64::MAX, PutOptions::default()).await;
        match refused {
            Err(StorageError::Input { source }) => assert_eq!(source.to_string(), "the client left"),
            other => panic!("{len}: {other:?}"),
        }
        assert_eq!(read(&place.store, "streamed").await, "old", "{len}");
    }
    assert_eq!(place.leftovers(), Vec::<std::path::PathBuf>::new());
}

async fn readers_see_one_whole_version(place: Place) {
    let versions = [Bytes::from(vec![b'a'; 3 * MIB]), Bytes::from(vec![b'b'; 2 * MIB])];
    put(&place.store, "object", versions[0].clone()).await;
    let writer = async {
        for round in 0..10 {
            put(&place.store, "object", versions[(round + 1) % 2].clone()).await;
        }
    };
    let reader = async {
        for _ in 0..20 {
            let body = read(&place.store, "object").await;
            assert!(versions.contains(&body), "a mixture of {} bytes", body.len());
        }
    };
    tokio::join!(writer, reader);
}

async fn a_copy_is_an_object_of_its_own(place: Place) {
    for len in [0, 1, 9 * MIB] {
        let bytes = noise(len);
        put(&place.store, "from/ä b+c%20", bytes.clone()).await;
        let stored = place.store.copy(&path("from/ä b+c%20"), &path("to/deep/é")).await.unwrap();
        assert_eq!(stored.size, len as u64);
        assert_eq!(stored.etag, place.store.head(&path("to/deep/é")).await.unwrap().etag);
        put(&place.store, "from/ä b+c%20", "others").await;
        assert!(read(&place.store, "to/deep/é").await == bytes, "{len} bytes");
        place.store.delete(&path("from/ä b+c%20")).await.unwrap();
        assert!(read(&place.store, "to/deep/é").await == bytes, "{len} bytes");
    }
    assert_eq!(place.leftovers(), Vec::<std::path::PathBuf>::new());
}

async fn what_is_not_there_is_not_copied(place: Place) {
    put(&place.store, "a/b", "x").await;
    put(&place.store, "to", "old").await;
    for missing in ["c", "a", "a/c"] {
        let refused = place.store.copy(&path(missing), &path("to")).await;
        assert!(matches!(refused, Err(StorageError::NotFound)), "{missing}: {refused:?}");
    }
    assert_eq!(read(&place.store, "to").await, "old");
    assert_eq!(place.leftovers(), Vec::<std::path::PathBuf>::new());
}
