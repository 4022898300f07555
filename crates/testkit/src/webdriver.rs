//! A browser for tests: Chromium without a window, driven over W3C WebDriver (<https://www.w3.org/TR/webdriver2/>).
//!
//! Must not wait for anything by itself: a test says what it waits for with [`eventually`](crate::edge::eventually).
//! Only the commands that tests use are here. Nothing of the browser outlives its handle or the test's process: all of
//! it is one process group with a folder of its own.

use std::fs::File;
use std::io::PipeWriter;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ::http::{Method, StatusCode};
use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use devstack::process::Process;
use rustix::process::{Signal, geteuid};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::sleep;

use crate::http::{self, Request};

/// The driver; it finds the browser by itself.
const DRIVER: &str = "chromedriver";

/// How long the driver may take until it listens.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How long the last files of a killed browser may take to go.
const CLEAN_LIMIT: Duration = Duration::from_secs(5);

/// Time between two looks.
const POLL: Duration = Duration::from_millis(20);

/// The key of an element's id in JSON (W3C WebDriver, section 12.2).
const ELEMENT_KEY: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Runs the driver until standard input ends, that is, until whoever holds the other end of the pipe is gone in whatever
/// way; then kills the driver and all that it started.
const UNTIL_INPUT_ENDS: &str = "\"$@\" & read -r _; kill -KILL 0";

/// No window, nothing fetched that the page does not ask for.
const BROWSER_ARGUMENTS: [&str; 11] = [
    "--headless",
    "--disable-background-networking",
    "--disable-component-update",
    // Containers have little of it.
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-proxy-server",
];

/// A running browser with one window. Dropping it kills it.
#[derive(Debug)]
pub struct Browser {
    driver: Process,
    address: SocketAddr,
    session: String,
    home: TempDir,
    /// Closes when this process ends, and the browser with it.
    _alive: PipeWriter,
}

/// Something on the page.
#[derive(Debug, Clone)]
pub struct Element(String);

impl Browser {
    /// Starts a browser of this window size in CSS pixels; `None` when no driver is installed.
    ///
    /// # Errors
    /// When there is a driver, but no browser comes of it; shows what the driver has written.
    pub async fn start(width: u32, height: u32) -> anyhow::Result<Option<Self>> {
        if !is_installed(DRIVER) {
            return Ok(None);
        }
        let home = tempfile::tempdir()?;
        let (until, alive) = std::io::pipe()?;
        let log = home.path().join("log");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", UNTIL_INPUT_ENDS, "sh", DRIVER, "--port=0"]).stdin(until);
        command.stdout(File::create(&log)?).stderr(File::create(home.path().join("errors"))?);
        // What it keeps beside its profile goes with the folder too.
        command.env("HOME", home.path()).env("TMPDIR", home.path());
        let driver = Process::start(command)?;
        // From here on dropping cleans up.
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut browser = Self { driver, address, session: String::new(), home, _alive: alive };
        browser.address.set_port(port(&log).await?);
        let started = browser.open_session(width, height).await;
        started.with_context(|| format!("{DRIVER} says: {}", std::fs::read_to_string(&log).unwrap_or_default()))?;
        Ok(Some(browser))
    }

    async fn open_session(&mut self, width: u32, height: u32) -> anyhow::Result<()> {
        let mut arguments: Vec<String> = BROWSER_ARGUMENTS.map(str::to_owned).into();
        arguments.push(format!("--user-data-dir={}", self.home.path().join("profile").display()));
        arguments.push(format!("--window-size={width},{height}"));
        if geteuid().is_root() {
            // Chromium's sandbox needs an ordinary user.
            arguments.push("--no-sandbox".to_owned());
        }
        let wanted = json!({ "browserName": "chrome", "goog:chromeOptions": { "args": arguments } });
        let made = self.send(Method::POST, "/session", json!({ "capabilities": { "alwaysMatch": wanted } })).await?;
        self.session = text(&made["sessionId"])?;
        Ok(())
    }

    /// Opens a URL and waits until the page has loaded.
    ///
    /// # Errors
    /// As for all that follow: when the browser refuses, or is gone.
    pub async fn navigate(&self, url: &str) -> anyhow::Result<()> {
        self.post("/url", json!({ "url": url })).await.map(drop)
    }

    /// Loads the page again.
    ///
    /// # Errors
    /// See [`Self::navigate`].
    pub async fn reload(&self) -> anyhow::Result<()> {
        self.post("/refresh", json!({})).await.map(drop)
    }

    /// Makes the window so large, in CSS pixels.
    ///
    /// # Errors
    /// See [`Self::navigate`].
    pub async fn resize(&self, width: u32, height: u32) -> anyhow::Result<()> {
        self.post("/window/rect", json!({ "width": width, "height": height })).await.map(drop)
    }

    /// The first element that a CSS selector matches.
    ///
    /// # Errors
    /// When there is none; see also [`Self::navigate`].
    pub async fn find(&self, selector: &str) -> anyhow::Result<Element> {
        let found = self.post("/element", json!({ "using": "css selector", "value": selector })).await;
        Ok(Element(text(&found.with_context(|| selector.to_owned())?[ELEMENT_KEY])?))
    }

    /// Clicks into the middle of it, as a user would: something that lies over it is an error.
    ///
    /// # Errors
    /// See [`Self::navigate`].
    pub async fn click(&self, element: &Element) -> anyhow::Result<()> {
        self.post(&format!("/element/{}/click", element.0), json!({})).await.map(drop)
    }

    /// Empties a field.
    ///
    /// # Errors
    /// See [`Self::navigate`].
    pub async fn clear(&self, element: &Element) -> anyhow::Result<()> {
        self.post(&format!("/element/{}/clear", element.0), json!({})).await.map(drop)
    }

    /// Types into it, key by key.
    ///
    /// # Errors
    /// See [`Self::navigate`].
    pub async fn send_keys(&self, element: &Element, keys: &str) -> anyhow::Result<()> {
        self.post(&format!("/element/{}/value", element.0), json!({ "text": keys })).await.map(drop)
    }

    /// Its text as it is shown; nothing of what is hidden.
    ///
    /// # Errors
    /// See [`Self::navigate`].
    pub async fn text(&self, element: &Element) -> anyhow::Result<String> {
        text(&self.get(&format!("/element/{}/text", element.0)).await?)
    }

    /// A property of its DOM object.
    ///
    /// # Errors
    /// See [`Self::navigate`].
    pub async fn property(&self, element: &Element, name: &str) -> anyhow::Result<Value> {
        self.get(&format!("/element/{}/property/{name}", element.0)).await
    }

    /// Runs a script in the page, as the body of a function, and returns what it returns.
    ///
    /// # Errors
    /// When it throws; see also [`Self::navigate`].
    pub async fn execute(&self, script: &str, arguments: &[Value]) -> anyhow::Result<Value> {
        self.post("/execute/sync", json!({ "script": script, "args": arguments })).await
    }

    /// What the window shows, as PNG.
    ///
    /// # Errors
    /// See [`Self::navigate`].
    pub async fn screenshot(&self) -> anyhow::Result<Vec<u8>> {
        Ok(STANDARD.decode(text(&self.get("/screenshot").await?)?)?)
    }

    /// Ends the browser in order.
    ///
    /// # Errors
    /// See [`Self::navigate`]; it is gone all the same.
    pub async fn close(self) -> anyhow::Result<()> {
        self.send(Method::DELETE, &format!("/session/{}", self.session), Value::Null).await.map(drop)
    }

    /// The process group of everything that belongs to it; `None` once it has ended.
    #[must_use]
    pub fn process_group(&self) -> Option<u32> {
        self.driver.id()
    }

    async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send(Method::GET, &format!("/session/{}{path}", self.session), Value::Null).await
    }

    async fn post(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        self.send(Method::POST, &format!("/session/{}{path}", self.session), body).await
    }

    /// One command: its value, or the driver's error.
    async fn send(&self, method: Method, path: &str, body: Value) -> anyhow::Result<Value> {
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(&body)? };
        let request = Request::new(method, path).body(body).header("content-type", "application/json");
        let answer = http::send(self.address, &request).await?;
        let mut answered: Value = serde_json::from_slice(&answer.body).with_context(|| answer.text())?;
        let value = answered["value"].take();
        if answer.status != StatusCode::OK {
            bail!("{}: {}", value["error"], value["message"].as_str().unwrap_or_default());
        }
        Ok(value)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.driver.signal_group(Signal::KILL);
        // The killed write until they are gone, and a folder that gets new files cannot be removed.
        let deadline = Instant::now() + CLEAN_LIMIT;
        while std::fs::remove_dir_all(self.home.path()).is_err() && self.home.path().exists() {
            if Instant::now() > deadline {
                return;
            }
            std::thread::sleep(POLL);
        }
    }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder: PathBuf| folder.join(program)).any(|file| file.is_file())
}

/// The port that the driver has picked, once it has written it.
async fn port(log: &Path) -> anyhow::Result<u16> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        let written = std::fs::read_to_string(log)?;
        let port = written.split("started successfully on port ").nth(1).and_then(|rest| rest.split_once('.'));
        if let Some((port, _)) = port {
            return Ok(port.parse()?);
        }
        ensure!(Instant::now() < deadline, "{DRIVER} does not listen within {START_LIMIT:?}: {written}");
        sleep(POLL).await;
    }
}

fn text(value: &Value) -> anyhow::Result<String> {
    value.as_str().map(str::to_owned).with_context(|| format!("{value} is no text"))
}
