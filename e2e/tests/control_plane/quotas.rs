//! Quotas: held to by the API exactly, and by edges as soon as they are told.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use sqlx::Row;
use testkit::clock::Clock;
use testkit::control_plane::{ADMIN_KEY, EDGE_TOKEN};
use testkit::edge::{Edge, assert_problem, eventually};
use testkit::http::{Request, Response};
use time::OffsetDateTime;
use tokio::task::JoinSet;

use crate::media_rig::{MediaRig, TestForm, id, picture};
use crate::support::{etag, ok, problem};

const QUOTAS: &str = "/v1/tenants/shop/quotas";

/// How often edges of these tests report, in seconds.
const REPORT_SECONDS: u64 = 1;

/// Longer than anything here takes on a machine that has other work, and far shorter than a month.
const SLACK: Duration = Duration::from_secs(20);

async fn set(rig: &MediaRig, quotas: Value) -> Value {
    ok(&rig.api.json(Method::PUT, ADMIN_KEY, QUOTAS, &quotas).await, 200)
}

/// A control plane with an open tenant that has a picture.
async fn open_rig() -> MediaRig {
    let rig = MediaRig::start().await;
    let policy = json!({"open": true, "originals": true, "max_age_seconds": 3600});
    ok(&rig.api.json(Method::PUT, &rig.shop.key, "/v1/policy", &policy).await, 200);
    let form = TestForm::default().text("public_id", "a.png").add("file", None, &picture([200, 10, 10]));
    ok(&rig.post(form).await, 201);
    rig
}

async fn edge(rig: &MediaRig) -> Edge {
    let edge = rig.edge().set("control_plane.usage_seconds", REPORT_SECONDS).start().await;
    shows(&edge, "/shop/w=32,f=png/a.png").await;
    edge
}

async fn shows(edge: &Edge, target: &str) {
    answers(edge, target, 200).await;
}

async fn answers(edge: &Edge, target: &str, status: u16) -> Response {
    eventually("the answer", async || Some(edge.get(target).await).filter(|answer| answer.status == status)).await
}

/// Counts so much for the tenant today, as an edge would.
async fn report(rig: &MediaRig, number: u64, counts: Value) {
    let day = OffsetDateTime::now_utc().unix_timestamp() / 86_400;
    let mut row = json!({"tenant": rig.shop.id, "day": day});
    row.as_object_mut().expect("an object").extend(counts.as_object().expect("an object").clone());
    let boot = "00000000-0000-4000-8000-00000000000b";
    let report = json!({"edge": "e", "boot": boot, "number": number, "rows": [row]});
    ok(&rig.api.json(Method::POST, EDGE_TOKEN, "/internal/v1/usage", &report).await, 200);
}

/// What the tenant was told of its quotas.
async fn told(rig: &MediaRig) -> Vec<(String, Value)> {
    let events = "SELECT kind, data FROM events WHERE kind LIKE 'quota.%' ORDER BY seq";
    let events = sqlx::query(events).fetch_all(&rig.superuser().await).await.expect("read");
    events.iter().map(|event| (event.get(0), event.get(1))).collect()
}

fn kinds(told: &[(String, Value)]) -> Vec<(&str, &str)> {
    told.iter().map(|(kind, data)| (kind.as_str(), data["quota"].as_str().expect("a text"))).collect()
}

#[tokio::test]
async fn of_uploads_at_once_as_many_are_taken_as_there_is_room_for() {
    const SIZE: usize = 1000;
    let rig = MediaRig::start().await;
    for (quotas, code) in
        [(json!({"storage_bytes": 3 * SIZE + SIZE / 2}), "quota-storage"), (json!({"files": 3}), "quota-files")]
    {
        set(&rig, quotas).await;
        let mut sending = JoinSet::new();
        for _ in 0..8 {
            let request = TestForm::file(&[b'x'; SIZE]).request(Method::POST, "/v1/media", &rig.shop.key);
            let addr = rig.api.addr();
            sending.spawn(async move { testkit::http::send(addr, &request).await.expect("an answer") });
        }
        let mut made = Vec::new();
        for answer in sending.join_all().await {
            match answer.status.as_u16() {
                201 => made.push(id(&ok(&answer, 201))),
                _ => drop(problem(&answer, 403, code)),
            }
        }
        assert_eq!(made.len(), 3, "{code}");
        // Other bytes for one that is there: fewer go, and more do not.
        assert_eq!(rig.put(&made[0], &[b'y'; SIZE / 2]).await.status, 200);
        if code == "quota-storage" {
            problem(&rig.put(&made[0], &[b'y'; 3 * SIZE]).await, 403, code);
            assert_eq!(rig.get(&made[0]).await.text().matches(&format!("\"bytes\":{}", SIZE / 2)).count(), 1);
        } else {
            // Whoever is full is told so before the bytes come.
            let (status, answer) =
                rig.begin(TestForm::file(&[b'x'; 1 << 20]), 200).await.finish().await.expect("an answer");
            assert_eq!((status, &answer["code"]), (403, &json!(code)));
        }
        for id in made {
            assert!([202, 204].contains(&rig.delete(&id).await.status.as_u16()));
        }
        ok(&rig.post(TestForm::file(&[b'x'; SIZE])).await, 201);
        set(&rig, json!({})).await;
        rig.sql("DELETE FROM media").await;
    }
    // What was refused left nothing behind.
    rig.all_is_due().await;
    rig.worker().await;
    rig.assert_tidy().await;
}

#[tokio::test]
async fn bandwidth_that_is_used_up_is_refused_by_every_edge_within_a_report_and_the_feed() {
    let rig = open_rig().await;
    let edges = [edge(&rig).await, edge(&rig).await];
    let target = "/shop/w=32,f=png/a.png";
    let size = edges[0].get(target).await.body.len() as i64;
    let limit = 40 * size;
    set(&rig, json!({"bandwidth_bytes": limit})).await;
    // Both go on as fast as they are let.
    let race = async |edge: &Edge| {
        let (mut served, mut over) = (0, None::<Instant>);
        loop {
            let answer = edge.get(target).await;
            if answer.status != 200 {
                assert_problem(&answer, 429, "quota-bandwidth");
                return (served, over.map(|over| over.elapsed()).unwrap_or_default());
            }
            served += size;
            if served > limit {
                over.get_or_insert_with(Instant::now);
            }
        }
    };
    let (one, other) = tokio::join!(race(&edges[0]), race(&edges[1]));
    let raced = [one, other];
    // An edge that has sent the whole quota by itself is stopped within the time that its report and the feed take.
    for (_, late) in &raced {
        assert!(*late < Duration::from_secs(REPORT_SECONDS) + SLACK, "{late:?}");
    }
    assert!(raced.iter().map(|(served, _)| served).sum::<i64>() >= limit);
    // Nothing of it is served, whatever it is.
    let [first, second] = edges;
    for target in [target, "/shop/-/a.png", "/shop/w=7,f=png/a.png"] {
        let refused = first.get(target).await;
        assert_problem(&refused, 429, "quota-bandwidth");
        let seconds: i64 = refused.header("retry-after").and_then(|text| text.parse().ok()).expect("seconds");
        let month_end = ok(&rig.api.get(&rig.shop.key, "/v1/quotas").await, 200)["month_ends_at"].clone();
        let format = time::format_description::well_known::Rfc3339;
        let end = OffsetDateTime::parse(month_end.as_str().expect("a time"), &format).expect("a time");
        assert!((end - OffsetDateTime::now_utc()).whole_seconds().abs_diff(seconds) < 60, "{seconds}");
    }
    // Nor by an edge that starts with nobody to ask, or is new.
    let setup = second.kill().await.set("control_plane.url", "\"http://127.0.0.1:1\"");
    let second = setup.start().await;
    assert_problem(&second.get(target).await, 429, "quota-bandwidth");
    second.stop().await;
    let new = rig.edge().start().await;
    answers(&new, target, 429).await;
    let quotas = ok(&rig.api.get(&rig.shop.key, "/v1/quotas").await, 200);
    assert_eq!(quotas["bandwidth_bytes"]["limit"], limit);
    assert!(quotas["bandwidth_bytes"]["used"].as_i64() >= Some(limit), "{quotas}");
    // More of it lets all go on.
    set(&rig, json!({"bandwidth_bytes": 1_000_000_000})).await;
    for edge in [first, new] {
        shows(&edge, target).await;
        edge.stop().await;
    }
    let told = told(&rig).await;
    assert_eq!(kinds(&told), [("quota.warning", "bandwidth"), ("quota.exceeded", "bandwidth")]);
}

#[tokio::test]
async fn transforms_that_are_used_up_leave_what_is_made() {
    let rig = open_rig().await;
    let edge = edge(&rig).await;
    set(&rig, json!({"transforms": 3})).await;
    let mut made = vec!["/shop/w=32,f=png/a.png".to_owned()];
    let refused = eventually("the end", async || {
        let target = format!("/shop/w={},f=png/a.png", made.len());
        let answer = edge.get(&target).await;
        if answer.status != 200 {
            return Some(answer);
        }
        made.push(target);
        None
    })
    .await;
    assert_problem(&refused, 429, "quota-transforms");
    assert!(refused.header("retry-after").is_some() && made.len() >= 3);
    for target in &made {
        assert_eq!(edge.get(target).await.status, 200, "{target}");
    }
    assert_eq!(edge.get("/shop/-/a.png").await.status, 200, "nothing is made of an original");
    // After a restart, from the disk.
    let edge = edge.stop().await.start().await;
    assert_problem(&edge.get("/shop/w=900,f=png/a.png").await, 429, "quota-transforms");
    shows(&edge, &made[1]).await;
    set(&rig, json!({"transforms": null})).await;
    shows(&edge, "/shop/w=900,f=png/a.png").await;
    edge.stop().await;
}

#[tokio::test]
async fn the_next_month_begins_with_nobody_to_tell() {
    let rig = open_rig().await;
    let clock = Clock::new();
    let edge = rig.edge().clock(&clock).start().await;
    shows(&edge, "/shop/w=32,f=png/a.png").await;
    set(&rig, json!({"bandwidth_bytes": 1000, "transforms": 1000})).await;
    report(&rig, 1, json!({"bytes": 1000, "transforms": 1000})).await;
    answers(&edge, "/shop/w=32,f=png/a.png", 429).await;
    let store = rig.without_control_plane().await;
    assert_eq!(edge.get("/shop/w=32,f=png/a.png").await.status, 429);
    clock.shift(31 * 24 * 3600);
    for target in ["/shop/w=32,f=png/a.png", "/shop/w=33,f=png/a.png"] {
        shows(&edge, target).await;
    }
    edge.stop().await;
    drop(store);
}

#[tokio::test]
async fn a_tenant_is_told_at_80_and_at_100_per_cent_once_a_month() {
    let rig = open_rig().await;
    let snapshot =
        async || ok(&rig.api.get(EDGE_TOKEN, "/internal/v1/snapshot").await, 200)["tenants"][0]["exhausted"].clone();
    set(&rig, json!({"bandwidth_bytes": 1000, "transforms": 10})).await;
    report(&rig, 1, json!({"bytes": 799, "transforms": 1})).await;
    assert_eq!(told(&rig).await, []);
    report(&rig, 2, json!({"bytes": 1})).await;
    report(&rig, 3, json!({"bytes": 100})).await;
    let first = told(&rig).await;
    let month = OffsetDateTime::now_utc().date().to_string()[..7].to_owned();
    let data = json!({"quota": "bandwidth", "percent": 80, "limit": 1000, "used": 800, "month": month});
    assert_eq!(first, [("quota.warning".to_owned(), data)]);
    assert_eq!(snapshot().await, json!({}));
    report(&rig, 4, json!({"bytes": 1000})).await;
    report(&rig, 5, json!({"bytes": 1000, "transforms": 20})).await;
    let both = [("quota.warning", "bandwidth"), ("quota.exceeded", "bandwidth")];
    let all = [both[0], both[1], ("quota.warning", "transforms"), ("quota.exceeded", "transforms")];
    assert_eq!(kinds(&told(&rig).await), all);
    let exhausted = snapshot().await;
    assert!(exhausted["bandwidth"].is_u64() && exhausted["bandwidth"] == exhausted["transforms"], "{exhausted}");
    // More, and less again: nothing is told twice.
    set(&rig, json!({"bandwidth_bytes": 1_000_000})).await;
    assert_eq!(snapshot().await, json!({}));
    set(&rig, json!({"bandwidth_bytes": 1000, "transforms": 10})).await;
    assert_eq!(snapshot().await, exhausted);
    assert_eq!(kinds(&told(&rig).await), all);
    // Another month: what was known says nothing about this one.
    rig.sql("UPDATE quota_levels SET month = month - interval '1 month'").await;
    assert_eq!(snapshot().await, json!({}));
    report(&rig, 6, json!({"bytes": 1})).await;
    assert_eq!(kinds(&told(&rig).await).len(), 2 * all.len());
    assert_eq!(snapshot().await, exhausted);
}

#[tokio::test]
async fn what_nobody_has_looked_at_a_worker_does() {
    let rig = open_rig().await;
    let size = picture([200, 10, 10]).len();
    set(&rig, json!({"storage_bytes": size + 1000, "bandwidth_bytes": 1000})).await;
    // As by a control plane that died after it had counted.
    let insert = "INSERT INTO usage_days (tenant_id, day, bytes) VALUES";
    rig.sql(&format!("{insert} ('{}', utc_day(), 5000)", rig.shop.id)).await;
    ok(&rig.post(TestForm::file(&[b'x'; 1000])).await, 201);
    assert_eq!(told(&rig).await, []);
    rig.worker().await;
    let all = [("quota.warning", "bandwidth"), ("quota.exceeded", "bandwidth")];
    let mut found = told(&rig).await;
    found.retain(|(_, data)| data["quota"] == "bandwidth");
    assert_eq!(kinds(&found), all);
    let stored: Vec<_> = told(&rig).await.into_iter().filter(|(_, data)| data["quota"] == "storage").collect();
    assert_eq!(kinds(&stored), [("quota.warning", "storage"), ("quota.exceeded", "storage")]);
    rig.worker().await;
    assert_eq!(told(&rig).await.len(), found.len() + stored.len());
    let snapshot = ok(&rig.api.get(EDGE_TOKEN, "/internal/v1/snapshot").await, 200);
    assert!(snapshot["tenants"][0]["exhausted"]["bandwidth"].is_u64());
}

#[tokio::test]
async fn the_operator_sets_quotas_and_nobody_else() {
    let rig = MediaRig::start().await;
    let none = rig.api.get(ADMIN_KEY, QUOTAS).await;
    assert_eq!(ok(&none, 200)["transforms"], json!({"limit": null, "used": 0}));
    problem(&rig.api.json(Method::PUT, &rig.shop.key, QUOTAS, &json!({})).await, 403, "admin-only");
    problem(&rig.api.get(ADMIN_KEY, "/v1/quotas").await, 403, "tenant-only");
    problem(&rig.api.json(Method::PUT, ADMIN_KEY, "/v1/tenants/none/quotas", &json!({})).await, 404, "not-found");
    for bad in [json!({"files": -1}), json!({"transforms": (1_u64 << 53) + 1})] {
        problem(&rig.api.json(Method::PUT, ADMIN_KEY, QUOTAS, &bad).await, 422, "bad-field");
    }
    for bad in [json!({"videos": 1}), json!({"files": "1"}), json!({"files": 1.5})] {
        problem(&rig.api.json(Method::PUT, ADMIN_KEY, QUOTAS, &bad).await, 400, "bad-json");
    }
    let put = |tag: String, limit: u64| {
        let request =
            Request::new(Method::PUT, QUOTAS).header("content-type", "application/json").header("if-match", tag);
        request.header("authorization", format!("Bearer {ADMIN_KEY}")).body(json!({"files": limit}).to_string())
    };
    let first = rig.api.send(&put(etag(&none), 1)).await;
    ok(&first, 200);
    problem(&rig.api.send(&put(etag(&none), 2)).await, 412, "changed");
    assert_eq!(ok(&rig.api.send(&put(etag(&first), 2)).await, 200)["files"]["limit"], 2);
    assert_eq!(ok(&rig.api.get(&rig.shop.key, "/v1/quotas").await, 200)["files"], json!({"limit": 2, "used": 0}));
    // Nothing at all.
    set(&rig, json!({"files": 0})).await;
    problem(&rig.post(TestForm::file(b"x")).await, 403, "quota-files");
}
