//! The threads themselves, and the replacement of those that a codec does not give back.
//!
//! Decides nothing: every decision is the scheduler's. Its lock is held for decisions only, never while a job runs.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use imaging::Weight;
use parking_lot::{Condvar, Mutex};
use prometheus::Registry;
use tenancy::TenantId;

use super::PoolError;
use super::metrics::PoolMetrics;
use super::scheduler::{Grant, Lane, Next, Scheduler, SchedulerLimits};

/// Tells the result to who waits for it.
pub type Answer = Box<dyn FnOnce() + Send>;

/// A job of any type.
pub trait Job: Send {
    /// Whether anybody wants the result.
    fn is_awaited(&self) -> bool;
    /// What it will take.
    fn weigh(&mut self) -> Weight;
    /// Does it.
    fn run(self: Box<Self>, queued: Duration) -> Answer;
    /// Answers that it was not done.
    fn fail(self: Box<Self>, error: PoolError);
}

/// Tells one job from another.
pub type JobId = u64;

struct Ticket {
    id: JobId,
    tenant: TenantId,
    deadline: Instant,
    enqueued: Instant,
    job: Box<dyn Job>,
}

struct State {
    scheduler: Scheduler<TenantId, Ticket>,
    running: HashMap<JobId, Running>,
    next_id: JobId,
    /// Jobs that were pushed and not answered.
    unfinished: usize,
    /// When the last of them was.
    last_finished: Instant,
    /// Threads that stand in for stuck ones.
    replacements: usize,
    is_closed: bool,
}

impl State {
    fn one_finished(&mut self) {
        self.unfinished -= 1;
        self.last_finished = Instant::now();
    }
}

struct Running {
    grant: Grant,
    stuck: Option<Stuck>,
}

/// A thread whose job goes on past its deadline.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stuck {
    /// Another thread does its work.
    Replaced,
    /// Too many are replaced already.
    Missed,
}

/// What the threads share.
pub struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    threads: usize,
    metrics: PoolMetrics,
    on_thread_end: fn(),
}

/// The result of `act`, or that it panicked.
pub fn caught<T>(act: impl FnOnce() -> T) -> Result<T, PoolError> {
    catch_unwind(AssertUnwindSafe(act)).map_err(|_| PoolError::Panicked)
}

impl Shared {
    /// Starts the threads.
    pub fn start(limits: SchedulerLimits, registry: &Registry, on_thread_end: fn()) -> anyhow::Result<Arc<Self>> {
        let state = State {
            scheduler: Scheduler::new(limits),
            running: HashMap::new(),
            next_id: 0,
            unfinished: 0,
            last_finished: Instant::now(),
            replacements: 0,
            is_closed: false,
        };
        let shared = Arc::new(Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            threads: limits.threads,
            metrics: PoolMetrics::register(registry)?,
            on_thread_end,
        });
        for number in 0..limits.threads {
            shared.start_thread(format!("vips-{number}"))?;
        }
        Ok(shared)
    }

    fn start_thread(self: &Arc<Self>, name: String) -> std::io::Result<()> {
        let shared = Arc::clone(self);
        self.start_other_thread(name, move || shared.work())
    }

    /// Starts a thread that may use libvips as those of the pool do.
    pub fn start_other_thread(&self, name: String, act: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let on_thread_end = self.on_thread_end;
        thread::Builder::new().name(name).spawn(move || {
            act();
            on_thread_end();
        })?;
        Ok(())
    }

    /// Threads of the pool.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Since when there is no job, waiting or running; `None` if there is one.
    pub fn idle_since(&self) -> Option<Instant> {
        let state = self.state.lock();
        (state.unfinished == 0).then_some(state.last_finished)
    }

    /// Lets a job wait for its turn.
    pub fn push(
        &self,
        tenant: &TenantId,
        deadline: Instant,
        header: Weight,
        job: Box<dyn Job>,
    ) -> Result<JobId, PoolError> {
        let mut state = self.state.lock();
        let id = state.next_id;
        state.next_id += 1;
        let ticket = Ticket { id, tenant: tenant.clone(), deadline, enqueued: Instant::now(), job };
        if let Err((_, refusal)) = state.scheduler.push(tenant.clone(), deadline, header, ticket) {
            self.metrics.refused(refusal);
            return Err(refusal.into());
        }
        state.unfinished += 1;
        self.tell(&state);
        drop(state);
        self.changed.notify_one();
        Ok(id)
    }

    /// Notes that a job goes on past its deadline, if it runs at all, and gets another thread for the others.
    pub fn overran(self: &Arc<Self>, id: JobId) {
        let mut state = self.state.lock();
        let State { running, scheduler, replacements, .. } = &mut *state;
        let Some(job) = running.get_mut(&id) else { return };
        self.metrics.stuck.inc();
        job.stuck = Some(Stuck::Missed);
        // As many as there are threads: more would only make all of them slower.
        if *replacements == self.threads {
            return;
        }
        match self.start_thread(format!("vips-instead-{id}")) {
            Ok(()) => {
                *replacements += 1;
                job.stuck = Some(Stuck::Replaced);
                scheduler.replaced(&mut job.grant);
            }
            Err(error) => tracing::error!(%error, "a stuck thread cannot be replaced"),
        }
    }

    /// Lets the threads end when no job is left.
    pub fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_all();
    }

    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            let Some(next) = state.scheduler.next(Instant::now()) else {
                if state.is_closed {
                    return;
                }
                self.changed.wait(&mut state);
                continue;
            };
            self.tell(&state);
            match next {
                Next::Late(ticket) => {
                    drop(state);
                    ticket.job.fail(PoolError::TooLate);
                    state = self.state.lock();
                    state.one_finished();
                }
                Next::Weigh(ticket) => {
                    drop(state);
                    let weighed = weigh(ticket);
                    state = self.state.lock();
                    match weighed {
                        Some((ticket, weight)) => {
                            state.scheduler.weighed(ticket.tenant.clone(), ticket.deadline, weight, ticket);
                            self.tell(&state);
                        }
                        None => state.one_finished(),
                    }
                    // It may be for a thread that waits: this one might not be allowed to take it.
                    self.changed.notify_one();
                }
                Next::Run(ticket, grant) => {
                    let (id, lane) = (ticket.id, grant.lane);
                    state.running.insert(id, Running { grant, stuck: None });
                    drop(state);
                    let answer = self.run(ticket, lane);
                    let must_end = self.finish(id);
                    // Last: who is answered finds the metrics right, and room for another job.
                    answer();
                    if must_end {
                        return;
                    }
                    state = self.state.lock();
                }
            }
        }
    }

    fn run(&self, ticket: Ticket, lane: Lane) -> Answer {
        let (started, queued) = (Instant::now(), ticket.enqueued.elapsed());
        self.metrics.waited(lane, queued);
        self.metrics.running.inc();
        let answer = ticket.job.run(queued);
        self.metrics.running.dec();
        self.metrics.ran(started.elapsed());
        answer
    }

    /// Gives back what a job held. True if the thread is replaced and must end.
    fn finish(&self, id: JobId) -> bool {
        let mut state = self.state.lock();
        let State { running, scheduler, replacements, .. } = &mut *state;
        let Some(Running { grant, stuck }) = running.remove(&id) else { return false };
        scheduler.finished(grant);
        if stuck.is_some() {
            self.metrics.stuck.dec();
        }
        let mut must_end = stuck == Some(Stuck::Replaced);
        if must_end {
            // Unless it can take the place of another one.
            if let Some(other) = running.values_mut().find(|other| other.stuck == Some(Stuck::Missed)) {
                other.stuck = Some(Stuck::Replaced);
                scheduler.replaced(&mut other.grant);
                must_end = false;
            } else {
                *replacements -= 1;
            }
        }
        state.one_finished();
        self.tell(&state);
        // Memory is free, and perhaps a thread for heavy jobs: that may be what several wait for.
        self.changed.notify_all();
        must_end
    }

    fn tell(&self, state: &State) {
        for lane in Lane::ALL {
            self.metrics.waiting(lane).set(state.scheduler.waiting(lane) as i64);
        }
        self.metrics.memory.set(i64::try_from(state.scheduler.memory_bytes()).unwrap_or(i64::MAX));
    }
}

/// The job with what it takes; `None` if it was answered already, because weighing it panicked or nobody waits for it.
fn weigh(mut ticket: Ticket) -> Option<(Ticket, Weight)> {
    if !ticket.job.is_awaited() {
        return None;
    }
    match caught(|| ticket.job.weigh()) {
        Ok(weight) => Some((ticket, weight)),
        Err(error) => {
            ticket.job.fail(error);
            None
        }
    }
}
