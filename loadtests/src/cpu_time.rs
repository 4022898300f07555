//! CPU time of a process with all its threads and children, as the kernel counts it.
//!
//! User plus system time: most of what it costs to send a picture is spent in the kernel.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::Context;

/// One process in `/proc` (proc(5), `/proc/pid/stat`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ProcessTimes {
    id: u32,
    parent: u32,
    /// Own user and system time, and that of ended and awaited children.
    ticks: u64,
}

impl ProcessTimes {
    fn parse(stat: &str) -> Option<Self> {
        // The name stands in parentheses and may hold spaces and parentheses itself.
        let (front, back) = stat.rsplit_once(") ")?;
        let id = front.split(' ').next()?.parse().ok()?;
        let fields: Vec<&str> = back.split(' ').collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
        Some(Self { id, parent: u32::try_from(number(1)?).ok()?, ticks })
    }
}

/// The CPU time that the process `root` and all its descendants have taken so far. Resolution: one tick, 10 ms.
///
/// # Errors
/// When there is no such process.
pub fn of_tree(root: u32) -> anyhow::Result<Duration> {
    let ticks = tree_ticks(&all_processes()?, root).with_context(|| format!("process {root} is gone"))?;
    Ok(of_ticks(ticks))
}

/// So many ticks of the kernel's statistics.
pub fn of_ticks(ticks: u64) -> Duration {
    Duration::from_micros(ticks * (1_000_000 / rustix::param::clock_ticks_per_second()))
}

fn all_processes() -> anyhow::Result<Vec<ProcessTimes>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc cannot be listed")? {
        let path = entry?.path();
        let is_process = path.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit));
        // A process may end between the listing and the reading.
        if is_process && let Ok(stat) = fs::read_to_string(path.join("stat")) {
            all.extend(ProcessTimes::parse(&stat));
        }
    }
    Ok(all)
}

/// The process `root` and all its descendants.
///
/// # Errors
/// When there is no such process.
pub fn tree(root: u32) -> anyhow::Result<BTreeSet<u32>> {
    tree_in(&all_processes()?, root).with_context(|| format!("process {root} is gone"))
}

fn tree_in(all: &[ProcessTimes], root: u32) -> Option<BTreeSet<u32>> {
    let mut tree = BTreeSet::from([all.iter().find(|process| process.id == root)?.id]);
    loop {
        let before = tree.len();
        tree.extend(
            all.iter().filter(|process| tree.contains(&process.parent)).map(|process| process.id).collect::<Vec<_>>(),
        );
        if tree.len() == before {
            return Some(tree);
        }
    }
}

fn tree_ticks(all: &[ProcessTimes], root: u32) -> Option<u64> {
    let tree = tree_in(all, root)?;
    Some(all.iter().filter(|process| tree.contains(&process.id)).map(|process| process.ticks).sum())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a) R (b) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 1 20 0 9 0 5 6 7";
        let expected = ProcessTimes { id: 42, parent: 7, ticks: 124 };
        assert_eq!(ProcessTimes::parse(stat), Some(expected));
        assert_eq!(ProcessTimes::parse("42 (short) S 7"), None);
    }

    #[test]
    fn grandchildren_count_and_strangers_do_not() {
        let process = |id, parent, ticks| ProcessTimes { id, parent, ticks };
        // The grandchild is listed before its parent, as after a wrap of process ids.
        let all = [process(3, 9, 1000), process(4, 8, 4), process(7, 1, 1), process(8, 7, 2), process(9, 1, 500)];
        assert_eq!(tree_ticks(&all, 7), Some(7));
        assert_eq!(tree_ticks(&all, 5), None);
    }

    #[test]
    fn work_done_here_shows() {
        let (id, started) = (std::process::id(), Instant::now());
        let before = of_tree(id).expect("runs");
        let mut sum = 0_u64;
        while of_tree(id).expect("runs") < before + Duration::from_millis(50) {
            assert!(started.elapsed() < Duration::from_secs(30), "no CPU time was counted");
            sum = (0..1_000_000_u64).fold(sum, |sum, number| std::hint::black_box(sum ^ number));
        }
    }
}
