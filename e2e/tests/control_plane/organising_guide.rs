//! `docs/organising.md`, run: its requests, and what it says is answered.

use ::http::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::edit_rig::{job, names};
use crate::media_rig::{MediaRig, TestForm, id, picture};
use crate::support::{self, ok};

/// Its blocks of a language, in their order.
fn blocks(language: &str) -> Vec<String> {
    support::blocks("organising.md", language)
}

/// Runs each command of a block; what each answers.
async fn run(rig: &MediaRig, block: &str, medium: &str, job: &str) -> Vec<Value> {
    let mut answers = Vec::new();
    for command in block.split("\ncurl ").map(|rest| format!("curl {}", rest.trim_start_matches("curl "))) {
        let mut shell = Command::new("bash");
        shell.arg("-euc").arg(&command).env("KEY", &rig.shop.key).env("API", format!("http://{}", rig.api.addr()));
        shell.env("ID", medium).env("JOB", job).kill_on_drop(true);
        let done = shell.output().await.expect("there is a shell");
        assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
        answers.push(serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("no JSON: {command}")));
    }
    answers
}

/// What is shown, without what differs from time to time.
fn alike(mut value: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    if matches!(name.as_str(), "created_at" | "finished_at" | "id") && field.is_string() {
                        *field = json!("…");
                    }
                    walk(field);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(walk),
            _ => {}
        }
    }
    walk(&mut value);
    value
}

#[tokio::test]
async fn what_the_guide_says_works() {
    let rig = MediaRig::start().await;
    let mut ids = Vec::new();
    for (name, folder, tags) in [
        ("summer/beach", "holidays", "sun,unsorted"),
        ("2025", "holidays/2025", "sun,draft"),
        ("2026", "holidays/2026", "sun"),
    ] {
        let form =
            TestForm::file(&picture([1, 2, 3])).text("public_id", name).text("folder", folder).text("tags", tags);
        ids.push(id(&ok(&rig.post(form.text("metadata", "{\"draft\":true}")).await, 201)));
    }
    let [tree, move_to, tags, copy, batches, ask] = <[String; 6]>::try_from(blocks("sh")).expect("six blocks");
    let shown: Vec<Value> =
        blocks("json").iter().map(|block| alike(serde_json::from_str(block).expect("JSON"))).collect();
    let [shown_tree, shown_move, shown_job] = <[Value; 3]>::try_from(shown).expect("three answers");

    assert_eq!(alike(run(&rig, &tree, &ids[0], "").await.remove(0)), shown_tree);
    assert_eq!(alike(run(&rig, &move_to, &ids[0], "").await.remove(0)), shown_move);
    assert_eq!(names(&rig, "folder=archive/holidays-2025").await, ["2025"]);

    let about_tags = run(&rig, &tags, &ids[0], "").await;
    assert_eq!(about_tags[0]["items"], json!([{"tag": "sun", "media": 3, "bytes": 978}]));
    assert_eq!((&about_tags[1]["done"], &about_tags[2]["done"]), (&3.into(), &1.into()));
    assert_eq!(names(&rig, "tag=sunshine").await, ["2025", "2026", "summer/beach"]);

    let copied = run(&rig, &copy, &ids[0], "").await.remove(0);
    assert_eq!((&copied["folder"], &copied["tags"]), (&"drafts".into(), &json!(["sunshine", "unsorted"])));
    assert_eq!(rig.stored("summer/beach-copy"), picture([1, 2, 3]));

    // Two are in the filter, as the answer shows.
    let change = json!({"folder": "holidays"});
    ok(&rig.api.json(Method::PATCH, &rig.shop.key, &format!("/v1/media/{}", ids[2]), &change).await, 200);
    let jobs = run(&rig, &batches, &ids[0], "").await;
    rig.worker().await;
    assert_eq!(alike(run(&rig, &ask, &ids[0], &id(&jobs[0])).await.remove(0)), shown_job);
    assert_eq!(job(&rig, &id(&jobs[1])).await["result"]["done"], 1);
    let best = ok(&rig.get(&ids[0]).await, 200);
    assert_eq!((&best["folder"], &best["tags"]), (&"best".into(), &json!(["best", "chosen", "sunshine"])));
    assert_eq!((&best["metadata"], &best["expires_at"]), (&json!({"year": 2026}), &"2090-01-31T12:00:00Z".into()));
}
