//! Originals that change, or do not, behind renditions that grow old.

use testkit::edge::{Edge, EdgeSetup, eventually, picture};
use testkit::faulty::Fault;
use testkit::images;

use crate::support::{S3Rig, cache_status};

const MISS: &str = "Calotype; fwd=uri-miss; stored";
const STALE_HIT: &str = "Calotype; hit; detail=stale";
const AT_ONCE: &str = "max_age_seconds = 0\nstale_while_revalidate_seconds = 0";
const IN_BACKGROUND: &str = "max_age_seconds = 0\nstale_while_revalidate_seconds = 3600";

/// A picture of one colour, so that old and new bytes differ for sure.
fn plain(colour: [u8; 3]) -> Vec<u8> {
    images::png::rgb(&images::swatches(&[colour], 64), &images::png::Extras::default())
}

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
    let before = rig.relay.requests();
    rig.relay.set(Fault::Answer(http::StatusCode::INTERNAL_SERVER_ERROR));
    for asked in 1..=3 {
        let old = edge.get(target).await;
        assert_eq!((cache_status(&old), &old.body), (STALE_HIT, &red));
        rig.relay.wait_for_requests(before + asked).await.expect("the store is asked");
    }
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
