//! The cache as request handlers use it: look up, or share a fill.
//!
//! Must not decide who may see an entry or how it is answered. All background work runs on the runtime it was opened with,
//! so it survives the connection, the task and even the listener runtime that asked for it.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use prometheus::Registry;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::bans::{Bans, Subject};
use crate::config::CacheSettings;
use crate::disk_state::DiskState;
use crate::draft::Draft;
use crate::entry::Entry;
use crate::flight::{FlightError, Flights, Joined, OutcomeReceiver};
use crate::key::CacheKey;
use crate::metrics::CacheMetrics;
use crate::rendition::{Rendition, UnixMillis};
use crate::store::Store;
use crate::tiers::Tiers;

/// Flushing gets at least this long on closing, even if fills used up the grace: it is what keeps their work.
const FLUSH_GRACE_MIN: Duration = Duration::from_secs(2);

/// Where an entry was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// In memory.
    Memory,
    /// On disk, or on its way there.
    Disk,
}

/// What the cache holds for a key.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// Answer with it.
    Fresh(Entry, Tier),
    /// Answer with it and ask nobody: its source failed a moment ago.
    Held(Entry, Tier),
    /// Answer with it and start a refresh.
    Stale(Entry, Tier),
    /// Nothing to answer with.
    Miss {
        /// An entry past its use, whose validators and body may save a transform, and which may be better than an error.
        expired: Option<Entry>,
    },
}

/// What a fill made.
#[derive(Clone, Debug)]
pub enum Filled {
    /// Keep it and answer all who wait with it.
    Store(Rendition),
    /// Answer all who wait with it and forget it.
    Pass(Rendition),
    /// Answer with what the key had, and remember in memory that its source failed.
    Hold(Rendition),
}

/// Whether a caller's own fill runs, or another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// This call started the fill.
    Leader,
    /// This call joined a fill that ran already.
    Follower,
    /// No fill was started: too many run, or the caller may not start one. Waiting gives [`FlightError::TooMany`] at once.
    Refused,
}

/// Why a cache could not be opened at all. Never because of the disk.
#[derive(Debug, thiserror::Error)]
pub enum CacheOpenError {
    /// The metrics are registered already, as when two caches share one registry.
    #[error("cache metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
    /// foyer could not build a cache in memory.
    #[error("memory cache cannot be built")]
    Memory(#[from] foyer::Error),
}

/// How closing went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseReport {
    /// Fills that still ran when the grace was over; their results are not on disk.
    pub fills_left: u32,
    /// Whether everything that was handed to the disk is accounted for and the folder given up.
    pub flushed: bool,
}

/// The hybrid cache of renditions. Clones share one cache. `E` is the error of fills.
pub struct RenditionCache<E> {
    inner: Arc<Inner<E>>,
}

struct Inner<E> {
    store: Arc<Store>,
    flights: Arc<Flights<E>>,
    metrics: CacheMetrics,
    io: Handle,
}

impl<E> Clone for RenditionCache<E> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<E: Clone + Send + Sync + 'static> RenditionCache<E> {
    /// Opens the cache. Whatever is wrong with the folder, the cache starts, at worst in memory only; ask
    /// [`RenditionCache::disk_state`]. It takes the folder into use as soon as it can be, and what was kept in memory until
    /// then is forgotten. Damaged content costs those entries.
    ///
    /// `io` runs fills and disk work. It needs its timer enabled, and must outlive the cache.
    ///
    /// # Errors
    /// Only for metrics that exist already in `registry`, or a memory cache that cannot be built.
    pub async fn open(settings: CacheSettings, registry: &Registry, io: Handle) -> Result<Self, CacheOpenError> {
        Self::open_with(settings, None, registry, io).await
    }

    /// Opens a second cache under the bans of another: what is purged there is purged here, and their numbers compare.
    /// The metrics prefix must be another, too.
    ///
    /// # Errors
    /// As for [`RenditionCache::open`].
    pub async fn open_beside(
        settings: CacheSettings,
        bans: &Arc<Bans>,
        registry: &Registry,
        io: Handle,
    ) -> Result<Self, CacheOpenError> {
        Self::open_with(settings, Some(Arc::clone(bans)), registry, io).await
    }

    async fn open_with(
        settings: CacheSettings,
        bans: Option<Arc<Bans>>,
        registry: &Registry,
        io: Handle,
    ) -> Result<Self, CacheOpenError> {
        let metrics = CacheMetrics::register(settings.metrics_prefix, registry)?;
        let store = Store::open(&settings, bans, metrics.clone(), io.clone()).await?;
        let flights = Flights::new(settings.flights_max, metrics.clone());
        Ok(Self { inner: Arc::new(Inner { store, flights, metrics, io }) })
    }

    /// What the disk half can do now.
    #[must_use]
    pub fn disk_state(&self) -> DiskState {
        self.inner.store.tiers().disk_state()
    }

    /// What memory holds for a key, without waiting: the fast path of a hit. `None`: ask [`RenditionCache::lookup`].
    #[must_use]
    pub fn memory(&self, key: CacheKey, now: UnixMillis) -> Option<Lookup> {
        self.inner.store.tiers().memory(key, now)
    }

    /// What memory or else the disk holds for a key. A disk that cannot be read is a miss.
    pub async fn lookup(&self, key: CacheKey, now: UnixMillis) -> Lookup {
        self.inner.store.keep_tiers().lookup(key, now).await
    }

    /// Joins the running fill of a key, or starts `fill`. The fill runs to its end whether anyone waits or not, so a
    /// refresh is a flight that is dropped.
    ///
    /// `fill` is not called if the key turns out to be fresh or held at `now` after all: another fill may have ended between the
    /// caller's lookup and this call.
    ///
    /// A running fill that was begun before a purge of what `subject` is about is not joined: whoever asks after a purge
    /// gets what was fetched after it.
    pub fn flight<F, Fut>(&self, key: CacheKey, subject: &Subject, now: UnixMillis, fill: F) -> Flight<E>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Filled, E>> + Send + 'static,
    {
        self.flight_if(key, subject, now, || true, fill)
    }

    /// Like [`flight`](Self::flight), but starts `fill` only if the caller `may_start` one, which is asked only when there
    /// is none to join. If not, the flight is refused. `may_start` runs under a lock: it must be short.
    pub fn flight_if<F, Fut>(
        &self,
        key: CacheKey,
        subject: &Subject,
        now: UnixMillis,
        may_start: impl FnOnce() -> bool,
        fill: F,
    ) -> Flight<E>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Filled, E>> + Send + 'static,
    {
        // Before the number: what is begun with it must not end in the tiers of a folder that counts otherwise.
        let tiers = self.inner.store.keep_tiers();
        let bans = &tiers.bans;
        let begun = bans.latest();
        match self.inner.flights.join(key, begun, |since| bans.is_outdated(key, subject, since), may_start) {
            Joined::Full | Joined::NotAdmitted => Flight { role: Role::Refused, outcome: None },
            Joined::Follower(outcome) => Flight { role: Role::Follower, outcome: Some(outcome) },
            Joined::Leader(landing, outcome) => {
                let tiers = Arc::clone(&tiers);
                let metrics = self.inner.metrics.clone();
                let subject = subject.clone();
                self.inner.io.spawn(async move {
                    let run = AssertUnwindSafe(obtain(&tiers, key, &subject, (now, begun), fill)).catch_unwind();
                    let outcome = run.await.unwrap_or_else(|_| {
                        metrics.fill_panics.inc();
                        Err(FlightError::Panicked)
                    });
                    landing.land(outcome);
                });
                Flight { role: Role::Leader, outcome: Some(outcome) }
            }
        }
    }

    /// What the key has, if that is a fresh draft which something better may take the place of.
    pub async fn draft(&self, key: CacheKey, now: UnixMillis) -> Option<Draft> {
        Draft::find(self.inner.store.keep_tiers(), key, now).await
    }

    /// What has been purged, and how to purge more.
    #[must_use]
    pub fn bans(&self) -> &Arc<Bans> {
        self.inner.store.bans()
    }

    /// Whether a rendition that was looked up before has been purged since.
    #[must_use]
    pub fn is_purged(&self, key: CacheKey, rendition: &Rendition) -> bool {
        self.bans().is_banned(key, rendition)
    }

    /// Waits until everything kept before this call is on disk or known to be lost. A crash of the process (not of the
    /// machine: nothing is synced) after that loses none of it.
    pub async fn settled(&self) {
        self.inner.store.keep_tiers().settled().await;
    }

    /// Waits for running fills up to `grace`, then writes out what is on its way to the disk and gives up the folder.
    /// Afterwards the cache still answers and fills, but keeps only in memory.
    pub async fn close(&self, grace: Duration) -> CloseReport {
        let deadline = Instant::now() + grace;
        let flights = &self.inner.flights;
        let fills_left = match timeout_at(deadline, flights.idle()).await {
            Ok(()) => 0,
            Err(_) => flights.running(),
        };
        let flush_deadline = deadline.max(Instant::now() + FLUSH_GRACE_MIN);
        let flushed = self.inner.store.close(flush_deadline).await;
        CloseReport { fills_left, flushed }
    }
}

async fn obtain<E, F, Fut>(
    tiers: &Tiers,
    key: CacheKey,
    subject: &Subject,
    (now, begun): (UnixMillis, u64),
    fill: F,
) -> Result<Entry, FlightError<E>>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<Filled, E>>,
{
    if let Lookup::Fresh(entry, _) | Lookup::Held(entry, _) = tiers.lookup(key, now).await {
        return Ok(entry);
    }
    let filled = fill().await.map_err(FlightError::Failed)?;
    let (rendition, keep): (_, fn(&Tiers, CacheKey, Rendition) -> Entry) = match filled {
        Filled::Store(rendition) => (rendition.begun_by(begun), Tiers::insert),
        Filled::Hold(rendition) => (rendition, Tiers::hold),
        Filled::Pass(rendition) => return Ok(Entry::loose(rendition)),
    };
    // Purged while it was made, or replaced by a fill that was begun after a purge: those who waited asked before, and
    // nobody else gets it.
    if tiers.bans.is_banned(key, &rendition) || tiers.bans.is_outdated(key, subject, begun) {
        return Ok(Entry::loose(rendition));
    }
    Ok(keep(tiers, key, rendition))
}

/// A fill that this caller started or joined. Dropping it cancels nothing.
pub struct Flight<E> {
    role: Role,
    outcome: Option<OutcomeReceiver<E>>,
}

impl<E: Clone> Flight<E> {
    /// Whose fill it is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Waits for the fill, at most for `limit`. Needs a runtime with its timer enabled.
    ///
    /// # Errors
    /// The fill's own error, or why there is none. After [`FlightError::TimedOut`] the fill runs on and is kept.
    pub async fn wait(self, limit: Duration) -> Result<Entry, FlightError<E>> {
        let Some(mut outcome) = self.outcome else { return Err(FlightError::TooMany) };
        match timeout(limit, outcome.wait_for(Option::is_some)).await {
            Ok(Ok(landed)) => landed.clone().unwrap_or(Err(FlightError::Aborted)),
            Ok(Err(_)) => Err(FlightError::Aborted),
            Err(_) => Err(FlightError::TimedOut),
        }
    }
}
