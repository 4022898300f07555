//! What one tenant may hold of what all fills share: places, and memory for originals.
//!
//! A fill that waits for its tenant's share is in nobody else's way; what is left is shared out fairly, as threads are. A
//! tenant without fills is forgotten. Must not know what a fill does with it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tenancy::TenantId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::pool::FairQueue;

/// Unit of memory here: a semaphore's permits are 32 bits wide.
const KIB: u64 = 1024;

/// What a tenant that waits for memory is given in a round: a large JPEG is a few of them.
const QUANTUM_KIB: u64 = 1024;

/// What is shared out.
pub struct Shares {
    tenant_fills: usize,
    all_kib: u64,
    /// Memory that one tenant may hold: half, so that a second one never finds nothing.
    tenant_kib: u32,
    tenants: Mutex<HashMap<TenantId, Held>>,
    room: Mutex<Room>,
}

/// What a tenant holds.
struct Held {
    fills: usize,
    /// Places that take none from others.
    spare: usize,
    memory: Arc<Semaphore>,
}

struct Room {
    free_kib: u64,
    waiting: FairQueue<TenantId, Waiter>,
}

struct Waiter {
    kib: u32,
    granted: oneshot::Sender<Taken>,
}

/// The right to fill, of one tenant.
pub struct FillPlace {
    shares: Arc<Shares>,
    tenant: TenantId,
    memory: Arc<Semaphore>,
    kind: PlaceKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlaceKind {
    /// One of those that a tenant has.
    Counted,
    /// None of those, and only memory that nobody misses.
    Spare,
    /// None of those, and memory like everybody.
    Uncounted,
}

/// Memory for an original; given back when it is dropped.
pub struct SourceRoom {
    // Given back first: whoever of the tenant waits for its share then finds the room.
    taken: Taken,
    share: OwnedSemaphorePermit,
}

struct Taken {
    shares: Arc<Shares>,
    kib: u32,
}

impl Shares {
    /// So many fills at a time for each tenant, and so much memory for the originals of all.
    pub fn new(tenant_fills: usize, source_memory_bytes: u64) -> Arc<Self> {
        let all = source_memory_bytes / KIB;
        let permits_max = u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX);
        Arc::new(Self {
            tenant_fills,
            all_kib: all,
            tenant_kib: u32::try_from(all / 2).unwrap_or(u32::MAX).clamp(1, permits_max),
            tenants: Mutex::default(),
            room: Mutex::new(Room { free_kib: all, waiting: FairQueue::new(QUANTUM_KIB) }),
        })
    }

    /// A place for a fill of `tenant`; `None` when it has as many as it may.
    pub fn enter(self: &Arc<Self>, tenant: &TenantId) -> Option<FillPlace> {
        self.place(tenant, PlaceKind::Counted)
    }

    /// A place for work that nobody waits for: no fill is refused for it, and memory is given to it only where there is
    /// plenty.
    pub fn enter_spare(self: &Arc<Self>, tenant: &TenantId) -> Option<FillPlace> {
        self.place(tenant, PlaceKind::Spare)
    }

    fn place(self: &Arc<Self>, tenant: &TenantId, kind: PlaceKind) -> Option<FillPlace> {
        let mut tenants = self.tenants.lock();
        let permits = self.tenant_kib as usize;
        let held = tenants.entry(tenant.clone()).or_insert_with(|| Held {
            fills: 0,
            spare: 0,
            memory: Arc::new(Semaphore::new(permits)),
        });
        match kind {
            PlaceKind::Counted if held.fills >= self.tenant_fills => return None,
            PlaceKind::Counted => held.fills += 1,
            PlaceKind::Spare | PlaceKind::Uncounted => held.spare += 1,
        }
        let memory = Arc::clone(&held.memory);
        Some(FillPlace { shares: Arc::clone(self), tenant: tenant.clone(), memory, kind })
    }

    /// Whether so much can be taken twice.
    fn has_plenty(&self, kib: u32) -> bool {
        let room = self.room.lock();
        room.waiting.len() == 0 && room.free_kib >= u64::from(kib) * 2
    }

    async fn take(self: &Arc<Self>, tenant: &TenantId, kib: u32) -> Option<Taken> {
        let granted = {
            let mut room = self.room.lock();
            if room.waiting.len() == 0 && room.free_kib >= kib.into() {
                room.free_kib -= u64::from(kib);
                return Some(Taken { shares: Arc::clone(self), kib });
            }
            let (sender, granted) = oneshot::channel();
            room.waiting.push(tenant.clone(), kib.into(), Waiter { kib, granted: sender });
            granted
        };
        granted.await.ok()
    }

    fn give_back(self: &Arc<Self>, kib: u32) {
        let mut granted = Vec::new();
        {
            let room = &mut *self.room.lock();
            room.free_kib += u64::from(kib);
            while room.waiting.peek().is_some_and(|first| u64::from(first.kib) <= room.free_kib) {
                let Some((_, _, waiter)) = room.waiting.pop() else { break };
                room.free_kib -= u64::from(waiter.kib);
                granted.push((waiter.granted, Taken { shares: Arc::clone(self), kib: waiter.kib }));
            }
        }
        for (waiter, taken) in granted {
            // Comes back when the waiter's time is up, and is dropped here, without the lock.
            drop(waiter.send(taken));
        }
    }
}

impl FillPlace {
    /// Room for an original of so many bytes, or all there is. Waits for it; `None` only comes of a spare place, at once,
    /// where others may miss it.
    pub async fn room(&self, bytes: u64) -> Option<SourceRoom> {
        let kib = u32::try_from(bytes.div_ceil(KIB).min(self.shares.all_kib)).unwrap_or(u32::MAX);
        let share = kib.min(self.shares.tenant_kib);
        let has_plenty = || self.shares.has_plenty(kib) && self.memory.available_permits() >= share as usize * 2;
        if self.kind == PlaceKind::Spare && !has_plenty() {
            return None;
        }
        let share = Arc::clone(&self.memory).acquire_many_owned(share).await.ok()?;
        let taken = self.shares.take(&self.tenant, kib).await?;
        Some(SourceRoom { taken, share })
    }

    /// The place for what others may wait for too: this one, or if it is spare, one that has its turn like others.
    pub fn for_others(self: &Arc<Self>) -> Arc<Self> {
        let uncounted = || self.shares.place(&self.tenant, PlaceKind::Uncounted).map(Arc::new);
        let of_its_own = (self.kind == PlaceKind::Spare).then(uncounted).flatten();
        of_its_own.unwrap_or_else(|| Arc::clone(self))
    }
}

impl Drop for FillPlace {
    fn drop(&mut self) {
        let mut tenants = self.shares.tenants.lock();
        if let Some(held) = tenants.get_mut(&self.tenant) {
            match self.kind {
                PlaceKind::Counted => held.fills -= 1,
                PlaceKind::Spare | PlaceKind::Uncounted => held.spare -= 1,
            }
            if held.fills + held.spare == 0 {
                tenants.remove(&self.tenant);
            }
        }
    }
}

impl SourceRoom {
    /// Gives back what is beyond so many bytes.
    pub fn shrink(&mut self, bytes: u64) {
        let kib = u32::try_from(bytes.div_ceil(KIB)).unwrap_or(u32::MAX);
        let beyond = self.taken.kib.saturating_sub(kib);
        self.taken.kib -= beyond;
        self.taken.shares.give_back(beyond);
        let beyond = self.share.num_permits().saturating_sub(kib as usize);
        drop(self.share.split(beyond));
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.shares.give_back(self.kib);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;

    use futures_util::FutureExt;

    use super::*;
    use crate::pool::tests::tenant;

    const ALL: u64 = 100 * KIB;

    fn start<'a>(place: &'a FillPlace, kib: u64) -> Pin<Box<dyn Future<Output = Option<SourceRoom>> + 'a>> {
        Box::pin(place.room(kib * KIB))
    }

    #[test]
    fn a_tenant_has_so_many_places_and_leaves_nothing_behind() {
        let (shares, a, b) = (Shares::new(2, ALL), tenant("a"), tenant("b"));
        let places = [shares.enter(&a).expect("one"), shares.enter(&a).expect("two")];
        assert!(shares.enter(&a).is_none());
        drop(shares.enter(&b).expect("one of another's"));
        drop(places);
        assert!(shares.tenants.lock().is_empty());
        assert!(shares.enter(&a).is_some());
    }

    #[test]
    fn half_of_the_memory_is_left_to_others() {
        let (shares, a, b) = (Shares::new(9, ALL), tenant("a"), tenant("b"));
        let (of_a, of_b) = (shares.enter(&a).expect("a place"), shares.enter(&b).expect("a place"));
        let held = start(&of_a, 40).now_or_never().flatten().expect("room");
        let mut second = start(&of_a, 20);
        assert!((&mut second).now_or_never().is_none(), "60 KiB of 50");
        let others = start(&of_b, 50).now_or_never().flatten().expect("room");
        drop(held);
        assert!(second.now_or_never().flatten().is_some());
        drop(others);
        assert_eq!(shares.room.lock().free_kib, 100);
    }

    #[test]
    fn what_is_larger_than_a_share_has_room_alone() {
        let (shares, a) = (Shares::new(9, ALL), tenant("a"));
        let place = shares.enter(&a).expect("a place");
        let held = start(&place, 100).now_or_never().flatten().expect("room");
        assert!(start(&place, 1).now_or_never().is_none());
        drop(held);
        assert!(start(&place, 1).now_or_never().flatten().is_some());
        assert!(start(&place, 101).now_or_never().flatten().is_some(), "more than there is");
    }

    #[test]
    fn a_spare_place_takes_none_from_others_and_only_memory_that_is_plenty() {
        let (shares, a) = (Shares::new(1, ALL), tenant("a"));
        let spare = Arc::new(shares.enter_spare(&a).expect("always"));
        let counted = shares.enter(&a).expect("the one that there is");
        assert!(start(&spare, 26).now_or_never().flatten().is_none(), "more than half of the tenant's 50 KiB");
        let held = start(&spare, 25).now_or_never().flatten().expect("plenty");
        assert!(start(&spare, 20).now_or_never().flatten().is_none(), "half of what is left is too little");
        let for_others = spare.for_others();
        let taken = start(&for_others, 20).now_or_never().flatten().expect("like everybody");
        assert!(Arc::ptr_eq(&for_others, &for_others.for_others()));
        drop((held, taken, counted, spare));
        assert!(shares.enter(&a).is_some());
        drop(for_others);
        assert!(shares.tenants.lock().is_empty());
        assert_eq!(shares.room.lock().free_kib, 100);
    }

    #[test]
    fn what_turns_out_smaller_gives_the_rest_back() {
        let (shares, a) = (Shares::new(9, ALL), tenant("a"));
        let place = shares.enter(&a).expect("a place");
        let mut held = start(&place, 50).now_or_never().flatten().expect("room");
        held.shrink(10 * KIB + 1);
        assert_eq!(shares.room.lock().free_kib, 89);
        assert!(start(&place, 39).now_or_never().flatten().is_some());
        drop(held);
        assert_eq!(shares.room.lock().free_kib, 100);
    }

    #[test]
    fn tenants_that_wait_for_the_same_room_take_turns_and_who_left_is_passed_over() {
        let (shares, a, b) = (Shares::new(9, ALL), tenant("a"), tenant("b"));
        let (of_a, of_b) = (shares.enter(&a).expect("a place"), shares.enter(&b).expect("a place"));
        let others: Vec<_> = ["c", "d"].map(|name| shares.enter(&tenant(name)).expect("a place")).into();
        let [first, second] = [0, 1].map(|other| start(&others[other], 50).now_or_never().flatten().expect("room"));
        let mut waiting: Vec<_> = (0..3).map(|_| start(&of_a, 10)).collect();
        waiting.push(start(&of_b, 10));
        for room in &mut waiting {
            assert!(room.now_or_never().is_none(), "all is taken");
        }
        drop(waiting.remove(0));
        drop(first);
        assert_eq!(waiting.into_iter().filter_map(|room| room.now_or_never().flatten()).count(), 3);
        drop(second);
        assert_eq!(shares.room.lock().free_kib, 100);
    }
}
