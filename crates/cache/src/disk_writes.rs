//! The write side of the disk: the one lock around inserts, and the watch over what becomes of them.
//!
//! foyer hands entries to a flusher and says nothing more: it drops what comes too fast, and after a failed write the
//! flusher may be gone. So a watch runs whenever entries are on their way, and asks afterwards whether they arrived.
//! Must not be on the way of a hit, apart from the rare rewrite of a hot entry.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use foyer::{Code, HybridCache, HybridCacheEntry, HybridCacheProperties, Location};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::DiskSettings;
use crate::disk_state::{DiskFault, DiskState};
use crate::entry_format::StoredRendition;
use crate::folder::Folder;
use crate::metrics::{CacheMetrics, QueueCounts};
use crate::rendition::Rendition;
use crate::write_log::{LogPosition, WriteLog};

pub(crate) type Hybrid = HybridCache<u128, StoredRendition>;
pub(crate) type HybridEntry = HybridCacheEntry<u128, StoredRendition>;

/// A flush of one buffer takes far less on any disk worth caching on.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(60);

pub(crate) struct DiskWrites {
    hybrid: Hybrid,
    log: WriteLog,
    entry_bytes_max: u64,
    /// The one lock around inserts: foyer numbers and queues an entry in two steps, and recovery gives up on a block at
    /// the first number out of order.
    gate: Mutex<Gate>,
    /// How many of the entries handed over are known to have arrived or to be lost.
    accounted: watch::Sender<u64>,
    writable: AtomicBool,
    state: Mutex<DiskState>,
    folder: Mutex<Option<Arc<Folder>>>,
    metrics: CacheMetrics,
    io: Handle,
}

#[derive(Default)]
struct Gate {
    closed: bool,
    handed_over: u64,
    last_key: u128,
    watched: bool,
    counts: QueueCounts,
    /// Whether the previous round of the watch saw drops, which may have been those of the next round's last key.
    dropped_before: bool,
}

impl DiskWrites {
    pub(crate) fn new(
        hybrid: Hybrid,
        folder: Folder,
        settings: &DiskSettings,
        metrics: CacheMetrics,
        io: Handle,
    ) -> Arc<Self> {
        metrics.disk_available.set(1);
        metrics.disk_capacity_bytes.set(i64::try_from(settings.capacity_bytes()).unwrap_or(i64::MAX));
        Arc::new(Self {
            hybrid,
            log: WriteLog::new(settings.capacity_bytes(), folder.position()),
            entry_bytes_max: settings.entry_bytes_max(),
            gate: Mutex::default(),
            accounted: watch::Sender::new(0),
            writable: AtomicBool::new(true),
            state: Mutex::new(DiskState::Ready),
            folder: Mutex::new(Some(Arc::new(folder))),
            metrics,
            io,
        })
    }

    pub(crate) fn state(&self) -> DiskState {
        self.state.lock().clone()
    }

    /// Puts a new rendition into memory and on its way to the disk, or into memory only if the disk does not take it.
    pub(crate) fn insert(self: &Arc<Self>, key: u128, rendition: Rendition) -> HybridEntry {
        let mut stored = StoredRendition { rendition, position: LogPosition::default() };
        let encoded_bytes = stored.estimated_size() as u64;
        let mut gate = self.gate.lock();
        let fits = encoded_bytes <= self.entry_bytes_max;
        if !fits {
            self.metrics.dropped_too_large.inc();
        }
        if !fits || gate.closed || !self.is_writable() {
            let in_memory = HybridCacheProperties::default().with_location(Location::InMem);
            return self.hybrid.insert_with_properties(key, stored, in_memory);
        }
        stored.position = self.log.append_fill(DiskSettings::occupied_bytes(encoded_bytes));
        self.hand_over(&mut gate, key, stored)
    }

    /// Writes an entry that was just hit once more, if it nears its eviction and the budget allows.
    pub(crate) fn keep_if_old(self: &Arc<Self>, key: u128, entry: &HybridEntry) {
        let stored = entry.value();
        if !self.log.is_old(stored.position) || !self.is_writable() {
            return;
        }
        let encoded_bytes = stored.estimated_size() as u64;
        let occupied_bytes = DiskSettings::occupied_bytes(encoded_bytes);
        if encoded_bytes > self.entry_bytes_max || !self.log.affords(occupied_bytes) {
            return;
        }
        let mut gate = self.gate.lock();
        if gate.closed {
            return;
        }
        // Another hit may have rewritten it meanwhile, or a fill replaced it. Positions are unique within a folder.
        if self.hybrid.memory().get(&key).is_some_and(|current| current.value().position != stored.position) {
            return;
        }
        if let Some(position) = self.log.append_rewrite(occupied_bytes) {
            self.metrics.reinsertions.inc();
            self.hand_over(&mut gate, key, StoredRendition { rendition: stored.rendition.clone(), position });
        }
    }

    /// Waits until everything inserted before this call is on disk or known to be lost.
    pub(crate) async fn settled(&self) {
        let handed_over = self.gate.lock().handed_over;
        let mut accounted = self.accounted.subscribe();
        // The sender is a field of `self`, so the channel outlives the wait.
        let _ = accounted.wait_for(|accounted| *accounted >= handed_over).await;
    }

    /// Lets nothing more in, writes out what is on its way and gives up the folder. `false` if the deadline came first;
    /// then the folder stays claimed, because writes may still happen.
    pub(crate) async fn close(&self, deadline: Instant) -> bool {
        self.gate.lock().closed = true;
        let flush = async {
            self.settled().await;
            self.hybrid.close().await
        };
        match timeout_at(deadline, flush).await {
            Ok(closed) => {
                if let Err(error) = closed {
                    tracing::warn!(%error, "closing the cache folder failed");
                }
                self.folder.lock().take();
                true
            }
            Err(_) => false,
        }
    }

    fn is_writable(&self) -> bool {
        self.writable.load(Ordering::Relaxed)
    }

    fn hand_over(self: &Arc<Self>, gate: &mut Gate, key: u128, stored: StoredRendition) -> HybridEntry {
        let entry = self.hybrid.insert(key, stored);
        gate.handed_over += 1;
        gate.last_key = key;
        self.metrics.unflushed_entries.inc();
        if !gate.watched {
            gate.watched = true;
            self.io.spawn(Arc::clone(self).watch());
        }
        entry
    }

    /// Follows what was handed over until all of it is accounted for.
    async fn watch(self: Arc<Self>) {
        loop {
            let (handed_over, key, position) = {
                let gate = self.gate.lock();
                (gate.handed_over, gate.last_key, self.log.position())
            };
            if timeout(FLUSH_WAIT_MAX, self.hybrid.storage().wait()).await.is_err() {
                return self.fail(DiskFault::Stalled { waited: FLUSH_WAIT_MAX });
            }
            let dropped = self.count_drops();
            if !dropped && !self.hybrid.storage().may_contains(&key) {
                let fault = self.diagnose().await;
                return self.fail(fault);
            }
            self.note_position(position).await;
            if self.account_for(handed_over) {
                return;
            }
        }
    }

    /// Whether entries were dropped in this round or the one before.
    fn count_drops(&self) -> bool {
        let counts = self.metrics.foyer.queue_counts();
        let mut gate = self.gate.lock();
        let queue_full = counts.queue_full - gate.counts.queue_full;
        let buffer_full = counts.buffer_full - gate.counts.buffer_full;
        gate.counts = counts;
        self.metrics.dropped_queue_full.inc_by(queue_full);
        self.metrics.dropped_buffer_full.inc_by(buffer_full);
        let dropped = queue_full + buffer_full > 0;
        let dropped_before = std::mem::replace(&mut gate.dropped_before, dropped);
        dropped || dropped_before
    }

    /// An entry did not arrive although nothing was dropped: does foyer's flusher still turn?
    async fn diagnose(&self) -> DiskFault {
        let before = self.metrics.foyer.queue_counts();
        // Twice, because a flush is counted after those who wait for it are woken.
        for _ in 0..2 {
            if timeout(FLUSH_WAIT_MAX, self.hybrid.storage().wait()).await.is_err() {
                return DiskFault::Stalled { waited: FLUSH_WAIT_MAX };
            }
        }
        if self.metrics.foyer.queue_counts().flushes == before.flushes {
            DiskFault::WriterStopped
        } else {
            DiskFault::WritesFail
        }
    }

    /// Reports progress; `true` if nothing came in meanwhile and the watch may end.
    fn account_for(&self, handed_over: u64) -> bool {
        let mut gate = self.gate.lock();
        let waiting = gate.handed_over - handed_over;
        self.metrics.unflushed_entries.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        gate.watched = waiting > 0;
        self.accounted.send_replace(handed_over);
        waiting == 0
    }

    async fn note_position(&self, position: LogPosition) {
        let folder = self.folder.lock().clone();
        let Some(folder) = folder else { return };
        let noted = self.io.spawn_blocking(move || folder.note_position(position)).await;
        if let Ok(Err(error)) = noted {
            tracing::debug!(%error, "the write position of the cache folder was not kept");
        }
    }

    fn fail(&self, fault: DiskFault) {
        tracing::warn!(%fault, "the disk cache is read only from now on");
        let gate = self.gate.lock();
        self.writable.store(false, Ordering::Relaxed);
        *self.state.lock() = DiskState::ReadOnly(Arc::new(fault));
        self.metrics.disk_available.set(0);
        self.metrics.unflushed_entries.set(0);
        self.accounted.send_replace(gate.handed_over);
    }
}

impl Drop for DiskWrites {
    /// A cache dropped without being closed still flushes in the background, and keeps the folder until that is over.
    fn drop(&mut self) {
        if let Some(folder) = self.folder.lock().take() {
            let hybrid = self.hybrid.clone();
            self.io.spawn(async move {
                if let Err(error) = hybrid.close().await {
                    tracing::warn!(%error, "closing the cache folder failed");
                }
                drop(folder);
            });
        }
    }
}
