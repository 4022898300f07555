//! How far the disk has turned over, and which entries to write again before it reaches them.
//!
//! The disk evicts what was written longest ago, however often it is read, and an entry answered from memory is never
//! written by itself. So a hit on an entry that lies more than half a turnover back writes it again, within a budget.
//! Must not do the writing.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes ever written to the cache folder up to and including an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogPosition(pub(crate) u64);

/// For every so many bytes of fills, one byte of rewrites. The budget is what keeps this finite: without it, a working set
/// of more than half the disk would rewrite itself for ever.
const FILL_BYTES_PER_REWRITE_BYTE: u64 = 4;
/// An unused budget is kept up to this fraction of the disk.
const CREDIT_MAX_DIVISOR: u64 = 16;

#[derive(Debug)]
pub(crate) struct WriteLog {
    capacity_bytes: u64,
    position: AtomicU64,
    credit_bytes: AtomicU64,
}

impl WriteLog {
    pub(crate) fn new(capacity_bytes: u64, start: LogPosition) -> Self {
        Self { capacity_bytes, position: AtomicU64::new(start.0), credit_bytes: AtomicU64::new(0) }
    }

    pub(crate) fn position(&self) -> LogPosition {
        LogPosition(self.position.load(Ordering::Relaxed))
    }

    /// Whether an entry at `position` has come closer to its eviction than to its writing. A position ahead of the log
    /// belongs to a folder whose own position was lost: nothing is known, so it counts as old.
    pub(crate) fn is_old(&self, position: LogPosition) -> bool {
        match self.position().0.checked_sub(position.0) {
            Some(written_since) => written_since > self.capacity_bytes / 2,
            None => true,
        }
    }

    /// Whether the budget covers a rewrite of so many bytes.
    pub(crate) fn affords(&self, bytes: u64) -> bool {
        self.credit_bytes.load(Ordering::Relaxed) >= bytes
    }

    /// Appends a new entry. Call only with the insert lock held.
    pub(crate) fn append_fill(&self, bytes: u64) -> LogPosition {
        let credit = self.credit_bytes.load(Ordering::Relaxed) + bytes / FILL_BYTES_PER_REWRITE_BYTE;
        self.credit_bytes.store(credit.min(self.capacity_bytes / CREDIT_MAX_DIVISOR), Ordering::Relaxed);
        self.append(bytes)
    }

    /// Appends an entry once more, or not if the budget is spent. Call only with the insert lock held.
    pub(crate) fn append_rewrite(&self, bytes: u64) -> Option<LogPosition> {
        let credit = self.credit_bytes.load(Ordering::Relaxed).checked_sub(bytes)?;
        self.credit_bytes.store(credit, Ordering::Relaxed);
        Some(self.append(bytes))
    }

    fn append(&self, bytes: u64) -> LogPosition {
        LogPosition(self.position.fetch_add(bytes, Ordering::Relaxed) + bytes)
    }
}
