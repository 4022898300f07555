//! The most memory that processes have had, as the kernel counts it.

use std::fs;

use anyhow::Context;

use crate::cpu_time;

/// The most resident memory that a process has had, in bytes (`VmHWM`, proc(5)).
///
/// # Errors
/// When it is gone.
pub fn peak_bytes(process: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"));
    let status = status.with_context(|| format!("process {process} is gone"))?;
    parse(&status).context("its memory cannot be read")
}

/// The same of a process and all its descendants that still run, added up: what they share is counted for each.
///
/// # Errors
/// When the process is gone.
pub fn peak_bytes_of_tree(root: u32) -> anyhow::Result<u64> {
    // One may end between the listing and the reading, but not the first.
    let others = cpu_time::tree(root)?.into_iter().filter(|process| *process != root);
    Ok(peak_bytes(root)? + others.filter_map(|process| peak_bytes(process).ok()).sum::<u64>())
}

/// The resident memory of a process now, in bytes.
///
/// # Errors
/// When it is gone.
pub fn resident_bytes(process: u32) -> anyhow::Result<u64> {
    let statm = fs::read_to_string(format!("/proc/{process}/statm"));
    let statm = statm.with_context(|| format!("process {process} is gone"))?;
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    Ok(pages.context("its memory cannot be read")? * rustix::param::page_size() as u64)
}

/// Lets [`peak_bytes`] begin anew (`clear_refs`, proc(5)).
///
/// # Errors
/// When it is gone, or somebody else's.
pub fn forget_peak(process: u32) -> anyhow::Result<()> {
    fs::write(format!("/proc/{process}/clear_refs"), "5").with_context(|| format!("process {process}"))
}

fn parse(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_and_not_the_size_of_now() {
        assert_eq!(parse("Name:\tx\nVmHWM:\t    1234 kB\nVmRSS:\t     99 kB\n"), Some(1234 * 1024));
        assert_eq!(parse("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn a_tree_has_at_least_what_its_root_has() {
        let own = std::process::id();
        let (one, all) = (peak_bytes(own).expect("runs"), peak_bytes_of_tree(own).expect("runs"));
        assert!(one > 0 && all >= one);
    }
}
