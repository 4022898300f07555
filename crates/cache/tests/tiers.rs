//! Which tier holds what, and what a lookup makes of it.

mod support;

use std::time::Duration;

use cache::{
    CacheConfig, DiskState, Filled, Freshness, Lifetime, Lookup, Rendition, RenditionParts, Scope, Tier, UnixMillis,
};
use support::{MIB, NOW, PATIENCE, TestCache, config, fill, key, metric, open, open_with, parts, rendition};

const DROPPED: &str = "calotype_cache_entries_dropped_total";

async fn tier_of(cache: &TestCache, seed: u64) -> Option<Tier> {
    match cache.lookup(key(seed), NOW).await {
        Lookup::Fresh(_, tier) => Some(tier),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_is_found_in_memory_without_waiting() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, _) = open(dir.path()).await;
    assert!(cache.memory(key(1), NOW).is_none());
    let filled = fill(&cache, 1, 5000).await;
    assert_eq!(*filled, rendition(1, 5000));
    match cache.memory(key(1), NOW) {
        Some(Lookup::Fresh(entry, Tier::Memory)) => assert_eq!(*entry, rendition(1, 5000)),
        other => panic!("not in memory: {other:?}"),
    }
    assert!(cache.memory(key(2), NOW).is_none());
    assert_eq!(tier_of(&cache, 2).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_memory_evicts_is_found_on_disk() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, _) = open(dir.path()).await;
    // 4 MiB through 1 MiB of memory.
    support::fill_all(&cache, 0..64, 64 << 10).await;
    let in_memory = (0..64).filter(|&seed| cache.memory(key(seed), NOW).is_some()).count();
    assert!((1..=16).contains(&in_memory), "{in_memory} entries of 64 KiB in 1 MiB");
    assert_eq!(support::count_found(&cache, 0..64, 64 << 10).await, 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn big_bodies_stay_out_of_memory_and_are_served_from_disk() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, registry) = open(dir.path()).await;
    fill(&cache, 1, 5000).await;
    // An eighth of the memory is too big for it; the disk takes it.
    let big = (MIB / 8) as usize;
    fill(&cache, 2, big).await;
    assert!(cache.memory(key(2), NOW).is_none());
    for _ in 0..3 {
        assert_eq!(tier_of(&cache, 2).await, Some(Tier::Disk));
        assert!(cache.memory(key(2), NOW).is_none());
    }
    cache.settled().await;
    assert_eq!(support::count_found(&cache, [2], big).await, 1);
    assert_eq!(tier_of(&cache, 1).await, Some(Tier::Memory), "the big body displaced a small one");
    assert_eq!(metric(&registry, DROPPED, None), Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_too_large_for_a_block_is_answered_counted_and_not_kept_on_disk() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = CacheConfig { block_bytes: Some(MIB), ..config(dir.path(), MIB, 64 * MIB) };
    let largest = config.clone().validate().expect("good").disk_entry_bytes_max() as usize;
    let (cache, registry) = open_with(config).await;

    let too_large = largest + 1;
    assert_eq!(*fill(&cache, 1, too_large).await, rendition(1, too_large));
    assert_eq!(metric(&registry, DROPPED, Some("too_large")), Some(1.0));
    assert_eq!(tier_of(&cache, 1).await, None);

    // What surrounds the body takes less than 300 bytes here.
    let just_fits = largest - 300;
    fill(&cache, 2, just_fits).await;
    cache.settled().await;
    assert_eq!(support::count_found(&cache, [2], just_fits).await, 1);
    assert_eq!(metric(&registry, DROPPED, None), Some(1.0), "nothing else was dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_entry_allowed_arrives_on_disk() {
    let dir = tempfile::tempdir().expect("a folder");
    // Both limits in turn: the block smaller than the buffer, and the buffer smaller than the block.
    for (block_bytes, buffer_bytes) in [(MIB, 8 * MIB), (8 * MIB, MIB)] {
        let dir = dir.path().join(block_bytes.to_string());
        let config = CacheConfig {
            block_bytes: Some(block_bytes),
            buffer_bytes: Some(buffer_bytes),
            ..config(&dir, MIB, 64 * MIB)
        };
        let largest = config.clone().validate().expect("good").disk_entry_bytes_max() as usize;
        let (cache, registry) = open_with(config).await;
        // Exactly the limit: the fixed header of 110 bytes, the content type, the source's tag and no purge tags.
        let bytes = largest - 110 - "image/webp".len() - "\"4\"".len();
        for seed in [4, 8] {
            fill(&cache, seed, bytes).await;
            cache.settled().await;
            assert_eq!(support::count_found(&cache, [seed], bytes).await, 1, "blocks of {block_bytes}");
        }
        fill(&cache, 0, bytes + 1).await;
        assert_eq!(metric(&registry, DROPPED, Some("too_large")), Some(1.0));
        assert_eq!(metric(&registry, DROPPED, None), Some(1.0));
        assert!(matches!(cache.disk_state(), DiskState::Ready), "{:?}", cache.disk_state());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_alone_works_without_a_folder() {
    let (cache, _) = open_with(CacheConfig::default()).await;
    assert!(matches!(cache.disk_state(), DiskState::Off));
    assert_eq!(tier_of(&cache, 1).await, None);
    fill(&cache, 1, 5000).await;
    assert_eq!(tier_of(&cache, 1).await, Some(Tier::Memory));
    cache.settled().await;
    let closed = cache.close(Duration::ZERO).await;
    assert_eq!((closed.fills_left, closed.flushed), (0, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_follow_the_lifetime_in_memory_and_on_disk() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, _) = open(dir.path()).await;
    let lifetime = Lifetime::new(NOW, Duration::from_millis(1000), Duration::from_millis(500));
    let in_memory = 5000;
    let on_disk = (MIB / 8) as usize;
    for (seed, bytes, tier) in [(1, in_memory, Tier::Memory), (2, on_disk, Tier::Disk)] {
        let made = Rendition::new(RenditionParts { lifetime, ..parts(seed, bytes) }).expect("within the limits");
        let expected = made.clone();
        let flight =
            cache.flight(key(seed), &support::subject(seed), NOW, move || async move { Ok(Filled::Store(made)) });
        flight.wait(PATIENCE).await.expect("the fill succeeds");
        cache.settled().await;
        for (after_ms, freshness) in [
            (0, Freshness::Fresh),
            (999, Freshness::Fresh),
            (1000, Freshness::Stale),
            (1499, Freshness::Stale),
            (1500, Freshness::Expired),
        ] {
            let found = cache.lookup(key(seed), UnixMillis(NOW.0 + after_ms)).await;
            let (entry, got, found_in) = match found {
                Lookup::Fresh(entry, tier) => (entry, Freshness::Fresh, Some(tier)),
                Lookup::Held(entry, tier) => (entry, Freshness::Held, Some(tier)),
                Lookup::Stale(entry, tier) => (entry, Freshness::Stale, Some(tier)),
                Lookup::Miss { expired: Some(entry) } => (entry, Freshness::Expired, None),
                Lookup::Miss { expired: None } => panic!("nothing after {after_ms} ms in {tier:?}"),
            };
            assert_eq!(got, freshness, "after {after_ms} ms in {tier:?}");
            assert!(found_in.is_none_or(|found_in| found_in == tier), "{found_in:?} instead of {tier:?}");
            assert_eq!(*entry, expected);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_outlives_no_purge_and_no_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, _) = open(dir.path()).await;
    let lifetime = Lifetime::new(NOW, Duration::ZERO, Duration::ZERO).or_on_error(Duration::from_secs(60));
    let made = Rendition::new(RenditionParts { lifetime, ..parts(1, 5000) }).expect("within the limits");
    let held = made.held(NOW, Duration::from_secs(9)).expect("usable");
    for filled in [Filled::Store(made), Filled::Hold(held)] {
        let flight = cache.flight(key(1), &support::subject(1), NOW, move || async move { Ok(filled) });
        flight.wait(PATIENCE).await.expect("the fill succeeds");
        cache.settled().await;
    }
    assert!(matches!(cache.lookup(key(1), NOW).await, Lookup::Held(_, Tier::Memory)));
    cache.close(Duration::ZERO).await;
    drop(cache);

    let (cache, _) = open(dir.path()).await;
    let Lookup::Miss { expired: Some(entry) } = cache.lookup(key(1), NOW).await else { panic!("not what was written") };
    assert!(entry.lifetime.is_usable_on_error(NOW));
    let held = entry.held(NOW, Duration::from_secs(9)).expect("usable");
    cache.bans().purge(Scope::Tenant { tenant: 1 }).expect("is written");
    let flight = cache.flight(key(1), &support::subject(1), NOW, move || async move { Ok(Filled::Hold(held)) });
    assert!(!flight.wait(PATIENCE).await.expect("the fill succeeds").is_kept());
    assert!(matches!(cache.lookup(key(1), NOW).await, Lookup::Miss { expired: None }));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_registry_takes_one_cache_and_says_so() {
    let (_cache, registry) = open_with(CacheConfig::default()).await;
    let settings = CacheConfig::default().validate().expect("good");
    let second = TestCache::open(settings, &registry, tokio::runtime::Handle::current()).await;
    assert!(matches!(second, Err(cache::CacheOpenError::Metrics(prometheus::Error::AlreadyReg))));
}

#[tokio::test(flavor = "multi_thread")]
async fn foyers_metrics_are_shown_beside_ours() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, registry) = open(dir.path()).await;
    fill(&cache, 1, 5000).await;
    cache.settled().await;
    assert_eq!(metric(&registry, "foyer_hybrid_op_total", Some("insert")), Some(1.0));
    assert_eq!(metric(&registry, "calotype_cache_disk_available", None), Some(1.0));
    assert_eq!(metric(&registry, "calotype_cache_disk_capacity_bytes", None), Some(64.0 * MIB as f64));
    assert_eq!(metric(&registry, "calotype_cache_unflushed_entries", None), Some(0.0));
    assert_eq!(metric(&registry, "calotype_cache_flights_in_progress", None), Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_beyond_the_queue_is_counted_and_nothing_is_called_broken() {
    let dir = tempfile::tempdir().expect("a folder");
    let config =
        CacheConfig { buffer_bytes: Some(MIB), queue_bytes: Some(MIB), ..config(dir.path(), 16 * MIB, 64 * MIB) };
    let (cache, registry) = open_with(config).await;
    let bodies: Vec<_> = (0..400).map(|seed| rendition(seed, 100 << 10)).collect();
    let flights: Vec<_> = (0..400)
        .zip(bodies)
        .map(|(seed, body)| {
            cache.flight(key(seed), &support::subject(seed), NOW, move || async move { Ok(Filled::Store(body)) })
        })
        .collect();
    for flight in flights {
        flight.wait(PATIENCE).await.expect("every waiter is answered");
    }
    cache.settled().await;
    let on_disk_or_memory = support::count_found(&cache, 0..400, 100 << 10).await as f64;
    let dropped = metric(&registry, DROPPED, None).expect("counted");
    assert!(dropped > 0.0, "40 MiB at once went through a queue of 1 MiB");
    assert!(on_disk_or_memory + dropped >= 400.0, "{on_disk_or_memory} found, {dropped} counted as dropped");
    assert!(matches!(cache.disk_state(), DiskState::Ready), "{:?}", cache.disk_state());
}
