//! Fast now, better later: what is answered at first, when it is made better, and what goes before.

use std::time::Duration;

use ::http::StatusCode;
use devstack::samples::scene;
use testkit::edge::{Edge, EdgeSetup, eventually, picture};
use testkit::faulty::Fault;
use testkit::http::{self, Connection, Request, Response};
use testkit::images::{self, jpeg};
use tokio::task::JoinSet;

use crate::support::{S3Rig, cache_status, plain, purge, with_token};

const ON: &str = "improve_when_idle = true\nmax_age_seconds = 3600";
const TARGET: &str = "/demo/w=400,f=webp/@local/a.jpg";
const MEMORY: &str = "Calotype; hit; detail=memory";

/// Least likeness of a draft and what takes its place, in dB: no more apart than two encodes of one quality.
const PSNR_MIN: f64 = 33.0;

fn scenery() -> Vec<u8> {
    jpeg::rgb(&scene::paint(scene::BEACH, 600, 400), &jpeg::Extras { quality: 92, ..jpeg::Extras::default() })
}

async fn start(setup: EdgeSetup) -> Edge {
    let edge = setup.tenant(ON).start().await;
    edge.setup().put("a.jpg", scenery());
    edge
}

fn etag(response: &Response) -> &str {
    response.header("etag").expect("a rendition has one")
}

async fn ended(edge: &Edge, result: &str) -> f64 {
    edge.metric(&format!("calotype_improvements_total{{result=\"{result}\"}}")).await
}

async fn until_ended(edge: &Edge, result: &str) {
    eventually(result, async || (ended(edge, result).await > 0.0).then_some(())).await;
}

/// Asks twice: the second time is the hit that lets it wait.
async fn draft_of(edge: &Edge, target: &str) -> Response {
    let first = edge.get(target).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text());
    let hit = edge.get(target).await;
    assert!(cache_status(&hit).contains("hit"), "{}", cache_status(&hit));
    first
}

/// Renditions that keep one thread busy for seconds.
fn keep_busy(edge: &Edge) -> JoinSet<StatusCode> {
    let mut answers = JoinSet::new();
    edge.setup().put("large.jpg", jpeg::rgb(&images::photo(1500, 1000), &jpeg::Extras::default()));
    for width in 0..8 {
        let address = edge.addr();
        let target = format!("/demo/w={},f=webp,lossless=true/@local/large.jpg", 1400 + width);
        answers.spawn(async move { http::get(address, &target).await.expect("answers").status });
    }
    answers
}

async fn until_busy(edge: &Edge) {
    eventually("a busy pool", async || (edge.metric("calotype_transform_running_jobs").await > 0.0).then_some(()))
        .await;
}

#[tokio::test]
async fn the_first_answer_is_fast_and_a_later_one_smaller() {
    let edge = start(EdgeSetup::new()).await;
    let target = "/demo/w=400,f=webp/@local/a.jpg";
    let first = draft_of(&edge, target).await;
    let better =
        eventually("a better one", async || Some(edge.get(target).await).filter(|answer| etag(answer) != etag(&first)))
            .await;
    assert_eq!(cache_status(&better), MEMORY);
    assert_eq!(better.header("cache-control"), first.header("cache-control"));
    let (before, after) = (picture(&first, "image/webp"), picture(&better, "image/webp"));
    assert!(after.len() < before.len(), "{} to {} bytes", before.len(), after.len());
    let saved = before.len() - after.len();
    let [before, after] = [before, after].map(|body| decoded(&body));
    let likeness = images::psnr(&before, &after);
    assert!(likeness >= PSNR_MIN, "{likeness:.1} dB");
    // Who has the first one is sent the other, who has that one is not.
    for (known, status) in [(&first, StatusCode::OK), (&better, StatusCode::NOT_MODIFIED)] {
        let asked = Request::get(target).header("if-none-match", etag(known));
        assert_eq!(edge.send(&asked).await.status, status);
    }
    assert_eq!(ended(&edge, "improved").await, 1.0);
    assert_eq!(edge.metric("calotype_improvements_queued_total").await, 1.0, "what is better is not made again");
    assert_eq!(edge.metric("calotype_improvement_saved_bytes_total").await, saved as f64);
    edge.stop().await;
}

fn decoded(body: &[u8]) -> image::RgbImage {
    images::decode(body).into_rgb8()
}

#[tokio::test]
async fn by_default_and_where_it_is_switched_off_nothing_changes() {
    let edge = start(EdgeSetup::new()).await;
    let draft = edge.get(TARGET).await;
    // A draft from when it was on stays one.
    edge.setup().write_policy(&edge.setup().policy().replace(ON, "max_age_seconds = 3600"));
    eventually("the new policy", async || (edge.metric("calotype_policy_sequence").await == 2.0).then_some(())).await;
    for _ in 0..3 {
        assert_eq!(etag(&edge.get(TARGET).await), etag(&draft));
    }
    let made = draft_of(&edge, "/demo/w=400,f=webp,v=1/@local/a.jpg").await;
    assert!(made.body.len() < draft.body.len(), "{} and {} bytes", made.body.len(), draft.body.len());
    assert_eq!(edge.metric("calotype_improvements_queued_total").await, 0.0);
    edge.stop().await;
}

#[tokio::test]
async fn what_is_asked_for_once_or_has_no_smaller_form_is_not_made_again() {
    let edge = start(EdgeSetup::new()).await;
    edge.get(TARGET).await;
    for ops in ["f=jpeg", "f=png", "f=webp,lossless=true", "f=webp,max-bytes=9000", "f=json"] {
        draft_of(&edge, &format!("/demo/w=80,{ops}/@local/a.jpg")).await;
    }
    for _ in 0..2 {
        assert_eq!(edge.get("/demo/w=80,f=webp/@local/none.jpg").await.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(edge.metric("calotype_improvements_queued_total").await, 0.0);
    edge.stop().await;
}

#[tokio::test]
async fn nothing_is_begun_while_the_pool_is_busy() {
    let edge = start(EdgeSetup::new().set("transform.threads", 1)).await;
    draft_of(&edge, "/demo/w=390,f=webp/@local/a.jpg").await;
    until_ended(&edge, "improved").await;
    edge.get(TARGET).await;
    let mut busy = keep_busy(&edge);
    until_busy(&edge).await;
    edge.get(TARGET).await;
    let mut looks = 0;
    let number = |text: &str, series: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse::<f64>().ok());
        value.unwrap_or_else(|| panic!("no {series}"))
    };
    // Until the last of them has ended, it waits. Between two of them nothing runs for a moment.
    let mut statuses = Vec::new();
    while !busy.is_empty() {
        if let Some(ended) = busy.try_join_next() {
            statuses.push(ended.expect("no panic"));
            continue;
        }
        let text = edge.admin("/metrics").await.text();
        if number(&text, "calotype_transform_running_jobs") > 0.0 {
            assert_eq!(number(&text, "calotype_improvements_total{result=\"improved\"}"), 1.0);
            assert_eq!(number(&text, "calotype_improvements_waiting"), 1.0);
            looks += 1;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(looks > 5, "{looks} looks");
    assert!(statuses.iter().all(StatusCode::is_success));
    eventually("the second one", async || (ended(&edge, "improved").await == 2.0).then_some(())).await;
    edge.stop().await;
}

#[tokio::test]
async fn what_finds_no_room_to_wait_is_dropped_and_counted() {
    let edge = start(EdgeSetup::new().set("transform.threads", 1)).await;
    let mut connection = Connection::open(edge.addr()).await.expect("taken");
    edge.setup().put("small.jpg", jpeg::rgb(&images::photo(40, 30), &jpeg::Extras::default()));
    // One more than half of the queue.
    let targets: Vec<_> = (0..513).map(|version| format!("/demo/w=20,f=webp,v={version}/@local/small.jpg")).collect();
    for target in &targets {
        assert_eq!(connection.send(&Request::get(target)).await.expect("answers").status, StatusCode::OK);
    }
    let busy = keep_busy(&edge);
    until_busy(&edge).await;
    for target in &targets {
        connection.send(&Request::get(target)).await.expect("answers");
    }
    let queued = edge.metric("calotype_improvements_queued_total").await;
    assert_eq!((queued, ended(&edge, "dropped").await), (512.0, 1.0));
    assert!(busy.join_all().await.iter().all(StatusCode::is_success));
    eventually("an empty queue", async || (edge.metric("calotype_improvements_waiting").await == 0.0).then_some(()))
        .await;
    edge.stop().await;
}

/// An S3 server whose objects no cache of originals stands before.
async fn on_s3() -> (S3Rig, Edge) {
    let rig = S3Rig::start().await;
    rig.put("a.jpg", scenery());
    let edge = with_token(rig.edge()).set("originals.disk_bytes", 0).tenant(ON).start().await;
    (rig, edge)
}

const S3_TARGET: &str = "/demo/w=400,f=webp/@s3/a.jpg";

#[tokio::test]
async fn a_purge_in_between_wins() {
    let (rig, edge) = on_s3().await;
    edge.get(S3_TARGET).await;
    let asked = rig.relay.requests();
    rig.relay.set_latency(Duration::from_secs(2));
    edge.get(S3_TARGET).await;
    rig.relay.wait_for_requests(asked + 1).await.expect("its original is asked for");
    // Another picture takes its place, and the old one is purged, while the old one is on its way or about to be.
    rig.put("a.jpg", plain([200, 30, 30]));
    assert!(purge(&edge, r#"{"tenant": "demo", "source": "@s3/a.jpg"}"#).await.status.is_success());
    let new = edge.get(S3_TARGET).await;
    assert_eq!(cache_status(&new), "Calotype; fwd=uri-miss; stored");
    until_ended(&edge, "outdated").await;
    assert_eq!(ended(&edge, "improved").await + ended(&edge, "refreshed").await, 0.0);
    assert_eq!(etag(&edge.get(S3_TARGET).await), etag(&new));
    edge.stop().await;
}

#[tokio::test]
async fn a_source_that_fails_leaves_the_draft_alone() {
    let (rig, edge) = on_s3().await;
    let first = edge.get(S3_TARGET).await;
    rig.relay.set(Fault::Answer(StatusCode::INTERNAL_SERVER_ERROR));
    edge.get(S3_TARGET).await;
    until_ended(&edge, "failed").await;
    let hit = edge.get(S3_TARGET).await;
    assert_eq!((cache_status(&hit), etag(&hit)), (MEMORY, etag(&first)));
    assert_eq!(edge.metric("calotype_improvements_queued_total").await, 1.0, "it is not tried again at once");
    edge.stop().await;
}

#[tokio::test]
async fn a_source_that_has_changed_is_a_refresh() {
    let edge = start(EdgeSetup::new()).await;
    let first = edge.get(TARGET).await;
    edge.setup().put("a.jpg", plain([200, 30, 30]));
    assert_eq!(etag(&edge.get(TARGET).await), etag(&first), "it is fresh");
    until_ended(&edge, "refreshed").await;
    let new = edge.get(TARGET).await;
    assert_eq!(cache_status(&new), MEMORY);
    let colour = decoded(&new.body).get_pixel(5, 5).0;
    assert!(colour[0] > 150 && colour[1] < 80, "{colour:?}");
    assert_eq!(edge.metric("calotype_improvements_queued_total").await, 1.0, "it is as good as it gets");
    edge.stop().await;
}

#[tokio::test]
async fn what_is_as_small_as_it_gets_is_kept_and_not_tried_again() {
    let edge = start(EdgeSetup::new()).await;
    // A few pixels: nothing can be saved.
    edge.setup().put("small.jpg", jpeg::rgb(&images::photo(600, 400), &jpeg::Extras::default()));
    let target = "/demo/w=8,f=webp/@local/small.jpg";
    let first = draft_of(&edge, target).await;
    until_ended(&edge, "not_smaller").await;
    assert_eq!(etag(&edge.get(target).await), etag(&first));
    let setup = edge.stop().await;
    let edge = setup.start().await;
    assert_eq!(etag(&edge.get(target).await), etag(&first));
    assert_eq!(edge.metric("calotype_improvements_queued_total").await, 0.0, "remembered on disk");
    edge.stop().await;
}

#[tokio::test]
async fn drafts_and_what_took_their_place_outlive_a_restart() {
    let edge = start(EdgeSetup::new()).await;
    let first = edge.get(TARGET).await;
    let edge = edge.stop().await.start().await;
    let hit = edge.get(TARGET).await;
    assert_eq!((cache_status(&hit), etag(&hit)), ("Calotype; hit; detail=disk", etag(&first)));
    until_ended(&edge, "improved").await;
    let better = edge.get(TARGET).await;
    assert_ne!(etag(&better), etag(&first));
    let edge = edge.stop().await.start().await;
    let hit = edge.get(TARGET).await;
    assert_eq!((cache_status(&hit), etag(&hit)), ("Calotype; hit; detail=disk", etag(&better)));
    edge.stop().await;
}

#[tokio::test]
async fn the_second_level_gets_the_better_one() {
    let shared = tempfile::tempdir().expect("a folder");
    let setup = || EdgeSetup::new().set("second_level.folder", format!("{:?}", shared.path()));
    let rig = S3Rig::start().await;
    rig.put("a.jpg", scenery());
    let origin = rig.edge().policy();
    let origin = origin.lines().find(|line| line.starts_with("origins.s3")).expect("it has one").to_owned();
    let one = setup().tenant(&origin).tenant(ON).start().await;
    draft_of(&one, S3_TARGET).await;
    until_ended(&one, "improved").await;
    let better = one.get(S3_TARGET).await;
    eventually("both in the second level", async || {
        (one.metric("calotype_second_level_writes_total{result=\"written\"}").await == 2.0).then_some(())
    })
    .await;
    let two = setup().tenant(&origin).tenant(ON).start().await;
    eventually("all purges", async || (two.metric("calotype_second_level_purges_known").await == 1.0).then_some(()))
        .await;
    let found = two.get(S3_TARGET).await;
    assert_eq!((cache_status(&found), etag(&found)), ("Calotype; hit; detail=second-level", etag(&better)));
    two.get(S3_TARGET).await;
    assert_eq!(two.metric("calotype_improvements_queued_total").await, 0.0);
    one.stop().await;
    two.stop().await;
}
