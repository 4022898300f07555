//! The queue under workers that crash, sleep too long and come back: no job lost, none in two hands, none done twice, tenants fair.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use isolation::{Database, DatabaseOptions, Mandate, TenantKey};
use jobs::{Failure, JobId, JobState, JobsError, Lease, NewJob, Queue, Renewal, cancel, enqueue, find, retry};
use proptest::prelude::*;
use serde_json::json;
use sqlx::PgPool;
use testkit::database::{APP, TestDatabase, WORKER};
use tokio::runtime::Runtime;

const LONG: Duration = Duration::from_secs(3600);

/// More jobs of a tenant than any of these tests has.
const MANY: usize = 1000;

struct Rig {
    app: Database,
    worker: Database,
    superuser: PgPool,
    queue: Queue,
}

impl Rig {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let open = |user: &str| {
            let (acquire_time, statement_time) = (Duration::from_secs(30), Duration::from_secs(30));
            let url = database.url(user);
            let options = DatabaseOptions { url, application: "test", connections: 4, acquire_time, statement_time };
            Database::open(&options).expect("the URL is ours")
        };
        let (app, worker) = (open(APP), open(WORKER));
        let superuser = PgPool::connect(&database.superuser_url()).await.expect("reached");
        let queue = Queue::new(worker.clone(), "a worker", LONG);
        Self { app, worker, superuser, queue }
    }

    async fn tenant(&self) -> TenantKey {
        let tenant = TenantKey::generate();
        sqlx::query("INSERT INTO tenants (id, slug, name) VALUES ($1, $2, 'x')")
            .bind(tenant.as_uuid())
            .bind(tenant.to_string())
            .execute(&self.superuser)
            .await
            .expect("a tenant");
        tenant
    }

    async fn put(&self, tenant: TenantKey, job: &NewJob<'_>) -> JobId {
        let mut transaction = self.app.begin(&Mandate::upkeep(tenant)).await.expect("begun");
        let id = enqueue(&mut transaction, job).await.expect("put in");
        transaction.commit().await.expect("kept");
        id
    }

    async fn state(&self, tenant: TenantKey, id: JobId) -> JobState {
        let mut transaction = self.app.begin(&Mandate::upkeep(tenant)).await.expect("begun");
        find(&mut transaction, id).await.expect("it is there").state
    }

    async fn claim(&self, kind: &str) -> Option<Lease> {
        self.queue.claim(&[kind], MANY).await.expect("asked")
    }

    async fn complete(&self, lease: &Lease) -> Result<(), JobsError> {
        let mut transaction = self.worker.begin(&Mandate::upkeep(lease.tenant)).await.expect("begun");
        lease.complete(&mut transaction, json!({"by": lease.attempt})).await?;
        Ok(transaction.commit().await?)
    }

    async fn fail(&self, lease: &Lease, failure: Failure) -> Result<(), JobsError> {
        let mut transaction = self.worker.begin(&Mandate::upkeep(lease.tenant)).await.expect("begun");
        lease.fail(&mut transaction, failure, "no luck").await?;
        Ok(transaction.commit().await?)
    }

    /// As if the lease had run out, or the rest after a failure were over: the database's clock is all that counts.
    async fn let_time_pass(&self) {
        for statement in [
            "UPDATE jobs SET leased_until = now() - interval '1 second' WHERE state = 'running'",
            "UPDATE jobs SET run_at = now() - interval '1 second' WHERE state = 'delayed'",
        ] {
            sqlx::query(statement).execute(&self.superuser).await.expect("all rights");
        }
    }
}

fn job(kind: &str) -> NewJob<'_> {
    NewJob::new(kind, json!({}))
}

#[tokio::test]
async fn a_job_is_taken_once_and_done_with_what_came_of_it() {
    let rig = Rig::new().await;
    let tenant = rig.tenant().await;
    let id = rig.put(tenant, &NewJob { payload: json!({"media": 7}), ..job("resize") }).await;
    assert!(rig.claim("encode").await.is_none(), "of another kind");
    let lease = rig.claim("resize").await.expect("there is one");
    assert_eq!((lease.id, lease.tenant, lease.attempt, &lease.payload), (id, tenant, 1, &json!({"media": 7})));
    assert!(rig.claim("resize").await.is_none(), "it is taken");
    assert_eq!(lease.renew(&rig.worker, 0.5).await.expect("held"), Renewal::GoOn);
    // What does not commit did not happen.
    let mut transaction = rig.worker.begin(&Mandate::upkeep(tenant)).await.expect("begun");
    lease.complete(&mut transaction, json!(1)).await.expect("held");
    drop(transaction);
    assert_eq!(rig.state(tenant, id).await, JobState::Running);
    rig.complete(&lease).await.expect("held");
    assert_eq!(rig.state(tenant, id).await, JobState::Done);
    assert!(matches!(rig.complete(&lease).await, Err(JobsError::LeaseLost)), "once");
}

#[tokio::test]
async fn a_worker_that_was_not_heard_of_can_change_nothing_any_more() {
    let rig = Rig::new().await;
    let tenant = rig.tenant().await;
    let id = rig.put(tenant, &job("resize")).await;
    let late = rig.claim("resize").await.expect("there is one");
    rig.let_time_pass().await;
    assert_eq!(rig.queue.reap().await.expect("asked"), 1);
    assert!(matches!(late.renew(&rig.worker, 0.1).await, Err(JobsError::LeaseLost)));
    rig.let_time_pass().await;
    let second = rig.claim("resize").await.expect("it is free again");
    assert_eq!((second.id, second.attempt), (id, 2));
    assert!(matches!(rig.complete(&late).await, Err(JobsError::LeaseLost)));
    assert!(matches!(rig.fail(&late, Failure::Final).await, Err(JobsError::LeaseLost)));
    rig.complete(&second).await.expect("held");
    let mut transaction = rig.app.begin(&Mandate::upkeep(tenant)).await.expect("begun");
    assert_eq!(find(&mut transaction, id).await.expect("there").result, Some(json!({"by": 2})));
}

#[tokio::test]
async fn failures_are_tried_again_after_a_rest_and_at_last_given_up() {
    let rig = Rig::new().await;
    let tenant = rig.tenant().await;
    let id = rig.put(tenant, &NewJob { attempts_max: 3, ..job("resize") }).await;
    for attempt in 1..=3 {
        let lease = rig.claim("resize").await.expect("another try");
        assert_eq!(lease.attempt, attempt);
        rig.fail(&lease, Failure::Retry).await.expect("held");
        assert!(rig.claim("resize").await.is_none(), "not at once");
        rig.let_time_pass().await;
    }
    assert!(rig.claim("resize").await.is_none());
    assert_eq!(rig.state(tenant, id).await, JobState::Failed);
    let mut transaction = rig.app.begin(&Mandate::upkeep(tenant)).await.expect("begun");
    retry(&mut transaction, id).await.expect("it has failed");
    assert!(matches!(retry(&mut transaction, id).await, Err(JobsError::State(_))));
    transaction.commit().await.expect("kept");
    let lease = rig.claim("resize").await.expect("from the start");
    rig.fail(&lease, Failure::Final).await.expect("held");
    assert_eq!(rig.state(tenant, id).await, JobState::Failed);
}

#[tokio::test]
async fn jobs_wait_for_those_that_they_need_and_fail_with_them() {
    let rig = Rig::new().await;
    let tenant = rig.tenant().await;
    let (first, second) = (rig.put(tenant, &job("first")).await, rig.put(tenant, &job("first")).await);
    let last = rig.put(tenant, &NewJob { needs: &[first, second], ..job("last") }).await;
    let after = rig.put(tenant, &NewJob { needs: &[last], ..job("last") }).await;
    for _ in 0..2 {
        assert!(rig.claim("last").await.is_none());
        let lease = rig.claim("first").await.expect("two of them");
        rig.complete(&lease).await.expect("held");
    }
    let lease = rig.claim("last").await.expect("all is done that it needs");
    assert_eq!(lease.id, last);
    rig.fail(&lease, Failure::Final).await.expect("held");
    assert_eq!(rig.state(tenant, after).await, JobState::Failed);
    // What is done is not waited for, and what has failed cannot be.
    let ready = rig.put(tenant, &NewJob { needs: &[first], ..job("last") }).await;
    assert_eq!(rig.state(tenant, ready).await, JobState::Queued);
    let mut transaction = rig.app.begin(&Mandate::upkeep(tenant)).await.expect("begun");
    let hopeless = NewJob { needs: &[after], ..job("last") };
    assert!(matches!(enqueue(&mut transaction, &hopeless).await, Err(JobsError::Needs)));
    drop(transaction);
    let other = rig.tenant().await;
    let mut transaction = rig.app.begin(&Mandate::upkeep(other)).await.expect("begun");
    let foreign = NewJob { needs: &[first], ..job("last") };
    assert!(matches!(enqueue(&mut transaction, &foreign).await, Err(JobsError::Needs)), "of another tenant");
}

#[tokio::test]
async fn what_is_cancelled_ends_at_once_or_by_its_worker() {
    let rig = Rig::new().await;
    let tenant = rig.tenant().await;
    let (running, waiting) = (rig.put(tenant, &job("resize")).await, rig.put(tenant, &job("resize")).await);
    let lease = rig.claim("resize").await.expect("the first");
    assert_eq!(lease.id, running);
    let mut transaction = rig.app.begin(&Mandate::upkeep(tenant)).await.expect("begun");
    cancel(&mut transaction, running).await.expect("it runs");
    cancel(&mut transaction, waiting).await.expect("it waits");
    assert!(matches!(cancel(&mut transaction, waiting).await, Err(JobsError::State(_))));
    transaction.commit().await.expect("kept");
    assert_eq!(rig.state(tenant, waiting).await, JobState::Cancelled);
    assert!(rig.claim("resize").await.is_none());
    assert_eq!(lease.renew(&rig.worker, 0.5).await.expect("held"), Renewal::Cancel);
    rig.fail(&lease, Failure::Cancelled).await.expect("held");
    assert_eq!(rig.state(tenant, running).await, JobState::Cancelled);
    let other = rig.tenant().await;
    let mut transaction = rig.app.begin(&Mandate::upkeep(other)).await.expect("begun");
    assert!(matches!(cancel(&mut transaction, running).await, Err(JobsError::NotFound)), "of another tenant");
}

#[tokio::test]
async fn a_flood_of_one_tenant_does_not_hold_up_another_and_urgent_ones_go_first() {
    let rig = Rig::new().await;
    let (flood, small) = (rig.tenant().await, rig.tenant().await);
    for _ in 0..50 {
        rig.put(flood, &job("resize")).await;
    }
    let urgent = rig.put(flood, &NewJob { priority: 10, ..job("resize") }).await;
    rig.put(small, &job("resize")).await;
    rig.put(small, &job("resize")).await;
    let first = rig.claim("resize").await.expect("there are many");
    assert_eq!(first.id, urgent);
    let tenants = [rig.claim("resize").await, rig.claim("resize").await, rig.claim("resize").await];
    let tenants = tenants.map(|lease| lease.expect("there are many").tenant);
    assert_eq!(tenants.iter().filter(|tenant| **tenant == small).count(), 2);
    let old = time::OffsetDateTime::now_utc();
    assert_eq!(rig.queue.trim(old).await.expect("asked"), 0, "none is over");
}

#[tokio::test]
async fn no_tenant_has_more_than_its_share_of_a_worker() {
    let rig = Rig::new().await;
    let (flood, small) = (rig.tenant().await, rig.tenant().await);
    for _ in 0..8 {
        rig.put(flood, &job("resize")).await;
    }
    // All at once, as the lines of a worker ask.
    let claim = |queue: &Queue| {
        let queue = queue.clone();
        tokio::spawn(async move { queue.claim(&["resize", "encode"], 2).await.expect("asked") })
    };
    let mut leases = Vec::new();
    for asked in (0..6).map(|_| claim(&rig.queue)).collect::<Vec<_>>() {
        leases.extend(asked.await.expect("no panic"));
    }
    assert_eq!(leases.len(), 2, "{leases:?}");
    rig.put(flood, &job("encode")).await;
    assert!(claim(&rig.queue).await.expect("no panic").is_none(), "another kind of the same line");
    let other = rig.put(small, &job("resize")).await;
    assert_eq!(claim(&rig.queue).await.expect("no panic").expect("the other's").id, other);
    // What was done makes room, and so does another worker.
    rig.complete(&leases.pop().expect("two")).await.expect("held");
    assert_eq!(claim(&rig.queue).await.expect("no panic").expect("there are more").tenant, flood);
    assert!(claim(&rig.queue).await.expect("no panic").is_none());
    let beside = Queue::new(rig.worker.clone(), "another worker", LONG);
    assert_eq!(claim(&beside).await.expect("no panic").expect("there are more").tenant, flood);
}

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    Put { tenant: usize, attempts_max: i16, needs: Option<prop::sample::Index> },
    Claim,
    Complete(prop::sample::Index),
    Fail(prop::sample::Index, bool),
    Crash(prop::sample::Index),
    Cancel(prop::sample::Index),
    TimePasses,
    Reap,
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        3 => (0..3usize, 1..4i16, prop::option::weighted(0.3, index()))
            .prop_map(|(tenant, attempts_max, needs)| Step::Put { tenant, attempts_max, needs }),
        5 => Just(Step::Claim),
        3 => index().prop_map(Step::Complete),
        1 => (index(), any::<bool>()).prop_map(|(lease, last)| Step::Fail(lease, last)),
        1 => index().prop_map(Step::Crash),
        1 => index().prop_map(Step::Cancel),
        1 => Just(Step::TimePasses),
        2 => Just(Step::Reap),
    ]
}

/// What must be true of the queue, as far as it can be told from outside.
#[derive(Default)]
struct Model {
    put: Vec<(TenantKey, JobId)>,
    /// Leases that workers believe to have. Those that crashed are among them: their owners may come back.
    leases: Vec<Lease>,
    /// Who has the job by right, by the last claim.
    holders: BTreeMap<JobId, i16>,
    done: BTreeSet<JobId>,
}

impl Model {
    async fn step(&mut self, rig: &Rig, tenants: &[TenantKey], kind: &str, step: &Step) {
        match step {
            Step::Put { tenant, attempts_max, needs } => {
                let tenant = tenants[*tenant];
                let own: Vec<JobId> = self.put.iter().filter(|(of, _)| *of == tenant).map(|(_, id)| *id).collect();
                let needed: Vec<JobId> = needs.iter().filter(|_| !own.is_empty()).map(|at| *at.get(&own)).collect();
                let mut transaction = rig.app.begin(&Mandate::upkeep(tenant)).await.expect("begun");
                let new = NewJob { attempts_max: *attempts_max, needs: &needed, ..job(kind) };
                match enqueue(&mut transaction, &new).await {
                    Ok(id) => {
                        transaction.commit().await.expect("kept");
                        self.put.push((tenant, id));
                    }
                    Err(JobsError::Needs) => assert!(!needed.is_empty()),
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Claim => {
                let Some(lease) = rig.claim(kind).await else { return };
                assert!(!self.done.contains(&lease.id), "a job that is done was given away");
                let before = self.holders.insert(lease.id, lease.attempt).unwrap_or_default();
                assert_eq!(lease.attempt, before + 1, "a try was not counted, or counted twice");
                self.leases.push(lease);
            }
            Step::Complete(at) if !self.leases.is_empty() => {
                let lease = at.get(&self.leases).clone();
                let is_holder = self.holders.get(&lease.id) == Some(&lease.attempt);
                match rig.complete(&lease).await {
                    Ok(()) => {
                        assert!(is_holder, "a result was taken from a worker that had lost its job");
                        assert!(self.done.insert(lease.id), "a job was done twice");
                    }
                    Err(JobsError::LeaseLost) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Fail(at, last) if !self.leases.is_empty() => {
                let lease = at.get(&self.leases).clone();
                let failure = if *last { Failure::Final } else { Failure::Retry };
                match rig.fail(&lease, failure).await {
                    Ok(()) => assert!(self.holders.get(&lease.id) == Some(&lease.attempt)),
                    Err(JobsError::LeaseLost) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Crash(at) if !self.leases.is_empty() => {
                let at = at.index(self.leases.len());
                self.leases.swap_remove(at);
            }
            Step::Cancel(at) if !self.put.is_empty() => {
                let (tenant, id) = *at.get(&self.put);
                let mut transaction = rig.app.begin(&Mandate::upkeep(tenant)).await.expect("begun");
                match cancel(&mut transaction, id).await {
                    Ok(()) => transaction.commit().await.expect("kept"),
                    Err(JobsError::State(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            Step::TimePasses => rig.let_time_pass().await,
            Step::Reap => drop(rig.queue.reap().await.expect("asked")),
            Step::Complete(_) | Step::Fail(..) | Step::Crash(_) | Step::Cancel(_) => {}
        }
    }

    /// With workers that do their work, everything comes to an end.
    async fn drain(&mut self, rig: &Rig, kind: &str) {
        for _ in 0..self.put.len() * 8 + 8 {
            rig.let_time_pass().await;
            rig.queue.reap().await.expect("asked");
            rig.let_time_pass().await;
            while let Some(lease) = rig.claim(kind).await {
                self.holders.insert(lease.id, lease.attempt);
                rig.complete(&lease).await.expect("it was claimed just now");
                assert!(self.done.insert(lease.id), "a job was done twice");
            }
        }
        for (tenant, id) in &self.put {
            let state = rig.state(*tenant, *id).await;
            assert!(state.is_over(), "a job was lost: it is {}", state.as_str());
            assert_eq!(state == JobState::Done, self.done.contains(id));
        }
    }
}

#[test]
fn whatever_happens_no_job_is_lost_or_in_two_hands() {
    let runtime = Runtime::new().expect("a runtime");
    let rig = runtime.block_on(Rig::new());
    let cases = std::sync::atomic::AtomicU32::new(0);
    let config = ProptestConfig { failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::with_cases(24) };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let run = runner.run(&prop::collection::vec(step(), 1..60), |steps| {
        let kind = format!("kind_{}", cases.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        runtime.block_on(async {
            let tenants = [rig.tenant().await, rig.tenant().await, rig.tenant().await];
            let mut model = Model::default();
            for step in &steps {
                model.step(&rig, &tenants, &kind, step).await;
            }
            model.drain(&rig, &kind).await;
        });
        Ok(())
    });
    run.expect("holds for every sequence");
}
