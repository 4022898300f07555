//! One picture through the whole cache, and what its answers say.

use testkit::edge::{EdgeSetup, eventually, picture};
use testkit::http::Request;
use testkit::images;

use crate::support::{cache_status, photo};

const TARGET: &str = "/demo/w=40,f=jpeg/@local/a.jpg";

#[tokio::test]
async fn made_once_then_from_memory_then_after_a_restart_from_disk() {
    let edge = EdgeSetup::new().start().await;
    edge.setup().put("a.jpg", photo(120, 80));

    let miss = edge.get(TARGET).await;
    let body = picture(&miss, "image/jpeg");
    let shown = images::decode(&body);
    assert_eq!((shown.width(), shown.height()), (40, 27));
    assert_eq!(cache_status(&miss), "Calotype; fwd=uri-miss; stored");

    let hit = edge.get(TARGET).await;
    assert_eq!((cache_status(&hit), picture(&hit, "image/jpeg")), ("Calotype; hit; detail=memory", body.clone()));
    assert_eq!(edge.metric("calotype_transform_run_seconds_count").await, 1.0);

    let edge = edge.stop().await.start().await;
    let hit = edge.get(TARGET).await;
    assert_eq!((cache_status(&hit), picture(&hit, "image/jpeg")), ("Calotype; hit; detail=disk", body.clone()));
    assert_eq!(hit.header("etag"), miss.header("etag"));
    // What came from disk is in memory from then on.
    let hit = edge.get(TARGET).await;
    assert_eq!((cache_status(&hit), picture(&hit, "image/jpeg")), ("Calotype; hit; detail=memory", body));
    assert_eq!(edge.metric("calotype_transform_run_seconds_count").await, 0.0);
    edge.stop().await;
}

#[tokio::test]
async fn what_was_written_survives_a_kill() {
    let edge = EdgeSetup::new().start().await;
    edge.setup().put("a.jpg", photo(120, 80));
    let targets: Vec<String> = (20..30).map(|width| format!("/demo/w={width},f=jpeg/@local/a.jpg")).collect();
    let mut bodies = Vec::new();
    for target in &targets {
        bodies.push(picture(&edge.get(target).await, "image/jpeg"));
    }
    eventually("an empty queue of writes", async || {
        (edge.metric("calotype_cache_unflushed_entries").await == 0.0).then_some(())
    })
    .await;

    let edge = edge.kill().await.start().await;
    assert_eq!(edge.readiness().await["cache_disk"], "ready");
    for (target, body) in targets.iter().zip(&bodies) {
        let hit = edge.get(target).await;
        assert_eq!((cache_status(&hit), picture(&hit, "image/jpeg")), ("Calotype; hit; detail=disk", body.clone()));
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_kill_in_the_midst_of_writing_leaves_nothing_wrong() {
    let edge = EdgeSetup::new().start().await;
    edge.setup().put("a.jpg", photo(120, 80));
    let targets: Vec<String> = (20..30).map(|width| format!("/demo/w={width},f=jpeg/@local/a.jpg")).collect();
    let mut bodies = Vec::new();
    for target in &targets {
        bodies.push(picture(&edge.get(target).await, "image/jpeg"));
    }
    let edge = edge.kill().await.start().await;
    for (target, body) in targets.iter().zip(&bodies) {
        assert_eq!(picture(&edge.get(target).await, "image/jpeg"), body.clone());
    }
    edge.stop().await;
}

#[tokio::test]
async fn every_header_of_a_miss_and_of_a_hit() {
    let edge = EdgeSetup::new().start().await;
    edge.setup().put("a.jpg", photo(120, 80));
    let miss = edge.get(TARGET).await;
    let timing = miss.header("server-timing").expect("there");
    for (part, name) in timing.split(", ").zip(["fetch", "queue", "transform"]) {
        let millis = part.strip_prefix(name).and_then(|rest| rest.strip_prefix(";dur=")).expect("in this order");
        assert!(millis.parse::<f64>().expect("a number") >= 0.0, "{timing}");
    }
    assert_eq!(timing.split(", ").count(), 3, "{timing}");
    let hit = edge.get(TARGET).await;
    assert_eq!(hit.header("server-timing"), None, "a hit fetches and transforms nothing");

    for answer in [&miss, &hit] {
        let etag = answer.header("etag").expect("there");
        let hex = etag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).expect("a strong one");
        assert!(hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()), "{etag}");
        assert_eq!(answer.header("cache-control"), Some("public, max-age=60, stale-while-revalidate=86400"));
        assert!(answer.header("age").expect("there").parse::<u64>().expect("seconds") < 60);
        assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
        assert_eq!(answer.header("accept-ranges"), Some("bytes"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(answer.header("cross-origin-resource-policy"), Some("cross-origin"));
        assert_eq!(answer.header("vary"), None, "the format is given, not negotiated");
        assert_eq!(answer.header("set-cookie"), None);
    }
    assert_eq!(miss.header("etag"), hit.header("etag"));
    edge.stop().await;
}

#[tokio::test]
async fn request_ids_are_taken_over_or_made() {
    let edge = EdgeSetup::new().start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    let id = |answer: &testkit::http::Response| answer.header("x-request-id").expect("there").to_owned();
    let given = edge.send(&Request::get(TARGET).header("x-request-id", "order-66_A")).await;
    assert_eq!(id(&given), "order-66_A");
    let (first, second) = (id(&edge.get(TARGET).await), id(&edge.get("/demo/nonsense").await));
    assert!(!first.is_empty() && first != second);
    for unusable in ["two words", "<script>", &"x".repeat(65), ""] {
        let made = id(&edge.send(&Request::get(TARGET).header("x-request-id", unusable)).await);
        assert!(!made.is_empty() && made != unusable);
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_version_makes_the_answer_unchanging() {
    let edge = EdgeSetup::new().tenant("max_age_seconds = 5\nstale_while_revalidate_seconds = 7").start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    let versioned = edge.get("/demo/w=40,f=jpeg,v=3/@local/a.jpg").await;
    assert_eq!(versioned.header("cache-control"), Some("public, max-age=31536000, immutable"));
    let plain = edge.get(TARGET).await;
    assert_eq!(plain.header("cache-control"), Some("public, max-age=5, stale-while-revalidate=7"));
}

#[tokio::test]
async fn every_spelling_of_a_transform_is_one_rendition() {
    let edge = EdgeSetup::new().tenant("presets.thumb = \"w=40,f=jpeg\"").start().await;
    edge.setup().put("a b.jpg", photo(120, 80));
    let first = edge.get("/demo/w=40,f=jpeg/@local/a%20b.jpg").await;
    assert_eq!(cache_status(&first), "Calotype; fwd=uri-miss; stored");
    for target in [
        "/demo/f=jpeg,w=40/@local/a%20b.jpg",
        "/demo/width=40,format=jpeg/@local/a%20b.jpg",
        "/demo/w=40,f=jpeg,fit=scale-down/@local/a%20b.jpg",
        "/demo/w=20,dpr=2,f=jpeg/@local/a%20b.jpg",
        "/demo/p=thumb/@local/a%20b.jpg",
        "/demo/w=40,f=jpeg,rotate=360/@local/%61%20b.jpg",
        "/demo/w=40,f=jpeg,dl=x.jpg/@local/a%20b.jpg",
    ] {
        let same = edge.get(target).await;
        assert_eq!((cache_status(&same), &same.body), ("Calotype; hit; detail=memory", &first.body), "{target}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_download_has_its_name() {
    let edge = EdgeSetup::new().start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    let answer = edge.get("/demo/w=40,f=jpeg,dl=caf%C3%A9%20%22x%22.jpg/@local/a.jpg").await;
    let expected = "attachment; filename=\"caf_ _x_.jpg\"; filename*=UTF-8''caf%C3%A9%20%22x%22.jpg";
    assert_eq!(answer.header("content-disposition"), Some(expected));
    assert_eq!(edge.get(TARGET).await.header("content-disposition"), None);
}

#[tokio::test]
async fn facts_instead_of_a_picture() {
    let edge = EdgeSetup::new().start().await;
    edge.setup().put("a.jpg", photo(120, 80));
    let answer = edge.get("/demo/w=40,f=json/@local/a.jpg").await;
    let described: serde_json::Value = serde_json::from_slice(&picture(&answer, "application/json")).expect("JSON");
    assert_eq!((&described["width"], &described["height"]), (&40.into(), &27.into()));
    let original = &described["original"];
    assert_eq!(
        (&original["width"], &original["height"], &original["format"]),
        (&120.into(), &80.into(), &"jpeg".into())
    );
    for hash in ["blurhash", "thumbhash"] {
        let answer = edge.get(&format!("/demo/f={hash}/@local/a.jpg")).await;
        assert!((20..60).contains(&picture(&answer, "text/plain").len()), "{}", answer.text());
    }
    edge.stop().await;
}

#[tokio::test]
async fn an_animation_moves_for_every_client_that_can_show_it() {
    let edge = EdgeSetup::new().start().await;
    edge.setup().put("a.gif", images::animated_gif(60, 40, 5));
    for (accept, content_type) in
        [("image/avif,image/webp", "image/webp"), ("image/webp", "image/webp"), ("*/*", "image/gif")]
    {
        let answer = edge.send(&Request::get("/demo/w=30/@local/a.gif").header("accept", accept)).await;
        let body = picture(&answer, content_type);
        let marks: &[u8] = if content_type == "image/gif" { b"NETSCAPE2.0" } else { b"ANMF" };
        assert!(body.windows(marks.len()).any(|window| window == marks), "{accept}: it does not move");
    }
    edge.stop().await;
}
