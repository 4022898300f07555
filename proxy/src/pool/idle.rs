//! The thread beside those of the pool, which works only when they have nothing to do.
//!
//! A job here cannot be interrupted: encoders do not look up. So it begins only when no job waits or runs and none has for
//! a while, it is of a bounded weight, there is one at a time, and it takes no thread of the pool: whatever comes meanwhile
//! begins at once, and shares the cores with it for as long as it lasts.
//!
//! Its thread is no less urgent than others to the system: libvips lends threads that it has started for one job to the
//! next, and they would stay what they were born as.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use imaging::Weight;
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::{PoolError, TransformPool, Work, worker};

/// The most that a job may take.
pub const IDLE_WEIGHT_MAX: Weight = Weight { cost_ms: 500, memory_bytes: 64 << 20 };

/// How long the pool must have had no job.
const QUIET: Duration = Duration::from_millis(100);
/// The same where a pool of one thread says that there is one core: then everything has to share it.
const QUIET_ALONE: Duration = Duration::from_secs(1);

/// Time between two looks while waiting.
const POLL: Duration = Duration::from_millis(50);

/// Why a job gave no result.
#[derive(Debug, Error)]
pub enum IdleError {
    /// It takes more than may be.
    #[error("it takes too much to be done beside other work")]
    TooHeavy,
    /// The pool, or the thread beside it, has something to do.
    #[error("there is other work")]
    Busy,
    /// It panicked.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The system gives no thread.
    #[error("no thread can be started")]
    Thread(#[from] std::io::Error),
}

/// Whether the thread beside the pool is taken.
#[derive(Debug, Default)]
pub struct Beside(Arc<AtomicBool>);

/// Taken until this is dropped.
struct Taken(Arc<AtomicBool>);

impl Beside {
    fn is_taken(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn take(&self) -> Option<Taken> {
        let was_taken = self.0.swap(true, Ordering::AcqRel);
        (!was_taken).then(|| Taken(Arc::clone(&self.0)))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Whether a job of this weight may be done beside others.
pub fn may_be_idle(weight: Weight) -> bool {
    weight.cost_ms <= IDLE_WEIGHT_MAX.cost_ms && weight.memory_bytes <= IDLE_WEIGHT_MAX.memory_bytes
}

impl TransformPool {
    /// Whether no job waits or runs, and none has for a while.
    pub fn is_idle(&self) -> bool {
        let quiet = if self.shared.threads() > 1 { QUIET } else { QUIET_ALONE };
        !self.beside.is_taken() && self.shared.idle_since().is_some_and(|since| since.elapsed() >= quiet)
    }

    /// Waits until it is so.
    pub async fn until_idle(&self) {
        while !self.is_idle() {
            sleep(POLL).await;
        }
    }

    /// Runs `work` on a thread of its own, if the pool is idle now. Returns it with the time that it took.
    ///
    /// # Errors
    /// [`IdleError::Busy`] at once, the others as they happen.
    pub async fn run_idle<W: Work>(&self, mut work: W) -> Result<(W::Output, Duration), IdleError> {
        let taken = self.beside.take().ok_or(IdleError::Busy)?;
        if self.shared.idle_since().is_none() {
            return Err(IdleError::Busy);
        }
        let (reply, receiver) = oneshot::channel();
        self.shared.start_other_thread("vips-idle".to_owned(), move || {
            let started = Instant::now();
            let done = worker::caught(|| may_be_idle(work.weigh()).then(|| work.run()));
            drop(taken);
            let done = done.map_err(IdleError::from).and_then(|done| done.ok_or(IdleError::TooHeavy));
            // Nobody waits any more when the edge is stopping.
            drop(reply.send(done.map(|done| (done, started.elapsed()))));
        })?;
        receiver.await.unwrap_or(Err(IdleError::Pool(PoolError::Panicked)))
    }
}
