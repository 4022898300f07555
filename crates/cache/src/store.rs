//! Opening the tiers, and changing them for better ones when the disk comes later than the process.
//!
//! The folder may be held by a process that this one takes over from, or be unusable for a while. Then memory serves alone,
//! and the folder is tried again and again. Uses of foyer only `memory().get`, `get` and `insert`; its fetching, removing,
//! throttling and reinsertion all have defects that lose or resurrect entries. Must not run fills.

use std::mem::discriminant;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCacheBuilder, HybridCachePolicy, PsyncIoEngineConfig,
    RecoverMode, S3FifoConfig, Spawner,
};
use mixtrics::registry::prometheus_0_14::PrometheusMetricsRegistry;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use crate::bans::Bans;
use crate::config::{CacheSettings, DiskSettings, MemorySettings, to_usize};
use crate::disk_state::{DiskFault, DiskState};
use crate::disk_writes::{DiskWrites, Hybrid};
use crate::entry_format::{StoredRendition, bytes_beside_body};
use crate::eviction::{OldestFirst, Recovered};
use crate::folder::Folder;
use crate::metrics::CacheMetrics;
use crate::tiers::Tiers;

/// What an entry costs in memory beside its variable parts: the rendition, foyer's record and its index.
const ENTRY_OVERHEAD_BYTES: usize = 512;

/// Time between two tries to get a folder that another process holds, and which it may be about to give up.
const RETRY_IN_USE: Duration = Duration::from_millis(200);
/// Time between two tries to get a folder that somebody has to mend first.
const RETRY_BROKEN: Duration = Duration::from_secs(5);

pub(crate) struct Store {
    tiers: ArcSwap<Tiers>,
    bans: Arc<Bans>,
    /// The tries to get the folder, while it is not ours.
    claiming: Mutex<Option<JoinHandle<()>>>,
}

/// What opening the disk takes.
struct Opening {
    memory: MemorySettings,
    disk: DiskSettings,
    bans: Arc<Bans>,
    /// The bans are those of another cache, which finds them in its own folder.
    is_beside: bool,
    metrics: CacheMetrics,
    io: Handle,
}

impl Store {
    /// Opens memory and, if it can be, the disk; else the disk is opened as soon as it can be. With the bans of another
    /// cache, `beside`, the folder's own are not looked at.
    ///
    /// # Errors
    /// Only if foyer cannot even build a cache in memory.
    pub(crate) async fn open(
        settings: &CacheSettings,
        beside: Option<Arc<Bans>>,
        metrics: CacheMetrics,
        io: Handle,
    ) -> foyer::Result<Arc<Self>> {
        let is_beside = beside.is_some();
        let Some(disk) = &settings.disk else {
            let bans = beside.unwrap_or_else(|| Arc::new(Bans::in_memory()));
            let tiers = in_memory(&settings.memory, DiskState::Off, &bans, metrics, io).await?;
            return Ok(Self::new(tiers, bans));
        };
        let bans = beside.unwrap_or_else(|| Arc::new(Bans::without_folder()));
        let (memory, disk) = (settings.memory.clone(), disk.clone());
        let opening = Opening { memory, disk, bans: Arc::clone(&bans), is_beside, metrics, io };
        let fault = match opening.open().await {
            Ok(tiers) => return Ok(Self::new(tiers, bans)),
            Err(fault) => fault,
        };
        let (metrics, io) = (opening.metrics.clone(), opening.io.clone());
        let state = DiskState::Unavailable(Arc::new(fault));
        let store = Self::new(in_memory(&opening.memory, state, &bans, metrics, io.clone()).await?, bans);
        let claiming = io.spawn(claim(Arc::downgrade(&store), opening));
        *store.claiming.lock() = Some(claiming);
        Ok(store)
    }

    fn new(tiers: Tiers, bans: Arc<Bans>) -> Arc<Self> {
        Arc::new(Self { tiers: ArcSwap::from_pointee(tiers), bans, claiming: Mutex::default() })
    }

    /// The tiers as they are now.
    pub(crate) fn tiers(&self) -> Guard<Arc<Tiers>> {
        self.tiers.load()
    }

    /// The tiers as they are now, for longer than a moment.
    pub(crate) fn keep_tiers(&self) -> Arc<Tiers> {
        self.tiers.load_full()
    }

    pub(crate) fn bans(&self) -> &Arc<Bans> {
        &self.bans
    }

    /// Stops trying to get the folder, writes out what is on its way to it and gives it up.
    pub(crate) async fn close(&self, deadline: Instant) -> bool {
        let claiming = self.claiming.lock().take();
        if let Some(claiming) = claiming {
            claiming.abort();
            // Only ends early: it may be within a call that cannot be cut off.
            let _ = timeout_at(deadline, claiming).await;
        }
        self.keep_tiers().close(deadline).await
    }
}

/// Tries to get the folder until it is ours, or the cache is gone.
async fn claim(store: Weak<Store>, opening: Opening) {
    let mut before = DiskState::Off;
    while let Some(state) = store.upgrade().map(|store| store.tiers().disk_state()) {
        if state.fault().map(discriminant) != before.fault().map(discriminant) {
            tracing::warn!(
                fault = state.fault().map(|fault| fault as &dyn std::error::Error),
                "the cache works in memory only"
            );
        }
        let is_in_use = matches!(state.fault(), Some(DiskFault::InUse { .. } | DiskFault::PurgesUnknown { .. }));
        before = state;
        sleep(if is_in_use { RETRY_IN_USE } else { RETRY_BROKEN }).await;
        let opened = opening.open().await;
        let Some(store) = store.upgrade() else { return };
        match opened {
            Ok(tiers) => {
                store.tiers.store(Arc::new(tiers));
                tracing::info!(dir = %opening.disk.dir.display(), "the cache folder is in use from now on");
                return;
            }
            Err(fault) => {
                let tiers = store.keep_tiers().with_state(DiskState::Unavailable(Arc::new(fault)));
                store.tiers.store(Arc::new(tiers));
            }
        }
    }
}

impl Opening {
    /// Claims the folder and puts the bans that are written down there in force.
    async fn open(&self) -> Result<Tiers, DiskFault> {
        let Self { memory, disk, bans, metrics, io, .. } = self;
        let dir = disk.dir.clone();
        if self.is_beside && bans.epoch().is_none() {
            return Err(DiskFault::PurgesUnknown { dir });
        }
        let registry = prometheus::Registry::new();
        let foyer_registry = PrometheusMetricsRegistry::new(registry.clone());
        let aborted = |_| DiskFault::OpenAborted { dir: disk.dir.clone() };
        // In a task of its own, so that not even a panic over a strange folder keeps the cache from starting.
        let task = io.spawn(open_disk(memory.clone(), disk.clone(), foyer_registry, io.clone()));
        let (hybrid, folder) = task.await.map_err(aborted)??;
        let known = bans.epoch().filter(|_| self.is_beside);
        let adopt = {
            let (bans, dir) = (Arc::clone(bans), dir.clone());
            io.spawn_blocking(move || known.map_or_else(|| bans.adopt(&dir), Ok))
        };
        let folder_fault = |source| DiskFault::Folder { dir, source };
        let epoch = adopt.await.map_err(aborted)?.map_err(folder_fault)?;
        metrics.foyer.show(registry);
        let writes = DiskWrites::new(hybrid.clone(), folder, disk, metrics.clone(), io.clone());
        let (bans, metrics) = (Arc::clone(bans), metrics.clone());
        let changes = Arc::default();
        Ok(Tiers { hybrid, disk: Ok(writes), epoch, bans, is_provisional: false, metrics, changes })
    }
}

async fn in_memory(
    memory: &MemorySettings,
    state: DiskState,
    bans: &Arc<Bans>,
    metrics: CacheMetrics,
    io: Handle,
) -> foyer::Result<Tiers> {
    let registry = prometheus::Registry::new();
    let phase = memory_phase(memory, PrometheusMetricsRegistry::new(registry.clone()));
    let hybrid = phase.storage().with_spawner(io.into()).build().await?;
    metrics.foyer.show(registry);
    // The one whose own folder is not there yet changes its tiers together with its bans.
    let is_provisional = matches!(state.fault(), Some(DiskFault::PurgesUnknown { .. }));
    let (bans, changes) = (Arc::clone(bans), Arc::default());
    Ok(Tiers { hybrid, disk: Err(state), epoch: 0, bans, is_provisional, metrics, changes })
}

async fn open_disk(
    memory: MemorySettings,
    disk: DiskSettings,
    registry: PrometheusMetricsRegistry,
    io: Handle,
) -> Result<(Hybrid, Folder), DiskFault> {
    let claim = {
        let disk = disk.clone();
        io.spawn_blocking(move || Folder::claim(&disk)).await
    };
    let folder = claim.map_err(|_| DiskFault::OpenAborted { dir: disk.dir.clone() })??;
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
    Ok((hybrid, folder))
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
    let rendition = &stored.rendition;
    ENTRY_OVERHEAD_BYTES + bytes_beside_body(rendition) + memfile::occupied_bytes(rendition.body.len())
}
