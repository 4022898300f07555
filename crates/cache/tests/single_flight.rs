//! One fill a key, whoever comes and goes meanwhile.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cache::{CacheConfig, Filled, Flight, FlightError, Lifetime, Lookup, Rendition, RenditionParts, Renewal, Role};
use support::{MIB, NOW, PATIENCE, TestCache, fill, key, metric, open, open_with, parts, rendition, subject};
use tokio::sync::{Notify, oneshot};

/// A fill that runs until it is let go.
struct Gate {
    started: Arc<Notify>,
    finish: oneshot::Sender<()>,
}

fn gated(cache: &TestCache, seed: u64, bytes: usize) -> (Flight<&'static str>, Gate) {
    let (finish, finished) = oneshot::channel();
    let started = Arc::new(Notify::new());
    let has_started = Arc::clone(&started);
    let flight = cache.flight(key(seed), &subject(seed), NOW, move || async move {
        has_started.notify_one();
        finished.await.map_err(|_| "the gate was dropped")?;
        Ok(Filled::Store(rendition(seed, bytes)))
    });
    (flight, Gate { started, finish })
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_waiters_share_one_fill() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, registry) = open(dir.path()).await;
    let fills = Arc::new(AtomicUsize::new(0));
    let barrier = Arc::new(tokio::sync::Barrier::new(500));
    let waiters: Vec<_> = (0..500)
        .map(|_| {
            let (cache, fills, barrier) = (cache.clone(), Arc::clone(&fills), Arc::clone(&barrier));
            tokio::spawn(async move {
                barrier.wait().await;
                // As a handler does: look first. Whoever looks before the fill lands and asks after it must not fill again.
                if let Lookup::Fresh(entry, _) = cache.lookup(key(9), NOW).await {
                    return (entry, None);
                }
                let flight = cache.flight(key(9), &subject(9), NOW, move || async move {
                    fills.fetch_add(1, Ordering::SeqCst);
                    Ok(Filled::Store(rendition(9, 20_000)))
                });
                let role = flight.role();
                (flight.wait(PATIENCE).await.expect("filled"), Some(role))
            })
        })
        .collect();
    for waiter in waiters {
        let (entry, role) = waiter.await.expect("no panic");
        assert_eq!(*entry, rendition(9, 20_000));
        assert_ne!(role, Some(Role::Refused));
    }
    assert_eq!(fills.load(Ordering::SeqCst), 1);
    assert_eq!(metric(&registry, "calotype_cache_flights_in_progress", None), Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_big_body_that_memory_does_not_take_is_filled_once_as_well() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, _) = open(dir.path()).await;
    let big = (MIB / 4) as usize;
    fill(&cache, 1, big).await;
    assert!(cache.memory(key(1), NOW).is_none());
    // A late caller whose lookup missed before the first fill landed.
    let flight = cache.flight(key(1), &subject(1), NOW, || async { Err("filled twice") });
    assert_eq!(*flight.wait(PATIENCE).await.expect("found"), rendition(1, big));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_leads_and_the_others_follow() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, registry) = open(dir.path()).await;
    let (leader, gate) = gated(&cache, 1, 100);
    let follower = cache.flight(key(1), &subject(1), NOW, || async { Err("a second fill ran") });
    assert_eq!((leader.role(), follower.role()), (Role::Leader, Role::Follower));
    assert_eq!(metric(&registry, "calotype_cache_flights_in_progress", None), Some(1.0));
    gate.finish.send(()).expect("the fill runs");
    for flight in [leader, follower] {
        assert_eq!(*flight.wait(PATIENCE).await.expect("filled"), rendition(1, 100));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_start_no_fill_may_still_join_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, registry) = open(dir.path()).await;
    let join = |may_start: fn() -> bool| {
        cache.flight_if(key(1), &subject(1), NOW, may_start, || async { Err("a second fill ran") })
    };
    let refused = join(|| false);
    assert_eq!(refused.role(), Role::Refused);
    assert_eq!(refused.wait(PATIENCE).await.err(), Some(FlightError::TooMany));
    assert_eq!(metric(&registry, "calotype_cache_flights_in_progress", None), Some(0.0));
    let (leader, gate) = gated(&cache, 1, 100);
    let follower = join(|| panic!("there is one to join"));
    assert_eq!((leader.role(), follower.role()), (Role::Leader, Role::Follower));
    gate.finish.send(()).expect("the fill runs");
    assert_eq!(*follower.wait(PATIENCE).await.expect("filled"), rendition(1, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_leaves_cancels_nobody() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, _) = open(dir.path()).await;
    let (leader, gate) = gated(&cache, 1, 100);
    // The leader's request is cancelled while it waits for its running fill.
    let waiting = tokio::spawn(leader.wait(PATIENCE));
    gate.started.notified().await;
    waiting.abort();
    assert!(waiting.await.expect_err("aborted").is_cancelled());
    let follower = cache.flight(key(1), &subject(1), NOW, || async { Err("a second fill ran") });
    assert_eq!(follower.role(), Role::Follower);
    gate.finish.send(()).expect("the fill still runs");
    assert_eq!(*follower.wait(PATIENCE).await.expect("filled"), rendition(1, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_that_nobody_waits_for_is_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, _) = open(dir.path()).await;
    let (leader, gate) = gated(&cache, 1, 100);
    drop(leader);
    gate.started.notified().await;
    gate.finish.send(()).expect("the fill still runs");
    let closed = cache.close(PATIENCE).await;
    assert_eq!(closed.fills_left, 0);
    assert_eq!(support::count_found(&cache, [1], 100).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_outlives_the_runtime_of_its_caller() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, _) = open(dir.path()).await;
    let callers_cache = cache.clone();
    let gate = std::thread::spawn(move || {
        let listener = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        listener.block_on(async { gated(&callers_cache, 1, 100).1 })
    })
    .join()
    .expect("no panic");
    gate.started.notified().await;
    gate.finish.send(()).expect("the fill still runs");
    let follower = cache.flight(key(1), &subject(1), NOW, || async { Err("a second fill ran") });
    assert_eq!(*follower.wait(PATIENCE).await.expect("filled"), rendition(1, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_reaches_all_waiters_and_the_next_call_works() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, registry) = open(dir.path()).await;
    let (go, wait) = oneshot::channel::<()>();
    let leader = cache.flight(key(1), &subject(1), NOW, move || async move {
        wait.await.map_err(|_| "the gate was dropped")?;
        panic!("a decoder fell over")
    });
    let follower = cache.flight(key(1), &subject(1), NOW, || async { Err("a second fill ran") });
    go.send(()).expect("the fill runs");
    for flight in [leader, follower] {
        assert_eq!(flight.wait(PATIENCE).await.expect_err("panicked"), FlightError::Panicked);
    }
    assert_eq!(metric(&registry, "calotype_cache_fill_panics_total", None), Some(1.0));
    assert_eq!(*fill(&cache, 1, 100).await, rendition(1, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_before_the_first_await_is_caught_as_well() {
    fn falls_over(at_once: bool) -> std::future::Ready<Result<Filled, &'static str>> {
        assert!(!at_once, "fell over while setting up");
        std::future::ready(Err("did not fall over"))
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, _) = open(dir.path()).await;
    let flight = cache.flight(key(1), &subject(1), NOW, || falls_over(true));
    assert_eq!(flight.wait(PATIENCE).await.expect_err("panicked"), FlightError::Panicked);
    assert_eq!(*fill(&cache, 1, 100).await, rendition(1, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_reaches_all_waiters_and_is_not_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, _) = open(dir.path()).await;
    let (leader, gate) = gated(&cache, 1, 100);
    let follower = cache.flight(key(1), &subject(1), NOW, || async { Err("a second fill ran") });
    drop(gate);
    for flight in [leader, follower] {
        assert_eq!(flight.wait(PATIENCE).await.expect_err("failed"), FlightError::Failed("the gate was dropped"));
    }
    assert_eq!(support::count_found(&cache, [1], 100).await, 0);
    assert_eq!(*fill(&cache, 1, 100).await, rendition(1, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_may_give_up_while_the_fill_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, _) = open(dir.path()).await;
    let (impatient, gate) = gated(&cache, 1, 100);
    let patient = cache.flight(key(1), &subject(1), NOW, || async { Err("a second fill ran") });
    assert_eq!(impatient.wait(Duration::from_millis(1)).await.expect_err("too slow"), FlightError::TimedOut);
    gate.finish.send(()).expect("the fill still runs");
    assert_eq!(*patient.wait(PATIENCE).await.expect("filled"), rendition(1, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_passed_answers_all_waiters_but_is_not_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, _) = open(dir.path()).await;
    let (go, wait) = oneshot::channel::<()>();
    let leader = cache.flight(key(1), &subject(1), NOW, move || async move {
        wait.await.map_err(|_| "the gate was dropped")?;
        Ok(Filled::Pass(rendition(1, 100)))
    });
    let follower = cache.flight(key(1), &subject(1), NOW, || async { Err("a second fill ran") });
    go.send(()).expect("the fill runs");
    for flight in [leader, follower] {
        assert_eq!(*flight.wait(PATIENCE).await.expect("passed"), rendition(1, 100));
    }
    cache.settled().await;
    assert_eq!(support::count_found(&cache, [1], 100).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_entry_is_refreshed_by_one_flight() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, _) = open(dir.path()).await;
    let soon_stale = Lifetime::new(NOW, Duration::from_secs(1), Duration::from_secs(60));
    let old = Rendition::new(RenditionParts { lifetime: soon_stale, ..parts(1, 100) }).expect("within the limits");
    let flight = cache.flight(key(1), &subject(1), NOW, move || async move { Ok(Filled::Store(old)) });
    flight.wait(PATIENCE).await.expect("filled");

    let later = NOW.saturating_add(Duration::from_secs(2));
    let Lookup::Stale(old, _) = cache.lookup(key(1), later).await else { panic!("not stale after its lifetime") };
    let lifetime = Lifetime::new(later, Duration::from_secs(60), Duration::ZERO);
    let (validators, tags) = (old.validators.clone(), old.tags.clone());
    let renewed = old.renewed(Renewal { lifetime, seq: 99, begun: 0, validators, tags }).expect("within the limits");
    let expected = renewed.clone();
    let refresh = cache.flight(key(1), &subject(1), later, move || async move { Ok(Filled::Store(renewed)) });
    assert_eq!(*refresh.wait(PATIENCE).await.expect("renewed"), expected);
    let Lookup::Fresh(entry, _) = cache.lookup(key(1), later).await else { panic!("not fresh after its refresh") };
    assert_eq!(*entry, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn fills_beyond_the_limit_are_refused_and_room_comes_back() {
    let (cache, registry) = open_with(CacheConfig { flights_max: 2, ..CacheConfig::default() }).await;
    let (first, first_gate) = gated(&cache, 1, 100);
    let (_second, _second_gate) = gated(&cache, 2, 100);
    let refused = cache.flight(key(3), &subject(3), NOW, || async { Err("a third fill ran") });
    assert_eq!(refused.role(), Role::Refused);
    assert_eq!(refused.wait(PATIENCE).await.expect_err("refused"), FlightError::TooMany);
    assert_eq!(metric(&registry, "calotype_cache_flights_refused_total", None), Some(1.0));
    // Joining needs no room.
    let joined = cache.flight(key(1), &subject(1), NOW, || async { Err("a second fill ran") });
    assert_eq!(joined.role(), Role::Follower);
    first_gate.finish.send(()).expect("the fill runs");
    joined.wait(PATIENCE).await.expect("filled");
    first.wait(PATIENCE).await.expect("filled");
    assert_eq!(metric(&registry, "calotype_cache_flights_in_progress", None), Some(1.0));
    assert_eq!(*fill(&cache, 3, 100).await, rendition(3, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_shuts_down_leaves_no_waiter_hanging() {
    let io = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let settings = CacheConfig::default().validate().expect("good");
    let cache = TestCache::open(settings, &prometheus::Registry::new(), io.handle().clone()).await.expect("opens");
    let (flight, _gate) = gated(&cache, 1, 100);
    io.shutdown_background();
    assert_eq!(flight.wait(PATIENCE).await.expect_err("aborted"), FlightError::Aborted);
}
