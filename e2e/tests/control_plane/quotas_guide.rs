//! `docs/quotas.md`, run: its commands as they stand there, and what it says that they answer.

use std::process::Stdio;

use serde_json::{Value, json};
use testkit::control_plane::{ADMIN_KEY, EDGE_TOKEN};
use time::OffsetDateTime;
use tokio::process::Command;

use crate::media_rig::{MediaRig, TestForm};
use crate::support::ok;

/// Where the guide says that the API is.
const API: &str = "http://127.0.0.1:8000";

const GUIDE: &str = include_str!("../../../docs/quotas.md");

/// The blocks of this language, in their order.
fn blocks(mark: &str) -> Vec<&'static str> {
    let start = format!("```{mark}\n");
    GUIDE.split(&start).skip(1).map(|rest| rest.split("```").next().expect("it ends")).collect()
}

/// What the commands of a block print.
async fn run(rig: &MediaRig, block: &str) -> String {
    let script = block.replace(API, &format!("http://{}", rig.api.addr()));
    let mut bash = Command::new("bash");
    bash.args([
        "-euo",
        "pipefail",
        "-c",
        &format!("curl() {{ command curl -sS --fail-with-body \"$@\"; echo; }}\n{script}"),
    ]);
    bash.env("KEY", &rig.shop.key).env("ADMIN_KEY", ADMIN_KEY).stdin(Stdio::null()).kill_on_drop(true);
    let output = bash.output().await.expect("bash is there");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    assert!(output.status.success(), "{block}\n{}{}", text(output.stdout), text(output.stderr));
    text(output.stdout)
}

/// The same with every number, text and list of texts left out.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
        Value::Array(items) => items.first().map_or(Value::Null, |first| json!([shape(first)])),
        Value::String(_) => json!("text"),
        Value::Number(_) => json!("number"),
        other => other.clone(),
    }
}

#[tokio::test]
async fn every_command_works_and_answers_as_it_says() {
    let rig = MediaRig::start().await;
    ok(&rig.post(TestForm::file(b"bytes")).await, 201);
    let [month, csv, operator, quotas] = <[_; 4]>::try_from(blocks("sh")).expect("four blocks");
    let [usage, told_quotas, event] = <[_; 3]>::try_from(blocks("json")).expect("three blocks");
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let line = |text: &str, number: usize| read(text.lines().nth(number).expect("a line for each answer"));

    let answer = run(&rig, month).await;
    assert_eq!(shape(&line(&answer, 0)), shape(&read(usage)));
    let answer = run(&rig, csv).await;
    assert!(answer.starts_with("day,requests,") && answer.lines().count() > 1, "{answer}");
    let answer = run(&rig, operator).await;
    assert_eq!(shape(&line(&answer, 0)), shape(&read(usage)));
    assert_eq!(line(&answer, 1)["items"][0]["slug"], "shop");
    let answer = run(&rig, quotas).await;
    for number in [0, 1] {
        assert_eq!(shape(&line(&answer, number)), shape(&read(told_quotas)));
    }
    let limits = |quotas: &Value| {
        ["storage_bytes", "files", "bandwidth_bytes", "transforms"].map(|of| quotas[of]["limit"].clone())
    };
    assert_eq!(limits(&line(&answer, 1)), limits(&read(told_quotas)));

    let day = OffsetDateTime::now_utc().unix_timestamp() / 86_400;
    let row = json!({"tenant": rig.shop.id, "day": day, "bytes": 160_000_311_204_u64});
    let report = json!({"edge": "e", "boot": "00000000-0000-4000-8000-00000000000b", "number": 1, "rows": [row]});
    ok(&rig.api.json(http::Method::POST, EDGE_TOKEN, "/internal/v1/usage", &report).await, 200);
    let data: Value = sqlx::query_scalar("SELECT data FROM events WHERE kind = 'quota.warning'")
        .fetch_one(&rig.superuser().await)
        .await
        .expect("it was told");
    let mut expected = read(event);
    expected["month"] = data["month"].clone();
    assert_eq!(data, expected);
}

#[test]
fn every_field_that_is_told_is_explained() {
    let usage: Value = serde_json::from_str(blocks("json")[0]).expect("JSON");
    for name in usage["totals"].as_object().expect("an object").keys() {
        assert!(GUIDE.lines().any(|line| line.starts_with("| `") && line.contains(&format!("`{name}`"))), "{name}");
    }
}
