//! Whole URLs as sources: which are let through, and where they may lead.

use testkit::edge::{Edge, EdgeSetup, assert_problem, eventually, picture};
use testkit::web::Page;

use crate::support::{WebRig, cache_status, photo};

/// An edge whose tenant allows `/img/*` and one more path of the server.
fn setup(rig: &WebRig, private: &str) -> EdgeSetup {
    let url = rig.relay.url();
    EdgeSetup::new().tenant(&format!("allowed_urls = [\"{url}/img/*\", \"{url}/one.jpg\"]\n{private}"))
}

const PRIVATE: &str = "allow_private = [\"127.0.0.1\"]";

async fn get(edge: &Edge, source: &str) -> testkit::http::Response {
    edge.get(&format!("/demo/w=40,f=jpeg/{source}")).await
}

#[tokio::test]
async fn an_allowed_url_is_a_source_in_each_of_its_spellings() {
    let rig = WebRig::start().await;
    rig.server.put("/img/a.jpg", Page::new(photo(60, 40)));
    rig.server.put("/img/a.jpg?v=2&x=%20", Page::new(photo(80, 40)));
    rig.server.put("/one.jpg", Page::new(photo(60, 40)));
    let edge = setup(&rig, PRIVATE).start().await;
    let host = rig.relay.address().to_string();
    picture(&get(&edge, &format!("http://{host}/img/a.jpg")).await, "image/jpeg");
    // The same URL is the same source, however it is written.
    let port = rig.relay.address().port();
    let spellings = [
        format!("http:/{host}/img/a.jpg"),
        format!("HTTP://{host}/img/a.jpg"),
        format!("http%3A%2F%2F{}%2Fimg%2Fa.jpg", host.replace(':', "%3A")),
        format!("http://{host}/img/a.jpg%23part"),
        format!("http://0x7f.1:{port}/img/a.jpg"),
    ];
    for source in &spellings {
        assert_eq!(cache_status(&get(&edge, source).await), "Calotype; hit; detail=memory", "{source}");
    }
    picture(&get(&edge, &format!("http://{host}/img/a.jpg%3Fv=2&x=%2520")).await, "image/jpeg");
    picture(&get(&edge, &format!("http://{host}/one.jpg")).await, "image/jpeg");
    let original = edge.get(&format!("/demo/-/http://{host}/img/a.jpg")).await;
    assert_eq!(original.body, photo(60, 40));
    let targets: Vec<String> = rig.server.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/img/a.jpg", "/img/a.jpg?v=2&x=%20", "/one.jpg", "/img/a.jpg"]);
}

#[tokio::test]
async fn other_urls_are_refused_before_anybody_is_asked() {
    let rig = WebRig::start().await;
    let edge = setup(&rig, PRIVATE).start().await;
    let host = rig.relay.address().to_string();
    let port = rig.relay.address().port();
    for source in [
        "https://example.com/img/a.jpg".to_owned(),
        format!("https://{host}/img/a.jpg"),
        "http://127.0.0.1/img/a.jpg".to_owned(),
        format!("http://127.0.0.2:{port}/img/a.jpg"),
        format!("http://{host}/image/a.jpg"),
        format!("http://{host}/one.jpg/x"),
        format!("http://{host}/img/%252e%252e/secret"),
        format!("http://{host}/img/%252e%252e%252fsecret"),
        format!("http://{host}@example.com/img/a.jpg"),
        format!("http://user@{host}/img/a.jpg"),
        format!("http://example.com%23@{host}/img/a.jpg"),
        format!("http://{host}.example.com/img/a.jpg").replace(&format!(":{port}"), ""),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://[::1]/img/a.jpg".to_owned(),
    ] {
        assert_problem(&get(&edge, &source).await, 403, "source-not-allowed");
    }
    for source in ["http://", "http:///x", "http://a%5cb/x", "http://a%20b/x", "http://1.2.3.4.5/x", "http://[::1/x"] {
        assert_problem(&get(&edge, source).await, 400, "bad-path");
    }
    assert!(rig.server.seen().is_empty());
    let none = EdgeSetup::new().start().await;
    assert_problem(&get(&none, &format!("http://{host}/img/a.jpg")).await, 403, "source-not-allowed");
}

#[tokio::test]
async fn an_allowed_url_in_a_private_network_is_refused_unless_that_is_allowed_too() {
    let rig = WebRig::start().await;
    rig.server.put("/img/a.jpg", Page::new(photo(60, 40)));
    let port = rig.relay.address().port();
    let by_name = format!("allowed_urls = [\"http://127.0.0.1:{port}/*\", \"http://localhost:{port}/*\"]");
    let edge = EdgeSetup::new().tenant(&by_name).start().await;
    for host in ["127.0.0.1", "localhost"] {
        let answer = get(&edge, &format!("http://{host}:{port}/img/a.jpg")).await;
        assert_problem(&answer, 403, "source-not-allowed");
        assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
    }
    assert!(rig.server.seen().is_empty());
    let events = edge.stop().await.events();
    assert!(events[0]["cause"].as_str().expect("a cause").contains("127.0.0.1 is loopback"), "{}", events[0]);
    let edge = EdgeSetup::new().tenant(&by_name).tenant("allow_private = [\"localhost\"]").start().await;
    picture(&get(&edge, &format!("http://localhost:{port}/img/a.jpg")).await, "image/jpeg");
    assert_problem(&get(&edge, &format!("http://127.0.0.1:{port}/img/a.jpg")).await, 403, "source-not-allowed");
}

#[tokio::test]
async fn redirects_are_held_against_the_policy() {
    let rig = WebRig::start().await;
    rig.server.put("/img/a.jpg", Page::new(photo(60, 40)));
    rig.server.put("/secret.jpg", Page::new(photo(60, 40)));
    let redirect = |name: &str, location: &str| {
        let page = Page::status(::http::StatusCode::FOUND, "").header("location", location);
        rig.server.put(&format!("/img/{name}"), page);
    };
    let port = rig.relay.address().port();
    redirect("good", "a.jpg");
    redirect("loop", "loop");
    let refused = [
        ("out", "/secret.jpg".to_owned()),
        ("dots", "/img/%2e%2e/secret.jpg".to_owned()),
        ("slash", "/img/..%2fsecret.jpg".to_owned()),
        ("other", format!("http://127.0.0.2:{port}/img/a.jpg")),
        ("metadata", "http://169.254.169.254/".to_owned()),
        ("file", "file:///etc/passwd".to_owned()),
        ("s3", "s3://bucket/key".to_owned()),
        ("user", format!("http://a@127.0.0.1:{port}/img/a.jpg")),
    ];
    for (name, location) in &refused {
        redirect(name, location);
    }
    let edge = setup(&rig, PRIVATE).start().await;
    let source = |name: &str| format!("http://{}/img/{name}", rig.relay.address());
    picture(&get(&edge, &source("good")).await, "image/jpeg");
    for (name, _) in &refused {
        assert_problem(&get(&edge, &source(name)).await, 403, "source-not-allowed");
    }
    assert_problem(&get(&edge, &source("loop")).await, 502, "source-failed");
    assert!(rig.server.seen().iter().all(|seen| seen.target.starts_with("/img/")));
}

#[tokio::test]
async fn a_url_that_is_no_longer_allowed_is_refused_although_its_picture_is_cached() {
    let rig = WebRig::start().await;
    rig.server.put("/img/a.jpg", Page::new(photo(60, 40)));
    let edge = setup(&rig, PRIVATE).start().await;
    let source = format!("http://{}/img/a.jpg", rig.relay.address());
    picture(&get(&edge, &source).await, "image/jpeg");
    edge.setup().write_policy(&edge.setup().policy().replace("/img/*", "/x/*"));
    let refused =
        eventually("the new policy", async || Some(get(&edge, &source).await).filter(|answer| answer.status != 200));
    assert_problem(&refused.await, 403, "source-not-allowed");
}
