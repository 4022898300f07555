//! Which block of the disk goes next: always the one written longest ago, also across restarts.
//!
//! foyer's own picker is first in, first out only within one run: recovery hands it the blocks in random order, so after a
//! restart fresh blocks could go before old ones, and with them the hot entries that were just rewritten.
//! Must not look at what a block holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use foyer::{EvictionInfo, EvictionPicker};

/// Set once recovery is over; before that, blocks become evictable with the age they had in the last run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recovered(Arc<AtomicBool>);

impl Recovered {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Evicts the block that was filled longest ago.
#[derive(Debug)]
pub(crate) struct OldestFirst {
    /// For each block, a stamp that is larger the later the block was filled.
    filled: Vec<u64>,
    next: u64,
    recovered: Recovered,
}

impl OldestFirst {
    /// `ranks` orders the blocks by when the last run filled them, oldest lowest.
    pub(crate) fn new(ranks: Vec<u64>, recovered: Recovered) -> Self {
        let next = ranks.iter().max().map_or(0, |newest| newest + 1);
        Self { filled: ranks, next, recovered }
    }

    fn stamp(&self, block: u32) -> u64 {
        self.filled.get(block as usize).copied().unwrap_or(0)
    }
}

impl EvictionPicker for OldestFirst {
    fn pick(&mut self, info: EvictionInfo<'_>) -> Option<u32> {
        info.evictable.iter().copied().min_by_key(|block| self.stamp(*block))
    }

    fn on_block_evictable(&mut self, _: EvictionInfo<'_>, block: u32) {
        if self.recovered.is_set()
            && let Some(filled) = self.filled.get_mut(block as usize)
        {
            *filled = self.next;
            self.next += 1;
        }
    }

    fn on_block_evict(&mut self, _: EvictionInfo<'_>, _: u32) {}
}
