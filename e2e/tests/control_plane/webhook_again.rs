//! Sending again what a webhook was sent, or has missed, of a tenant to whom much has happened: a piece at a time, and nobody waits for it.

use http::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use testkit::edge::eventually;

use crate::support::{ok, problem};
use crate::webhook_rig::{TestWebhook, WebhookRig};

/// Events, one a second until now, that were all delivered to the only webhook but the last, which was given up.
async fn happened(hooks: &WebhookRig, count: usize) {
    let seed = format!(
        "SET session_replication_role = replica;
         INSERT INTO event_heads (tenant_id, seq) SELECT id, {count} FROM tenants;
         INSERT INTO events (tenant_id, id, seq, kind, data, created_at)
             SELECT tenants.id, md5(n::text)::uuid, n, 'media.created', '{{}}', now() - interval '1 second' * ({count} - n)
             FROM tenants, generate_series(1, {count}) AS n;
         INSERT INTO webhook_deliveries (tenant_id, webhook_id, event_id, created_at, kind, seq, place, state)
             SELECT events.tenant_id, webhooks.id, events.id, events.created_at, events.kind, seq, seq,
                 CASE seq WHEN {count} THEN 'failed' ELSE 'delivered' END
             FROM events JOIN webhooks USING (tenant_id);
         ANALYZE"
    );
    let superuser = hooks.rig.superuser().await;
    sqlx::raw_sql(AssertSqlSafe(seed)).execute(&superuser).await.expect("all rights");
}

async fn since(hooks: &WebhookRig, webhook: &TestWebhook, body: Value) -> Value {
    hooks.ask(Method::POST, &format!("{}/redeliver", webhook.path), &body, 202).await
}

#[tokio::test]
async fn one_request_looks_at_a_piece_and_says_where_to_go_on() {
    let hooks = WebhookRig::start(&[]).await;
    let webhook = hooks.webhook().await;
    happened(&hooks, 110_000).await;
    let (mut body, mut answers) = (json!({"since": "2000-01-01T00:00:00Z"}), Vec::new());
    loop {
        let answer = since(&hooks, &webhook, body.clone()).await;
        body["after"] = answer["next_after"].clone();
        answers.push(answer);
        if body["after"].is_null() {
            break;
        }
    }
    let piece = |count: u64, next_after: Value| json!({"count": count, "next_after": next_after});
    assert_eq!(answers, [piece(0, json!(50_000)), piece(0, json!(100_000)), piece(1, Value::Null)]);
    assert_eq!(hooks.get(&webhook.path).await["pending"], 1);

    // What is long over is not looked at.
    hooks.rig.sql("UPDATE webhook_deliveries SET state = 'failed' WHERE seq IN (100, 105000, 110000)").await;
    let event = hooks.get("/v1/events?limit=1&type=media.created").await;
    let last = event["items"][0]["timestamp"].as_str().expect("a time");
    assert_eq!(since(&hooks, &webhook, json!({"since": last})).await, piece(1, Value::Null));
    let earlier = hooks.rig.superuser().await;
    let earlier: String = sqlx::query_scalar("SELECT to_json(created_at) #>> '{}' FROM events WHERE seq = 105000")
        .fetch_one(&earlier)
        .await
        .expect("it is there");
    assert_eq!(since(&hooks, &webhook, json!({"since": earlier})).await, piece(1, Value::Null));
    assert_eq!(hooks.rig.count("webhook_deliveries WHERE state = 'pending'").await, 2);
    assert_eq!(since(&hooks, &webhook, json!({"since": "2999-01-01T00:00:00Z"})).await, piece(0, Value::Null));

    // Nor are there more of it in the queue than one request may put there.
    let other = hooks.webhook().await;
    let begun = since(&hooks, &other, json!({"since": "2000-01-01T00:00:00Z"})).await;
    assert_eq!(begun, piece(10_000, json!(10_000)));
    let body = json!({"since": "2000-01-01T00:00:00Z", "after": u64::MAX});
    let refused =
        hooks.rig.api.json(Method::POST, &hooks.rig.shop.key, &format!("{}/redeliver", other.path), &body).await;
    problem(&refused, 422, "bad-field");
}

#[tokio::test]
async fn an_event_that_was_long_in_coming_is_not_missed() {
    let hooks = WebhookRig::start(&[]).await;
    let webhook = hooks.webhook().await;
    // Told in this order, each with the time at which its transaction began.
    for seconds in [900, 300, 880, 870, 310, 860, 850, 200] {
        let tell = format!(
            "INSERT INTO events (tenant_id, kind, data, created_at)
             SELECT id, 'media.created', '{{}}', now() - interval '{seconds} seconds' FROM tenants"
        );
        hooks.rig.sql(&tell).await;
    }
    hooks.rig.sql("UPDATE webhook_deliveries SET state = 'failed'").await;
    let superuser = hooks.rig.superuser().await;
    let then: String = sqlx::query_scalar("SELECT to_json(now() - interval '400 seconds') #>> '{}'")
        .fetch_one(&superuser)
        .await
        .expect("a time");
    assert_eq!(since(&hooks, &webhook, json!({"since": then})).await["count"], 3);
    let pending = hooks.deliveries_in(&webhook, "pending", 3).await;
    assert_eq!(pending.iter().map(|one| one["seq"].clone()).collect::<Vec<_>>(), [8, 5, 2]);
}

/// Waits until somebody waits for a lock on a table.
async fn somebody_waits(superuser: &PgPool, table: &str) {
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = $1::regclass";
    eventually("somebody to wait", async || {
        let waiting: i64 =
            sqlx::query_scalar(waiting).bind(table).fetch_one(superuser).await.expect("locks are told of");
        (waiting > 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_happens_does_not_wait_while_there_is_looked_for_what_to_send() {
    let hooks = WebhookRig::start(&[]).await;
    let webhook = hooks.webhook().await;
    hooks.happen(1, 3).await;
    hooks.rig.sql("UPDATE webhook_deliveries SET state = 'failed'").await;
    let superuser = hooks.rig.superuser().await;
    let mut looked_at = superuser.begin().await.expect("begun");
    sqlx::query("LOCK TABLE events IN ACCESS EXCLUSIVE MODE").execute(&mut *looked_at).await.expect("all rights");
    let again = since(&hooks, &webhook, json!({"since": "2000-01-01T00:00:00Z"}));
    let look = async {
        somebody_waits(&superuser, "events").await;
        // As the trigger does that numbers events.
        let queue = sqlx::query("SELECT FROM webhook_queues FOR NO KEY UPDATE NOWAIT").execute(&superuser).await;
        looked_at.rollback().await.expect("given back");
        queue
    };
    let (again, queue) = tokio::join!(again, look);
    assert_eq!(queue.expect("nobody has it").rows_affected(), 1);
    assert_eq!(again["count"], 3);
}

#[tokio::test]
async fn a_queue_that_others_have_for_long_is_not_waited_for() {
    let hooks = WebhookRig::start(&[("STATEMENT_SECONDS", "60".to_owned())]).await;
    let webhook = hooks.webhook().await;
    hooks.happen(1, 1).await;
    hooks.rig.sql("UPDATE webhook_deliveries SET state = 'failed'").await;
    let event = hooks.get(&format!("{}/deliveries", webhook.path)).await["items"][0]["event_id"].clone();
    let superuser = hooks.rig.superuser().await;
    let mut held = superuser.begin().await.expect("begun");
    sqlx::query("SELECT FROM webhook_queues FOR UPDATE").execute(&mut *held).await.expect("all rights");
    let one = format!("deliveries/{}/redeliver", event.as_str().expect("an id"));
    for (order, body) in [("redeliver", json!({"since": "2000-01-01T00:00:00Z"})), (&one, json!({}))] {
        let target = format!("{}/{order}", webhook.path);
        problem(&hooks.rig.api.json(Method::POST, &hooks.rig.shop.key, &target, &body).await, 409, "conflict");
    }
    held.rollback().await.expect("given back");
    let target = format!("{}/{one}", webhook.path);
    let again = ok(&hooks.rig.api.json(Method::POST, &hooks.rig.shop.key, &target, &json!({})).await, 202);
    assert_eq!(again["state"], "pending");
}
