//! Single flight: at most one fill of a key runs, everyone who wants it waits for that one.
//!
//! Must not know what a fill does or where its result goes.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
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
type Shard<E> = Mutex<HashMap<CacheKey, OutcomeReceiver<E>>>;

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
}

impl<E: Clone> Flights<E> {
    pub(crate) fn new(running_max: u32, metrics: CacheMetrics) -> Arc<Self> {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Arc::new(Self { shards, running: watch::Sender::new(0), running_max, metrics })
    }

    pub(crate) fn join(self: &Arc<Self>, key: CacheKey) -> Joined<E> {
        let mut shard = self.shard(key).lock();
        match shard.entry(key) {
            MapEntry::Occupied(flight) => Joined::Follower(flight.get().clone()),
            MapEntry::Vacant(vacant) => {
                if !self.take_off() {
                    self.metrics.flights_refused.inc();
                    return Joined::Full;
                }
                let (sender, receiver) = watch::channel(None);
                vacant.insert(receiver.clone());
                Joined::Leader(
                    Landing { flights: Arc::clone(self), key, sender, outcome: Err(FlightError::Aborted) },
                    receiver,
                )
            }
        }
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
        self.flights.shard(self.key).lock().remove(&self.key);
        self.flights.running.send_modify(|running| *running -= 1);
        self.flights.metrics.flights.dec();
        self.sender.send_replace(Some(self.outcome.clone()));
    }
}
