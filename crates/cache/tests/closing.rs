//! Closing waits for fills, writes out, and lets nothing in afterwards.

mod support;

use std::time::Duration;

use cache::{CloseReport, Filled};
use support::{NOW, PATIENCE, count_found, fill, key, open, rendition, subject};
use tokio::sync::oneshot;

const BODY: usize = 20_000;

#[tokio::test(flavor = "multi_thread")]
async fn closing_waits_for_running_fills_and_keeps_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, _) = open(dir.path()).await;
    let (finish, finished) = oneshot::channel::<()>();
    let flight = cache.flight(key(1), &subject(1), NOW, move || async move {
        finished.await.map_err(|_| "the gate was dropped")?;
        Ok(Filled::Store(rendition(1, BODY)))
    });
    drop(flight);
    let closing = tokio::spawn({
        let cache = cache.clone();
        async move { cache.close(PATIENCE).await }
    });
    finish.send(()).expect("the fill runs");
    assert_eq!(closing.await.expect("no panic"), CloseReport { fills_left: 0, flushed: true });
    drop(cache);

    let (cache, _) = open(dir.path()).await;
    assert_eq!(count_found(&cache, [1], BODY).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_that_takes_too_long_is_left_behind_and_the_rest_is_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, _) = open(dir.path()).await;
    fill(&cache, 1, BODY).await;
    let (finish, finished) = oneshot::channel::<()>();
    let slow = cache.flight(key(2), &subject(2), NOW, move || async move {
        finished.await.map_err(|_| "the gate was dropped")?;
        Ok(Filled::Store(rendition(2, BODY)))
    });
    assert_eq!(cache.close(Duration::ZERO).await, CloseReport { fills_left: 1, flushed: true });
    // Its client is still answered, from memory.
    finish.send(()).expect("the fill runs");
    assert_eq!(*slow.wait(PATIENCE).await.expect("filled"), rendition(2, BODY));
    assert_eq!(count_found(&cache, [1, 2], BODY).await, 2);
    drop(cache);

    let (cache, _) = open(dir.path()).await;
    assert_eq!(count_found(&cache, [1], BODY).await, 1);
    assert_eq!(count_found(&cache, [2], BODY).await, 0, "what comes after closing is not written");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_is_free_once_closed() {
    let dir = tempfile::tempdir().expect("a folder");
    let (first, _) = open(dir.path()).await;
    fill(&first, 1, BODY).await;
    assert!(first.close(PATIENCE).await.flushed);
    let (second, _) = open(dir.path()).await;
    assert!(matches!(second.disk_state(), cache::DiskState::Ready), "{:?}", second.disk_state());
    // The first still answers, and its fills do not reach the folder of the second.
    fill(&first, 2, BODY).await;
    assert_eq!(count_found(&first, [1, 2], BODY).await, 2);
    assert_eq!(count_found(&second, [1], BODY).await, 1);
    assert_eq!(count_found(&second, [2], BODY).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_twice_is_closing_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let (cache, _) = open(dir.path()).await;
    fill(&cache, 1, BODY).await;
    let closed = CloseReport { fills_left: 0, flushed: true };
    assert_eq!(cache.close(PATIENCE).await, closed);
    assert_eq!(cache.close(PATIENCE).await, closed);
}
