//! Stock clients of tus, unchanged, as `docs/uploads.md` uses them: killed, and going on. `script/test` installs them; without them, or
//! without a browser for Uppy, the tests say so and pass.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use testkit::database::TestDatabase;
use testkit::edge::eventually;
use testkit::web::{Page, WebServer};
use testkit::webdriver::Browser;
use tokio::process::{Child, Command};

use crate::media_rig::MediaRig;
use crate::upload_rig::{assert_swept, assert_taken, noise, until_done};
use crate::uploads_guide::blocks;

/// So large that it takes a while with a store that is slow.
const LARGE: usize = 40 << 20;

/// Bytes that are stored at a time.
const PIECE: i64 = 8 << 20;

/// Where the clients are.
pub(crate) fn clients() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tus-clients");
    let is_there = folder.join("node_modules/tus-js-client").is_dir();
    if !is_there {
        eprintln!("skipped: {} has no node_modules: script/test installs them", folder.display());
    }
    is_there.then_some(folder)
}

/// A folder with a script in it that finds the clients.
pub(crate) fn script(clients: &Path, name: &str, text: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink(clients.join("node_modules"), folder.path().join("node_modules")).expect("a link");
    std::fs::write(folder.path().join(name), text).expect("the folder is ours");
    folder
}

/// A store that takes a while for each request, so that an upload is still running when it is to be.
async fn slow_bucket(settings: &[(&'static str, String)]) -> MediaRig {
    let rig = MediaRig::with_bucket(TestDatabase::new().await, settings).await;
    rig.relay().set_latency(Duration::from_millis(300));
    rig
}

/// Starts the guide's script. Dropping it kills it.
fn start(rig: &MediaRig, folder: &Path) -> Child {
    let mut command = Command::new("node");
    command.arg("film.mjs").current_dir(folder).env("API", format!("http://{}", rig.api.addr()));
    command.env("KEY", &rig.shop.key).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    command.spawn().expect("node is there")
}

/// Waits until so many bytes of the only upload are stored.
async fn until_received(rig: &MediaRig, bytes: i64) {
    let from = format!("uploads WHERE received >= {bytes}");
    eventually("bytes", async || (rig.count(&from).await == 1).then_some(())).await;
}

#[tokio::test]
async fn tus_js_client_goes_on_after_it_was_killed() {
    let Some(clients) = clients() else { return };
    let rig = slow_bucket(&[]).await;
    let folder = script(&clients, "film.mjs", &blocks("js")[1]);
    let bytes = noise(LARGE, 1);
    std::fs::write(folder.path().join("film.mp4"), &bytes).expect("the folder is ours");
    for pieces in 1..=2 {
        let mut node = start(&rig, folder.path());
        until_received(&rig, pieces * PIECE).await;
        node.kill().await.expect("our own child may be killed");
        assert_eq!(rig.count("media").await, 0, "it was killed in time");
    }
    let mut node = start(&rig, folder.path());
    assert!(node.wait().await.expect("our child").success(), "{}", rig.api.log());
    assert_eq!(rig.count("uploads").await, 1, "it has gone on with the first");
    rig.relay().set_latency(Duration::ZERO);
    until_done(&rig).await;
    assert_taken(&rig, "holidays/film", &bytes).await;
}

#[tokio::test]
async fn tus_js_client_goes_on_after_the_server_was_killed() {
    let Some(clients) = clients() else { return };
    let rig = slow_bucket(&[]).await;
    let folder = script(&clients, "film.mjs", &blocks("js")[1]);
    let bytes = noise(LARGE, 2);
    std::fs::write(folder.path().join("film.mp4"), &bytes).expect("the folder is ours");
    let mut node = start(&rig, folder.path());
    until_received(&rig, PIECE).await;
    let rig = rig.restart_after_crash().await;
    until_received(&rig, 2 * PIECE).await;
    let rig = rig.restart_after_crash().await;
    assert!(node.wait().await.expect("our child").success(), "{}", rig.api.log());
    assert_eq!(rig.count("uploads").await, 1, "it has gone on with the first");
    rig.relay().set_latency(Duration::ZERO);
    until_done(&rig).await;
    assert_taken(&rig, "holidays/film", &bytes).await;
}

/// The guide's script for pages, with what it stands on, as one file.
async fn bundle(clients: &Path) -> Vec<u8> {
    let page = "\nconst [api, key] = location.hash.slice(1).split(',');\n\
                const say = (text) => { document.querySelector('#state').textContent = text; };\n\
                const uppy = uploads(api, key, document.querySelector('input'));\n\
                uppy.on('upload-progress', (file, { bytesUploaded }) => say(`${bytesUploaded} bytes`));\n\
                uppy.on('upload-error', (file, error) => say(`failed: ${error}`));\n\
                uppy.on('upload-success', (file, answer) => say(`done: ${answer.uploadURL}`));\n";
    let folder = script(clients, "page.js", &format!("{}{page}", blocks("js")[2]));
    let mut command = Command::new("node_modules/.bin/esbuild");
    command.args(["page.js", "--bundle", "--outfile=page.out.js", "--log-level=warning"]).current_dir(folder.path());
    let done = command.output().await.expect("the bundler is there");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    std::fs::read(folder.path().join("page.out.js")).expect("it was made")
}

#[tokio::test]
async fn uppy_goes_on_in_a_browser_after_the_server_was_killed() {
    let Some(clients) = clients() else { return };
    let Some(browser) = Browser::start(800, 600).await.expect("the driver that is there works") else {
        eprintln!("skipped: chromedriver is not installed");
        return;
    };
    let web = WebServer::start().await.expect("a web server");
    let html = "<!doctype html><input type=file><p id=state>waits</p><script src=/page.js></script>";
    web.put("/", Page::new(html).header("content-type", "text/html"));
    web.put("/page.js", Page::new(bundle(&clients).await).header("content-type", "text/javascript"));
    let origin = format!("http://{}", web.address());
    let rig = slow_bucket(&[("CORS_ORIGINS", format!("[\"{origin}\"]"))]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let bytes = noise(LARGE, 3);
    let file = folder.path().join("film.mp4");
    std::fs::write(&file, &bytes).expect("the folder is ours");

    browser.navigate(&format!("{origin}/#http://{},{}", rig.api.addr(), rig.shop.key)).await.expect("a page");
    let input = browser.find("input").await.expect("there");
    browser.send_keys(&input, file.to_str().expect("a path")).await.expect("it takes a file");
    until_received(&rig, PIECE).await;
    let rig = rig.restart_after_crash().await;
    let state = browser.find("#state").await.expect("there");
    let done = eventually("the end", async || {
        let text = browser.text(&state).await.expect("text");
        assert!(!text.starts_with("failed"), "{text}\n{}", rig.api.log());
        text.strip_prefix("done: ").map(str::to_owned)
    })
    .await;
    assert_eq!(rig.count("uploads").await, 1, "it has gone on with the first");
    rig.relay().set_latency(Duration::ZERO);
    until_done(&rig).await;
    let id = done.rsplit('/').next().expect("a name");
    assert!(rig.stored(id) == bytes, "other bytes than were sent");
    let medium = rig.get(id).await;
    assert_eq!(crate::support::ok(&medium, 200)["folder"], "holidays");
    assert_swept(&rig).await;
}
