//! The second level: finished renditions in an object store that several edges share, so that a new edge, or a
//! neighbour, need not make them again.
//!
//! Must not make the edge depend on it: it is asked for half a second, and when it fails, not asked for a while. Must not
//! trust it further than its hash: what comes from there passes the same checks as what comes from the cache, by time
//! instead of by number, because each edge counts for itself.

mod bans;
mod place;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cache::{BODY_BYTES_MAX, CacheKey, Freshness, PORTABLE_OVERHEAD_BYTES_MAX, Portable, Rendition, UnixMillis};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use storage::{GetOptions, ObjectPath, ObjectStore, PutOptions, StorageError};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use self::bans::SharedBans;
pub use self::bans::{AnnounceError, Local};
pub use self::place::SecondLevelTable;

/// How long a fill waits for an answer. Longer, and making the rendition may be faster.
const READ_LIMIT: Duration = Duration::from_millis(500);

/// How long the store is left alone after it failed.
const PAUSE: Duration = Duration::from_secs(5);

/// Renditions that are written at the same time; one more is not written.
const WRITES_MAX: usize = 32;

/// Longest time for one write.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// How far apart the clocks of two edges may be. Too much is refused within it, never too little.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// The second level of the cache.
pub struct SecondLevel {
    store: ObjectStore,
    bans: SharedBans,
    retention: Duration,
    /// The time, in Unix milliseconds, from which on the store is asked again.
    asked_again: AtomicU64,
    writes: Arc<Semaphore>,
    metrics: SecondLevelMetrics,
}

impl SecondLevel {
    /// Opens the place that `table` names; `None` if it names none.
    ///
    /// # Errors
    /// When it cannot be opened, or the metrics are registered already. Whether it answers shows later.
    pub fn open(table: &SecondLevelTable, local: Local, registry: &Registry) -> anyhow::Result<Option<Arc<Self>>> {
        let Some(store) = table.open()? else { return Ok(None) };
        let retention = table.retention();
        Ok(Some(Arc::new(Self {
            bans: SharedBans::new(store.clone(), local, retention, registry)?,
            store,
            retention,
            asked_again: AtomicU64::new(0),
            writes: Arc::new(Semaphore::new(WRITES_MAX)),
            metrics: SecondLevelMetrics::register(registry)?,
        })))
    }

    /// The purges that all edges share.
    pub fn bans(&self) -> &SharedBans {
        &self.bans
    }

    /// The rendition of this key, unless it was purged or is too old to be of any use.
    pub async fn find(&self, key: CacheKey) -> Option<Rendition> {
        let now = UnixMillis::now();
        if !self.bans.is_known() || self.is_paused(now) {
            self.metrics.skipped.inc();
            return None;
        }
        let found = match timeout(READ_LIMIT, self.read(key)).await {
            Ok(Ok(bytes)) => Portable::from_bytes(key, &bytes),
            Ok(Err(StorageError::NotFound)) => {
                self.metrics.misses.inc();
                return None;
            }
            Ok(Err(error)) => {
                self.fail(&self.metrics.read_failed, &error);
                return None;
            }
            Err(elapsed) => {
                self.fail(&self.metrics.read_failed, &elapsed);
                return None;
            }
        };
        let usable = found.filter(|found| self.is_usable(key, found, now));
        match &usable {
            Some(_) => self.metrics.hits.inc(),
            None => self.metrics.refused.inc(),
        }
        usable.map(|found| found.rendition)
    }

    /// Writes a rendition, all of whose inputs were asked for at `asked` or later. Returns at once; under pressure it is
    /// not written.
    pub fn keep(self: &Arc<Self>, key: CacheKey, rendition: Rendition, asked: UnixMillis) {
        if self.is_paused(UnixMillis::now()) {
            return self.metrics.dropped.inc();
        }
        let Ok(place) = Arc::clone(&self.writes).try_acquire_owned() else { return self.metrics.dropped.inc() };
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let _place = place;
            let options = PutOptions { content_type: Some("application/octet-stream".into()), cache_control: None };
            let bytes = Portable { rendition, asked }.to_bytes(key);
            match timeout(WRITE_LIMIT, this.store.put(&path(key), bytes, options)).await {
                Ok(Ok(_)) => this.metrics.written.inc(),
                Ok(Err(error)) => this.fail(&this.metrics.write_failed, &error),
                Err(elapsed) => this.fail(&this.metrics.write_failed, &elapsed),
            }
        });
    }

    /// Waits until what was to be written is, or `limit` is over.
    pub async fn settle(&self, limit: Duration) {
        let all = u32::try_from(WRITES_MAX).unwrap_or(u32::MAX);
        // Nothing can be done about what is late.
        let _ = timeout(limit, self.writes.acquire_many(all)).await;
    }

    async fn read(&self, key: CacheKey) -> Result<bytes::Bytes, StorageError> {
        let object = self.store.get(&path(key), GetOptions::default()).await?;
        object.body.collect((BODY_BYTES_MAX + PORTABLE_OVERHEAD_BYTES_MAX) as u64).await
    }

    fn is_usable(&self, key: CacheKey, found: &Portable, now: UnixMillis) -> bool {
        let lifetime = found.rendition.lifetime;
        let is_too_old = now.saturating_since(found.asked) >= self.retention;
        let is_over = lifetime.freshness(now) == Freshness::Expired && !lifetime.is_usable_on_error(now);
        // An edge whose clock is ahead says that it asked later than it did.
        let asked = UnixMillis(found.asked.0.saturating_sub(CLOCK_SKEW.as_millis() as u64));
        !is_too_old && !is_over && !self.bans.is_banned(key, &found.rendition, asked)
    }

    fn is_paused(&self, now: UnixMillis) -> bool {
        now.0 < self.asked_again.load(Ordering::Relaxed)
    }

    /// Counts a failure, and leaves the store alone for a while.
    fn fail(&self, counter: &IntCounter, error: &(dyn std::error::Error + 'static)) {
        counter.inc();
        let now = UnixMillis::now();
        let until = now.saturating_add(PAUSE).0;
        // Said once for each pause, not by each fill that ran into it.
        if self.asked_again.swap(until, Ordering::Relaxed) <= now.0 {
            tracing::warn!(error, "the second level fails; it is left alone for {} s", PAUSE.as_secs());
        }
    }
}

/// Where a rendition is; the first digits spread them over folders.
fn path(key: CacheKey) -> ObjectPath {
    let digits = key.to_string();
    ObjectPath::new(format!("renditions/{}/{digits}", &digits[..2])).expect("digits and slashes")
}

struct SecondLevelMetrics {
    hits: IntCounter,
    misses: IntCounter,
    refused: IntCounter,
    read_failed: IntCounter,
    skipped: IntCounter,
    written: IntCounter,
    write_failed: IntCounter,
    dropped: IntCounter,
}

impl SecondLevelMetrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        let counters = |name, help| {
            let counters = IntCounterVec::new(Opts::new(name, help), &["result"])?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let reads = counters("calotype_second_level_reads_total", "Renditions looked for in the second level.")?;
        let writes = counters("calotype_second_level_writes_total", "Renditions to be written to the second level.")?;
        let [hits, misses, refused, read_failed, skipped] =
            ["hit", "miss", "refused", "failed", "skipped"].map(|result| reads.with_label_values(&[result]));
        let [written, write_failed, dropped] =
            ["written", "failed", "dropped"].map(|result| writes.with_label_values(&[result]));
        Ok(Self { hits, misses, refused, read_failed, skipped, written, write_failed, dropped })
    }
}
