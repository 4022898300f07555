//! A copy of the database to read from, as long as it keeps up.
//!
//! How far it is behind is told by positions in the log of changes: of those that the primary had reached at moments that we remember, the
//! oldest one that the replica has not reached yet. No clock but ours is trusted, and a replica that has lost its primary
//! falls behind like any other. Must not be used for anything that a client expects to see at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::time::timeout;

use crate::DatabaseError;

/// How long an answer to a look may take.
const LOOK_LIMIT: Duration = Duration::from_secs(3);

/// Positions that are remembered: with one a second, for an hour; a replica that is further behind is not told apart.
const POSITIONS_MAX: usize = 3600;

/// A replica.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) pool: PgPool,
    /// How long somebody who wants to read waits for it.
    patience: Duration,
    lag_max: Duration,
    is_usable: AtomicBool,
    reads: AtomicU64,
    fallbacks: AtomicU64,
    positions: Mutex<Positions>,
}

/// What is known of a replica.
#[derive(Debug)]
pub struct ReplicaState {
    /// Whether it is read from.
    pub is_usable: bool,
    /// How far it is behind at most; `None` while that is not known.
    pub lag: Option<Duration>,
    /// Transactions that have read from it.
    pub reads: u64,
    /// Those that read from the primary in its place.
    pub fallbacks: u64,
    /// Why one of the two has not answered.
    pub problem: Option<DatabaseError>,
}

impl Replica {
    pub(crate) fn new(pool: PgPool, patience: Duration, lag_max: Duration) -> Self {
        Self {
            pool,
            patience,
            lag_max,
            // Not before it was looked at.
            is_usable: AtomicBool::new(false),
            reads: AtomicU64::new(0),
            fallbacks: AtomicU64::new(0),
            positions: Mutex::default(),
        }
    }

    /// Whether to read from it.
    pub(crate) fn is_usable(&self) -> bool {
        self.is_usable.load(Ordering::Relaxed)
    }

    /// What is done with it within its time; `None`, and nobody else tries, when it does not answer.
    pub(crate) async fn within_reason<T>(&self, work: impl Future<Output = Result<T, sqlx::Error>>) -> Option<T> {
        match timeout(self.patience, work).await {
            Ok(Ok(done)) => {
                self.reads.fetch_add(1, Ordering::Relaxed);
                Some(done)
            }
            _ => {
                self.is_usable.store(false, Ordering::Relaxed);
                None
            }
        }
    }

    /// The primary was read from in its place.
    pub(crate) fn fell_back(&self) {
        self.fallbacks.fetch_add(1, Ordering::Relaxed);
    }

    /// Looks at how far it is behind, and whether to read from it until the next look.
    pub(crate) async fn look(&self, primary: &PgPool) -> ReplicaState {
        let asked = Instant::now();
        // In bytes from the beginning of the log.
        let reached = position(primary, "SELECT (pg_current_wal_lsn() - '0/0')::bigint").await;
        let replayed = position(&self.pool, "SELECT (pg_last_wal_replay_lsn() - '0/0')::bigint").await;
        let lag = {
            let mut positions = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
            if let Ok(Some(reached)) = reached {
                positions.reached(asked, reached);
            }
            replayed.as_ref().ok().and_then(|replayed| positions.lag((*replayed)?, Instant::now()))
        };
        let is_usable = lag.is_some_and(|lag| lag <= self.lag_max);
        self.is_usable.store(is_usable, Ordering::Relaxed);
        ReplicaState {
            is_usable,
            lag,
            reads: self.reads.load(Ordering::Relaxed),
            fallbacks: self.fallbacks.load(Ordering::Relaxed),
            problem: reached.err().or(replayed.err()),
        }
    }
}

async fn position(pool: &PgPool, statement: &'static str) -> Result<Option<i64>, DatabaseError> {
    let asked = timeout(LOOK_LIMIT, sqlx::query_scalar(statement).fetch_one(pool)).await;
    Ok(asked.unwrap_or(Err(sqlx::Error::PoolTimedOut))?)
}

/// How far the primary was, and when.
#[derive(Debug, Default)]
struct Positions {
    /// What the replica has not reached, as far as is known.
    ahead: VecDeque<(Instant, i64)>,
    /// The newest moment of which the position is known to be reached.
    caught_up: Option<Instant>,
}

impl Positions {
    fn reached(&mut self, at: Instant, position: i64) {
        if self.ahead.back().is_some_and(|(_, last)| position < *last) {
            // Another primary, or one that was set back: its replica will never be where the old one was.
            *self = Self::default();
        }
        if self.ahead.len() == POSITIONS_MAX {
            // The oldest says how far it is behind.
            self.ahead.remove(1);
        }
        self.ahead.push_back((at, position));
    }

    /// How far a replica that has come to here is behind; `None` before the primary was asked.
    fn lag(&mut self, replayed: i64, now: Instant) -> Option<Duration> {
        while let Some((at, _)) = self.ahead.front().filter(|(_, position)| *position <= replayed) {
            self.caught_up = Some(*at);
            self.ahead.pop_front();
        }
        Some(now.saturating_duration_since(self.caught_up.or(self.ahead.front().map(|(at, _)| *at))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_replica_is_behind_since_the_last_position_that_it_has_reached() {
        let (mut positions, begun) = (Positions::default(), Instant::now());
        let at = |seconds: u32| begun + SECOND * seconds;
        assert_eq!(positions.lag(0, at(0)), None);
        positions.reached(at(0), 100);
        assert_eq!(positions.lag(100, at(0)), Some(Duration::ZERO));
        // Nothing happens, and it is there.
        positions.reached(at(1), 100);
        assert_eq!(positions.lag(100, at(1)), Some(Duration::ZERO));
        // It stands still while the primary goes on.
        for second in 2..=10 {
            positions.reached(at(second), 100 + i64::from(second));
            assert_eq!(positions.lag(100, at(second)), Some(SECOND * (second - 1)));
        }
        // It catches up half of the way, and then all of it.
        assert_eq!(positions.lag(105, at(10)), Some(SECOND * 5));
        assert_eq!(positions.lag(200, at(10)), Some(Duration::ZERO));
        // The primary is not heard of: whatever it did since is missing.
        assert_eq!(positions.lag(200, at(15)), Some(SECOND * 5));
    }

    #[test]
    fn a_primary_that_was_set_back_is_followed_back() {
        let (mut positions, begun) = (Positions::default(), Instant::now());
        positions.reached(begun, 500);
        assert_eq!(positions.lag(100, begun + SECOND), Some(SECOND));
        positions.reached(begun + SECOND * 2, 100);
        assert_eq!(positions.lag(100, begun + SECOND * 2), Some(Duration::ZERO));
    }

    #[test]
    fn what_is_remembered_has_an_end_and_the_oldest_stays() {
        let (mut positions, begun) = (Positions::default(), Instant::now());
        for second in 0..10_000u32 {
            positions.reached(begun + SECOND * second, i64::from(second) + 1);
        }
        assert_eq!(positions.ahead.len(), POSITIONS_MAX);
        assert_eq!(positions.lag(0, begun + SECOND * 10_000), Some(SECOND * 10_000));
    }
}
