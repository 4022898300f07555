//! Ranges, where they start, end and miss.

use storage::{ByteRange, GetOptions, ObjectStore, StorageError};

use crate::stores::{Place, noise, path, put};

for_each_store! {
    ranges_of_a_small_object
    ranges_of_an_empty_object
    ranges_of_a_large_object
    a_range_of_nothing_is_not_found
}

/// Expects these bytes, first and last included; `None` = not satisfiable.
async fn check(store: &ObjectStore, content: &[u8], range: ByteRange, expected: Option<(u64, u64)>) {
    let options = GetOptions { range: Some(range), ..GetOptions::default() };
    let answer = store.get(&path("object"), options).await;
    let size = content.len() as u64;
    let Some((first, last)) = expected else {
        let refused = matches!(answer, Err(StorageError::RangeNotSatisfiable { size: told }) if told == size);
        assert!(refused, "{range:?} of {size} bytes: {answer:?}");
        return;
    };
    let object = answer.unwrap_or_else(|error| panic!("{range:?} of {size} bytes: {error:?}"));
    assert_eq!(object.range.map(|range| (range.first, range.last)), Some((first, last)), "{range:?} of {size} bytes");
    assert_eq!(object.meta.size, size, "{range:?}");
    assert_eq!(object.body.len(), last - first + 1, "{range:?}");
    let body = object.body.collect(size).await.unwrap();
    assert!(body == content[usize::try_from(first).unwrap()..=usize::try_from(last).unwrap()], "{range:?} of {size}");
}

async fn ranges_of_a_small_object(place: Place) {
    let content = b"0123456789";
    put(&place.store, "object", content.as_slice()).await;
    for (range, expected) in [
        (ByteRange::From(0), Some((0, 9))),
        (ByteRange::From(9), Some((9, 9))),
        (ByteRange::From(10), None),
        (ByteRange::From(u64::MAX), None),
        (ByteRange::Span(0, 0), Some((0, 0))),
        (ByteRange::Span(2, 5), Some((2, 5))),
        (ByteRange::Span(9, 9), Some((9, 9))),
        (ByteRange::Span(8, 100), Some((8, 9))),
        (ByteRange::Span(10, 12), None),
        (ByteRange::Span(5, 4), None),
        (ByteRange::Last(0), None),
        (ByteRange::Last(1), Some((9, 9))),
        (ByteRange::Last(10), Some((0, 9))),
        (ByteRange::Last(11), Some((0, 9))),
    ] {
        check(&place.store, content, range, expected).await;
    }
}

async fn ranges_of_an_empty_object(place: Place) {
    put(&place.store, "object", "").await;
    for range in [ByteRange::From(0), ByteRange::Span(0, 0), ByteRange::Last(1), ByteRange::Last(0)] {
        check(&place.store, b"", range, None).await;
    }
}

async fn ranges_of_a_large_object(place: Place) {
    const MIB: u64 = 1024 * 1024;
    let content = noise(3 * 1024 * 1024 + 5);
    put(&place.store, "object", content.clone()).await;
    let end = content.len() as u64 - 1;
    for (range, expected) in [
        (ByteRange::From(1), (1, end)),
        (ByteRange::Span(MIB - 1, MIB), (MIB - 1, MIB)),
        (ByteRange::Span(5, 2 * MIB + 4), (5, 2 * MIB + 4)),
        (ByteRange::Last(2 * MIB), (end + 1 - 2 * MIB, end)),
    ] {
        check(&place.store, &content, range, Some(expected)).await;
    }
}

async fn a_range_of_nothing_is_not_found(place: Place) {
    for range in [ByteRange::From(0), ByteRange::Last(0)] {
        let options = GetOptions { range: Some(range), ..GetOptions::default() };
        let answer = place.store.get(&path("missing"), options).await;
        assert!(matches!(answer, Err(StorageError::NotFound)), "{range:?}: {answer:?}");
    }
}
