//! `docs/uploads.md`, run: its command lines, and its snippets in Node, against a folder and a bucket.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::Command;

use crate::media_rig::{MediaRig, picture};
use crate::support;
use crate::tus_clients::{clients, script};
use crate::upload_rig::{PART, assert_swept, both, noise, until_done};

/// The blocks of the guide in a language, in their order.
pub(crate) fn blocks(language: &str) -> Vec<String> {
    support::blocks("uploads.md", language)
}

/// Runs a program in a folder, with what the guide calls `$API` and `$KEY`; what it has written.
pub(crate) async fn run(rig: &MediaRig, program: &str, arguments: &[&str], folder: &Path) -> String {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(folder)
        .env("API", format!("http://{}", rig.api.addr()))
        .env("KEY", &rig.shop.key);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.expect("it can be started");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}\n{}", rig.api.log());
    out.into_owned()
}

#[tokio::test]
async fn the_command_lines_make_media() {
    let [direct, tus] = &blocks("sh")[..] else { panic!("there are two") };
    for rig in both(&[]).await {
        let folder = tempfile::tempdir().expect("a folder");
        let bytes = picture([1, 2, 3]).repeat(20);
        std::fs::write(folder.path().join("beach.jpg"), &bytes).expect("the folder is ours");
        let run = async |block: &str| run(&rig, "bash", &["-euo", "pipefail", "-c", block], folder.path()).await;
        let done: Value = serde_json::from_str(&run(direct).await).expect("JSON");
        assert_eq!((&done["state"], &done["media"]["public_id"]), (&"done".into(), &"summer/beach".into()), "{done}");
        assert_eq!(rig.stored("summer/beach"), bytes);
        let last = run(tus).await;
        assert!(last.starts_with("HTTP/1.1 204") && last.to_lowercase().contains("calotype-media-id: "), "{last}");
        assert_eq!(rig.stored("beach"), bytes);
        assert_swept(&rig).await;
    }
}

#[tokio::test]
async fn parts_are_sent_as_the_guide_says() {
    let Some(_) = clients() else { return };
    let block = &blocks("js")[0];
    for rig in both(&[]).await {
        let folder = tempfile::tempdir().expect("a folder");
        let bytes = noise(3 * PART + 5, 1);
        std::fs::write(folder.path().join("film.mp4"), &bytes).expect("the folder is ours");
        let program = format!(
            "import {{ openAsBlob }} from 'node:fs';\n{block}\n\
             const file = await openAsBlob('film.mp4');\n\
             const done = await upload(process.env.API, process.env.KEY, file, {{ public_id: 'film' }});\n\
             console.log(JSON.stringify(done));\n"
        );
        std::fs::write(folder.path().join("direct.mjs"), program).expect("the folder is ours");
        let done: Value = serde_json::from_str(&run(&rig, "node", &["direct.mjs"], folder.path()).await).expect("JSON");
        assert_eq!((&done["state"], &done["bytes"]), (&"done".into(), &json!(bytes.len())), "{done}");
        assert!(rig.stored("film") == bytes);
        assert_swept(&rig).await;
    }
}

#[tokio::test]
async fn a_stock_client_is_used_as_the_guide_says() {
    let Some(clients) = clients() else { return };
    for rig in both(&[]).await {
        let folder = script(&clients, "film.mjs", &blocks("js")[1]);
        let bytes = noise(20 << 20, 2);
        std::fs::write(folder.path().join("film.mp4"), &bytes).expect("the folder is ours");
        let told = run(&rig, "node", &["film.mjs"], folder.path()).await;
        assert!(told.trim_end().lines().last().is_some_and(|line| line.starts_with("done: http://")), "{told}");
        until_done(&rig).await;
        assert!(rig.stored("holidays/film") == bytes);
        let medium = &rig.target("holidays/film");
        assert_eq!(medium.tags, ["sea", "summer"]);
        assert_swept(&rig).await;
    }
}
