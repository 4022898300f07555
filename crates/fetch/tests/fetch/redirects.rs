//! Redirects: followed by our own code, each of them checked like a first URL.

use std::sync::Arc;

use fetch::{FetchConfig, FetchError, Fetcher, HeaderMap, Url};

use crate::support::{Names, Server, body, config, fetcher, ok, redirect_to};

/// Redirects to the query of the target; other targets answer with it.
fn directed(head: &str) -> Vec<crate::support::Act> {
    let target = head.split(' ').nth(1).unwrap_or_default();
    match target.split_once('?') {
        Some((_, location)) => redirect_to(location),
        None => ok("", target),
    }
}

#[tokio::test]
async fn a_few_are_followed() {
    let server = Server::start(|head| match head.split(' ').nth(1) {
        Some("/0") => ok("", "there"),
        Some(path) => redirect_to(&format!("/{}", path[1..].parse::<u8>().expect("a number") - 1)),
        None => Vec::new(),
    })
    .await;
    let fetcher = fetcher(&server);
    assert_eq!(body(&fetcher, &server.url("/3")).await.expect("three"), b"there");
    assert!(matches!(body(&fetcher, &server.url("/4")).await, Err(FetchError::TooManyRedirects { limit: 3 })));
}

#[tokio::test]
async fn a_loop_ends() {
    let server = Server::start(|_| redirect_to("/")).await;
    assert!(matches!(body(&fetcher(&server), &server.url("/")).await, Err(FetchError::TooManyRedirects { .. })));
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn none_leads_to_a_private_address_or_away_from_the_web() {
    let server = Server::start(directed).await;
    let port = server.address.port();
    let names = Names::new(&[("public.example", &[&["127.0.0.2"]]), ("private.example", &[&["127.0.0.1"]])]);
    let front = Server::start_at(&format!("127.0.0.2:{port}"), directed).await;
    let fetcher = Fetcher::new(config(&front, &["127.0.0.2"], &names));
    for location in [
        format!("http://127.0.0.1:{port}/x"),
        format!("http://2130706433:{port}/x"),
        format!("//[::ffff:127.0.0.1]:{port}/x"),
        format!("http://private.example:{port}/x"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://[fd00:ec2::254]/".to_owned(),
        "http://public.example:22/".to_owned(),
        "http://user@public.example/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "s3://bucket/key".to_owned(),
        "local:///etc/passwd".to_owned(),
        "https://".to_owned(),
    ] {
        let url: Url = format!("http://public.example:{port}/?{location}").parse().expect("a URL");
        let error = body(&fetcher, &url).await.expect_err(&location);
        let refused = matches!(
            error,
            FetchError::AddressRefused(_) | FetchError::RedirectRefused { .. } | FetchError::Url { .. }
        );
        assert!(refused, "{location}: {error:?}");
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn the_rule_is_asked_at_every_hop() {
    let server = Server::start(directed).await;
    let rule = |url: &Url| !url.path().starts_with("/private/");
    let fetcher =
        Fetcher::new(FetchConfig { rule: Arc::new(rule), ..config(&server, &["127.0.0.1"], &Names::default()) });
    assert_eq!(body(&fetcher, &server.url("/?/public/a")).await.expect("allowed"), b"/public/a");
    assert!(matches!(body(&fetcher, &server.url("/private/a")).await, Err(FetchError::NotAllowed)));
    assert_eq!(server.requests().len(), 2);
    assert!(matches!(body(&fetcher, &server.url("/?/private/a")).await, Err(FetchError::NotAllowed)));
    assert_eq!(server.requests().len(), 3, "the second URL is never asked for");
}

#[tokio::test]
async fn secrets_stay_with_the_host_they_are_for() {
    let other = Server::start_at("127.0.0.2:0", |_| ok("", "other")).await;
    let elsewhere = format!("http://{}/", other.address);
    let server = Server::start(move |head| match head.split(' ').nth(1) {
        Some("/away") => redirect_to(&elsewhere),
        Some("/here") => redirect_to("/there"),
        _ => ok("", "same"),
    })
    .await;
    let mut config = config(&server, &["127.0.0.1", "127.0.0.2"], &Names::default());
    config.ports.push(other.address.port());
    config.headers = HeaderMap::from_iter([("x-key".parse().expect("a name"), "s3cret".parse().expect("a value"))]);
    let fetcher = Fetcher::new(config);
    assert_eq!(body(&fetcher, &server.url("/here")).await.expect("same host"), b"same");
    assert!(server.requests().iter().all(|head| head.contains("x-key: s3cret")));
    assert_eq!(body(&fetcher, &server.url("/away")).await.expect("another host"), b"other");
    assert!(!other.requests()[0].contains("s3cret"));
    assert!(!format!("{fetcher:?}").contains("s3cret"));
}
