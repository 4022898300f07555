//! The native dialect: what is read, what is refused and with which code.

use transform_url::native::{self, Delivery, Request};
use transform_url::{Source, TenantSlug, URL_BYTES_MAX, UrlError};

fn parse(target: &str) -> Result<Request<'_>, UrlError> {
    native::parse(target.as_bytes(), None)
}

#[track_caller]
fn check_source(raw: &str, expected: Source) {
    let target = format!("/demo/w=1/{raw}");
    let source = parse(&target).expect("parses").source;
    assert_eq!(source, expected, "{raw}");
    // What is printed is read back as the same.
    let target = format!("/demo/w=1/{source}");
    assert_eq!(parse(&target).expect("parses again").source, expected, "{target}");
}

#[track_caller]
fn check_code(target: &str, expected: &str) {
    match parse(target) {
        Ok(request) => panic!("{target} was read as {request:?}"),
        Err(error) => assert_eq!(error.code(), expected, "{target}: {error}"),
    }
}

fn origin(path: &str) -> Source {
    Source::Origin { origin: transform_url::OriginName::new("local").expect("a name"), path: path.to_owned() }
}

#[test]
fn reads_each_kind_of_source() {
    check_source("beach.jpg", Source::Upload("beach.jpg".into()));
    check_source("a/b/c%20d.jpg", Source::Upload("a/b/c d.jpg".into()));
    check_source("a%2Fb", Source::Upload("a/b".into()));
    check_source("%40home/x", Source::Upload("@home/x".into()));
    check_source("b%C3%BCro.png", Source::Upload("büro.png".into()));
    check_source("100%25.jpg", Source::Upload("100%.jpg".into()));
    check_source("%252e%252e/x", Source::Upload("%2e%2e/x".into()));
    check_source("@local/a/b.jpg", origin("a/b.jpg"));
    check_source("@local/%40b.jpg", origin("@b.jpg"));
    check_source("...", Source::Upload("...".into()));
    // A question mark is a character like another once it is encoded.
    check_source("%3F.", Source::Upload("?.".into()));
    check_source("a%3F/..%3F", Source::Upload("a?/..?".into()));
}

#[test]
fn reads_urls_with_one_or_two_slashes_and_encoded() {
    let expected = Source::Url("https://example.com/a.jpg?x=1".into());
    for raw in [
        "https://example.com/a.jpg%3Fx=1",
        "https:/example.com/a.jpg%3Fx=1",
        "https%3A%2F%2Fexample.com%2Fa.jpg%3Fx=1",
        "HTTPS://example.com/a.jpg%3Fx=1",
    ] {
        check_source(raw, expected.clone());
    }
    check_source("https://example.com/a%3Fup=/../b", Source::Url("https://example.com/a?up=/../b".into()));
    check_source("http%3A/example.com/a", Source::Url("http://example.com/a".into()));
    // Not a URL: no slash after the colon.
    check_source("http%3Ax", Source::Upload("http:x".into()));
    check_source("ftp://x/y".replace("//", "/").as_str(), Source::Upload("ftp:/x/y".into()));
}

#[test]
fn reads_the_original() {
    assert_eq!(parse("/demo/-/a.jpg").expect("parses").delivery, Delivery::Original);
}

#[test]
fn reads_the_query() {
    let request = parse("/demo/w=1/a.jpg?exp=1700000000&kid=k1&sig=abc-_").expect("parses");
    assert_eq!(request.signature.expires, Some(1_700_000_000));
    assert_eq!(request.signature.key, Some("k1"));
    assert_eq!(request.signature.signature, Some("abc-_"));
    assert_eq!(request.signed_path, "/w=1/a.jpg");
}

#[test]
fn a_tenants_own_host_has_no_tenant_part() {
    let tenant = TenantSlug::new("shop").expect("a slug");
    let request = native::parse(b"/w=1/@local/a.jpg", Some(&tenant)).expect("parses");
    assert_eq!((request.tenant, request.source), (tenant, origin("a.jpg")));
    assert_eq!(request.signed_path, "/w=1/@local/a.jpg");
}

#[test]
fn refuses_paths_of_another_shape() {
    for target in [
        "",
        "demo/w=1/a",
        "/",
        "/demo",
        "/demo/",
        "/demo/w=1",
        "/demo/w=1/",
        "/demo//a.jpg",
        "/Demo/w=1/a",
        "/-x/w=1/a",
        "/demo/w=1/@local",
        "/demo/w=1/@local/",
        "/demo/w=1/@/x",
        "/demo/w=1/@Lo/x",
        "/demo/w=1/http://",
        "/demo/w=1/https:///x",
    ] {
        check_code(target, "bad-path");
    }
}

#[test]
fn refuses_escapes_in_every_spelling() {
    for source in [
        "..",
        ".",
        "../x",
        "a/../b",
        "a/./b",
        "a/..",
        "%2e%2e/x",
        "%2E./x",
        ".%2e/x",
        "a%2F..%2Fb",
        "/etc/passwd",
        "%2Fetc/passwd",
        "a//b",
        "a%2F%2Fb",
        "a/",
        "@local/../x",
        "@local/a/%2e%2e/b",
        "@local//etc/passwd",
        "@local/%2Fetc/passwd",
        "@local%2F..%2Fx",
        "https://example.com/../x",
        "https://example.com/a/%2e%2e",
    ] {
        check_code(&format!("/demo/w=1/{source}"), "bad-path");
    }
}

#[test]
fn refuses_broken_encoding() {
    for source in ["a%", "a%2", "a%zz", "a%00b", "%00", "%ff", "%c3%28", "a%0ab", "a%7f", "@local/%00", "%ed%a0%80"] {
        check_code(&format!("/demo/w=1/{source}"), "bad-encoding");
    }
    check_code("/demo/v=%00/a", "bad-encoding");
    check_code("/demo/w=%/a", "bad-encoding");
    assert_eq!(native::parse(b"/demo/w=1/\xff", None).expect_err("not UTF-8").code(), "bad-encoding");
}

#[test]
fn refuses_reserved_segments() {
    for segment in ["v1", "internal", "cdn-cgi", "healthz", "readyz", "metrics", ".well-known"] {
        check_code(&format!("/{segment}"), "reserved-path");
        check_code(&format!("/{segment}/w=1/a"), "reserved-path");
    }
}

#[test]
fn refuses_other_queries() {
    for query in [
        "x=1",
        "width=3",
        "exp=",
        "exp=-1",
        "exp=1e3",
        "exp=01",
        "exp=+1",
        "exp=9999999999999",
        "kid=",
        "kid=a%20b",
        "sig=a+b",
        "sig=a/b",
        "sig=YQ==",
        "sig=",
        "exp=1&exp=2",
        "EXP=1",
    ] {
        check_code(&format!("/demo/w=1/a?{query}"), "bad-query");
    }
}

#[test]
fn refuses_over_long_urls() {
    check_code(&format!("/demo/w=1/{}", "a".repeat(URL_BYTES_MAX)), "url-too-long");
    check_code(&format!("/demo/w=1/{}", "a".repeat(1025)), "bad-path");
    assert!(parse(&format!("/demo/w=1/{}", "a".repeat(1024))).is_ok());
}

#[test]
fn names_the_op_the_value_and_what_is_allowed() {
    let message = |target| parse(target).expect_err("refused").to_string();
    assert_eq!(message("/demo/widht=3/a"), "unknown op \"widht\", did you mean \"width\"?");
    assert_eq!(message("/demo/qqqqqq=3/a"), "unknown op \"qqqqqq\"");
    assert_eq!(message("/demo/w=1,width=2/a"), "op \"width\" is given more than once");
    assert_eq!(message("/demo/w=0/a"), "op \"width\" does not take \"0\": allowed is a whole number from 1 to 8192");
    assert_eq!(
        message("/demo/fit=clip/a"),
        "op \"fit\" does not take \"clip\": allowed is scale-down, contain, cover, crop, pad, squeeze, scale-up"
    );
    assert!(message(&format!("/demo/v={}/a", "x".repeat(500))).len() < 200, "a long value is shortened");
}

#[test]
fn refuses_hostile_ops() {
    for ops in [
        "w",
        "w=",
        "=1",
        "w=1,",
        ",w=1",
        "w==1",
        "w=+1",
        "w= 1",
        "w=1.0",
        "w=1e2",
        "w=99999999999999999999",
        "w=%31,w=2",
        "w=१",
    ] {
        let error = parse(&format!("/demo/{ops}/a")).expect_err(ops);
        assert!(matches!(error.code(), "bad-value" | "unknown-op" | "duplicate-op"), "{ops}: {error}");
    }
}
