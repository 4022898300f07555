//! Steps that ask an endpoint: what it is sent, what its answer does, and what no answer does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::http::Method;
use bytes::Bytes;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use testkit::control_plane::MASTER_KEY;
use testkit::database::TestDatabase;
use testkit::http::Request;
use testkit::receiver::{Received, Receiver, Reply};
use uploads::Pointer;

use crate::media_rig::{MediaRig, TestForm, id, picture};
use crate::scan_rig::{BLUE, RED, job, medium, put_workflow, try_again, upload};
use crate::support::{ok, problem};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A success with this JSON.
fn says(answer: &Value) -> Reply {
    Reply::Answer(200, "content-type: application/json\r\n".to_owned(), Bytes::from(answer.to_string()))
}

/// Settings with which the endpoint may be reached.
fn settings(endpoint: &Receiver) -> Vec<(&'static str, String)> {
    vec![
        ("MASTER_KEY", MASTER_KEY.to_owned()),
        ("WEBHOOKS__PRIVATE", "[\"127.0.0.1\"]".to_owned()),
        ("WEBHOOKS__PORTS", format!("[{}]", endpoint.address.port())),
    ]
}

fn step(endpoint: &Receiver, more: Value) -> Value {
    let mut step = json!({"name": "look", "http": {"url": endpoint.url("/look?x=1"), "secret": SECRET}});
    step.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    step
}

/// A control plane whose tenant has all media looked at by this endpoint.
async fn rig_with(endpoint: &Receiver) -> MediaRig {
    let rig = MediaRig::with_folder(&settings(endpoint)).await;
    put_workflow(&rig, "any", json!([step(endpoint, json!({"timeout_seconds": 2}))])).await;
    rig
}

/// Fails unless an implementation of Standard Webhooks that is not ours takes a request for one that was signed just now.
fn assert_signed(request: &Received) {
    let verifier = Webhook::new(SECRET).expect("a secret as the standard has it");
    verifier.verify(&request.body, &request.headers).expect("it is signed");
}

/// What a URL on this machine is answered with.
async fn fetched(url: &str) -> testkit::http::Response {
    let (host, target) = url.strip_prefix("http://").expect("plain").split_once('/').expect("a path");
    let address = host.parse().expect("an address");
    testkit::http::send(address, &Request::get(format!("/{target}"))).await.expect("an answer")
}

#[tokio::test]
async fn an_endpoint_is_told_of_the_bytes_and_its_findings_are_said_of_the_medium() {
    let endpoint = Receiver::start_with(|_, _| {
        says(&json!({"verdict": "pass", "metadata": {"nsfw": 0.02, "year": 2027}, "tags": ["beach", "sun"], "more": [1]}))
    })
    .await;
    let rig = rig_with(&endpoint).await;
    let form = TestForm::default()
        .text("public_id", "a")
        .text("tags", "sun")
        .text("metadata", "{\"year\":2026,\"by\":\"me\"}");
    let made = ok(&rig.post(form.add("file", None, &picture(RED))).await, 201);
    rig.worker().await;
    let request = endpoint.received().remove(0);
    assert_eq!((request.target.as_str(), request.header("content-type")), ("/look?x=1", "application/json"));
    assert_signed(&request);
    let told = request.json();
    assert_eq!(
        (&told["type"], &told["step"], &told["event"], &told["kind"]),
        (&json!("workflow.step"), &json!("look"), &json!("created"), &json!("image"))
    );
    assert_eq!((&told["media"]["id"], &told["media"]["state"]), (&made["id"], &json!("quarantined")));
    // The bytes are there for it, and for nobody whom it has not told.
    let url = told["url"].as_str().expect("a URL");
    let bytes = fetched(url).await;
    assert_eq!((bytes.status.as_u16(), &bytes.body[..]), (200, &picture(RED)[..]));
    assert_eq!(bytes.header("content-type"), Some("application/octet-stream"));
    assert_eq!(bytes.header("content-disposition"), Some("attachment"));
    for bad in [format!("{url}0"), url.replace("token=", "token=A"), url.split('?').next().expect("a path").to_owned()]
    {
        problem(&fetched(&bad).await, 403, "url-refused");
    }
    let passed = medium(&rig, &made).await;
    assert_eq!(passed["state"], "ready");
    assert_eq!(passed["metadata"], json!({"year": 2027, "by": "me", "nsfw": 0.02}));
    assert_eq!(passed["tags"], json!(["beach", "sun"]));
    assert_eq!(rig.target("a").tags, ["beach", "sun"]);
    assert!(passed["scan"].get("found").is_none(), "{passed}");
    rig.assert_tidy().await;
}

#[tokio::test]
async fn with_a_bucket_the_endpoint_reads_from_that() {
    let endpoint = Receiver::start_with(|_, _| says(&json!({"verdict": "pass"}))).await;
    let rig = MediaRig::with_bucket(TestDatabase::new().await, &settings(&endpoint)).await;
    put_workflow(&rig, "any", json!([step(&endpoint, json!({}))])).await;
    upload(&rig, "a", &picture(RED)).await;
    rig.worker().await;
    let told = endpoint.received().remove(0).json();
    let url = told["url"].as_str().expect("a URL");
    assert!(url.starts_with(&rig.relay().url()) && url.contains("X-Amz-Expires=900"), "{url}");
    assert_eq!(fetched(url).await.body, picture(RED));
}

#[tokio::test]
async fn an_endpoint_may_reject() {
    let endpoint = Receiver::start_with(|_, request| {
        let is_first = request.json()["event"] == "created";
        let long = "x".repeat(2000);
        says(&json!({"verdict": "reject", "reason": if is_first { "nudity\u{7}" } else { &long }, "tags": ["not", "said"]}))
    })
    .await;
    let rig = rig_with(&endpoint).await;
    let made = upload(&rig, "a", &picture(RED)).await;
    rig.worker().await;
    let rejected = medium(&rig, &made).await;
    assert_eq!((&rejected["state"], &rejected["scan"]["reason"]), (&json!("rejected"), &json!("look: nudity")));
    assert_eq!((&rejected["tags"], rig.pointer("a")), (&json!([]), Some(Pointer::Gone)));
    ok(&rig.put(&id(&made), &picture(BLUE)).await, 200);
    rig.worker().await;
    let reason = medium(&rig, &made).await["scan"]["reason"].as_str().expect("a reason").len();
    assert_eq!(reason, "look: ".len() + 500);
}

#[tokio::test]
async fn an_endpoint_has_the_time_of_its_step_for_the_whole_answer() {
    let endpoint = Receiver::start_with(|_, _| {
        Reply::SlowBody(Duration::from_secs(3), json!({"verdict": "pass"}).to_string().into())
    })
    .await;
    let rig = MediaRig::with_folder(&settings(&endpoint)).await;
    let more = json!({"timeout_seconds": 30});
    put_workflow(&rig, "any", json!([step(&endpoint, more)])).await;
    let made = upload(&rig, "a", &picture(RED)).await;
    rig.worker().await;
    let passed = medium(&rig, &made).await;
    assert_eq!(passed["state"], "ready", "{passed}");
}

#[tokio::test]
async fn what_is_no_answer_lets_nothing_through_and_costs_little() {
    let reply = Arc::new(Mutex::new(Reply::status(500)));
    let scripted = Arc::clone(&reply);
    let endpoint = Receiver::start_with(move |_, _| scripted.lock().expect("nobody panics with it").clone()).await;
    let rig = rig_with(&endpoint).await;
    let made = upload(&rig, "a", &picture(RED)).await;
    let large = || Bytes::from(vec![b' '; 10_000_000]);
    let metadata = |value: Value| says(&json!({"verdict": "pass", "metadata": value}));
    let elsewhere = format!("location: {}\r\n", endpoint.url("/elsewhere"));
    for (answer, told) in [
        (Reply::status(500), "has answered 500"),
        (Reply::status(401), "has answered 401"),
        (Reply::status(204), "has answered 204"),
        (Reply::Answer(307, elsewhere, Bytes::new()), "has answered 307"),
        (Reply::Hang, "in time"),
        (Reply::EndlessHead, "in time"),
        // By when the other side closes.
        (Reply::Close, "cannot be reached|the connection ended"),
        (Reply::CloseInBody, "the endpoint's answer is not"),
        (Reply::Answer(200, String::new(), large()), "more than 65536 bytes"),
        (Reply::Answer(200, String::new(), Bytes::from_static(b"ok")), "the endpoint's answer is not"),
        (says(&json!({})), "the endpoint's answer is not"),
        (says(&json!({"verdict": "maybe"})), "the endpoint's answer is not"),
        (says(&json!({"verdict": true})), "the endpoint's answer is not"),
        (metadata(json!([])), "metadata: "),
        (metadata(json!({"a": "x".repeat(17_000)})), "metadata: "),
        (says(&json!({"verdict": "pass", "tags": ["a,b"]})), "tags: "),
    ] {
        *reply.lock().expect("nobody panics with it") = answer.clone();
        let before = endpoint.count();
        try_again(&rig).await;
        assert_eq!(endpoint.count(), before + 1, "{answer:?}");
        let now = medium(&rig, &made).await;
        let note = now["scan"]["steps"][0]["note"].as_str().expect("a note");
        assert_eq!(now["state"], "quarantined", "{answer:?}");
        assert!(told.split('|').any(|told| note.contains(told)), "{answer:?}: {note}");
        assert_eq!(rig.pointer("a"), Some(Pointer::Gone));
    }
    // All of them were the same question.
    let asked = endpoint.received();
    assert!(asked.iter().all(|request| request.id() == asked[0].id()));
    asked.iter().for_each(assert_signed);
    *reply.lock().expect("nobody panics with it") = says(&json!({"verdict": "pass"}));
    try_again(&rig).await;
    assert_eq!(medium(&rig, &made).await["state"], "ready");
}

#[tokio::test]
async fn an_endpoint_at_a_private_address_is_not_asked() {
    let endpoint = Receiver::start_with(|_, _| says(&json!({"verdict": "pass"}))).await;
    let port = endpoint.address.port();
    let rig =
        MediaRig::with_folder(&[("MASTER_KEY", MASTER_KEY.to_owned()), ("WEBHOOKS__PORTS", format!("[{port}]"))]).await;
    let steps = |url: String| json!([{"name": "look", "http": {"url": url, "secret": SECRET}}]);
    // What can be seen from the URL is refused at once.
    for url in [endpoint.url("/"), format!("https://127.0.0.1:{port}/"), "https://169.254.169.254/".to_owned()] {
        let body = json!({"steps": steps(url.clone())});
        let answer = rig.api.json(Method::PUT, &rig.shop.key, "/v1/workflows/any", &body).await;
        assert!(problem(&answer, 422, "bad-field").contains("\"look\": url: "), "{url}");
    }
    // What only the name's address tells, when it is asked.
    put_workflow(&rig, "any", steps(format!("https://localhost:{port}/"))).await;
    let made = upload(&rig, "a", &picture(RED)).await;
    rig.worker().await;
    let now = medium(&rig, &made).await;
    assert_eq!((&now["state"], &now["scan"]["steps"][0]["verdict"]), (&json!("quarantined"), &json!("pending")));
    let note = now["scan"]["steps"][0]["note"].as_str().expect("a note");
    assert!(note.contains("not allowed") && !note.contains("127.0.0.1"), "{note}");
    assert_eq!(endpoint.count(), 0);
}

#[tokio::test]
async fn steps_are_asked_in_their_order_and_those_beside_take_a_medium_down() {
    let endpoint = Receiver::start_with(|_, request| match request.json()["step"].as_str() {
        Some("slow") => says(&json!({"verdict": "reject", "reason": "on second thoughts"})),
        _ => says(&json!({"verdict": "pass", "tags": ["first"]})),
    })
    .await;
    let rig = MediaRig::with_folder(&settings(&endpoint)).await;
    let named = |name: &str, more: Value| {
        let mut step = step(&endpoint, more);
        step["name"] = name.into();
        step
    };
    let only_requested = json!({"http": {"url": endpoint.url("/"), "secret": SECRET, "events": ["requested"]}});
    let steps = json!([
        named("a", json!({})),
        named("never", only_requested),
        named("b", json!({})),
        named("slow", json!({"wait": false}))
    ]);
    put_workflow(&rig, "any", steps).await;
    let made = upload(&rig, "a", &picture(RED)).await;
    rig.worker().await;
    let asked: Vec<_> = endpoint.received().iter().map(|request| request.json()["step"].clone()).collect();
    assert_eq!(asked, ["a", "b", "slow"]);
    let states: Vec<_> = endpoint.received().iter().map(|request| request.json()["media"]["state"].clone()).collect();
    assert_eq!(states, ["quarantined", "quarantined", "ready"]);
    let rejected = medium(&rig, &made).await;
    assert_eq!((&rejected["state"], &rejected["tags"]), (&json!("rejected"), &json!(["first"])));
    assert_eq!(rejected["scan"]["reason"], "slow: on second thoughts");
    assert_eq!(rig.pointer("a"), Some(Pointer::Gone));
    let ids: std::collections::BTreeSet<_> =
        endpoint.received().iter().map(|request| request.id().to_owned()).collect();
    assert_eq!(ids.len(), 3, "each question has an id of its own");
}

#[tokio::test]
async fn a_scan_that_is_asked_for_is_no_way_around_a_step() {
    let endpoint = Receiver::start_with(|_, _| Reply::status(500)).await;
    let rig = MediaRig::with_folder(&settings(&endpoint)).await;
    let only_created = json!({"http": {"url": endpoint.url("/"), "secret": SECRET, "events": ["created"]}});
    let beside = json!({"name": "beside", "http": {"url": endpoint.url("/"), "secret": SECRET}, "wait": false});
    put_workflow(&rig, "any", json!([step(&endpoint, only_created), beside])).await;
    let made = upload(&rig, "a", &picture(RED)).await;
    rig.worker().await;
    ok(&rig.api.json(Method::POST, &rig.shop.key, &format!("/v1/media/{}/scan", id(&made)), &json!({})).await, 202);
    rig.worker().await;
    let now = medium(&rig, &made).await;
    assert_eq!((&now["state"], &now["scan"]["event"]), (&json!("quarantined"), &json!("created")));
    assert_eq!(now["scan"]["steps"][0]["name"], "look");
    assert_eq!(rig.pointer("a"), Some(Pointer::Gone));
}

#[tokio::test]
async fn what_does_not_fit_beside_what_is_said_is_left_out_and_noted() {
    let endpoint = Receiver::start_with(|_, _| says(&json!({"verdict": "pass", "tags": ["one", "more"]}))).await;
    let rig = rig_with(&endpoint).await;
    let tags: Vec<_> = (0..49).map(|n| n.to_string()).collect();
    let form = TestForm::default().text("public_id", "a").text("tags", &tags.join(","));
    let made = ok(&rig.post(form.add("file", None, &picture(RED))).await, 201);
    rig.worker().await;
    let passed = medium(&rig, &made).await;
    assert_eq!((&passed["state"], passed["tags"].as_array().expect("a list").len()), (&json!("ready"), 49));
    assert!(passed["scan"]["steps"][0]["note"].as_str().expect("a note").contains("does not fit"), "{passed}");
}

#[tokio::test]
async fn a_slow_endpoint_is_waited_for_as_long_as_its_step_says() {
    let endpoint = Receiver::start_with(|_, _| Reply::Slow(Duration::from_secs(3))).await;
    let rig = MediaRig::with_folder(&settings(&endpoint)).await;
    let slow = json!([step(&endpoint, json!({"timeout_seconds": 1, "on_failure": "open", "wait": false}))]);
    put_workflow(&rig, "any", slow).await;
    let made = upload(&rig, "a", &picture(RED)).await;
    assert_eq!(made["state"], "ready", "it is served meanwhile");
    rig.worker().await;
    let now = medium(&rig, &made).await;
    assert_eq!((&now["state"], &now["scan"]["steps"][0]["failures"]), (&json!("ready"), &json!(1)));
    for _ in 1..5 {
        try_again(&rig).await;
    }
    let given_up = medium(&rig, &made).await;
    assert_eq!(
        (&given_up["scan"]["verdict"], &given_up["scan"]["steps"][0]["verdict"]),
        (&json!("passed"), &json!("unknown"))
    );
    assert_eq!(job(&rig, &given_up["scan"]).await["state"], "done");
    let target = format!("/v1/media/{}/bytes", id(&made));
    problem(&rig.api.json(Method::GET, &rig.shop.key, &target, &json!({})).await, 403, "url-refused");
}
