//! Traces of an edge: what a collector is told, and a collector that hangs or is gone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use testkit::collector::{Collected, Collector};
use testkit::edge::{Edge, EdgeSetup, eventually, picture};
use testkit::http::Request;
use testkit::web::Page;

use crate::support::{WebRig, photo};

const TARGET: &str = "/demo/w=40,f=jpeg/@web/a.jpg";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const SERVER: i32 = 2;
const CLIENT: i32 = 3;

async fn collector() -> Collector {
    Collector::start().await.expect("a port is free")
}

fn traced(setup: EdgeSetup, collector: &Collector) -> EdgeSetup {
    setup.set("traces.endpoint", format!("{:?}", collector.url()))
}

/// The spans of requests, once there are so many of them.
async fn requests(collector: &Collector, count: usize) -> Vec<Collected> {
    eventually("the spans of requests", async || {
        let spans: Vec<_> = collector.spans().into_iter().filter(|span| span.kind == SERVER).collect();
        (spans.len() >= count).then_some(spans)
    })
    .await
}

/// Those below a span, by name.
fn below<'a>(spans: &'a [Collected], parent: &Collected) -> BTreeMap<&'a str, &'a Collected> {
    let children = spans.iter().filter(|span| span.parent == parent.id && span.trace == parent.trace);
    children.map(|span| (span.name.as_str(), span)).collect()
}

async fn dropped(edge: &Edge, reason: &str) -> f64 {
    edge.metric(&format!("calotype_trace_spans_dropped_total{{reason=\"{reason}\"}}")).await
}

#[tokio::test]
async fn a_miss_is_told_with_its_parts_and_the_source_of_its_own_span() {
    let (rig, collector) = (WebRig::start().await, collector().await);
    rig.server.put("/img/a.jpg", Page::new(photo(400, 300)));
    let setup = traced(rig.edge(), &collector).set("traces.headers", "\"x-team=pictures, x-two=2\"");
    let edge = setup.start().await;
    let secret = format!("{TARGET}?exp=1");
    let request = Request::get(TARGET).header("traceparent", PARENT).header("user-agent", "test/1");
    picture(&edge.send(&request).await, "image/jpeg");
    picture(&edge.get(TARGET).await, "image/jpeg");
    edge.get(&secret).await;
    let requests = requests(&collector, 3).await;
    let setup = edge.stop().await;
    let (spans, events) = (collector.spans(), setup.events());
    let [miss, hit, refused] = [0, 1, 2].map(|at| {
        let id = events[at]["request_id"].as_str().expect("an id");
        let span = requests.iter().find(|span| span.attributes["calotype.request_id"] == id);
        let span = span.unwrap_or_else(|| panic!("no span of {id} in {requests:?}"));
        assert_eq!(events[at]["trace_id"], span.trace.as_str());
        span
    });

    assert_eq!((miss.service.as_str(), miss.name.as_str()), ("calotype-edge", "GET /{tenant}/{ops}/{source}"));
    // Who has sent it is not believed: the trace is another one, which names theirs.
    assert!(miss.parent.is_empty() && miss.trace != PARENT[3..35], "{miss:?}");
    assert_eq!(miss.links, [&PARENT[3..35]]);
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("http.route", "/{tenant}/{ops}/{source}"),
        ("url.path", TARGET),
        ("client.address", "127.0.0.1"),
        ("user_agent.original", "test/1"),
        ("calotype.tenant", "demo"),
        ("calotype.cache", "miss"),
    ] {
        assert_eq!(miss.attributes.get(name).map(String::as_str), Some(value), "{name}");
    }
    let fill = below(&spans, miss)["fill"];
    let parts = below(&spans, fill);
    assert_eq!(parts.keys().copied().collect::<Vec<_>>(), ["fetch", "queue", "transform"]);
    let fetches = below(&spans, parts["fetch"]);
    let asked = fetches["GET"];
    assert_eq!((fetches.len(), asked.kind), (1, CLIENT));
    assert_eq!(asked.attributes["http.response.status_code"], "200");
    assert_eq!(asked.attributes["url.full"], format!("{}/img/a.jpg", rig.relay.url()));
    let [seen] = rig.server.seen().try_into().expect("one request");
    assert_eq!(seen.headers["traceparent"], format!("00-{}-{}-01", asked.trace, asked.id));

    assert_eq!((below(&spans, hit).len(), hit.attributes["calotype.cache"].as_str()), (0, "memory"));
    assert_ne!(hit.trace, miss.trace);
    // An expiry without a signature is refused, and a query is told to nobody.
    assert_eq!((refused.attributes["url.path"].as_str(), refused.failed), (TARGET, false));
    assert_eq!(refused.attributes["error.type"], events[2]["code"].as_str().expect("a code"));
    for headers in collector.headers() {
        assert!(headers["x-team"] == "pictures" && headers["x-two"] == "2", "{headers:?}");
    }
}

#[tokio::test]
async fn who_is_believed_decides_on_the_trace() {
    let (rig, collector) = (WebRig::start().await, collector().await);
    rig.server.put("/img/a.jpg", Page::new(photo(400, 300)));
    let setup = traced(rig.edge(), &collector).set("traces.trust_incoming", true).set("traces.sample_ratio", 0);
    let edge = setup.start().await;
    // Neither their own nor ours would be sampled.
    for parent in [PARENT.replace("-01", "-00"), "nonsense".to_owned()] {
        edge.send(&Request::get(TARGET).header("traceparent", &parent)).await;
    }
    picture(&edge.send(&Request::get(TARGET).header("traceparent", PARENT)).await, "image/jpeg");
    let spans = requests(&collector, 1).await;
    edge.stop().await;
    assert_eq!(collector.spans().len(), 1, "{:?}", collector.spans());
    assert_eq!((spans[0].trace.as_str(), spans[0].parent.as_str()), (&PARENT[3..35], &PARENT[36..52]));
    // The source is told all the same that nobody looks.
    let [seen] = rig.server.seen().try_into().expect("one request");
    let told = seen.headers["traceparent"].to_str().expect("text");
    assert!(told.starts_with(&PARENT[..36]) && told.ends_with("-00"), "{told}");
}

#[tokio::test]
async fn without_a_collector_nothing_is_traced() {
    let (rig, collector) = (WebRig::start().await, collector().await);
    rig.server.put("/img/a.jpg", Page::new(photo(400, 300)));
    let off = |setup: EdgeSetup| setup.env("OTEL_SERVICE_NAME", "nobody");
    let disabled = |setup: EdgeSetup| traced(setup, &collector).env("OTEL_SDK_DISABLED", "true");
    for setup in [off(rig.edge()), disabled(rig.edge())] {
        let edge = setup.start().await;
        picture(&edge.send(&Request::get(TARGET).header("traceparent", PARENT)).await, "image/jpeg");
        assert_eq!(edge.metric("calotype_trace_spans_sent_total").await, 0.0);
        let setup = edge.stop().await;
        assert!(setup.events()[0].get("trace_id").is_none(), "{:?}", setup.events());
    }
    assert_eq!((rig.server.seen().len(), collector.headers().len()), (2, 0));
    assert!(rig.server.seen().iter().all(|seen| !seen.headers.contains_key("traceparent")));
}

#[tokio::test]
async fn the_variables_of_opentelemetry_are_read() {
    let collector = collector().await;
    let setup = EdgeSetup::new().env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url());
    let edge = setup.env("OTEL_SERVICE_NAME", "front").env("OTEL_EXPORTER_OTLP_HEADERS", "x-key=1").start().await;
    edge.get("/demo/w=40/@local/missing.jpg").await;
    let spans = requests(&collector, 1).await;
    assert!(spans[0].service == "front" && collector.headers()[0]["x-key"] == "1", "{spans:?}");
    edge.stop().await;
    let setup = EdgeSetup::new().env("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317");
    let ended = setup.run_to_end(&["--check-config"]).await;
    assert_eq!(ended.status.code(), Some(64));
    assert!(ended.stderr.contains("OTEL_EXPORTER_OTLP_ENDPOINT = collector:4317"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_collector_that_hangs_holds_nobody_up_and_what_is_lost_is_counted() {
    let collector = collector().await;
    collector.hang(true);
    let edge = traced(EdgeSetup::new(), &collector).start().await;
    edge.setup().put("a.jpg", photo(60, 40));
    let target = "/demo/w=40,f=jpeg/@local/a.jpg";
    picture(&edge.get(target).await, "image/jpeg");
    eventually("the collector is asked", async || (!collector.headers().is_empty()).then_some(())).await;
    // More than may wait; each of them is answered as ever.
    let mut longest = Duration::ZERO;
    for _ in 0..60 {
        let started = Instant::now();
        for _ in 0..100 {
            picture(&edge.get(target).await, "image/jpeg");
        }
        longest = longest.max(started.elapsed());
        if dropped(&edge, "queue-full").await > 0.0 {
            break;
        }
    }
    assert!(dropped(&edge, "queue-full").await > 0.0, "the queue has no end");
    assert!(longest < Duration::from_secs(30), "100 hits took {longest:?}");
    // A stop does not wait for it either.
    let started = Instant::now();
    edge.stop().await;
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert!(collector.spans().is_empty());
}

#[tokio::test]
async fn a_collector_that_is_not_there_is_told_of_and_counted() {
    let collector = collector().await;
    let address = collector.url();
    drop(collector);
    let edge = EdgeSetup::new().set("traces.endpoint", format!("{address:?}")).start().await;
    edge.get("/demo/w=40/@local/missing.jpg").await;
    eventually("the loss is counted", async || (dropped(&edge, "not-delivered").await > 0.0).then_some(())).await;
    assert_eq!(edge.metric("calotype_trace_spans_sent_total").await, 0.0);
    assert!(edge.log().contains("the collector of traces does not take them"), "{}", edge.log());
    edge.stop().await;
}
