//! What is sent, and what ordinary answers mean.

use std::time::Duration;

use fetch::{FetchError, GetOptions, Range, Validators};

use crate::support::{Server, body, fetcher, ok, send};

#[tokio::test]
async fn a_request_carries_what_is_ours_and_nothing_else() {
    let server = Server::start(|_| ok("set-cookie: a=b\r\n", "x")).await;
    let fetcher = fetcher(&server);
    for _ in 0..2 {
        body(&fetcher, &server.url("/a%20b/c?d=e#f")).await.expect("an answer");
    }
    let expected = format!(
        "GET /a%20b/c?d=e HTTP/1.1\r\nuser-agent: Calotype\r\naccept: */*\r\naccept-encoding: identity\r\n\
         cdn-loop: calotype\r\nhost: {}\r\n\r\n",
        server.address
    );
    assert_eq!(server.requests(), [expected.clone(), expected], "no cookie comes back");
}

#[tokio::test]
async fn conditions_and_what_is_known_of_the_answer() {
    let server = Server::start(|head| {
        let lines = "etag: \"v1\"\r\nlast-modified: Thu, 01 Jan 1970 00:00:10 GMT\r\ncontent-type: image/png\r\n\
                     cache-control: max-age=7\r\n";
        if head.contains("if-none-match: \"v1\"") {
            vec![send("HTTP/1.1 304 Not Modified\r\ncache-control: max-age=9\r\nconnection: close\r\n\r\n")]
        } else {
            ok(lines, "picture")
        }
    })
    .await;
    let fetcher = fetcher(&server);
    let response = fetcher.get(&server.url("/"), &GetOptions::new(100)).await.expect("an answer");
    assert_eq!((response.meta.size, response.body.len(), response.range), (Some(7), Some(7), None));
    assert_eq!(response.meta.content_type.as_deref(), Some("image/png"));
    assert_eq!(response.meta.freshness.max_age, Some(Duration::from_secs(7)));
    let validators = Validators { etag: response.meta.etag, last_modified: response.meta.last_modified };
    let options = GetOptions { if_changed: Some(validators), ..GetOptions::new(100) };
    let error = fetcher.get(&server.url("/"), &options).await.expect_err("unchanged");
    let FetchError::NotModified(meta) = error else { panic!("{error:?}") };
    assert_eq!(meta.freshness.max_age, Some(Duration::from_secs(9)));
    assert!(server.requests()[1].contains("if-modified-since: Thu, 01 Jan 1970 00:00:10 GMT"));
    // Some servers take no conditions and send the same again.
    let weak = Validators { etag: Some("W/\"v1\"".into()), last_modified: None };
    let options = GetOptions { if_changed: Some(weak), ..GetOptions::new(100) };
    assert!(matches!(fetcher.get(&server.url("/"), &options).await, Err(FetchError::NotModified { .. })));
    let head = fetcher.head(&server.url("/"), &GetOptions::new(100)).await.expect("a header");
    assert_eq!((head.size, head.etag.as_deref()), (Some(7), Some("\"v1\"")));
}

#[tokio::test]
async fn ranges_as_the_server_likes() {
    let server = Server::start(|head| match head.split(' ').nth(1) {
        Some("/behind") => vec![send("HTTP/1.1 416 X\r\ncontent-range: bytes */10\r\ncontent-length: 0\r\n\r\n")],
        Some("/none") => ok("", "0123456789"),
        _ => vec![send("HTTP/1.1 206 X\r\ncontent-range: bytes 4-9/10\r\ncontent-length: 6\r\n\r\n456789")],
    })
    .await;
    let fetcher = fetcher(&server);
    let options = GetOptions { range: Some(Range::From(4)), ..GetOptions::new(100) };
    let part = fetcher.get(&server.url("/"), &options).await.expect("a part");
    assert_eq!(part.meta.size, Some(10));
    assert_eq!(part.range.map(|range| (range.first, range.last)), Some((4, 9)));
    assert_eq!(part.body.collect().await.expect("whole"), "456789");
    let whole = fetcher.get(&server.url("/none"), &options).await.expect("the whole");
    assert_eq!((whole.range, whole.body.collect().await.expect("whole").len()), (None, 10));
    let behind = fetcher.get(&server.url("/behind"), &options).await.expect_err("behind");
    assert!(matches!(behind, FetchError::RangeNotSatisfiable { size: Some(10) }), "{behind:?}");
}

#[tokio::test]
async fn other_statuses_are_errors_with_nothing_of_the_server_in_them() {
    for status in [204, 304, 400, 401, 403, 404, 410, 416, 429, 500, 503] {
        let text = format!("HTTP/1.1 {status} Secret\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let server = Server::start(move |_| vec![send(&text)]).await;
        let error = body(&fetcher(&server), &server.url("/")).await.expect_err("no success");
        assert!(matches!(error, FetchError::Status(found) if found == status), "{error:?}");
        assert!(!error.to_string().contains("Secret"));
    }
}

#[tokio::test]
async fn a_server_without_head_is_asked_with_get() {
    let server = Server::start(|head| {
        if head.starts_with("HEAD") {
            vec![send("HTTP/1.1 405 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")]
        } else {
            ok("etag: \"x\"\r\n", "body")
        }
    })
    .await;
    let meta = fetcher(&server).head(&server.url("/"), &GetOptions::new(100)).await.expect("known");
    assert_eq!((meta.size, meta.etag.as_deref()), (Some(4), Some("\"x\"")));
}
