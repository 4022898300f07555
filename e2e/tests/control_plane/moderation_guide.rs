//! `docs/moderation.md`, run: its requests against a control plane with ClamAV, and its endpoint.

use std::process::Stdio;

use devstack::process::Process;
use serde_json::{Value, json};
use testkit::edge::eventually;
use testkit::port::Port;
use testkit::scanner::Clamd;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::media_rig::{MediaRig, id, picture};
use crate::scan_rig::{BLUE, RED, harmful, medium, settings, try_again, upload};
use crate::support;

/// Another secret than any of the other tests.
const SECRET: &str = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

/// Its blocks of a language, in their order.
fn blocks(language: &str) -> Vec<String> {
    support::blocks("moderation.md", language)
}

/// A guide's reader, with a shell.
struct Reader<'a> {
    rig: &'a MediaRig,
    endpoint: String,
}

impl Reader<'_> {
    /// Runs each line of a block that begins something; what each answers.
    async fn runs(&self, block: &str, medium: &str) -> Vec<Value> {
        let block = block.replace("http://127.0.0.1:8000", &format!("http://{}", self.rig.api.addr()));
        let mut answers = Vec::new();
        for command in block.split("\ncurl ").map(|rest| format!("curl {}", rest.trim_start_matches("curl "))) {
            let mut shell = Command::new("bash");
            shell.arg("-euc").arg(&command).env("KEY", &self.rig.shop.key).env("SECRET", SECRET);
            shell.env("ENDPOINT", &self.endpoint).env("ID", medium);
            let done = shell.output().await.expect("there is a shell");
            assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
            answers.push(serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("no JSON: {command}")));
        }
        answers
    }
}

/// The guide's endpoint.
async fn endpoint(port: &Port) -> Process {
    let code = blocks("python");
    assert_eq!(code.len(), 1);
    let mut python = Command::new("python3");
    python.arg("-c").arg(&code[0]).env("SECRET", SECRET).env("PORT", port.address.port().to_string());
    python.stdin(Stdio::null()).stderr(Stdio::null());
    let process = Process::start(python).expect("python3 is there");
    eventually("the endpoint", async || TcpStream::connect(port.address).await.ok()).await;
    process
}

#[tokio::test]
async fn what_the_guide_says_works() {
    let (scanner, port) = (Clamd::start().await, Port::keep().expect("a port is free"));
    let toml = blocks("toml");
    let named = |key: &str| {
        let line = toml[0].lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('='));
        line.and_then(|value| value.split('#').next()).expect(key).trim().to_owned()
    };
    assert!(toml[0].starts_with("[control-plane.scanner]\naddress = \"/"));
    let mut settings = settings(&scanner.socket().display().to_string());
    settings.push(("SCANNER__SECONDS", named("seconds")));
    settings.push(("SCANNER__BYTES", named("bytes")));
    settings.push(("WEBHOOKS__PRIVATE", "[\"127.0.0.1\"]".to_owned()));
    settings.push(("WEBHOOKS__PORTS", format!("[{}]", port.address.port())));
    let rig = MediaRig::with_folder(&settings).await;
    let reader = Reader { rig: &rig, endpoint: format!("http://{}/", port.address) };
    let [put_any, put_image, look, decide, again] = <[String; 5]>::try_from(blocks("sh")).expect("five blocks");

    reader.runs(&put_any, "").await;
    let bad = upload(&rig, "bad", &harmful(RED)).await;
    assert_eq!(reader.runs(&look, &id(&bad)).await[0]["items"][0]["id"], bad["id"]);
    rig.worker().await;
    let shown = reader.runs(&look, &id(&bad)).await;
    assert_eq!((&shown[0]["items"], &shown[1]["items"]), (&json!([]), &json!([])));
    assert_eq!(shown[2]["state"], "rejected");
    let released_and_rejected = reader.runs(&decide, &id(&bad)).await;
    assert_eq!(released_and_rejected[0]["state"], "ready");
    assert_eq!(released_and_rejected[1]["state"], "rejected");
    assert_eq!(released_and_rejected[1]["scan"]["reason"], "taken down at the request of its owner");

    reader.runs(&put_image, "").await;
    let good = upload(&rig, "good", &picture(RED)).await;
    let forbidden = upload(&rig, "forbidden", &[picture(BLUE), b"forbidden".to_vec()].concat()).await;
    // Nobody listens yet.
    rig.worker().await;
    assert_eq!(medium(&rig, &good).await["state"], "quarantined");
    let _endpoint = endpoint(&port).await;
    try_again(&rig).await;
    let passed = medium(&rig, &good).await;
    assert_eq!((&passed["state"], &passed["tags"]), (&json!("ready"), &json!(["looked-at"])), "{passed}");
    let rejected = medium(&rig, &forbidden).await;
    assert_eq!((&rejected["state"], &rejected["scan"]["reason"]), (&json!("rejected"), &json!("moderate: forbidden")));
    let job = reader.runs(&again, &id(&good)).await;
    assert_eq!(job[0]["kind"], "scan");
    rig.worker().await;
    assert_eq!(medium(&rig, &good).await["scan"]["event"], "requested");
}

/// What the guide shows of a medium has the keys that a medium has.
#[tokio::test]
async fn what_the_guide_shows_is_what_there_is() {
    let scanner = Clamd::start().await;
    let rig = crate::scan_rig::rig_with(scanner.address()).await;
    let made = upload(&rig, "bad", &harmful(RED)).await;
    rig.worker().await;
    let now = medium(&rig, &made).await;
    let examples = blocks("json");
    let shown = examples.iter().find(|block| block.contains("\"scan\"")).expect("it shows one");
    let shown: Value = serde_json::from_str(&shown.replace("…,", "").replace(", …", "")).expect("JSON");
    fn keys(value: &Value) -> Vec<&String> {
        value.as_object().expect("an object").keys().collect()
    }
    for place in ["/scan", "/scan/workflow", "/scan/steps/0"] {
        let of = |value: &Value| keys(value.pointer(place).expect(place)).into_iter().cloned().collect::<Vec<_>>();
        assert_eq!(of(&shown), of(&now), "{place}");
    }
}
