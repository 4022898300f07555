//! `docs/webhooks.md`, run: its commands one after the other, and its snippets on what was really sent.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use testkit::clock::Clock;
use testkit::receiver::Received;

use crate::webhook_rig::{TestWebhook, WebhookRig};

/// Where the guide has the API and the receiver.
const API: &str = "http://127.0.0.1:8000";
const HOOK: &str = "https://shop.example/calotype";

fn guide() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/webhooks.md");
    std::fs::read_to_string(path).expect("the guide is there")
}

/// The blocks of this language.
fn blocks<'a>(guide: &'a str, mark: &str) -> Vec<&'a str> {
    let start = format!("\n```{mark}\n");
    guide.split(&start).skip(1).map(|rest| rest.split_once("```").expect("it ends").0).collect()
}

/// Runs a block of the guide; what it prints, as JSON.
async fn run(block: &str, hooks: &WebhookRig, variables: &BTreeMap<&str, String>) -> Value {
    let script = block.replace(API, &format!("http://{}", hooks.rig.api.addr()));
    let script = script.replace(HOOK, &hooks.receiver.url("/calotype"));
    let mut shell = tokio::process::Command::new("sh");
    let output = shell.args(["-euc", &script]).envs(variables).stdin(Stdio::null()).output().await;
    let output = output.expect("every system has it");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{script}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{script}: {text}"))
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn its_commands_do_what_it_says() {
    let guide = guide();
    let hooks = WebhookRig::start(&[]).await;
    let commands = blocks(&guide, "sh");
    let [make, test, enable, since, log, again, events, rotate] = commands[..] else {
        panic!("{} commands, of which each has to be known here", commands.len())
    };
    let mut variables = BTreeMap::from([("KEY", hooks.rig.shop.key.clone())]);
    let made = run(make, &hooks, &variables).await;
    assert_eq!(made["types"], json!(["media.created", "media.deleted"]));
    assert!(text(&made["secret"]).starts_with("whsec_"));
    variables.insert("WEBHOOK", text(&made["id"]));
    let webhook = TestWebhook { path: format!("/v1/webhooks/{}", text(&made["id"])), secret: text(&made["secret"]) };

    let tested = run(test, &hooks, &variables).await;
    hooks.happen(1, 1).await;
    hooks.rig.worker().await;
    let received = hooks.receiver.received();
    assert_eq!(received[0].id(), text(&tested["event_id"]));
    assert_eq!(received[1].json()["type"], "media.created");

    assert_eq!(run(enable, &hooks, &variables).await["state"], "enabled");
    // It was delivered since then.
    assert_eq!(run(since, &hooks, &variables).await, json!({"count": 0, "next_after": null}));
    let delivered = run(log, &hooks, &variables).await;
    assert_eq!(delivered["items"].as_array().expect("a list").len(), 2);
    variables.insert("EVENT", received[1].id().to_owned());
    assert_eq!(run(again, &hooks, &variables).await["state"], "pending");
    hooks.rig.worker().await;
    hooks.delivery_in(&webhook, received[1].id(), "delivered").await;
    assert_eq!(hooks.receiver.count(), 3);
    let listed = run(events, &hooks, &variables).await;
    assert_eq!(listed["items"][0]["id"], received[1].id());
    let rotated = run(rotate, &hooks, &variables).await;
    assert!(rotated["old_secret_until"].is_string() && rotated["secret"] != made["secret"]);
}

fn is_ours(secret: &str, headers: &http::HeaderMap, body: &[u8]) -> bool {
    standardwebhooks::Webhook::new(secret).is_ok_and(|webhook| webhook.verify(body, headers).is_ok())
}

/// What a snippet is run with: its file, its program, and what goes after it.
struct Language {
    mark: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    file: &'static str,
    epilogue: &'static str,
}

const LANGUAGES: [Language; 2] = [
    Language {
        mark: "ts",
        program: "node",
        arguments: &[],
        file: "verify.mjs",
        epilogue: "import { readFileSync } from \"node:fs\";\n\
                   for (const [secret, headers, body] of JSON.parse(readFileSync(\"cases.json\", \"utf8\"))) console.log(isOurs(secret, headers, body));",
    },
    Language {
        mark: "python",
        program: "python3",
        arguments: &[],
        file: "verify.py",
        epilogue: "import json\n\
                   for secret, headers, body in json.load(open(\"cases.json\")): print(str(is_ours(secret, headers, body)).lower())",
    },
];

/// What one of them says to a request, and to ones that are not quite it; nothing where the language is not installed.
fn judge(language: &Language, guide: &str, cases: &Value, clock: &Clock) -> Option<Vec<bool>> {
    let folder = tempfile::tempdir().expect("a folder");
    let snippets = blocks(guide, language.mark);
    assert_eq!(snippets.len(), 1, "blocks of {}", language.mark);
    // Not every Node that is in use reads types.
    let snippet = snippets[0].replace(": string", "").replace(": Record<string, string>", "");
    let text = format!("{snippet}\n{}\n", language.epilogue);
    std::fs::write(folder.path().join(language.file), text).expect("the folder is ours");
    std::fs::write(folder.path().join("cases.json"), cases.to_string()).expect("the folder is ours");
    let mut command = Command::new(language.program);
    command.args(language.arguments).arg(language.file).current_dir(folder.path());
    clock.give_to(&mut command);
    let output = match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        output => output.expect("it can be started"),
    };
    assert!(output.status.success(), "{}: {}", language.mark, String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).expect("text").lines().map(|line| line == "true").collect())
}

/// A request as the snippets take it, with one thing changed.
fn case(secret: &str, received: &Received, change: Option<(&str, &str)>) -> Value {
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let mut headers: BTreeMap<_, _> = names.iter().map(|name| (*name, received.header(name))).collect();
    let mut body = std::str::from_utf8(&received.body).expect("JSON");
    match change {
        Some(("body", other)) => body = other,
        Some((name, other)) => drop(headers.insert(names.iter().find(|one| **one == name).expect("a header"), other)),
        None => {}
    }
    json!([secret, headers, body])
}

#[tokio::test]
async fn its_snippets_take_what_is_ours_and_nothing_else_and_nothing_by_a_clock_that_is_off() {
    let guide = guide();
    let hooks = WebhookRig::start(&[]).await;
    let webhook = hooks.webhook().await;
    let rotated = hooks.ask(http::Method::POST, &format!("{}/secret", webhook.path), &json!({}), 200).await;
    let newest = text(&rotated["secret"]);
    hooks.happen(1, 1).await;
    hooks.rig.worker().await;
    let received = hooks.receiver.received().remove(0);
    let other = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let rust = blocks(&guide, "rust");
    assert!(
        rust.len() == 1 && include_str!("webhooks_guide.rs").contains(rust[0]),
        "the function above is the guide's"
    );
    for (secret, body, expected) in [
        (newest.as_str(), &received.body[..], true),
        (&webhook.secret, &received.body, true),
        (other, &received.body, false),
        (&newest, b"{}", false),
    ] {
        assert_eq!(is_ours(secret, &received.headers, body), expected);
    }

    let cases = json!([
        case(&newest, &received, None),
        case(&webhook.secret, &received, None),
        case(other, &received, None),
        case(&newest, &received, Some(("body", "{}"))),
        case(&newest, &received, Some(("webhook-id", "another"))),
        case(&newest, &received, Some(("webhook-timestamp", "1700000000"))),
        case(&newest, &received, Some(("webhook-timestamp", "soon"))),
        case(&newest, &received, Some(("webhook-signature", "v1,AAAA v1a,AAAA"))),
        case(&newest, &received, Some(("webhook-signature", ""))),
    ]);
    let clock = Clock::new();
    for (seconds, expected) in
        [(0, [true, true, false, false, false, false, false, false, false]), (600, [false; 9]), (-600, [false; 9])]
    {
        clock.shift(seconds);
        for language in &LANGUAGES {
            match judge(language, &guide, &cases, &clock) {
                Some(judged) => assert_eq!(judged, expected, "{} by a clock that is off by {seconds} s", language.mark),
                None => eprintln!("a snippet of docs/webhooks.md was not run: {} is not installed", language.program),
            }
        }
    }
}
