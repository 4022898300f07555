//! One trace over all parts: an order to the API, the job of a worker, and the delivery of what came of it.

use ::http::Method;
use serde_json::json;
use testkit::collector::{Collected, Collector};
use testkit::edge::{eventually, picture as picture_of};
use testkit::http::Request;
use testkit::web::{Page, WebServer};

use crate::media_rig::{MediaRig, id, picture};
use crate::support::ok;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The one span of a service by its name.
#[track_caller]
fn find<'a>(spans: &'a [Collected], service: &str, name: &str) -> &'a Collected {
    let mut found = spans.iter().filter(|span| span.service == service && span.name == name);
    let first = found.next().unwrap_or_else(|| panic!("no {name} of {service} in {spans:#?}"));
    assert!(found.next().is_none(), "{name} of {service} is there twice: {spans:#?}");
    first
}

#[tokio::test]
async fn an_upload_its_job_and_its_delivery_are_one_trace() {
    let (collector, server) = (Collector::start().await.expect("a port"), WebServer::start().await.expect("a port"));
    server.put("/beach.png", Page::new(picture([10, 20, 30])));
    let rig = MediaRig::with_folder(&[
        ("FETCH_PRIVATE", "[\"127.0.0.1\"]".to_owned()),
        ("FETCH_PORTS", format!("[{}]", server.address().port())),
        ("TRACES__ENDPOINT", collector.url()),
        ("TRACES__TRUST_INCOMING", "true".to_owned()),
    ])
    .await;
    let url = format!("http://{}/beach.png?token=secret", server.address());
    server.put("/beach.png?token=secret", Page::new(picture([10, 20, 30])));
    let order = json!({ "url": url, "public_id": "beach" });
    let request = Request::new(Method::POST, "/v1/media/fetch")
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {}", rig.shop.key))
        .header("traceparent", PARENT)
        .header("tracestate", "vendor=1")
        .body(order.to_string());
    let job = id(&ok(&rig.api.send(&request).await, 202));
    ok(&rig.api.json(Method::PUT, &rig.shop.key, "/v1/policy", &json!({ "open": true })).await, 200);
    let worked = rig.try_worker().await;
    assert!(worked.status.success());
    let edge = rig
        .edge()
        .set("traces.endpoint", format!("{:?}", collector.url()))
        .set("traces.trust_incoming", true)
        .start()
        .await;
    let delivery = Request::get("/shop/w=40,f=jpeg/beach").header("traceparent", PARENT);
    eventually("it is delivered", async || (edge.send(&delivery).await.status == 200).then_some(())).await;
    picture_of(&edge.send(&delivery).await, "image/jpeg");
    edge.stop().await;
    rig.api.stop().await;

    let spans: Vec<_> = collector.spans().into_iter().filter(|span| span.trace == PARENT[3..35]).collect();
    let [api, worker, front] = ["calotype-control-plane", "calotype-worker", "calotype-edge"];
    let ordered = find(&spans, api, "POST /v1/media/fetch");
    assert_eq!((ordered.parent.as_str(), ordered.kind), (&PARENT[36..52], 2));
    assert_eq!(ordered.attributes["http.response.status_code"], "202");
    assert_eq!(ordered.attributes["calotype.tenant"], rig.shop.id);
    let done = find(&spans, worker, "media_fetch");
    assert_eq!((done.parent.as_str(), done.kind, done.failed), (ordered.id.as_str(), 5, false));
    assert_eq!(done.attributes["calotype.job"], job);
    let fetched = find(&spans, worker, "GET");
    assert_eq!(fetched.parent, done.id);
    // The address may have a secret in it.
    assert_eq!(fetched.attributes["url.full"], format!("http://{}/beach.png", server.address()));
    let [seen] = server.seen().try_into().expect("one request");
    assert_eq!(seen.headers["traceparent"], format!("{}-{}-01", &PARENT[..35], fetched.id));
    assert_eq!(seen.headers["tracestate"], "vendor=1");
    let fill = find(&spans, front, "fill");
    let delivered = spans.iter().find(|span| span.id == fill.parent).expect("somebody has asked for it");
    assert_eq!((delivered.parent.as_str(), delivered.attributes["calotype.cache"].as_str()), (&PARENT[36..52], "miss"));
    for part in ["fetch", "queue", "transform"] {
        assert_eq!(find(&spans, front, part).parent, fill.id, "{part}");
    }

    // Lines of the log and events say what they are part of.
    let log = String::from_utf8(worked.stderr).expect("text");
    let line = log.lines().find(|line| line.contains("job done")).expect("it is told");
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!((&line["trace_id"], &line["span_id"]), (&PARENT[3..35].into(), &done.id.as_str().into()));
}

#[tokio::test]
async fn what_edges_ask_is_traced_and_strangers_only_leave_a_link() {
    let collector = Collector::start().await.expect("a port");
    let rig = MediaRig::with_folder(&[("TRACES__ENDPOINT", collector.url())]).await;
    let request = Request::get("/v1/media")
        .header("authorization", format!("Bearer {}", rig.shop.key))
        .header("traceparent", PARENT);
    ok(&rig.api.send(&request).await, 200);
    let edge = rig.edge().set("traces.endpoint", format!("{:?}", collector.url())).start().await;
    let snapshot = eventually("the edge's question", async || {
        let spans = collector.spans();
        let answered = spans.iter().find(|span| span.name == "GET /internal/v1/snapshot")?;
        let is_asker = |span: &&Collected| span.service == "calotype-edge" && answered.links == [span.trace.clone()];
        spans.iter().find(is_asker).map(|_| answered.clone())
    })
    .await;
    assert!(snapshot.parent.is_empty() && snapshot.service == "calotype-control-plane", "{snapshot:?}");
    edge.stop().await;
    let events = rig.api.events();
    rig.api.stop().await;
    let spans = collector.spans();
    let listed = find(&spans, "calotype-control-plane", "GET /v1/media");
    assert!(listed.parent.is_empty() && listed.trace != PARENT[3..35], "{listed:?}");
    assert_eq!(listed.links, [&PARENT[3..35]]);
    let event = events.iter().find(|event| event["path"] == "/v1/media").expect("it is told");
    assert_eq!(event["trace_id"], listed.trace.as_str());
    // Those who only look whether it lives are no requests to follow.
    assert!(spans.iter().all(|span| !span.name.contains("readyz")), "{spans:?}");
}
