//! Decides which job a free thread begins: fair between tenants, light jobs never behind heavy ones, within a budget of
//! memory.
//!
//! Jobs are of two lanes, each with its own fair queue and half of the memory. Heavy jobs leave a thread to light ones; a
//! job that does not fit into its lane's memory waits for those that run in that lane, and what is behind it waits with
//! it, so that it is not starved. Every job first comes as a light one that reads a header, and comes again once that has
//! told its weight.
//!
//! Must not know threads or locks, and looks at no clock of its own: a call is one decision.

use std::hash::Hash;
use std::time::Instant;

use imaging::Weight;

use super::fair_queue::FairQueue;

/// A job that costs more is heavy, in milliseconds of a thread. Thumbnails of large photographs stay below, AVIF of more
/// than two megapixels does not.
const LIGHT_COST_MAX_MS: u64 = 500;
/// What a tenant is given in a round, in milliseconds of a thread: a small thumbnail.
const LIGHT_QUANTUM_MS: u64 = 16;
const HEAVY_QUANTUM_MS: u64 = 500;

/// Where a job waits and what it competes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Headers, and renditions that are soon made.
    Light,
    /// Renditions that take long, or much memory.
    Heavy,
}

impl Lane {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Light, Self::Heavy];

    /// As in a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Heavy => "heavy",
        }
    }
}

/// What a scheduler may hand out.
#[derive(Debug, Clone, Copy)]
pub struct SchedulerLimits {
    /// Threads; at least one.
    pub threads: usize,
    /// Jobs that may wait.
    pub queue: usize,
    /// Jobs of one tenant that may wait.
    pub tenant_queue: usize,
    /// Memory of the jobs that run, in bytes.
    pub memory_bytes: u64,
}

/// Why a job was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// As many jobs wait as may.
    QueueFull,
    /// As many jobs of the tenant wait as may.
    TenantQueueFull,
}

impl Refusal {
    /// Both.
    pub const ALL: [Self; 2] = [Self::QueueFull, Self::TenantQueueFull];

    /// As in a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::TenantQueueFull => "tenant-queue-full",
        }
    }
}

/// What a thread is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// Nothing but saying that it is too late: its deadline has passed.
    Late(T),
    /// Tell [`Scheduler::weighed`] what it takes.
    Weigh(T),
    /// Run it, and give the grant back.
    Run(T, Grant),
}

/// The right to run a job, until it is given back to [`Scheduler::finished`].
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    /// The lane that it runs in.
    pub lane: Lane,
    memory_bytes: u64,
    holds_thread: bool,
}

struct Waiting<T> {
    job: T,
    deadline: Instant,
    /// `None` before its header was read.
    weight: Option<Weight>,
}

struct LaneState<K, T> {
    waiting: FairQueue<K, Waiting<T>>,
    threads: usize,
    threads_max: usize,
    memory_bytes: u64,
}

/// Jobs that wait, and what those that run have taken.
pub struct Scheduler<K, T> {
    light: LaneState<K, T>,
    heavy: LaneState<K, T>,
    limits: SchedulerLimits,
    /// What light jobs are still to be given, if any wait, since the last heavy one began.
    owed_ms: u64,
}

impl<K: Clone + Eq + Hash, T> Scheduler<K, T> {
    /// Without jobs.
    pub fn new(limits: SchedulerLimits) -> Self {
        let lane = |quantum, threads_max| LaneState {
            waiting: FairQueue::new(quantum),
            threads: 0,
            threads_max,
            memory_bytes: 0,
        };
        Self {
            light: lane(LIGHT_QUANTUM_MS, limits.threads),
            heavy: lane(HEAVY_QUANTUM_MS, limits.threads.saturating_sub(1).max(1)),
            limits,
            owed_ms: 0,
        }
    }

    /// Takes a job of which nothing is known but what reading its header costs.
    ///
    /// # Errors
    /// The job, and which queue is full.
    pub fn push(&mut self, tenant: K, deadline: Instant, header: Weight, job: T) -> Result<(), (T, Refusal)> {
        let all = self.light.waiting.len() + self.heavy.waiting.len();
        let of_tenant = self.light.waiting.len_of(&tenant) + self.heavy.waiting.len_of(&tenant);
        if all >= self.limits.queue {
            return Err((job, Refusal::QueueFull));
        }
        if of_tenant >= self.limits.tenant_queue {
            return Err((job, Refusal::TenantQueueFull));
        }
        self.light.waiting.push(tenant, header.cost_ms, Waiting { job, deadline, weight: None });
        Ok(())
    }

    /// Takes a job back whose header was read. It was let in already, so no queue is too full for it.
    pub fn weighed(&mut self, tenant: K, deadline: Instant, weight: Weight, job: T) {
        let lane = self.lane_of(weight);
        self.lane_mut(lane).waiting.push(tenant, weight.cost_ms, Waiting { job, deadline, weight: Some(weight) });
    }

    /// What a free thread is to do at this time.
    pub fn next(&mut self, now: Instant) -> Option<Next<T>> {
        // With one thread a heavy job holds up everything; light ones then get as much time before the next.
        let is_heavys_turn = self.heavy.threads == 0 && self.owed_ms == 0;
        let order = if is_heavys_turn { [Lane::Heavy, Lane::Light] } else { [Lane::Light, Lane::Heavy] };
        order.into_iter().find_map(|lane| self.take(lane, now))
    }

    /// Takes back what a finished job held.
    pub fn finished(&mut self, mut grant: Grant) {
        self.replaced(&mut grant);
        let lane = self.lane_mut(grant.lane);
        lane.memory_bytes = lane.memory_bytes.saturating_sub(grant.memory_bytes);
    }

    /// Notes that the thread of a job that does not end has a replacement: the job keeps its memory only.
    pub fn replaced(&mut self, grant: &mut Grant) {
        if std::mem::take(&mut grant.holds_thread) {
            self.lane_mut(grant.lane).threads -= 1;
        }
    }

    /// Jobs that wait in a lane.
    pub fn waiting(&self, lane: Lane) -> usize {
        self.lane(lane).waiting.len()
    }

    /// What running jobs hold.
    pub fn memory_bytes(&self) -> u64 {
        self.light.memory_bytes + self.heavy.memory_bytes
    }

    fn take(&mut self, lane: Lane, now: Instant) -> Option<Next<T>> {
        let lane_memory_bytes = self.lane_memory_bytes();
        let state = self.lane_mut(lane);
        let first = state.waiting.peek()?;
        let (is_late, weight) = (first.deadline <= now, first.weight);
        let memory_bytes = weight.map_or(0, |weight| weight.memory_bytes);
        let fits = state.memory_bytes == 0 || state.memory_bytes.saturating_add(memory_bytes) <= lane_memory_bytes;
        let may_run = fits && state.threads < state.threads_max;
        // What is too late only takes a place from others.
        if !is_late && !may_run {
            return None;
        }
        let (_, cost_ms, Waiting { job, .. }) = state.waiting.pop()?;
        if is_late {
            return Some(Next::Late(job));
        }
        let next = if weight.is_some() {
            state.threads += 1;
            state.memory_bytes = state.memory_bytes.saturating_add(memory_bytes);
            Next::Run(job, Grant { lane, memory_bytes, holds_thread: true })
        } else {
            Next::Weigh(job)
        };
        self.owed_ms = match lane {
            Lane::Light => self.owed_ms.saturating_sub(cost_ms),
            Lane::Heavy => cost_ms,
        };
        Some(next)
    }

    fn lane_of(&self, weight: Weight) -> Lane {
        let is_light = weight.cost_ms <= LIGHT_COST_MAX_MS && weight.memory_bytes <= self.lane_memory_bytes();
        if is_light { Lane::Light } else { Lane::Heavy }
    }

    fn lane_memory_bytes(&self) -> u64 {
        self.limits.memory_bytes / 2
    }

    fn lane(&self, lane: Lane) -> &LaneState<K, T> {
        match lane {
            Lane::Light => &self.light,
            Lane::Heavy => &self.heavy,
        }
    }

    fn lane_mut(&mut self, lane: Lane) -> &mut LaneState<K, T> {
        match lane {
            Lane::Light => &mut self.light,
            Lane::Heavy => &mut self.heavy,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;
    const LIMITS: SchedulerLimits =
        SchedulerLimits { threads: 2, queue: 100, tenant_queue: 50, memory_bytes: 200 * MIB };
    const LIGHT: Weight = weight(20, 1);
    const HEAVY: Weight = weight(5_000, 60);

    const fn weight(cost_ms: u64, mib: u64) -> Weight {
        Weight { cost_ms, memory_bytes: mib * MIB }
    }

    /// A scheduler of jobs that are numbers, at a time that stands still.
    struct Rig {
        scheduler: Scheduler<&'static str, (&'static str, Weight, u32)>,
        now: Instant,
        next: u32,
    }

    impl Rig {
        fn new(limits: SchedulerLimits) -> Self {
            Self { scheduler: Scheduler::new(limits), now: Instant::now(), next: 0 }
        }

        fn later(&self) -> Instant {
            self.now + Duration::from_secs(60)
        }

        fn push(&mut self, tenant: &'static str, weight: Weight) -> Result<u32, Refusal> {
            self.next += 1;
            let job = (tenant, weight, self.next);
            let pushed = self.scheduler.push(tenant, self.later(), Weight::default(), job);
            pushed.map(|()| self.next).map_err(|(_, refusal)| refusal)
        }

        /// What a thread runs next, after all the headers that it reads on the way.
        fn run(&mut self) -> Option<(u32, Grant)> {
            loop {
                match self.scheduler.next(self.now)? {
                    Next::Late(_) => panic!("nothing is late"),
                    Next::Weigh((tenant, weight, number)) => {
                        self.scheduler.weighed(tenant, self.later(), weight, (tenant, weight, number));
                    }
                    Next::Run((_, _, number), grant) => return Some((number, grant)),
                }
            }
        }
    }

    #[test]
    fn a_thread_is_left_to_light_jobs_and_they_take_all_when_alone() {
        let mut rig = Rig::new(SchedulerLimits { threads: 3, memory_bytes: 1000 * MIB, ..LIMITS });
        for _ in 0..4 {
            rig.push("a", HEAVY).expect("room");
        }
        let (first, second) = (rig.run().expect("one"), rig.run().expect("two"));
        assert!(rig.run().is_none(), "three heavy jobs on three threads");
        let light = rig.push("b", LIGHT).expect("room");
        let light = rig.run().filter(|(number, _)| *number == light).expect("the thread that is left");
        rig.scheduler.finished(first.1);
        rig.scheduler.finished(light.1);
        let third = rig.run().expect("a heavy job again");
        assert_eq!((third.1.lane, second.1.lane), (Lane::Heavy, Lane::Heavy));
        for _ in 0..3 {
            rig.push("b", LIGHT).expect("room");
        }
        rig.scheduler.finished(second.1);
        rig.scheduler.finished(third.1);
        // One heavy job is always let in, others only when no light one waits.
        let lanes: Vec<Lane> = (0..3).map(|_| rig.run().expect("a thread").1.lane).collect();
        assert_eq!(lanes, [Lane::Light, Lane::Light, Lane::Light], "owed to the light ones");
    }

    #[test]
    fn a_heavy_job_gets_in_among_light_ones_without_end() {
        let mut rig = Rig::new(LIMITS);
        let heavy = rig.push("a", HEAVY).expect("room");
        let mut began_after = None;
        for count in 0..10 {
            rig.push("b", LIGHT).expect("room");
            let (number, grant) = rig.run().expect("a thread");
            if number == heavy {
                began_after = Some(count);
                break;
            }
            rig.scheduler.finished(grant);
        }
        assert!(began_after.is_some_and(|count| count <= 1), "{began_after:?}");
    }

    #[test]
    fn one_thread_does_light_and_heavy_jobs_in_turns_of_the_same_time() {
        let mut rig = Rig::new(SchedulerLimits { threads: 1, ..LIMITS });
        let mut light_between = Vec::new();
        let mut light = 0;
        for _ in 0..2 {
            rig.push("a", HEAVY).expect("room");
        }
        for _ in 0..600 {
            // Some are always there.
            while rig.scheduler.waiting(Lane::Light) < 5 {
                rig.push("b", weight(100, 1)).expect("room");
            }
            let (_, grant) = rig.run().expect("the thread is free");
            match grant.lane {
                Lane::Light => light += 1,
                Lane::Heavy => light_between.push(std::mem::take(&mut light)),
            }
            rig.scheduler.finished(grant);
        }
        assert_eq!(light_between.len(), 2, "both heavy jobs ran");
        // 5,000 ms of light jobs of 100 ms and their headers.
        assert!((40..=51).contains(&light_between[1]), "{light_between:?}");
    }

    #[test]
    fn memory_is_bounded_by_lane_and_one_job_may_exceed_it_alone() {
        let mut rig = Rig::new(SchedulerLimits { threads: 8, ..LIMITS });
        let huge = rig.push("a", weight(5_000, 900)).expect("room");
        let (number, alone) = rig.run().expect("alone");
        assert_eq!((number, rig.scheduler.memory_bytes()), (huge, 900 * MIB));
        rig.push("a", HEAVY).expect("room");
        assert!(rig.run().is_none(), "beside a job that has all the memory");
        let light = rig.push("b", weight(100, 100)).expect("room");
        let (number, light_grant) = rig.run().expect("memory of its own");
        assert_eq!(number, light);
        rig.push("b", LIGHT).expect("room");
        assert!(rig.run().is_none(), "101 MiB of 100");
        rig.scheduler.finished(light_grant);
        assert_eq!(rig.run().expect("memory again").1.lane, Lane::Light);
        rig.scheduler.finished(alone);
        assert_eq!(rig.run().expect("memory again").1.lane, Lane::Heavy);
    }

    #[test]
    fn what_needs_much_memory_is_heavy_however_quick_it_is() {
        let mut rig = Rig::new(LIMITS);
        rig.push("a", weight(1, 101)).expect("room");
        assert_eq!(rig.run().expect("a thread").1.lane, Lane::Heavy);
    }

    #[test]
    fn a_job_that_waits_for_memory_is_not_overtaken_for_ever() {
        let mut rig = Rig::new(SchedulerLimits { threads: 8, ..LIMITS });
        rig.push("b", weight(5_000, 40)).expect("room");
        let mut last = rig.run().expect("a thread").1;
        let big = rig.push("a", weight(5_000, 90)).expect("room");
        for _ in 0..20 {
            rig.push("b", weight(5_000, 40)).expect("room");
        }
        for _ in 0..3 {
            while let Some((number, grant)) = rig.run() {
                if number == big {
                    return;
                }
                rig.scheduler.finished(std::mem::replace(&mut last, grant));
            }
            let grant = last;
            rig.scheduler.finished(grant);
            let (number, grant) = rig.run().expect("all is free");
            if number == big {
                return;
            }
            last = grant;
        }
        panic!("the big job starves");
    }

    #[test]
    fn both_queues_have_an_end() {
        let mut rig = Rig::new(SchedulerLimits { queue: 3, tenant_queue: 2, ..LIMITS });
        assert_eq!([rig.push("a", LIGHT), rig.push("a", HEAVY)].map(|pushed| pushed.is_ok()), [true, true]);
        assert_eq!(rig.push("a", LIGHT), Err(Refusal::TenantQueueFull));
        rig.push("b", LIGHT).expect("room for others");
        assert_eq!(rig.push("c", LIGHT), Err(Refusal::QueueFull));
        rig.run().expect("a thread");
        rig.push("c", LIGHT).expect("room again");
    }

    #[test]
    fn what_is_late_is_given_back_even_while_its_lane_has_no_thread() {
        let mut rig = Rig::new(LIMITS);
        rig.push("a", HEAVY).expect("room");
        let (_, grant) = rig.run().expect("a thread");
        let late = rig.push("a", HEAVY).expect("room");
        assert!(rig.run().is_none());
        let after = rig.later();
        match rig.scheduler.next(after) {
            Some(Next::Late((_, _, number))) => assert_eq!(number, late),
            other => panic!("{other:?}"),
        }
        rig.scheduler.finished(grant);
        assert_eq!(rig.scheduler.waiting(Lane::Heavy), 0);
    }

    #[test]
    fn a_replaced_thread_is_free_for_another_job_but_its_memory_is_not() {
        let mut rig = Rig::new(LIMITS);
        rig.push("a", HEAVY).expect("room");
        let (_, mut stuck) = rig.run().expect("a thread");
        let next = rig.push("a", weight(5_000, 30)).expect("room");
        assert!(rig.run().is_none(), "one of two threads is for light jobs");
        rig.scheduler.replaced(&mut stuck);
        let (number, grant) = rig.run().expect("its replacement");
        assert_eq!((number, rig.scheduler.memory_bytes()), (next, 90 * MIB));
        rig.scheduler.finished(stuck);
        rig.scheduler.finished(grant);
        assert_eq!(rig.scheduler.memory_bytes(), 0);
    }

    proptest! {
        #[test]
        fn limits_hold_whatever_comes_and_every_job_ends(
            jobs in vec((0..4_usize, 1..3_000_u64, 0..150_u64), 1..60),
            threads in 1..5_usize,
            finish_order in vec(any::<prop::sample::Index>(), 60),
        ) {
            let mut rig = Rig::new(SchedulerLimits { threads, ..LIMITS });
            let expected = jobs.len();
            for (tenant, cost, mib) in jobs {
                rig.push(["a", "b", "c", "d"][tenant], weight(cost, mib)).expect("room");
            }
            let (mut running, mut ended): (Vec<(u32, Grant)>, usize) = (Vec::new(), 0);
            for index in finish_order {
                while running.len() < threads && let Some(next) = rig.run() {
                    running.push(next);
                }
                let heavy: Vec<_> = running.iter().filter(|(_, grant)| grant.lane == Lane::Heavy).collect();
                prop_assert!(heavy.len() <= threads.saturating_sub(1).max(1));
                for lane in Lane::ALL {
                    let held: Vec<u64> = running
                        .iter()
                        .filter(|(_, grant)| grant.lane == lane)
                        .map(|(_, grant)| grant.memory_bytes)
                        .collect();
                    let with_memory = held.iter().filter(|bytes| **bytes > 0).count();
                    prop_assert!(held.iter().sum::<u64>() <= LIMITS.memory_bytes / 2 || with_memory == 1);
                }
                if running.is_empty() {
                    break;
                }
                let (_, grant) = running.swap_remove(index.index(running.len()));
                rig.scheduler.finished(grant);
                ended += 1;
            }
            prop_assert_eq!(ended, expected);
            prop_assert_eq!(rig.scheduler.memory_bytes(), 0);
        }
    }
}
