//! `calotype`, run as a user runs it.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use testkit::edge::{EdgeSetup, picture, program, without_settings_of_ours};
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
