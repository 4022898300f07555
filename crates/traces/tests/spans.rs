//! What is made of spans, and what is told of them to others.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue};
use opentelemetry::trace::{SpanId, TracerProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use traces::{Carried, Incoming, Kind, Span};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// One test: the tracer is that of the process.
#[tokio::test]
async fn spans_are_none_until_there_is_a_tracer_and_then_have_parents() {
    let before = Span::begin("before", Kind::Server, Incoming::Nothing);
    assert!(!before.is_recording() && before.trace_id().is_none());
    before.over(async { assert!(traces::current_ids().is_none() && traces::current_carried().is_none()) }).await;

    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    traces::install(provider.tracer("test"));
    assert!(traces::is_on() && traces::current_ids().is_none());
    assert!(!traces::child("of nothing", Kind::Internal).is_recording());

    let carried = Carried::from_text(PARENT).expect("it is one");
    let request = Span::begin("request", Kind::Server, Incoming::Parent(&carried));
    let (headers, kept) = request
        .over(async {
            let fetch = traces::child("fetch", Kind::Client);
            let told = fetch.over(async {
                tokio::task::yield_now().await;
                let mut headers = HeaderMap::new();
                traces::inject(&mut headers);
                (headers, traces::current_carried().expect("there is one").to_string())
            });
            let now = SystemTime::now();
            Span::current().past_child("queue", now - Duration::from_secs(3), now - Duration::from_secs(1));
            told.await
        })
        .await;
    assert!(traces::current_ids().is_none(), "it is over");
    let clone = request.clone();
    request.end();
    drop((request, clone));
    let linked = Span::begin("linked", Kind::Server, Incoming::Link(&carried));
    linked.failed("it did not work");
    drop(linked);

    let spans = exporter.get_finished_spans().expect("kept in memory");
    let find = |name: &str| spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}"));
    let (request, fetch, queue, linked) = (find("request"), find("fetch"), find("queue"), find("linked"));
    assert_eq!(spans.len(), 4, "{spans:?}");
    let trace = |span: &SpanData| span.span_context.trace_id().to_string();
    assert_eq!((trace(request), request.parent_span_id.to_string()), (PARENT[3..35].into(), PARENT[36..52].into()));
    for child in [fetch, queue] {
        assert_eq!((trace(child), child.parent_span_id), (trace(request), request.span_context.span_id()));
    }
    let waited = queue.end_time.duration_since(queue.start_time).expect("forwards");
    assert_eq!(waited, Duration::from_secs(2));
    assert_eq!(kept, format!("00-{}-{}-01", trace(fetch), fetch.span_context.span_id()));
    assert_eq!(headers.get("traceparent").expect("told"), kept.as_str());
    assert!(headers.get("tracestate").is_none());
    assert_eq!(linked.parent_span_id, SpanId::INVALID);
    assert_ne!(trace(linked), trace(request));
    assert_eq!(linked.links[0].span_context.trace_id(), request.span_context.trace_id());
}

#[test]
fn what_came_is_read_strictly_and_kept_as_one_text() {
    let header = |values: &[(&'static str, &str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append(*name, HeaderValue::from_str(value).expect("printable"));
        }
        Carried::from_headers(&headers).map(|carried| carried.to_string())
    };
    let long = format!("a={}", "b".repeat(511));
    for (values, expected) in [
        (&[("traceparent", PARENT)][..], Some(PARENT.to_owned())),
        (&[("traceparent", PARENT), ("tracestate", "a=b,c=d")], Some(format!("{PARENT} a=b,c=d"))),
        (&[("traceparent", PARENT), ("tracestate", "not a state")], Some(PARENT.to_owned())),
        (&[("traceparent", PARENT), ("tracestate", &long)], Some(PARENT.to_owned())),
        (&[("traceparent", PARENT), ("traceparent", PARENT)], None),
        (&[("tracestate", "a=b")], None),
        (&[("traceparent", "")], None),
        (&[("traceparent", "00-00000000000000000000000000000000-b7ad6b7169203331-01")], None),
        (&[("traceparent", "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01")], None),
        (&[("traceparent", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")], None),
        (&[("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331")], None),
    ] {
        let read = header(values);
        assert_eq!(read, expected, "{values:?}");
        if let Some(text) = read {
            assert_eq!(Carried::from_text(&text).map(|carried| carried.to_string()), Some(text));
        }
    }
}
