//! What is posted: guarded like what is fetched, sent once, and not one byte more of the answer is read than is wanted.

use std::time::{Duration, Instant};

use bytes::Bytes;
use fetch::{FetchError, Fetcher, HeaderMap, PostOptions, Posted, Url};

use crate::support::{Act, Names, Server, config, fetcher, ok, redirect_to, send};

fn options(deadline: Duration, body_time: Duration) -> PostOptions {
    let headers = [("content-type", "application/json"), ("webhook-id", "1")];
    let headers = headers.map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")));
    PostOptions {
        headers: HeaderMap::from_iter(headers),
        deadline: Instant::now() + deadline,
        body_time,
        answer_bytes_max: 1000,
    }
}

async fn post_to(fetcher: &Fetcher, url: &Url) -> Result<Posted, FetchError> {
    let options = options(Duration::from_millis(700), Duration::from_millis(700));
    fetcher.post(url, Bytes::from_static(b"{\"a\":1}"), &options).await
}

async fn post(server: &Server) -> Result<Posted, FetchError> {
    post_to(&fetcher(server), &server.url("/hook?x=1")).await
}

#[tokio::test]
async fn the_body_is_sent_with_its_headers_and_ours() {
    let server = Server::start(|_| ok("", "thanks")).await;
    let posted = post(&server).await.expect("taken");
    assert_eq!((posted.status.as_u16(), &posted.answer[..], posted.retry_after), (200, &b"thanks"[..], None));
    let request = server.requests().remove(0);
    assert!(request.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{request}");
    for line in ["content-type: application/json", "webhook-id: 1", "content-length: 7", "cdn-loop: calotype"] {
        assert!(request.contains(&format!("\r\n{line}\r\n")), "{line}: {request}");
    }
    assert!(request.ends_with("\r\n\r\n{\"a\":1}"), "{request}");
}

#[tokio::test]
async fn any_status_is_an_answer_and_no_redirect_is_followed() {
    let server = Server::start(|_| redirect_to("/elsewhere")).await;
    assert_eq!(post(&server).await.expect("an answer").status.as_u16(), 302);
    assert_eq!(server.requests().len(), 1);
    let busy = "HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n";
    let server = Server::start(move |_| vec![send(busy)]).await;
    let posted = post(&server).await.expect("an answer");
    assert_eq!((posted.status.as_u16(), posted.retry_after), (503, Some(Duration::from_secs(7))));
}

#[tokio::test]
async fn the_beginning_of_an_answer_is_read_and_its_end_is_no_matter() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n";
    for (rest, expected) in [
        (vec![send([b'x'; 100]), Act::Reset], 100),
        (vec![send([b'x'; 100]), Act::Hang], 100),
        (vec![Act::Trickle(b'x', 1)], 1),
        (vec![send(vec![b'x'; 10_000_000])], 1000),
    ] {
        let acts = [vec![send(head)], rest].concat();
        let server = Server::start(move |_| acts.clone()).await;
        let started = Instant::now();
        let posted = post(&server).await.expect("the header has come");
        assert_eq!(posted.status.as_u16(), 200);
        // A reset may overtake bytes that were sent before it.
        let length = posted.answer.len();
        assert!(length <= 1000 && (length >= expected || expected == 100), "{length} of {expected}");
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn the_body_has_the_time_that_it_is_given_and_no_more_than_the_deadline() {
    let acts = [send("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n"), Act::Trickle(b'x', 100)];
    let server = Server::start(move |_| acts.to_vec()).await;
    let read = async |deadline, body_time| {
        let options = options(Duration::from_millis(deadline), Duration::from_millis(body_time));
        let posted = fetcher(&server).post(&server.url("/"), Bytes::new(), &options).await;
        posted.expect("the header has come").answer.len()
    };
    assert_eq!(read(60_000, 60_000).await, 50, "all of it, though it takes five seconds");
    for (deadline, body_time) in [(60_000, 500), (500, 60_000)] {
        let length = read(deadline, body_time).await;
        assert!(length < 50, "{length} in {deadline} and {body_time} ms");
    }
}

#[tokio::test]
async fn without_a_header_in_time_there_is_no_answer() {
    for (acts, is_late) in [
        (vec![Act::Hang], true),
        (vec![send("HTTP/1.1 200 OK\r\nx: "), Act::Trickle(b'a', 20)], true),
        (vec![Act::Reset], false),
        (Vec::new(), false),
    ] {
        let server = Server::start(move |_| acts.clone()).await;
        let error = post(&server).await.expect_err("no answer");
        let is_expected = match error {
            FetchError::Deadline => is_late,
            FetchError::Broken { .. } => !is_late,
            _ => false,
        };
        assert!(is_expected, "{error:?}");
        assert_eq!(server.requests().len(), 1, "it is not sent again");
    }
}

#[tokio::test]
async fn nothing_is_posted_to_where_nothing_is_fetched_from() {
    let server = Server::start(|_| ok("", "")).await;
    let port = server.address.port();
    let names = Names::new(&[("private.example", &[&["127.0.0.1"]]), ("both.example", &[&["127.0.0.1", "8.8.8.8"]])]);
    let none_is_private = Fetcher::new(config(&server, &[], &names));
    for host in ["127.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "private.example", "both.example"] {
        let url = format!("http://{host}:{port}/").parse().expect("a URL");
        let error = post_to(&none_is_private, &url).await.expect_err(host);
        assert!(matches!(error, FetchError::AddressRefused(_)), "{host}: {error:?}");
    }
    for url in ["http://8.8.8.8:1/", "ftp://8.8.8.8/", "http://user@8.8.8.8/"] {
        let error = post_to(&none_is_private, &url.parse().expect("a URL")).await.expect_err(url);
        assert!(matches!(error, FetchError::Url { .. }), "{url}: {error:?}");
    }
    let mut config = config(&server, &["127.0.0.1"], &names);
    config.rule = std::sync::Arc::new(|url| url.scheme() == "https");
    assert!(matches!(config.check(&server.url("/")), Err(FetchError::NotAllowed)));
    let error = post_to(&Fetcher::new(config), &server.url("/")).await.expect_err("not https");
    assert!(matches!(error, FetchError::NotAllowed), "{error:?}");
    assert!(server.requests().is_empty());
}
