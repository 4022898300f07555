//! Single flight: at most one fill of a key runs, everyone who wants it waits for that one.
//!
//! Must not know what a fill does or where its result goes.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::entry::Entry;
use crate::key::CacheKey;
use crate::metrics::CacheMetrics;

const SHARDS: usize = 64;

/// Why waiting for a fill gave no entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlightError<E> {
    /// The fill said so; the next call tries again.
    #[error("the fill failed")]
    Failed(E),
    /// The fill runs on, but not within this caller's time.
    #[error("the fill did not finish in time")]
    TimedOut,
    /// The fill panicked; the next call tries again.
    #[error("the fill panicked")]
    Panicked,
    /// As many fills run as are allowed; nothing was started.
    #[error("too many fills run already")]
    TooMany,
    /// The runtime of the fills is shutting down.
    #[error("the fill was aborted by a shutdown")]
    Aborted,
}

pub(crate) type Outcome<E> = Result<Entry, FlightError<E>>;
pub(crate) type OutcomeReceiver<E> = watch::Receiver<Option<Outcome<E>>>;
type Shard<E> = Mutex<HashMap<CacheKey, Running<E>>>;

/// A fill that runs.
struct Running<E> {
    outcome: OutcomeReceiver<E>,
    /// The number of the newest ban when it began.
    begun: u64,
}

pub(crate) struct Flights<E> {
    shards: Box<[Shard<E>]>,
    running: watch::Sender<u32>,
    running_max: u32,
    metrics: CacheMetrics,
}

/// What joining a key's flight came to.
pub(crate) enum Joined<E: Clone> {
    /// The caller has to run the fill and land it.
    Leader(Landing<E>, OutcomeReceiver<E>),
    Follower(OutcomeReceiver<E>),
    Full,
    NotAdmitted,
}

impl<E: Clone> Flights<E> {
    pub(crate) fn new(running_max: u32, metrics: CacheMetrics) -> Arc<Self> {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Arc::new(Self { shards, running: watch::Sender::new(0), running_max, metrics })
    }

    /// Joins the running fill of a key, unless it `is_outdated` by what was purged since it began; then, as if there was
    /// none, a new one is to be run, which is `begun` now, if the caller `may_start` one.
    pub(crate) fn join(
        self: &Arc<Self>,
        key: CacheKey,
        begun: u64,
        is_outdated: impl FnOnce(u64) -> bool,
        may_start: impl FnOnce() -> bool,
    ) -> Joined<E> {
        let mut shard = self.shard(key).lock();
        if let Some(running) = shard.get(&key)
            && !is_outdated(running.begun)
        {
            return Joined::Follower(running.outcome.clone());
        }
        if !may_start() {
            return Joined::NotAdmitted;
        }
        if !self.take_off() {
            self.metrics.flights_refused.inc();
            return Joined::Full;
        }
        let (sender, outcome) = watch::channel(None);
        // An outdated one runs on for those who wait for it already.
        shard.insert(key, Running { outcome: outcome.clone(), begun });
        let landing = Landing { flights: Arc::clone(self), key, sender, outcome: Err(FlightError::Aborted) };
        Joined::Leader(landing, outcome)
    }

    pub(crate) fn running(&self) -> u32 {
        *self.running.borrow()
    }

    /// Waits until no fill runs.
    pub(crate) async fn idle(&self) {
        // The sender is a field of `self`, so the channel outlives the wait.
        let _ = self.running.subscribe().wait_for(|running| *running == 0).await;
    }

    fn shard(&self, key: CacheKey) -> &Shard<E> {
        // The key is a hash already.
        &self.shards[(key.as_u128() % SHARDS as u128) as usize]
    }

    fn take_off(&self) -> bool {
        let started = self.running.send_if_modified(|running| {
            let free = *running < self.running_max;
            *running += u32::from(free);
            free
        });
        if started {
            self.metrics.flights.inc();
        }
        started
    }
}

/// The right and duty to end a flight. Dropped without an outcome (the runtime shuts down) it lands as aborted, so that no
/// key is ever stuck.
pub(crate) struct Landing<E: Clone> {
    flights: Arc<Flights<E>>,
    key: CacheKey,
    sender: watch::Sender<Option<Outcome<E>>>,
    outcome: Outcome<E>,
}

impl<E: Clone> Landing<E> {
    /// Ends the flight. What the outcome stands for must be visible to lookups already: whoever comes after this finds no
    /// flight to join.
    pub(crate) fn land(mut self, outcome: Outcome<E>) {
        self.outcome = outcome;
    }
}

impl<E: Clone> Drop for Landing<E> {
    fn drop(&mut self) {
        // Waiters last: one that asks again after a failure must start a new fill, not join this one.
        {
            let mut shard = self.flights.shard(self.key).lock();
            let is_this = |running: &Running<E>| running.outcome.same_channel(&self.sender.subscribe());
            if shard.get(&self.key).is_some_and(is_this) {
                shard.remove(&self.key);
            }
        }
        self.flights.running.send_modify(|running| *running -= 1);
        self.flights.metrics.flights.dec();
        self.sender.send_replace(Some(self.outcome.clone()));
    }
}
