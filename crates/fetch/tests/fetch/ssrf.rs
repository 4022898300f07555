//! Every way known to us of making a server fetch what it should not.

use fetch::{FetchError, Fetcher, GetOptions, Url, parse_url};

use crate::support::{Names, Server, body, config, ok};

/// Spellings of addresses and hosts that must not be reached, each with the port of a server that would answer.
const FORBIDDEN: [&str; 49] = [
    "http://127.0.0.1",
    "http://127.1",
    "http://127.0.1",
    "http://2130706433",
    "http://0x7f000001",
    "http://0x7f.0.0.1",
    "http://0x7f.1",
    "http://017700000001",
    "http://0177.0.0.1",
    "http://127.0.0.1.",
    "http://127.0.0.0x1",
    "http://%31%32%37.0.0.1",
    "http://127\u{3002}0\u{3002}0\u{3002}1",
    "http://\u{ff11}\u{ff12}\u{ff17}.0.0.1",
    "http://\u{2460}\u{2461}\u{2466}.0.0.1",
    "http://0",
    "http://0.0.0.0",
    "http://10.1",
    "http://0xa.1.2.3",
    "http://167772161",
    "http://169.254.169.254",
    "http://2852039166",
    "http://0xa9fea9fe",
    "http://0251.0376.0251.0376",
    "http://0300.0250.0.1",
    "http://100.64.0.1",
    "http://192.0.2.1",
    "http://198.18.0.1",
    "http://224.0.0.1",
    "http://255.255.255.255",
    "http://[::]",
    "http://[::1]",
    "http://[0:0:0:0:0:0:0:1]",
    "http://[0000::1]",
    "http://[::ffff:127.0.0.1]",
    "http://[::ffff:7f00:1]",
    "http://[::127.0.0.1]",
    "http://[64:ff9b::127.0.0.1]",
    "http://[64:ff9b::a9fe:a9fe]",
    "http://[64:ff9b:1::1]",
    "http://[2002:7f00:1::]",
    "http://[2001:0:7f00:1::]",
    "http://[2606:4700::5efe:7f00:1]",
    "http://[fc00::1]",
    "http://[fd00:ec2::254]",
    "http://[fe80::1]",
    "http://[ff02::1]",
    "http://[2001:db8::1]",
    "http://localhost",
];

/// What is no URL that is fetched, whatever it leads to.
const NO_URLS: [&str; 23] = [
    "file:///etc/passwd",
    "s3://bucket/key",
    "ftp://example.com/",
    "gopher://example.com/",
    "data:image/png;base64,AA",
    "javascript:alert(1)",
    "unix:/run/x",
    "http://user@example.com/",
    "http://user:password@example.com/",
    "http://:password@example.com/",
    "https://example.com%40evil.example@127.0.0.1/",
    "http://example.com:22/",
    "http://example.com:6379/",
    "https://example.com:8443/",
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://1.2.3.4.5/",
    "http://256.256.256.256/",
    "http://0x100000000/",
    "http:\\\\127.0.0.1\\",
    "http://example.com\t.evil/",
    "http://exa mple.com/",
    "http://",
];

#[tokio::test]
async fn no_spelling_of_a_private_address_is_reached() {
    let server = Server::start(|_| ok("", "secret")).await;
    let names = Names::new(&[("localhost", &[&["127.0.0.1"]])]);
    let fetcher = Fetcher::new(config(&server, &[], &names));
    for origin in FORBIDDEN {
        let url =
            parse_url(&format!("{origin}:{}/x", server.address.port())).unwrap_or_else(|e| panic!("{origin}: {e}"));
        let error = body(&fetcher, &url).await.expect_err(origin);
        assert!(matches!(error, FetchError::AddressRefused(_)), "{origin}: {error:?}");
        assert!(!error.to_string().contains(|c: char| c.is_ascii_digit()), "{error}");
    }
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn what_is_no_plain_web_url_is_not_fetched() {
    let server = Server::start(|_| ok("", "secret")).await;
    let names = Names::new(&[("example.com", &[&["127.0.0.1"]])]);
    let fetcher = Fetcher::new(config(&server, &["127.0.0.1"], &names));
    for text in NO_URLS {
        let fetched = match parse_url(text) {
            Ok(url) => body(&fetcher, &url).await,
            Err(error) => Err(error),
        };
        let error = fetched.expect_err(text);
        assert!(matches!(error, FetchError::Url { .. }), "{text}: {error:?}");
    }
    assert!(server.requests().is_empty() && names.asked().is_empty());
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_checked_each_time() {
    let private = Server::start(|_| ok("", "secret")).await;
    // 127.0.0.2 stands for a public address: it is listed, and the only one that is.
    let public = Server::start_at(&format!("127.0.0.2:{}", private.address.port()), |_| ok("", "public")).await;
    let names = Names::new(&[("rebind.example", &[&["127.0.0.2"], &["127.0.0.1"]])]);
    let fetcher = Fetcher::new(config(&public, &["127.0.0.2"], &names));
    let url: Url = format!("http://rebind.example:{}/", public.address.port()).parse().expect("a URL");
    assert_eq!(body(&fetcher, &url).await.expect("public"), b"public");
    assert_eq!(names.asked().len(), 1, "the name is asked for once: what was checked is what is connected to");
    assert!(matches!(body(&fetcher, &url).await, Err(FetchError::AddressRefused(_))));
    assert!(private.requests().is_empty());
}

#[tokio::test]
async fn a_name_that_is_public_and_private_at_once_is_refused() {
    let private = Server::start(|_| ok("", "secret")).await;
    let public = Server::start_at(&format!("127.0.0.2:{}", private.address.port()), |_| ok("", "public")).await;
    let names = Names::new(&[
        ("first.example", &[&["127.0.0.2", "127.0.0.1"]]),
        ("last.example", &[&["127.0.0.1", "127.0.0.2"]]),
        ("six.example", &[&["::1", "127.0.0.2"]]),
        ("mapped.example", &[&["::ffff:127.0.0.1"]]),
        ("nat64.example", &[&["64:ff9b::7f00:1"]]),
        ("metadata.example", &[&["169.254.169.254"]]),
    ]);
    let fetcher = Fetcher::new(config(&public, &["127.0.0.2", "metadata.example"], &names));
    for host in ["first", "last", "six", "mapped", "nat64", "metadata"] {
        let url: Url = format!("http://{host}.example:{}/", public.address.port()).parse().expect("a URL");
        assert!(matches!(body(&fetcher, &url).await, Err(FetchError::AddressRefused(_))), "{host}");
    }
    assert!(private.requests().is_empty() && public.requests().is_empty());
}

#[tokio::test]
async fn a_dead_address_does_not_hide_a_live_one() {
    let server = Server::start(|_| ok("", "here")).await;
    let names = Names::new(&[("two.example", &[&["127.0.0.9", "127.0.0.1"]])]);
    let fetcher = Fetcher::new(config(&server, &["two.example"], &names));
    let url: Url = format!("http://two.example:{}/", server.address.port()).parse().expect("a URL");
    assert_eq!(body(&fetcher, &url).await.expect("the second answers"), b"here");
}

#[tokio::test]
async fn a_listed_host_is_reached_and_its_neighbour_is_not() {
    let server = Server::start(|_| ok("", "here")).await;
    let names = Names::new(&[("origin.internal", &[&["127.0.0.1"]]), ("db.internal", &[&["127.0.0.1"]])]);
    let fetcher = Fetcher::new(config(&server, &["origin.internal"], &names));
    let url = |host: &str| -> Url { format!("http://{host}:{}/", server.address.port()).parse().expect("a URL") };
    assert_eq!(body(&fetcher, &url("Origin.Internal")).await.expect("listed"), b"here");
    assert!(matches!(body(&fetcher, &url("db.internal")).await, Err(FetchError::AddressRefused(_))));
    assert!(matches!(body(&fetcher, &url("127.0.0.1")).await, Err(FetchError::AddressRefused(_))));
}

#[tokio::test]
async fn names_without_answers_are_unreachable() {
    let server = Server::start(|_| ok("", "")).await;
    let names = Names::new(&[("empty.example", &[&[]])]);
    let fetcher = Fetcher::new(config(&server, &[], &names));
    for host in ["empty.example", "unknown.example"] {
        let url: Url = format!("http://{host}/").parse().expect("a URL");
        let error = fetcher.get(&url, &GetOptions::new(1)).await.expect_err(host);
        assert!(matches!(error, FetchError::Unreachable { .. }), "{error:?}");
    }
}
