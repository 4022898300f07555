//! How fast requests may come, and that keys which nobody has cost the database next to nothing.

use http::Method;
use serde_json::json;
use sqlx::PgPool;
use testkit::control_plane::{ADMIN_KEY, ControlPlane, EDGE_TOKEN};
use testkit::database::TestDatabase;
use testkit::edge::eventually;
use testkit::http::{Request, Response};
use tokio::task::JoinSet;

use crate::media_rig::{BOUNDARY, MediaRig, TestForm};
use crate::support::{ok, problem};

async fn start(settings: &[(&'static str, &str)]) -> ControlPlane {
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    ControlPlane::start_with(TestDatabase::new().await, &settings).await
}

/// A key that looks like one, and that nobody has.
fn nobodys_key(number: u32) -> String {
    format!("cal_{:0>43}", format!("{number}A"))
}

/// Asks until that is too much.
async fn exhaust(mut ask: impl AsyncFnMut(u32) -> Response) -> Response {
    // They come back at one a second.
    for number in 0..50 {
        let answer = ask(number).await;
        if answer.status == 429 {
            return answer;
        }
    }
    panic!("there is no limit");
}

#[tokio::test]
async fn a_key_is_told_what_it_may_send_and_refused_when_that_is_more() {
    let api = start(&[("RATE_PER_SECOND", "1"), ("RATE_BURST", "3")]).await;
    let shop = api.tenant("shop").await;
    let first = api.get(&shop.key, "/v1/presets").await;
    ok(&first, 200);
    assert_eq!(first.header("ratelimit-policy"), Some("\"default\";q=3;w=3"));
    assert_eq!(first.header("ratelimit"), Some("\"default\";r=2;t=1"));
    let refused = exhaust(async |_| api.get(&shop.key, "/v1/presets").await).await;
    problem(&refused, 429, "rate-limited");
    assert_eq!((refused.header("retry-after"), refused.header("ratelimit")), (Some("1"), Some("\"default\";r=0;t=3")));
    // Neither others nor the operator are concerned.
    let blog = api.tenant("blog").await;
    ok(&api.get(&blog.key, "/v1/presets").await, 200);
    for _ in 0..10 {
        let answer = api.get(ADMIN_KEY, "/v1/tenants").await;
        ok(&answer, 200);
        assert_eq!(answer.header("ratelimit"), None);
    }
    eventually("the next second", async || (api.get(&shop.key, "/v1/presets").await.status == 200).then_some(())).await;
    let metrics = api.send(&Request::get("/metrics")).await.text();
    assert!(metrics.contains("calotype_api_rate_limited_total{of=\"default\"}"), "{metrics}");
}

#[tokio::test]
async fn strangers_are_counted_by_their_address_and_known_keys_are_not() {
    let api = start(&[("ADDRESS_RATE_PER_SECOND", "1"), ("ADDRESS_RATE_BURST", "3")]).await;
    let shop = api.tenant("shop").await;
    ok(&api.get(&shop.key, "/v1/presets").await, 200);
    let first = api.get("", "/v1/presets").await;
    problem(&first, 401, "unauthenticated");
    assert_eq!(first.header("ratelimit-policy"), Some("\"address\";q=3;w=3"));
    let refused = exhaust(async |number| api.get(&nobodys_key(number), "/v1/presets").await).await;
    problem(&refused, 429, "rate-limited");
    for target in ["/v1/presets", "/v1/tenants", "/internal/v1/feed"] {
        let refused = exhaust(async |_| api.get("no key", target).await).await;
        assert!(refused.header("ratelimit").is_some_and(|told| told.starts_with("\"address\";r=0;")), "{target}");
    }
    for _ in 0..10 {
        ok(&api.get(&shop.key, "/v1/presets").await, 200);
        ok(&api.get(ADMIN_KEY, "/v1/tenants").await, 200);
        ok(&api.get(EDGE_TOKEN, "/internal/v1/snapshot").await, 200);
        assert_eq!(api.send(&Request::get("/healthz")).await.status, 200);
    }
}

fn asked(api: &ControlPlane, keys: std::ops::Range<u32>) -> JoinSet<Response> {
    let mut asked = JoinSet::new();
    for number in keys {
        let request = Request::get("/v1/presets").header("authorization", format!("Bearer {}", nobodys_key(number)));
        let addr = api.addr();
        asked.spawn(async move { testkit::http::send(addr, &request).await.expect("an answer") });
    }
    asked
}

/// Nobody is told whose a key is while this is held.
async fn hold(superuser: &PgPool) -> sqlx::Transaction<'static, sqlx::Postgres> {
    superuser.begin_with("BEGIN; LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE").await.expect("nobody else has it")
}

#[tokio::test]
async fn who_is_over_the_rate_does_not_reach_the_database() {
    let api = start(&[("ADDRESS_RATE_PER_SECOND", "1"), ("ADDRESS_RATE_BURST", "1")]).await;
    exhaust(async |number| api.get(&nobodys_key(number), "/v1/presets").await).await;
    let superuser = PgPool::connect(&api.database.superuser_url()).await.expect("reached");
    let held = hold(&superuser).await;
    // Whatever asks the database waits; at most one a second may.
    let mut strangers = asked(&api, 100..108);
    let first = strangers.join_next().await.expect("there are many").expect("no panic");
    problem(&first, 429, "rate-limited");
    held.rollback().await.expect("given back");
    for answer in strangers.join_all().await {
        assert!([401, 429].contains(&answer.status.as_u16()), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_flood_of_keys_that_nobody_has_leaves_connections_for_others() {
    let api = start(&[("ADDRESS_RATE_PER_SECOND", "0"), ("CONNECTIONS", "3")]).await;
    let superuser = PgPool::connect(&api.database.superuser_url()).await.expect("reached");
    let held = hold(&superuser).await;
    let strangers = asked(&api, 0..40);
    eventually("strangers who wait", async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'app'
            AND wait_event_type = 'Lock'";
        let count: i64 = sqlx::query_scalar(waiting).fetch_one(&superuser).await.expect("read");
        (count == 1).then_some(())
    })
    .await;
    for _ in 0..3 {
        ok(&api.get(ADMIN_KEY, "/v1/tenants").await, 200);
    }
    held.rollback().await.expect("given back");
    for answer in strangers.join_all().await {
        // Those whose turn did not come in time are told to try again.
        assert!([401, 503].contains(&answer.status.as_u16()), "{}", answer.text());
    }
}

#[tokio::test]
async fn a_limit_can_be_left_out() {
    let api = start(&[("RATE_PER_SECOND", "0"), ("ADDRESS_RATE_PER_SECOND", "0")]).await;
    let shop = api.tenant("shop").await;
    let answer = api.json(Method::PUT, &shop.key, "/v1/presets/a", &json!({"ops": "w=1"})).await;
    ok(&answer, 201);
    assert_eq!((answer.header("ratelimit"), answer.header("ratelimit-policy")), (None, None));
    assert_eq!(api.get("", "/v1/presets").await.header("ratelimit"), None);
}

#[tokio::test]
async fn neither_edges_nor_whoever_watches_are_in_the_way_of_each_other() {
    let one =
        ["RATE_PER_SECOND", "RATE_BURST", "ADDRESS_RATE_PER_SECOND", "ADDRESS_RATE_BURST"].map(|name| (name, "1"));
    let api = start(&one).await;
    // All of them come from one address, which has nothing left itself.
    exhaust(async |number| api.get(&nobodys_key(number), "/v1/presets").await).await;
    for _ in 0..50 {
        ok(&api.get(EDGE_TOKEN, "/internal/v1/feed").await, 200);
        ok(&api.get(EDGE_TOKEN, "/internal/v1/snapshot").await, 200);
        for path in ["/healthz", "/readyz", "/metrics", "/v1/docs"] {
            let answer = api.send(&Request::get(path)).await;
            assert_eq!((answer.status.as_u16(), answer.header("ratelimit")), (200, None), "{path}");
        }
    }
    // A token that is none is a stranger's.
    let refused = exhaust(async |_| api.get("not the token", "/internal/v1/feed").await).await;
    problem(&refused, 429, "rate-limited");
}

#[tokio::test]
async fn an_upload_too_many_is_refused_before_it_comes() {
    let rig = MediaRig::with_folder(&[("RATE_PER_SECOND", "1".to_owned()), ("RATE_BURST", "1".to_owned())]).await;
    // Only the beginning of it is sent. Those that are taken wait for the rest, so the first answer is to one that is not.
    let form = TestForm::file(&vec![7; 5_000_000]).bytes();
    let mut begun = format!(
        "POST /v1/media HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\
         Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n",
        rig.shop.key,
        form.len()
    )
    .into_bytes();
    begun.extend_from_slice(&form[..1000]);
    let mut uploads = JoinSet::new();
    for _ in 0..8 {
        let (addr, begun) = (rig.api.addr(), begun.clone());
        uploads.spawn(async move { testkit::http::send_raw(addr, &begun).await.expect("an answer") });
    }
    let refused = uploads.join_next().await.expect("there are many").expect("no panic");
    problem(&refused, 429, "rate-limited");
    assert_eq!(refused.header("retry-after"), Some("1"));
    // Whoever sends all of it all the same reads the answer, too.
    let mut whole = begun;
    whole.extend_from_slice(&form[1000..]);
    let refused = exhaust(async |_| testkit::http::send_raw(rig.api.addr(), &whole).await.expect("an answer")).await;
    problem(&refused, 429, "rate-limited");
}
