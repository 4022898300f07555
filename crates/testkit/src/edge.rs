//! The real edge, started for a test as an operator would start it: settings file, policy file, ports of its own.
//!
//! Must not link the edge: a test sees answers, metrics, access events, the log and exit codes, nothing else. Everything
//! here panics when it fails, because a test has nothing better to do; the panic shows the edge's log.

mod setup;

use std::net::SocketAddr;
use std::process::ExitStatus;
use std::time::Duration;

use bytes::Bytes;
use devstack::process::{Process, answers};
pub use rustix::process::Signal;
use rustix::process::{Pid, Resource, Rlimit};
use serde_json::Value;
pub(crate) use setup::read_events;
pub use setup::{EdgeSetup, FOLDER_ORIGIN, TENANT, program, without_settings_of_ours};
use tokio::time::{Instant, sleep, timeout};

use crate::http::{self, Request, Response};

/// How long the edge may take to be ready: it opens a cache and loads libvips, on a machine that builds meanwhile.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long the edge may take to end; longer than its own limits for draining and for closing the cache.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// Longest wait of [`eventually`].
const WAIT_LIMIT: Duration = Duration::from_secs(30);

/// Time between two looks of [`eventually`].
const POLL: Duration = Duration::from_millis(20);

/// A running edge. Dropping it kills it and removes its folders.
#[derive(Debug)]
pub struct Edge {
    // Dropped first: a process must not outlive its folders.
    process: Process,
    setup: EdgeSetup,
}

impl EdgeSetup {
    /// Starts the edge and waits until it is ready. After [`Edge::stop`] it starts again on the same folders and ports.
    ///
    /// # Panics
    /// When it does not get ready, or its program was not built.
    pub async fn start(self) -> Edge {
        self.start_with(&[]).await
    }

    /// The same with further arguments.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub async fn start_with(self, arguments: &[&str]) -> Edge {
        self.start_until("/readyz", arguments).await
    }

    /// Starts the edge and waits until it runs, ready or not.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub async fn launch(self) -> Edge {
        self.start_until("/healthz", &[]).await
    }

    async fn start_until(self, target: &str, arguments: &[&str]) -> Edge {
        self.write_files();
        let mut command = self.command(true);
        command.args(arguments);
        let process = Process::start(command).expect("the program is there and may be run");
        let mut edge = Edge { process, setup: self };
        let admin = edge.admin_addr();
        let failure = tokio::select! {
            ended = edge.process.exited() => format!("ended while starting: {ended:?}"),
            ready = answers(admin, target, START_LIMIT) => match ready {
                Ok(()) => return edge,
                Err(error) => format!("is not ready: {error:#}"),
            },
        };
        panic!("the edge {failure}\n{}", edge.setup.log());
    }

    /// Runs the program with these further arguments to its end, for settings that it refuses.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn run_to_end(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, &[]).await
    }

    /// The same with further variables of the environment.
    ///
    /// # Panics
    /// As [`Self::run_to_end`].
    pub async fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
        self.write_files();
        let mut command = self.command(false);
        command.args(arguments).envs(environment.iter().copied()).kill_on_drop(true);
        let output = timeout(START_LIMIT, command.output()).await.expect("the program ends by itself");
        let output = output.expect("the program can be started");
        Ended { status: output.status, stderr: String::from_utf8_lossy(&output.stderr).into_owned() }
    }
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    /// How.
    pub status: ExitStatus,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Edge {
    /// Where pictures are served.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.setup.addr()
    }

    /// Where health and metrics are served.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.setup.admin_addr()
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id().expect("it runs")
    }

    /// Its folders and files.
    #[must_use]
    pub fn setup(&self) -> &EdgeSetup {
        &self.setup
    }

    /// Answer to a `GET`, on a connection of its own.
    pub async fn get(&self, target: &str) -> Response {
        self.send(&Request::get(target)).await
    }

    /// Answer to any request, on a connection of its own.
    pub async fn send(&self, request: &Request) -> Response {
        match http::send(self.addr(), request).await {
            Ok(response) => response,
            Err(error) => panic!("{request:?}: {error:#}\n{}", self.setup.log()),
        }
    }

    /// Answer to these bytes, whatever they are.
    pub async fn send_raw(&self, request: &[u8]) -> Response {
        match http::send_raw(self.addr(), request).await {
            Ok(response) => response,
            Err(error) => panic!("{}: {error:#}\n{}", request.escape_ascii(), self.setup.log()),
        }
    }

    /// Answer of the admin port.
    pub async fn admin(&self, target: &str) -> Response {
        http::get(self.admin_addr(), target).await.expect("the admin port answers")
    }

    /// What `/readyz` says.
    pub async fn readiness(&self) -> Value {
        serde_json::from_slice(&self.admin("/readyz").await.body).expect("readiness is JSON")
    }

    /// The value of one series, written as `/metrics` writes it: `name` or `name{label="value"}`.
    ///
    /// # Panics
    /// When there is no such series: a mistyped name must not look like a zero.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = self.admin("/metrics").await.text();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no series {series} in\n{text}"))
    }

    /// Waits until so many access events were written and returns all there are.
    pub async fn events(&self, count: usize) -> Vec<Value> {
        eventually("access events", async || Some(self.setup.events()).filter(|events| events.len() >= count)).await
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal).expect("our own child may be signalled");
    }

    /// From now on it can write no file beyond so many bytes, as on a disk that fills up while it runs. The setup must have had
    /// [`EdgeSetup::file_blocks_max`], whose limit cannot be raised again.
    ///
    /// # Panics
    /// When the system refuses.
    pub fn limit_file_size(&self, bytes: u64) {
        let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
        let id = self.process.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        rustix::process::prlimit(id, Resource::Fsize, limit).expect("our own child may be limited");
    }

    /// Waits for its end, which something else has caused.
    pub async fn exited(mut self) -> (ExitStatus, EdgeSetup) {
        let status = timeout(STOP_LIMIT, self.process.exited()).await;
        let status = status.unwrap_or_else(|_| panic!("the edge does not end\n{}", self.setup.log()));
        (status.expect("our own child can be waited for"), self.setup)
    }

    /// Stops it in order (SIGTERM) and checks that it says so by its exit code. What is returned starts it again.
    pub async fn stop(self) -> EdgeSetup {
        self.signal(Signal::TERM);
        let (status, setup) = self.exited().await;
        assert_eq!(status.code(), Some(0), "{status}\n{}", setup.log());
        setup
    }

    /// Kills it (SIGKILL), as a crash would. What is returned starts it again.
    pub async fn kill(self) -> EdgeSetup {
        self.process.kill().await.expect("our own child may be killed");
        self.setup
    }

    /// Starts another process with `--upgrade` on the same folders and ports, and waits until it serves: the old one is
    /// draining by then, or has ended.
    ///
    /// # Panics
    /// When the new one does not get that far.
    pub async fn upgrade(self) -> (Self, Old) {
        self.upgrade_to(|setup| setup).await
    }

    /// The same with other settings.
    ///
    /// # Panics
    /// As [`Self::upgrade`].
    pub async fn upgrade_to(mut self, change: impl FnOnce(EdgeSetup) -> EdgeSetup) -> (Self, Old) {
        self.setup = change(self.setup);
        self.setup.write_files();
        let mut command = self.setup.command(true);
        command.arg("--upgrade");
        let process = Process::start(command).expect("the program is there and may be run");
        let old = Old(self.process);
        let edge = Self { process, setup: self.setup };
        eventually("the upgrade", async || edge.log().contains("the edge before this one").then_some(())).await;
        (edge, old)
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.setup.log()
    }
}

/// A process that another has taken over from.
#[derive(Debug)]
pub struct Old(Process);

impl Old {
    /// Waits for its end.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn exited(mut self) -> ExitStatus {
        let status = timeout(STOP_LIMIT, self.0.exited()).await.expect("the old edge ends by itself");
        status.expect("our own child can be waited for")
    }

    /// Kills it (SIGKILL).
    ///
    /// # Panics
    /// When the system refuses.
    pub async fn kill(self) {
        self.0.kill().await.expect("our own child may be killed");
    }
}

/// The stable code of a problem (RFC 9457), after checking that it is a whole one: content type, status, title, detail.
///
/// # Panics
/// When it is something else.
#[track_caller]
#[must_use]
pub fn problem_code(response: &Response) -> String {
    assert_eq!(response.header("content-type"), Some("application/problem+json"), "{}", response.text());
    let problem: Value = serde_json::from_slice(&response.body).expect("a problem is JSON");
    assert_eq!(problem["status"], response.status.as_u16(), "{problem}");
    let code = problem["code"].as_str().expect("a problem has a code").to_owned();
    assert_eq!(problem["type"], format!("urn:calotype:problem:{code}"));
    for text in ["title", "detail"] {
        assert!(problem[text].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
    }
    code
}

/// Checks status and code of a refusal together.
///
/// # Panics
/// When either differs.
#[track_caller]
pub fn assert_problem(response: &Response, status: u16, code: &str) {
    assert_eq!((response.status.as_u16(), problem_code(response).as_str()), (status, code), "{}", response.text());
}

/// Checks for a picture of this type and returns its bytes.
///
/// # Panics
/// When it is anything else.
#[track_caller]
pub fn picture(response: &Response, content_type: &str) -> Bytes {
    assert_eq!(response.status.as_u16(), 200, "{}", response.text());
    assert_eq!(response.header("content-type"), Some(content_type));
    assert!(!response.body.is_empty());
    response.body.clone()
}

/// Looks again and again until `look` gives something.
///
/// # Panics
/// When it has not within half a minute; names `what` was waited for.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WAIT_LIMIT;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {WAIT_LIMIT:?} in vain for {what}");
        sleep(POLL).await;
    }
}
