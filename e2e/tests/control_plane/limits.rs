//! How many of a thing a tenant may have, when several more are asked for at the same moment.

use http::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use testkit::control_plane::{ControlPlane, TestTenant};
use testkit::edge::eventually;
use testkit::http::Request;
use tokio::task::JoinSet;

use crate::support::{ok, problem};

/// Requests at once; fewer than there are connections.
const AT_ONCE: usize = 8;

/// How many of them may succeed.
const LEFT: usize = 3;

/// Lets the tenant have all but [`LEFT`] of what it may have, and asks for more than that at once: all of them have begun before the
/// first can go on.
async fn check(into: &str, values: &str, limit: usize, target: &str, body: impl Fn(usize) -> Value) {
    let table = into.split(' ').next().expect("its name comes first");
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let superuser = PgPool::connect(&api.database.superuser_url()).await.expect("reached");
    let there: i64 = sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {table}")))
        .fetch_one(&superuser)
        .await
        .expect("read");
    let wanted = limit - LEFT - usize::try_from(there).expect("few");
    let fill = format!("INSERT INTO {into} SELECT '{}', {values} FROM generate_series(1, {wanted}) AS n", shop.id);
    sqlx::query(AssertSqlSafe(fill)).execute(&superuser).await.expect("all rights");

    // Whoever counts may, whoever adds waits.
    let begin = format!("BEGIN; LOCK TABLE {table} IN SHARE MODE");
    let held = superuser.begin_with(AssertSqlSafe(begin)).await.expect("nobody else has it");
    let mut tries = JoinSet::new();
    for number in 0..AT_ONCE {
        let (addr, request) = (api.addr(), request(&shop, target, &body(number)));
        tries.spawn(async move { testkit::http::send(addr, &request).await.expect("an answer") });
    }
    eventually("all requests", async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'app'
            AND wait_event_type = 'Lock'";
        let count: i64 = sqlx::query_scalar(waiting).fetch_one(&superuser).await.expect("read");
        (count == AT_ONCE as i64).then_some(())
    })
    .await;
    held.rollback().await.expect("given back");
    let mut made = 0;
    for answer in tries.join_all().await {
        if answer.status == 201 {
            made += 1;
        } else {
            let detail = problem(&answer, 422, "bad-field");
            assert!(detail.contains(&format!("at most {limit} ")), "{detail}");
        }
    }
    assert_eq!(made, LEFT, "of {AT_ONCE}");
    let page = ok(&api.get(&shop.key, &format!("{target}?limit=1000")).await, 200);
    assert_eq!(page["items"].as_array().expect("a list").len(), limit);
}

fn request(tenant: &TestTenant, target: &str, body: &Value) -> Request {
    let request = Request::new(Method::POST, target).header("authorization", format!("Bearer {}", tenant.key));
    request.header("content-type", "application/json").body(body.to_string())
}

#[tokio::test]
async fn of_domains() {
    let values = "'h' || n || '.example', 'x'";
    check(
        "domains (tenant_id, host, challenge)",
        values,
        100,
        "/v1/domains",
        |n| json!({"host": format!("{n}.example")}),
    )
    .await;
}

#[tokio::test]
async fn of_signing_keys() {
    let values = "'k' || n, ''";
    check("signing_keys (tenant_id, kid, secret)", values, 100, "/v1/signing-keys", |n| json!({"kid": format!("{n}")}))
        .await;
}

#[tokio::test]
async fn of_api_keys() {
    let values = "gen_random_uuid(), 'n', 'cal_', sha256(n::text::bytea), '{media:read}'";
    let scopes = json!(["media:read"]);
    let into = "api_keys (tenant_id, id, name, prefix, hash, scopes)";
    check(into, values, 1000, "/v1/api-keys", |n| json!({"name": n.to_string(), "scopes": scopes})).await;
}
