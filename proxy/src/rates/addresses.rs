//! The counts of addresses, in memory of a fixed size.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use governor::RateLimiter;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use tenancy::Rate;

use super::quota;

/// Cells of 8 bytes. With 10,000 addresses asking at a time, one in fourteen shares its cell.
pub(super) const CELLS: usize = 1 << 17;

pub(super) type ByAddress<C> = RateLimiter<IpAddr, Cells, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// Counts for this rate.
pub(super) fn by_address<C: Clock + Clone>(rate: Rate, clock: &C) -> ByAddress<C> {
    RateLimiter::new(quota(rate), Cells::new(), clock.clone())
}

/// Counts for addresses: as many as there are cells. The hash is seeded at random, so that nobody can choose whom to
/// share a cell with.
pub(super) struct Cells {
    cells: Box<[InMemoryState]>,
    hasher: RandomState,
}

impl Cells {
    fn new() -> Self {
        Self { cells: (0..CELLS).map(|_| InMemoryState::default()).collect(), hasher: RandomState::new() }
    }
}

impl StateStore for Cells {
    type Key = IpAddr;

    fn measure_and_replace<T, F, E>(&self, address: &IpAddr, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        // The remainder is below CELLS, which fits every usize.
        let index = (self.hasher.hash_one(address) % CELLS as u64) as usize;
        self.cells[index].measure_and_replace(&NotKeyed::NonKey, decide)
    }
}
