//! `calotype mcp`, spoken to by the protocol's own client, against a control plane and an edge that run.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use ::http::Method;
use rmcp::model::{CallToolRequestParams, CallToolResult};
use rmcp::service::RunningService;
use rmcp::{RoleClient, ServiceExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::control_plane::{ControlPlane, EDGE_TOKEN, MASTER_KEY, TestTenant, body};
use testkit::database::{TestDatabase, WORKER};
use testkit::edge::{Edge, EdgeSetup, eventually, picture as picture_of, program, without_settings_of_ours};
use testkit::web::{Page, WebServer};
use testkit::{http, images};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// For whatever one program does; longer than it ever takes.
const PATIENCE: Duration = Duration::from_secs(120);

fn picture() -> Vec<u8> {
    images::png::rgb(&images::swatches(&[[10, 20, 30]], 64), &images::png::Extras::default())
}

/// A control plane, an edge, and a web server to upload from.
struct Rig {
    api: ControlPlane,
    edge: Edge,
    shop: TestTenant,
    web: WebServer,
    uploads: TempDir,
    settings: Vec<(&'static str, String)>,
}

/// A running `calotype mcp` and who speaks to it.
struct Assistant {
    client: RunningService<RoleClient, ()>,
    child: Child,
}

impl Rig {
    async fn start() -> Self {
        let web = WebServer::start().await.expect("a web server");
        let uploads = tempfile::tempdir().expect("a folder can be made");
        let folder = uploads.path().display().to_string();
        let setup = EdgeSetup::new();
        let settings = vec![
            ("MASTER_KEY", MASTER_KEY.to_owned()),
            ("UPLOADS__FOLDER", folder.clone()),
            ("FETCH_PRIVATE", "[\"127.0.0.1\"]".to_owned()),
            ("FETCH_PORTS", format!("[{}]", web.address().port())),
            ("DELIVERY_URL", format!("http://{}", setup.addr())),
        ];
        let api = ControlPlane::start_with(TestDatabase::new().await, &settings).await;
        let shop = api.tenant("shop").await;
        let feed = setup.home().join("feed").display().to_string();
        let edge = setup
            .set("control_plane.url", format!("\"http://{}\"", api.addr()))
            .set("control_plane.token", format!("{EDGE_TOKEN:?}"))
            .set("control_plane.dir", format!("{feed:?}"))
            .set("uploads.folder", format!("{folder:?}"))
            .start()
            .await;
        Self { api, edge, shop, web, uploads, settings }
    }

    /// The command with what a configuration sets.
    fn command(&self) -> Command {
        let mut command = Command::new(program("calotype"));
        without_settings_of_ours(&mut command);
        command
            .args(["mcp", "--data"])
            .arg(self.uploads.path().join("no-state"))
            .env("CALOTYPE_SERVER", format!("http://{}", self.api.addr()))
            .env("CALOTYPE_API_KEY", &self.shop.key);
        command
    }

    async fn worker(&self) {
        let mut settings = self.settings.clone();
        settings.push(("WORKER_URL", self.api.database.url(WORKER)));
        let done = self.api.run(&["worker", "--once"], &settings).await;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    async fn delivered(&self, url: &str, status: u16) -> http::Response {
        let target =
            url.strip_prefix(&format!("http://{}", self.edge.addr())).unwrap_or_else(|| panic!("not here: {url}"));
        eventually("the edge has heard of it", async || {
            let answer = self.edge.get(target).await;
            (answer.status.as_u16() == status).then_some(answer)
        })
        .await
    }
}

impl Assistant {
    async fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("it can be started");
        let (output, input) = (child.stdout.take().expect("piped"), child.stdin.take().expect("piped"));
        let client =
            timeout(PATIENCE, ().serve((output, input))).await.expect("in time").expect("it speaks the protocol");
        Self { client, child }
    }

    async fn call(&self, tool: &str, arguments: Value) -> CallToolResult {
        let arguments = arguments.as_object().expect("an object").clone();
        let call = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        timeout(PATIENCE, self.client.call_tool(call)).await.expect("in time").expect("it answers")
    }

    /// What a tool answers, as data.
    async fn ok(&self, tool: &str, arguments: Value) -> Value {
        let answer = self.call(tool, arguments).await;
        assert_ne!(answer.is_error, Some(true), "{answer:?}");
        let structured = answer.structured_content.clone().unwrap_or_else(|| panic!("no data in {answer:?}"));
        // For clients that read text only.
        let text: Value = serde_json::from_str(&text(&answer)).expect("the text is the same JSON");
        assert_eq!(text, structured);
        structured
    }

    /// Why a tool has not done it, as an assistant reads it.
    async fn refused(&self, tool: &str, arguments: Value) -> String {
        let answer = self.call(tool, arguments).await;
        assert_eq!(answer.is_error, Some(true), "{answer:?}");
        text(&answer)
    }

    /// Ends it as a host does: by closing its standard input. What it wrote to standard error.
    async fn stop(mut self) -> String {
        self.client.cancel().await.expect("it runs");
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it ends by itself").expect("it is ours");
        assert!(status.success(), "{status}");
        let mut told = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut told).await.expect("text");
        told
    }
}

fn text(answer: &CallToolResult) -> String {
    answer.content.iter().filter_map(|block| Some(block.as_text()?.text.clone())).collect()
}

#[tokio::test]
async fn tools_say_what_they_take_and_whether_they_change_anything() {
    let rig = Rig::start().await;
    let assistant = Assistant::start(rig.command()).await;
    let about = assistant.client.peer_info().expect("it has said");
    let instructions = about.instructions.clone().unwrap_or_default();
    for op in ["- width (w): ", "- fit: ", "- format (f): ", "- overlay (ol): "] {
        assert!(instructions.contains(op), "{op} is not in {instructions}");
    }
    let tools = assistant.client.list_all_tools().await.expect("a list");
    let hints: Vec<_> = tools
        .iter()
        .map(|tool| {
            let hints = tool.annotations.as_ref().expect("annotations");
            assert!(tool.output_schema.is_some() && tool.description.is_some(), "{}", tool.name);
            assert_eq!(tool.input_schema["additionalProperties"], false, "{}", tool.name);
            (tool.name.as_ref(), hints.read_only_hint, hints.destructive_hint, hints.open_world_hint)
        })
        .collect();
    let (yes, no) = (Some(true), Some(false));
    let expected = [
        ("delivery_url", yes, no, no),
        ("get_media", yes, no, no),
        ("list_media", yes, no, no),
        ("purge", no, yes, no),
        ("upload_from_url", no, no, yes),
    ];
    assert_eq!(hints, expected);
    assert_eq!(assistant.stop().await, "");
}

#[tokio::test]
async fn an_upload_is_found_delivered_and_purged() {
    let rig = Rig::start().await;
    let assistant = Assistant::start(rig.command()).await;
    rig.web.put("/beach.png", Page::new(picture()));
    let url = format!("http://{}/beach.png", rig.web.address());
    let name = "summer/my büro (1).png";
    let order =
        json!({ "url": url, "public_id": name, "folder": "summer", "tags": ["sea"], "metadata": { "year": 2026 } });
    let (uploaded, ()) = tokio::join!(assistant.ok("upload_from_url", order.clone()), async {
        eventually("the job is there", async || {
            let jobs = body(&rig.api.get(&rig.shop.key, "/v1/jobs").await);
            jobs["items"].as_array().is_some_and(|jobs| !jobs.is_empty()).then_some(())
        })
        .await;
        rig.worker().await;
    });
    assert_eq!((&uploaded["state"], &uploaded["medium"]["public_id"]), (&"done".into(), &name.into()));
    let medium = uploaded["medium"].clone();
    assert_eq!(
        (&medium["width"], &medium["metadata"]["year"], &medium["kind"]),
        (&64.into(), &2026.into(), &"image".into())
    );
    for key in [&medium["id"], &medium["public_id"]] {
        assert_eq!(assistant.ok("get_media", json!({ "medium": key })).await, medium);
    }
    for (filter, found) in [
        (json!({}), 1),
        (json!({ "folder": "summer", "tag": "sea", "kind": "image", "public_id_prefix": "summer/", "limit": 1 }), 1),
        (json!({ "tag": "land" }), 0),
        (json!({ "kind": "video" }), 0),
    ] {
        let page = assistant.ok("list_media", filter.clone()).await;
        assert_eq!(page["items"].as_array().map(Vec::len), Some(found), "{filter}");
    }

    // One is there already; what cannot be fetched says why.
    let again = json!({ "url": url, "public_id": name, "wait_seconds": 0 });
    let waiting = assistant.ok("upload_from_url", again).await;
    assert_eq!((&waiting["state"], waiting.get("medium")), (&"queued".into(), None));
    rig.worker().await;
    let job = body(&rig.api.get(&rig.shop.key, &format!("/v1/jobs/{}", waiting["id"].as_str().expect("an id"))).await);
    assert_eq!(job["state"], "failed", "{job}");

    let answer = rig.api.json(Method::PUT, &rig.shop.key, "/v1/policy", &json!({ "open": true })).await;
    assert!(answer.status.is_success(), "{}", answer.text());
    let made = assistant.ok("delivery_url", json!({ "public_id": name, "ops": "w=32,f=jpeg,dpr=1" })).await;
    assert_eq!((&made["signed"], &made["canonical"]), (&false.into(), &"format=jpeg,width=32".into()));
    let url = made["url"].as_str().expect("a URL");
    let first = rig.delivered(url, 200).await;
    picture_of(&first, "image/jpeg");
    let path = &url[format!("http://{}", rig.edge.addr()).len()..];
    eventually("it is cached", async || {
        let status = rig.edge.get(path).await.header("cache-status").unwrap_or_default().to_owned();
        status.contains("hit").then_some(())
    })
    .await;
    assistant.ok("purge", json!({ "url": path })).await;
    eventually("it is made anew", async || {
        let status = rig.edge.get(path).await.header("cache-status").unwrap_or_default().to_owned();
        status.contains("fwd=").then_some(())
    })
    .await;
    assert_eq!(assistant.stop().await, "");
}

#[tokio::test]
async fn what_has_not_passed_its_checks_is_said_not_to_be_served() {
    let rig = Rig::start().await;
    // Nobody listens there: what asks has no answer, and waits.
    let step = json!({"name": "look", "http": {"url": "https://checks.example/", "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}});
    let answer = rig.api.json(Method::PUT, &rig.shop.key, "/v1/workflows/any", &json!({"steps": [step]})).await;
    assert!(answer.status.is_success(), "{}", answer.text());
    let assistant = Assistant::start(rig.command()).await;
    rig.web.put("/beach.png", Page::new(picture()));
    let url = format!("http://{}/beach.png", rig.web.address());
    let (uploaded, ()) = tokio::join!(assistant.ok("upload_from_url", json!({"url": url, "public_id": "a"})), async {
        eventually("the job is there", async || {
            let jobs = body(&rig.api.get(&rig.shop.key, "/v1/jobs").await);
            jobs["items"].as_array().is_some_and(|jobs| !jobs.is_empty()).then_some(())
        })
        .await;
        rig.worker().await;
    });
    let waits = "it is quarantined: it is not served before its checks have passed";
    assert_eq!((&uploaded["medium"]["state"], &uploaded["not_served"]), (&"quarantined".into(), &waits.into()));
    let made = assistant.ok("delivery_url", json!({"public_id": "a"})).await;
    assert_eq!(made["not_served"], waits);

    let target = format!("/v1/media/{}/reject", uploaded["id"].as_str().expect("an id"));
    let answer = rig.api.json(Method::POST, &rig.shop.key, &target, &json!({"reason": "a logo"})).await;
    assert!(answer.status.is_success(), "{}", answer.text());
    let medium = assistant.ok("get_media", json!({"medium": "a"})).await;
    assert_eq!(
        (&medium["state"], &medium["scan"]),
        (&"rejected".into(), &json!({"verdict": "rejected", "reason": "a logo"}))
    );
    let made = assistant.ok("delivery_url", json!({"public_id": "a"})).await;
    assert_eq!(made["not_served"], "it is rejected and not served: a logo");

    let target = target.replace("reject", "release");
    let answer = rig.api.json(Method::POST, &rig.shop.key, &target, &json!({"reason": "it is ours"})).await;
    assert!(answer.status.is_success(), "{}", answer.text());
    assert_eq!(assistant.ok("get_media", json!({"medium": "a"})).await["state"], "ready");
    assert_eq!(assistant.ok("delivery_url", json!({"public_id": "a"})).await.get("not_served"), None);
    assert_eq!(assistant.stop().await, "");
}

#[tokio::test]
async fn a_url_is_signed_where_there_is_a_key() {
    let rig = Rig::start().await;
    let answer = rig.api.json(Method::POST, &rig.shop.key, "/v1/signing-keys", &json!({ "kid": "mcp" })).await;
    let secret = body(&answer)["secret"].as_str().expect("it is shown once").to_owned();
    let mut command = rig.command();
    command
        .env("CALOTYPE_SIGNING_KEY", format!("mcp:{secret}"))
        .env("CALOTYPE_TENANT_ID", &rig.shop.id)
        .env("CALOTYPE_TENANT", &rig.shop.slug)
        .env("CALOTYPE_DELIVERY_URL", format!("http://{}/", rig.edge.addr()));
    let assistant = Assistant::start(command).await;
    // Nothing is there, which is another answer than that the signature is wrong.
    let source = json!({ "source": "@web/a.png", "ops": "w=32", "expires_in_seconds": 600 });
    let made = assistant.ok("delivery_url", source).await;
    assert_eq!(made["signed"], true);
    let url = made["url"].as_str().expect("a URL");
    assert!(url.contains("/shop/w=32/@web/a.png?exp=") && !made.to_string().contains(&secret), "{url}");
    assert_eq!(testkit::edge::problem_code(&rig.delivered(url, 404).await), "unknown-origin");
    rig.delivered(&url.replace("w=32", "w=33"), 403).await;
    let told = assistant.stop().await;
    assert!(!told.contains(&secret), "{told}");
}

#[tokio::test]
async fn what_is_refused_says_why_and_the_next_call_works() {
    let rig = Rig::start().await;
    let key = json!({ "name": "reader", "scopes": ["media:read"] });
    let made = body(&rig.api.json(Method::POST, &rig.shop.key, "/v1/api-keys", &key).await);
    let mut command = rig.command();
    command.env("CALOTYPE_API_KEY", made["key"].as_str().expect("it is shown once"));
    let assistant = Assistant::start(command).await;
    for (tool, arguments, told) in [
        ("get_media", json!({ "medium": "nobody" }), "(not-found)"),
        ("list_media", json!({ "limit": 51 }), "limit is 1 to 50"),
        ("list_media", json!({ "cursor": "made up" }), "(bad-cursor)"),
        ("upload_from_url", json!({ "url": "http://127.0.0.1/" }), "media:write"),
        ("upload_from_url", json!({ "url": "http://x.example/", "wait_seconds": 61 }), "0 to 60"),
        ("purge", json!({ "all": true }), "delivery:write"),
        ("delivery_url", json!({ "public_id": "nobody" }), "(not-found)"),
        ("delivery_url", json!({ "public_id": "../x" }), "the public id"),
        ("delivery_url", json!({ "source": "@web/a.png" }), "CALOTYPE_DELIVERY_URL"),
        ("delivery_url", json!({ "public_id": "a", "source": "@web/a.png" }), "either public_id or source"),
        ("delivery_url", json!({}), "either public_id or source"),
    ] {
        let refused = assistant.refused(tool, arguments.clone()).await;
        assert!(refused.contains(told), "{tool} {arguments}: {refused}");
    }
    // What the schema does not have is a mistake of the caller's, and no reason to end.
    for arguments in [json!({ "folders": "x" }), json!({ "limit": "many" })] {
        let call = CallToolRequestParams::new("list_media").with_arguments(arguments.as_object().expect("one").clone());
        match assistant.client.call_tool(call).await {
            Ok(answer) => assert_eq!(answer.is_error, Some(true), "{arguments}"),
            Err(error) => {
                assert!(error.to_string().contains("unknown field") || error.to_string().contains("invalid"), "{error}")
            }
        }
    }
    assert_eq!(assistant.ok("list_media", json!({})).await["items"], json!([]));
    drop(rig.api.stop().await);
    let refused = assistant.refused("list_media", json!({})).await;
    assert!(refused.contains("cannot be reached"), "{refused}");
    assistant.stop().await;
}

#[tokio::test]
async fn what_is_no_message_is_left_out() {
    let rig = Rig::start().await;
    let mut command = rig.command();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().expect("it can be started");
    let (mut input, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let mut lines = BufReader::new(output).lines();
    let hello = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": { "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" } }
    });
    let ready = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let ping = json!({ "jsonrpc": "2.0", "id": 2, "method": "ping" });
    let large = format!("{{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"ping\",\"x\":\"{}\"}}", "x".repeat(2 << 20));
    input.write_all(format!("{hello}\n{ready}\n").as_bytes()).await.expect("it reads");
    let answer = timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("text").expect("a line");
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!((&answer["id"], &answer["result"]["serverInfo"]["name"]), (&1.into(), &"calotype".into()));
    input.write_all(format!("not JSON\n{large}\n{ping}\n").as_bytes()).await.expect("it reads on");
    loop {
        let line = timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("text").expect("a line");
        let answer: Value = serde_json::from_str(&line).expect("nothing but the protocol is written");
        if answer["id"] == 2 {
            assert_eq!(answer["result"], json!({}));
            break;
        }
        assert!(answer.get("error").is_some(), "{answer}");
    }
    drop(input);
    assert!(timeout(PATIENCE, child.wait()).await.expect("it ends with its input").expect("ours").success());
}

/// The configurations of the guide, as a host would use them.
#[tokio::test]
async fn the_guide_is_right() {
    let guide = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/mcp.md")).expect("there");
    let rig = Rig::start().await;
    let (shown, _) = guide.split_once("\n## Setting it up\n").expect("a table of tools");
    let blocks: Vec<_> = guide.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        let config: Value = serde_json::from_str(block).expect("JSON");
        let server = config.get("mcpServers").or(config.get("servers")).expect("servers")["calotype"].clone();
        assert_eq!(server["command"], "calotype");
        let mut command = Command::new(program("calotype"));
        without_settings_of_ours(&mut command);
        command.args(server["args"].as_array().expect("arguments").iter().filter_map(Value::as_str));
        command.current_dir(rig.uploads.path());
        for name in server["env"].as_object().expect("variables").keys() {
            let value = match name.as_str() {
                "CALOTYPE_SERVER" => format!("http://{}", rig.api.addr()),
                "CALOTYPE_API_KEY" => rig.shop.key.clone(),
                other => panic!("{other} is new to this test"),
            };
            command.env(name, value);
        }
        let assistant = Assistant::start(command).await;
        for tool in assistant.client.list_all_tools().await.expect("a list") {
            assert!(shown.contains(&format!("| `{}` |", tool.name)), "docs/mcp.md lacks {}", tool.name);
        }
        assistant.stop().await;
    }
    // The command that makes the key.
    let line = guide.lines().find(|line| line.starts_with("calotype keys create")).expect("a command");
    let mut command = Command::new(program("calotype"));
    without_settings_of_ours(&mut command);
    command.args(line.split(' ').skip(1)).env("CALOTYPE_SERVER", format!("http://{}", rig.api.addr()));
    let made = command.env("CALOTYPE_API_KEY", &rig.shop.key).output().await.expect("it can be started");
    let key = String::from_utf8(made.stdout).expect("text");
    assert!(made.status.success() && key.starts_with("cal_"), "{}", String::from_utf8_lossy(&made.stderr));
    let listed = rig.api.get(key.trim(), "/v1/media").await;
    assert_eq!(listed.status.as_u16(), 200);
}

#[tokio::test]
async fn without_a_key_it_says_so_and_does_not_start() {
    let home = tempfile::tempdir().expect("a folder can be made");
    let mut command = Command::new(program("calotype"));
    without_settings_of_ours(&mut command);
    let ended =
        command.args(["mcp", "--data"]).arg(home.path()).stdin(Stdio::null()).output().await.expect("it starts");
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!((ended.status.code(), ended.stdout.as_slice()), (Some(1), b"".as_slice()));
    assert!(told.contains("set CALOTYPE_API_KEY"), "{told}");
}
