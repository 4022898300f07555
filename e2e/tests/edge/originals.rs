//! `-`: the bytes as they were put there.

use testkit::edge::{EdgeSetup, assert_problem};
use testkit::http::{Request, Response};
use testkit::web::Page;

use crate::support::{S3Rig, WebRig, photo};

fn etag(answer: &Response) -> String {
    answer.header("etag").expect("there").to_owned()
}

/// What holds for an original in whatever store. `rangeable_tag` says whether its entity tag is a strong one.
async fn check(target: &str, bytes: &[u8], edge: &testkit::edge::Edge, rangeable_tag: bool) {
    let whole = edge.get(target).await;
    assert_eq!((whole.status.as_u16(), whole.header("content-type")), (200, Some("image/jpeg")));
    assert_eq!(whole.body, bytes, "byte for byte");
    assert_eq!(whole.header("content-length"), Some(bytes.len().to_string().as_str()));
    assert_eq!(whole.header("content-disposition"), None);
    assert_eq!(whole.header("cache-status"), None, "no cache is asked");
    assert_eq!(whole.header("cache-control"), Some("public, max-age=60, stale-while-revalidate=86400"));

    let head = edge.send(&Request::head(target).header("range", "bytes=0-3")).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0), "a range means nothing with HEAD");
    for name in ["content-length", "content-type", "etag", "last-modified"] {
        assert_eq!(head.header(name), whole.header(name), "{name}");
    }

    let size = bytes.len();
    for (range, first, last) in [
        ("bytes=0-9".to_owned(), 0, 9),
        ("bytes=100-".to_owned(), 100, size - 1),
        ("bytes=-7".to_owned(), size - 7, size - 1),
        (format!("bytes=3-{}", size * 2), 3, size - 1),
    ] {
        let part = edge.send(&Request::get(target).header("range", &range)).await;
        assert_eq!(part.status, 206, "{range}");
        assert_eq!(part.header("content-range"), Some(format!("bytes {first}-{last}/{size}").as_str()));
        assert_eq!(part.body, &bytes[first..=last], "{range}");
    }
    for range in ["bytes=0-1,4-5", "pixels=0-9", "bytes=9-3"] {
        let answer = edge.send(&Request::get(target).header("range", range)).await;
        assert_eq!((answer.status.as_u16(), answer.body.len()), (200, size), "{range}");
    }
    let behind = edge.send(&Request::get(target).header("range", format!("bytes={size}-"))).await;
    assert_problem(&behind, 416, "range-not-satisfiable");
    assert_eq!(behind.header("content-range"), Some(format!("bytes */{size}").as_str()));

    let (tag, date) = (etag(&whole), whole.header("last-modified").expect("there").to_owned());
    for (name, value, status) in [
        ("if-none-match", tag.clone(), 304),
        ("if-none-match", format!("\"other\", {tag}"), 304),
        ("if-none-match", "*".to_owned(), 304),
        ("if-none-match", "\"other\"".to_owned(), 200),
        ("if-modified-since", date.clone(), 304),
        ("if-modified-since", "Thu, 01 Jan 1970 00:00:00 GMT".to_owned(), 200),
        ("if-modified-since", "yesterday".to_owned(), 200),
    ] {
        let answer = edge.send(&Request::get(target).header(name, &value)).await;
        assert_eq!(answer.status.as_u16(), status, "{name}: {value}");
        assert_eq!(answer.header("etag"), Some(tag.as_str()));
        assert_eq!(answer.body.is_empty(), status == 304);
    }
    // If-None-Match goes before If-Modified-Since (RFC 9110, section 13.2.2).
    let both = Request::get(target).header("if-none-match", "\"other\"").header("if-modified-since", &date);
    assert_eq!(edge.send(&both).await.status, 200);

    let ranged = |condition: &str| Request::get(target).header("range", "bytes=0-3").header("if-range", condition);
    assert_eq!(edge.send(&ranged(&tag)).await.status.as_u16(), if rangeable_tag { 206 } else { 200 });
    assert_eq!(edge.send(&ranged(&date)).await.status, 206);
    assert_eq!(edge.send(&ranged("\"other\"")).await.status, 200);
}

#[tokio::test]
async fn from_a_folder() {
    let edge = EdgeSetup::new().start().await;
    let bytes = photo(300, 200);
    edge.setup().put("sub/a b.jpg", &bytes);
    // A folder's tag is weak: a file may be overwritten twice within the clock's grain.
    check("/demo/-/@local/sub/a%20b.jpg", &bytes, &edge, false).await;
    assert_eq!(edge.metric("calotype_transform_run_seconds_count").await, 0.0);
    edge.stop().await;
}

#[tokio::test]
async fn from_s3() {
    let rig = S3Rig::start().await;
    let bytes = photo(300, 200);
    rig.put("a.jpg", &bytes);
    let edge = rig.edge().start().await;
    check("/demo/-/@s3/a.jpg", &bytes, &edge, true).await;
    edge.stop().await;
}

#[tokio::test]
async fn from_a_web_server() {
    let rig = WebRig::start().await;
    let bytes = photo(300, 200);
    rig.server.put("/img/a.jpg", Page::new(bytes.clone()).header("content-type", "image/jpeg"));
    let edge = rig.edge().start().await;
    check("/demo/-/@web/a.jpg", &bytes, &edge, true).await;
    edge.stop().await;
}

#[tokio::test]
async fn larger_than_any_buffer() {
    let rig = S3Rig::start().await;
    let bytes: Vec<u8> = (0..3_000_001_u32).flat_map(u32::to_le_bytes).collect();
    rig.put("large.mp4", &bytes);
    let edge = rig.edge().start().await;
    edge.setup().put("large.mp4", &bytes);
    for origin in ["s3", "local"] {
        let target = format!("/demo/-/@{origin}/large.mp4");
        assert!(edge.get(&target).await.body == bytes, "{origin}");
        let middle = edge.send(&Request::get(&target).header("range", "bytes=5000000-7000000")).await;
        assert!(middle.body == bytes[5_000_000..=7_000_000], "{origin}");
    }
}

#[tokio::test]
async fn what_could_run_script_is_a_sandboxed_download() {
    let edge = EdgeSetup::new().start().await;
    for (name, bytes, inline) in [
        ("page.html", b"<script>alert(1)</script>".to_vec(), false),
        ("drawing.svg", testkit::images::hostile::svg(10, 10, "http://127.0.0.1:9/x"), false),
        ("script.js", b"alert(1)".to_vec(), false),
        ("no-extension", b"<html>".to_vec(), false),
        ("photo.JPG", photo(60, 40), true),
        ("film.mp4", vec![0; 10], true),
    ] {
        edge.setup().put(name, &bytes);
        let answer = edge.get(&format!("/demo/-/@local/{name}")).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_ref()), (200, bytes.as_slice()));
        assert_eq!(answer.header("content-disposition"), (!inline).then_some("attachment"), "{name}");
        let policy = answer.header("content-security-policy").unwrap_or_default();
        assert_eq!(policy.contains("sandbox") && policy.contains("default-src 'none'"), !inline, "{name}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
}

#[tokio::test]
async fn an_empty_original_is_an_empty_answer() {
    let edge = EdgeSetup::new().start().await;
    edge.setup().put("empty.jpg", b"");
    let answer = edge.get("/demo/-/@local/empty.jpg").await;
    assert_eq!((answer.status.as_u16(), answer.header("content-length")), (200, Some("0")));
}

#[tokio::test]
async fn only_where_the_policy_lets_them_out() {
    let setup = EdgeSetup::new();
    let folder = setup.originals().display().to_string();
    let setup =
        setup.tables(&format!("[tenants.closed]\nopen = true\noriginals = false\norigins.local.folder = {folder:?}"));
    let edge = setup.start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    assert_problem(&edge.get("/closed/-/@local/a.jpg").await, 403, "originals-off");
    assert_eq!(edge.get("/closed/w=40/@local/a.jpg").await.status, 200);
    assert_eq!(edge.get("/demo/-/@local/a.jpg").await.status, 200);
}
