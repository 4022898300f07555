//! Cache keys keep their parts apart.

use std::collections::HashSet;

use cache::{CacheKey, KeyBuilder};

fn key(parts: &[&[u8]]) -> CacheKey {
    parts.iter().fold(KeyBuilder::new(), |builder, part| builder.part(part)).finish()
}

#[test]
fn equal_parts_make_equal_keys() {
    assert_eq!(key(&[b"demo", b"w=400"]), key(&[b"demo", b"w=400"]));
}

#[test]
fn part_boundaries_order_and_kinds_matter() {
    let number = KeyBuilder::new().number(u64::from_le_bytes(*b"abcdefgh")).finish();
    let keys = [
        key(&[]),
        key(&[b""]),
        key(&[b"", b""]),
        key(&[b"abcdefgh"]),
        key(&[b"abcdefgh", b""]),
        key(&[b"", b"abcdefgh"]),
        key(&[b"abcd", b"efgh"]),
        key(&[b"efgh", b"abcd"]),
        key(&[b"a", b"bcdefgh"]),
        key(&[b"abcdefgh\0"]),
        number,
    ];
    let distinct: HashSet<CacheKey> = keys.into_iter().collect();
    assert_eq!(distinct.len(), keys.len(), "{keys:?}");
}

#[test]
fn a_part_cannot_imitate_the_framing_of_another() {
    // A part that holds what the framing of a second part would look like.
    let framed = [&b"a"[..], &[0], &1u64.to_le_bytes()[..], b"b"].concat();
    assert_ne!(key(&[&framed]), key(&[b"a", b"b"]));
}

#[test]
fn keys_stay_the_same_from_run_to_run() {
    // A change here empties every cache at an upgrade. Only a new entry format may do that.
    assert_eq!(key(&[b"demo"]).to_string(), "af312a0a9e4294e38d682c7f6d4af09d");
}
