//! The two tiers behind the cache, as they are at one time: an entry is looked up in one after the other.
//!
//! Must not run fills, nor open anything. When the disk comes later than the process, other tiers take the place of these
//! (`store.rs`), and what was begun with these ends in them: they may die with it.

use std::sync::Arc;

use foyer::{HybridCacheProperties, Location};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::bans::Bans;
use crate::cache::{Lookup, Tier};
use crate::disk_state::DiskState;
use crate::disk_writes::{DiskWrites, Hybrid, HybridEntry};
use crate::entry::Entry;
use crate::entry_format::StoredRendition;
use crate::key::CacheKey;
use crate::metrics::CacheMetrics;
use crate::rendition::{Freshness, Rendition, UnixMillis};
use crate::write_log::LogPosition;

pub(crate) struct Tiers {
    pub(crate) hybrid: Hybrid,
    pub(crate) disk: Result<Arc<DiskWrites>, DiskState>,
    /// Part of every key: what was kept when bans were in force that may have been lost is not found.
    pub(crate) epoch: u128,
    pub(crate) bans: Arc<Bans>,
    /// These stand in until the bans of another cache's folder are known, and their numbers mean nothing after that.
    pub(crate) is_provisional: bool,
    pub(crate) metrics: CacheMetrics,
    /// Held by whoever changes what a key has, so that it can be looked at and replaced in one step.
    pub(crate) changes: Arc<Mutex<()>>,
}

impl Tiers {
    /// The same memory, with another reason for having no disk.
    pub(crate) fn with_state(&self, state: DiskState) -> Self {
        let (bans, metrics) = (Arc::clone(&self.bans), self.metrics.clone());
        let (is_provisional, changes) = (self.is_provisional, Arc::clone(&self.changes));
        Self {
            hybrid: self.hybrid.clone(),
            disk: Err(state),
            epoch: self.epoch,
            bans,
            is_provisional,
            metrics,
            changes,
        }
    }

    pub(crate) fn disk_state(&self) -> DiskState {
        match &self.disk {
            Ok(writes) => writes.state(),
            Err(state) => state.clone(),
        }
    }

    /// What memory holds for the key, usable or not.
    pub(crate) fn memory(&self, key: CacheKey, now: UnixMillis) -> Option<Lookup> {
        if self.is_provisional && self.bans.epoch().is_some() {
            return None;
        }
        let found = self.hybrid.memory().get(&self.stored(key))?;
        let found = if found.value().rendition.is_sendable() { found } else { self.made_sendable(key, found) };
        Some(self.judge(key, found, Tier::Memory, now))
    }

    /// What came from the disk is made fit to be sent without being copied at its first hit in memory: most of it goes again
    /// without one.
    fn made_sendable(&self, key: CacheKey, found: HybridEntry) -> HybridEntry {
        let StoredRendition { rendition, position } = found.value().clone();
        let (body, rendition) = (rendition.body.clone(), rendition.sendable());
        if !rendition.is_sendable() {
            return found;
        }
        let _change = self.changes.lock();
        let is_unchanged =
            |now: HybridEntry| (now.value().rendition.body.as_ptr(), now.value().position) == (body.as_ptr(), position);
        if !self.hybrid.memory().get(&self.stored(key)).is_some_and(is_unchanged) {
            return found;
        }
        let in_memory = HybridCacheProperties::default().with_location(Location::InMem);
        self.hybrid.insert_with_properties(self.stored(key), StoredRendition { rendition, position }, in_memory)
    }

    /// Memory, then disk. A disk that cannot be read is a miss.
    pub(crate) async fn lookup(&self, key: CacheKey, now: UnixMillis) -> Lookup {
        if let Some(lookup) = self.memory(key, now) {
            return lookup;
        }
        if self.disk.is_err() {
            return Lookup::Miss { expired: None };
        }
        match self.hybrid.get(&self.stored(key)).await {
            Ok(Some(found)) => self.judge(key, found, Tier::Disk, now),
            Ok(None) => Lookup::Miss { expired: None },
            Err(_) => {
                self.metrics.disk_read_errors.inc();
                Lookup::Miss { expired: None }
            }
        }
    }

    /// Keeps a rendition, replacing what the key had.
    pub(crate) fn insert(&self, key: CacheKey, rendition: Rendition) -> Entry {
        let rendition = rendition.sendable();
        let _change = self.changes.lock();
        self.put(key, rendition)
    }

    /// Keeps a rendition if `is_wanted` by what the key has at that moment.
    pub(crate) fn replace_if(
        &self,
        key: CacheKey,
        rendition: Rendition,
        is_wanted: impl FnOnce() -> bool,
    ) -> Option<Entry> {
        let rendition = rendition.sendable();
        let _change = self.changes.lock();
        is_wanted().then(|| self.put(key, rendition))
    }

    /// Keeps a rendition in memory only. What the disk has of the key stays there.
    pub(crate) fn hold(&self, key: CacheKey, rendition: Rendition) -> Entry {
        let rendition = rendition.sendable();
        let _change = self.changes.lock();
        self.put_in_memory(key, rendition)
    }

    fn put(&self, key: CacheKey, rendition: Rendition) -> Entry {
        match &self.disk {
            Ok(writes) => Entry::cached(writes.insert(self.stored(key), rendition)),
            Err(_) => self.put_in_memory(key, rendition),
        }
    }

    fn put_in_memory(&self, key: CacheKey, rendition: Rendition) -> Entry {
        let in_memory = HybridCacheProperties::default().with_location(Location::InMem);
        let stored = StoredRendition { rendition, position: LogPosition::default() };
        Entry::cached(self.hybrid.insert_with_properties(self.stored(key), stored, in_memory))
    }

    pub(crate) async fn settled(&self) {
        if let Ok(writes) = &self.disk {
            writes.settled().await;
        }
    }

    pub(crate) async fn close(&self, deadline: Instant) -> bool {
        match &self.disk {
            Ok(writes) => writes.close(deadline).await,
            Err(_) => true,
        }
    }

    fn stored(&self, key: CacheKey) -> u128 {
        key.as_u128() ^ self.epoch
    }

    fn judge(&self, key: CacheKey, found: HybridEntry, tier: Tier, now: UnixMillis) -> Lookup {
        if self.bans.is_banned(key, &found.value().rendition) {
            // Not even its validators are of use: the purge may have been because the source lied about them.
            return Lookup::Miss { expired: None };
        }
        match found.value().rendition.lifetime.freshness(now) {
            Freshness::Fresh => {
                // Only fresh ones: what is about to be refreshed must not overwrite its own replacement.
                if let Ok(writes) = &self.disk {
                    writes.keep_if_old(self.stored(key), &found);
                }
                Lookup::Fresh(Entry::cached(found), tier)
            }
            Freshness::Held => Lookup::Held(Entry::cached(found), tier),
            Freshness::Stale => Lookup::Stale(Entry::cached(found), tier),
            Freshness::Expired => Lookup::Miss { expired: Some(Entry::cached(found)) },
        }
    }
}
