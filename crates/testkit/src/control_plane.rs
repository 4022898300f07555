//! The real control plane, started for a test on a database of its own.
//!
//! Must not link it: a test sees answers, metrics, events, the log and exit codes. Everything here panics when it fails.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use devstack::process::{Process, answers};
use http::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::database::{APP, TestDatabase, WORKER};
use crate::edge::{program, read_events, without_settings_of_ours};
use crate::http::{self as client, Request, Response};
use crate::port::Port;

/// The operator's key.
pub const ADMIN_KEY: &str = "the operator's key of this test only";

/// What edges come with.
pub const EDGE_TOKEN: &str = "the token of all edges of this test only";

/// What it seals secrets with.
pub const MASTER_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// How long it may take to be ready or to end, on a machine that builds meanwhile.
const LIMIT: Duration = Duration::from_secs(60);

/// A running control plane. Dropping it kills it.
#[derive(Debug)]
pub struct ControlPlane {
    process: Process,
    port: Port,
    home: TempDir,
    settings: Vec<(&'static str, String)>,
    /// Its database.
    pub database: TestDatabase,
}

/// A worker that goes on until it is dropped, which kills it.
#[derive(Debug)]
pub struct RunningWorker {
    process: Process,
    home: TempDir,
}

/// A tenant that was made for a test.
#[derive(Debug, Clone)]
pub struct TestTenant {
    /// Its name in URLs.
    pub slug: String,
    /// Its unchanging id.
    pub id: String,
    /// A key of it that may do everything.
    pub key: String,
}

impl ControlPlane {
    /// Starts one on an empty database, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not get ready, or its program was not built.
    pub async fn start() -> Self {
        Self::start_on(TestDatabase::new().await).await
    }

    /// The same on this database.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub async fn start_on(database: TestDatabase) -> Self {
        Self::start_with(database, &[("MASTER_KEY", MASTER_KEY.to_owned())]).await
    }

    /// The same with these settings, named as in the environment, beside those that it needs.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub async fn start_with(database: TestDatabase, settings: &[(&'static str, String)]) -> Self {
        let (home, port) = (tempfile::tempdir().expect("a folder can be made"), Port::keep().expect("a port is free"));
        let settings = settings.to_vec();
        let process = launch(home.path(), &port, &database, &settings);
        let started = Self { process, port, home, settings, database };
        if let Err(error) = answers(started.addr(), "/readyz", LIMIT).await {
            panic!("the control plane is not ready: {error:#}\n{}", started.log());
        }
        started
    }

    /// Where the API is.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.port.address
    }

    /// Sends anything.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn send(&self, request: &Request) -> Response {
        client::send(self.addr(), request).await.unwrap_or_else(|error| panic!("no answer: {error:#}\n{}", self.log()))
    }

    /// Asks with a key.
    ///
    /// # Panics
    /// As [`Self::send`].
    pub async fn get(&self, key: &str, target: &str) -> Response {
        self.send(&with_key(Request::get(target), key)).await
    }

    /// Deletes with a key.
    ///
    /// # Panics
    /// As [`Self::send`].
    pub async fn delete(&self, key: &str, target: &str) -> Response {
        self.send(&with_key(Request::new(Method::DELETE, target), key)).await
    }

    /// Sends JSON with a key.
    ///
    /// # Panics
    /// As [`Self::send`].
    pub async fn json(&self, method: Method, key: &str, target: &str, body: &Value) -> Response {
        let request = Request::new(method, target).header("content-type", "application/json").body(body.to_string());
        self.send(&with_key(request, key)).await
    }

    /// Makes a tenant.
    ///
    /// # Panics
    /// When that is refused.
    pub async fn tenant(&self, slug: &str) -> TestTenant {
        let answer = self.json(Method::POST, ADMIN_KEY, "/v1/tenants", &json!({ "slug": slug, "name": slug })).await;
        assert_eq!(answer.status.as_u16(), 201, "{}", answer.text());
        let made = body(&answer);
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        TestTenant { slug: slug.to_owned(), id: text(&made["id"]), key: text(&made["api_key"]["key"]) }
    }

    /// Runs one of its commands to the end, with these settings, on its database.
    ///
    /// # Panics
    /// When the command cannot be started.
    pub async fn run(&self, command: &[&str], settings: &[(&str, String)]) -> std::process::Output {
        let environment = settings.iter().map(|(name, value)| (format!("CALOTYPE_CONTROL_PLANE__{name}"), value));
        let mut program = Command::new(program("control-plane"));
        without_settings_of_ours(&mut program);
        program.args(command).env("CALOTYPE_CONTROL_PLANE__DATABASE_URL", self.database.url(APP)).envs(environment);
        program.kill_on_drop(true).output().await.expect("the program is there and may be run")
    }

    /// Starts a worker on its database, with these settings.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn worker(&self, settings: &[(&str, String)]) -> RunningWorker {
        let home = tempfile::tempdir().expect("a folder can be made");
        let mut command = Command::new(program("control-plane"));
        without_settings_of_ours(&mut command);
        command
            .arg("worker")
            .env("CALOTYPE_CONTROL_PLANE__WORKER_URL", self.database.url(WORKER))
            .env("CALOTYPE_CONTROL_PLANE__THREADS", "1")
            .envs(settings.iter().map(|(name, value)| (format!("CALOTYPE_CONTROL_PLANE__{name}"), value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(home.path().join("log")).expect("the folder is ours"));
        RunningWorker::new(command, home)
    }

    /// Its events so far.
    ///
    /// # Panics
    /// When a whole line is not JSON.
    #[must_use]
    pub fn events(&self) -> Vec<Value> {
        read_events(&self.home.path().join("events"))
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// Kills it as a crash would, and starts it anew on the same database and port.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub async fn restart_after_crash(mut self) -> Self {
        self.process.kill().await.expect("our own child may be killed");
        self.process = launch(self.home.path(), &self.port, &self.database, &self.settings);
        answers(self.addr(), "/readyz", LIMIT).await.unwrap_or_else(|error| panic!("{error:#}\n{}", self.log()));
        self
    }

    /// Stops it in order.
    ///
    /// # Panics
    /// When it does not end, or ends with an error.
    pub async fn stop(mut self) -> TestDatabase {
        self.process.signal(Signal::TERM).expect("our own child may be signalled");
        let status = tokio::time::timeout(LIMIT, self.process.exited()).await.expect("it ends in time");
        assert!(status.expect("it is our child").success(), "{}", self.log());
        self.database
    }
}

impl RunningWorker {
    fn new(command: Command, home: TempDir) -> Self {
        Self { process: Process::start(command).expect("the program is there and may be run"), home }
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal).expect("our own child may be signalled");
    }

    /// Kills it as a crash would.
    ///
    /// # Panics
    /// When the system refuses.
    pub async fn kill(self) {
        self.process.kill().await.expect("our own child may be killed");
    }

    /// Stops it in order.
    ///
    /// # Panics
    /// When it does not end, or ends with an error.
    pub async fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = tokio::time::timeout(LIMIT, self.process.exited()).await.expect("it ends in time");
        assert!(status.expect("it is our child").success(), "{}", self.log());
    }
}

/// The JSON of an answer.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn body(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap_or_else(|_| panic!("not JSON: {}", response.text()))
}

fn with_key(request: Request, key: &str) -> Request {
    if key.is_empty() { request } else { request.header("authorization", format!("Bearer {key}")) }
}

fn launch(home: &Path, port: &Port, database: &TestDatabase, settings: &[(&str, String)]) -> Process {
    let file = |name: &str| File::create(home.join(name)).expect("the folder is ours");
    let mut command = Command::new(program("control-plane"));
    without_settings_of_ours(&mut command);
    command
        .env("CALOTYPE_CONTROL_PLANE__LISTEN", port.address.to_string())
        .env("CALOTYPE_CONTROL_PLANE__DATABASE_URL", database.url(APP))
        .env("CALOTYPE_CONTROL_PLANE__ADMIN_KEY", ADMIN_KEY)
        .env("CALOTYPE_CONTROL_PLANE__EDGE_TOKEN", EDGE_TOKEN)
        .env("CALOTYPE_CONTROL_PLANE__THREADS", "1")
        .envs(settings.iter().map(|(name, value)| (format!("CALOTYPE_CONTROL_PLANE__{name}"), value)))
        .stdin(Stdio::null())
        .stdout(file("events"))
        .stderr(file("log"));
    Process::start(command).expect("the program is there and may be run")
}
