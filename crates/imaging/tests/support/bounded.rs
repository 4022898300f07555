//! Work that must stay small: how much memory it took at its peak, and how long.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One at a time: the peak is one of the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// Longest that any hostile input may take, generously: test machines are busy, and this crate is not optimised here.
const TIME_MAX: Duration = Duration::from_secs(60);

/// What `work` gives, which must not take more than `megabytes` above what the process had before.
#[track_caller]
pub fn bounded<T>(what: &str, megabytes: u64, work: impl FnOnce() -> T) -> T {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // Linux: 5 sets the peak back to what is in use (proc_pid_clear_refs(5)); refused in some containers.
    let is_reset = std::fs::write("/proc/self/clear_refs", "5").is_ok();
    let (before, begun) = (status("VmRSS"), Instant::now());
    let result = work();
    let (grown, took) = (status("VmHWM").saturating_sub(before) / 1024, begun.elapsed());
    assert!(took < TIME_MAX, "{what} took {took:?}");
    assert!(!is_reset || grown <= megabytes, "{what} took {grown} MB, more than {megabytes}");
    result
}

/// A line of `/proc/self/status`, in KB.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_ascii_whitespace().find_map(|word| word.parse().ok()).unwrap_or(0)
}
