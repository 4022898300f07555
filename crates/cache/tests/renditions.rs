//! Limits, entity tags and lifetimes of renditions.

mod support;

use std::time::Duration;

use cache::{
    CLOCK_STEP_MAX, CONTENT_TYPE_BYTES_MAX, ETag, Freshness, Lifetime, Rendition, RenditionError, RenditionParts,
    Renewal, SOURCE_ETAG_BYTES_MAX, SourceValidators, TAGS_MAX, UnixMillis,
};
use support::{parts, rendition};

fn check(change: impl FnOnce(&mut RenditionParts), expected: Result<(), RenditionError>) {
    let mut parts = parts(1, 10);
    change(&mut parts);
    assert_eq!(Rendition::new(parts).map(|_| ()), expected);
}

fn with_source_etag(bytes: usize) -> SourceValidators {
    SourceValidators { etag: Some("e".repeat(bytes).into()), last_modified: None }
}

#[test]
fn every_part_has_a_limit() {
    check(|_| (), Ok(()));
    check(|parts| parts.status = 100, Ok(()));
    check(|parts| parts.status = 599, Ok(()));
    check(|parts| parts.status = 99, Err(RenditionError::Status { status: 99 }));
    check(|parts| parts.status = 600, Err(RenditionError::Status { status: 600 }));
    let longest = CONTENT_TYPE_BYTES_MAX;
    check(|parts| parts.content_type = "t".repeat(longest).into(), Ok(()));
    check(
        |parts| parts.content_type = "t".repeat(longest + 1).into(),
        Err(RenditionError::ContentTypeTooLong { bytes: longest + 1 }),
    );
    check(
        |parts| parts.content_type = "image/png\r\nset-cookie: a=b".into(),
        Err(RenditionError::ContentTypeCharacters),
    );
    check(|parts| parts.content_type = "image/pñg".into(), Err(RenditionError::ContentTypeCharacters));
    check(|parts| parts.validators = with_source_etag(SOURCE_ETAG_BYTES_MAX), Ok(()));
    check(
        |parts| parts.validators = with_source_etag(SOURCE_ETAG_BYTES_MAX + 1),
        Err(RenditionError::SourceEtagTooLong { bytes: SOURCE_ETAG_BYTES_MAX + 1 }),
    );
    check(|parts| parts.tags = vec![7; TAGS_MAX].into(), Ok(()));
    check(|parts| parts.tags = vec![7; TAGS_MAX + 1].into(), Err(RenditionError::TooManyTags { tags: TAGS_MAX + 1 }));
}

#[test]
fn the_entity_tag_is_half_a_sha256_as_header_text() {
    // SHA-256 of "abc" from FIPS 180-4's examples starts ba7816bf 8f01cfea 414140de 5dae2223.
    assert_eq!(ETag::of(b"abc").as_str(), "\"ba7816bf8f01cfea414140de5dae2223\"");
    assert_eq!(ETag::of(b"abc").as_bytes(), ETag::of(b"abc").to_string().as_bytes());
    assert_eq!(*rendition(3, 1000).etag(), ETag::of(&support::body(3, 1000)));
    assert_ne!(rendition(3, 1000).etag(), rendition(4, 1000).etag());
}

#[test]
fn both_ends_of_a_lifetime_are_exclusive() {
    let lifetime = Lifetime::new(UnixMillis(1000), Duration::from_millis(500), Duration::from_millis(250));
    for (now, expected) in [
        (1000, Freshness::Fresh),
        (1499, Freshness::Fresh),
        (1500, Freshness::Stale),
        (1749, Freshness::Stale),
        (1750, Freshness::Expired),
        (u64::MAX, Freshness::Expired),
    ] {
        assert_eq!(lifetime.freshness(UnixMillis(now)), expected, "at {now}");
    }
}

#[test]
fn without_a_stale_time_fresh_turns_into_expired() {
    let lifetime = Lifetime::new(UnixMillis(1000), Duration::from_millis(500), Duration::ZERO);
    assert_eq!(lifetime.freshness(UnixMillis(1499)), Freshness::Fresh);
    assert_eq!(lifetime.freshness(UnixMillis(1500)), Freshness::Expired);
}

/// A clock that was a year ahead leaves entries that would be fresh for a year.
#[test]
fn what_was_made_in_the_future_is_not_fresh() {
    const YEAR: u64 = 365 * 86_400_000;
    let (now, step) = (YEAR, u64::try_from(CLOCK_STEP_MAX.as_millis()).expect("small"));
    for (created, stale_for, expected) in [
        (now, 60, Freshness::Fresh),
        (now + step, 60, Freshness::Fresh),
        (now + step + 1, 60, Freshness::Stale),
        (2 * YEAR, 60, Freshness::Stale),
        (2 * YEAR, 0, Freshness::Expired),
        (u64::MAX, 60, Freshness::Expired),
    ] {
        let (fresh_for, stale_for) = (Duration::from_secs(60), Duration::from_secs(stale_for));
        let lifetime = Lifetime::new(UnixMillis(created), fresh_for, stale_for);
        assert_eq!(lifetime.freshness(UnixMillis(now)), expected, "made at {created}, stale for {stale_for:?}");
    }
}

#[test]
fn overlong_lifetimes_end_at_the_end_of_time() {
    let lifetime = Lifetime::new(UnixMillis(u64::MAX - 5), Duration::MAX, Duration::MAX);
    assert_eq!(lifetime.fresh_until(), UnixMillis(u64::MAX));
    assert_eq!(lifetime.stale_until(), UnixMillis(u64::MAX));
}

#[test]
fn renewing_changes_times_validators_and_tags_only() {
    let old = rendition(5, 100);
    let lifetime = Lifetime::new(UnixMillis(9), Duration::from_secs(1), Duration::ZERO);
    let renewal = |validators| Renewal { lifetime, seq: 77, begun: 0, validators, tags: [3].into() };
    let renewed = old.renewed(renewal(SourceValidators::default())).expect("within the limits");
    let validators = SourceValidators::default();
    let expected = RenditionParts { lifetime, seq: 77, validators, tags: [3].into(), ..parts(5, 100) };
    assert_eq!(renewed, Rendition::new(expected).expect("within the limits"));
    let too_long = old.renewed(renewal(with_source_etag(SOURCE_ETAG_BYTES_MAX + 1)));
    assert_eq!(too_long, Err(RenditionError::SourceEtagTooLong { bytes: SOURCE_ETAG_BYTES_MAX + 1 }));
}

#[test]
fn a_source_that_fails_extends_the_use_and_spares_itself() {
    let lifetime = Lifetime::new(UnixMillis(1000), Duration::from_millis(500), Duration::from_millis(250))
        .or_on_error(Duration::from_millis(10_000));
    for (now, expected) in [(1749, true), (11_499, true), (11_500, false)] {
        assert_eq!(lifetime.is_usable_on_error(UnixMillis(now)), expected, "at {now}");
    }
    assert_eq!(lifetime.freshness(UnixMillis(2000)), Freshness::Expired, "the source is asked first");
    let pause = Duration::from_millis(5000);
    let held = lifetime.held(UnixMillis(2000), pause).expect("usable");
    for (now, expected) in [
        (1400, Freshness::Fresh),
        (2000, Freshness::Held),
        (6999, Freshness::Held),
        (7000, Freshness::Stale),
        (11_499, Freshness::Stale),
        (11_500, Freshness::Expired),
    ] {
        assert_eq!(held.freshness(UnixMillis(now)), expected, "at {now}");
    }
    let held = held.held(UnixMillis(9000), pause).expect("usable");
    assert_eq!(held.freshness(UnixMillis(11_499)), Freshness::Held);
    assert_eq!(held.freshness(UnixMillis(11_500)), Freshness::Expired, "no failure makes it last longer");
    assert_eq!(held.held(UnixMillis(11_500), pause), None);
}
