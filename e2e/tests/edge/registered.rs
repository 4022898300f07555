//! Registered images: overlays and fallbacks by name, and what happens when they or their pictures fail.

use image::{Rgba, RgbaImage};
use testkit::edge::{Edge, EdgeSetup, assert_problem, picture, problem_code};
use testkit::faulty::Fault;
use testkit::images::{self, png};

use crate::support::{S3Rig, cache_status, photo};

const IMAGES: &str = "images.logo = \"@local/brand/logo.png\"\nimages.missing = \"@local/brand/none.png\"\n\
                      images.broken = \"@local/brand/broken.png\"\nimages.sorry = \"@local/brand/sorry.png\"";

fn sheet(colour: [u8; 4]) -> Vec<u8> {
    png::rgba(&RgbaImage::from_pixel(10, 10, Rgba(colour)))
}

/// An edge with registered images and one picture, `a.jpg`.
async fn start(policy: &str) -> Edge {
    let edge = EdgeSetup::new().tenant(IMAGES).tenant(policy).start().await;
    let setup = edge.setup();
    setup.put("a.jpg", photo(120, 80));
    setup.put("brand/logo.png", sheet([255, 0, 0, 255]));
    setup.put("brand/sorry.png", sheet([0, 0, 255, 255]));
    setup.put("brand/broken.png", images::hostile::truncated_png());
    edge
}

/// The colour in the middle of a PNG answer.
fn middle(body: &[u8]) -> [u8; 3] {
    let shown = images::decode(body).into_rgb8();
    shown.get_pixel(shown.width() / 2, shown.height() / 2).0
}

#[tokio::test]
async fn an_overlay_is_laid_over_and_its_change_shows() {
    let edge = start("max_age_seconds = 0\nstale_while_revalidate_seconds = 0").await;
    let target = "/demo/w=60,f=png,overlay=logo;center;0;0;0.5/@local/a.jpg";
    let first = picture(&edge.get(target).await, "image/png");
    assert_eq!(middle(&first), [255, 0, 0]);
    // The picture itself did not change, and is not made again for nothing.
    let again = edge.get(target).await;
    assert_eq!(cache_status(&again), "Calotype; fwd=stale; fwd-status=304; stored");
    assert_eq!(again.body, first);

    edge.setup().put("brand/logo.png", sheet([0, 255, 0, 255]));
    let changed = edge.get(target).await;
    assert_eq!((cache_status(&changed), middle(&changed.body)), ("Calotype; fwd=stale; stored", [0, 255, 0]));
    edge.stop().await;
}

#[tokio::test]
async fn an_overlay_that_cannot_be_used_is_told() {
    let edge = start("").await;
    for (name, status, code) in [
        ("nobody", 400, "unknown-image"),
        ("missing", 502, "registered-image-failed"),
        ("broken", 502, "registered-image-failed"),
    ] {
        let answer = edge.get(&format!("/demo/w=60,f=png,overlay={name}/@local/a.jpg")).await;
        assert_problem(&answer, status, code);
    }
    // What was missing may come, and is not remembered as missing.
    edge.setup().put("brand/none.png", sheet([0, 0, 0, 255]));
    picture(&edge.get("/demo/w=60,f=png,overlay=missing/@local/a.jpg").await, "image/png");
    edge.stop().await;
}

#[tokio::test]
async fn a_fallback_takes_the_place_of_what_is_missing_or_broken() {
    let edge = start("").await;
    edge.setup().put("cut.png", images::hostile::truncated_png());
    edge.setup().put("letter.jpg", images::hostile::text());
    edge.setup().put("empty.jpg", []);
    for source in ["none.jpg", "cut.png", "letter.jpg", "empty.jpg"] {
        let answer = edge.get(&format!("/demo/w=60,f=png,fallback=sorry/@local/{source}")).await;
        assert_eq!(middle(&picture(&answer, "image/png")), [0, 0, 255], "{source}");
        assert_eq!(answer.header("cache-control"), Some("public, max-age=10"), "{source}");
        let hit = edge.get(&format!("/demo/w=60,f=png,fallback=sorry/@local/{source}")).await;
        assert_eq!(cache_status(&hit), "Calotype; hit; detail=memory", "{source}");
        let without = edge.get(&format!("/demo/w=60,f=png/@local/{source}")).await;
        assert!(matches!(without.status.as_u16(), 404 | 415 | 422), "{source}");
    }
    // The operator can tell a fallback from a picture.
    let events = edge.events(12).await;
    assert_eq!((&events[0]["status"], &events[0]["code"]), (&200.into(), &"source-not-found".into()), "{}", events[0]);
    // A version does not make a fallback last.
    let versioned = edge.get("/demo/w=60,f=png,fallback=sorry,v=1/@local/none.jpg").await;
    assert_eq!(versioned.header("cache-control"), Some("public, max-age=10"));
    edge.stop().await;
}

#[tokio::test]
async fn a_fallback_is_for_the_original_only_and_may_fail_itself() {
    let edge = start("").await;
    for (target, status, code) in [
        // The URL is wrong, whatever the picture.
        ("/demo/rect=9000;9000;5;5,fallback=sorry/@local/a.jpg", 400, "bad-geometry"),
        ("/demo/page=3,fallback=sorry/@local/a.jpg", 400, "no-such-page"),
        ("/demo/w=60,fallback=nobody/@local/none.jpg", 400, "unknown-image"),
        // The first failure is the one that is told.
        ("/demo/w=60,fallback=missing/@local/none.jpg", 404, "source-not-found"),
        ("/demo/w=60,fallback=broken/@local/none.jpg", 404, "source-not-found"),
    ] {
        assert_problem(&edge.get(target).await, status, code);
    }
    // A picture that is there is shown.
    let answer = edge.get("/demo/w=60,f=png,fallback=sorry/@local/a.jpg").await;
    assert_ne!(middle(&picture(&answer, "image/png")), [0, 0, 255]);
    edge.stop().await;
}

#[tokio::test]
async fn a_fallback_for_a_store_that_is_down_is_not_kept() {
    let rig = S3Rig::start().await;
    let edge = rig.edge().tenant(IMAGES).start().await;
    edge.setup().put("brand/sorry.png", sheet([0, 0, 255, 255]));
    let target = "/demo/w=60,f=png,fallback=sorry/@s3/a.png";
    rig.put("a.png", sheet([0, 255, 0, 255]));
    rig.relay.set(Fault::Reset);
    let answer = edge.get(target).await;
    assert_eq!(middle(&picture(&answer, "image/png")), [0, 0, 255]);
    let without = edge.get("/demo/w=60,f=png/@s3/a.png").await;
    assert!(without.status.is_server_error(), "{}", problem_code(&without));
    rig.relay.heal();
    assert_eq!(middle(&picture(&edge.get(target).await, "image/png")), [0, 255, 0], "nothing was kept of the failure");
    edge.stop().await;
}
