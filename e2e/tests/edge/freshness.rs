//! Originals that change, or do not, behind renditions that grow old.

use testkit::edge::{Edge, EdgeSetup, assert_problem, eventually, picture};
use testkit::faulty::Fault;
use testkit::images;
use testkit::web::Page;

use crate::support::{S3Rig, WebRig, cache_status, plain};

const MISS: &str = "Calotype; fwd=uri-miss; stored";
const STALE_HIT: &str = "Calotype; hit; detail=stale";
const HELD_HIT: &str = "Calotype; hit; detail=stale-if-error";
const AT_ONCE: &str = "max_age_seconds = 0\nstale_while_revalidate_seconds = 0";
const IN_BACKGROUND: &str = "max_age_seconds = 0\nstale_while_revalidate_seconds = 3600";

async fn transforms(edge: &Edge) -> f64 {
    edge.metric("calotype_transform_run_seconds_count").await
}

#[tokio::test]
async fn an_original_that_did_not_change_is_not_transformed_again() {
    let rig = S3Rig::start().await;
    rig.put("a.png", plain([200, 0, 0]));
    let edge = rig.edge().tenant(AT_ONCE).start().await;
    edge.setup().put("a.png", plain([200, 0, 0]));
    for origin in ["local", "s3"] {
        let target = format!("/demo/w=32,f=png/@{origin}/a.png");
        let first = edge.get(&target).await;
        assert_eq!(cache_status(&first), MISS);
        let made = transforms(&edge).await;
        for _ in 0..3 {
            let renewed = edge.get(&target).await;
            assert_eq!(cache_status(&renewed), "Calotype; fwd=stale; fwd-status=304; stored", "{origin}");
            assert_eq!(renewed.body, first.body);
            assert_eq!(renewed.header("etag"), first.header("etag"));
        }
        assert_eq!(transforms(&edge).await, made, "{origin}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn an_original_that_changed_is_made_anew_before_the_answer() {
    let rig = S3Rig::start().await;
    let edge = rig.edge().tenant(AT_ONCE).start().await;
    for origin in ["local", "s3"] {
        let put =
            |bytes: Vec<u8>| if origin == "s3" { rig.put("a.png", bytes) } else { edge.setup().put("a.png", bytes) };
        let target = format!("/demo/w=32,f=png/@{origin}/a.png");
        put(plain([200, 0, 0]));
        let red = edge.get(&target).await;
        put(plain([0, 0, 200]));
        let blue = edge.get(&target).await;
        assert_eq!(cache_status(&blue), "Calotype; fwd=stale; stored", "{origin}");
        assert_ne!(blue.header("etag"), red.header("etag"));
        assert_eq!(images::decode(&blue.body).to_rgb8().get_pixel(9, 9).0, [0, 0, 200]);
    }
    edge.stop().await;
}

#[tokio::test]
async fn while_it_is_refreshed_the_old_one_is_served() {
    let edge = EdgeSetup::new().tenant(IN_BACKGROUND).start().await;
    let target = "/demo/w=32,f=png/@local/a.png";
    edge.setup().put("a.png", plain([200, 0, 0]));
    let red = edge.get(target).await;
    edge.setup().put("a.png", plain([0, 0, 200]));
    let old = edge.get(target).await;
    assert_eq!((cache_status(&old), &old.body), (STALE_HIT, &red.body));
    let new =
        eventually("the new picture", async || Some(edge.get(target).await).filter(|new| new.body != red.body)).await;
    assert_eq!(images::decode(&new.body).to_rgb8().get_pixel(9, 9).0, [0, 0, 200]);
    edge.stop().await;
}

#[tokio::test]
async fn a_store_that_fails_does_not_take_the_old_one_away() {
    let rig = S3Rig::start().await;
    rig.put("a.png", plain([200, 0, 0]));
    let edge = rig.edge().tenant(IN_BACKGROUND).start().await;
    let target = "/demo/w=32,f=png/@s3/a.png";
    let red = picture(&edge.get(target).await, "image/png");
    rig.relay.set(Fault::Answer(http::StatusCode::INTERNAL_SERVER_ERROR));
    let old = edge.get(target).await;
    assert_eq!((cache_status(&old), &old.body), (STALE_HIT, &red));
    let held = eventually("a refresh that fails", async || {
        Some(edge.get(target).await).filter(|held| cache_status(held) != STALE_HIT)
    });
    assert_eq!((cache_status(&held.await), &old.body), (HELD_HIT, &red));
    let asked = rig.relay.requests();
    for _ in 0..20 {
        let held = edge.get(target).await;
        assert_eq!((cache_status(&held), &held.body), (HELD_HIT, &red));
    }
    assert_eq!(rig.relay.requests(), asked, "a store that fails is left alone for a while");
    rig.put("a.png", plain([0, 0, 200]));
    rig.relay.heal();
    eventually("the new picture", async || Some(edge.get(target).await).filter(|new| new.body != red)).await;
    edge.stop().await;
}

#[tokio::test]
async fn in_place_of_an_error_the_old_one_is_answered() {
    let rig = S3Rig::start().await;
    let edge = rig.edge().tenant(AT_ONCE).start().await;
    let faults = [Fault::Answer(http::StatusCode::SERVICE_UNAVAILABLE), Fault::Reset];
    for (number, fault) in faults.into_iter().enumerate() {
        rig.put(&format!("{number}.png"), plain([200, 0, 0]));
        let target = format!("/demo/w=32,f=png/@s3/{number}.png");
        let red = picture(&edge.get(&target).await, "image/png");
        rig.relay.set(fault);
        let old = edge.get(&target).await;
        assert_eq!((cache_status(&old), &old.body), ("Calotype; fwd=stale; detail=stale-if-error", &red), "{fault:?}");
        let held = edge.get(&target).await;
        assert_eq!((cache_status(&held), &held.body), (HELD_HIT, &red), "{fault:?}");
        rig.relay.heal();
    }
    let events = edge.events(6).await;
    assert_eq!((&events[1]["status"], &events[1]["code"]), (&200.into(), &"source-unavailable".into()));
    assert_eq!((&events[2]["cache"], &events[2]["code"]), (&"stale-if-error".into(), &serde_json::Value::Null));
    edge.stop().await;
}

#[tokio::test]
async fn who_asks_for_too_many_renditions_is_answered_with_old_ones_where_there_are_some() {
    let rates = "rates = { fills_per_second = 1, fills_burst = 1 }";
    let edge = EdgeSetup::new().tenant(AT_ONCE).tenant(rates).start().await;
    for name in ["a", "b"] {
        edge.setup().put(&format!("{name}.png"), plain([200, 0, 0]));
    }
    let made = edge.get("/demo/w=32,f=png/@local/a.png").await;
    assert_eq!(cache_status(&made), MISS);
    // The second rendition takes the place that the first may have left.
    let mut refused = edge.get("/demo/w=32,f=png/@local/b.png").await;
    while refused.status == 200 {
        refused = edge.get("/demo/w=33,f=png/@local/b.png").await;
    }
    assert_problem(&refused, 429, "rate-limited");
    let old = edge.get("/demo/w=32,f=png/@local/a.png").await;
    assert_eq!((old.status.as_u16(), &old.body), (200, &made.body));
    edge.stop().await;
}

#[tokio::test]
async fn an_error_is_passed_on_where_the_policy_or_the_source_wants_it() {
    let rig = S3Rig::start().await;
    let edge = rig.edge().tenant(AT_ONCE).tenant("stale_if_error_seconds = 0").start().await;
    rig.put("a.png", plain([200, 0, 0]));
    let target = "/demo/w=32,f=png/@s3/a.png";
    picture(&edge.get(target).await, "image/png");
    rig.relay.set(Fault::Answer(http::StatusCode::SERVICE_UNAVAILABLE));
    assert_problem(&edge.get(target).await, 502, "source-unavailable");
    edge.stop().await;

    let rig = WebRig::start().await;
    let edge = rig.edge().tenant(AT_ONCE).start().await;
    let page = || Page::new(plain([200, 0, 0]));
    rig.server.put("/img/strict.png", page().header("cache-control", "must-revalidate"));
    for name in ["strict", "denied", "withdrawn", "gone"] {
        if name != "strict" {
            rig.server.put(&format!("/img/{name}.png"), page());
        }
        picture(&edge.get(&format!("/demo/w=32,f=png/@web/{name}.png")).await, "image/png");
    }
    for (name, said, status, code) in [
        ("strict", 500, 502, "source-unavailable"),
        // Whoever shuts a picture away does not want the old one shown.
        ("denied", 403, 502, "source-denied"),
        ("withdrawn", 451, 502, "source-denied"),
        ("gone", 410, 404, "source-not-found"),
    ] {
        let said = http::StatusCode::from_u16(said).expect("a status");
        rig.server.put(&format!("/img/{name}.png"), Page::status(said, "no"));
        assert_problem(&edge.get(&format!("/demo/w=32,f=png/@web/{name}.png")).await, status, code);
    }
    edge.stop().await;
}

#[tokio::test]
async fn how_long_nothing_is_remembered_is_the_policys_business() {
    let edge = EdgeSetup::new().tenant("negative_max_age_seconds = 0").start().await;
    let target = "/demo/w=32,f=png/@local/a.png";
    let missing = edge.get(target).await;
    assert_problem(&missing, 404, "source-not-found");
    assert_eq!(missing.header("cache-control"), Some("public, max-age=0"));
    edge.setup().put("a.png", plain([200, 0, 0]));
    picture(&edge.get(target).await, "image/png");
    edge.stop().await;

    let edge = EdgeSetup::new().tenant("negative_max_age_seconds = 1000").start().await;
    assert_eq!(edge.get(target).await.header("cache-control"), Some("public, max-age=1000"));
    edge.setup().put("a.png", plain([200, 0, 0]));
    assert_problem(&edge.get(target).await, 404, "source-not-found");
    edge.stop().await;
}

#[tokio::test]
async fn browsers_and_cdns_are_told_times_of_their_own() {
    let edge = EdgeSetup::new()
        .tenant("browser_max_age_seconds = 300\ncdn_max_age_seconds = 3600\nstale_while_revalidate_seconds = 9")
        .start()
        .await;
    edge.setup().put("a.png", plain([200, 0, 0]));
    for _ in 0..2 {
        let answer = edge.get("/demo/w=32,f=png/@local/a.png").await;
        assert_eq!(answer.header("cache-control"), Some("public, max-age=300, stale-while-revalidate=9"));
        let cdn = "max-age=3600, stale-while-revalidate=9, stale-if-error=604800";
        assert_eq!(answer.header("cdn-cache-control"), Some(cdn));
        assert_eq!(answer.header("age"), None, "counted from now");
    }
    let versioned = edge.get("/demo/w=32,f=png,v=1/@local/a.png").await;
    assert_eq!(versioned.header("cache-control"), Some("public, max-age=31536000, immutable"));
    assert_eq!(versioned.header("cdn-cache-control"), None);
    edge.stop().await;
}

#[tokio::test]
async fn an_original_that_is_gone_is_gone_once_the_refresh_has_seen_it() {
    let edge = EdgeSetup::new().tenant(IN_BACKGROUND).start().await;
    let target = "/demo/w=32,f=png/@local/a.png";
    edge.setup().put("a.png", plain([200, 0, 0]));
    picture(&edge.get(target).await, "image/png");
    std::fs::remove_file(edge.setup().originals().join("a.png")).expect("there");
    let gone = eventually("the 404", async || Some(edge.get(target).await).filter(|gone| gone.status == 404)).await;
    assert_eq!(testkit::edge::problem_code(&gone), "source-not-found");
    edge.stop().await;
}

#[tokio::test]
async fn fresh_is_fresh() {
    let rig = S3Rig::start().await;
    rig.put("a.png", plain([200, 0, 0]));
    let edge = rig.edge().tenant("max_age_seconds = 3600").start().await;
    let target = "/demo/w=32,f=png/@s3/a.png";
    let red = edge.get(target).await;
    rig.put("a.png", plain([0, 0, 200]));
    for _ in 0..3 {
        let hit = edge.get(target).await;
        assert_eq!((cache_status(&hit), &hit.body), ("Calotype; hit; detail=memory", &red.body));
    }
    assert_eq!(rig.relay.requests(), 1);
    edge.stop().await;
}
