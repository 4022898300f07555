//! Tags: counted, renamed, taken away.

use ::http::Method;
use serde_json::{Value, json};
use testkit::http::Response;

use crate::edit_rig::{done, hold, job_of, killed_at, names, once, post, taken_up};
use crate::media_rig::{MediaRig, TestForm, id};
use crate::support::{ok, problem};

/// Tags and how many media have each.
async fn tags(rig: &MediaRig, query: &str) -> Vec<(String, i64)> {
    let page = ok(&rig.api.get(&rig.shop.key, &format!("/v1/tags?{query}")).await, 200);
    let tags = page["items"].as_array().expect("a list").iter();
    tags.map(|tag| (tag["tag"].as_str().expect("a tag").to_owned(), tag["media"].as_i64().expect("a number"))).collect()
}

fn pairs(pairs: &[(&str, i64)]) -> Vec<(String, i64)> {
    pairs.iter().map(|(tag, media)| ((*tag).to_owned(), *media)).collect()
}

async fn put(rig: &MediaRig, name: &str, tags: &str) -> String {
    id(&ok(&rig.post(TestForm::file(b"1234").text("public_id", name).text("tags", tags)).await, 201))
}

async fn delete(rig: &MediaRig, tag: &str) -> Response {
    rig.api.delete(&rig.shop.key, &format!("/v1/tags/{tag}")).await
}

async fn rename(rig: &MediaRig, from: &str, to: &str) -> Response {
    post(rig, "/v1/tags/rename", &json!({"from": from, "to": to})).await
}

#[tokio::test]
async fn tags_are_listed_with_how_much_has_them() {
    let rig = MediaRig::start().await;
    let blog = rig.api.tenant("blog").await;
    let both = put(&rig, "both", "sea,sea/side").await;
    put(&rig, "one", "sea,été,100%").await;
    let all = pairs(&[("100%", 1), ("sea", 2), ("sea/side", 1), ("été", 1)]);
    assert_eq!(tags(&rig, "").await, all);
    assert_eq!(tags(&rig, "prefix=sea").await, pairs(&[("sea", 2), ("sea/side", 1)]));
    assert_eq!(tags(&rig, "prefix=%C3%A9").await, pairs(&[("été", 1)]));
    assert_eq!(tags(&rig, "prefix=100%25").await, pairs(&[("100%", 1)]));
    assert_eq!(tags(&rig, "prefix=_ea").await, []);
    let page = ok(&rig.api.get(&rig.shop.key, "/v1/tags?prefix=sea&limit=1").await, 200);
    assert_eq!(page["items"], json!([{"tag": "sea", "media": 2, "bytes": 8}]));
    let (mut read, mut cursor) = (Vec::new(), String::new());
    loop {
        read.extend(tags(&rig, &format!("limit=1{cursor}")).await);
        let page = ok(&rig.api.get(&rig.shop.key, &format!("/v1/tags?limit=1{cursor}")).await, 200);
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(read, all);
    for (bad, code, status) in [
        ("prefix=", "bad-field", 422),
        ("prefix=a,b", "bad-field", 422),
        ("tag=a", "bad-field", 422),
        ("cursor=x", "bad-cursor", 400),
    ] {
        problem(&rig.api.get(&rig.shop.key, &format!("/v1/tags?{bad}")).await, status, code);
    }
    assert_eq!(ok(&rig.api.get(&blog.key, "/v1/tags").await, 200)["items"], json!([]));
    // One is there while something has it.
    ok(&rig.delete(&both).await, 204);
    assert_eq!(tags(&rig, "prefix=sea").await, pairs(&[("sea", 1)]));
    rig.assert_counts().await;
}

#[tokio::test]
async fn a_tag_is_renamed_or_becomes_one_with_another() {
    let rig = MediaRig::start().await;
    put(&rig, "a", "old").await;
    put(&rig, "b", "old,new,other").await;
    put(&rig, "c", "new").await;
    assert_eq!(ok(&rename(&rig, "old", "fresh").await, 200), json!({"done": 2, "missing": 0, "refused": 0}));
    assert_eq!(tags(&rig, "").await, pairs(&[("fresh", 2), ("new", 2), ("other", 1)]));
    // Edges purge by the new name at once.
    assert_eq!(
        (rig.target("a").tags, rig.target("b").tags),
        (vec!["fresh".to_owned()], vec!["fresh".into(), "new".into(), "other".into()])
    );
    assert_eq!(ok(&rename(&rig, " fresh ", "new").await, 200)["done"], 2);
    assert_eq!(tags(&rig, "").await, pairs(&[("new", 3), ("other", 1)]));
    assert_eq!(rig.target("b").tags, ["new", "other"]);
    assert_eq!(names(&rig, "tag=new").await, ["a", "b", "c"]);
    assert_eq!(ok(&rig.api.get(&rig.shop.key, "/v1/media/by-public-id/c").await, 200)["version"], 1);
    // One more than a medium may have is one less before.
    let full: Vec<_> = (0..50).map(|n| format!("t{n:02}")).collect();
    put(&rig, "full", &full.join(",")).await;
    assert_eq!(ok(&rename(&rig, "t00", "zz").await, 200)["done"], 1);
    assert_eq!(rig.target("full").tags.len(), 50);
    rig.assert_counts().await;
    rig.assert_tidy().await;
}

#[tokio::test]
async fn a_tag_is_taken_away_from_all_that_has_it() {
    let rig = MediaRig::start().await;
    put(&rig, "a", "sea/side,kept").await;
    put(&rig, "b", "sea/side").await;
    assert_eq!(ok(&delete(&rig, "sea%2Fside").await, 200), json!({"done": 2, "missing": 0, "refused": 0}));
    assert_eq!((tags(&rig, "").await, rig.target("b").tags.len()), (pairs(&[("kept", 1)]), 0));
    problem(&delete(&rig, "sea%2Fside").await, 404, "not-found");
    rig.assert_counts().await;
    rig.assert_tidy().await;
}

#[tokio::test]
async fn orders_about_tags_that_are_not_allowed() {
    let rig = MediaRig::start().await;
    let blog = rig.api.tenant("blog").await;
    put(&rig, "a", "t").await;
    for (from, to, told) in [
        ("t", "t", "to: is another tag"),
        ("t", " t ", "to: is another tag"),
        ("t", "", "to: each is 1 to 128 bytes"),
        ("t", "a,b", "to: each is"),
        ("", "a", "from: each is"),
        ("t\n", "a\0", "to: each is"),
    ] {
        assert!(problem(&rename(&rig, from, to).await, 422, "bad-field").contains(told), "{from:?} {to:?}");
    }
    problem(&rename(&rig, "never", "x").await, 404, "not-found");
    problem(&post(&rig, "/v1/tags/rename", &json!({"from": "t"})).await, 400, "bad-json");
    for never in ["never", "a%2Cb", "%00", "%20"] {
        problem(&delete(&rig, never).await, 404, "not-found");
    }
    let theirs = rig.api.json(Method::POST, &blog.key, "/v1/tags/rename", &json!({"from": "t", "to": "u"})).await;
    problem(&theirs, 404, "not-found");
    problem(&rig.api.delete(&blog.key, "/v1/tags/t").await, 404, "not-found");
    assert_eq!(tags(&rig, "").await, pairs(&[("t", 1)]));
    // Done once, whoever asks how often.
    let request = once(&rig, "/v1/tags/rename", "one", &json!({"from": "t", "to": "u"}));
    for replayed in [None, Some("true")] {
        let answer = rig.api.send(&request).await;
        assert_eq!((ok(&answer, 200)["done"].as_u64(), answer.header("idempotency-replayed")), (Some(1), replayed));
    }
}

#[tokio::test]
async fn what_many_have_is_renamed_and_taken_away_by_jobs_that_outlive_their_workers() {
    let rig = MediaRig::start().await;
    rig.seed(350, "", "{old,kept}").await;
    rig.seed(3, "", "{new}").await;
    let renamed = job_of(&rename(&rig, "old", "new").await);
    let superuser = rig.superuser().await;
    let held = hold(&superuser, "WHERE tags = '{old,kept}' ORDER BY id DESC OFFSET 130 LIMIT 1").await;
    killed_at(&rig, &renamed, 100).await;
    held.rollback().await.expect("given back");
    assert_eq!(tags(&rig, "").await, pairs(&[("kept", 350), ("new", 103), ("old", 250)]));
    // Somebody takes it away by hand meanwhile: it does not get the new one.
    let one: Value = sqlx::query_scalar("SELECT to_jsonb(id) FROM media WHERE 'old' = ANY (tags) ORDER BY id LIMIT 1")
        .fetch_one(&superuser)
        .await
        .expect("there is one");
    ok(&rig.patch(one.as_str().expect("an id"), &json!({"tags": ["mine"]})).await, 200);
    taken_up(&rig).await;
    assert_eq!(done(&rig, &renamed).await, json!({"done": 349, "missing": 0, "refused": 0}));
    assert_eq!(tags(&rig, "").await, pairs(&[("kept", 349), ("mine", 1), ("new", 352)]));
    let deleted = job_of(&delete(&rig, "new").await);
    assert_eq!(done(&rig, &deleted).await["done"], 352);
    assert_eq!(tags(&rig, "").await, pairs(&[("kept", 349), ("mine", 1)]));
    rig.assert_counts().await;
}
