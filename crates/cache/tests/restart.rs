//! What is found again after a restart, clean or by SIGKILL.

mod support;

use std::fs;
use std::time::Instant;

use cache::{CacheConfig, DiskState, Lookup};
use support::{
    MIB, NOW, PATIENCE, TestChild, config, count_found, fill, fill_all, found, key, metric, open, open_with,
};

const BODY: usize = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_writers_lose_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, registry) = open(dir.path()).await;
    // Without the lock around inserts this loses up to half of the entries at the restart.
    for round in 0..8u64 {
        let writers: Vec<_> = (0..16u64)
            .map(|writer| {
                let cache = cache.clone();
                tokio::spawn(async move {
                    for n in 0..15 {
                        fill(&cache, round * 240 + writer * 15 + n, BODY).await;
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.expect("no panic");
        }
        cache.settled().await;
    }
    assert_eq!(metric(&registry, "calotype_cache_entries_dropped_total", None), Some(0.0));
    assert!(cache.close(PATIENCE).await.flushed);

    let (cache, _) = open(dir.path()).await;
    assert!(matches!(cache.disk_state(), DiskState::Ready));
    assert_eq!(count_found(&cache, 0..1920, BODY).await, 1920);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_loses_nothing_that_was_settled() {
    const TEST: &str = "a_killed_process_loses_nothing_that_was_settled";
    if let Some(dir) = support::child_dir() {
        let (cache, _) = open(&dir).await;
        fill_all(&cache, 0..2000, BODY).await;
        support::report("settled");
        return std::future::pending().await;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let mut child = TestChild::start(TEST, dir.path());
    assert_eq!(child.next_report(), "settled");
    child.kill();

    let before = Instant::now();
    let (cache, _) = open(dir.path()).await;
    let opened_in = before.elapsed();
    assert!(matches!(cache.disk_state(), DiskState::Ready), "{:?}", cache.disk_state());
    let found = count_found(&cache, 0..2000, BODY).await;
    support::report(&format!("{found} of 2000 found after SIGKILL, opened in {opened_in:?}"));
    assert!(found >= 1980, "{found} of 2000");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_killed_while_it_writes_leaves_a_folder_that_works() {
    const TEST: &str = "a_process_killed_while_it_writes_leaves_a_folder_that_works";
    if let Some(dir) = support::child_dir() {
        let (cache, _) = open_with(config(&dir, MIB, 16 * MIB)).await;
        for seed in 0.. {
            fill(&cache, seed, BODY).await;
            if seed % 8 == 0 {
                cache.settled().await;
            }
            if seed == 2000 {
                support::report("the disk has turned over twice");
            }
        }
    }
    let dir = tempfile::tempdir().expect("a folder");
    for round in 0..3 {
        let mut child = TestChild::start(TEST, dir.path());
        child.next_report();
        child.kill();
        let (cache, _) = open_with(config(dir.path(), MIB, 16 * MIB)).await;
        assert!(matches!(cache.disk_state(), DiskState::Ready), "{:?}", cache.disk_state());
        // Whatever is found of the last turnover is right, and new entries arrive.
        let found = count_found(&cache, 0..4000, BODY).await;
        assert!(found > 100, "only {found} entries of 20 kB on 16 MiB");
        let new = 1_000_000 + round * 1000;
        fill_all(&cache, new..new + 100, BODY).await;
        assert!(matches!(cache.disk_state(), DiskState::Ready), "{:?}", cache.disk_state());
        assert!(cache.close(PATIENCE).await.flushed);
        let (cache, _) = open_with(config(dir.path(), MIB, 16 * MIB)).await;
        assert_eq!(count_found(&cache, new..new + 100, BODY).await, 100);
        assert!(cache.close(PATIENCE).await.flushed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_an_empty_block_is_written_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let small = || config(dir.path(), MIB, 16 * MIB);
    let (cache, _) = open_with(small()).await;
    fill_all(&cache, 0..1500, BODY).await;
    assert!(cache.close(PATIENCE).await.flushed);
    // As if killed after the last empty block was taken and before the next was cleaned.
    let blocks = support::block_files(dir.path());
    let is_empty = |head: &[u8]| head.iter().all(|byte| *byte == 0);
    let contents: Vec<_> = blocks.iter().map(|block| fs::read(block).expect("readable")).collect();
    let full = contents.iter().find(|content| !is_empty(&content[..4096])).expect("turned over");
    for (block, content) in blocks.iter().zip(&contents) {
        if is_empty(&content[..4096]) {
            fs::write(block, full).expect("writable");
        }
    }

    let (cache, _) = open_with(small()).await;
    fill_all(&cache, 5000..5100, BODY).await;
    assert!(matches!(cache.disk_state(), DiskState::Ready), "{:?}", cache.disk_state());
    assert!(cache.close(PATIENCE).await.flushed);
    let (cache, _) = open_with(small()).await;
    assert_eq!(count_found(&cache, 5000..5100, BODY).await, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn hot_entries_outlive_the_turnover_of_the_disk() {
    let dir = tempfile::tempdir().expect("a folder");
    // All hot entries stay in memory and would never be written a second time by themselves.
    let small = || config(dir.path(), 16 * MIB, 16 * MIB);
    let hot = 0..20u64;
    let (cache, registry) = open_with(small()).await;
    fill_all(&cache, hot.clone(), BODY).await;
    // Three turnovers of cold entries.
    for batch in 0..320u64 {
        fill_all(&cache, 1000 + batch * 8..1000 + (batch + 1) * 8, BODY).await;
        for seed in hot.clone() {
            assert!(matches!(cache.memory(key(seed), NOW), Some(Lookup::Fresh(..))), "hot seed {seed} left memory");
        }
    }
    let rewrites = metric(&registry, "calotype_cache_reinsertions_total", None).expect("counted");
    assert!((60.0..=200.0).contains(&rewrites), "{rewrites} rewrites of 20 entries in three turnovers");
    cache.settled().await;
    assert!(cache.close(PATIENCE).await.flushed);

    let (cache, _) = open_with(small()).await;
    assert_eq!(count_found(&cache, hot, BODY).await, 20);
    assert_eq!(count_found(&cache, 1000..2000, BODY).await, 0, "the cold entries of the first turnover are gone");
    assert!(count_found(&cache, 3460..3560, BODY).await == 100, "the newest cold entries are there");
}

#[tokio::test(flavor = "multi_thread")]
async fn rewrites_stay_within_their_budget_when_everything_is_hot() {
    let dir = tempfile::tempdir().expect("a folder");
    // Memory as large as the disk: without a budget the rewrites alone would keep the disk turning.
    let (cache, registry) = open_with(config(dir.path(), 32 * MIB, 16 * MIB)).await;
    for batch in 0..150u64 {
        fill_all(&cache, batch * 8..(batch + 1) * 8, BODY).await;
        for seed in 0..batch * 8 {
            assert!(matches!(cache.memory(key(seed), NOW), Some(Lookup::Fresh(..)) | None));
        }
    }
    let rewrites = metric(&registry, "calotype_cache_reinsertions_total", None).expect("counted");
    assert!((1.0..=300.0).contains(&rewrites), "{rewrites} rewrites for 1200 fills");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_entries_go_first_also_after_restarts() {
    let dir = tempfile::tempdir().expect("a folder");
    let small = || config(dir.path(), MIB, 16 * MIB);
    // A turnover in steps of a quarter, with a restart after each. 24 KiB on disk each, so 600 fill the disk.
    for step in 0..12u64 {
        let (cache, _) = open_with(small()).await;
        assert!(matches!(cache.disk_state(), DiskState::Ready), "{:?}", cache.disk_state());
        let end = (step + 1) * 150;
        fill_all(&cache, step * 150..end, BODY).await;
        // Two blocks of 1 MiB may be empty or half full; everything else is the newest there is.
        let newest = end.saturating_sub(500)..end;
        for seed in newest {
            assert!(found(&cache, seed, BODY).await.is_some(), "seed {seed} of {end} went before older ones");
        }
        assert!(cache.close(PATIENCE).await.flushed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_layout_starts_empty_and_leaves_no_file_behind() {
    let dir = tempfile::tempdir().expect("a folder");
    let layout =
        |disk_bytes, block_bytes| CacheConfig { block_bytes: Some(block_bytes), ..config(dir.path(), MIB, disk_bytes) };
    for (disk_bytes, block_bytes) in
        [(64 * MIB, 2 * MIB), (64 * MIB, MIB), (16 * MIB, MIB), (32 * MIB, MIB), (64 * MIB, 8 * MIB)]
    {
        let (cache, _) = open_with(layout(disk_bytes, block_bytes)).await;
        assert!(matches!(cache.disk_state(), DiskState::Ready), "{:?}", cache.disk_state());
        let files = support::block_files(dir.path());
        assert_eq!(files.len() as u64, disk_bytes / block_bytes, "one file a block: {files:?}");
        for file in files {
            assert_eq!(fs::metadata(&file).expect("there").len(), block_bytes, "{file:?}");
        }
        count_found(&cache, 0..50, BODY).await;
        fill_all(&cache, 0..50, BODY).await;
        assert!(cache.close(PATIENCE).await.flushed);
        let (cache, _) = open_with(layout(disk_bytes, block_bytes)).await;
        assert_eq!(count_found(&cache, 0..50, BODY).await, 50);
        assert!(cache.close(PATIENCE).await.flushed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_dropped_without_closing_gives_up_its_folder() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, _) = open(dir.path()).await;
    fill(&cache, 1, BODY).await;
    cache.settled().await;
    drop(cache);
    // The flush in the background ends some time; the folder is free then.
    let cache = loop {
        let (cache, _) = open(dir.path()).await;
        if matches!(cache.disk_state(), DiskState::Ready) {
            break cache;
        }
    };
    assert_eq!(count_found(&cache, [1], BODY).await, 1);
}
