//! Originals that are missing, broken, hostile or too large.

use testkit::edge::{EdgeSetup, assert_problem, eventually, picture, problem_code};
use testkit::images::{self, hostile};

use crate::support::{Warm, cache_status, photo};

/// Memory of the whole process that no refusal may come near: decoded, the largest claim would be 12 GiB.
const RESIDENT_BYTES_MAX: f64 = 1e9;

async fn check(cases: Vec<(&str, Option<Vec<u8>>, u16, &str)>) {
    let edge = EdgeSetup::new().start().await;
    let warm = Warm::up(&edge).await;
    for (name, bytes, status, code) in cases {
        if let Some(bytes) = bytes {
            edge.setup().put(name, bytes);
        }
        let target = format!("/demo/w=100,f=jpeg/@local/{name}");
        let answer = edge.get(&target).await;
        assert_eq!((name, answer.status.as_u16(), problem_code(&answer).as_str()), (name, status, code));

        // Nothing is made again for the next who asks, and what he is told is the same.
        let again = edge.get(&target).await;
        assert_problem(&again, status, code);
        assert_eq!(cache_status(&again), "Calotype; hit; detail=memory");
        let control = again.header("cache-control").expect("there").strip_prefix("public, max-age=").expect("public");
        assert!(control.parse::<u64>().expect("seconds") <= 10, "{control}");
    }
    warm.assert_hit(&edge).await;
    assert!(edge.metric("process_resident_memory_bytes").await < RESIDENT_BYTES_MAX);
    edge.stop().await;
}

#[tokio::test]
async fn missing_or_no_file() {
    check(vec![
        ("nothing.jpg", None, 404, "source-not-found"),
        ("no/such/folder.jpg", None, 404, "source-not-found"),
        ("warm.jpg/inside", None, 404, "source-not-found"),
    ])
    .await;
}

#[tokio::test]
async fn a_folder_or_a_pipe_is_no_picture() {
    let edge = EdgeSetup::new().start().await;
    let warm = Warm::up(&edge).await;
    edge.setup().put("folder/a.jpg", photo(60, 40));
    let pipe = edge.setup().originals().join("pipe.jpg");
    let made = tokio::process::Command::new("mkfifo").arg(&pipe).status().await.expect("coreutils");
    assert!(made.success());
    for name in ["folder", "pipe.jpg"] {
        assert_problem(&edge.get(&format!("/demo/w=40/@local/{name}")).await, 404, "source-not-found");
        assert_problem(&edge.get(&format!("/demo/-/@local/{name}")).await, 404, "source-not-found");
    }
    warm.assert_hit(&edge).await;
}

#[tokio::test]
async fn empty_cut_off_or_damaged() {
    check(vec![
        ("empty.jpg", Some(Vec::new()), 415, "source-empty"),
        ("half.jpg", Some(hostile::truncated_jpeg()), 422, "source-truncated"),
        ("half-progressive.jpg", Some(hostile::truncated_progressive_jpeg()), 422, "source-truncated"),
        ("half.png", Some(hostile::truncated_png()), 422, "source-truncated"),
        ("half.webp", Some(hostile::truncated_webp()), 422, "source-truncated"),
        ("damaged.png", Some(hostile::corrupt_png()), 422, "source-corrupt"),
        ("damaged.jpg", Some(hostile::corrupt_jpeg()), 422, "source-corrupt"),
    ])
    .await;
}

#[tokio::test]
async fn not_an_image_whatever_its_name() {
    check(vec![
        ("letter.jpg", Some(hostile::text()), 415, "not-an-image"),
        ("page.png", Some(hostile::html()), 415, "not-an-image"),
        ("program.jpg", Some(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec()), 415, "not-an-image"),
        ("one-byte.jpg", Some(vec![0xff]), 415, "not-an-image"),
    ])
    .await;
}

#[tokio::test]
async fn sizes_that_would_fill_the_memory() {
    check(vec![
        ("64k.png", Some(hostile::png_claiming(65_535, 65_535)), 422, "too-many-pixels"),
        // Beyond what libpng lets any header claim.
        ("more.png", Some(hostile::png_claiming(0x7fff_ffff, 0x7fff_ffff)), 422, "source-corrupt"),
        ("wide.jpg", Some(hostile::jpeg_claiming(20_000, 14_000)), 422, "too-many-pixels"),
    ])
    .await;
}

#[tokio::test]
async fn an_animation_that_is_too_long_still_has_a_first_frame() {
    let edge = EdgeSetup::new().start().await;
    edge.setup().put("long.gif", images::animated_gif(8, 8, 61));
    assert_problem(&edge.get("/demo/w=4,f=webp/@local/long.gif").await, 422, "too-many-frames");
    testkit::edge::picture(&edge.get("/demo/w=4,f=jpeg/@local/long.gif").await, "image/jpeg");
    testkit::edge::picture(&edge.get("/demo/w=4,anim=false,f=webp/@local/long.gif").await, "image/webp");
    edge.stop().await;
}

#[tokio::test]
async fn magic_bytes_alone_are_the_sources_fault_and_never_ours() {
    let edge = EdgeSetup::new().start().await;
    for (format, bytes) in hostile::magic_only() {
        edge.setup().put(format, bytes);
        let answer = edge.get(&format!("/demo/w=40/@local/{format}")).await;
        assert!([415, 422].contains(&answer.status.as_u16()), "{format}: {}", answer.text());
    }
    edge.stop().await;
}

#[tokio::test]
async fn more_bytes_than_the_limit() {
    let edge = EdgeSetup::new().set("limits.source_bytes", 20_000).start().await;
    let warm = Warm::up(&edge).await;
    let large = photo(400, 300);
    assert!(large.len() > 20_000);
    edge.setup().put("large.jpg", &large);
    assert_problem(&edge.get("/demo/w=40/@local/large.jpg").await, 422, "source-too-large");
    assert_eq!(edge.get("/demo/-/@local/large.jpg").await.body, large, "originals have a limit of their own");
    warm.assert_hit(&edge).await;
}

#[tokio::test]
async fn an_original_larger_than_its_own_limit() {
    let edge = EdgeSetup::new().set("limits.original_bytes", 1000).start().await;
    edge.setup().put("large.bin", vec![7; 1001]);
    edge.setup().put("small.bin", vec![7; 1000]);
    assert_problem(&edge.get("/demo/-/@local/large.bin").await, 422, "source-too-large");
    assert_eq!(edge.get("/demo/-/@local/small.bin").await.body.len(), 1000);
}

#[tokio::test]
async fn the_bytes_decide_what_a_picture_is_and_not_its_name() {
    let edge = EdgeSetup::new().start().await;
    let png = images::png::rgb(&images::places(90, 60), &images::png::Extras::default());
    for name in ["really-a-png.jpg", "no-extension", "picture.txt"] {
        edge.setup().put(name, &png);
        let body = picture(&edge.get(&format!("/demo/w=30,f=png/@local/{name}")).await, "image/png");
        let rendition = images::decode(&body);
        assert_eq!((rendition.width(), rendition.height()), (30, 20), "{name}");
    }
}

#[tokio::test]
async fn a_picture_that_arrives_late_is_found_once_the_refusal_is_old() {
    let edge = EdgeSetup::new().start().await;
    assert_problem(&edge.get("/demo/w=40,f=jpeg/@local/late.jpg").await, 404, "source-not-found");
    edge.setup().put("late.jpg", photo(60, 40));
    let found = eventually("the picture", async || {
        let answer = edge.get("/demo/w=40,f=jpeg/@local/late.jpg").await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    picture(&found, "image/jpeg");
}
