//! `calotype up`: all parts from nothing, together until one ends, and none left behind.

use std::fs::{self, File, Permissions};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use devstack::postgres::{Cluster, Life, SUPERUSER};
use devstack::process::Process;
use http::{Method, StatusCode};
use rustix::process::{Pid, kill_process};
use serde_json::{Value, json};
use testkit::control_plane::body;
use testkit::edge::{EdgeSetup, Signal, eventually, picture, program, without_settings_of_ours};
use testkit::http::{Request, Response};
use testkit::port::Port;
use testkit::{http as client, images};
use tokio::process::Command;
use tokio::time::timeout;

/// For whatever one command does; longer than it ever takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Folders and ports of a `calotype up` over two files.
struct Rig {
    setup: EdgeSetup,
    api: Port,
    environment: Vec<(&'static str, String)>,
}

/// One that runs.
struct Running {
    process: Process,
    /// Everything that it has started, and what that has.
    descendants: Vec<u32>,
}

impl Rig {
    fn new() -> Self {
        let setup = EdgeSetup::new();
        // Root's Postgres runs as somebody else, who has to get through.
        fs::set_permissions(setup.home(), Permissions::from_mode(0o711)).expect("ours");
        setup.put("my beach.jpg", images::jpeg::rgb(&images::photo(120, 80), &images::jpeg::Extras::default()));
        setup.put("letter.txt", images::hostile::text());
        Self { setup, api: Port::keep().expect("a port is free"), environment: Vec::new() }
    }

    fn data(&self) -> PathBuf {
        self.setup.home().join("data")
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.setup.home().join(name)).unwrap_or_default()
    }

    fn credentials(&self) -> Value {
        serde_json::from_str(&self.read("data/credentials.json")).expect("is JSON")
    }

    fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new(program("calotype"));
        without_settings_of_ours(&mut command);
        command.arg("up").arg(folder).arg("--data").arg(self.data());
        command.arg("--listen").arg(self.setup.addr().to_string());
        command.arg("--admin-listen").arg(self.setup.admin_addr().to_string());
        command.arg("--api-listen").arg(self.api.address.to_string());
        command.env("CALOTYPE_PROXY__CACHE__DISK_BYTES", (64 << 20).to_string());
        command.env_remove("DATABASE_URL").envs(self.environment.iter().cloned()).stdin(Stdio::null());
        command
    }

    fn launch(&self) -> Process {
        let file = |name: &str| File::create(self.setup.home().join(name)).expect("the folder is ours");
        let mut command = self.command(&self.setup.originals());
        command.stdout(file("greeting")).stderr(file("log"));
        Process::start(command).expect("it can be started")
    }

    /// Starts it, and waits until it has greeted.
    async fn start(&self) -> Running {
        let mut process = self.launch();
        let greeted = eventually("the greeting or the end", async || {
            let ended = timeout(Duration::ZERO, process.exited()).await.is_ok();
            (ended || self.read("greeting").contains("Stop with Ctrl-C")).then_some(!ended)
        });
        assert!(greeted.await, "{}", self.read("log"));
        let descendants = descendants_of(process.id().expect("it runs"));
        Running { process, descendants }
    }

    /// Runs one that refuses to start.
    async fn refused(&self, folder: &Path) -> String {
        let ended = timeout(PATIENCE, self.command(folder).kill_on_drop(true).output()).await;
        let ended = ended.expect("it ends by itself").expect("it can be started");
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        String::from_utf8_lossy(&ended.stderr).into_owned()
    }

    /// What another command prints that is given the same state.
    async fn calotype(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(program("calotype"));
        without_settings_of_ours(&mut command);
        command.args(arguments).arg("--data").arg(self.data()).stdin(Stdio::null()).kill_on_drop(true);
        let ended = timeout(PATIENCE, command.output()).await.expect("it ends by itself").expect("it can be started");
        assert!(ended.status.success(), "{ended:?}\n{}", self.read("log"));
        String::from_utf8(ended.stdout).expect("a text")
    }

    async fn ask(&self, method: Method, key: &Value, target: &str, body: Option<Value>) -> Response {
        let key = key.as_str().expect("a key is a text");
        let mut request = Request::new(method, target).header("authorization", format!("Bearer {key}"));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        client::send(self.api.address, &request).await.expect("the control plane answers")
    }
}

impl Running {
    /// Waits for its end and that of all it has started.
    async fn exited(mut self) -> ExitStatus {
        let status = timeout(PATIENCE, self.process.exited()).await.expect("it ends").expect("our own child");
        let left: Vec<_> = self.descendants.iter().filter(|pid| is_there(**pid)).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        status
    }

    /// The process of a program; the worker is the same one as the control plane.
    fn find(&self, program: &str, is_worker: bool) -> Pid {
        let found = self.descendants.iter().find(|pid| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<_> = line.split('\0').collect();
            words[0].ends_with(&format!("/{program}")) && words.contains(&"worker") == is_worker
        });
        let pid = *found.unwrap_or_else(|| panic!("no process {program}"));
        Pid::from_raw(i32::try_from(pid).expect("Linux counts so")).expect("not zero")
    }
}

/// All processes that `pid` has started, and theirs.
fn descendants_of(pid: u32) -> Vec<u32> {
    let parent_of = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before it is in brackets and may hold anything (proc(5)).
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok()
    };
    let all = fs::read_dir("/proc").expect("Linux has it");
    let all: Vec<u32> = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    let (mut found, mut next) = (Vec::new(), vec![pid]);
    while let Some(parent) = next.pop() {
        let children = all.iter().copied().filter(|child| parent_of(*child) == Some(parent));
        for child in children {
            found.push(child);
            next.push(child);
        }
    }
    found
}

/// Whether a process runs: it is neither gone, nor ended and not yet collected by whoever inherited it.
fn is_there(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}

#[tokio::test]
async fn everything_starts_from_nothing_stops_when_told_and_starts_again_with_all_that_was_there() {
    let rig = Rig::new();
    fs::create_dir(rig.data()).expect("ours");
    // Something else left it readable for all.
    fs::write(rig.data().join("edge.toml"), "").expect("ours");
    let (mut kept, mut tenants) = (Vec::new(), Vec::new());
    for signal in [Signal::INT, Signal::TERM] {
        let up = rig.start().await;
        let greeting = rig.read("greeting");
        let base = format!("http://{}/demo/w=400,f=auto/@local/my%20beach.jpg", rig.setup.addr());
        let urls: Vec<_> = greeting.lines().map(str::trim).filter(|line| line.starts_with(&base)).collect();
        assert!(urls.len() == 2 && urls[0] == base && urls[1].contains("&sig="), "{greeting}");
        for url in urls {
            let (address, target) = client::split_url(url).expect("a URL");
            picture(&client::get(address, &target).await.expect("an answer"), "image/jpeg");
        }
        let overlaid = "/demo/w=100,f=png,overlay=logo;south-east;4;4;0.2/@local/my%20beach.jpg";
        picture(&client::get(rig.setup.addr(), overlaid).await.expect("an answer"), "image/png");
        let signed = rig.calotype(&["sign", "/-/@local/my%20beach.jpg"]).await;
        let signed = signed.trim();
        assert!(signed.starts_with("/demo/-/@local/my%20beach.jpg?kid="), "{signed}");
        for (target, status) in [(signed.to_owned(), 200), (signed.replace("my%20beach", "letter"), 403)] {
            let answer = client::get(rig.setup.addr(), &target).await.expect("an answer");
            assert_eq!(answer.status, status, "{}", answer.text());
        }
        let playground = client::get(rig.setup.admin_addr(), "/playground").await.expect("an answer");
        assert_eq!(playground.status, 200);

        let credentials = rig.credentials();
        assert_eq!(credentials["tenant"], "demo");
        let tenant = rig.ask(Method::GET, &credentials["admin_key"], "/v1/tenants/demo", None).await;
        assert_eq!(tenant.status, 200, "{}", tenant.text());
        tenants.push(body(&tenant)["id"].clone());
        let keys = rig.ask(Method::GET, &credentials["api_key"], "/v1/signing-keys", None).await;
        assert_eq!(body(&keys)["items"][0]["kid"], credentials["signing"]["kid"], "{}", keys.text());
        let is_new = kept.is_empty();
        let preset = json!({ "ops": "w=100" });
        let preset = rig.ask(Method::PUT, &credentials["api_key"], "/v1/presets/thumb", Some(preset)).await;
        assert_eq!(preset.status, if is_new { StatusCode::CREATED } else { StatusCode::OK }, "{}", preset.text());

        for name in ["credentials.json", "secrets.json", "edge.toml", "authorization"] {
            let mode = fs::metadata(rig.data().join(name)).expect("written").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let secrets: Value = serde_json::from_str(&rig.read("data/secrets.json")).expect("is JSON");
        let told = greeting + &rig.read("log") + &rig.read("data/requests.log") + &rig.read("data/access.log");
        for secret in [
            &credentials["admin_key"],
            &credentials["api_key"],
            &credentials["admin_token"],
            &credentials["signing"]["secret"],
            &secrets["edge_token"],
            &secrets["master_key"],
        ] {
            let secret = secret.as_str().expect("there");
            assert!(secret.len() >= 32 && !told.contains(secret), "{told}");
        }
        kept.push((credentials, secrets));

        up.process.signal(signal).expect("our own child");
        assert_eq!(up.exited().await.code(), Some(0), "{}", rig.read("log"));
        for address in [rig.setup.addr(), rig.setup.admin_addr(), rig.api.address] {
            assert!(TcpStream::connect(address).is_err(), "{address}");
        }
    }
    assert_eq!(kept[0], kept[1]);
    assert_eq!(tenants[0], tenants[1]);
}

#[tokio::test]
async fn what_is_uploaded_is_delivered_also_after_a_restart() {
    let rig = Rig::new();
    let mut delivered = Vec::new();
    for run in 0..2 {
        let up = rig.start().await;
        let file = rig.setup.originals().join("my beach.jpg");
        let id = format!("beaches/{run}");
        let file = file.to_str().expect("temporary folders have plain names");
        let printed = rig.calotype(&["upload", file, "--public-id", &id, "--tag", "sea"]).await;
        delivered.push(printed.trim().to_owned());
        for url in &delivered {
            let (address, target) = client::split_url(url).expect("a URL");
            assert_eq!(address, rig.setup.addr());
            picture(&client::get(address, &target).await.expect("an answer"), "image/jpeg");
        }
        up.process.signal(Signal::TERM).expect("our own child");
        assert_eq!(up.exited().await.code(), Some(0), "{}", rig.read("log"));
    }
    assert_ne!(delivered[0], delivered[1]);
}

#[tokio::test]
async fn no_process_is_left_when_it_is_killed_and_the_next_one_starts() {
    let rig = Rig::new();
    let up = rig.start().await;
    let (credentials, descendants) = (rig.credentials(), up.descendants);
    up.process.kill().await.expect("our own child");
    eventually("the end of all", async || descendants.iter().all(|pid| !is_there(*pid)).then_some(())).await;
    let up = rig.start().await;
    assert_eq!(rig.credentials(), credentials);
    let keys = rig.ask(Method::GET, &credentials["api_key"], "/v1/signing-keys", None).await;
    assert_eq!(keys.status, 200, "{}", keys.text());
    up.process.signal(Signal::TERM).expect("our own child");
    up.exited().await;
}

#[tokio::test]
async fn when_one_part_ends_all_are_stopped_and_it_is_told_which() {
    let rig = Rig::new();
    for (part, program, is_worker) in [
        ("edge", "proxy", false),
        ("worker", "control-plane", true),
        ("control plane", "control-plane", false),
        ("database", "postgres", false),
    ] {
        let up = rig.start().await;
        kill_process(up.find(program, is_worker), Signal::KILL).expect("our own");
        assert_eq!(up.exited().await.code(), Some(1), "{part}");
        let log = rig.read("log");
        assert!(log.contains(&format!("the {part} ended by itself")), "{part}: {log}");
    }
}

#[tokio::test]
async fn it_can_be_stopped_at_any_time_while_it_starts() {
    let rig = Rig::new();
    // Whatever is there by then, the next one finds.
    for step in ["lock", "postgres/data.new", "postgres/data/postmaster.pid", "requests.log", "authorization"] {
        if !step.contains('/') {
            let _ = fs::remove_file(rig.data().join(step));
        }
        let mut process = rig.launch();
        eventually(step, async || {
            let ended = timeout(Duration::ZERO, process.exited()).await.is_ok();
            assert!(!ended, "{step}: {}", rig.read("log"));
            rig.data().join(step).exists().then_some(())
        })
        .await;
        let descendants = descendants_of(process.id().expect("it runs"));
        let status = process.stop(PATIENCE).await.expect("it stops");
        // Before its handlers were in place, the signal itself has ended it.
        assert!(matches!(status.code(), Some(0) | None), "{step}: {status}");
        eventually("the end of all", async || descendants.iter().all(|pid| !is_there(*pid)).then_some(())).await;
    }
    let up = rig.start().await;
    up.process.signal(Signal::TERM).expect("our own child");
    up.exited().await;
}

#[tokio::test]
async fn a_tenant_whose_key_was_never_noted_is_made_anew_and_one_whose_key_was_lost_is_not() {
    let rig = Rig::new();
    let stop = async |up: Running| {
        up.process.signal(Signal::TERM).expect("our own child");
        up.exited().await;
    };
    stop(rig.start().await).await;
    let mut credentials = rig.credentials();
    let first = credentials["api_key"].take();
    credentials.as_object_mut().expect("a table").remove("api_key");
    let path = rig.data().join("credentials.json");
    fs::write(&path, credentials.to_string()).expect("ours");
    let told = rig.refused(&rig.setup.originals()).await;
    assert!(told.contains("restore the file") && told.contains("data/postgres"), "{told}");

    // It was killed after the tenant was made and before its key was written.
    fs::write(rig.data().join("making-tenant"), "").expect("ours");
    let up = rig.start().await;
    let credentials = rig.credentials();
    assert_ne!(credentials["api_key"], first);
    assert!(!rig.data().join("making-tenant").exists());
    for (key, status) in [(&credentials["api_key"], 200), (&first, 401)] {
        assert_eq!(rig.ask(Method::GET, key, "/v1/signing-keys", None).await.status, status);
    }
    stop(up).await;

    let mut wrong = credentials;
    wrong["api_key"] = first;
    fs::write(&path, wrong.to_string()).expect("ours");
    let told = rig.refused(&rig.setup.originals()).await;
    assert!(told.contains("restore the file"), "{told}");
}

#[tokio::test]
async fn what_cannot_be_used_is_told() {
    let rig = Rig::new();
    let told = rig.refused(&rig.setup.home().join("missing")).await;
    assert!(told.contains("missing"), "{told}");
    let told = rig.refused(&rig.setup.originals().join("letter.txt")).await;
    assert!(told.contains("not a folder"), "{told}");

    for address in [rig.setup.addr(), rig.setup.admin_addr(), rig.api.address] {
        let _taken = TcpListener::bind(address).expect("it is kept for us");
        let told = rig.refused(&rig.setup.originals()).await;
        assert!(told.contains(&format!("{address} cannot be listened on")), "{told}");
    }
    let up = rig.start().await;
    let told = rig.refused(&rig.setup.originals()).await;
    assert!(told.contains("another `calotype up` uses"), "{told}");
    up.process.signal(Signal::TERM).expect("our own child");
    up.exited().await;
}

#[tokio::test]
async fn a_database_of_ones_own_is_used_as_the_roles_of_the_parts() {
    let folder = tempfile::Builder::new().prefix("calotype-postgres-").tempdir().expect("a folder can be made");
    let cluster = Cluster::prepare(folder.path(), Life::Volatile).await.expect("Postgres can be had");
    let postgres = cluster.start().await.expect("Postgres starts");
    postgres.run("CREATE DATABASE mine;").await.expect("it may");
    let mut rig = Rig::new();
    rig.environment.push(("DATABASE_URL", postgres.url(SUPERUSER, "mine")));
    let up = rig.start().await;
    assert!(!rig.data().join("postgres").exists(), "no other database was made");
    let credentials = rig.credentials();
    let other = json!({ "slug": "other", "name": "Other" });
    let other = rig.ask(Method::POST, &credentials["admin_key"], "/v1/tenants", Some(other)).await;
    let key = &body(&other)["api_key"]["key"];
    let preset = rig.ask(Method::PUT, key, "/v1/presets/theirs", Some(json!({ "ops": "w=1" }))).await;
    assert_eq!(preset.status, 201, "{}", preset.text());
    // A superuser would see the rows of all tenants.
    let seen = rig.ask(Method::GET, &credentials["api_key"], "/v1/presets", None).await;
    assert_eq!(body(&seen)["items"], json!([]), "{}", seen.text());
    up.process.signal(Signal::TERM).expect("our own child");
    assert_eq!(up.exited().await.code(), Some(0), "{}", rig.read("log"));
    postgres.stop().await.expect("it was left running");
}
