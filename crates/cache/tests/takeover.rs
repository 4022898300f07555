//! A folder that becomes free while the cache runs, as when one process takes over from another: it is taken into use, and
//! nothing that either has purged is served.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;
use std::time::Duration;

use cache::{DiskFault, DiskState, Filled, Lookup, PurgeError, Rendition, RenditionParts, Scope};
use support::{MIB, NOW, PATIENCE, TestCache, body, config, key, metric, open, parts, subject};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

const BODY: usize = 4000;

async fn eventually_ready(cache: &TestCache) {
    let deadline = Instant::now() + PATIENCE;
    while !matches!(cache.disk_state(), DiskState::Ready) {
        assert!(Instant::now() < deadline, "{:?}", cache.disk_state());
        sleep(Duration::from_millis(10)).await;
    }
}

/// One cache that holds the folder, and one that waits for it.
async fn two(dir: &Path) -> (TestCache, TestCache) {
    let (old, _) = open(dir).await;
    let (new, _) = open(dir).await;
    assert!(matches!(new.disk_state().fault(), Some(DiskFault::InUse { .. })), "{:?}", new.disk_state());
    (old, new)
}

async fn close(cache: TestCache) {
    assert!(cache.close(PATIENCE).await.flushed);
}

/// As a fill makes it: from nothing that was held before.
fn made(seed: u64) -> Rendition {
    Rendition::new(RenditionParts { begun: cache::NOT_HELD_BEFORE, ..parts(seed, BODY) }).unwrap()
}

async fn fill_all(cache: &TestCache, seeds: impl IntoIterator<Item = u64>) {
    for seed in seeds {
        let flight = cache.flight(key(seed), &subject(seed), NOW, move || async move { Ok(Filled::Store(made(seed))) });
        flight.wait(PATIENCE).await.unwrap();
    }
    cache.settled().await;
}

async fn count_found(cache: &TestCache, seeds: impl IntoIterator<Item = u64>) -> usize {
    let mut count = 0;
    for seed in seeds {
        if let Lookup::Fresh(entry, _) = cache.lookup(key(seed), NOW).await {
            assert_eq!(entry.body, body(seed, BODY));
            count += 1;
        }
    }
    count
}

fn tenant_of(seed: u64) -> Scope {
    Scope::Tenant { tenant: subject(seed).tenant }
}

fn source_of(seed: u64) -> Scope {
    Scope::Source { tenant: subject(seed).tenant, source: subject(seed).sources[0] }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_old_one_kept_is_found_and_what_comes_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (old, _) = open(dir.path()).await;
    fill_all(&old, 0..20).await;
    let (new, registry) = open(dir.path()).await;
    assert_eq!(metric(&registry, "calotype_cache_disk_available", None), Some(0.0));
    assert_eq!(count_found(&new, 0..20).await, 0);
    fill_all(&new, 20..30).await;
    assert_eq!(count_found(&new, 20..30).await, 10);
    close(old).await;
    eventually_ready(&new).await;
    assert_eq!(metric(&registry, "calotype_cache_disk_available", None), Some(1.0));
    assert_eq!(count_found(&new, 0..20).await, 20);
    fill_all(&new, 40..50).await;
    close(new).await;
    let (next, _) = open(dir.path()).await;
    assert_eq!(count_found(&next, (0..20).chain(40..50)).await, 30);
    close(next).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn purges_of_both_hold() {
    let dir = tempfile::tempdir().unwrap();
    let (old, _) = open(dir.path()).await;
    fill_all(&old, 0..20).await;
    // As many as make the numbers of the two overlap in either way.
    for _ in 0..3 {
        old.bans().purge(tenant_of(0)).unwrap();
    }
    let (new, _) = open(dir.path()).await;
    for purge in
        [source_of(1), source_of(2), source_of(1), Scope::Key { tenant: subject(3).tenant, key: key(3) }, source_of(4)]
    {
        assert!(matches!(new.bans().purge(purge), Err(PurgeError::NoFolder)));
    }
    let is_purged = |seed: u64| seed.is_multiple_of(7) || (1..=4).contains(&seed);
    fill_all(&new, 0..20).await;
    assert_eq!(count_found(&new, 0..20).await, 20, "what was made after the purges");
    close(old).await;
    eventually_ready(&new).await;
    for (seed, cache) in (0..20).map(|seed| (seed, &new)) {
        assert_eq!(count_found(cache, [seed]).await == 0, is_purged(seed), "{seed}");
    }
    assert!(new.bans().purge(source_of(5)).is_ok());
    fill_all(&new, [1, 7]).await;
    close(new).await;
    let (next, _) = open(dir.path()).await;
    for seed in 0..20 {
        let is_gone = (is_purged(seed) && ![1, 7].contains(&seed)) || seed == 5;
        assert_eq!(count_found(&next, [seed]).await == 0, is_gone, "{seed}");
    }
    close(next).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_that_was_begun_before_is_answered_but_ends_with_the_memory_it_was_begun_in() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = two(dir.path()).await;
    // Purged while the old one holds the folder; a number that the new one has given for other things.
    new.bans().purge(source_of(8)).unwrap_err();
    let (go, gone) = oneshot::channel::<()>();
    let flight = new.flight(key(9), &subject(9), NOW, move || async move {
        gone.await.unwrap();
        Ok(Filled::Store(made(9)))
    });
    old.bans().purge(source_of(9)).unwrap();
    close(old).await;
    eventually_ready(&new).await;
    go.send(()).unwrap();
    flight.wait(PATIENCE).await.unwrap();
    assert_eq!(count_found(&new, [9]).await, 0);
    fill_all(&new, [9]).await;
    assert_eq!(count_found(&new, [9]).await, 1);
    close(new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_hands_over_refuses_purges_until_it_knows_that_it_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, _) = open(dir.path()).await;
    fill_all(&cache, [1]).await;
    cache.bans().hand_over(true);
    assert!(matches!(cache.bans().purge(source_of(1)), Err(PurgeError::HandedOver)));
    assert_eq!(count_found(&cache, [1]).await, 1, "it is not in force");
    // What the other one is told as well is.
    cache.bans().ban_here(&[source_of(1)]);
    assert_eq!(count_found(&cache, [1]).await, 0);
    fill_all(&cache, [1]).await;
    cache.bans().hand_over(false);
    assert_eq!(count_found(&cache, [1]).await, 1);
    cache.bans().purge(source_of(1)).unwrap();
    assert_eq!(count_found(&cache, [1]).await, 0);
    close(cache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_mended_is_taken_into_use() {
    let dir = tempfile::tempdir().unwrap();
    let lock = dir.path().join("lock");
    std::fs::create_dir(&lock).unwrap();
    let (cache, _) = open(dir.path()).await;
    assert!(matches!(cache.disk_state().fault(), Some(DiskFault::Folder { .. })));
    std::fs::remove_dir(&lock).unwrap();
    eventually_ready(&cache).await;
    fill_all(&cache, 0..5).await;
    close(cache).await;
    let (next, _) = open(dir.path()).await;
    assert_eq!(count_found(&next, 0..5).await, 5);
    close(next).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_closed_or_dropped_wants_it_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = two(dir.path()).await;
    close(new).await;
    let settings = config(dir.path(), MIB, 64 * MIB).validate().unwrap();
    let registry = prometheus::Registry::new();
    drop(TestCache::open(settings, &registry, tokio::runtime::Handle::current()).await.unwrap());
    close(old).await;
    // Longer than between two tries of anybody who still wanted it.
    for _ in 0..3 {
        let (next, _) = open(dir.path()).await;
        assert!(matches!(next.disk_state(), DiskState::Ready), "{:?}", next.disk_state());
        close(next).await;
    }
}
