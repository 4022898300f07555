//! A better rendition takes the place of a draft, and of nothing else.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use cache::{Filled, Lifetime, Lookup, Rendition, RenditionParts, Renewal, Scope, SourceValidators, Tier, UnixMillis};
use support::{NOW, PATIENCE, TestCache, key, open, parts, subject};

const BETTER: &[u8] = b"fewer bytes";

fn draft(seed: u64) -> Rendition {
    Rendition::new(RenditionParts { is_draft: true, begun: cache::NOT_HELD_BEFORE, ..parts(seed, 5000) }).unwrap()
}

async fn fill(cache: &TestCache, seed: u64, made: Rendition, now: UnixMillis) {
    let flight = cache.flight(key(seed), &subject(seed), now, move || async move { Ok(Filled::Store(made)) });
    flight.wait(PATIENCE).await.expect("the fill succeeds");
}

fn fresh(lookup: Lookup) -> (Rendition, Tier) {
    let Lookup::Fresh(entry, tier) = lookup else { panic!("not fresh: {lookup:?}") };
    ((*entry).clone(), tier)
}

/// What the key has after `between` has happened while the draft was made better.
async fn after(cache: &TestCache, between: impl AsyncFnOnce(&TestCache)) -> (Lookup, bool) {
    fill(cache, 1, draft(1), NOW).await;
    let found = cache.draft(key(1), NOW).await.expect("a draft");
    let better = found.entry().improved(BETTER.into()).unwrap();
    between(cache).await;
    let is_replaced = found.replace(&subject(1), better, NOW).await.is_some();
    (cache.lookup(key(1), NOW).await, is_replaced)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_better_one_has_all_of_the_draft_but_its_bytes_and_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, _) = open(dir.path()).await;
    let (found, is_replaced) = after(&cache, async |_| ()).await;
    assert!(is_replaced);
    let (found, _) = fresh(found);
    let expected = Rendition::new(RenditionParts { begun: found.begun, ..parts(1, 5000) }).unwrap();
    assert_eq!(found, expected.improved(BETTER.into()).unwrap());
    assert_ne!(found.etag(), draft(1).etag());
    assert!(cache.draft(key(1), NOW).await.is_none(), "it is no draft any more");
    cache.settled().await;
    cache.close(Duration::ZERO).await;
    drop(cache);
    let (cache, _) = open(dir.path()).await;
    assert_eq!(fresh(cache.lookup(key(1), NOW).await).0, found);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_is_one_after_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, _) = open(dir.path()).await;
    fill(&cache, 1, draft(1), NOW).await;
    cache.settled().await;
    cache.close(Duration::ZERO).await;
    drop(cache);
    let (cache, _) = open(dir.path()).await;
    let found = cache.draft(key(1), NOW).await.expect("on disk");
    let settled = found.entry().settled();
    assert!(found.replace(&subject(1), settled, NOW).await.is_some());
    let (found, _) = fresh(cache.lookup(key(1), NOW).await);
    assert_eq!((found.is_draft, found.etag()), (false, draft(1).etag()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_in_between_wins() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, _) = open(dir.path()).await;
    for scope in [Scope::Key { tenant: 1, key: key(1) }, Scope::Tenant { tenant: 1 }, Scope::Everything] {
        let (found, is_replaced) = after(&cache, async |cache| {
            cache.bans().purge(scope).unwrap();
        })
        .await;
        assert!(!is_replaced && matches!(found, Lookup::Miss { .. }), "{scope:?}: {found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_and_the_same_draft_again_win() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, _) = open(dir.path()).await;
    let (found, is_replaced) = after(&cache, async |cache| {
        cache.bans().purge(Scope::Tenant { tenant: 1 }).unwrap();
        fill(cache, 1, draft(1), NOW).await;
    })
    .await;
    assert!(!is_replaced);
    assert!(fresh(found).0.is_draft, "what was fetched after the purge");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_fill_in_between_wins() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, _) = open(dir.path()).await;
    // A draft that has just run out is filled anew, with other bytes or with the same ones for longer.
    let soon = Lifetime::new(NOW, Duration::from_millis(10), Duration::from_secs(9));
    let later = UnixMillis(NOW.0 + 10);
    let validators = SourceValidators::default();
    let renewal = Renewal { lifetime: draft(1).lifetime, seq: 1, begun: 9, validators, tags: [].into() };
    let other =
        Rendition::new(RenditionParts { is_draft: true, begun: cache::NOT_HELD_BEFORE, ..parts(2, 400) }).unwrap();
    for newer in [other, draft(1).renewed(renewal).unwrap()] {
        cache.bans().purge(Scope::Everything).unwrap();
        fill(&cache, 1, draft(1).with_lifetime(soon), NOW).await;
        let found = cache.draft(key(1), NOW).await.expect("a draft");
        let better = found.entry().improved(BETTER.into()).unwrap();
        fill(&cache, 1, newer.clone(), later).await;
        assert!(found.replace(&subject(1), better, NOW).await.is_none());
        assert_eq!(fresh(cache.lookup(key(1), later).await).0.etag(), newer.etag());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_fresh_draft_in_memory_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (cache, _) = open(dir.path()).await;
    assert!(cache.draft(key(1), NOW).await.is_none(), "nothing is there");
    fill(&cache, 2, support::rendition(2, 100), NOW).await;
    assert!(cache.draft(key(2), NOW).await.is_none(), "no draft");
    fill(&cache, 3, draft(3), NOW).await;
    let old = UnixMillis(NOW.0 + 3_600_000);
    assert!(cache.draft(key(3), old).await.is_none(), "stale");
    let large = Rendition::new(RenditionParts { is_draft: true, ..parts(4, 1 << 17) }).unwrap();
    fill(&cache, 4, large, NOW).await;
    cache.settled().await;
    assert!(cache.draft(key(4), NOW).await.is_none(), "too large for memory");
}
