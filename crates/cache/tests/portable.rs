//! Renditions and bans in the form in which nodes pass them on.

mod support;

use cache::{
    NOT_HELD_BEFORE, PORTABLE_OVERHEAD_BYTES_MAX, Portable, Rendition, RenditionParts, SOURCE_ETAG_BYTES_MAX, Scope,
    SourceValidators, TAGS_MAX, TimedBans, UnixMillis, bans_from_bytes, bans_to_bytes,
};

use crate::support::{NOW, key, parts, rendition};

fn portable() -> Portable {
    let rendition = Rendition::new(RenditionParts { begun: NOT_HELD_BEFORE, ..parts(1, 1000) });
    Portable { rendition: rendition.expect("within the limits"), asked: NOW }
}

#[test]
fn what_was_written_under_a_key_is_read_under_it() {
    let bytes = portable().to_bytes(key(1));
    assert_eq!(Portable::from_bytes(key(1), &bytes), Some(portable()));
    assert_eq!(Portable::from_bytes(key(2), &bytes), None, "another's rendition");
    for end in 0..bytes.len() {
        assert_eq!(Portable::from_bytes(key(1), &bytes[..end]), None, "cut at {end}");
    }
    for flipped in 0..bytes.len() {
        let mut bytes = bytes.to_vec();
        bytes[flipped] ^= 1;
        assert_eq!(Portable::from_bytes(key(1), &bytes), None, "flipped at {flipped}");
    }
}

#[test]
fn the_number_of_another_nodes_newest_ban_is_not_taken_over() {
    let theirs = Portable { rendition: rendition(1, 10), asked: NOW };
    assert_eq!(theirs.rendition.begun, 0);
    let ours = Portable::from_bytes(key(1), &theirs.to_bytes(key(1))).expect("whole");
    assert_eq!(ours.rendition.begun, NOT_HELD_BEFORE);
}

#[test]
fn the_longest_header_keeps_to_its_limit() {
    let etag = Some("x".repeat(SOURCE_ETAG_BYTES_MAX).into());
    let parts = RenditionParts {
        content_type: "x".repeat(255).into(),
        validators: SourceValidators { etag, last_modified: None },
        tags: [1; TAGS_MAX].into(),
        ..parts(1, 10)
    };
    let rendition = Rendition::new(parts).expect("within the limits");
    let bytes = Portable { rendition, asked: NOW }.to_bytes(key(1));
    assert!(bytes.len() <= 10 + PORTABLE_OVERHEAD_BYTES_MAX, "{}", bytes.len());
}

#[test]
fn bans_travel_whole_or_not_at_all() {
    let scopes = [
        Scope::Everything,
        Scope::Tenant { tenant: 1 },
        Scope::Source { tenant: 1, source: 2 },
        Scope::Tag { tenant: 1, tag: 3 },
        Scope::Key { tenant: 1, key: key(9) },
    ];
    let bytes = bans_to_bytes(&scopes, NOW);
    let expected: Vec<_> = scopes.iter().map(|scope| (*scope, NOW)).collect();
    assert_eq!(bans_from_bytes(&bytes), Some(expected));
    assert_eq!(bans_from_bytes(&bytes[1..]), None);
    assert_eq!(bans_from_bytes(&bytes[..bytes.len() - 1]), None);
    assert_eq!(bans_from_bytes(b"noise"), None);
}

#[test]
fn a_ban_covers_what_was_asked_for_before_it() {
    let rendition = rendition(1, 10);
    for scope in [
        Scope::Everything,
        Scope::Tenant { tenant: rendition.tenant },
        Scope::Source { tenant: rendition.tenant, source: rendition.source },
        Scope::Key { tenant: rendition.tenant, key: key(1) },
    ] {
        let bans = TimedBans::default();
        bans.add(scope, UnixMillis(1000));
        bans.add(Scope::Tenant { tenant: rendition.tenant + 1 }, UnixMillis(9000));
        for (asked, expected) in [(0, true), (999, true), (1000, false), (5000, false)] {
            assert_eq!(bans.is_banned(key(1), &rendition, UnixMillis(asked)), expected, "{scope:?} at {asked}");
        }
    }
}
