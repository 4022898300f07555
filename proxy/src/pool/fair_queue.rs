//! Deficit round robin (Shreedhar and Varghese, 1996) between tenants, with what a job costs told when it is pushed.
//!
//! Each round, every tenant with jobs is given one quantum, and its next job comes out once it has been given what that
//! job costs. Rounds are not walked through: a tenant is put on a wheel as many rounds ahead as its next job needs, so that
//! each operation is O(1) whatever jobs cost. A tenant without jobs is forgotten, with what it was given.
//!
//! Must not know threads, clocks, memory, or what a job is.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Rounds on the wheel: as many as a word has bits. A job that costs more quanta than a job can wait rounds is charged
/// that many.
const ROUNDS: usize = u64::BITS as usize;

/// Jobs of many tenants, of which the fairest is next.
#[derive(Debug)]
pub struct FairQueue<K, T> {
    /// What a tenant is given in a round.
    quantum: u64,
    tenants: HashMap<K, Backlog<T>>,
    /// For each round the tenants whose turn it is, in order. Every tenant with jobs is in exactly one place.
    wheel: [VecDeque<K>; ROUNDS],
    /// Bit `n` is set when `wheel[n]` is not empty.
    occupied: u64,
    /// The present round.
    at: usize,
    len: usize,
}

/// The jobs of one tenant; at least one.
#[derive(Debug)]
struct Backlog<T> {
    jobs: VecDeque<(u64, T)>,
    /// What was given and not used, with all that is given until the tenant's turn.
    credit: u64,
}

impl<K: Clone + Eq + Hash, T> FairQueue<K, T> {
    /// An empty queue. A smaller `quantum` mixes tenants more finely, but jobs of more than 63 of them count as 63.
    pub fn new(quantum: u64) -> Self {
        Self {
            quantum: quantum.max(1),
            tenants: HashMap::new(),
            wheel: std::array::from_fn(|_| VecDeque::new()),
            occupied: 0,
            at: 0,
            len: 0,
        }
    }

    /// Jobs of all tenants.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Jobs of one tenant.
    pub fn len_of(&self, tenant: &K) -> usize {
        self.tenants.get(tenant).map_or(0, |backlog| backlog.jobs.len())
    }

    /// Puts a job behind the others of its tenant.
    pub fn push(&mut self, tenant: K, cost: u64, job: T) {
        self.len += 1;
        if let Some(backlog) = self.tenants.get_mut(&tenant) {
            backlog.jobs.push_back((cost, job));
            return;
        }
        // A newcomer's turn is never in the present round, which would then not have to end.
        let rounds = self.rounds_for(cost).max(1);
        let credit = self.given_in(rounds);
        self.tenants.insert(tenant.clone(), Backlog { jobs: VecDeque::from([(cost, job)]), credit });
        self.wheel[self.ahead(rounds)].push_back(tenant);
        self.occupied |= 1 << self.ahead(rounds);
    }

    /// The job that is next. It stays the next one until it is popped, whatever is pushed.
    pub fn peek(&mut self) -> Option<&T> {
        self.turn()?;
        let tenant = self.wheel[self.at].front()?;
        self.tenants.get(tenant)?.jobs.front().map(|(_, job)| job)
    }

    /// Takes the job that is next, with its tenant and cost.
    pub fn pop(&mut self) -> Option<(K, u64, T)> {
        self.turn()?;
        let tenant = self.wheel[self.at].pop_front()?;
        let backlog = self.tenants.get_mut(&tenant)?;
        let (cost, job) = backlog.jobs.pop_front()?;
        self.len -= 1;
        backlog.credit = backlog.credit.saturating_sub(cost);
        let (credit, next) = (backlog.credit, backlog.jobs.front().map(|(cost, _)| *cost));
        match next {
            None => drop(self.tenants.remove(&tenant)),
            Some(next) => self.goes_on(tenant.clone(), next.saturating_sub(credit)),
        }
        if self.wheel[self.at].is_empty() {
            self.occupied &= !(1 << self.at);
        }
        Some((tenant, cost, job))
    }

    /// Gives a tenant its next turn, when it has been given what it is `missing`.
    fn goes_on(&mut self, tenant: K, missing: u64) {
        let rounds = self.rounds_for(missing);
        let given = self.given_in(rounds);
        if let Some(backlog) = self.tenants.get_mut(&tenant) {
            backlog.credit += given;
        }
        let slot = self.ahead(rounds);
        if rounds == 0 {
            self.wheel[slot].push_front(tenant);
        } else {
            self.wheel[slot].push_back(tenant);
        }
        self.occupied |= 1 << slot;
    }

    /// Goes to the next round in which it is anybody's turn.
    fn turn(&mut self) -> Option<()> {
        if self.occupied == 0 {
            return None;
        }
        let rounds = self.occupied.rotate_right(self.at as u32).trailing_zeros();
        self.at = self.ahead(rounds as usize);
        Some(())
    }

    fn ahead(&self, rounds: usize) -> usize {
        (self.at + rounds) % ROUNDS
    }

    fn rounds_for(&self, missing: u64) -> usize {
        // The minimum fits.
        missing.div_ceil(self.quantum).min(ROUNDS as u64 - 1) as usize
    }

    fn given_in(&self, rounds: usize) -> u64 {
        self.quantum.saturating_mul(rounds as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const QUANTUM: u64 = 10;
    const COST_MAX: u64 = QUANTUM * (ROUNDS as u64 - 1);

    type Queue = FairQueue<u8, usize>;

    /// Nothing is kept for whom there is no job, and everybody else has exactly one turn.
    fn check_shape(queue: &Queue) {
        let turns: usize = queue.wheel.iter().map(VecDeque::len).sum();
        assert_eq!(turns, queue.tenants.len());
        assert_eq!(queue.tenants.values().map(|backlog| backlog.jobs.len()).sum::<usize>(), queue.len());
        assert!(queue.tenants.values().all(|backlog| !backlog.jobs.is_empty()));
        for (slot, tenants) in queue.wheel.iter().enumerate() {
            assert_eq!(queue.occupied >> slot & 1 == 1, !tenants.is_empty(), "slot {slot}");
        }
    }

    /// Takes jobs while all tenants have some, and returns what each has been charged by then after each job.
    fn shares(costs: &BTreeMap<u8, Vec<u64>>) -> Vec<BTreeMap<u8, u64>> {
        let mut queue = Queue::new(QUANTUM);
        for (tenant, costs) in costs {
            for cost in costs {
                queue.push(*tenant, *cost, 0);
            }
        }
        let mut charged: BTreeMap<u8, u64> = costs.keys().map(|tenant| (*tenant, 0)).collect();
        let mut history = Vec::new();
        while costs.keys().all(|tenant| queue.len_of(tenant) > 0) {
            let (tenant, cost, _) = queue.pop().expect("has jobs");
            *charged.entry(tenant).or_default() += cost;
            history.push(charged.clone());
        }
        history
    }

    proptest! {
        #[test]
        fn whoever_has_jobs_is_within_one_job_and_a_quantum_of_its_share(
            costs in proptest::collection::btree_map(0..8_u8, vec(1..=COST_MAX, 1..60), 1..8),
        ) {
            let largest = costs.values().flatten().max().copied().unwrap_or_default();
            for charged in shares(&costs) {
                let share = charged.values().sum::<u64>() / charged.len() as u64;
                for (tenant, charged) in &charged {
                    prop_assert!(charged.abs_diff(share) <= largest + QUANTUM, "{tenant}: {charged} of {share}");
                }
            }
        }

        #[test]
        fn each_job_comes_out_once_and_in_the_order_of_its_tenant(
            // A job of a tenant, or nothing: then one is taken.
            steps in vec(proptest::option::weighted(0.6, (0..6_u8, 0..=2 * COST_MAX)), 0..300),
        ) {
            let mut queue = Queue::new(QUANTUM);
            let mut waiting: BTreeMap<u8, VecDeque<(u64, usize)>> = BTreeMap::new();
            let drain = std::iter::repeat_n(None, steps.len());
            for (number, step) in steps.into_iter().chain(drain).enumerate() {
                if let Some((tenant, cost)) = step {
                    queue.push(tenant, cost, number);
                    waiting.entry(tenant).or_default().push_back((cost, number));
                } else {
                    let next = queue.peek().copied();
                    let popped = queue.pop();
                    prop_assert_eq!(popped.map(|(_, _, job)| job), next);
                    match popped {
                        Some((tenant, cost, job)) => {
                            let first = waiting.get_mut(&tenant).and_then(VecDeque::pop_front);
                            prop_assert_eq!(first, Some((cost, job)));
                        }
                        None => prop_assert!(waiting.values().all(VecDeque::is_empty), "something was kept back"),
                    }
                }
                for (tenant, jobs) in &waiting {
                    prop_assert_eq!(queue.len_of(tenant), jobs.len());
                }
                check_shape(&queue);
            }
            prop_assert_eq!(queue.len(), 0);
        }

        #[test]
        fn nobody_waits_longer_than_others_are_served_what_it_costs(
            flood in vec((0..4_u8, 1..=COST_MAX), 1..40), cost in 1..=COST_MAX,
        ) {
            // Four tenants that are never done, and one that comes into the middle with a single job.
            const NEWCOMER: u8 = 9;
            let mut queue = Queue::new(QUANTUM);
            for tenant in 0..4 {
                queue.push(tenant, COST_MAX, 0);
            }
            for (tenant, cost) in &flood {
                queue.push(*tenant, *cost, 0);
                queue.pop();
            }
            queue.push(NEWCOMER, cost, 0);
            let mut served: BTreeMap<u8, u64> = BTreeMap::new();
            for (_, flood_cost) in flood.iter().cycle() {
                let (tenant, cost, _) = queue.pop().expect("has jobs");
                if tenant == NEWCOMER {
                    break;
                }
                *served.entry(tenant).or_default() += cost;
                queue.push(tenant, *flood_cost, 0);
                let all: u64 = served.values().sum();
                prop_assert!(all <= 8 * (cost + COST_MAX + QUANTUM), "starved: {served:?}");
            }
            for (tenant, served) in served {
                prop_assert!(served <= cost + COST_MAX + 2 * QUANTUM, "{tenant} had {served} before a job of {cost}");
            }
        }
    }

    #[test]
    fn what_is_next_stays_next_whatever_is_pushed() {
        let mut queue = Queue::new(QUANTUM);
        queue.push(1, COST_MAX, 1);
        assert_eq!(queue.peek(), Some(&1));
        queue.push(2, 1, 2);
        queue.push(1, 1, 3);
        assert_eq!(queue.peek(), Some(&1));
        assert_eq!(queue.pop(), Some((1, COST_MAX, 1)));
    }

    #[test]
    fn cheap_jobs_get_their_turn_before_dear_ones_of_others() {
        let mut queue = Queue::new(QUANTUM);
        queue.push(1, 5 * QUANTUM, 1);
        queue.push(2, QUANTUM, 2);
        queue.push(2, QUANTUM, 3);
        let order: Vec<usize> = std::iter::from_fn(|| queue.pop()).map(|(_, _, job)| job).collect();
        assert_eq!(order, [2, 3, 1]);
    }
}
