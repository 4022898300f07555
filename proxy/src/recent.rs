//! Decisions of recent URLs, so that a hot URL is parsed, authorised and hashed once and not at each hit.
//!
//! One small table a thread: no lock, a bound on memory, and a collision only costs deciding again. It belongs to one
//! policy and is dropped with it, so nothing outlives the policy that decided it.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use transform_url::TenantSlug;

use crate::decision::Decision;
use crate::tenants::ActivePolicy;

/// URLs remembered by each thread.
const SLOTS: usize = 2048;

/// Longer targets are decided each time: with the number of slots this bounds the memory, at about 3 MB a thread.
const TARGET_BYTES_MAX: usize = 512;

thread_local! {
    static RECENT: RefCell<Option<Recent>> = const { RefCell::new(None) };
}

struct Recent {
    policy: Arc<ActivePolicy>,
    slots: Vec<Option<Slot>>,
    /// Seeded at random: nobody can choose URLs that push each other out.
    hasher: RandomState,
}

struct Slot {
    host_tenant: Option<TenantSlug>,
    target: Box<[u8]>,
    decision: Arc<Decision>,
}

impl Recent {
    fn new(policy: &Arc<ActivePolicy>) -> Self {
        let slots = std::iter::repeat_with(|| None).take(SLOTS).collect();
        Self { policy: Arc::clone(policy), slots, hasher: RandomState::new() }
    }

    fn slot(&mut self, target: &[u8]) -> &mut Option<Slot> {
        // The remainder is below SLOTS, which fits every usize.
        let index = self.hasher.hash_one(target) % SLOTS as u64;
        &mut self.slots[index as usize]
    }
}

/// The decision on this URL if it was made lately by this thread under this very policy.
pub fn recall(policy: &Arc<ActivePolicy>, host_tenant: Option<&TenantSlug>, target: &[u8]) -> Option<Arc<Decision>> {
    RECENT.with_borrow_mut(|recent| {
        let recent = recent.as_mut().filter(|recent| Arc::ptr_eq(&recent.policy, policy))?;
        let slot = recent.slot(target).as_ref()?;
        let is_same = *slot.target == *target && slot.host_tenant.as_ref() == host_tenant;
        is_same.then(|| Arc::clone(&slot.decision))
    })
}

/// Remembers a decision for the next request of this thread.
pub fn remember(policy: &Arc<ActivePolicy>, host_tenant: Option<&TenantSlug>, target: &[u8], decision: &Arc<Decision>) {
    if target.len() > TARGET_BYTES_MAX {
        return;
    }
    RECENT.with_borrow_mut(|recent| {
        if !recent.as_ref().is_some_and(|recent| Arc::ptr_eq(&recent.policy, policy)) {
            *recent = None;
        }
        let slot = Slot { host_tenant: host_tenant.cloned(), target: target.into(), decision: Arc::clone(decision) };
        *recent.get_or_insert_with(|| Recent::new(policy)).slot(target) = Some(slot);
    });
}
