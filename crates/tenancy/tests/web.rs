//! URL patterns and HTTP origins: what they let through.

use tenancy::{OriginKind, PolicyFile, UrlPattern};
use transform_url::OriginName;
use url::Url;

#[track_caller]
fn check(pattern: &str, matching: &[&str], others: &[&str]) {
    let parsed = UrlPattern::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    for (urls, expected) in [(matching, true), (others, false)] {
        for text in urls {
            // A text that is no URL is refused before any pattern is asked.
            let matches = Url::parse(text).is_ok_and(|url| parsed.matches(&url));
            assert_eq!(matches, expected, "{text} against {pattern}");
        }
    }
}

#[test]
fn a_host_and_a_folder() {
    check(
        "https://www.example.com/img/*",
        &[
            "https://www.example.com/img/a.jpg",
            "https://www.example.com/img/",
            "https://www.example.com/img/b/c.jpg?w=1",
            "HTTPS://WWW.Example.COM/img/a.jpg",
            "https://www.example.com:443/img/a.jpg",
            "https:/www.example.com/img/a.jpg",
            "https://www.ex%61mple.com/img/a.jpg",
            "https://www.example.com/x/../img/a.jpg",
        ],
        &[
            "http://www.example.com/img/a.jpg",
            "https://www.example.com/img",
            "https://www.example.com/image/a.jpg",
            "https://www.example.com/IMG/a.jpg",
            "https://www.example.com/%69mg/a.jpg",
            "https://www.example.com/img/../secret",
            "https://www.example.com/img/%2e%2e/secret",
            "https://www.example.com/img/..%2fsecret",
            "https://www.example.com/img/a%2f..%2f..%2fsecret",
            "https://www.example.com/img/.%2E%5csecret",
            "https://www.example.com/img\\..\\secret",
            "https://www.example.com/?/img/a.jpg",
            "https://www.example.com/#/img/a.jpg",
            "https://www.example.com:8443/img/a.jpg",
            "https://www.example.com:80/img/a.jpg",
            "https://www.example.com./img/a.jpg",
            "https://www.example.com.evil.example/img/a.jpg",
            "https://www.example.com@evil.example/img/a.jpg",
            "https://www.example.com:x@evil.example/img/a.jpg",
            "https://www.example.com%2f@evil.example/img/a.jpg",
            "https://user@www.example.com/img/a.jpg",
            "https://evil.example\\@www.example.com/img/a.jpg",
            "https://evil.example\\.www.example.com/img/a.jpg",
            "https://evil.example#@www.example.com/img/a.jpg",
            "https://evil.example?@www.example.com/img/a.jpg",
            "https://evil.example/https://www.example.com/img/a.jpg",
            "https://evilwww.example.com/img/a.jpg",
            "https://example.com/img/a.jpg",
            "https://a.www.example.com/img/a.jpg",
            "https://www.example.com\u{ff0f}.evil.example/img/a.jpg",
            "https://ｅvil.example/img/a.jpg",
            "file://www.example.com/img/a.jpg",
            "s3://www.example.com/img/a.jpg",
        ],
    );
}

#[test]
fn subdomains_a_port_and_one_file() {
    check(
        "https://*.example.com/*",
        &["https://a.example.com/", "https://a.b.example.com/x", "https://A.EXAMPLE.com/x"],
        &[
            "https://example.com/x",
            "https://.example.com/x",
            "https://evilexample.com/x",
            "https://a.example.com.evil.example/x",
            "https://a.example.com./x",
            "https://a.example.org/x",
        ],
    );
    check(
        "http://example.com:8080/a.jpg",
        &["http://example.com:8080/a.jpg?v=2"],
        &["http://example.com/a.jpg", "http://example.com:8080/a.jpg/", "http://example.com:8080/a.jpgx"],
    );
    check(
        "http://127.0.0.1:9000/*",
        &["http://127.0.0.1:9000/a", "http://0x7f.1:9000/a"],
        &["http://127.0.0.2:9000/a", "http://x.127.0.0.1:9000/a"],
    );
    check(
        "https://bücher.example/*",
        &["https://xn--bcher-kva.example/x", "https://BÜCHER.example/x"],
        &["https://bucher.example/x"],
    );
}

#[test]
fn what_could_be_misread_is_no_pattern() {
    for text in [
        "",
        "*",
        "example.com/*",
        "//example.com/*",
        "ftp://example.com/*",
        "*://example.com/*",
        "https://example.com",
        "https://example.com*",
        "https://*/img/*",
        "https://*.com/*",
        "https://*.127.0.0.1/*",
        "https://*example.com/*",
        "https://a.*.example.com/*",
        "https://example.com/img*",
        "https://example.com/*/a",
        "https://example.com/img/*?x=1",
        "https://user@example.com/*",
        "https://example.com/a#b",
        "https://example.com/../*",
        "https://example.com/%2e%2e/*",
        "https:///img/*",
        "https://exa mple.com/*",
        "https://example.com\\img/*",
    ] {
        assert!(UrlPattern::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_path_of_an_origin_is_encoded_once_and_stays_below_the_base() {
    let text = "[tenants.a.origins.web.http]\nbase_url = 'https://Example.com/img/'\nheaders.x-key = 'very secret'";
    let policy = PolicyFile::load(text).expect("is a policy");
    assert!(!format!("{policy:?}").contains("very secret"), "a secret is never printed");
    let tenant = policy.first().expect("there");
    let origin = &tenant.origins[&OriginName::new("web").expect("a name")];
    assert_eq!(origin.identity(), "http\nhttps://example.com/img/");
    let OriginKind::Http(http) = &origin.kind else { panic!("{origin:?}") };
    for (path, expected) in [
        ("a/b.jpg", "a/b.jpg"),
        ("a b+c.jpg", "a%20b+c.jpg"),
        ("ü", "%C3%BC"),
        ("a?b#c", "a%3Fb%23c"),
        ("100%.jpg", "100%25.jpg"),
        ("%2e%2e/x", "%252e%252e/x"),
        ("..%2fx", "..%252fx"),
        ("..\\x", "..%5Cx"),
        ("../../x", "x"),
        ("./x", "x"),
        ("https://evil.example/x", "https://evil.example/x"),
        ("@evil.example/x", "@evil.example/x"),
    ] {
        assert_eq!(http.url_of(path).as_str(), format!("https://example.com/img/{expected}"), "{path}");
    }
    for (url, expected) in [
        ("https://example.com/other", true),
        ("http://example.com/img/a", false),
        ("https://example.com:8443/", false),
        ("https://www.example.com/", false),
        ("https://example.com./", false),
    ] {
        assert_eq!(http.is_own_host(&Url::parse(url).expect("a URL")), expected, "{url}");
    }
}
