//! URLs that are refused before anything is fetched.

use std::os::unix::fs::symlink;

use testkit::edge::{Edge, EdgeSetup, assert_problem, problem_code};
use testkit::http::Response;

use crate::support::{Warm, photo};

/// Sends the target byte for byte: no client's URL parser in between.
async fn ask(edge: &Edge, target: &[u8]) -> Response {
    edge.send_raw(&[b"GET ", target, b" HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n"].concat()).await
}

async fn check(cases: &[(&str, u16, &str)]) {
    let edge = EdgeSetup::new().start().await;
    let warm = Warm::up(&edge).await;
    edge.setup().put("a.jpg", photo(60, 40));
    for (target, status, code) in cases {
        let answer = ask(&edge, target.as_bytes()).await;
        assert_eq!((*target, answer.status.as_u16(), problem_code(&answer).as_str()), (*target, *status, *code));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    warm.assert_hit(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn ops_that_are_unknown_repeated_or_out_of_range() {
    check(&[
        ("/demo/wdith=40/@local/a.jpg", 400, "unknown-op"),
        ("/demo/=40/@local/a.jpg", 400, "unknown-op"),
        ("/demo/w=40,,h=40/@local/a.jpg", 400, "unknown-op"),
        ("/demo/w=40,width=40/@local/a.jpg", 400, "duplicate-op"),
        ("/demo/f=jpeg,w=40,f=png/@local/a.jpg", 400, "duplicate-op"),
        ("/demo/w=0/@local/a.jpg", 400, "bad-value"),
        ("/demo/w=8193/@local/a.jpg", 400, "bad-value"),
        ("/demo/w=-1/@local/a.jpg", 400, "bad-value"),
        ("/demo/w=99999999999999999999/@local/a.jpg", 400, "bad-value"),
        ("/demo/w=/@local/a.jpg", 400, "bad-value"),
        ("/demo/w/@local/a.jpg", 400, "bad-value"),
        ("/demo/w=40,fit=stretch/@local/a.jpg", 400, "bad-value"),
        ("/demo/q=101/@local/a.jpg", 400, "bad-value"),
        ("/demo/bg=nocolour/@local/a.jpg", 400, "bad-value"),
        ("/demo/f=bmp/@local/a.jpg", 400, "bad-value"),
        ("/demo/p=nothere/@local/a.jpg", 400, "unknown-preset"),
    ])
    .await;
}

#[tokio::test]
async fn shapes_that_no_delivery_url_has() {
    check(&[
        ("/", 400, "bad-path"),
        ("/demo", 400, "bad-path"),
        ("/demo/w=40", 400, "bad-path"),
        ("/demo//@local/a.jpg", 400, "bad-path"),
        ("/demo/w=40/", 400, "bad-path"),
        ("/demo/w=40/@local", 400, "bad-path"),
        ("/demo/w=40/@local/", 400, "bad-path"),
        ("/demo/w=40/@/a.jpg", 400, "bad-path"),
        ("/De_mo/w=40/@local/a.jpg", 400, "bad-path"),
        ("/demo/w=40/@local/a.jpg?width=40", 400, "bad-query"),
        ("/demo/w=40/@local/a.jpg?exp=soon", 400, "bad-query"),
        ("/healthz/w=40/@local/a.jpg", 404, "reserved-path"),
        ("/metrics", 404, "reserved-path"),
        ("/nobody/w=40/@local/a.jpg", 404, "unknown-tenant"),
        ("/demo/w=40/@nowhere/a.jpg", 404, "unknown-origin"),
        ("/demo/-/@nowhere/a.jpg", 404, "unknown-origin"),
    ])
    .await;
}

#[tokio::test]
async fn ops_that_mean_nothing_here() {
    let edge = EdgeSetup::new().start().await;
    edge.setup().put("a.jpg", crate::support::photo(60, 40));
    for (ops, status, code) in [
        ("lossless=true,f=jpeg", 400, "op-not-applicable"),
        ("max-bytes=900,f=png", 400, "op-not-applicable"),
        ("t=3", 400, "op-not-applicable"),
        ("page=1", 400, "no-such-page"),
        ("trim=30;0;30;0", 400, "bad-geometry"),
        ("rect=60;0;5;5", 400, "bad-geometry"),
        ("max-bytes=1,f=jpeg", 422, "bytes-out-of-reach"),
        ("overlay=logo", 400, "unknown-image"),
    ] {
        testkit::edge::assert_problem(&edge.get(&format!("/demo/{ops}/@local/a.jpg")).await, status, code);
    }
    edge.stop().await;
}

#[tokio::test]
async fn what_is_promised_for_later_says_so() {
    check(&[("/demo/w=40/holiday.jpg", 404, "no-uploads")]).await;
}

#[tokio::test]
async fn broken_encoding() {
    check(&[
        ("/demo/w=40/@local/%", 400, "bad-encoding"),
        ("/demo/w=40/@local/%4", 400, "bad-encoding"),
        ("/demo/w=40/@local/%zz.jpg", 400, "bad-encoding"),
        ("/demo/w=40/@local/%ff.jpg", 400, "bad-encoding"),
        ("/demo/w=40/@local/%c3%28.jpg", 400, "bad-encoding"),
        ("/demo/w=40/@local/%ed%a0%80.jpg", 400, "bad-encoding"),
        ("/demo/w=40/@local/a%00.jpg", 400, "bad-encoding"),
        ("/demo/w=40/@local/a%0d%0aX:1.jpg", 400, "bad-encoding"),
        ("/demo/w=%zz/@local/a.jpg", 400, "bad-encoding"),
        ("/d%emo/w=40/@local/a.jpg", 400, "bad-encoding"),
    ])
    .await;
}

#[tokio::test]
async fn bytes_that_are_not_utf8_in_the_target() {
    let edge = EdgeSetup::new().start().await;
    let warm = Warm::up(&edge).await;
    // No HTTP: refused before it is a request, so there is no problem to read.
    assert_eq!(ask(&edge, b"/demo/w=40/@local/\xff\xfe.jpg").await.status, 400);
    warm.assert_hit(&edge).await;
}

#[tokio::test]
async fn a_url_longer_than_the_limit_by_one_byte_or_by_much() {
    let edge = EdgeSetup::new().start().await;
    let warm = Warm::up(&edge).await;
    let target = |bytes: usize| {
        let start = "/demo/w=40/@local/";
        format!("{start}{}", "a".repeat(bytes - start.len()))
    };
    assert_problem(&ask(&edge, target(4096).as_bytes()).await, 400, "bad-path");
    assert_problem(&ask(&edge, target(4097).as_bytes()).await, 414, "url-too-long");
    assert_problem(&ask(&edge, target(60_000).as_bytes()).await, 414, "url-too-long");
    warm.assert_hit(&edge).await;
}

#[tokio::test]
async fn no_spelling_of_a_path_leaves_the_folder() {
    let edge = EdgeSetup::new().start().await;
    let warm = Warm::up(&edge).await;
    let originals = edge.setup().originals();
    let secret = edge.setup().home().join("secret.jpg");
    std::fs::write(&secret, photo(60, 40)).expect("ours");
    symlink(&secret, originals.join("out.jpg")).expect("a link");
    symlink("../secret.jpg", originals.join("relative.jpg")).expect("a link");
    symlink(edge.setup().home(), originals.join("door")).expect("a link");
    symlink("loop.jpg", originals.join("loop.jpg")).expect("a link");
    edge.setup().put("real.jpg", photo(60, 40));
    symlink("real.jpg", originals.join("inside.jpg")).expect("a link");

    let absolute = format!("/demo/w=40/@local/{}", secret.display());
    let encoded = format!("/demo/w=40/@local/{}", secret.display().to_string().replace('/', "%2F"));
    for (target, status, code) in [
        ("/demo/w=40/@local/../secret.jpg", 400, "bad-path"),
        ("/demo/w=40/@local/sub/../../secret.jpg", 400, "bad-path"),
        ("/demo/w=40/@local/./real.jpg", 400, "bad-path"),
        ("/demo/w=40/@local/%2e%2e/secret.jpg", 400, "bad-path"),
        ("/demo/w=40/@local/.%2E%2fsecret.jpg", 400, "bad-path"),
        ("/demo/w=40/@local/..%2fsecret.jpg", 400, "bad-path"),
        ("/demo/w=40/@local/..%00/secret.jpg", 400, "bad-encoding"),
        ("/demo/w=40/@local/real.jpg%00.png", 400, "bad-encoding"),
        (&absolute, 400, "bad-path"),
        (&encoded, 400, "bad-path"),
        ("/demo/w=40/@local//etc/passwd", 400, "bad-path"),
        // Decoded once, so this is the name of a file that is not there.
        ("/demo/w=40/@local/%252e%252e/secret.jpg", 404, "source-not-found"),
        ("/demo/w=40/@local/..%5csecret.jpg", 404, "source-not-found"),
        ("/demo/w=40/@local/out.jpg", 404, "source-not-found"),
        ("/demo/w=40/@local/relative.jpg", 404, "source-not-found"),
        ("/demo/w=40/@local/door/secret.jpg", 404, "source-not-found"),
        ("/demo/w=40/@local/loop.jpg", 404, "source-not-found"),
        ("/demo/-/@local/out.jpg", 404, "source-not-found"),
        ("/demo/-/@local/door/secret.jpg", 404, "source-not-found"),
        ("/demo/-/@local/../secret.jpg", 400, "bad-path"),
    ] {
        let answer = ask(&edge, target.as_bytes()).await;
        assert_eq!((target, answer.status.as_u16(), problem_code(&answer).as_str()), (target, status, code));
    }
    assert_eq!(ask(&edge, b"/demo/w=40/@local/inside.jpg").await.status, 200, "a link inside the folder is fine");
    warm.assert_hit(&edge).await;
}
