//! Damaged, truncated and foreign content: misses, never wrong bytes, never a refusal to start.

mod support;

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use cache::{CacheConfig, DiskState, Lookup};
use foyer::{
    BlockEngineConfig, Code, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder, HybridCachePolicy,
};
use support::{MIB, NOW, PATIENCE, block_files, config, count_found, fill_all, key, metric, open};

const BODY: usize = 20_000;
const ENTRIES: u64 = 400;

async fn filled(dir: &Path) {
    let (cache, _) = open(dir).await;
    fill_all(&cache, 0..ENTRIES, BODY).await;
    assert!(cache.close(PATIENCE).await.flushed);
}

/// Opens what was damaged: it must start with its disk, hold only right entries and take new ones. Returns how many of
/// the old entries are left.
async fn survivors(dir: &Path) -> usize {
    let (cache, _) = open(dir).await;
    assert!(matches!(cache.disk_state(), DiskState::Ready), "{:?}", cache.disk_state());
    let left = count_found(&cache, 0..ENTRIES, BODY).await;
    assert_eq!(count_found(&cache, 0..ENTRIES, BODY).await, left, "a second look sees the same");
    fill_all(&cache, 5000..5050, BODY).await;
    assert!(cache.close(PATIENCE).await.flushed);
    let (cache, _) = open(dir).await;
    assert_eq!(count_found(&cache, 5000..5050, BODY).await, 50, "new entries arrive on the damaged disk");
    assert!(cache.close(PATIENCE).await.flushed);
    left
}

fn flip(file: &Path, offset: u64, bits: u8) {
    let mut file = OpenOptions::new().read(true).write(true).open(file).expect("a block");
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut byte)).expect("within the block");
    byte[0] ^= bits;
    file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(&byte)).expect("within the block");
}

#[tokio::test(flavor = "multi_thread")]
async fn flipped_bytes_are_misses() {
    let dir = tempfile::tempdir().expect("a folder");
    filled(dir.path()).await;
    // One byte in each 50 kB, at offsets that fall on indexes, headers, and every part of entries.
    for file in block_files(dir.path()) {
        let mut offset = 5_001;
        while offset < 2 * MIB {
            flip(&file, offset, 0x10);
            offset += 50_021;
        }
    }
    let left = survivors(dir.path()).await;
    assert!((100..390).contains(&left), "{left} of {ENTRIES} left");
}

/// Runs on a runtime of its own: foyer keeps a folder's files open until the runtime ends, and a test that opens folders
/// hundreds of times must not run out of them.
fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(work)
}

#[test]
fn every_byte_of_an_entry_may_flip() {
    let dir = tempfile::tempdir().expect("a folder");
    let reopened = async |fill: bool| {
        let (cache, _) = support::open_with(config(dir.path(), MIB, 16 * MIB)).await;
        assert!(matches!(cache.disk_state(), DiskState::Ready), "{:?}", cache.disk_state());
        if fill {
            support::fill(&cache, 1, 300).await;
        }
        // Checks the entry to the byte if it is found.
        let found = count_found(&cache, [1], 300).await;
        assert!(cache.close(PATIENCE).await.flushed);
        found
    };
    run(reopened(true));
    let file = block_files(dir.path())
        .into_iter()
        .find(|file| fs::read(file).expect("a block").iter().any(|byte| *byte != 0))
        .expect("one block is written");
    // Behind the index page: foyer's header, then ours, what varies, and the key. The rest of the page is padding.
    let index_page = 4096;
    let entry_bytes = 36 + 94 + "image/webp".len() as u64 + "\"1\"".len() as u64 + 8 + 300 + 16;
    let mut misses = 0;
    for offset in index_page..index_page + entry_bytes {
        flip(&file, offset, 0x01);
        misses += 1 - run(reopened(false)) as u64;
        flip(&file, offset, 0x01);
    }
    // foyer does not look at the hash and the sequence in its header again, 16 bytes.
    assert_eq!(misses, entry_bytes - 16);
    assert_eq!(run(reopened(false)), 1, "mended again");
}

#[tokio::test(flavor = "multi_thread")]
async fn truncated_and_missing_files_cost_their_entries() {
    let dir = tempfile::tempdir().expect("a folder");
    filled(dir.path()).await;
    let files = block_files(dir.path());
    OpenOptions::new().write(true).open(&files[0]).and_then(|file| file.set_len(MIB + 5)).expect("truncated");
    fs::write(&files[1], "").expect("emptied");
    fs::remove_file(&files[2]).expect("removed");
    let left = survivors(dir.path()).await;
    assert!((50..ENTRIES as usize).contains(&left), "{left} of {ENTRIES} left");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_the_folder_does_not_matter() {
    let dir = tempfile::tempdir().expect("a folder");
    filled(dir.path()).await;
    for (i, file) in block_files(dir.path()).into_iter().enumerate() {
        let garbage = support::body(i as u64 + 1, 2 * MIB as usize);
        fs::write(file, garbage).expect("overwritten");
    }
    fs::write(dir.path().join("position"), "not a position").expect("overwritten");
    fs::write(dir.path().join("lock"), "not empty").expect("overwritten");
    fs::write(dir.path().join("blocks/stray"), "stray").expect("written");
    fs::create_dir(dir.path().join("blocks/folder")).expect("created");
    assert_eq!(survivors(dir.path()).await, 0);
    assert_eq!(block_files(dir.path()).len(), 32, "strays are gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_that_changed_places_are_still_right() {
    let dir = tempfile::tempdir().expect("a folder");
    filled(dir.path()).await;
    let files = block_files(dir.path());
    let spare = dir.path().join("spare");
    fs::rename(&files[0], &spare).expect("moved");
    fs::rename(&files[1], &files[0]).expect("moved");
    fs::rename(&spare, &files[1]).expect("moved");
    fs::copy(&files[2], &files[3]).expect("copied");
    let left = survivors(dir.path()).await;
    assert!(left > 250, "{left} of {ENTRIES} left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_position_costs_no_entry() {
    for position in [None, Some(vec![]), Some(vec![0xff; 16]), Some(vec![0; 7])] {
        let dir = tempfile::tempdir().expect("a folder");
        filled(dir.path()).await;
        let file = dir.path().join("position");
        match position {
            None => fs::remove_file(&file).expect("removed"),
            Some(position) => fs::write(&file, position).expect("overwritten"),
        }
        assert_eq!(survivors(dir.path()).await, ENTRIES as usize);
    }
}

/// An entry as another version of this crate may have written it, with a checksum that is right.
#[derive(Clone)]
struct Foreign(Vec<u8>);

impl Code for Foreign {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        writer.write_all(&self.0).map_err(foyer::Error::io_error)
    }

    fn decode(_: &mut impl Read) -> foyer::Result<Self> {
        unreachable!("only written")
    }

    fn estimated_size(&self) -> usize {
        self.0.len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_another_version_are_misses() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = || CacheConfig { block_bytes: Some(2 * MIB), ..config(dir.path(), MIB, 64 * MIB) };
    let device = FsDeviceBuilder::new(dir.path().join("blocks")).with_capacity(64 << 20).build().expect("a device");
    let foreign: HybridCache<u128, Foreign> = HybridCacheBuilder::new()
        .with_policy(HybridCachePolicy::WriteOnInsertion)
        .with_flush_on_close(false)
        .memory(1 << 20)
        .storage()
        .with_engine_config(BlockEngineConfig::new(device).with_block_size(2 << 20))
        .build()
        .await
        .expect("opens");
    // The same keys: those of this version are hashed with the version, so only a clash or a bug gets here.
    let raw = |seed| u128::from_str_radix(&key(seed).to_string(), 16).expect("a key");
    foreign.insert(raw(1), Foreign(vec![2; 500]));
    foreign.insert(raw(2), Foreign(vec![]));
    foreign.insert(raw(3), Foreign(support::body(3, 500)));
    // This version, and then nothing that fits.
    foreign.insert(raw(4), Foreign(vec![1; 500]));
    foreign.close().await.expect("closes");

    let (cache, registry) = support::open_with(config()).await;
    assert!(matches!(cache.disk_state(), DiskState::Ready), "{:?}", cache.disk_state());
    for _ in 0..2 {
        for seed in 1..=4 {
            let lookup = cache.lookup(key(seed), NOW).await;
            assert!(matches!(lookup, Lookup::Miss { expired: None }), "seed {seed}: {lookup:?}");
        }
    }
    assert_eq!(metric(&registry, "calotype_cache_disk_read_errors_total", None), Some(0.0));
    assert_eq!(metric(&registry, "foyer_storage_op_total", Some("miss")), Some(8.0), "all keys were looked up on disk");
    fill_all(&cache, 1..=4, BODY).await;
    assert!(cache.close(PATIENCE).await.flushed);
    let (cache, _) = support::open_with(config()).await;
    assert_eq!(count_found(&cache, 1..=4, BODY).await, 4);
}
