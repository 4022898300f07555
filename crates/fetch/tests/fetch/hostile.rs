//! Servers that stall, lie, cut off and blow up.

use std::time::{Duration, Instant};

use fetch::{FetchError, GetOptions, Range};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use std::io::Write as _;

use crate::support::{Act, Server, body, fetcher, ok, send};

const LIMIT: u64 = 1 << 20;

/// What comes of an answer made of these acts, and that it does not take long.
async fn outcome(acts: Vec<Act>) -> Result<Vec<u8>, FetchError> {
    let server = Server::start(move |_| acts.clone()).await;
    let started = Instant::now();
    let outcome = body(&fetcher(&server), &server.url("/")).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    outcome
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

#[tokio::test]
async fn slow_headers() {
    for acts in [
        vec![Act::Hang],
        vec![send("HTTP/1.1 200 OK\r\nx: "), Act::Hang],
        vec![send("HTTP/1.1 200 OK\r\nx: "), Act::Trickle(b'a', 20)],
    ] {
        let error = outcome(acts).await.expect_err("slow");
        assert!(matches!(error, FetchError::TimedOut { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn slow_bodies() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
    for acts in [
        vec![send(head), Act::Hang],
        vec![send(head), send([7; 5000]), Act::Hang],
        vec![send(head), Act::Trickle(b'a', 20)],
        vec![send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n"), Act::Hang],
    ] {
        let error = outcome(acts).await.expect_err("slow");
        assert!(matches!(error, FetchError::TimedOut { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_deadline_holds_for_header_and_body() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
    for acts in [vec![Act::Hang], vec![send(head), Act::Hang]] {
        let server = Server::start(move |_| acts.clone()).await;
        let deadline = Instant::now() + Duration::from_millis(100);
        let options = GetOptions { deadline: Some(deadline), ..GetOptions::new(LIMIT) };
        let fetched = async { fetcher(&server).get(&server.url("/"), &options).await?.body.collect().await };
        let error = fetched.await.expect_err("too late");
        assert!(matches!(error, FetchError::Deadline), "{error:?}");
    }
}

#[tokio::test]
async fn a_slow_reader_is_not_the_servers_fault() {
    use futures_util::StreamExt as _;
    let server = Server::start(|_| ok("", vec![1; 900_000])).await;
    let mut body = fetcher(&server).get(&server.url("/"), &GetOptions::new(LIMIT)).await.expect("a body").body;
    let mut got = 0;
    while let Some(chunk) = body.next().await {
        got += chunk.expect("no time limit for us").len();
        if got < 30_000 {
            tokio::time::sleep(Duration::from_millis(350)).await;
        }
    }
    assert_eq!(got, 900_000);
}

#[tokio::test]
async fn bodies_that_end_early() {
    for (acts, sent) in [
        (vec![send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc")], 3),
        (vec![send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")], 0),
        (vec![send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n")], 5),
    ] {
        let error = outcome(acts).await.expect_err("cut off");
        assert!(matches!(error, FetchError::Truncated { got, .. } if got == sent), "{error:?}");
    }
}

#[tokio::test]
async fn a_body_longer_than_announced_is_cut_to_it() {
    let acts = vec![send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcdef")];
    assert_eq!(outcome(acts).await.expect("three bytes"), b"abc");
}

#[tokio::test]
async fn connections_that_break() {
    for acts in [vec![Act::Reset], vec![], vec![send("HTTP/1.1 200 OK\r\n"), Act::Reset]] {
        let error = outcome(acts).await.expect_err("no answer");
        assert!(matches!(error, FetchError::Broken { .. }), "{error:?}");
    }
    let acts = vec![send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"), Act::Reset];
    let error = outcome(acts).await.expect_err("reset");
    assert!(matches!(error, FetchError::Truncated { .. }), "{error:?}");
}

#[tokio::test]
async fn headers_without_end() {
    let line = format!("x: {}\r\n", "a".repeat(1000));
    let head = format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", line.repeat(90));
    let error = outcome(vec![send(head)]).await.expect_err("too large");
    assert!(matches!(error, FetchError::BadAnswer { .. }), "{error:?}");
    let head = format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "a: b\r\n".repeat(500));
    let error = outcome(vec![send(head)]).await.expect_err("too many");
    assert!(matches!(error, FetchError::BadAnswer { .. }), "{error:?}");
}

#[tokio::test]
async fn answers_that_are_not_http() {
    for text in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 0-1/9\r\ncontent-length: 2\r\n\r\nab",
    ] {
        let error = outcome(vec![send(text)]).await.expect_err(text);
        assert!(matches!(error, FetchError::BadAnswer { .. }), "{text}: {error:?}");
    }
}

#[tokio::test]
async fn large_bodies_are_refused_by_their_announcement_or_where_the_limit_is() {
    let announced = vec![send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", LIMIT + 1)), Act::Hang];
    let chunk = vec![b'x'; 0x10000];
    let mut endless = vec![send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")];
    for _ in 0..17 {
        endless.extend([send("10000\r\n"), send(&chunk), send("\r\n")]);
    }
    endless.push(Act::Hang);
    let until_close = vec![send("HTTP/1.1 200 OK\r\n\r\n"), send(vec![b'x'; 2 << 20])];
    for acts in [announced, endless, until_close] {
        let error = outcome(acts).await.expect_err("too large");
        assert!(matches!(error, FetchError::TooLarge { limit: LIMIT }), "{error:?}");
    }
}

#[tokio::test]
async fn compressed_bodies_are_decoded_up_to_the_limit() {
    let plain: Vec<u8> = (0..LIMIT).map(|n| (n % 251) as u8).collect();
    assert_eq!(outcome(ok("content-encoding: gzip\r\n", gzip(&plain))).await.expect("fits"), plain);
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(&plain[..1000]).expect("memory");
    let zlib = zlib.finish().expect("memory");
    assert_eq!(outcome(ok("content-encoding: Deflate\r\n", zlib)).await.expect("fits"), plain[..1000]);
    let bomb = gzip(&vec![0; 200 << 20]);
    assert!((bomb.len() as u64) < LIMIT, "the bomb is small on the wire");
    let error = outcome(ok("content-encoding: gzip\r\n", bomb)).await.expect_err("a bomb");
    assert!(matches!(error, FetchError::TooLarge { limit: LIMIT }), "{error:?}");
}

#[tokio::test]
async fn codings_that_are_broken_or_unknown_are_errors() {
    let whole = gzip(b"picture");
    let nested = gzip(&whole);
    for (lines, bytes) in [
        ("content-encoding: br\r\n", b"x".to_vec()),
        ("content-encoding: gzip, gzip\r\n", nested.clone()),
        ("content-encoding: gzip\r\ncontent-encoding: gzip\r\n", nested),
        ("content-encoding: gzip\r\n", whole[..whole.len() - 4].to_vec()),
        ("content-encoding: gzip\r\n", b"not gzip at all".to_vec()),
        ("content-encoding: gzip\r\n", Vec::new()),
    ] {
        let error = outcome(ok(lines, bytes)).await.expect_err(lines);
        assert!(matches!(error, FetchError::Encoding { .. }), "{lines}: {error:?}");
    }
}

#[tokio::test]
async fn a_range_that_is_another_one_or_too_short_is_an_error() {
    let answer = |range: &str, body: &str| {
        send(format!("HTTP/1.1 206 Partial Content\r\ncontent-range: {range}\r\nconnection: close\r\n\r\n{body}"))
    };
    for (act, is_right) in [
        (answer("bytes 2-5/10", "2345"), true),
        (answer("bytes 2-5/10", "234"), false),
        (answer("bytes 2-5/10", "23456"), false),
        (answer("bytes 0-3/10", "0123"), false),
        (answer("bytes 2-5/*", "2345"), false),
    ] {
        let server = Server::start(move |_| vec![act.clone()]).await;
        let options = GetOptions { range: Some(Range::Span(2, 5)), ..GetOptions::new(LIMIT) };
        let fetched = async { fetcher(&server).get(&server.url("/"), &options).await?.body.collect().await };
        match fetched.await {
            Ok(bytes) => assert!(is_right && bytes == "2345"),
            Err(error) => {
                let fits = matches!(error, FetchError::BadAnswer { .. } | FetchError::Truncated { .. });
                assert!(!is_right && fits, "{error:?}");
            }
        }
    }
}
