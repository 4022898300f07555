//! What an operator sees: health, metrics, events, and a database that comes and goes.

use testkit::control_plane::{ADMIN_KEY, ControlPlane};
use testkit::database::TestDatabase;
use testkit::edge::eventually;
use testkit::http::Request;

use crate::support::{ok, problem};

#[tokio::test]
async fn health_and_metrics_are_there_without_a_key() {
    let api = ControlPlane::start().await;
    for target in ["/healthz", "/readyz"] {
        assert_eq!(api.send(&Request::get(target)).await.status, 200, "{target}");
    }
    ok(&api.get(ADMIN_KEY, "/v1/tenants").await, 200);
    let metrics = api.send(&Request::get("/metrics")).await.text();
    let counted = "calotype_api_request_seconds_count{method=\"GET\",route=\"/v1/tenants\",status=\"2xx\"} 1";
    assert!(metrics.lines().any(|line| line == counted), "{metrics}");
    assert!(metrics.contains("calotype_build_info{service=\"control-plane\""));
}

#[tokio::test]
async fn each_request_has_an_id_and_an_event_and_no_event_has_a_key() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let answer = api.get(&shop.key, "/v1/presets/none").await;
    problem(&answer, 404, "not-found");
    let id = answer.header("x-request-id").expect("an id").to_owned();
    let event =
        eventually("its event", async || api.events().into_iter().find(|event| event["request_id"] == id.as_str()))
            .await;
    assert_eq!((&event["method"], &event["path"]), (&"GET".into(), &"/v1/presets/none".into()));
    assert_eq!((&event["route"], &event["status"]), (&"/v1/presets/<name>".into(), &404.into()));
    assert_eq!((&event["code"], &event["tenant"]), (&"not-found".into(), &shop.id.as_str().into()));
    let everything = format!("{:?} {}", api.events(), api.log());
    assert!(!everything.contains(&shop.key[10..]) && !everything.contains(ADMIN_KEY));
    assert!(!api.log().contains("WARN"), "what a client does wrong is in its event only: {}", api.log());
    assert_eq!(api.get(&shop.key, "/v1/presets").await.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_crash() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let api = api.restart_after_crash().await;
    ok(&api.get(&shop.key, "/v1/presets").await, 200);
    assert_eq!(ok(&api.get(ADMIN_KEY, "/v1/tenants/shop").await, 200)["id"], shop.id.as_str());
}

#[tokio::test]
async fn a_database_that_is_away_is_told_and_waited_for() {
    let mut api = ControlPlane::start_on(TestDatabase::alone().await).await;
    let shop = api.tenant("shop").await;
    api.database.crash().await;
    // What is remembered of the key does not outlast the database by long.
    let answer = eventually("the end of the database", async || {
        let answer = api.get(&shop.key, "/v1/presets").await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    problem(&answer, 503, "database-unavailable");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(api.send(&Request::get("/healthz")).await.status, 200);
    problem(&api.send(&Request::get("/readyz")).await, 503, "database-unavailable");
    api.database.start_again().await;
    eventually("the database", async || (api.get(&shop.key, "/v1/presets").await.status == 200).then_some(())).await;
    assert_eq!(ok(&api.get(ADMIN_KEY, "/v1/tenants/shop").await, 200)["id"], shop.id.as_str());
}

#[tokio::test]
async fn a_pool_that_is_used_up_is_an_error_in_time_and_passes() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    ok(&api.get(&shop.key, "/v1/presets").await, 200);
    // Everybody who changes this preset waits for us.
    let superuser = sqlx::PgPool::connect(&api.database.superuser_url()).await.expect("reached");
    let lock =
        superuser.begin_with("BEGIN; LOCK TABLE presets IN ACCESS EXCLUSIVE MODE").await.expect("nobody else has it");
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let request = Request::get("/v1/presets").header("authorization", format!("Bearer {}", shop.key));
        let addr = api.addr();
        waiting.spawn(async move { testkit::http::send(addr, &request).await.expect("an answer") });
    }
    let first = waiting.join_next().await.expect("there are many").expect("no panic");
    problem(&first, 503, "database-unavailable");
    lock.rollback().await.expect("given back");
    let answers = waiting.join_all().await;
    assert!(answers.iter().any(|answer| answer.status == 200));
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        problem(answer, 503, "database-unavailable");
    }
    ok(&api.get(&shop.key, "/v1/presets").await, 200);
}

#[tokio::test]
async fn a_worker_forgets_what_is_old_and_gives_jobs_of_the_dead_to_others() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let superuser = sqlx::PgPool::connect(&api.database.superuser_url()).await.expect("reached");
    let rows = format!(
        "UPDATE feed_events SET announced_at = now() - interval '8 days';
         INSERT INTO jobs (tenant_id, id, kind, state, payload, attempts, leased_until, worker, finished_at) VALUES
             ('{id}', gen_random_uuid(), 'old', 'done', '{{}}', 1, NULL, NULL, now() - interval '31 days'),
             ('{id}', gen_random_uuid(), 'new', 'done', '{{}}', 1, NULL, NULL, now() - interval '29 days'),
             ('{id}', gen_random_uuid(), 'dead', 'running', '{{}}', 1, now() - interval '1 second', 'w', NULL),
             ('{id}', gen_random_uuid(), 'alive', 'running', '{{}}', 1, now() + interval '1 hour', 'w', NULL)",
        id = shop.id
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(rows)).execute(&superuser).await.expect("all rights");
    let url = ("WORKER_URL", api.database.url(testkit::database::WORKER));
    let done = api.run(&["worker", "--once"], &[url]).await;
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let left = "SELECT string_agg(kind || ' ' || state, ', ' ORDER BY kind) || ', ' || (SELECT count(*) FROM feed_events) FROM jobs";
    let left: String = sqlx::query_scalar(left).fetch_one(&superuser).await.expect("read");
    assert_eq!(left, "alive running, dead delayed, new done, 0");
    let nowhere = ("WORKER_URL", "postgres://worker@localhost/none?host=/nowhere".to_owned());
    assert!(!api.run(&["worker", "--once"], &[nowhere]).await.status.success());
}
