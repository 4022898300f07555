//! `POST /purge`: what is taken back, how soon, for whom, and that it stays taken back.

use image::{Rgba, RgbaImage};
use testkit::edge::{Edge, EdgeSetup, assert_problem, picture};
use testkit::faulty::Fault;
use testkit::http::{self, Request, Response};
use testkit::images::png;
use testkit::web::Page;

use crate::support::{TOKEN, WebRig, cache_status, photo, purge, with_token};

fn setup() -> EdgeSetup {
    with_token(EdgeSetup::new())
}

#[track_caller]
fn assert_purged(answer: &Response) {
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
}

async fn is_hit(edge: &Edge, target: &str) -> bool {
    let answer = edge.get(target).await;
    picture(&answer, answer.header("content-type").unwrap_or_default());
    cache_status(&answer).contains("; hit;")
}

#[tokio::test]
async fn each_scope_takes_back_what_it_names_and_nothing_else() {
    let tables = "[tenants.other]\nopen = true\n[tenants.other.origins.local]\n";
    let edge = setup();
    let folder = edge.originals().display().to_string();
    let edge = edge.tables(&format!("{tables}folder = {folder:?}\n")).tenant(&format!(
        "origins.season = {{ folder = {folder:?}, tags = [\"summer\"] }}\nimages.logo = \"@local/logo.png\""
    ));
    let edge = edge.start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    edge.setup().put("b.jpg", photo(60, 40));
    edge.setup().put("logo.png", png::rgba(&RgbaImage::from_pixel(4, 4, Rgba([255, 0, 0, 255]))));
    let targets = [
        "/demo/w=30,f=jpeg/@local/a.jpg",
        "/demo/w=20,f=jpeg/@local/a.jpg",
        "/demo/w=30,f=jpeg/@local/b.jpg",
        "/demo/w=30,f=jpeg,overlay=logo/@local/b.jpg",
        "/demo/w=30,f=jpeg/@season/a.jpg",
        "/other/w=30,f=jpeg/@local/a.jpg",
    ];
    for (body, gone) in [
        (r#"{"url":"/demo/f=jpeg,width=30/@local/a.jpg?kid=a&sig=b"}"#, &[0][..]),
        (r#"{"url":"/w=30,f=jpeg/@local/a.jpg","tenant":"other"}"#, &[5]),
        // The same file under another origin's name is the same source.
        (r#"{"source":"@local/a.jpg","tenant":"demo"}"#, &[0, 1, 4]),
        (r#"{"source":"@local/logo.png","tenant":"demo"}"#, &[3]),
        (r#"{"tag":"summer","tenant":"demo"}"#, &[4]),
        (r#"{"tag":"summer","tenant":"other"}"#, &[]),
        (r#"{"all":true,"tenant":"demo"}"#, &[0, 1, 2, 3, 4]),
        (r#"{"all":true}"#, &[0, 1, 2, 3, 4, 5]),
    ] {
        for target in targets {
            edge.get(target).await;
            assert!(is_hit(&edge, target).await, "{target}");
        }
        assert_purged(&purge(&edge, body).await);
        for (number, target) in targets.iter().enumerate() {
            assert_eq!(is_hit(&edge, target).await, !gone.contains(&number), "{body}: {target}");
        }
    }
    edge.stop().await;
}

#[tokio::test]
async fn what_changed_without_a_trace_shows_after_a_purge() {
    let edge = setup().tenant("images.logo = \"@local/logo.png\"\nmax_age_seconds = 3600").start().await;
    let sheet = |colour| png::rgba(&RgbaImage::from_pixel(40, 40, Rgba(colour)));
    edge.setup().put("a.png", sheet([0, 0, 255, 255]));
    edge.setup().put("logo.png", sheet([255, 0, 0, 255]));
    let target = "/demo/w=40,f=png,overlay=logo,v=1/@local/a.png";
    let before = edge.get(target).await.body;
    edge.setup().put("logo.png", sheet([0, 255, 0, 255]));
    assert_eq!(edge.get(target).await.body, before, "a version is for ever");
    // The overlay that the edge holds in memory is forgotten too.
    assert_purged(&purge(&edge, r#"{"source":"@local/logo.png","tenant":"demo"}"#).await);
    assert_ne!(edge.get(target).await.body, before);
    edge.stop().await;
}

#[tokio::test]
async fn a_purge_outlives_a_kill() {
    let edge = setup().start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    edge.setup().put("b.jpg", photo(60, 40));
    let (a, b) = ("/demo/w=30,f=jpeg,v=1/@local/a.jpg", "/demo/w=30,f=jpeg,v=1/@local/b.jpg");
    for target in [a, b] {
        edge.get(target).await;
    }
    testkit::edge::eventually("an empty queue of writes", async || {
        (edge.metric("calotype_cache_unflushed_entries").await == 0.0).then_some(())
    })
    .await;
    assert_purged(&purge(&edge, r#"{"source":"@local/a.jpg","tenant":"demo"}"#).await);
    let edge = edge.kill().await.start().await;
    assert!(!is_hit(&edge, a).await, "purged before the kill");
    assert!(is_hit(&edge, b).await);
    edge.stop().await;
}

#[tokio::test]
async fn what_a_web_server_tags_is_purged_by_its_tags() {
    let rig = WebRig::start().await;
    let page = |tags: &str| Page::new(photo(60, 40)).header("cache-tag", tags);
    rig.server.put("/img/a.jpg", page("product-1, shoes"));
    rig.server.put("/img/b.jpg", page("product-2,shoes"));
    rig.server.put("/img/many.jpg", page(&(0..100).map(|i| i.to_string()).collect::<Vec<_>>().join(",")));
    rig.server.put("/img/logo.png", Page::new(png::rgba(&RgbaImage::from_pixel(4, 4, Rgba([255, 0, 0, 255])))));
    rig.server.put("/img/badge.jpg", page("badges"));
    let edge = with_token(rig.edge()).tenant("images.badge = \"@web/badge.jpg\"");
    let edge = edge.start().await;
    edge.setup().put("plain.jpg", photo(60, 40));
    let targets = [
        "/demo/w=30,f=jpeg/@web/a.jpg",
        "/demo/w=30,f=jpeg/@web/b.jpg",
        "/demo/w=30,f=jpeg/@web/many.jpg",
        "/demo/w=30,f=png/@web/logo.png",
        "/demo/w=30,f=jpeg,overlay=badge/@local/plain.jpg",
        "/demo/w=30,f=jpeg,fallback=badge/@local/none.jpg",
    ];
    for (tag, gone) in [
        ("product-1", &[0, 2][..]),
        ("shoes", &[0, 1, 2]),
        ("badges", &[2, 4, 5]),
        // More tags than are kept: it goes with any.
        ("unheard-of", &[2]),
    ] {
        for target in targets {
            edge.get(target).await;
            assert!(is_hit(&edge, target).await, "{target}");
        }
        assert_purged(&purge(&edge, &format!(r#"{{"tag":"{tag}","tenant":"demo"}}"#)).await);
        for (number, target) in targets.iter().enumerate() {
            assert_eq!(is_hit(&edge, target).await, !gone.contains(&number), "{tag}: {target}");
        }
    }
    edge.stop().await;
}

#[tokio::test]
async fn tags_told_with_an_unchanged_picture_replace_the_old_ones() {
    let rig = WebRig::start().await;
    let page = Page::new(photo(60, 40));
    rig.server.put("/img/a.jpg", page.clone().header("cache-tag", "old"));
    let edge = with_token(rig.edge());
    let edge = edge.tenant("max_age_seconds = 0\nstale_while_revalidate_seconds = 0").start().await;
    let target = "/demo/w=30,f=jpeg/@web/a.jpg";
    edge.get(target).await;
    rig.server.put("/img/a.jpg", page.clone().header("cache-tag", "new"));
    assert!(cache_status(&edge.get(target).await).contains("fwd-status=304"));
    rig.server.put("/img/a.jpg", page);
    for (tag, is_renewed) in [("old", true), ("new", false)] {
        assert_purged(&purge(&edge, &format!(r#"{{"tag":"{tag}","tenant":"demo"}}"#)).await);
        assert_eq!(cache_status(&edge.get(target).await).contains("fwd-status=304"), is_renewed, "{tag}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_failing_origin_does_not_bring_back_what_was_purged() {
    let rig = WebRig::start().await;
    rig.server.put("/img/a.jpg", Page::new(photo(60, 40)));
    let edge = with_token(rig.edge());
    let edge = edge.tenant("max_age_seconds = 0").start().await;
    let target = "/demo/w=30,f=jpeg/@web/a.jpg";
    picture(&edge.get(target).await, "image/jpeg");
    rig.relay.set(Fault::Reset);
    assert!(is_hit(&edge, target).await, "stale, or held");
    assert_purged(&purge(&edge, r#"{"source":"@web/a.jpg","tenant":"demo"}"#).await);
    assert_problem(&edge.get(target).await, 502, "source-unavailable");
    edge.stop().await;
}

#[tokio::test]
async fn orders_that_are_wrong_or_not_allowed() {
    let edge = setup().start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    edge.get("/demo/w=30,f=jpeg/@local/a.jpg").await;
    for (body, status, code) in [
        ("", 400, "bad-purge"),
        ("{}", 400, "bad-purge"),
        ("[]", 400, "bad-purge"),
        (r#"{"all":true,"tag":"x","tenant":"demo"}"#, 400, "bad-purge"),
        (r#"{"tag":"x"}"#, 400, "bad-purge"),
        (r#"{"al":true}"#, 400, "bad-purge"),
        (r#"{"source":"@local/../a.jpg","tenant":"demo"}"#, 400, "bad-path"),
        (r#"{"source":"@nowhere/a.jpg","tenant":"demo"}"#, 404, "unknown-origin"),
        (r#"{"all":true,"tenant":"nobody"}"#, 404, "unknown-tenant"),
        (r#"{"url":"/demo/widht=3/@local/a.jpg"}"#, 400, "unknown-op"),
        (r#"{"url":"/demo/-/@local/a.jpg"}"#, 400, "bad-purge"),
    ] {
        assert_problem(&purge(&edge, body).await, status, code);
    }
    let long = format!(r#"{{"all":true,"tenant":"{}"}}"#, "x".repeat(20_000));
    assert_problem(&purge(&edge, &long).await, 400, "bad-purge");
    for wrong in ["Bearer not the token", "Basic YTpi", "Bearer "] {
        let request = Request::new(::http::Method::POST, "/purge").header("authorization", wrong);
        let answer = http::send(edge.admin_addr(), &request.body(r#"{"all":true}"#)).await.expect("answers");
        assert_problem(&answer, 401, "unauthorized");
    }
    assert_eq!(edge.admin("/purge").await.status.as_u16(), 405);
    // The public port has no such thing.
    let public = Request::new(::http::Method::POST, "/purge").header("authorization", format!("Bearer {TOKEN}"));
    assert_eq!(edge.send(&public.body(r#"{"all":true}"#)).await.status.as_u16(), 405);
    assert!(is_hit(&edge, "/demo/w=30,f=jpeg/@local/a.jpg").await, "nothing was purged");
    assert!(!edge.log().contains(TOKEN));
    edge.stop().await;

    let edge = EdgeSetup::new().start().await;
    assert_problem(&purge(&edge, r#"{"all":true}"#).await, 403, "purge-off");
    edge.stop().await;
}

#[tokio::test]
async fn a_source_on_a_web_server_is_named_as_in_urls() {
    let rig = WebRig::start().await;
    rig.server.put("/img/a.jpg", Page::new(photo(60, 40)));
    let url = format!("{}/img/a.jpg", rig.relay.url());
    let allowed = format!("allowed_urls = [\"{url}\"]\nallow_private = [\"127.0.0.1\"]");
    let edge = with_token(rig.edge()).tenant(&allowed).start().await;
    for source in ["@web/a.jpg", url.as_str()] {
        let target = format!("/demo/w=30,f=jpeg/{source}");
        picture(&edge.get(&target).await, "image/jpeg");
        assert!(is_hit(&edge, &target).await);
        assert_purged(&purge(&edge, &format!(r#"{{"source":"{source}","tenant":"demo"}}"#)).await);
        assert!(!is_hit(&edge, &target).await, "{source}");
    }
}
