//! The clients in `clients/`, against a control plane and an edge that run; and that what is generated is current.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use ::http::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::control_plane::{ControlPlane, EDGE_TOKEN, MASTER_KEY, TestTenant, body};
use testkit::database::TestDatabase;
use testkit::edge::{Edge, EdgeSetup, eventually, without_settings_of_ours};
use testkit::http::Request;
use testkit::images;
use testkit::web::{Page, WebServer};
use tokio::process::Command;
use tokio::time::timeout;

/// For whatever one program does; npm may have to fetch.
const PATIENCE: Duration = Duration::from_secs(540);

/// A name with all that has to be encoded, or must not be.
const PUBLIC_ID: &str = "summer/my büro (1)'s +~!*.png";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A picture of 64 pixels.
fn picture() -> Vec<u8> {
    images::png::rgb(&images::swatches(&[[10, 20, 30]], 64), &images::png::Extras::default())
}

/// A tenant that wants signatures but for one width, with an upload and an origin.
struct Rig {
    api: ControlPlane,
    edge: Edge,
    shop: TestTenant,
    _web: WebServer,
    _uploads: TempDir,
}

impl Rig {
    async fn start() -> Self {
        let web = WebServer::start().await.expect("a web server");
        web.put("/a%20b/%C3%BC,=&;@$.png", Page::new(picture()));
        let uploads = tempfile::tempdir().expect("a folder can be made");
        let folder = uploads.path().display().to_string();
        let setup = EdgeSetup::new();
        let settings = [
            ("MASTER_KEY", MASTER_KEY.to_owned()),
            ("UPLOADS__FOLDER", folder.clone()),
            ("PRIVATE_HOSTS", "[\"127.0.0.1\"]".to_owned()),
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
        let rig = Self { api, edge, shop, _web: web, _uploads: uploads };
        rig.put("/v1/policy", json!({ "unsigned": { "widths": [320] } })).await;
        let origin = json!({ "http": {
            "base_url": format!("http://{}/", rig._web.address()), "allow_private": ["127.0.0.1"]
        } });
        rig.put("/v1/origins/web", origin).await;
        rig.upload().await;
        rig
    }

    async fn put(&self, target: &str, what: Value) {
        let answer = self.api.json(Method::PUT, &self.shop.key, target, &what).await;
        assert!(answer.status.is_success(), "{target}: {}", answer.text());
    }

    async fn upload(&self) {
        let mut form = Vec::new();
        let part = |name: &str| format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"");
        form.extend(format!("{}\r\n\r\n{PUBLIC_ID}\r\n", part("public_id")).bytes());
        form.extend(format!("{}; filename=\"a.png\"\r\n\r\n", part("file")).bytes());
        form.extend(picture());
        form.extend(b"\r\n--x--\r\n");
        let request = Request::new(Method::POST, "/v1/media")
            .header("content-type", "multipart/form-data; boundary=x")
            .header("authorization", format!("Bearer {}", self.shop.key))
            .body(form);
        let answer = self.api.send(&request).await;
        assert_eq!(answer.status.as_u16(), 201, "{}", answer.text());
    }

    /// A program with what clients are told.
    fn command(&self, program: &str, folder: &Path) -> Command {
        let mut command = command(program, folder);
        command
            .env("CALOTYPE_SERVER", format!("http://{}", self.api.addr()))
            .env("CALOTYPE_API_KEY", &self.shop.key)
            .env("CALOTYPE_DELIVERY_URL", format!("http://{}", self.edge.addr()))
            .env("CALOTYPE_TENANT", &self.shop.slug)
            .env("CALOTYPE_TENANT_ID", &self.shop.id)
            .env("NEXT_PUBLIC_CALOTYPE_URL", format!("http://{}", self.edge.addr()))
            .env("NEXT_PUBLIC_CALOTYPE_TENANT", &self.shop.slug);
        command
    }
}

fn command(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    without_settings_of_ours(&mut command);
    command.current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs it to its end, which has to be a good one; what it wrote.
async fn run(command: &mut Command) -> String {
    let output = timeout(PATIENCE, command.output()).await.expect("it ends by itself").expect("it can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{stdout}\n{stderr}", output.status);
    stdout
}

/// The TypeScript client, built; where.
async fn typescript() -> PathBuf {
    run(&mut command("script/clients", &root())).await;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    target.join("clients/typescript")
}

/// One test: they share the folder that they are built in.
#[tokio::test]
async fn the_typescript_client_is_current_and_works() {
    let folder = typescript().await;
    let rig = Rig::start().await;
    let described = rig.api.get("", "/v1/openapi.json").await;
    let home = tempfile::tempdir().expect("a folder can be made");
    let (description, schema) = (home.path().join("openapi.json"), home.path().join("schema.ts"));
    std::fs::write(&description, &described.body).expect("ours");
    let generator = folder.join("node_modules/.bin/openapi-typescript");
    let mut generate = command(generator.to_str().expect("text"), &folder);
    run(generate.arg(&description).arg("--output").arg(&schema)).await;
    let read = |path: &Path| std::fs::read_to_string(path).expect("there");
    let committed = read(&root().join("clients/typescript/src/schema.ts"));
    assert!(read(&schema) == committed, "the API has changed: run script/clients --generate");

    let tests = ["dist/test/delivery.test.js", "dist/test/server.test.js"];
    let told = run(rig.command("node", &folder).arg("--test").args(tests)).await;
    assert!(told.contains("# pass 6") && told.contains("# fail 0"), "{told}");

    // The guide's snippets have no types of their own, so they are JavaScript.
    let [asking, building] = blocks(&guide(), "ts").try_into().expect("two blocks");
    let server = format!("http://{}", rig.api.addr());
    let file = folder.join("dist/guide.mjs");
    let asking = asking.replace("http://127.0.0.1:8000", &server).replace("folder: \"summer\"", "tag: \"typed\"");
    std::fs::write(&file, asking).expect("ours");
    let told = run(rig.command("node", &folder).arg(&file)).await;
    assert!(told.starts_with(&format!("{PUBLIC_ID} http://")), "{told}");
    std::fs::write(&file, building).expect("ours");
    let told = run(command("node", &folder).arg(&file)).await;
    let (start, candidates) = told.trim_end().rsplit_once('\n').expect("three lines");
    assert_eq!(format!("{start}\n"), printed());
    assert!(candidates.contains("/h=300,fit=cover,w=320/") && candidates.ends_with(" 640w"), "{candidates}");
}

#[tokio::test]
async fn the_python_client_works() {
    let rig = Rig::start().await;
    let answer = rig.api.json(Method::POST, &rig.shop.key, "/v1/signing-keys", &json!({ "kid": "py" })).await;
    let made = body(&answer);
    let secret = made["secret"].as_str().unwrap_or_else(|| panic!("{made}"));
    let mut tests = rig.command("python3", &root().join("clients/python"));
    tests.args(["-B", "-m", "unittest", "discover", "-s", "tests", "-v"]);
    tests.env("CALOTYPE_SIGNING_KEY", format!("py:{secret}"));
    let output = timeout(PATIENCE, tests.output()).await.expect("it ends by itself").expect("python3 is there");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("Ran 4 tests") && !told.contains("skipped"), "{told}");
}

fn guide() -> String {
    std::fs::read_to_string(root().join("docs/clients.md")).expect("the guide is there")
}

/// The blocks of a language.
fn blocks(guide: &str, mark: &str) -> Vec<String> {
    let start = format!("```{mark}\n");
    let blocks = guide.split(start.as_str()).skip(1);
    blocks.map(|rest| rest.split("```").next().expect("it ends").to_owned()).collect()
}

/// What both languages print of the guide's example, but for its `srcset`.
fn printed() -> String {
    blocks(&guide(), "text").remove(0)
}

#[tokio::test]
async fn the_guides_python_prints_what_it_says() {
    let [block] = blocks(&guide(), "python").try_into().expect("one block");
    let home = tempfile::tempdir().expect("a folder can be made");
    std::fs::write(home.path().join("guide.py"), block).expect("ours");
    let mut python = command("python3", home.path());
    let told = run(python.args(["-B", "guide.py"]).env("PYTHONPATH", root().join("clients/python"))).await;
    let (start, candidates) = told.trim_end().rsplit_once('\n').expect("three lines");
    assert_eq!(format!("{start}\n"), printed());
    assert!(candidates.contains("/h=300,fit=cover,w=320/") && candidates.ends_with(" 640w"), "{candidates}");
}

#[tokio::test]
async fn the_guides_commands_do_what_they_say() {
    let rig = Rig::start().await;
    let calotype = testkit::edge::program("calotype");
    let folder = calotype.parent().expect("it lies in one");
    let [block] = blocks(&guide(), "sh").try_into().expect("one block");
    let mut told = Vec::new();
    for line in block.lines() {
        let line = line
            .replace("summer/beach", "'summer/my büro (1)'\\''s +~!*.png'")
            .replace("--folder summer", "--prefix summer/");
        let mut shell = rig.command("sh", rig.edge.setup().home());
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
        told.push(run(shell.args(["-c", &line]).env("PATH", path)).await);
    }
    let [listed, shown, deleted, made, keys, used] = told.try_into().expect("six commands");
    assert!(listed.contains("image") && listed.trim_end().ends_with(PUBLIC_ID), "{listed}");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!((&shown["public_id"], &shown["width"]), (&PUBLIC_ID.into(), &64.into()));
    assert_eq!(deleted, format!("{PUBLIC_ID}: deleted\n"));
    assert!(keys.contains("media:read  in use  website"), "{keys}");
    let (head, row) = used.split_once('\n').expect("a head and a row");
    assert!(
        head.contains("requests") && row.lines().all(|row| row.split(',').count() == head.split(',').count()),
        "{used}"
    );
    let made = made.trim_end();
    eventually("the edge has heard of it", async || {
        let status = rig.api.get(made, "/v1/media").await.status;
        (status == 200).then_some(())
    })
    .await;
    let id =
        keys.lines().find(|line| line.ends_with("website")).and_then(|line| line.split(' ').next()).expect("an id");
    let calotype = calotype.to_str().expect("text");
    run(rig.command(calotype, rig.edge.setup().home()).args(["keys", "revoke", id])).await;
    eventually("it is good for nothing", async || (rig.api.get(made, "/v1/media").await.status == 401).then_some(()))
        .await;
    let listed = run(rig.command(calotype, rig.edge.setup().home()).args(["keys", "list"])).await;
    assert!(listed.contains("revoked  website"), "{listed}");

    // What is not there is told, and the rest is done.
    let mut gone = rig.command(calotype, rig.edge.setup().home());
    let output = gone.args(["media", "delete", PUBLIC_ID]).output().await.expect("it can be started");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.code() == Some(1) && told.contains("(not-found)"), "{told}");
}
