//! The threads that libvips runs on: few, dedicated, behind a queue with an end.
//!
//! Not tokio's blocking pool: that one is shared with disk reads, has hundreds of threads and queues without end.
//! Must not know what a job does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use prometheus::{Histogram, HistogramOpts, IntCounter, IntGauge, Registry};
use thiserror::Error;
use tokio::sync::oneshot;

/// Why a job gave no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PoolError {
    /// As many jobs wait as may.
    #[error("the queue of renditions is full")]
    Full,
    /// The deadline passed before a thread was free.
    #[error("no thread was free before the deadline")]
    TooLate,
    /// The job panicked.
    #[error("the job panicked")]
    Panicked,
}

/// The pool. Dropping it lets its threads end after the jobs they have.
pub struct TransformPool {
    jobs: Sender<Job>,
    metrics: PoolMetrics,
}

type Job = Box<dyn FnOnce() + Send>;

/// A result, and how long its job waited for a thread.
#[derive(Debug)]
pub struct Finished<T> {
    /// What the job gave.
    pub value: T,
    /// Time in the queue.
    pub queued: Duration,
    /// Time on the thread.
    pub ran: Duration,
}

impl TransformPool {
    /// Starts `threads` threads behind a queue of `queue` jobs. `on_thread_end` runs on each thread as its last act.
    ///
    /// # Errors
    /// When the system gives no thread, or a metric's name is taken.
    pub fn start(threads: usize, queue: usize, registry: &Registry, on_thread_end: fn()) -> anyhow::Result<Self> {
        let (jobs, receiver) = bounded::<Job>(queue);
        for number in 0..threads {
            let receiver = receiver.clone();
            thread::Builder::new().name(format!("vips-{number}")).spawn(move || work(&receiver, on_thread_end))?;
        }
        Ok(Self { jobs, metrics: PoolMetrics::register(registry)? })
    }

    /// Runs `job` on a thread of the pool.
    ///
    /// # Errors
    /// [`PoolError::Full`] at once, the others as they happen.
    pub async fn run<T: Send + 'static>(
        &self,
        deadline: Instant,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Finished<T>, PoolError> {
        let (sender, receiver) = oneshot::channel();
        let (enqueued, queued, running) = (Instant::now(), self.metrics.queued.clone(), self.metrics.running.clone());
        let job: Job = Box::new(move || {
            let started = Instant::now();
            queued.dec();
            // Nobody waits any more: the fill that asked was dropped at shutdown.
            if sender.is_closed() {
                return;
            }
            if started >= deadline {
                let _ = sender.send(Err(PoolError::TooLate));
                return;
            }
            running.inc();
            let result = catch_unwind(AssertUnwindSafe(job)).map_err(|_| PoolError::Panicked);
            running.dec();
            let _ =
                sender.send(result.map(|value| Finished { value, queued: started - enqueued, ran: started.elapsed() }));
        });
        self.metrics.queued.inc();
        if self.jobs.try_send(job).is_err() {
            self.metrics.queued.dec();
            self.metrics.refused.inc();
            return Err(PoolError::Full);
        }
        let finished = receiver.await.unwrap_or(Err(PoolError::Panicked))?;
        self.metrics.wait.observe(finished.queued.as_secs_f64());
        self.metrics.run.observe(finished.ran.as_secs_f64());
        Ok(finished)
    }
}

fn work(jobs: &Receiver<Job>, on_thread_end: fn()) {
    for job in jobs {
        job();
    }
    on_thread_end();
}

struct PoolMetrics {
    queued: IntGauge,
    running: IntGauge,
    refused: IntCounter,
    wait: Histogram,
    run: Histogram,
}

impl PoolMetrics {
    fn register(registry: &Registry) -> prometheus::Result<Self> {
        const BUCKETS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];
        let histogram = |name, help| Histogram::with_opts(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec()));
        let metrics = Self {
            queued: IntGauge::new("calotype_transform_queue_jobs", "Renditions that wait for a thread.")?,
            running: IntGauge::new("calotype_transform_running_jobs", "Renditions that are being made.")?,
            refused: IntCounter::new(
                "calotype_transform_refused_total",
                "Renditions refused because the queue was full.",
            )?,
            wait: histogram("calotype_transform_wait_seconds", "Time that renditions waited for a thread.")?,
            run: histogram("calotype_transform_run_seconds", "Time that renditions took on a thread.")?,
        };
        registry.register(Box::new(metrics.queued.clone()))?;
        registry.register(Box::new(metrics.running.clone()))?;
        registry.register(Box::new(metrics.refused.clone()))?;
        registry.register(Box::new(metrics.wait.clone()))?;
        registry.register(Box::new(metrics.run.clone()))?;
        Ok(metrics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(threads: usize, queue: usize) -> TransformPool {
        TransformPool::start(threads, queue, &Registry::new(), || {}).expect("starts")
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_recovers() {
        let pool = pool(1, 1);
        let (release, blocked) = bounded::<()>(0);
        let (started, has_started) = bounded::<()>(0);
        let running = pool.run(soon(), move || {
            started.send(()).expect("the test waits");
            let _ = blocked.recv();
            1
        });
        tokio::pin!(running);
        // The first job is on the thread, the second in the queue, the third is one too many.
        assert!(futures_util::FutureExt::now_or_never(&mut running).is_none());
        has_started.recv().expect("starts");
        let waiting = pool.run(soon(), || 2);
        tokio::pin!(waiting);
        assert!(futures_util::FutureExt::now_or_never(&mut waiting).is_none());
        assert_eq!(pool.run(soon(), || 3).await.expect_err("full"), PoolError::Full);
        drop(release);
        assert_eq!(running.await.expect("runs").value, 1);
        assert_eq!(waiting.await.expect("runs").value, 2);
        assert_eq!(pool.run(soon(), || 3).await.expect("room again").value, 3);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_the_thread_lives_on() {
        let pool = pool(1, 4);
        let panics = || -> u8 { panic!("on purpose") };
        assert_eq!(pool.run(soon(), panics).await.expect_err("panics"), PoolError::Panicked);
        assert_eq!(pool.run(soon(), || 5).await.expect("runs").value, 5);
    }

    #[tokio::test]
    async fn a_job_past_its_deadline_is_not_begun() {
        let pool = pool(1, 4);
        let never = || -> u8 { unreachable!("begun past its deadline") };
        assert_eq!(pool.run(Instant::now(), never).await.expect_err("late"), PoolError::TooLate);
    }
}
