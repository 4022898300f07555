//! Origins that come and go while pictures are asked for: what the cache has is served, what it has not is refused clearly,
//! and nothing of an outage outlives it.

use std::collections::BTreeMap;
use std::sync::Arc;

use testkit::edge::{Edge, EdgeSetup, assert_problem, eventually, picture, problem_code};
use testkit::faulty::Fault;
use testkit::http::{Connection, Request, Response};
use testkit::web::Page;
use tokio::task::JoinSet;

use crate::support::{S3Rig, Warm, WebRig, cache_status, photo, purge, with_token};

#[tokio::test]
async fn a_store_that_flaps_is_believed_each_time() {
    let rig = S3Rig::start().await;
    rig.put("a.jpg", photo(60, 40));
    let edge = rig.edge().start().await;
    let warm = Warm::up(&edge).await;
    for round in 0..20 {
        let target = format!("/demo/w=20,f=jpeg,v={round}/@s3/a.jpg");
        match round % 3 {
            0 => rig.relay.take_down().await,
            1 => rig.relay.set(Fault::Reset),
            _ => rig.relay.set(Fault::Answer(::http::StatusCode::SERVICE_UNAVAILABLE)),
        }
        assert_problem(&edge.get(&target).await, 502, "source-unavailable");
        warm.assert_hit(&edge).await;
        rig.relay.heal();
        rig.relay.bring_up().await;
        let made = edge.get(&target).await;
        picture(&made, "image/jpeg");
        assert_eq!(cache_status(&made), "Calotype; fwd=uri-miss; stored", "round {round}");
    }
    edge.stop().await;
}

/// Renditions that are asked for while the store goes away and comes back.
const FILLS: usize = 1000;
const CLIENTS: usize = 40;

fn fill_target(number: usize) -> String {
    // Each version has an original of its own.
    format!("/demo/w=20,f=jpeg,v={number}/@s3/a.jpg")
}

/// Asks for all of them, each client for its share, one after the other.
fn ask_for_all(edge: &Edge) -> JoinSet<Vec<Response>> {
    let address = edge.addr();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(async move {
            let mut connection = Connection::open(address).await.expect("taken");
            let mut answers = Vec::new();
            for number in (client..FILLS).step_by(CLIENTS) {
                answers.push(connection.send(&Request::get(fill_target(number))).await.expect("an answer"));
            }
            answers
        });
    }
    clients
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_fills_through_an_outage_are_pictures_or_clear_refusals() {
    let rig = Arc::new(S3Rig::start().await);
    rig.put("a.jpg", photo(60, 40));
    let edge = rig.edge().set("transform.queue", 1000).start().await;
    let clients = ask_for_all(&edge);
    rig.relay.wait_for_requests(200).await.expect("the store is asked");
    rig.relay.take_down().await;
    // Somebody is refused before it comes back, so there was an outage.
    eventually("a refusal", async || {
        (edge.metric("calotype_requests_total{cache=\"miss\",status=\"5xx\"}").await > 100.0).then_some(())
    })
    .await;
    rig.relay.bring_up().await;
    let mut came = BTreeMap::new();
    for answer in clients.join_all().await.into_iter().flatten() {
        let what = if answer.status == 200 { cache_status(&answer).to_owned() } else { problem_code(&answer) };
        *came.entry(what).or_insert(0) += 1;
    }
    let made = came.remove("Calotype; fwd=uri-miss; stored").unwrap_or(0);
    // The connections that were cut off in the middle of a body are told from those that never were.
    let refused: usize =
        ["source-unavailable", "source-incomplete"].into_iter().filter_map(|code| came.remove(code)).sum();
    assert_eq!((came, made + refused), (BTreeMap::new(), FILLS), "{made} made, {refused} refused");
    assert!(made >= 100 && refused >= 100, "{made} made, {refused} refused");

    // Nothing of it lasts: what was made is kept, what was refused is made now, and nothing is still being waited for.
    let answers: Vec<Response> = ask_for_all(&edge).join_all().await.into_iter().flatten().collect();
    assert!(answers.iter().all(|answer| answer.status == 200));
    let hits = answers.iter().filter(|answer| cache_status(answer).starts_with("Calotype; hit")).count();
    assert_eq!(hits, made);
    assert_eq!(edge.metric("calotype_cache_flights_in_progress").await, 0.0);
    for lane in ["light", "heavy"] {
        assert_eq!(edge.metric(&format!("calotype_transform_queue_jobs{{lane=\"{lane}\"}}")).await, 0.0, "{lane}");
    }
    edge.stop().await;
}

/// The renditions of the warm cache: of the store and of the web server.
fn warm_targets() -> Vec<String> {
    let widths = (20..50).map(|width| format!("w={width},f=jpeg"));
    widths.flat_map(|ops| ["s3", "web"].map(|origin| format!("/demo/{ops}/@{origin}/a.jpg"))).collect()
}

/// A store and a web server, and an edge of both that has the warm renditions on its disk and is not running.
async fn warm_edge(policy: &str) -> (S3Rig, WebRig, EdgeSetup, BTreeMap<String, Response>) {
    let (store, web) = (S3Rig::start().await, WebRig::start().await);
    store.put("a.jpg", photo(60, 40));
    web.server.put("/img/a.jpg", Page::new(photo(60, 40)));
    let origin = format!("base_url = \"{}/img/\", allow_private = [\"127.0.0.1\"]", web.relay.url());
    let setup = with_token(store.edge()).tenant(policy);
    let edge = setup.tenant(&format!("origins.web.http = {{ {origin} }}")).start().await;
    let mut warm = BTreeMap::new();
    for target in warm_targets() {
        let made = edge.get(&target).await;
        picture(&made, "image/jpeg");
        warm.insert(target, made);
    }
    (store, web, edge.stop().await, warm)
}

/// Everything behind the edge is dead from before it starts: only its own folder and policy file are there.
async fn check_dead_behind(policy: &str, hits: [&str; 2]) {
    let (store, web, setup, warm) = warm_edge(policy).await;
    store.relay.take_down().await;
    web.relay.take_down().await;
    let edge = setup.start().await;

    // The first time from the disk, then from memory.
    for expected in hits {
        for (target, made) in &warm {
            let hit = edge.get(target).await;
            assert_eq!(hit.status, 200, "{target}");
            assert!(cache_status(&hit).starts_with(expected), "{target}: {}", cache_status(&hit));
            assert_eq!(hit.body, made.body);
        }
    }
    for origin in ["s3", "web"] {
        // A new width is made of the original that the edge has; a new picture cannot be.
        picture(&edge.get(&format!("/demo/w=98,f=jpeg/@{origin}/a.jpg")).await, "image/jpeg");
        assert_problem(&edge.get(&format!("/demo/w=99,f=jpeg,v=1/@{origin}/a.jpg")).await, 502, "source-unavailable");
        assert_problem(&edge.get(&format!("/demo/-/@{origin}/a.jpg")).await, 502, "source-unavailable");
    }

    // A purge counts though there is nothing to put in its place.
    assert_eq!(purge(&edge, r#"{"source":"@s3/a.jpg","tenant":"demo"}"#).await.status, 200);
    for (target, made) in &warm {
        let answer = edge.get(target).await;
        if target.contains("@s3") {
            assert_problem(&answer, 502, "source-unavailable");
        } else {
            assert_eq!((answer.status.as_u16(), &answer.body), (200, &made.body), "{target}");
        }
    }

    store.relay.bring_up().await;
    web.relay.bring_up().await;
    for target in
        warm.keys().map(String::as_str).chain(["/demo/w=99,f=jpeg,v=1/@s3/a.jpg", "/demo/w=99,f=jpeg,v=1/@web/a.jpg"])
    {
        picture(&edge.get(target).await, "image/jpeg");
    }
    edge.stop().await;
}

#[tokio::test]
async fn fresh_pictures_are_served_with_everything_behind_dead() {
    check_dead_behind("max_age_seconds = 3600", ["Calotype; hit; detail=disk", "Calotype; hit; detail=memory"]).await;
}

#[tokio::test]
async fn old_pictures_are_served_with_everything_behind_dead() {
    let policy = "max_age_seconds = 0\nstale_while_revalidate_seconds = 3600";
    check_dead_behind(policy, ["Calotype; hit; detail=stale"; 2]).await;
}
