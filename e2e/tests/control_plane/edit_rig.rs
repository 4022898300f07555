//! Edits of many media: ordered, done by workers, and workers that die over them.
#![allow(unreachable_pub, reason = "in a test, pub means: for the other modules")]

use ::http::Method;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction};
use testkit::edge::eventually;
use testkit::http::{Request, Response};

use crate::media_rig::{MediaRig, id};
use crate::support::ok;

/// Sends something to be done.
pub async fn post(rig: &MediaRig, target: &str, body: &Value) -> Response {
    rig.api.json(Method::POST, &rig.shop.key, target, body).await
}

/// A request to send, with a key under which it is done once.
pub fn once(rig: &MediaRig, target: &str, key: &str, body: &Value) -> Request {
    let request = Request::new(Method::POST, target).header("authorization", format!("Bearer {}", rig.shop.key));
    request.header("content-type", "application/json").header("idempotency-key", key).body(body.to_string())
}

/// The id of the job that an answer tells of.
#[track_caller]
pub fn job_of(answer: &Response) -> String {
    let job = id(&ok(answer, 202));
    assert_eq!(answer.header("location").expect("a place"), format!("/v1/jobs/{job}"));
    job
}

/// A job.
pub async fn job(rig: &MediaRig, job: &str) -> Value {
    ok(&rig.api.get(&rig.shop.key, &format!("/v1/jobs/{job}")).await, 200)
}

/// A job after a worker's round, which has done it.
pub async fn done(rig: &MediaRig, id: &str) -> Value {
    rig.worker().await;
    let done = job(rig, id).await;
    assert_eq!((&done["state"], &done["progress"]), (&"done".into(), &1.0.into()), "{done}");
    done["result"].clone()
}

/// The public ids of a list.
pub async fn names(rig: &MediaRig, query: &str) -> Vec<String> {
    let page = ok(&rig.api.get(&rig.shop.key, &format!("/v1/media?limit=1000&{query}")).await, 200);
    let mut names: Vec<_> =
        page["items"].as_array().expect("a list").iter().map(|medium| medium["public_id"].clone()).collect();
    names.sort_by_key(ToString::to_string);
    names.iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
}

/// Keeps a row of media locked, chosen by the rest of a statement, until what this gives is dropped.
pub async fn hold(superuser: &PgPool, rest: &str) -> Transaction<'static, Postgres> {
    let mut held = superuser.begin().await.expect("reached");
    // An offset would be locked, too.
    let statement = format!("SELECT 1 FROM media WHERE id = (SELECT id FROM media {rest}) FOR UPDATE");
    let held_one = sqlx::query(AssertSqlSafe(statement)).fetch_optional(&mut *held).await.expect("locked");
    assert!(held_one.is_some(), "{rest}: there is none");
    held
}

/// Has a worker begin a job and kills it, with SIGKILL, once it has noted that it has seen so many media and waits for a row that is
/// [held](hold); then its lease has run out.
pub async fn killed_at(rig: &MediaRig, job: &str, seen: u64) {
    let waits = "pg_stat_activity WHERE wait_event_type = 'Lock' AND ltrim(query, E'\\n ') LIKE 'SELECT media.id, media.public_id%'";
    let noted = format!("jobs WHERE id = '{job}' AND (checkpoint ->> 'seen')::bigint = {seen}");
    // Dropping it kills it.
    tokio::select! {
        done = rig.try_worker() => panic!("it did not wait: {done:?}"),
        () = eventually("a worker that waits", async || {
            (rig.count(&noted).await == 1 && rig.count(waits).await == 1).then_some(())
        }) => {}
    }
    rig.sql("UPDATE jobs SET leased_until = now() - interval '1 second' WHERE state = 'running'").await;
}

/// Gives the job of a dead worker to the next.
pub async fn taken_up(rig: &MediaRig) {
    rig.worker().await;
    assert_eq!(rig.sql("UPDATE jobs SET run_at = now() WHERE state = 'delayed'").await, 1);
}
