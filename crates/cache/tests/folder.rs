//! Folders that cannot be used, or not for long: the cache starts and answers, and says what is wrong.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cache::{DiskFault, DiskState};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{MIB, PATIENCE, TestCache, TestChild, config, count_found, fill, fill_all, metric, open, open_with};

const BODY: usize = 20_000;

/// The cache answers and fills from memory, and keeps nothing elsewhere.
async fn check_memory_only(cache: &TestCache) {
    assert_eq!(count_found(cache, 0..5, BODY).await, 0);
    fill_all(cache, 0..5, BODY).await;
    assert_eq!(count_found(cache, 0..5, BODY).await, 5);
    // 2 MiB through 1 MiB of memory.
    fill_all(cache, 100..200, BODY).await;
    let kept = count_found(cache, 100..200, BODY).await;
    assert!((10..=50).contains(&kept), "{kept} entries of 20 kB in 1 MiB");
    let closed = cache.close(Duration::ZERO).await;
    assert_eq!((closed.fills_left, closed.flushed), (0, true));
}

fn unavailable(cache: &TestCache) -> String {
    match cache.disk_state() {
        DiskState::Unavailable(fault) => {
            format!("{:?}", *fault).split([' ', '{']).next().unwrap_or_default().to_owned()
        }
        other => panic!("expected no disk, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_below_a_file_cannot_be_made() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("file");
    fs::write(&file, "not a folder").expect("written");
    let (cache, registry) = open(&file.join("cache")).await;
    assert_eq!(unavailable(&cache), "Folder");
    let state = cache.disk_state();
    assert!(state.fault().expect("a fault").to_string().ends_with("file/cache cannot be used"));
    assert_eq!(metric(&registry, "calotype_cache_disk_available", None), Some(0.0));
    check_memory_only(&cache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_or_a_block_that_is_no_file_is_reported_or_replaced() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir(dir.path().join("lock")).expect("created");
    let (cache, _) = open(dir.path()).await;
    assert_eq!(unavailable(&cache), "Folder");
    fs::remove_dir(dir.path().join("lock")).expect("removed");

    let block = dir.path().join("blocks/foyer-storage-direct-fs-00000000");
    fs::create_dir_all(block.join("folder")).expect("created");
    let (cache, _) = open(dir.path()).await;
    assert!(matches!(cache.disk_state(), DiskState::Ready), "{:?}", cache.disk_state());
    assert!(block.is_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_in_the_folder_is_not_followed() {
    let dir = tempfile::tempdir().expect("a folder");
    let elsewhere = dir.path().join("elsewhere");
    fs::write(&elsewhere, "precious").expect("written");
    let cache_dir = dir.path().join("cache");
    fs::create_dir_all(cache_dir.join("blocks")).expect("created");
    let block = cache_dir.join("blocks/foyer-storage-direct-fs-00000000");
    std::os::unix::fs::symlink(&elsewhere, &block).expect("linked");
    let (cache, _) = open(&cache_dir).await;
    assert!(matches!(cache.disk_state(), DiskState::Ready), "{:?}", cache.disk_state());
    assert_eq!(fs::read(&elsewhere).expect("there"), b"precious");
    assert!(!fs::symlink_metadata(&block).expect("there").is_symlink());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_without_write_permission_is_reported() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a folder");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).expect("own folder");
    // Root may write anyway; then it must work. Everyone else must be told.
    let may_write = fs::write(dir.path().join("probe"), "").is_ok();
    let (cache, _) = open(dir.path()).await;
    if may_write {
        assert!(matches!(cache.disk_state(), DiskState::Ready), "{:?}", cache.disk_state());
    } else {
        assert_eq!(unavailable(&cache), "Folder");
        check_memory_only(&cache).await;
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("own folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_folder_is_closed_to_other_users() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a folder");
    let cache_dir = dir.path().join("new/cache");
    let (cache, _) = open(&cache_dir).await;
    assert!(matches!(cache.disk_state(), DiskState::Ready), "{:?}", cache.disk_state());
    for made in [&cache_dir, &cache_dir.join("blocks")] {
        let mode = fs::metadata(made).expect("made").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{made:?} has mode {mode:o}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_folder() {
    const TEST: &str = "two_processes_on_one_folder";
    if let Some(dir) = support::child_dir() {
        let (cache, _) = open(&dir).await;
        fill_all(&cache, 0..50, BODY).await;
        support::report(if matches!(cache.disk_state(), DiskState::Ready) { "ready" } else { "not ready" });
        return std::future::pending().await;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let mut first = TestChild::start(TEST, dir.path());
    assert_eq!(first.next_report(), "ready");

    let (second, registry) = open(dir.path()).await;
    assert_eq!(unavailable(&second), "InUse");
    assert_eq!(metric(&registry, "calotype_cache_disk_available", None), Some(0.0));
    check_memory_only(&second).await;

    // The lock dies with its process, however that ends.
    first.kill();
    let (third, _) = open(dir.path()).await;
    assert!(matches!(third.disk_state(), DiskState::Ready), "{:?}", third.disk_state());
    assert_eq!(count_found(&third, 0..50, BODY).await, 50, "the second process has not touched the folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_cannot_hold_the_cache_is_left_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let total = fs4::total_space(dir.path()).expect("a file system");
    // More than there is, free or not.
    let too_much = total.next_multiple_of(1 << 30) + (1 << 30);
    let (cache, _) = open_with(config(dir.path(), MIB, too_much)).await;
    assert_eq!(unavailable(&cache), "NoSpace");
    let state = cache.disk_state();
    match state.fault() {
        Some(DiskFault::NoSpace { needed_bytes, available_bytes, .. }) => {
            assert!(*needed_bytes > total && *available_bytes <= total, "{state:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(support::block_files(dir.path()), Vec::<std::path::PathBuf>::new());
    check_memory_only(&cache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn space_is_taken_when_the_cache_opens() {
    use std::os::unix::fs::MetadataExt;
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, _) = open_with(config(dir.path(), MIB, 16 * MIB)).await;
    assert!(matches!(cache.disk_state(), DiskState::Ready), "{:?}", cache.disk_state());
    let probe = fs::File::create(dir.path().join("probe")).expect("created");
    let can_reserve = fs4::FileExt::allocate(&probe, 4096).is_ok();
    let held: u64 =
        support::block_files(dir.path()).iter().map(|file| fs::metadata(file).expect("there").blocks() * 512).sum();
    if can_reserve {
        assert!(held >= 16 * MIB, "{held} bytes held");
    } else {
        assert!(held < 16 * MIB, "a file system that cannot reserve has reserved {held} bytes");
    }
}

fn limit_file_size(bytes: u64) {
    let limits = getrlimit(Resource::Fsize);
    setrlimit(Resource::Fsize, Rlimit { current: Some(bytes), ..limits }).expect("lowering is always allowed");
}

/// This test in a process that is told of a file size limit by an error and not by a deadly signal. The limit is how an
/// ordinary user gets a real write error out of the kernel.
fn start_with_signal_ignored(test: &str, dir: &Path) -> TestChild {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(std::env::current_exe().expect("the test binary"));
    TestChild::start_through(shell, test, dir)
}

#[tokio::test(flavor = "multi_thread")]
async fn running_out_of_space_while_opening_frees_what_was_taken() {
    const TEST: &str = "running_out_of_space_while_opening_frees_what_was_taken";
    if let Some(dir) = support::child_dir() {
        limit_file_size(MIB / 2);
        let (cache, _) = open_with(config(&dir, MIB, 16 * MIB)).await;
        support::report(&unavailable(&cache));
        support::report(&support::block_files(&dir).len().to_string());
        check_memory_only(&cache).await;
        support::report("memory works");
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let mut child = start_with_signal_ignored(TEST, dir.path());
    assert_eq!(child.next_report(), "NoSpace");
    assert_eq!(child.next_report(), "0");
    assert_eq!(child.next_report(), "memory works");
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_start_to_fail_leave_the_disk_readable() {
    const TEST: &str = "writes_that_start_to_fail_leave_the_disk_readable";
    if let Some(dir) = support::child_dir() {
        let (cache, registry) = open_with(config(&dir, MIB, 16 * MIB)).await;
        fill_all(&cache, 0..200, BODY).await;
        assert!(matches!(cache.disk_state(), DiskState::Ready));
        assert_eq!(metric(&registry, "calotype_cache_disk_available", None), Some(1.0));
        limit_file_size(4096);
        fill_all(&cache, 200..300, BODY).await;
        match cache.disk_state() {
            DiskState::ReadOnly(fault) => support::report(&format!("{fault:?}")),
            other => panic!("writes cannot have succeeded: {other:?}"),
        }
        assert_eq!(metric(&registry, "calotype_cache_disk_available", None), Some(0.0));
        assert_eq!(metric(&registry, "calotype_cache_unflushed_entries", None), Some(0.0));
        assert_eq!(count_found(&cache, 0..200, BODY).await, 200, "what was on disk before is still found");
        assert_eq!(*fill(&cache, 999, BODY).await, support::rendition(999, BODY));
        let closed = cache.close(Duration::ZERO).await;
        assert_eq!(closed.fills_left, 0);
        support::report("readable");
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let mut child = start_with_signal_ignored(TEST, dir.path());
    let fault = child.next_report();
    assert!(["WritesFail", "WriterStopped"].contains(&fault.as_str()), "{fault}");
    assert_eq!(child.next_report(), "readable");
    child.kill();

    // The next process has a disk that works, and finds it as it was.
    let (cache, _) = open_with(config(dir.path(), MIB, 16 * MIB)).await;
    assert!(matches!(cache.disk_state(), DiskState::Ready), "{:?}", cache.disk_state());
    assert_eq!(count_found(&cache, 0..200, BODY).await, 200);
    fill_all(&cache, 400..450, BODY).await;
    assert!(cache.close(PATIENCE).await.flushed);
    let (cache, _) = open_with(config(dir.path(), MIB, 16 * MIB)).await;
    assert_eq!(count_found(&cache, 400..450, BODY).await, 50);
}
