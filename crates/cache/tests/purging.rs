//! What was purged is not served: not from memory, not from disk, not by a fill that was begun before, not after a restart.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;

use cache::{ANY_TAG, DiskState, Filled, Lookup, PurgeError, Rendition, RenditionParts, Scope, Subject};
use proptest::collection::vec;
use proptest::prelude::*;
use support::{MIB, NOW, PATIENCE, TestCache, config, key, open, open_with, parts, rendition};
use tempfile::TempDir;
use tokio::sync::oneshot;

/// Tenant, source and tag of the entry `seed`; a few of each, so that purges cover several.
fn marks(seed: u64) -> (u64, u64, u64) {
    (seed % 3, 100 + seed % 6, 200 + seed % 4)
}

fn subject(seed: u64) -> Subject {
    let (tenant, source, _) = marks(seed);
    Subject { tenant, sources: [source].into() }
}

/// The entry `seed` as it is the `version`th time that it is made.
fn made(seed: u64, version: u64) -> Rendition {
    let (tenant, source, tag) = marks(seed);
    let begun = cache::NOT_HELD_BEFORE;
    let parts = RenditionParts { tenant, source, tags: [tag].into(), seq: version, begun, ..parts(seed, 2000) };
    Rendition::new(parts).unwrap()
}

async fn fill(cache: &TestCache, seed: u64, version: u64) {
    let flight =
        cache.flight(key(seed), &subject(seed), NOW, move || async move { Ok(Filled::Store(made(seed, version))) });
    flight.wait(PATIENCE).await.unwrap();
}

async fn version(cache: &TestCache, seed: u64) -> Option<u64> {
    match cache.lookup(key(seed), NOW).await {
        Lookup::Fresh(entry, _) => Some(entry.seq),
        Lookup::Miss { expired: None } => None,
        other => panic!("{other:?}"),
    }
}

#[derive(Debug, Clone)]
enum Step {
    Fill(u64),
    Purge(Scope),
    Look(u64),
    /// Pushes the rest out of memory.
    Crowd,
    Close,
    Kill,
    /// Another process starts on the folder that this one holds; the next time, that one gets it.
    TakeOver,
}

const SEEDS: u64 = 12;

fn any_scope() -> impl Strategy<Value = Scope> {
    (0..SEEDS, 0..20_u8).prop_map(|(seed, kind)| {
        let (tenant, source, tag) = marks(seed);
        match kind {
            0 => Scope::Everything,
            1..=3 => Scope::Tenant { tenant },
            4..=9 => Scope::Source { tenant, source },
            10..=14 => Scope::Tag { tenant, tag },
            _ => Scope::Key { tenant, key: key(seed) },
        }
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..SEEDS).prop_map(Step::Fill),
        3 => any_scope().prop_map(Step::Purge),
        6 => (0..SEEDS).prop_map(Step::Look),
        1 => Just(Step::Crowd),
        1 => Just(Step::Close),
        1 => Just(Step::Kill),
        2 => Just(Step::TakeOver),
    ]
}

fn covers(scope: Scope, seed: u64) -> bool {
    let (own_tenant, own_source, own_tag) = marks(seed);
    match scope {
        Scope::Everything => true,
        Scope::Tenant { tenant } => tenant == own_tenant,
        Scope::Source { tenant, source } => (tenant, source) == (own_tenant, own_source),
        Scope::Tag { tenant, tag } => (tenant, tag) == (own_tenant, own_tag),
        Scope::Key { key: of, .. } => of == key(seed),
    }
}

async fn small(dir: &Path) -> TestCache {
    open_with(config(dir, MIB, 64 * MIB)).await.0
}

async fn play(steps: Vec<Step>) {
    let dir = TempDir::new().unwrap();
    let mut cache = small(dir.path()).await;
    // The one that holds the folder, while `cache` waits for it.
    let mut holder: Option<TestCache> = None;
    // The versions that may be served of each entry, and no other; absent: none. Several only where one process does not
    // know what another has.
    let (mut allowed, mut next) = (HashMap::<u64, Vec<u64>>::new(), 1_u64);
    for (number, step) in steps.iter().enumerate() {
        if matches!(step, Step::Close | Step::Kill) {
            take_over(&cache, holder.take()).await;
        }
        match step {
            Step::TakeOver if holder.is_some() => take_over(&cache, holder.take()).await,
            Step::TakeOver => holder = Some(std::mem::replace(&mut cache, small(dir.path()).await)),
            Step::Fill(seed) => {
                let had = version(&cache, *seed).await;
                fill(&cache, *seed, next).await;
                // A fill of what is fresh gives what is there.
                if had.is_none() {
                    let versions = allowed.entry(*seed).or_default();
                    if holder.is_none() {
                        versions.clear();
                    }
                    versions.push(next);
                }
                next += 1;
            }
            Step::Purge(scope) => {
                let purged = cache.bans().purge(*scope);
                assert_eq!(purged.is_ok(), holder.is_none(), "{purged:?}");
                allowed.retain(|seed, _| !covers(*scope, *seed));
            }
            Step::Look(seed) => {
                let found = version(&cache, *seed).await;
                assert!(
                    found.is_none_or(|found| allowed.get(seed).is_some_and(|versions| versions.contains(&found))),
                    "step {number}: {found:?}, not {:?}, of {steps:?}",
                    allowed.get(seed)
                );
            }
            Step::Crowd => {
                for seed in 1000..1100 {
                    support::fill(&cache, seed, 3000).await;
                }
                cache.settled().await;
            }
            Step::Close => {
                assert!(cache.close(PATIENCE).await.flushed);
                drop(cache);
                cache = small(dir.path()).await;
            }
            Step::Kill => {
                // What a crash leaves: the files as they are, and the lock given up.
                let copy = TempDir::new().unwrap();
                let status =
                    std::process::Command::new("cp").arg("-a").arg(dir.path().join(".")).arg(copy.path()).status();
                assert!(status.unwrap().success());
                cache.close(PATIENCE).await;
                drop(cache);
                std::fs::remove_dir_all(dir.path()).unwrap();
                std::fs::rename(copy.path(), dir.path()).unwrap();
                cache = small(dir.path()).await;
            }
        }
    }
    take_over(&cache, holder).await;
    cache.close(PATIENCE).await;
}

/// Lets `cache` have the folder.
async fn take_over(cache: &TestCache, holder: Option<TestCache>) {
    let Some(holder) = holder else { return };
    assert!(holder.close(PATIENCE).await.flushed);
    let deadline = Instant::now() + PATIENCE;
    while !matches!(cache.disk_state(), DiskState::Ready) {
        assert!(Instant::now() < deadline, "{:?}", cache.disk_state());
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn nothing_purged_is_ever_served(steps in vec(any_step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(play(steps));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_purged_stays() {
    let dir = TempDir::new().unwrap();
    let (cache, _) = open(dir.path()).await;
    for seed in 0..SEEDS {
        fill(&cache, seed, 1).await;
    }
    let scope = Scope::Source { tenant: 1, source: 101 };
    cache.bans().purge(scope).unwrap();
    for seed in 0..SEEDS {
        assert_eq!(version(&cache, seed).await.is_none(), covers(scope, seed), "{seed}");
    }
    // What is made again is served again.
    fill(&cache, 1, 2).await;
    assert_eq!(version(&cache, 1).await, Some(2));
    cache.close(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_begun_before_a_purge_is_neither_joined_nor_kept() {
    let dir = TempDir::new().unwrap();
    let (cache, _) = open(dir.path()).await;
    for scope in [
        Scope::Everything,
        Scope::Tenant { tenant: 1 },
        Scope::Source { tenant: 1, source: 101 },
        // Which tags it will carry is not known yet.
        Scope::Tag { tenant: 1, tag: 999 },
        Scope::Key { tenant: 1, key: key(1) },
    ] {
        cache.bans().purge(Scope::Everything).unwrap();
        let ((finish, wait), (begin, begun)) = (oneshot::channel::<()>(), oneshot::channel());
        let old = cache.flight(key(1), &subject(1), NOW, move || async move {
            begin.send(()).unwrap();
            wait.await.unwrap();
            Ok(Filled::Store(made(1, 1)))
        });
        // Begun only after the new one, it would find that one's rendition and be content with it.
        begun.await.unwrap();
        cache.bans().purge(scope).unwrap();
        let new = cache.flight(key(1), &subject(1), NOW, || async { Ok(Filled::Store(made(1, 2))) });
        assert_eq!(new.role(), cache::Role::Leader, "{scope:?}");
        assert_eq!(new.wait(PATIENCE).await.unwrap().seq, 2, "{scope:?}");
        finish.send(()).unwrap();
        assert_eq!(old.wait(PATIENCE).await.unwrap().seq, 1, "who asked before the purge gets what was fetched then");
        assert_eq!(version(&cache, 1).await, Some(2), "{scope:?}");
    }
    // A purge of something else does not part those who want the same.
    let (finish, wait) = oneshot::channel::<()>();
    let first = cache.flight(key(5), &subject(5), NOW, move || async move {
        wait.await.unwrap();
        Ok(Filled::Store(made(5, 1)))
    });
    cache.bans().purge(Scope::Tenant { tenant: 1 }).unwrap();
    let second = cache.flight(key(5), &subject(5), NOW, || async { Err("a second fill ran") });
    assert_eq!(second.role(), cache::Role::Follower);
    finish.send(()).unwrap();
    assert_eq!((first.wait(PATIENCE).await.unwrap().seq, second.wait(PATIENCE).await.unwrap().seq), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_held_before_a_purge_does_not_count_as_fetched_after_it() {
    let dir = TempDir::new().unwrap();
    let (cache, _) = open(dir.path()).await;
    let held_since = cache.bans().latest();
    cache.bans().purge(Scope::Source { tenant: 1, source: 777 }).unwrap();
    // Made now, with an overlay (source 777) that was fetched before it was purged.
    let parts = RenditionParts { tags: [777].into(), begun: held_since, tenant: 1, source: 101, ..parts(1, 100) };
    let held = Rendition::new(parts).unwrap();
    cache
        .flight(key(1), &subject(1), NOW, move || async move { Ok(Filled::Store(held)) })
        .wait(PATIENCE)
        .await
        .unwrap();
    assert!(version(&cache, 1).await.is_none());
    let (bans, latest) = (cache.bans(), cache.bans().latest());
    assert!(bans.is_original_banned(1, 777, &[], held_since));
    assert!(!bans.is_original_banned(1, 778, &[], held_since));
    assert!(!bans.is_original_banned(2, 777, &[], held_since));
    assert!(!bans.is_original_banned(1, 777, &[], latest));
    bans.purge(Scope::Tag { tenant: 1, tag: 5 }).unwrap();
    assert!(bans.is_original_banned(1, 778, &[4, 5], latest));
    assert!(!bans.is_original_banned(1, 778, &[4, 6], latest));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_more_tags_than_are_kept_goes_with_any_of_them() {
    let dir = TempDir::new().unwrap();
    let (cache, _) = open(dir.path()).await;
    let parts = RenditionParts { tags: [3, ANY_TAG].into(), tenant: 1, ..parts(1, 100) };
    let made = Rendition::new(parts).unwrap();
    cache
        .flight(key(1), &subject(1), NOW, move || async move { Ok(Filled::Store(made)) })
        .wait(PATIENCE)
        .await
        .unwrap();
    cache.bans().purge(Scope::Tag { tenant: 2, tag: 99 }).unwrap();
    cache.bans().purge(Scope::Source { tenant: 1, source: 99 }).unwrap();
    assert!(version(&cache, 1).await.is_some());
    cache.bans().purge(Scope::Tag { tenant: 1, tag: 99 }).unwrap();
    assert!(version(&cache, 1).await.is_none());
}

/// A cache in `dir` with one entry that was purged, closed.
async fn purged(dir: &Path) {
    let (cache, _) = open(dir).await;
    fill(&cache, 1, 1).await;
    fill(&cache, 2, 1).await;
    cache.bans().purge(Scope::Key { tenant: 1, key: key(1) }).unwrap();
    cache.bans().purge(Scope::Tenant { tenant: 6 }).unwrap();
    assert!(cache.close(PATIENCE).await.flushed);
}

#[tokio::test(flavor = "multi_thread")]
async fn bans_that_are_damaged_or_gone_leave_nothing_to_serve() {
    type Damage = fn(&Path);
    let flip: Damage = |file| {
        let mut bytes = std::fs::read(file).unwrap();
        let middle = bytes.len() - 60;
        bytes[middle] ^= 1;
        std::fs::write(file, bytes).unwrap();
    };
    let damages: [(&str, Damage); 5] = [
        ("removed", |file| std::fs::remove_file(file).unwrap()),
        ("emptied", |file| std::fs::write(file, []).unwrap()),
        ("another file", |file| std::fs::write(file, vec![7; 500]).unwrap()),
        ("a flipped bit", flip),
        ("cut in its header", |file| std::fs::write(file, &std::fs::read(file).unwrap()[..20]).unwrap()),
    ];
    for (what, damage) in damages {
        let dir = TempDir::new().unwrap();
        purged(dir.path()).await;
        damage(&dir.path().join("bans"));
        let (cache, _) = open(dir.path()).await;
        assert_eq!((version(&cache, 1).await, version(&cache, 2).await), (None, None), "{what}");
        // It is a working cache all the same, with purges that last.
        fill(&cache, 2, 5).await;
        cache.bans().purge(Scope::Key { tenant: 2, key: key(2) }).unwrap();
        fill(&cache, 1, 6).await;
        assert!(cache.close(PATIENCE).await.flushed);
        let (cache, _) = open(dir.path()).await;
        assert_eq!((version(&cache, 1).await, version(&cache, 2).await), (Some(6), None), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_record_at_the_end_was_never_acknowledged() {
    let dir = TempDir::new().unwrap();
    purged(dir.path()).await;
    let file = dir.path().join("bans");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.extend([4; 17]);
    std::fs::write(&file, bytes).unwrap();
    let (cache, _) = open(dir.path()).await;
    assert_eq!((version(&cache, 1).await, version(&cache, 2).await), (None, Some(1)));
    cache.bans().purge(Scope::Key { tenant: 2, key: key(2) }).unwrap();
    cache.close(PATIENCE).await;
    let (cache, _) = open(dir.path()).await;
    assert_eq!(version(&cache, 2).await, None, "the file is whole again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_cannot_be_written_down_says_so_and_is_in_force() {
    let dir = TempDir::new().unwrap();
    let (first, _) = open(dir.path()).await;
    // The folder is another's.
    let (second, _) = open(dir.path()).await;
    fill(&second, 1, 1).await;
    assert!(matches!(second.bans().purge(Scope::Tenant { tenant: 1 }), Err(PurgeError::NoFolder)));
    assert_eq!(version(&second, 1).await, None);
    first.close(PATIENCE).await;
    // Without a disk nothing outlives the process, and so need no ban.
    let (memory, _) = open_with(config(dir.path(), MIB, 0)).await;
    fill(&memory, 1, 1).await;
    assert_eq!(memory.bans().purge(Scope::Tenant { tenant: 1 }).unwrap(), 1);
    assert_eq!(version(&memory, 1).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_bans_of_a_tenant_become_one() {
    let (cache, _) = open_with(config(Path::new("/nonexistent"), MIB, 0)).await;
    let keep = rendition(3, 100);
    cache
        .flight(key(3), &support::subject(3), NOW, move || async move { Ok(Filled::Store(keep)) })
        .wait(PATIENCE)
        .await
        .unwrap();
    fill(&cache, 1, 1).await;
    for source in 0..70_000 {
        cache.bans().purge(Scope::Source { tenant: 1, source: 1_000_000 + source }).unwrap();
    }
    assert!(cache.bans().count() <= 65_536, "{}", cache.bans().count());
    assert_eq!(version(&cache, 1).await, None, "too much is purged, never too little");
    assert!(matches!(cache.lookup(key(3), NOW).await, Lookup::Fresh(..)), "but of that tenant only");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_file_of_bans_is_shortened_at_the_start() {
    let dir = TempDir::new().unwrap();
    let (cache, _) = open(dir.path()).await;
    for _ in 0..5000 {
        cache.bans().purge(Scope::Tenant { tenant: 1 }).unwrap();
    }
    cache.close(PATIENCE).await;
    let long = std::fs::metadata(dir.path().join("bans")).unwrap().len();
    let (cache, _) = open(dir.path()).await;
    let begun = Instant::now();
    assert_eq!(cache.bans().latest(), 5000);
    let short = std::fs::metadata(dir.path().join("bans")).unwrap().len();
    assert!(short < 200 && long > 5000 * 40, "{long} → {short} in {:?}", begun.elapsed());
    cache.close(PATIENCE).await;
}
