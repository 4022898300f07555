//! What several topics share.
#![allow(unreachable_pub, reason = "in a test, pub means: for the other modules")]

use serde_json::Value;
use testkit::control_plane::body;
use testkit::http::Response;

/// Fails unless the answer is a problem of this status and code; the detail.
#[track_caller]
pub fn problem(answer: &Response, status: u16, code: &str) -> String {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let problem = body(answer);
    assert_eq!((&problem["status"], &problem["code"]), (&status.into(), &code.into()), "{problem}");
    assert_eq!(problem["type"], format!("urn:calotype:problem:{code}"));
    problem["detail"].as_str().expect("a text").to_owned()
}

/// Fails unless the answer has this status; its JSON.
#[track_caller]
pub fn ok(answer: &Response, status: u16) -> Value {
    assert_eq!(answer.status.as_u16(), status, "{}", answer.text());
    if answer.body.is_empty() { Value::Null } else { body(answer) }
}

/// The entity tag of an answer.
#[track_caller]
pub fn etag(answer: &Response) -> String {
    answer.header("etag").expect("it has a version").to_owned()
}

/// The blocks of a language in a guide, a file of `docs`, in their order.
pub fn blocks(guide: &str, language: &str) -> Vec<String> {
    let path = format!("{}/../docs/{guide}", env!("CARGO_MANIFEST_DIR"));
    let guide = std::fs::read_to_string(path).expect("the guide is there");
    let start = format!("\n```{language}\n");
    let rest = guide.split(&start).skip(1);
    rest.map(|rest| rest.split_once("```").expect("it ends").0.to_owned()).collect()
}
