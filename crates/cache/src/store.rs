//! The two tiers behind the cache: opening them, and looking an entry up in one after the other.
//!
//! Uses of foyer only `memory().get`, `get` and `insert`; its fetching, removing, throttling and reinsertion all have
//! defects that lose or resurrect entries. Must not run fills.

use std::sync::Arc;

use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCacheBuilder, HybridCachePolicy, HybridCacheProperties,
    Location, PsyncIoEngineConfig, RecoverMode, S3FifoConfig, Spawner,
};
use mixtrics::registry::prometheus_0_14::PrometheusMetricsRegistry;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::ban_log::new_epoch;
use crate::bans::Bans;
use crate::cache::{Lookup, Tier};
use crate::config::{CacheSettings, DiskSettings, MemorySettings, to_usize};
use crate::disk_state::{DiskFault, DiskState};
use crate::disk_writes::{DiskWrites, Hybrid, HybridEntry};
use crate::entry::Entry;
use crate::entry_format::{StoredRendition, variable_bytes};
use crate::eviction::{OldestFirst, Recovered};
use crate::folder::Folder;
use crate::key::CacheKey;
use crate::metrics::CacheMetrics;
use crate::rendition::{Freshness, Rendition, UnixMillis};
use crate::write_log::LogPosition;

/// What an entry costs in memory beside its variable parts: the rendition, foyer's record and its index.
const ENTRY_OVERHEAD_BYTES: usize = 512;

pub(crate) struct Store {
    hybrid: Hybrid,
    bans: Arc<Bans>,
    disk: Result<Arc<DiskWrites>, DiskState>,
    metrics: CacheMetrics,
}

impl Store {
    /// Opens memory and, if it can be, the disk. With `shared` bans the folder's own are not looked at.
    ///
    /// # Errors
    /// Only if foyer cannot even build a cache in memory.
    pub(crate) async fn open(
        settings: &CacheSettings,
        shared: Option<Arc<Bans>>,
        metrics: CacheMetrics,
        io: Handle,
    ) -> foyer::Result<Self> {
        let foyer_registry = metrics.foyer.registry();
        let own = |bans| shared.clone().unwrap_or_else(|| Arc::new(bans));
        let (unavailable, bans) = match &settings.disk {
            None => (DiskState::Off, own(Bans::in_memory(new_epoch()))),
            Some(disk) => {
                let (memory, registry) = (settings.memory.clone(), foyer_registry.clone());
                let task = open_disk(memory, disk.clone(), shared.clone(), registry, io.clone());
                // In a task of its own, so that not even a panic over a strange folder keeps the cache from starting.
                let opened = io.spawn(task).await;
                let aborted = |_| DiskFault::OpenAborted { dir: disk.dir.clone() };
                match opened.map_err(aborted).and_then(|opened| opened) {
                    Ok((hybrid, folder, bans)) => {
                        let writes = DiskWrites::new(hybrid.clone(), folder, disk, metrics.clone(), io);
                        return Ok(Self { hybrid, bans, disk: Ok(writes), metrics });
                    }
                    Err(fault) => {
                        tracing::warn!(fault = &fault as &dyn std::error::Error, "the cache works in memory only");
                        (DiskState::Unavailable(Arc::new(fault)), own(Bans::without_folder(new_epoch())))
                    }
                }
            }
        };
        let hybrid = memory_phase(&settings.memory, foyer_registry).storage().with_spawner(io.into()).build().await?;
        Ok(Self { hybrid, bans, disk: Err(unavailable), metrics })
    }

    pub(crate) fn disk_state(&self) -> DiskState {
        match &self.disk {
            Ok(writes) => writes.state(),
            Err(state) => state.clone(),
        }
    }

    pub(crate) fn bans(&self) -> &Arc<Bans> {
        &self.bans
    }

    /// What memory holds for the key, usable or not.
    pub(crate) fn memory(&self, key: CacheKey, now: UnixMillis) -> Option<Lookup> {
        let found = self.hybrid.memory().get(&self.stored(key))?;
        Some(self.judge(key, found, Tier::Memory, now))
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
        match &self.disk {
            Ok(writes) => Entry::cached(writes.insert(self.stored(key), rendition)),
            Err(_) => self.hold(key, rendition),
        }
    }

    /// Keeps a rendition in memory only. What the disk has of the key stays there.
    pub(crate) fn hold(&self, key: CacheKey, rendition: Rendition) -> Entry {
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

    /// The key under the epoch of the bans: what was kept when others were in force is not found.
    fn stored(&self, key: CacheKey) -> u128 {
        key.as_u128() ^ self.bans.epoch()
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

async fn open_disk(
    memory: MemorySettings,
    disk: DiskSettings,
    shared: Option<Arc<Bans>>,
    registry: PrometheusMetricsRegistry,
    io: Handle,
) -> Result<(Hybrid, Folder, Arc<Bans>), DiskFault> {
    let claim = {
        let disk = disk.clone();
        io.spawn_blocking(move || {
            let folder = Folder::claim(&disk)?;
            let bans = match shared {
                Some(bans) => bans,
                None => Bans::open(&disk.dir)
                    .map(Arc::new)
                    .map_err(|source| DiskFault::Folder { dir: disk.dir.clone(), source })?,
            };
            Ok((folder, bans))
        })
        .await
    };
    let (folder, bans) = claim.map_err(|_| DiskFault::OpenAborted { dir: disk.dir.clone() })??;
    let open_fault = |source| DiskFault::Open { dir: disk.dir.clone(), source };
    let device = FsDeviceBuilder::new(folder.blocks_dir())
        .with_capacity(to_usize(disk.capacity_bytes()))
        .build()
        .map_err(open_fault)?;
    let recovered = Recovered::default();
    let picker = OldestFirst::new(folder.block_ranks(), recovered.clone());
    // One flusher, no write throttle, no tombstones: see the crate's documentation.
    let engine = BlockEngineConfig::new(device)
        .with_block_size(to_usize(disk.block_bytes))
        .with_buffer_pool_size(to_usize(disk.buffer_bytes))
        .with_submit_queue_size_threshold(to_usize(disk.queue_bytes))
        .with_eviction_pickers(vec![Box::new(picker)]);
    let hybrid = memory_phase(&memory, registry)
        .storage()
        .with_spawner(Spawner::from(io))
        .with_io_engine_config(PsyncIoEngineConfig::new())
        .with_engine_config(engine)
        .with_recover_mode(RecoverMode::Quiet)
        .build()
        .await
        .map_err(open_fault)?;
    recovered.set();
    if let Err(error) = folder.restore_times() {
        // Files of another owner. The next start then evicts blocks in the order of opening, nothing worse.
        tracing::debug!(%error, "the order of the blocks was not kept");
    }
    Ok((hybrid, folder, bans))
}

type MemoryPhase = foyer::HybridCacheBuilderPhaseMemory<u128, StoredRendition, foyer::DefaultHasher>;

fn memory_phase(memory: &MemorySettings, registry: PrometheusMetricsRegistry) -> MemoryPhase {
    let entry_bytes_max = memory.entry_bytes_max;
    HybridCacheBuilder::new()
        .with_name(memory.name)
        .with_policy(HybridCachePolicy::WriteOnInsertion)
        // Everything was written on insertion; flushing memory as well would overflow the queue.
        .with_flush_on_close(false)
        .with_metrics_registry(Box::new(registry))
        .memory(memory.capacity_bytes)
        .with_shards(memory.shards)
        .with_eviction_config(S3FifoConfig::default())
        .with_weighter(|_: &u128, stored: &StoredRendition| weight_bytes(stored))
        .with_filter(move |_: &u128, stored: &StoredRendition| weight_bytes(stored) <= entry_bytes_max)
}

fn weight_bytes(stored: &StoredRendition) -> usize {
    ENTRY_OVERHEAD_BYTES + variable_bytes(&stored.rendition)
}
