//! Usage: what edges report, counted once whatever dies, and what is told of it.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use sqlx::postgres::PgPool;
use testkit::control_plane::{ADMIN_KEY, ControlPlane, EDGE_TOKEN, TestTenant};
use testkit::edge::{Edge, EdgeSetup, eventually};
use testkit::http::{Request, Response};
use time::OffsetDateTime;
use tokio::task::JoinSet;

use crate::media_rig::{MediaRig, TestForm, id, picture};
use crate::support::{ok, problem};

const TARGET: &str = "/shop/w=32,f=png/a.png";
const BOOT: &str = "00000000-0000-4000-8000-00000000000b";

/// An edge that reports every second.
fn edge_of(rig: &MediaRig) -> EdgeSetup {
    rig.edge().set("control_plane.usage_seconds", 1).set("control_plane.edge_name", "\"edge-1\"")
}

/// A control plane with an open tenant that has a picture.
async fn open_rig() -> MediaRig {
    let rig = MediaRig::start().await;
    open(&rig).await;
    rig
}

async fn open(rig: &MediaRig) {
    let policy = json!({"open": true, "originals": true, "max_age_seconds": 3600});
    ok(&rig.api.json(Method::PUT, &rig.shop.key, "/v1/policy", &policy).await, 200);
    let form = TestForm::default().text("public_id", "a.png").add("file", None, &picture([200, 10, 10]));
    ok(&rig.post(form).await, 201);
}

/// Waits until an edge serves the picture; how many requests and bytes that took.
async fn warm(edge: &Edge) -> (i64, i64) {
    let (mut requests, mut bytes) = (0, 0);
    eventually("the picture", async || {
        let answer = edge.get(TARGET).await;
        // Before the tenant is known, nobody is counted for.
        if answer.status != 404 {
            requests += 1;
            bytes += answer.body.len() as i64;
        }
        (answer.status == 200).then_some(())
    })
    .await;
    (requests, bytes)
}

async fn requests(edge: &Edge, count: usize) {
    for _ in 0..count {
        assert_eq!(edge.get(TARGET).await.status, 200);
    }
}

async fn usage(api: &ControlPlane, key: &str, query: &str) -> Value {
    ok(&api.get(key, &format!("/v1/usage{query}")).await, 200)
}

/// Requests of the tenant, as far as they are counted.
async fn counted(rig: &MediaRig) -> i64 {
    usage(&rig.api, &rig.shop.key, "").await["totals"]["requests"].as_i64().expect("a number")
}

async fn counts(rig: &MediaRig, wanted: i64) {
    eventually("the count", async || (counted(rig).await >= wanted).then_some(())).await;
    assert_eq!(counted(rig).await, wanted);
}

fn today() -> u32 {
    u32::try_from(OffsetDateTime::now_utc().unix_timestamp() / 86_400).expect("after 1970")
}

fn row(tenant: &TestTenant, day: u32, requests: u64) -> Value {
    json!({"tenant": tenant.id, "day": day, "requests": requests, "bytes": requests * 10, "cpu_us": 500_000})
}

async fn report(api: &ControlPlane, boot: &str, number: u64, rows: &[Value]) -> Response {
    let report = json!({"edge": "edge-1", "boot": boot, "number": number, "rows": rows});
    api.json(Method::POST, EDGE_TOKEN, "/internal/v1/usage", &report).await
}

#[tokio::test]
async fn what_an_edge_has_served_and_made_is_told_by_days() {
    let rig = open_rig().await;
    let blog = rig.api.tenant("blog").await;
    let edge = edge_of(&rig).start().await;
    let (warming, warming_bytes) = warm(&edge).await;
    let hit = edge.get(TARGET).await;
    let (refused, original) = (edge.get("/shop/w=0/a.png").await, edge.get("/shop/-/a.png").await);
    assert_eq!((hit.status.as_u16(), refused.status.as_u16(), original.status.as_u16()), (200, 400, 200));
    let bytes = warming_bytes + [&hit, &original].map(|answer| answer.body.len() as i64).iter().sum::<i64>();
    // A path that is none of a tenant's is nobody's.
    assert_eq!(edge.get("/nobody/w=1/a.png").await.status, 404);
    counts(&rig, warming + 2).await;

    let told = usage(&rig.api, &rig.shop.key, "").await;
    let totals = &told["totals"];
    let day = OffsetDateTime::now_utc().date().to_string();
    assert_eq!((&told["to"], &told["by"]), (&json!(day), &json!("day")));
    assert_eq!(told["from"], json!(format!("{}-01", &day[..7])));
    let of_today = told["series"].as_array().expect("a list").last().expect("today");
    assert_eq!((&of_today["period"], &of_today["requests"]), (&json!(day), &totals["requests"]));
    assert_eq!(totals["bytes"], bytes);
    assert_eq!((&totals["transforms"], &totals["errors"]), (&json!(1), &json!(0)));
    assert_eq!(totals["hits"], warming);
    let stored = picture([200, 10, 10]).len();
    assert_eq!((&totals["files"], &totals["storage_bytes"]), (&json!(1), &json!(stored)));
    assert!(totals["cpu_seconds"].as_f64().expect("a number") > 0.0, "{totals}");

    // The operator sees the same, of one and of all.
    let of_shop = ok(&rig.api.get(ADMIN_KEY, "/v1/tenants/shop/usage").await, 200);
    assert_eq!(of_shop, told);
    let all = ok(&rig.api.get(ADMIN_KEY, "/v1/usage/tenants?limit=1").await, 200);
    assert_eq!((&all["items"][0]["slug"], &all["items"][0]["requests"]), (&json!("blog"), &json!(0)));
    let cursor = all["next_cursor"].as_str().expect("there is more");
    let all = ok(&rig.api.get(ADMIN_KEY, &format!("/v1/usage/tenants?limit=1&cursor={cursor}")).await, 200);
    assert_eq!((&all["items"][0]["slug"], &all["items"][0]["storage_bytes"]), (&json!("shop"), &json!(stored)));
    for field in ["requests", "bytes", "hits", "errors", "transforms", "cpu_seconds", "files", "storage_byte_days"] {
        assert_eq!(all["items"][0][field], totals[field], "{field}");
    }
    assert_eq!(usage(&rig.api, &blog.key, "").await["totals"]["requests"], 0);
    problem(&rig.api.get(&blog.key, "/v1/tenants/shop/usage").await, 403, "admin-only");

    let csv = Request::get("/v1/usage?by=month").header("accept", "text/csv");
    let csv = rig.api.send(&csv.header("authorization", format!("Bearer {}", rig.shop.key))).await;
    assert!(csv.header("content-type").expect("it has one").starts_with("text/csv"));
    let text = csv.text();
    let mut lines = text.lines();
    assert!(lines.next().expect("a head").starts_with("month,requests,bytes,hits,"));
    let expected = format!("{},{},{bytes},{warming},", &day[..7], warming + 2);
    assert!(lines.next().expect("a row").starts_with(&expected), "{text}");
    for bad in ["?from=2026-02-30", "?by=week", "?from=2999-01-01", "?from=1990-01-01", "?x=1"] {
        problem(&rig.api.get(&rig.shop.key, &format!("/v1/usage{bad}")).await, 422, "bad-field");
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_report_is_counted_once_and_only_what_can_be() {
    let api = ControlPlane::start().await;
    let (shop, blog) = (api.tenant("shop").await, api.tenant("blog").await);
    let total = async |tenant: &TestTenant| usage(&api, &tenant.key, "?by=month").await["totals"]["requests"].clone();
    let rows = [row(&shop, today(), 3), row(&blog, today(), 4), row(&shop, today(), 2)];
    for counted in [true, false, false] {
        assert_eq!(ok(&report(&api, BOOT, 7, &rows).await, 200)["counted"], counted);
    }
    // One that was overtaken was counted in an earlier try, or never sent.
    assert_eq!(ok(&report(&api, BOOT, 6, &rows).await, 200)["counted"], false);
    assert_eq!((total(&shop).await, total(&blog).await), (json!(5), json!(4)));
    // Of another life the same number is another report.
    let other = BOOT.replace('b', "c");
    assert_eq!(ok(&report(&api, &other, 7, &rows).await, 200)["counted"], true);
    assert_eq!(total(&shop).await, json!(10));

    // Of nobody, of somebody who is gone, and of a policy file.
    let nobody = json!({"tenant": BOOT, "day": today(), "requests": 1});
    let file = json!({"tenant": "demo", "day": today(), "requests": 1});
    ok(&report(&api, BOOT, 8, &[nobody, file, row(&blog, today(), 1)]).await, 200);
    assert_eq!(total(&blog).await, json!(9));
    // What cannot have been yet counts for today; what is too long ago is left out.
    ok(&report(&api, BOOT, 9, &[row(&blog, today() + 400, 100), row(&blog, today() - 63, 1000)]).await, 200);
    assert_eq!(total(&blog).await, json!(109));
    let long = usage(&api, &blog.key, "?by=month&from=2025-01-01").await;
    assert_eq!(long["totals"]["requests"], 109);

    let too_large = json!({"tenant": shop.id, "day": today(), "bytes": (1_u64 << 53) + 1});
    problem(&report(&api, BOOT, 10, &[too_large]).await, 422, "bad-field");
    problem(&report(&api, "b", 10, &[]).await, 422, "bad-field");
    problem(&report(&api, BOOT, u64::MAX, &[]).await, 422, "bad-field");
    problem(&report(&api, BOOT, 10, &vec![row(&shop, today(), 1); 2001]).await, 422, "bad-field");
    let nameless = json!({"edge": "a b", "boot": BOOT, "number": 10, "rows": []});
    problem(&api.json(Method::POST, EDGE_TOKEN, "/internal/v1/usage", &nameless).await, 422, "bad-field");
    let huge = json!({"edge": "e".repeat(1 << 20), "boot": BOOT, "number": 10, "rows": []});
    problem(&api.json(Method::POST, EDGE_TOKEN, "/internal/v1/usage", &huge).await, 413, "body-too-large");
    problem(&api.json(Method::POST, &shop.key, "/internal/v1/usage", &nameless).await, 401, "unauthenticated");
    assert_eq!(total(&shop).await, json!(10));
}

#[tokio::test]
async fn many_edges_at_once_and_each_report_many_times() {
    const EDGES: u64 = 10;
    const REPORTS: u64 = 6;
    let api = ControlPlane::start().await;
    let mut tenants = Vec::new();
    for number in 0..12 {
        tenants.push(api.tenant(&format!("t{number}")).await);
    }
    let mut sending = JoinSet::new();
    for edge in 0..EDGES {
        let mut rows: Vec<_> = tenants.iter().map(|tenant| row(tenant, today(), 1)).collect();
        // Each in an order of its own.
        rows.rotate_left(edge as usize);
        if edge % 2 == 0 {
            rows.reverse();
        }
        for copy in 0..2 {
            let (addr, rows) = (api.addr(), rows.clone());
            sending.spawn(async move {
                let mut counted = 0;
                for number in 1..=REPORTS {
                    let boot = format!("00000000-0000-4000-8000-{edge:012}");
                    let report = json!({"edge": format!("edge-{edge}"), "boot": boot, "number": number, "rows": rows});
                    let request = Request::new(Method::POST, "/internal/v1/usage")
                        .header("content-type", "application/json")
                        .header("authorization", format!("Bearer {EDGE_TOKEN}"))
                        .body(report.to_string());
                    let answer = testkit::http::send(addr, &request).await.expect("an answer");
                    assert_eq!(answer.status, 200, "copy {copy}: {}", answer.text());
                    counted += u64::from(ok(&answer, 200)["counted"] == true);
                }
                counted
            });
        }
    }
    // Of two who send the same, one may overtake the other, and what was overtaken is not counted.
    let counted: u64 = sending.join_all().await.iter().sum();
    assert!((EDGES..=EDGES * REPORTS).contains(&counted), "{counted}");
    for tenant in &tenants {
        assert_eq!(usage(&api, &tenant.key, "").await["totals"]["requests"], counted);
    }
}

/// Lets nobody look at quotas: a report is counted then, but not answered.
async fn hold_answers(superuser: &PgPool) -> sqlx::Transaction<'static, sqlx::Postgres> {
    superuser.begin_with("BEGIN; LOCK TABLE quotas IN ACCESS EXCLUSIVE MODE").await.expect("all rights")
}

/// Waits until so many requests are counted in the database, answered or not.
async fn committed(superuser: &PgPool, wanted: i64) {
    eventually("the commit", async || {
        let sum = "SELECT coalesce(sum(requests), 0)::bigint FROM usage_days";
        let sum: i64 = sqlx::query_scalar(sum).fetch_one(superuser).await.expect("read");
        (sum == wanted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_edge_that_dies_after_its_report_was_counted_does_not_count_it_again() {
    let rig = open_rig().await;
    let superuser = rig.superuser().await;
    let edge = edge_of(&rig).start().await;
    let (warming, _) = warm(&edge).await;
    counts(&rig, warming).await;
    let held = hold_answers(&superuser).await;
    requests(&edge, 10).await;
    committed(&superuser, warming + 10).await;
    let failed = "calotype_usage_reports_total{result=\"failed\"}";
    eventually("no answer", async || (edge.metric(failed).await > 0.0).then_some(())).await;
    // These wait behind a report of which nobody knows whether it was counted.
    requests(&edge, 5).await;
    let waiting = "calotype_usage_waiting_rows";
    eventually("a flush", async || (edge.metric(waiting).await >= 2.0).then_some(())).await;
    let setup = edge.kill().await;
    held.rollback().await.expect("given back");
    let edge = setup.start().await;
    let (again, _) = warm(&edge).await;
    counts(&rig, warming + 15 + again).await;
    let setup = edge.stop().await;
    let left = std::fs::read_dir(setup.home().join("feed")).expect("a folder").flatten();
    let left: Vec<_> =
        left.map(|entry| entry.file_name()).filter(|name| name.to_string_lossy().contains("usage")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_control_plane_that_dies_between_commit_and_answer_does_not_count_it_again() {
    let mut rig = open_rig().await;
    let superuser = rig.superuser().await;
    let edge = edge_of(&rig).start().await;
    let (warming, _) = warm(&edge).await;
    counts(&rig, warming).await;
    let held = hold_answers(&superuser).await;
    requests(&edge, 10).await;
    committed(&superuser, warming + 10).await;
    rig = rig.restart_after_crash().await;
    held.rollback().await.expect("given back");
    requests(&edge, 3).await;
    counts(&rig, warming + 13).await;
    edge.stop().await;
}

#[tokio::test]
async fn a_killed_edge_loses_no_more_than_what_it_has_not_written_down() {
    let rig = open_rig().await;
    // Nothing is written down after the first round, for as long as this test takes.
    let edge = rig.edge().set("control_plane.usage_seconds", 3600).start().await;
    let (warming, _) = warm(&edge).await;
    let first = edge.stop().await;
    // An edge that stops reports.
    counts(&rig, warming).await;
    let edge = first.start().await;
    requests(&edge, 20).await;
    let setup = edge.kill().await;
    let edge = setup.start().await;
    requests(&edge, 2).await;
    edge.stop().await;
    let found = counted(&rig).await;
    assert!((warming + 2..=warming + 22).contains(&found), "{found}");
}

#[tokio::test]
async fn usage_is_added_up_while_the_control_plane_is_away_and_told_by_the_next_life() {
    let rig = open_rig().await;
    let edge = edge_of(&rig).start().await;
    let (warming, _) = warm(&edge).await;
    counts(&rig, warming).await;
    // Away for good, as far as this edge knows.
    let setup = edge.stop().await;
    let away = setup.set("control_plane.url", "\"http://127.0.0.1:1\"");
    let edge = away.start().await;
    let mut served = 0;
    for _ in 0..3 {
        requests(&edge, 4).await;
        served += 4;
        let failed = "calotype_usage_reports_total{result=\"failed\"}";
        let before = edge.metric(failed).await;
        eventually("two rounds", async || (edge.metric(failed).await >= before + 2.0).then_some(())).await;
    }
    // One that is sent as it is, and what came since.
    assert!(edge.metric("calotype_usage_waiting_rows").await <= 2.0);
    let setup = edge.kill().await;
    let edge = setup.start().await;
    requests(&edge, 1).await;
    let setup = edge.stop().await;
    let url = format!("\"http://{}\"", rig.api.addr());
    let edge = setup.set("control_plane.url", url).start().await;
    counts(&rig, warming + served + 1).await;
    edge.stop().await;
}

#[tokio::test]
async fn what_is_stored_is_exact_whoever_dies_over_it() {
    let mut rig = MediaRig::start().await;
    let file = |size: usize| vec![b'x'; size];
    let exact = async |rig: &MediaRig| {
        let superuser = rig.superuser().await;
        let (there, files): (i64, i64) = sqlx::query_as("SELECT coalesce(sum(bytes), 0)::bigint, count(*) FROM media")
            .fetch_one(&superuser)
            .await
            .expect("read");
        let totals = usage(&rig.api, &rig.shop.key, "").await["totals"].clone();
        assert_eq!((&totals["storage_bytes"], &totals["files"]), (&json!(there), &json!(files)));
        let days: i64 = sqlx::query_scalar("SELECT coalesce(sum(bytes), 0)::bigint FROM stored_days")
            .fetch_one(&superuser)
            .await
            .expect("read");
        assert_eq!(days, there);
        files
    };
    let mut made = Vec::new();
    for size in [10, 200, 3000] {
        made.push(id(&ok(&rig.post(TestForm::file(&file(size))).await, 201)));
    }
    assert_eq!(exact(&rig).await, 3);
    assert_eq!(rig.put(&made[0], &file(50)).await.status, 200);
    ok(&rig.patch(&made[1], &json!({"tags": ["t"]})).await, 200);
    assert_eq!(rig.delete(&made[2]).await.status, 204);
    assert_eq!(exact(&rig).await, 2);
    // Killed in the middle of what is being made, changed and deleted.
    for round in 0..3_u64 {
        let mut working = JoinSet::new();
        for number in 0..8 {
            let (addr, key) = (rig.api.addr(), rig.shop.key.clone());
            let request = TestForm::file(&file(100 + number)).request(Method::POST, "/v1/media", &key);
            working
                .spawn(async move { testkit::http::send(addr, &request).await.map(|answer| answer.status.as_u16()) });
        }
        tokio::time::sleep(Duration::from_millis(10 * round)).await;
        rig = rig.restart_after_crash().await;
        while working.join_next().await.is_some() {}
        exact(&rig).await;
    }
    ok(&rig.api.json(Method::PATCH, ADMIN_KEY, "/v1/tenants/shop", &json!({"state": "suspended"})).await, 200);
    ok(&rig.api.delete(ADMIN_KEY, "/v1/tenants/shop").await, 204);
    assert_eq!(rig.count("stored_totals").await, 0);
}
