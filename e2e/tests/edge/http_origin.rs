//! Originals on a web server: what is asked for, what is kept, and servers that fail.

use std::time::Duration;

use ::http::{Method, StatusCode};
use testkit::edge::{Edge, EdgeSetup, assert_problem, eventually, picture};
use testkit::faulty::Fault;
use testkit::http::{self, Request};
use testkit::web::{Page, WebServer};
use tokio::net::TcpListener;

use crate::support::{Warm, WebRig, cache_status, healed, photo};

const TARGET: &str = "/demo/w=40,f=jpeg/@web/a.jpg";
const MISS: &str = "Calotype; fwd=uri-miss; stored";
const RENEWED: &str = "Calotype; fwd=stale; fwd-status=304; stored";
const AT_ONCE: &str = "max_age_seconds = 0\nstale_while_revalidate_seconds = 0";

async fn rig_and_edge() -> (WebRig, Edge) {
    let rig = WebRig::start().await;
    rig.server.put("/img/a.jpg", Page::new(photo(400, 300)));
    let edge = rig.edge().start().await;
    (rig, edge)
}

#[tokio::test]
async fn a_picture_is_asked_for_with_nothing_of_the_client() {
    let rig = WebRig::start().await;
    rig.server.put("/img/a%20b/%C3%BC%25.jpg", Page::new(photo(400, 300)));
    let edge = rig.edge().start().await;
    let request = Request::get("/demo/w=40,f=jpeg/@web/a%20b/%C3%BC%25.jpg")
        .header("cookie", "session=1")
        .header("authorization", "Bearer mine")
        .header("x-forwarded-host", "evil.example");
    let answer = edge.send(&request).await;
    picture(&answer, "image/jpeg");
    assert_eq!(cache_status(&answer), MISS);
    assert_eq!(cache_status(&edge.send(&request).await), "Calotype; hit; detail=memory");
    let [seen] = rig.server.seen().try_into().expect("one request");
    assert_eq!(seen.method, Method::GET);
    let mut names: Vec<&str> = seen.headers.keys().map(::http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "accept-encoding", "cdn-loop", "host", "user-agent", "x-key"]);
    assert_eq!(seen.headers["x-key"], "s3cret");
    assert_eq!(seen.headers["host"], rig.relay.address().to_string());
    let setup = edge.stop().await;
    assert!(!setup.log().contains("s3cret") && !setup.events()[0].to_string().contains("s3cret"));
}

#[tokio::test]
async fn no_path_leaves_the_base_url() {
    let (rig, edge) = rig_and_edge().await;
    rig.server.put("/secret.jpg", Page::new(photo(60, 40)));
    for path in ["../secret.jpg", "%2e%2e/secret.jpg", "x/../../secret.jpg", "..%2fsecret.jpg"] {
        let target = format!("GET /demo/w=40/@web/{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        assert_problem(&edge.send_raw(target.as_bytes()).await, 400, "bad-path");
    }
    for path in ["..%5csecret.jpg", "%252e%252e/secret.jpg", "..%252fsecret.jpg", "x%3F/secret.jpg"] {
        assert_problem(&edge.get(&format!("/demo/w=40/@web/{path}")).await, 404, "source-not-found");
    }
    assert!(rig.server.seen().iter().all(|seen| seen.target.starts_with("/img/")));
}

#[tokio::test]
async fn what_did_not_change_is_kept() {
    let rig = WebRig::start().await;
    rig.server.put("/img/a.jpg", Page::new(photo(400, 300)));
    let edge = rig.edge().tenant(AT_ONCE).start().await;
    let first = edge.get(TARGET).await;
    assert_eq!(cache_status(&first), MISS);
    for _ in 0..3 {
        let renewed = edge.get(TARGET).await;
        assert_eq!((cache_status(&renewed), &renewed.body), (RENEWED, &first.body));
    }
    assert_eq!(edge.metric("calotype_transform_run_seconds_count").await, 1.0);
    rig.server.put("/img/a.jpg", Page::new(photo(300, 400)));
    let changed = edge.get(TARGET).await;
    assert_eq!(cache_status(&changed), "Calotype; fwd=stale; stored");
    assert_ne!(changed.body, first.body);
}

#[tokio::test]
async fn the_server_may_shorten_what_the_policy_allows_and_not_lengthen_it() {
    let rig = WebRig::start().await;
    for (name, cache_control) in [
        ("short", "public, max-age=100"),
        ("shared", "max-age=100, s-maxage=50"),
        ("long", "max-age=999999"),
        ("ask", "no-cache"),
        ("strict", "max-age=100, must-revalidate"),
    ] {
        let page = Page::new(photo(60, 40)).header("cache-control", cache_control);
        rig.server.put(&format!("/img/{name}.jpg"), page.header("content-type", "image/jpeg"));
    }
    let edge = rig.edge().tenant("max_age_seconds = 3600\nstale_while_revalidate_seconds = 7200").start().await;
    for (name, fresh, stale) in
        [("short", 100, 7200), ("shared", 50, 7200), ("long", 3600, 7200), ("ask", 0, 7200), ("strict", 100, 0)]
    {
        let mut expected = format!("public, max-age={fresh}");
        if stale > 0 {
            expected += &format!(", stale-while-revalidate={stale}");
        }
        for ops in ["w=40,f=jpeg", "-"] {
            let answer = edge.get(&format!("/demo/{ops}/@web/{name}.jpg")).await;
            assert_eq!(answer.header("cache-control"), Some(expected.as_str()), "{name} {ops}");
        }
    }
    let versioned = edge.get("/demo/w=40,f=jpeg,v=1/@web/ask.jpg").await;
    assert_eq!(versioned.header("cache-control"), Some("public, max-age=31536000, immutable"));
}

#[tokio::test]
async fn what_must_not_be_stored_is_passed_on() {
    let rig = WebRig::start().await;
    let edge = rig.edge().tenant("max_age_seconds = 3600").start().await;
    for (asked, cache_control) in ["no-store", "private, max-age=60"].into_iter().enumerate() {
        rig.server.put("/img/a.jpg", Page::new(photo(60, 40)).header("cache-control", cache_control));
        for target in [TARGET, "/demo/w=40,f=jpeg,v=1/@web/a.jpg", "/demo/-/@web/a.jpg"] {
            for _ in 0..2 {
                let answer = edge.get(target).await;
                assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
                assert_eq!(answer.header("cache-control"), Some("no-store"), "{target}");
                assert_ne!(answer.header("cache-status"), Some(MISS));
            }
        }
        assert_eq!(rig.server.seen().len(), (asked + 1) * 6, "each one is asked for");
    }
}

#[tokio::test]
async fn statuses_of_the_server() {
    let rig = WebRig::start().await;
    let edge = rig.edge().start().await;
    for (status, expected, code, is_remembered) in [
        (404, 404, "source-not-found", true),
        (410, 404, "source-not-found", true),
        (401, 502, "source-denied", false),
        (403, 502, "source-denied", false),
        (429, 502, "source-unavailable", false),
        (500, 502, "source-unavailable", false),
        (503, 502, "source-unavailable", false),
        (508, 502, "source-unavailable", false),
        (204, 502, "source-failed", false),
        (300, 502, "source-failed", false),
        (400, 502, "source-failed", false),
        (418, 502, "source-failed", false),
    ] {
        let status = StatusCode::from_u16(status).expect("a status");
        rig.server.put(&format!("/img/{status}", status = status.as_u16()), Page::status(status, "a secret of theirs"));
        let before = rig.server.seen().len();
        for ops in ["w=40", "w=40", "-"] {
            let answer = edge.get(&format!("/demo/{ops}/@web/{}", status.as_u16())).await;
            assert_problem(&answer, expected, code);
            assert!(!answer.text().contains("secret"), "{}", answer.text());
        }
        let asked = rig.server.seen().len() - before;
        assert_eq!(asked, if is_remembered { 2 } else { 3 }, "{status}");
    }
}

/// A fault makes this answer, hits are served meanwhile, and once it is healed the picture comes.
async fn check_fault(rig: &WebRig, edge: &Edge, fault: Fault, status: u16, code: &str) {
    let warm = Warm::up(edge).await;
    rig.relay.set(fault);
    assert_problem(&edge.get(TARGET).await, status, code);
    warm.assert_hit(edge).await;
    rig.relay.heal();
    picture(&healed(edge, TARGET).await, "image/jpeg");
}

#[tokio::test]
async fn resetting_connections() {
    let (rig, edge) = rig_and_edge().await;
    check_fault(&rig, &edge, Fault::Reset, 502, "source-unavailable").await;
}

#[tokio::test]
async fn cutting_the_body_off() {
    let (rig, edge) = rig_and_edge().await;
    check_fault(&rig, &edge, Fault::Truncate { after_bytes: 1000 }, 502, "source-incomplete").await;
}

#[tokio::test]
async fn too_slow_to_begin_or_to_end() {
    let rig = WebRig::start().await;
    rig.server.put("/img/a.jpg", Page::new(photo(400, 300)));
    for fault in [Fault::StallBeforeHead, Fault::StallInBody { after_bytes: 1000 }] {
        let edge = rig.edge().set("transform.deadline_seconds", 1).start().await;
        check_fault(&rig, &edge, fault, 504, "deadline").await;
    }
}

#[tokio::test]
async fn down_and_up_again() {
    let (rig, edge) = rig_and_edge().await;
    rig.relay.take_down().await;
    assert_problem(&edge.get(TARGET).await, 502, "source-unavailable");
    assert_problem(&edge.get("/demo/-/@web/a.jpg").await, 502, "source-unavailable");
    rig.relay.bring_up().await;
    picture(&edge.get(TARGET).await, "image/jpeg");
}

#[tokio::test]
async fn a_server_that_fails_does_not_take_the_old_picture_away() {
    let rig = WebRig::start().await;
    rig.server.put("/img/a.jpg", Page::new(photo(400, 300)));
    let edge = rig.edge().tenant("max_age_seconds = 0\nstale_while_revalidate_seconds = 3600").start().await;
    let first = picture(&edge.get(TARGET).await, "image/jpeg");
    rig.relay.set(Fault::Answer(StatusCode::SERVICE_UNAVAILABLE));
    for _ in 0..3 {
        let old = edge.get(TARGET).await;
        assert!(cache_status(&old).starts_with("Calotype; hit; detail=stale"), "{}", cache_status(&old));
        assert_eq!(old.body, first);
    }
}

#[tokio::test]
async fn an_original_without_a_length_is_whole_or_an_error() {
    let rig = WebRig::start().await;
    let bytes = photo(400, 300);
    let page = Page::new(bytes.clone()).header("content-type", "image/jpeg").without_length();
    rig.server.put("/img/a.jpg", page.clone());
    rig.server.put("/img/b.jpg", page);
    let edge = rig.edge().start().await;
    picture(&edge.get(TARGET).await, "image/jpeg");
    let whole = edge.get("/demo/-/@web/a.jpg").await;
    assert_eq!((whole.status.as_u16(), whole.header("content-length")), (200, None));
    assert_eq!(whole.body, bytes);
    // A server that serves no ranges answers with the whole.
    let whole = edge.send(&Request::get("/demo/-/@web/a.jpg").header("range", "bytes=0-9")).await;
    assert_eq!((whole.status.as_u16(), whole.body.len()), (200, bytes.len()));
    let head = edge.send(&Request::head("/demo/-/@web/a.jpg")).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
    rig.relay.set(Fault::Truncate { after_bytes: 1000 });
    assert!(http::get(edge.addr(), "/demo/-/@web/a.jpg").await.is_err(), "a short body passed for a whole one");
    assert_problem(&edge.get("/demo/w=41,f=jpeg/@web/b.jpg").await, 502, "source-incomplete");
}

#[tokio::test]
async fn larger_than_the_limit_announced_or_not() {
    let rig = WebRig::start().await;
    rig.server.put("/img/a.jpg", Page::new(vec![1; 200_000]));
    rig.server.put("/img/b.jpg", Page::new(vec![1; 200_000]).without_length());
    let edge = rig.edge().set("limits.source_bytes", 100_000).set("limits.original_bytes", 100_000).start().await;
    for name in ["a.jpg", "b.jpg"] {
        assert_problem(&edge.get(&format!("/demo/w=40/@web/{name}")).await, 422, "source-too-large");
    }
    assert_problem(&edge.get("/demo/-/@web/a.jpg").await, 422, "source-too-large");
    assert!(http::get(edge.addr(), "/demo/-/@web/b.jpg").await.is_err(), "it shows in the middle only");
}

#[tokio::test]
async fn registered_images_may_be_on_a_web_server() {
    let rig = WebRig::start().await;
    rig.server.put("/img/sorry.jpg", Page::new(photo(60, 40)));
    let edge = rig.edge().tenant("images.sorry = \"@web/sorry.jpg\"").start().await;
    picture(&edge.get("/demo/w=40,f=jpeg,fallback=sorry/@web/none.jpg").await, "image/jpeg");
}

#[tokio::test]
async fn proxies_of_the_environment_are_not_asked() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", proxy.local_addr().expect("it is bound"));
    let rig = WebRig::start().await;
    rig.server.put("/img/a.jpg", Page::new(photo(60, 40)));
    let names = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let setup = names.into_iter().fold(rig.edge(), |setup, name| setup.env(name, &address));
    let edge = setup.start().await;
    picture(&edge.get(TARGET).await, "image/jpeg");
    assert_eq!(rig.server.seen().len(), 1);
    let asked = tokio::time::timeout(Duration::from_millis(50), proxy.accept()).await;
    assert!(asked.is_err(), "somebody connected to the proxy");
}

#[tokio::test]
async fn an_edge_does_not_fetch_from_itself() {
    let edge = EdgeSetup::new();
    let base_url = format!("http://{}/demo/w=40/@me/", edge.addr());
    let origin = format!("base_url = \"{base_url}\", allow_private = [\"127.0.0.1\"]");
    let edge = edge.tenant(&format!("origins.me.http = {{ {origin} }}")).start().await;
    assert_problem(&edge.get("/demo/w=40/@me/a.jpg").await, 502, "source-unavailable");
    let events = edge.events(2).await;
    assert_eq!(
        (events.len(), &events[0]["code"], &events[1]["code"]),
        (2, &"loop-detected".into(), &"source-unavailable".into())
    );
    let request = Request::get("/demo/w=40/@me/a.jpg").header("cdn-loop", "other, calotype; v=1");
    assert_problem(&edge.send(&request).await, 508, "loop-detected");
    let request = Request::get("/demo/w=40/@me/a.jpg").header("cdn-loop", "other");
    assert_problem(&edge.send(&request).await, 502, "source-unavailable");
}

#[tokio::test]
async fn a_base_url_that_changes_is_another_origin_at_once() {
    let (rig, edge) = rig_and_edge().await;
    picture(&edge.get(TARGET).await, "image/jpeg");
    edge.setup().write_policy(&edge.setup().policy().replace("/img/", "/other/"));
    eventually("the new base URL", async || Some(edge.get(TARGET).await).filter(|answer| answer.status == 404)).await;
    assert_eq!(rig.server.seen().last().expect("asked").target, "/other/a.jpg");
}

/// An edge that trusts this authority only, with the server as `@web` under the name `localhost`.
async fn edge_with_authority(server: &WebServer, pem: &str) -> Edge {
    let port = server.address().port();
    let origin = format!("base_url = \"https://localhost:{port}/\", allow_private = [\"localhost\"]");
    let setup = EdgeSetup::new().tenant(&format!("origins.web.http = {{ {origin} }}"));
    let file = setup.home().join("authority.pem");
    std::fs::write(&file, pem).expect("the folder is ours");
    setup.env("SSL_CERT_FILE", &file.display().to_string()).start().await
}

#[tokio::test]
async fn tls_is_with_the_named_host_and_not_given_up_again() {
    let (server, pem) = WebServer::start_tls("localhost").await.expect("a server");
    server.put("/a.jpg", Page::new(photo(60, 40)));
    let away = format!("http://localhost:{}/a.jpg", server.address().port());
    server.put("/away.jpg", Page::status(StatusCode::FOUND, "").header("location", &away));
    let edge = edge_with_authority(&server, &pem).await;
    picture(&edge.get(TARGET).await, "image/jpeg");
    assert_problem(&edge.get("/demo/w=40/@web/away.jpg").await, 403, "source-not-allowed");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn tls_with_somebody_else_is_refused() {
    let (trusted, pem) = WebServer::start_tls("localhost").await.expect("a server");
    let (stranger, _) = WebServer::start_tls("localhost").await.expect("a server");
    let (misnamed, other_pem) = WebServer::start_tls("other.example").await.expect("a server");
    drop(trusted);
    for (server, pem) in [(&stranger, &pem), (&misnamed, &other_pem)] {
        server.put("/a.jpg", Page::new(photo(60, 40)));
        let edge = edge_with_authority(server, pem).await;
        assert_problem(&edge.get(TARGET).await, 502, "source-unavailable");
        assert!(server.seen().is_empty());
        let events = edge.stop().await.events();
        assert!(events[0]["cause"].as_str().expect("a cause").contains("certificate"), "{}", events[0]);
    }
}
