//! Which drafts wait to be made better, and in which order: tenants in turn, each draft once, with an end to all of it.
//!
//! Must not know what a draft is, or look at a clock.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::time::Instant;

use cache::CacheKey;
use lru::LruCache;
use tenancy::TenantId;

use crate::pool::FairQueue;

/// Drafts that may wait.
const ENTRIES_MAX: usize = 1024;
/// Drafts of one tenant that may wait: half, so that a second one never finds the queue full.
const TENANT_ENTRIES_MAX: usize = ENTRIES_MAX / 2;
/// Memory that those that wait may take, in bytes.
const BYTES_MAX: usize = 4 << 20;

/// Drafts that are remembered not to be tried again soon. One that is forgotten is tried again, nothing worse.
const RESTING_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// What came of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It waits.
    Queued,
    /// It waits or is made already, or was tried a moment ago.
    Known,
    /// As many wait as may, in all or of its tenant.
    Full,
}

/// One that waits.
#[derive(Debug)]
pub struct Waiting<T> {
    /// Its key in the cache.
    pub key: CacheKey,
    /// Whose.
    pub tenant: TenantId,
    /// What is known of it.
    pub what: T,
    /// How often it was begun and put back.
    pub tries: u32,
    bytes: usize,
}

/// Drafts of many tenants.
pub struct Queue<T> {
    waiting: FairQueue<TenantId, Waiting<T>>,
    /// Those that wait and those that were taken.
    known: HashSet<CacheKey>,
    resting: LruCache<CacheKey, Instant>,
    bytes: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        // All cost the same: who has more of them waits longer for the last.
        Self { waiting: FairQueue::new(1), known: HashSet::new(), resting: LruCache::new(RESTING_MAX), bytes: 0 }
    }
}

impl<T> Queue<T> {
    /// Lets a draft wait, if it does not yet and there is room. `what` is called only then, and takes so many `bytes`.
    pub fn ask(
        &mut self,
        key: CacheKey,
        tenant: &TenantId,
        (bytes, now): (usize, Instant),
        what: impl FnOnce() -> T,
    ) -> Asked {
        if self.known.contains(&key) || self.is_resting(key, now) {
            return Asked::Known;
        }
        let is_full = self.waiting.len() >= ENTRIES_MAX || self.waiting.len_of(tenant) >= TENANT_ENTRIES_MAX;
        if is_full || self.bytes + bytes > BYTES_MAX {
            return Asked::Full;
        }
        self.known.insert(key);
        self.push(Waiting { key, tenant: tenant.clone(), what: what(), tries: 0, bytes });
        Asked::Queued
    }

    /// Takes the next one, which stays known until [`Self::ended`] or [`Self::put_back`].
    pub fn take(&mut self) -> Option<Waiting<T>> {
        let (_, _, next) = self.waiting.pop()?;
        self.bytes -= next.bytes;
        Some(next)
    }

    /// Lets one that was taken wait again, behind the others of its tenant. There is room: it had a place.
    pub fn put_back(&mut self, mut taken: Waiting<T>) {
        taken.tries += 1;
        self.push(taken);
    }

    /// Forgets one that was taken; until `rests_until` it is not let in again.
    pub fn ended(&mut self, key: CacheKey, rests_until: Option<Instant>) {
        self.known.remove(&key);
        if let Some(until) = rests_until {
            self.resting.put(key, until);
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    fn push(&mut self, waiting: Waiting<T>) {
        self.bytes += waiting.bytes;
        self.waiting.push(waiting.tenant.clone(), 1, waiting);
    }

    fn is_resting(&mut self, key: CacheKey, now: Instant) -> bool {
        match self.resting.get(&key) {
            Some(until) if *until > now => true,
            Some(_) => {
                self.resting.pop(&key);
                false
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cache::KeyBuilder;

    use super::*;
    use crate::pool::tests::tenant;

    fn key(number: u64) -> CacheKey {
        KeyBuilder::new().number(number).finish()
    }

    /// A queue of numbers, at a time that stands still.
    struct Rig {
        queue: Queue<u64>,
        now: Instant,
    }

    impl Rig {
        fn new() -> Self {
            Self { queue: Queue::default(), now: Instant::now() }
        }

        fn ask(&mut self, tenant: &TenantId, number: u64) -> Asked {
            self.queue.ask(key(number), tenant, (100, self.now), || number)
        }

        fn take(&mut self) -> Option<u64> {
            let taken = self.queue.take()?;
            self.queue.ended(taken.key, None);
            Some(taken.what)
        }
    }

    #[test]
    fn each_draft_waits_once_until_it_has_ended() {
        let (mut rig, a) = (Rig::new(), tenant("a"));
        assert_eq!([rig.ask(&a, 1), rig.ask(&a, 1), rig.ask(&a, 2)], [Asked::Queued, Asked::Known, Asked::Queued]);
        let taken = rig.queue.take().expect("the first");
        assert_eq!((taken.what, taken.tries), (1, 0));
        assert_eq!(rig.ask(&a, 1), Asked::Known, "it is being made");
        rig.queue.put_back(taken);
        assert_eq!(rig.queue.take().map(|next| next.what), Some(2), "the other one first");
        let again = rig.queue.take().expect("put back");
        assert_eq!((again.what, again.tries), (1, 1));
        rig.queue.ended(key(1), None);
        assert_eq!(rig.ask(&a, 1), Asked::Queued);
    }

    #[test]
    fn what_has_failed_rests() {
        let (mut rig, a) = (Rig::new(), tenant("a"));
        rig.ask(&a, 1);
        rig.queue.take().expect("there");
        rig.queue.ended(key(1), Some(rig.now + Duration::from_secs(5)));
        assert_eq!(rig.ask(&a, 1), Asked::Known);
        rig.now += Duration::from_secs(5);
        assert_eq!(rig.ask(&a, 1), Asked::Queued);
    }

    #[test]
    fn tenants_take_turns_and_one_leaves_half_to_others() {
        let (mut rig, a, b) = (Rig::new(), tenant("a"), tenant("b"));
        let taken = (0..ENTRIES_MAX as u64).filter(|number| rig.ask(&a, *number) == Asked::Queued).count();
        assert_eq!(taken, TENANT_ENTRIES_MAX);
        let of_b = 5_000..5_000 + ENTRIES_MAX as u64;
        let taken = of_b.filter(|number| rig.ask(&b, *number) == Asked::Queued).count();
        assert_eq!((taken, rig.queue.len()), (TENANT_ENTRIES_MAX, ENTRIES_MAX));
        assert_eq!(rig.ask(&tenant("c"), 9_999), Asked::Full);
        let first: Vec<bool> = (0..10).filter_map(|_| rig.take()).map(|number| number >= 5_000).collect();
        assert!((4..=6).contains(&first.iter().filter(|is_of_b| **is_of_b).count()), "{first:?}");
        assert_eq!(rig.ask(&tenant("c"), 9_999), Asked::Queued, "room again");
    }

    #[test]
    fn memory_has_an_end_and_is_given_back() {
        let (mut rig, a) = (Rig::new(), tenant("a"));
        let half = BYTES_MAX / 2;
        for (number, expected) in [(1, Asked::Queued), (2, Asked::Queued), (3, Asked::Full)] {
            assert_eq!(rig.queue.ask(key(number), &a, (half, rig.now), || number), expected);
        }
        while rig.take().is_some() {}
        assert_eq!(rig.queue.ask(key(3), &a, (half, rig.now), || 3), Asked::Queued);
    }
}
