//! A control plane with a scanner, workflows to put, and looks at how media have fared.
#![allow(unreachable_pub, reason = "in a test, pub means: for the other modules")]

use std::net::SocketAddr;

use ::http::Method;
use serde_json::{Value, json};
use testkit::control_plane::MASTER_KEY;
use testkit::http::Response;
use testkit::scanner::HARMFUL;

use crate::media_rig::{MediaRig, TestForm, id, picture};
use crate::support::ok;

pub const RED: [u8; 3] = [200, 10, 10];
pub const BLUE: [u8; 3] = [10, 10, 200];

/// A picture that any edge would serve, and that the scanner takes for harmful.
pub fn harmful(colour: [u8; 3]) -> Vec<u8> {
    [picture(colour), HARMFUL.to_vec()].concat()
}

/// Settings with a scanner at this address.
pub fn settings(scanner: &str) -> Vec<(&'static str, String)> {
    vec![("MASTER_KEY", MASTER_KEY.to_owned()), ("SCANNER__ADDRESS", scanner.to_owned())]
}

/// A control plane with a scanner at this address, whose tenant has all media scanned before they are served.
pub async fn rig_with(scanner: SocketAddr) -> MediaRig {
    let rig = MediaRig::with_folder(&settings(&scanner.to_string())).await;
    put_workflow(&rig, "any", json!([{"name": "virus", "scan": {}}])).await;
    rig
}

/// Puts a workflow; what is answered.
pub async fn put_workflow(rig: &MediaRig, kind: &str, steps: Value) -> Value {
    let answer =
        rig.api.json(Method::PUT, &rig.shop.key, &format!("/v1/workflows/{kind}"), &json!({ "steps": steps })).await;
    assert!([200, 201].contains(&answer.status.as_u16()), "{}", answer.text());
    testkit::control_plane::body(&answer)
}

/// Uploads this; the medium.
pub async fn upload(rig: &MediaRig, public_id: &str, bytes: &[u8]) -> Value {
    ok(&rig.post(TestForm::default().text("public_id", public_id).add("file", None, bytes)).await, 201)
}

/// The medium as it is now.
pub async fn medium(rig: &MediaRig, of: &Value) -> Value {
    ok(&rig.get(&id(of)).await, 200)
}

/// The job that judges it.
pub async fn job(rig: &MediaRig, scan: &Value) -> Value {
    let job = scan["job"].as_str().unwrap_or_else(|| panic!("no job in {scan}"));
    ok(&rig.api.get(&rig.shop.key, &format!("/v1/jobs/{job}")).await, 200)
}

/// Asks for something to be done with a medium.
pub async fn ask(rig: &MediaRig, of: &Value, what: &str, body: &Value) -> Response {
    rig.api.json(Method::POST, &rig.shop.key, &format!("/v1/media/{}/{what}", id(of)), body).await
}

/// Decides by hand; the medium.
pub async fn decide(rig: &MediaRig, of: &Value, what: &str) -> Value {
    ok(&ask(rig, of, what, &json!({"reason": "looked at it"})).await, 200)
}

/// One more try of all that rests, at once.
pub async fn try_again(rig: &MediaRig) {
    rig.sql("UPDATE jobs SET run_at = now() WHERE state = 'delayed'").await;
    rig.worker().await;
}

/// The ids of media that a list has.
pub async fn listed(rig: &MediaRig, query: &str) -> Vec<String> {
    let page = ok(&rig.api.get(&rig.shop.key, &format!("/v1/media?{query}")).await, 200);
    page["items"].as_array().expect("a list").iter().map(id).collect()
}

/// The kinds of the events about media, the oldest first.
pub async fn told(rig: &MediaRig) -> Vec<String> {
    let kinds = sqlx::query_scalar("SELECT kind FROM events WHERE kind LIKE 'media.%' ORDER BY seq");
    kinds.fetch_all(&rig.superuser().await).await.expect("read")
}
