//! The threads that libvips runs on: few, dedicated, with a scheduler that decides what they do.
//!
//! Not tokio's blocking pool: that one is shared with disk reads, has hundreds of threads and queues without end or order.
//! Must not know what a job does.

mod fair_queue;
mod idle;
mod metrics;
mod scheduler;
mod worker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use imaging::Weight;
use prometheus::Registry;
use tenancy::TenantId;
use thiserror::Error;
use tokio::sync::oneshot;

pub use self::fair_queue::FairQueue;
use self::idle::Beside;
pub use self::idle::{IdleError, may_be_idle};
use self::scheduler::Refusal;
pub use self::scheduler::SchedulerLimits;
use self::worker::{Answer, Job, Shared};

/// How long after its deadline a job may go on before its thread counts as stuck. What can be interrupted has ended long
/// before.
const OVERRUN: Duration = Duration::from_millis(500);

/// What a thread does for somebody.
pub trait Work: Send + 'static {
    /// What comes of it.
    type Output: Send + 'static;

    /// What [`Work::weigh`] takes; told at once, wherever it is asked.
    fn header_weight(&self) -> Weight;

    /// What [`Work::run`] will take. Called once, on a thread of the pool, before it.
    fn weigh(&mut self) -> Weight;

    /// Does it, on a thread of the pool.
    fn run(self) -> Self::Output;
}

/// Why a job gave no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PoolError {
    /// As many jobs wait as may.
    #[error("the queue of renditions is full")]
    Full,
    /// As many jobs of this tenant wait as may.
    #[error("the tenant's queue of renditions is full")]
    TenantFull,
    /// The deadline passed before the job was begun.
    #[error("no thread was free before the deadline")]
    TooLate,
    /// The job panicked.
    #[error("the job panicked")]
    Panicked,
}

impl From<Refusal> for PoolError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::QueueFull => Self::Full,
            Refusal::TenantQueueFull => Self::TenantFull,
        }
    }
}

/// The pool. Dropping it lets its threads end after the jobs they have.
pub struct TransformPool {
    shared: Arc<Shared>,
    beside: Beside,
}

/// A result, and how long its job waited for a thread.
#[derive(Debug)]
pub struct Finished<T> {
    /// What the job gave.
    pub value: T,
    /// Time until it was begun.
    pub queued: Duration,
    /// Time on the thread.
    pub ran: Duration,
}

impl TransformPool {
    /// Starts the threads. `on_thread_end` runs on each as its last act.
    ///
    /// # Errors
    /// When the system gives no thread, or a metric's name is taken.
    pub fn start(limits: SchedulerLimits, registry: &Registry, on_thread_end: fn()) -> anyhow::Result<Self> {
        Ok(Self { shared: Shared::start(limits, registry, on_thread_end)?, beside: Beside::default() })
    }

    /// Runs `work` on a thread of the pool, when it is this tenant's turn.
    ///
    /// # Errors
    /// [`PoolError::Full`] and [`PoolError::TenantFull`] at once, the others as they happen.
    pub async fn run<W: Work>(
        &self,
        tenant: &TenantId,
        deadline: Instant,
        work: W,
    ) -> Result<Finished<W::Output>, PoolError> {
        let (reply, mut receiver) = oneshot::channel();
        let header = work.header_weight();
        let pending = Pending { work, reply };
        let id = self.shared.push(tenant, deadline, header, Box::new(pending))?;
        let finished = match tokio::time::timeout_at((deadline + OVERRUN).into(), &mut receiver).await {
            Ok(finished) => finished,
            Err(_) => {
                self.shared.overran(id);
                receiver.await
            }
        };
        finished.unwrap_or(Err(PoolError::Panicked))
    }
}

impl Drop for TransformPool {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// A job and who waits for it.
struct Pending<W: Work> {
    work: W,
    reply: oneshot::Sender<Result<Finished<W::Output>, PoolError>>,
}

impl<W: Work> Job for Pending<W> {
    fn is_awaited(&self) -> bool {
        !self.reply.is_closed()
    }

    fn weigh(&mut self) -> Weight {
        self.work.weigh()
    }

    fn run(self: Box<Self>, queued: Duration) -> Answer {
        let Self { work, reply } = *self;
        let started = Instant::now();
        let result = worker::caught(|| work.run());
        let result = result.map(|value| Finished { value, queued, ran: started.elapsed() });
        // Nobody waits any more when the fill that asked was dropped at shutdown.
        Box::new(move || drop(reply.send(result)))
    }

    fn fail(self: Box<Self>, error: PoolError) {
        let _ = self.reply.send(Err(error));
    }
}

#[cfg(test)]
pub mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;

    const LIGHT: Weight = weight(20);
    const HEAVY: Weight = weight(5_000);

    const fn weight(cost_ms: u64) -> Weight {
        Weight { cost_ms, memory_bytes: 1 }
    }

    /// A closure with a weight.
    struct Act<F>(Weight, F);

    impl<T: Send + 'static, F: FnOnce() -> T + Send + 'static> Work for Act<F> {
        type Output = T;

        fn header_weight(&self) -> Weight {
            Weight::default()
        }

        fn weigh(&mut self) -> Weight {
            assert!(self.0.cost_ms > 0, "on purpose");
            self.0
        }

        fn run(self) -> T {
            (self.1)()
        }
    }

    fn pool(threads: usize, queue: usize) -> TransformPool {
        let limits = SchedulerLimits { threads, queue, tenant_queue: queue, memory_bytes: 1 << 20 };
        start(limits, &Registry::new())
    }

    fn start(limits: SchedulerLimits, registry: &Registry) -> TransformPool {
        TransformPool::start(limits, registry, || {}).expect("starts")
    }

    /// A tenant of this name.
    pub fn tenant(name: &str) -> TenantId {
        TenantId::new(name)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    type Running<'a, T> = Pin<Box<dyn Future<Output = Result<Finished<T>, PoolError>> + 'a>>;

    /// Hands a job over; it is in the queue when this returns.
    fn enqueue<'a, T: Send + 'static>(
        pool: &'a TransformPool,
        tenant: &'a TenantId,
        weight: Weight,
        act: impl FnOnce() -> T + Send + 'static,
    ) -> Running<'a, T> {
        let mut running: Running<'a, T> = Box::pin(pool.run(tenant, soon(), Act(weight, act)));
        assert!(futures_util::FutureExt::now_or_never(&mut running).is_none(), "nothing is done at once");
        running
    }

    /// A job that holds a thread until it is released, and the release; it has begun when this returns.
    fn hold<'a>(pool: &'a TransformPool, tenant: &'a TenantId, weight: Weight) -> (Running<'a, ()>, Sender<()>) {
        let (running, begun, release) = holding(pool, tenant, weight);
        begun.recv().expect("begins");
        (running, release)
    }

    fn holding<'a>(
        pool: &'a TransformPool,
        tenant: &'a TenantId,
        weight: Weight,
    ) -> (Running<'a, ()>, Receiver<()>, Sender<()>) {
        let (release, released) = mpsc::channel();
        let (begins, begun) = mpsc::channel();
        let running = enqueue(pool, tenant, weight, move || {
            begins.send(()).expect("the test waits");
            // An error is a release too: the test is over.
            let _ = released.recv();
        });
        (running, begun, release)
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_recovers() {
        let (pool, a) = (pool(1, 1), tenant("a"));
        let (held, release) = hold(&pool, &a, LIGHT);
        let waiting = enqueue(&pool, &a, LIGHT, || 2);
        assert_eq!(pool.run(&a, soon(), Act(LIGHT, || 3)).await.expect_err("full"), PoolError::Full);
        drop(release);
        held.await.expect("runs");
        assert_eq!(waiting.await.expect("runs").value, 2);
        assert_eq!(pool.run(&a, soon(), Act(LIGHT, || 3)).await.expect("room again").value, 3);
    }

    #[tokio::test]
    async fn a_tenant_cannot_fill_the_queue_of_all() {
        let (a, b) = (tenant("a"), tenant("b"));
        let limits = SchedulerLimits { threads: 1, queue: 10, tenant_queue: 2, memory_bytes: 1 << 20 };
        let registry = Registry::new();
        let pool = start(limits, &registry);
        let (held, release) = hold(&pool, &a, LIGHT);
        let waiting = [enqueue(&pool, &a, LIGHT, || 1), enqueue(&pool, &a, LIGHT, || 1)];
        assert_eq!(pool.run(&a, soon(), Act(LIGHT, || 1)).await.expect_err("full"), PoolError::TenantFull);
        let other = enqueue(&pool, &b, LIGHT, || 2);
        let refused = series(&registry, "calotype_transform_refused_total", "tenant-queue-full");
        assert_eq!(refused, 1.0);
        drop(release);
        held.await.expect("runs");
        for job in waiting {
            job.await.expect("runs");
        }
        assert_eq!(other.await.expect("runs").value, 2);
    }

    #[tokio::test]
    async fn a_flood_lets_others_in_after_at_most_one_of_its_jobs() {
        let (pool, a, b) = (pool(1, 100), tenant("a"), tenant("b"));
        let (held, release) = hold(&pool, &a, LIGHT);
        let (ends, order) = mpsc::channel();
        let mut waiting = Vec::new();
        for (tenant, name) in std::iter::repeat_n((&a, "a"), 20).chain([(&b, "b")]) {
            let ends = ends.clone();
            waiting.push(enqueue(&pool, tenant, LIGHT, move || ends.send(name).expect("the test waits")));
        }
        drop(release);
        held.await.expect("runs");
        for job in waiting {
            job.await.expect("runs");
        }
        let before = order.try_iter().position(|name| name == "b").expect("has run");
        assert!(before <= 1, "{before} jobs of the flood came first");
    }

    #[tokio::test]
    async fn light_jobs_pass_heavy_ones() {
        let (pool, a, b) = (pool(2, 100), tenant("a"), tenant("b"));
        let (held, release) = hold(&pool, &a, HEAVY);
        let more: Vec<_> = (0..3).map(|_| holding(&pool, &a, HEAVY)).collect();
        assert_eq!(pool.run(&b, soon(), Act(LIGHT, || 1)).await.expect("has a thread").value, 1);
        assert!(more.iter().all(|(_, begun, _)| begun.try_recv().is_err()), "two heavy jobs on two threads");
        drop(release);
        held.await.expect("runs");
        for (job, begun, release) in more {
            drop(release);
            job.await.expect("runs");
            begun.recv().expect("has begun");
        }
    }

    #[tokio::test]
    async fn a_panic_is_an_error_and_the_thread_lives_on() {
        let (pool, a) = (pool(1, 4), tenant("a"));
        let panics = || -> u8 { panic!("on purpose") };
        assert_eq!(pool.run(&a, soon(), Act(LIGHT, panics)).await.expect_err("panics"), PoolError::Panicked);
        let unweighable = pool.run(&a, soon(), Act(weight(0), || 4)).await;
        assert_eq!(unweighable.expect_err("panics"), PoolError::Panicked);
        assert_eq!(pool.run(&a, soon(), Act(LIGHT, || 5)).await.expect("runs").value, 5);
    }

    #[tokio::test]
    async fn idle_work_begins_when_there_is_no_other_and_takes_no_thread_from_what_comes() {
        let (pool, a) = (pool(2, 10), tenant("a"));
        let (held, release) = hold(&pool, &a, LIGHT);
        assert!(!pool.is_idle());
        assert!(matches!(pool.run_idle(Act(LIGHT, || 1)).await, Err(IdleError::Busy)));
        drop(release);
        held.await.expect("runs");
        pool.until_idle().await;
        let (begins, begun) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let mut idle = Box::pin(pool.run_idle(Act(LIGHT, move || {
            begins.send(()).expect("the test waits");
            let _ = released.recv();
        })));
        assert!(futures_util::FutureExt::now_or_never(&mut idle).is_none());
        begun.recv().expect("begins");
        assert!(matches!(pool.run_idle(Act(LIGHT, || 1)).await, Err(IdleError::Busy)), "one at a time");
        let others = [hold(&pool, &a, LIGHT), hold(&pool, &a, LIGHT)];
        drop(release);
        idle.await.expect("runs");
        for (job, release) in others {
            drop(release);
            job.await.expect("runs");
        }
    }

    #[tokio::test]
    async fn idle_work_that_is_too_much_or_panics_is_over() {
        let pool = pool(2, 10);
        let never = || -> u8 { unreachable!("begun although it is too heavy") };
        assert!(matches!(pool.run_idle(Act(HEAVY, never)).await, Err(IdleError::TooHeavy)));
        let panics = || -> u8 { panic!("on purpose") };
        let panicked = pool.run_idle(Act(LIGHT, panics)).await;
        assert!(matches!(panicked, Err(IdleError::Pool(PoolError::Panicked))));
        assert_eq!(pool.run_idle(Act(LIGHT, || 5)).await.expect("the place is free").0, 5);
    }

    #[tokio::test]
    async fn a_job_past_its_deadline_is_not_begun() {
        let (pool, a) = (pool(1, 4), tenant("a"));
        let never = || -> u8 { unreachable!("begun past its deadline") };
        let late = pool.run(&a, Instant::now(), Act(LIGHT, never)).await;
        assert_eq!(late.expect_err("late"), PoolError::TooLate);
    }

    #[tokio::test]
    async fn a_thread_that_is_not_given_back_is_replaced_as_often_as_there_are_threads() {
        let a = tenant("a");
        let registry = Registry::new();
        let limits = SchedulerLimits { threads: 1, queue: 10, tenant_queue: 10, memory_bytes: 1 << 20 };
        let pool = start(limits, &registry);
        let stuck = || series(&registry, "calotype_transform_stuck_threads", "");
        let (first, release_first) = hold(&pool, &a, HEAVY);
        // Jobs are numbered from 0.
        pool.shared.overran(0);
        assert_eq!(pool.run(&a, soon(), Act(HEAVY, || 1)).await.expect("on the replacement").value, 1);
        let (second, release_second) = hold(&pool, &a, LIGHT);
        pool.shared.overran(2);
        assert_eq!(stuck(), 2.0);
        let third = enqueue(&pool, &a, LIGHT, || 3);
        drop(release_first);
        first.await.expect("ends at last");
        assert_eq!(third.await.expect("on the thread that came back, in place of the second one's").value, 3);
        assert_eq!(stuck(), 1.0);
        drop(release_second);
        second.await.expect("ends at last");
        assert_eq!(stuck(), 0.0);
        assert_eq!(pool.run(&a, soon(), Act(HEAVY, || 4)).await.expect("a thread is left").value, 4);
        // What has ended cannot be stuck.
        pool.shared.overran(0);
        assert_eq!(stuck(), 0.0);
    }

    #[tokio::test]
    async fn a_job_that_goes_on_past_its_deadline_makes_room_by_itself() {
        let (pool, a) = (pool(1, 10), tenant("a"));
        let (release, released) = mpsc::channel::<()>();
        let (begins, begun) = mpsc::channel();
        // Long enough to be begun on any machine.
        let deadline = Instant::now() + Duration::from_secs(3);
        let stuck = pool.run(
            &a,
            deadline,
            Act(LIGHT, move || {
                begins.send(()).expect("the test waits");
                let _ = released.recv();
            }),
        );
        let next = async {
            begun.recv().expect("begins");
            let next = pool.run(&a, soon(), Act(LIGHT, || 1)).await;
            drop(release);
            next
        };
        let (stuck, next) = tokio::join!(stuck, next);
        assert_eq!(next.expect("on the replacement").value, 1);
        stuck.expect("what it made is not lost");
    }

    #[tokio::test]
    async fn whoever_is_answered_finds_the_books_right() {
        let a = tenant("a");
        let registry = Registry::new();
        let limits = SchedulerLimits { threads: 2, queue: 10, tenant_queue: 10, memory_bytes: 1 << 20 };
        let pool = start(limits, &registry);
        let (held, release) = hold(&pool, &a, HEAVY);
        assert_eq!(series(&registry, "calotype_transform_memory_bytes", ""), 1.0);
        assert_eq!(series(&registry, "calotype_transform_running_jobs", ""), 1.0);
        let waiting = enqueue(&pool, &a, HEAVY, || 1);
        pool.run(&a, soon(), Act(LIGHT, || ())).await.expect("runs");
        assert_eq!(series(&registry, "calotype_transform_queue_jobs", "heavy"), 1.0);
        assert_eq!(series(&registry, "calotype_transform_queue_jobs", "light"), 0.0);
        drop(release);
        held.await.expect("runs");
        waiting.await.expect("runs");
        for gauge in ["memory_bytes", "running_jobs"] {
            assert_eq!(series(&registry, &format!("calotype_transform_{gauge}"), ""), 0.0, "{gauge}");
        }
    }

    /// The value of a gauge or counter whose only label has this value; without labels an empty one.
    fn series(registry: &Registry, name: &str, label: &str) -> f64 {
        let families = registry.gather();
        let family = families.iter().find(|family| family.name() == name).expect("is registered");
        let is_it =
            |metric: &&prometheus::proto::Metric| metric.get_label().first().map_or("", |pair| pair.value()) == label;
        let metric = family.get_metric().iter().find(is_it).expect("has this label");
        metric.get_gauge().get_value() + metric.get_counter().get_value()
    }
}
