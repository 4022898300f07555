//! What an operator sees: metrics, access events, health, the log.

use serde_json::Value;
use testkit::edge::{Edge, EdgeSetup};
use testkit::http::Request;

use crate::support::photo;

/// A miss, a hit, refusals, an original.
async fn some_traffic(edge: &Edge) {
    edge.setup().put("beach.jpg", photo(60, 40));
    for target in [
        "/demo/w=40,f=jpeg/@local/beach.jpg",
        "/demo/w=40,f=jpeg/@local/beach.jpg",
        "/demo/-/@local/beach.jpg",
        "/demo/w=40/@local/missing.jpg",
        "/nobody/w=40/@local/beach.jpg",
        "/demo/wdith=40/@local/beach.jpg",
    ] {
        edge.get(target).await;
    }
}

#[tokio::test]
async fn metrics_tell_what_happened_and_hold_no_url() {
    let edge = EdgeSetup::new().start().await;
    some_traffic(&edge).await;
    for (series, value) in [
        ("calotype_requests_total{cache=\"miss\",status=\"2xx\"}", 1.0),
        ("calotype_requests_total{cache=\"memory\",status=\"2xx\"}", 1.0),
        ("calotype_requests_total{cache=\"original\",status=\"2xx\"}", 1.0),
        ("calotype_requests_total{cache=\"miss\",status=\"4xx\"}", 1.0),
        ("calotype_requests_total{cache=\"none\",status=\"4xx\"}", 2.0),
        ("calotype_requests_total{cache=\"disk\",status=\"2xx\"}", 0.0),
        ("calotype_hit_duration_seconds_count", 1.0),
        ("calotype_other_duration_seconds_count", 5.0),
        ("calotype_access_events_dropped_total", 0.0),
        ("calotype_transform_run_seconds_count", 1.0),
        ("calotype_transform_wait_seconds_count{lane=\"light\"}", 1.0),
        ("calotype_transform_wait_seconds_count{lane=\"heavy\"}", 0.0),
        ("calotype_transform_queue_jobs{lane=\"light\"}", 0.0),
        ("calotype_transform_queue_jobs{lane=\"heavy\"}", 0.0),
        ("calotype_transform_memory_bytes", 0.0),
        ("calotype_transform_stuck_threads", 0.0),
        ("calotype_transform_running_jobs", 0.0),
        ("calotype_transform_refused_total{reason=\"queue-full\"}", 0.0),
        ("calotype_transform_refused_total{reason=\"tenant-queue-full\"}", 0.0),
        ("calotype_cache_disk_available", 1.0),
        ("calotype_cache_flights_in_progress", 0.0),
        ("calotype_policy_sequence", 1.0),
    ] {
        assert_eq!(edge.metric(series).await, value, "{series}");
    }
    assert!(edge.metric("calotype_response_bytes_total").await > 0.0);
    assert!(edge.metric("process_resident_memory_bytes").await > 0.0);

    let answer = edge.admin("/metrics").await;
    assert!(answer.header("content-type").expect("there").starts_with("text/plain"));
    let text = answer.text();
    for private in ["beach", "missing", "@local", "/demo", "nobody", "wdith"] {
        assert!(!text.contains(private), "{private} is in the metrics");
    }
    for family in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = family.split(' ').next().expect("a name");
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
    edge.stop().await;
}

fn field<'a>(event: &'a Value, name: &str) -> &'a str {
    event[name].as_str().unwrap_or_else(|| panic!("no {name} in {event}"))
}

#[tokio::test]
async fn one_event_for_each_request_with_everything_that_matters() {
    let edge = EdgeSetup::new().start().await;
    edge.setup().put("beach.jpg", photo(60, 40));
    let target = "/demo/w=40,f=jpeg/@local/beach.jpg";
    let request = Request::get(target).header("user-agent", "test/1").header("x-request-id", "first");
    let miss = edge.send(&request).await;
    let hit = edge.get(target).await;
    let refused = edge.get("/demo/wdith=40/@local/beach.jpg").await;
    let head = edge.send(&Request::head(target)).await;
    let original = edge.get("/demo/-/@local/beach.jpg").await;
    let missing = edge.get("/demo/w=40/@local/missing.jpg").await;
    let events = edge.stop().await.events();
    assert_eq!(events.len(), 6, "{events:?}");

    for (event, answer) in events.iter().zip([&miss, &hit, &refused, &head, &original, &missing]) {
        assert_eq!(field(event, "event"), "access");
        assert_eq!(field(event, "request_id"), answer.header("x-request-id").expect("there"));
        assert_eq!(event["status"], answer.status.as_u16());
        assert_eq!(event["bytes"], answer.body.len());
        assert!(field(event, "client").starts_with("127.0.0.1"));
        let time = field(event, "time");
        assert!(time.contains('T') && time.ends_with('Z'), "{time}");
        assert!(event["duration_ms"].as_f64().expect("a number") >= 0.0);
    }
    let [miss, hit, refused, head, original, missing] = &events[..] else { unreachable!("counted above") };
    assert_eq!((field(miss, "cache"), field(miss, "tenant"), field(miss, "target")), ("miss", "demo", target));
    assert_eq!(
        (field(miss, "user_agent"), field(miss, "request_id"), field(miss, "method")),
        ("test/1", "first", "GET")
    );
    let phases: f64 =
        ["fetch_ms", "queue_ms", "transform_ms"].map(|name| miss[name].as_f64().expect("timed")).iter().sum();
    assert!(phases <= miss["duration_ms"].as_f64().expect("a number") + 1.0, "{miss}");
    assert_eq!(field(hit, "cache"), "memory");
    assert!(hit.get("transform_ms").is_none() && hit.get("code").is_none() && hit.get("user_agent").is_none());
    assert_eq!((field(refused, "cache"), field(refused, "code")), ("none", "unknown-op"));
    assert_eq!((field(head, "method"), field(head, "cache")), ("HEAD", "memory"));
    assert_eq!(field(original, "cache"), "original");
    assert_eq!((field(missing, "cache"), field(missing, "code")), ("miss", "source-not-found"));
}

#[tokio::test]
async fn a_refusal_tells_whose_url_it_was() {
    let edge = EdgeSetup::new().start().await;
    for target in ["/demo/w=40/@nowhere/a.jpg", "/demo/trim=3/@local/a.jpg", "/demo/w=40/a.jpg"] {
        edge.get(target).await;
    }
    edge.get("/nobody/w=40/@local/a.jpg").await;
    let events = edge.stop().await.events();
    for event in &events[..3] {
        assert_eq!(event["tenant"], "demo", "{event}");
    }
    assert_eq!(events[3]["tenant"], Value::Null);
}

#[tokio::test]
async fn no_url_and_no_header_breaks_an_event() {
    let edge = EdgeSetup::new().start().await;
    let targets = [
        "/demo/w=40/@local/\"},{\"event\":\"forged\"",
        "/demo/w=40/@local/back\\slash\\",
        "/demo/w=40/@local/%0a%0d%00",
        "/demo/w=40/@local/\u{e9}\u{1f600}",
        "/demo/w=40/@local/&'(${x})",
        &format!("/demo/w=40/@local/{}", "x".repeat(3000)),
        &format!("/demo/w=40/@local/{}", "\u{e9}".repeat(1000)),
    ];
    for target in targets {
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: edge\r\nUser-Agent: a\"b\\c\td{}\r\nX-Request-Id: \"}}\r\n\r\n",
            "y".repeat(2000)
        );
        edge.send_raw(head.as_bytes()).await;
    }
    let events = edge.stop().await.events();
    assert_eq!(events.len(), targets.len());
    for (event, target) in events.iter().zip(targets) {
        assert_eq!(event["event"], "access");
        let shown = field(event, "target");
        assert!(target.starts_with(shown) && shown.len() <= 512 && shown.len() + 4 > target.len().min(512), "{shown}");
        assert!(event["user_agent"].as_str().is_none_or(|agent| agent.len() <= 512));
    }
}

#[tokio::test]
async fn events_can_be_turned_off() {
    let edge = EdgeSetup::new().set("access_log", false).start().await;
    some_traffic(&edge).await;
    assert_eq!(edge.metric("calotype_requests_total{cache=\"memory\",status=\"2xx\"}").await, 1.0);
    assert_eq!(edge.stop().await.events(), Vec::<Value>::new());
}

#[tokio::test]
async fn the_admin_port_answers_health_and_capabilities_and_the_public_port_does_not() {
    let edge = EdgeSetup::new().start().await;
    assert_eq!(edge.admin("/healthz").await.text(), "ok\n");
    assert_eq!(edge.readiness().await["policy_sequence"], 1);
    let capabilities: Value = serde_json::from_slice(&edge.admin("/capabilities").await.body).expect("JSON");
    for format in ["jpeg", "png", "webp"] {
        for list in ["reads", "writes"] {
            assert!(capabilities[list].as_array().expect("a list").contains(&format.into()), "{capabilities}");
        }
    }
    // Each format is either there, or missing with a reason.
    for (lists, formats) in [
        (
            ("reads", "cannot_read"),
            ["jpeg", "png", "webp", "gif", "avif", "heic", "tiff", "jxl", "svg", "bmp"].as_slice(),
        ),
        (("writes", "cannot_write"), ["jpeg", "png", "webp", "avif", "jxl", "gif", "json"].as_slice()),
    ] {
        for format in formats {
            let is_there = capabilities[lists.0].as_array().expect("a list").contains(&(*format).into());
            assert_ne!(is_there, capabilities[lists.1][format].is_string(), "{format}: {capabilities}");
        }
    }
    assert_eq!(edge.admin("/nothing").await.status, 404);
    for path in ["/healthz", "/readyz", "/metrics", "/capabilities"] {
        assert_ne!(edge.get(path).await.status, 200, "{path} is public");
    }
    edge.stop().await;
}
