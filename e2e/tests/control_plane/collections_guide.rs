//! `docs/collections.md`, run: each of its requests, and what it shows of the answers.

use std::collections::BTreeSet;

use serde_json::Value;
use testkit::control_plane::MASTER_KEY;
use tokio::process::Command;

use crate::media_rig::{MediaRig, TestForm, id};
use crate::support::{self, ok};

/// Its blocks of a language, in their order.
fn blocks(language: &str) -> Vec<String> {
    support::blocks("collections.md", language)
}

/// The names of an object's fields.
fn fields(object: &Value) -> BTreeSet<&String> {
    object.as_object().expect("an object").keys().collect()
}

#[tokio::test]
async fn what_the_guide_says_works() {
    let rig = MediaRig::with_folder(&[("MASTER_KEY", MASTER_KEY.to_owned())]).await;
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut media = Vec::new();
    for name in ["first", "second"] {
        let form = TestForm::default().add("file", Some(&format!("{name}.txt")), name.as_bytes());
        media.push(id(&ok(&rig.post(form.text("folder", "holidays/2026")).await, 201)));
    }
    let mut collection = String::new();
    let run = async |commands: &str, collection: &str| {
        let commands = commands.replace("http://127.0.0.1:8000", &format!("http://{}", rig.api.addr()));
        let mut shell = Command::new("bash");
        shell.arg("-euo").arg("pipefail").arg("-c").arg(&commands).current_dir(folder.path());
        shell.env("KEY", &rig.shop.key).env("FIRST", &media[0]).env("SECOND", &media[1]).env("COLLECTION", collection);
        let done = shell.output().await.expect("there is a shell");
        assert!(done.status.success(), "{commands}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("text")
    };
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|_| panic!("no JSON: {text}"));
    let shown = blocks("json").iter().map(|block| json(block)).collect::<Vec<_>>();
    let [create, put, read, lists, arrange, download, link] = <[String; 7]>::try_from(blocks("sh")).expect("seven");

    let made = json(&run(&create, &collection).await);
    assert_eq!((fields(&made), &made["name"]), (fields(&shown[0]), &shown[0]["name"]));
    collection.push_str(&id(&made));
    assert_eq!(run(&put, &collection).await, "{\"added\":2,\"media_count\":2}");
    let told = run(&read, &collection).await;
    assert!(told.contains("\"media_count\":2") && told.contains("first.txt"), "{told}");
    assert_eq!(run(&lists, &collection).await.matches("Summer 2026").count(), 2);

    // Before it is taken apart.
    let listed = run(&download, &collection).await;
    assert!(listed.contains("first.txt") && listed.contains("second.txt"), "{listed}");
    let archive = std::fs::read(folder.path().join("summer.zip")).expect("it was saved");
    assert!(archive.starts_with(b"PK"));
    let link = json(&run(&link, &collection).await);
    assert_eq!((fields(&link), &link["files"]), (fields(&shown[1]), &shown[1]["files"]));
    let url = link["url"].as_str().expect("a URL");
    assert!(url.starts_with(&format!("http://{}/v1/downloads/link?tenant=", rig.api.addr())), "{url}");
    run(&format!("curl -fsSOJ '{url}'"), &collection).await;
    assert!(std::fs::read(folder.path().join("Summer 2026.zip")).expect("the answer names it") == archive);

    assert_eq!(run(&arrange, &collection).await, "{\"added\":0,\"media_count\":2}{\"removed\":1,\"media_count\":1}");
}
