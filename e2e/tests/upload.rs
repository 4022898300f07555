//! `calotype upload` against a control plane that answers late, wrongly or not at all.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;
use testkit::edge::{program, without_settings_of_ours};
use testkit::web::{Page, WebServer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// For whatever one command does; longer than it ever takes.
const PATIENCE: Duration = Duration::from_secs(120);

const KEY: &str = "cal_test_a-key-for-this-test-only";

/// What the server does with the next request.
#[derive(Debug, Clone)]
enum Act {
    /// Reads it whole and answers with this status, further headers and JSON.
    Answer(&'static str, &'static str, &'static str),
    /// Answers without reading the body, and hangs up.
    Refuse(&'static str, &'static str),
    /// Hangs up after so many bytes of the body.
    HangUp(usize),
    /// Reads it whole and hangs up.
    Forget,
}

const CREATED: Act = Act::Answer("201 Created", "", r#"{"url":"http://edge/demo/f=auto/x","published":true}"#);

/// A request that came.
#[derive(Debug, Clone)]
struct Came {
    head: String,
    body: Vec<u8>,
}

impl Came {
    fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.clone().find(|(is, _)| is.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }
}

/// A server that does one act after the other, each on a connection of its own.
struct Server {
    address: SocketAddr,
    came: Arc<Mutex<Vec<Came>>>,
    serving: JoinHandle<()>,
}

impl Server {
    async fn start(acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it listens");
        let came = Arc::<Mutex<Vec<Came>>>::default();
        let noted = Arc::clone(&came);
        let serving = tokio::spawn(async move {
            for act in acts {
                let (stream, _) = listener.accept().await.expect("it listens");
                let request = act.perform(stream).await;
                noted.lock().unwrap_or_else(PoisonError::into_inner).push(request);
            }
        });
        Self { address, came, serving }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All that came; every act must have been done.
    async fn came(self) -> Vec<Came> {
        timeout(PATIENCE, self.serving).await.expect("all acts are done").expect("none panics");
        self.came.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Act {
    async fn perform(self, mut stream: TcpStream) -> Came {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a head comes first"));
        }
        let mut came = Came { head: String::from_utf8(head).expect("a head is text"), body: Vec::new() };
        let length: usize = came.header("content-length").parse().expect("it says how long it is");
        let asks = came.header("expect") == "100-continue";
        let limit = match self {
            Self::Refuse(..) => 0,
            Self::HangUp(bytes) => bytes,
            Self::Answer(..) | Self::Forget => length,
        };
        if asks && limit > 0 {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.expect("it waits for it");
        }
        came.body = vec![0; limit.min(length)];
        stream.read_exact(&mut came.body).await.expect("the body comes");
        let (status, headers, json) = match self {
            Self::Answer(status, headers, json) => (status, headers, json),
            Self::Refuse(status, json) => (status, "", json),
            Self::HangUp(_) | Self::Forget => return came,
        };
        let length = json.len();
        let answer =
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}Connection: close\r\n\r\n{json}");
        stream.write_all(answer.as_bytes()).await.expect("it waits for it");
        came
    }
}

/// Files to upload, and a state folder with nothing in it.
struct Rig {
    home: TempDir,
}

impl Rig {
    fn new() -> Self {
        Self { home: tempfile::tempdir().expect("a folder can be made") }
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, bytes).expect("the folder is ours");
        path
    }

    fn command(&self, server: &str, arguments: &[&str], files: &[&Path]) -> Command {
        let mut command = Command::new(program("calotype"));
        without_settings_of_ours(&mut command);
        command.arg("upload").args(arguments).args(files).arg("--data").arg(self.home.path());
        command.env("CALOTYPE_API_KEY", KEY).env("CALOTYPE_SERVER", server).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    async fn upload(&self, server: &str, arguments: &[&str], files: &[&Path]) -> (Option<i32>, String, String) {
        run(&mut self.command(server, arguments, files)).await
    }
}

/// Exit code, standard output and standard error.
async fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let output: Output = timeout(PATIENCE, command.output()).await.expect("it ends by itself").expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("a text");
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(!stdout.contains(KEY) && !stderr.contains(KEY), "{stdout}{stderr}");
    (output.status.code(), stdout, stderr)
}

/// The parts of a form: what stands in their heads between quotes, and their bytes.
fn parts(came: &Came) -> Vec<(Vec<String>, Vec<u8>)> {
    let boundary = came.header("content-type").strip_prefix("multipart/form-data; boundary=").expect("a form");
    // RFC 2046, section 5.1.1.
    assert!(boundary.len() <= 70, "{boundary}");
    let delimiter = format!("\r\n--{boundary}");
    let whole = [b"\r\n".as_slice(), &came.body].concat();
    let mut parts = split(&whole, delimiter.as_bytes());
    assert_eq!((parts.remove(0), parts.pop().expect("an end")), (b"".as_slice(), b"--\r\n".as_slice()));
    let part = |part: &[u8]| {
        let pieces = split(part, b"\r\n\r\n");
        let head = String::from_utf8(pieces[0].to_vec()).expect("a text");
        let names = head.split('"').skip(1).step_by(2).map(str::to_owned).collect();
        (names, part[pieces[0].len() + 4..].to_vec())
    };
    parts.into_iter().map(part).collect()
}

fn split<'a>(mut bytes: &'a [u8], at: &[u8]) -> Vec<&'a [u8]> {
    let mut found = Vec::new();
    while let Some(position) = bytes.windows(at.len()).position(|window| window == at) {
        found.push(&bytes[..position]);
        bytes = &bytes[position + at.len()..];
    }
    found.push(bytes);
    found
}

#[tokio::test]
async fn a_file_arrives_with_all_that_is_said_of_it() {
    let (rig, server) = (Rig::new(), Server::start(vec![CREATED]).await);
    let bytes: Vec<u8> = (0..3 << 20).map(|n: u32| (n % 251) as u8).collect();
    let file = rig.put("a \"photo\".jpg", &bytes);
    let arguments = ["--folder", "summer/2026", "--public-id", "beach", "--tag", "sea", "--tag", "sand"];
    let (code, stdout, stderr) = rig.upload(&server.url(), &arguments, &[&file]).await;
    assert_eq!((code, stdout.as_str(), stderr.as_str()), (Some(0), "http://edge/demo/f=auto/x\n", ""));
    let came = server.came().await.remove(0);
    assert!(came.head.starts_with("POST /v1/media HTTP/1.1\r\n"), "{}", came.head);
    assert_eq!(came.header("authorization"), format!("Bearer {KEY}"));
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let expected = [
        (names(&["public_id"]), b"beach".to_vec()),
        (names(&["folder"]), b"summer/2026".to_vec()),
        (names(&["tags"]), b"sea".to_vec()),
        (names(&["tags"]), b"sand".to_vec()),
        (names(&["file", "a %22photo%22.jpg"]), bytes),
    ];
    assert!(parts(&came) == expected, "the form is another one");
}

#[tokio::test]
async fn a_lost_connection_is_tried_again_as_the_same_upload() {
    let acts = vec![
        Act::HangUp(100),
        Act::Forget,
        Act::Answer("503 Service Unavailable", "Retry-After: 1\r\n", "{}"),
        CREATED,
    ];
    let (rig, server) = (Rig::new(), Server::start(acts).await);
    let file = rig.put("a.txt", "x".repeat(5000));
    let (code, stdout, stderr) = rig.upload(&server.url(), &[], &[&file]).await;
    assert_eq!((code, stdout.as_str()), (Some(0), "http://edge/demo/f=auto/x\n"), "{stderr}");
    let came = server.came().await;
    let keys: Vec<_> = came.iter().map(|came| came.header("idempotency-key")).collect();
    assert!(keys.len() == 4 && keys[0].len() >= 32 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_eq!(stderr.matches("trying again").count(), 3, "{stderr}");
}

#[tokio::test]
async fn trying_has_an_end() {
    let (rig, server) = (Rig::new(), Server::start(vec![Act::HangUp(0); 5]).await);
    let file = rig.put("a.txt", "x");
    let (code, stdout, stderr) = rig.upload(&server.url(), &[], &[&file]).await;
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("a.txt: given up after 5 tries"), "{stderr}");
    assert_eq!(server.came().await.len(), 5);
}

#[tokio::test]
async fn what_is_refused_is_told_and_the_others_are_uploaded() {
    let refused = r#"{"code":"exists","detail":"there is one\u001b[2J already","status":409}"#;
    let acts = vec![Act::Answer("409 Conflict", "", refused), CREATED, Act::Answer("200 OK", "", "{}")];
    let (rig, server) = (Rig::new(), Server::start(acts).await);
    let files = ["first.txt", "second.txt", "third.txt"].map(|name| rig.put(name, name));
    let missing = rig.home.path().join("missing.txt");
    let files = [&files[0], &missing, rig.home.path(), &files[1], &files[2]].map(AsRef::as_ref);
    let (code, stdout, stderr) = rig.upload(&server.url(), &[], &files).await;
    assert_eq!((code, stdout.as_str()), (Some(1), "http://edge/demo/f=auto/x\n"), "{stderr}");
    for told in [
        "first.txt: there is one\u{fffd}[2J already (exists)\n",
        "missing.txt: cannot be read",
        ": is not a file\n",
        "third.txt: the answer is not understood",
        "4 of 5 files were not uploaded",
    ] {
        assert!(stderr.contains(told), "{told:?} is not in: {stderr}");
    }
    let came = server.came().await;
    let keys: Vec<_> = came.iter().map(|came| came.header("idempotency-key")).collect();
    assert!(keys[0] != keys[1] && keys[1] != keys[2], "{keys:?}");
}

#[tokio::test]
async fn a_large_file_that_is_refused_is_not_sent() {
    let refused = r#"{"code":"body-too-large","detail":"more than 1 MB"}"#;
    let (rig, server) = (Rig::new(), Server::start(vec![Act::Refuse("413 Content Too Large", refused)]).await);
    let file = rig.put("large.bin", vec![7; 64 << 20]);
    let (code, _, stderr) = rig.upload(&server.url(), &[], &[&file]).await;
    assert_eq!(code, Some(1));
    assert!(stderr.contains("large.bin: more than 1 MB (body-too-large)"), "{stderr}");
    server.came().await;
}

#[tokio::test]
async fn https_is_spoken_with_whom_the_system_trusts_only() {
    let (server, certificate) = WebServer::start_tls("localhost").await.expect("it starts");
    server.put("/base/v1/media", Page::new(r#"{"url":"https://edge/x"}"#));
    let rig = Rig::new();
    let (file, trusted) = (rig.put("a.txt", "x"), rig.put("ca.pem", certificate));
    let url = format!("https://localhost:{}/base/", server.address().port());
    let mut command = rig.command(&url, &[], &[&file]);
    let (code, stdout, stderr) = run(command.env("SSL_CERT_FILE", &trusted)).await;
    assert_eq!((code, stdout.as_str()), (Some(0), "https://edge/x\n"), "{stderr}");
    let nobody = rig.put("none.pem", "");
    let mut command = rig.command(&url, &[], &[&file]);
    let (code, stdout, stderr) = run(command.env("SSL_CERT_FILE", &nobody)).await;
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("TLS"), "{stderr}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn key_and_server_come_from_the_environment_or_the_state_folder() {
    let (rig, server) = (Rig::new(), Server::start(vec![CREATED, CREATED]).await);
    let file = rig.put("a.txt", "x");
    let mut none = rig.command(&server.url(), &[], &[&file]);
    let (code, _, stderr) = run(none.env_remove("CALOTYPE_API_KEY")).await;
    assert!(code == Some(1) && stderr.contains("there is no key: set CALOTYPE_API_KEY"), "{stderr}");

    let credentials = serde_json::json!({
        "tenant": "demo", "signing": { "kid": "demo-1", "secret": "s" }, "api_key": "cal_kept", "server": server.url(),
    });
    rig.put("credentials.json", credentials.to_string());
    let mut kept = rig.command(&server.url(), &[], &[&file]);
    let (code, _, stderr) = run(kept.env_remove("CALOTYPE_API_KEY").env_remove("CALOTYPE_SERVER")).await;
    assert_eq!(code, Some(0), "{stderr}");
    let (code, _, stderr) = rig.upload("http://127.0.0.1:1", &["--server", &server.url()], &[&file]).await;
    assert_eq!(code, Some(0), "{stderr}");
    let came = server.came().await;
    let keys: Vec<_> = came.iter().map(|came| came.header("authorization")).collect();
    assert_eq!(keys, ["Bearer cal_kept", &format!("Bearer {KEY}")]);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_anything_is_sent() {
    let rig = Rig::new();
    let (file, other) = (rig.put("a.txt", "x"), rig.put("b.txt", "x"));
    for (server, arguments, files, told) in [
        ("ftp://127.0.0.1", vec![], vec![&file], "does not start with http"),
        ("127.0.0.1:8000", vec![], vec![&file], "does not start with http"),
        ("http://user:secret@127.0.0.1", vec![], vec![&file], "more than a host and a path"),
        ("http://127.0.0.1/?x=1", vec![], vec![&file], "more than a host and a path"),
        ("http://127.0.0.1:1", vec!["--public-id", "x"], vec![&file, &other], "one file, not of 2"),
    ] {
        let files: Vec<&Path> = files.into_iter().map(PathBuf::as_path).collect();
        let (code, stdout, stderr) = rig.upload(server, &arguments, &files).await;
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{server}");
        assert!(stderr.contains(told) && !stderr.contains("secret"), "{told:?} is not in: {stderr}");
    }
}
