//! `calotype`, run as a user runs it.

use std::fs::File;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use devstack::process::{Process, answers};
use testkit::edge::{EdgeSetup, Signal, eventually, picture, program, without_settings_of_ours};
use testkit::{http, images};
use tokio::process::Command;
use tokio::time::timeout;

/// For whatever one command does; longer than it ever takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn calotype(arguments: &[&str]) -> Command {
    let mut command = Command::new(program("calotype"));
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    without_settings_of_ours(&mut command);
    command
}

async fn run(arguments: &[&str]) -> Output {
    let ended = timeout(PATIENCE, calotype(arguments).output()).await.expect("it ends by itself");
    ended.expect("it can be started")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

/// Processes whose parent is `pid`.
fn children_of(pid: u32) -> Vec<u32> {
    let parent_of = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before it is in brackets and may hold anything (proc(5)).
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok()
    };
    let all = std::fs::read_dir("/proc").expect("Linux has it");
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|child| parent_of(*child) == Some(pid)).collect()
}

/// `calotype up` over a folder of two files, on the ports and in the folders of an edge that is not started itself.
fn up(setup: &EdgeSetup, greeting: &Path) -> Process {
    setup.put("my beach.jpg", images::jpeg::rgb(&images::photo(120, 80), &images::jpeg::Extras::default()));
    setup.put("letter.txt", images::hostile::text());
    let (listen, admin) = (setup.addr().to_string(), setup.admin_addr().to_string());
    let (folder, data) = (setup.originals(), setup.home().join("data"));
    let mut command = calotype(&["up", text(&folder), "--data", text(&data)]);
    command.args(["--listen", &listen, "--admin-listen", &admin]);
    let file = File::create(greeting).expect("the folder is ours");
    command.env("CALOTYPE_PROXY__CACHE__DISK_BYTES", (64 << 20).to_string()).stdout(file);
    Process::start(command).expect("it can be started")
}

#[tokio::test]
async fn up_serves_a_folder_until_interrupted_and_leaves_no_process() {
    for signal in [Signal::INT, Signal::TERM] {
        let setup = EdgeSetup::new();
        let listen = setup.addr();
        let greeting = setup.home().join("greeting");
        let mut up = up(&setup, &greeting);
        let url = eventually("the greeting", async || {
            let greeting = std::fs::read_to_string(&greeting).expect("written by now");
            let line = greeting.lines().find(|line| line.contains("/demo/"))?;
            // The whole line, not the start of one that is being written.
            greeting.contains("Stop with Ctrl-C").then(|| line.trim().to_owned())
        })
        .await;
        assert_eq!(url, format!("http://{listen}/demo/w=400,f=auto/@local/my%20beach.jpg"));
        let (address, target) = http::split_url(&url).expect("a URL");
        picture(&http::get(address, &target).await.expect("an answer"), "image/jpeg");
        answers(setup.admin_addr(), "/readyz", PATIENCE).await.expect("ready");

        let greeting = std::fs::read_to_string(&greeting).expect("written by now");
        assert!(greeting.contains(&format!("http://{}/playground\n", setup.admin_addr())), "{greeting}");
        let playground = http::get(setup.admin_addr(), "/playground").await.expect("an answer");
        assert_eq!(playground.status, 200);

        let children = children_of(up.id().expect("it runs"));
        assert_eq!(children.len(), 1, "the edge and nothing else");
        up.signal(signal).expect("our own child");
        let status = timeout(PATIENCE, up.exited()).await.expect("it ends").expect("our own child");
        assert_eq!(status.code(), Some(0));
        assert!(!Path::new(&format!("/proc/{}", children[0])).exists(), "the edge was left behind");
        assert!(TcpStream::connect(setup.addr()).is_err());
    }
}

#[tokio::test]
async fn up_leaves_no_process_even_when_it_is_killed() {
    let setup = EdgeSetup::new();
    let up = up(&setup, &setup.home().join("greeting"));
    answers(setup.admin_addr(), "/readyz", PATIENCE).await.expect("ready");
    let children = children_of(up.id().expect("it runs"));
    assert_eq!(children.len(), 1);
    up.kill().await.expect("our own child");
    eventually("the end of the edge", async || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", children[0])).unwrap_or_default();
        // Gone, or ended and not yet collected by whoever inherited it.
        stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('Z')).then_some(())
    })
    .await;
    assert!(TcpStream::connect(setup.addr()).is_err());
}

#[tokio::test]
async fn up_without_a_usable_folder_or_port_says_so_and_ends() {
    let setup = EdgeSetup::new();
    let data = setup.home().join("data");
    let (listen, admin) = (setup.addr().to_string(), setup.admin_addr().to_string());
    let missing = setup.home().join("missing");
    let ended =
        run(&["up", text(&missing), "--data", text(&data), "--listen", &listen, "--admin-listen", &admin]).await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("missing"), "{ended:?}");

    let edge = setup.start().await;
    let folder = edge.setup().originals();
    let ended = run(&["up", text(&folder), "--data", text(&data), "--listen", &listen, "--admin-listen", &admin]).await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("cannot be listened on"), "{ended:?}");
    edge.stop().await;
}

#[tokio::test]
async fn up_cleans_up_after_itself_when_it_is_killed_while_starting() {
    let setup = EdgeSetup::new();
    let (folder, data) = (setup.originals(), setup.home().join("data"));
    let mut command = calotype(&["up", text(&folder), "--data", text(&data)]);
    command.args(["--listen", &setup.addr().to_string(), "--admin-listen", &setup.admin_addr().to_string()]);
    let child = Process::start(command).expect("it can be started");
    let status = child.stop(PATIENCE).await.expect("it stops");
    // Before its handlers were in place, the signal itself has ended it.
    assert!(matches!(status.code(), Some(0) | None), "{status}");
    assert!(TcpStream::connect(setup.addr()).is_err());
}

#[tokio::test]
async fn transform_gives_the_bytes_that_the_edge_gives() {
    let edge = EdgeSetup::new().start().await;
    edge.setup().put("a.jpg", images::jpeg::oriented(&images::photo(240, 160), 6));
    edge.setup().put("disc.png", images::png::rgba(&images::hard_edged(100, [200, 30, 30], [0, 255, 0])));
    let output = edge.setup().home().join("output");
    for (source, ops, format, kind) in [
        ("a.jpg", "w=100", "jpeg", "image/jpeg"),
        ("a.jpg", "w=80,h=80,fit=cover,g=auto,q=70", "webp", "image/webp"),
        ("a.jpg", "w=90,h=50,fit=pad,bg=navy", "png", "image/png"),
        ("a.jpg", "w=64,q=50", "avif", "image/avif"),
        ("a.jpg", "rect=10;10;60;40,rotate=30,flip=h", "png", "image/png"),
        ("disc.png", "w=50", "webp", "image/webp"),
        ("disc.png", "w=50,bg=white", "jpeg", "image/jpeg"),
        ("a.jpg", "w=10", "json", "application/json"),
    ] {
        let input = edge.setup().originals().join(source);
        let ops = format!("{ops},f={format}");
        let ended = run(&["transform", text(&input), &ops, text(&output)]).await;
        assert!(ended.status.success(), "{ops}: {}", String::from_utf8_lossy(&ended.stderr));
        let served = picture(&edge.get(&format!("/demo/{ops}/@local/{source}")).await, kind);
        assert!(std::fs::read(&output).expect("written") == served, "{source} {ops}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn transform_takes_the_format_from_the_extension_and_writes_to_standard_output() {
    let setup = EdgeSetup::new();
    setup.put("a.jpg", images::jpeg::rgb(&images::photo(120, 80), &images::jpeg::Extras::default()));
    let input = setup.originals().join("a.jpg");
    let output = setup.home().join("small.WEBP");
    assert!(run(&["transform", text(&input), "w=30", text(&output)]).await.status.success());
    let bytes = std::fs::read(&output).expect("written");
    assert_eq!((&bytes[..4], &bytes[8..12]), (&b"RIFF"[..], &b"WEBP"[..]));
    let piped = run(&["transform", text(&input), "w=30,f=webp", "-"]).await;
    assert!(piped.stdout == bytes);
}

#[tokio::test]
async fn transform_names_what_is_wrong_and_writes_nothing() {
    let setup = EdgeSetup::new();
    setup.put("a.jpg", images::jpeg::rgb(&images::photo(60, 40), &images::jpeg::Extras::default()));
    setup.put("letter.jpg", images::hostile::text());
    let output = setup.home().join("output.jpg");
    let unknown = setup.home().join("output.xyz");
    for (source, ops, output, said) in [
        ("a.jpg", "wdith=30", &output, "did you mean \"width\""),
        ("a.jpg", "w=0", &output, "width"),
        ("a.jpg", "lossless=true", &output, "only webp, jxl and png"),
        ("a.jpg", "overlay=logo", &output, "overlay"),
        ("a.jpg", "p=thumb", &output, "presets"),
        ("a.jpg", "w=30", &unknown, ".xyz"),
        ("letter.jpg", "w=30", &output, "not an image"),
        ("missing.jpg", "w=30", &output, "missing.jpg"),
    ] {
        let input = setup.originals().join(source);
        let ended = run(&["transform", text(&input), ops, text(output)]).await;
        assert_eq!(ended.status.code(), Some(1), "{ops}");
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert!(stderr.contains(said), "{said:?} is not in: {stderr}");
        assert!(!output.exists());
    }
}

/// `calotype sign` with nothing in the environment but what is given.
async fn sign(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = calotype(&["sign"]);
    command.args(arguments).envs(environment.iter().copied());
    timeout(PATIENCE, command.output()).await.expect("it ends by itself").expect("it can be started")
}

fn printed(ended: &Output) -> String {
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8_lossy(&ended.stdout).trim_end().to_owned()
}

const SECRET: &str = "the secret of a test, of 32 bytes or more";

#[tokio::test]
async fn sign_takes_the_keys_of_a_policy_file_and_the_edge_takes_the_url() {
    let keys = format!("keys = {{ old = '{SECRET} (old)', new = '{SECRET} (new)' }}\nhosts = ['img.example.com']");
    let setup = EdgeSetup::new();
    let folder = setup.originals().display().to_string();
    let vault = format!("[tenants.vault]\nsigned = 'required'\nkeys.k = '{SECRET}'\norigins.local.folder = {folder:?}");
    let edge = setup.tenant(&keys).tables(&vault).start().await;
    edge.setup().put("a b.jpg", images::jpeg::rgb(&images::photo(120, 80), &images::jpeg::Extras::default()));
    let policy = edge.setup().home().join("policy.toml");
    let policy = ["--policy", text(&policy)];
    for (arguments, host) in [
        (["/vault/w=30/@local/a%20b.jpg", "--expires-in", "600", "--host-form"].as_slice(), None),
        (&["/vault/w=30/@local/a%20b.jpg"], None),
        (&["/vault/-/@local/a%20b.jpg", "--expires-in", "600"], None),
        (&["/w=30/@local/a%20b.jpg", "--tenant", "vault", "--key", "k"], None),
        (&["/-/@local/a%20b.jpg", "--tenant", "demo", "--key", "old"], None),
        (&["/w=30/@local/a%20b.jpg", "--tenant", "demo", "--key", "new", "--host-form"], Some("img.example.com")),
    ] {
        let mut target = printed(&sign(&[arguments, policy.as_slice()].concat(), &[]).await);
        assert!(target.starts_with('/') && target.contains("&sig=") || target.contains("?kid="), "{target}");
        if arguments.contains(&"--host-form") && host.is_none() {
            assert!(target.starts_with("/w=30/@local/a%20b.jpg?exp="), "{target}");
            target = format!("/vault{target}");
        }
        let request = http::Request::get(&target).header("host", host.unwrap_or("edge"));
        assert_eq!(edge.send(&request).await.status, 200, "{target}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn sign_takes_a_key_from_the_environment() {
    let value = format!("k:{SECRET}");
    let key = [("CALOTYPE_SIGNING_KEY", value.as_str())];
    let short = printed(&sign(&["--tenant", "demo", "/w=30/@local/a.jpg", "--base", "http://h/"], &key).await);
    let whole = printed(&sign(&["/demo/w=30/@local/a.jpg", "--base", "http://h"], &key).await);
    assert_eq!(short, whole);
    assert!(whole.starts_with("http://h/demo/w=30/@local/a.jpg?kid=k&sig="), "{whole}");
}

#[tokio::test]
async fn sign_names_what_is_wrong_and_never_a_secret() {
    let setup = EdgeSetup::new();
    let data = setup.home().join("data");
    std::fs::create_dir(&data).expect("ours");
    let policy = setup.home().join("two.toml");
    let tables = format!("[tenants.demo.keys]\na = '{SECRET}'\nb = '{SECRET}'\n[tenants.bare]\n");
    std::fs::write(&policy, tables).expect("ours");
    let (good, short) = (format!("k:{SECRET}"), "k:swordfish");
    let policy = ["--policy", text(&policy)];
    let from = |key| vec![("CALOTYPE_SIGNING_KEY", key), ("CALOTYPE_DATA", text(&data))];
    for (arguments, environment, said) in [
        (vec!["/demo/wdith=30/@local/a.jpg"], from(&good), "did you mean \"width\""),
        (vec!["/demo/w=30"], from(&good), "the source is missing"),
        (vec!["demo/w=30/@local/a.jpg"], from(&good), "does not start with"),
        (vec!["/demo/w=30/@local/my beach.jpg"], from(&good), "must be percent-encoded"),
        (vec!["/demo/w=30/@local/a.jpg?x=1"], from(&good), "%3F"),
        (vec!["/demo/w=30/@local/a.jpg?exp=1"], from(&good), "for this command to add"),
        (vec!["/w=30/@local/a.jpg"], from(&good), "--tenant"),
        (vec!["/demo/w=30/@local/a.jpg", "--tenant", "shop"], from(&good), "shop"),
        (vec!["/demo/w=30/@local/a.jpg", "--key", "other"], from(&good), "the key there is k"),
        (vec!["/demo/w=30/@local/a.jpg"], from(short), "9 bytes, allowed are 32 to 256"),
        (vec!["/demo/w=30/@local/a.jpg"], from("swordfish"), "kid:secret"),
        (vec!["/demo/w=30/@local/a.jpg", "--expires-at", "1000000000000"], from(&good), "expiry"),
        (vec!["/demo/w=30/@local/a.jpg"], vec![("CALOTYPE_DATA", text(&data))], "there is no key"),
        ([policy.as_slice(), &["/demo/w=30/@local/a.jpg"]].concat(), vec![], "--key: a, b"),
        ([policy.as_slice(), &["/demo/w=30/@local/a.jpg", "--key", "c"]].concat(), vec![], "--key: a, b"),
        ([policy.as_slice(), &["/bare/w=30/@local/a.jpg"]].concat(), vec![], "has no keys"),
        ([policy.as_slice(), &["/none/w=30/@local/a.jpg"]].concat(), vec![], "no tenant none"),
        ([policy.as_slice(), &["/w=30/@local/a.jpg"]].concat(), vec![], "several tenants"),
    ] {
        let ended = sign(&arguments, &environment).await;
        assert_eq!((ended.status.code(), ended.stdout.len()), (Some(1), 0), "{arguments:?}");
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert!(stderr.contains(said), "{said:?} is not in: {stderr}");
        assert!(!stderr.contains(SECRET) && !stderr.contains("swordfish"), "{stderr}");
    }
}

#[tokio::test]
async fn up_makes_a_key_once_and_keeps_it_to_its_owner() {
    let setup = EdgeSetup::new();
    let data = setup.home().join("data");
    std::fs::create_dir(&data).expect("ours");
    // An older version left it readable for all.
    std::fs::write(data.join("policy.toml"), "").expect("ours");
    let mut credentials = Vec::new();
    for run in 0..2 {
        let greeting = setup.home().join("greeting");
        let up = up(&setup, &greeting);
        let url = eventually("the signed example", async || {
            let greeting = std::fs::read_to_string(&greeting).expect("written by now");
            let line = greeting.lines().find(|line| line.contains("&sig="))?;
            greeting.contains("Stop with Ctrl-C").then(|| line.trim().to_owned())
        })
        .await;
        let (address, target) = http::split_url(&url).expect("a URL");
        picture(&http::get(address, &target).await.expect("an answer"), "image/jpeg");
        let tampered = target.replace("w=400", "w=401");
        assert_eq!(http::get(address, &tampered).await.expect("an answer").status, 403);
        for name in ["credentials.json", "policy.toml"] {
            let mode = std::fs::metadata(data.join(name)).expect("written").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let signed = printed(&sign(&["/-/@local/my%20beach.jpg", "--data", text(&data)], &[]).await);
        assert!(signed.starts_with("/demo/-/@local/my%20beach.jpg?kid="), "{signed}");
        assert_eq!(http::get(address, &signed).await.expect("an answer").status, 200);
        credentials.push(std::fs::read_to_string(data.join("credentials.json")).expect("written"));
        let read: serde_json::Value = serde_json::from_str(&credentials[run]).expect("is JSON");
        let secret = read["signing"]["secret"].as_str().expect("there");
        assert!(read["tenant"] == "demo" && secret.len() >= 32, "{} bytes", secret.len());
        assert!(!std::fs::read_to_string(&greeting).expect("written").contains(secret));
        up.stop(PATIENCE).await.expect("it stops");
    }
    assert_eq!(credentials[0], credentials[1]);
}

#[tokio::test]
async fn purge_takes_back_at_every_edge_and_tells_where_it_did_not() {
    let token = "a token for this test only";
    let edge = EdgeSetup::new().set("admin_token", format!("\"{token}\"")).start().await;
    edge.setup().put("a.jpg", images::jpeg::rgb(&images::photo(60, 40), &images::jpeg::Extras::default()));
    let target = "/demo/w=30,f=jpeg/@local/a.jpg";
    let is_hit = async || {
        let answer = edge.get(target).await;
        answer.header("cache-status").unwrap_or_default().contains("; hit;")
    };
    is_hit().await;
    assert!(is_hit().await);
    let admin = format!("http://{}", edge.admin_addr());
    let purge = async |arguments: &[&str], token: &str| {
        let mut command = calotype(&["purge", "--admin", &admin]);
        command.args(arguments).env("CALOTYPE_PROXY__ADMIN_TOKEN", token);
        timeout(PATIENCE, command.output()).await.expect("it ends by itself").expect("it can be started")
    };
    let wrong = purge(&["--all"], "the wrong token, 16 bytes").await;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stdout).contains("(unauthorized)"), "{wrong:?}");
    let unclear = purge(&["--all", "--tag", "x"], token).await;
    assert_eq!(unclear.status.code(), Some(2), "one thing at a time");
    assert!(is_hit().await, "nothing was purged");

    let done = purge(&["--source", "@local/a.jpg", "--tenant", "demo"], token).await;
    assert!(done.status.success(), "{done:?}");
    assert!(!is_hit().await);
    let unreachable = purge(&["--all", "--admin", "http://127.0.0.1:1"], token).await;
    assert_eq!(unreachable.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unreachable.stderr).contains("1 of 2 edges"), "{unreachable:?}");
    assert!(!is_hit().await, "the other one purged all the same");
    edge.stop().await;
}
