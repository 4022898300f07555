//! Statements on tables of tenants go by an index, however many rows there are.
//!
//! Postgres itself counts how often a table was read from end to end, by whatever statement, function or trigger.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};
use sqlx::{PgPool, Row};
use testkit::control_plane::{ADMIN_KEY, ControlPlane, TestTenant};
use testkit::database::{TestDatabase, WORKER};
use testkit::http::Request;
use testkit::receiver::Receiver;

use crate::media_rig::{MediaRig, TestForm, id};
use crate::support::ok;
use crate::webhook_rig;

/// 1,000 tenants with 200 rows each in every table that grows with what a tenant does. Triggers would take a minute for them.
const SEED: &str = "
    SET session_replication_role = replica;
    INSERT INTO tenants (id, slug, name)
        SELECT md5('t' || t)::uuid, 'tenant-' || t, 'x' FROM generate_series(1, 1000) AS t;
    CREATE TEMPORARY TABLE rows AS
        SELECT md5('t' || t)::uuid AS tenant_id, md5(t || '/' || n)::uuid AS id, t, n
        FROM generate_series(1, 1000) AS t, generate_series(1, 200) AS n;
    INSERT INTO api_keys (tenant_id, id, name, prefix, hash, scopes)
        SELECT tenant_id, id, 'x', 'cal_x', sha256(id::text::bytea), '{admin}' FROM rows;
    INSERT INTO domains (tenant_id, host, challenge) SELECT tenant_id, t || '.' || n || '.example', 'x' FROM rows;
    INSERT INTO idempotency_keys (tenant_id, route, key, fingerprint, status, body, is_sealed, created_at)
        SELECT tenant_id, 'POST /v1/api-keys', n, sha256('x'), 201, '{}', false, now() - interval '1 hour' * (n % 48) FROM rows;
    INSERT INTO presets (tenant_id, name, ops) SELECT tenant_id, 'p' || n, 'w=1' FROM rows;
    INSERT INTO feed_events (id, seq, tenant_id, kind) SELECT id, t * 200 + n, tenant_id, 'tenant' FROM rows;
    UPDATE feed_head SET seq = 200200;
    INSERT INTO jobs (tenant_id, id, kind, state, payload, run_at, finished_at)
        SELECT tenant_id, id, 'resize', (ARRAY['done', 'queued', 'delayed'])[1 + n % 3], '{}',
            now() + interval '1 day' * (n % 3), CASE n % 3 WHEN 0 THEN now() END
        FROM rows;
    INSERT INTO folders (tenant_id, path) SELECT tenant_id, 'f' || n FROM rows;
    INSERT INTO media (tenant_id, id, public_id, folder, kind, revision, content_type, bytes, sha256, tags, expires_at)
        SELECT tenant_id, id, 'm' || n, 'f' || n, 'image', id, 'image/png', 1, sha256(''), '{t}',
            CASE n WHEN 1 THEN now() END
        FROM rows;
    UPDATE media SET state = 'quarantined' WHERE public_id = 'm2';
    INSERT INTO replacements (tenant_id, media_id, state, scan, kind, revision, content_type, bytes, sha256)
        SELECT tenant_id, id, CASE n WHEN 1 THEN 'quarantined' ELSE 'rejected' END, '{}', 'image', id, 'image/png', 1, sha256('')
        FROM rows;
    INSERT INTO workflows (tenant_id, kind, steps)
        SELECT tenant_id, (ARRAY['any', 'image', 'video', 'audio', 'document'])[n], '[]' FROM rows WHERE n <= 5;
    INSERT INTO media_tags (tenant_id, tag, media_id) SELECT tenant_id, 't' || n % 10, id FROM rows;
    INSERT INTO media_counts (tenant_id, kind, name, media, bytes)
        SELECT tenant_id, 'folder', 'f' || n, 1, 1 FROM rows
        UNION ALL SELECT tenant_id, 'tag', 't' || n, 20, 20 FROM rows WHERE n <= 10;
    INSERT INTO collections (tenant_id, id, name) SELECT tenant_id, id, 'x' FROM rows;
    INSERT INTO collection_media (tenant_id, collection_id, media_id, position)
        SELECT tenant_id, md5(t || '/' || n % 20 + 1)::uuid, id, n FROM rows;
    INSERT INTO pointers (tenant_id, public_id, generation, published, try_at)
        SELECT tenant_id, 'm' || n, 1, least(n - 1, 1), now() FROM rows;
    INSERT INTO stored_objects (tenant_id, media_id, revision, state, due_at)
        SELECT tenant_id, id, id, 'doomed', now() + interval '1 day' * (n - 2) FROM rows;
    INSERT INTO audit_log (tenant_id, actor, action, resource, resource_id)
        SELECT tenant_id, CASE n WHEN 1 THEN 'operator' ELSE 'key:' || n % 3 END, 'create', 'media', id FROM rows;
    INSERT INTO event_heads (tenant_id, seq) SELECT id, 200 FROM tenants;
    INSERT INTO events (tenant_id, id, seq, kind, data, created_at)
        SELECT tenant_id, id, n, 'media.created', '{}', now() - interval '1 minute' * (200 - n) FROM rows;
    INSERT INTO webhooks (tenant_id, id, url, secret) SELECT tenant_id, id, 'https://x.example/', 'x' FROM rows WHERE n <= 2;
    INSERT INTO webhook_queues (tenant_id, webhook_id, due_at)
        SELECT tenant_id, id, CASE WHEN n = 1 THEN now() + interval '1 day' END FROM rows WHERE n <= 2;
    INSERT INTO webhook_deliveries (tenant_id, webhook_id, event_id, created_at, kind, seq, place, state)
        SELECT rows.tenant_id, webhooks.id, rows.id, now(), 'media.created', n, n, (ARRAY['delivered', 'pending', 'failed'])[1 + n % 3]
        FROM rows JOIN webhooks USING (tenant_id);
    DROP TABLE rows;
    ANALYZE;
";

/// Tables that are large, and how often each was read from end to end.
async fn whole_reads(superuser: &PgPool) -> BTreeMap<String, i64> {
    // What other connections have counted is told when they are idle.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let rows = sqlx::query("SELECT relname::text, seq_scan FROM pg_stat_user_tables WHERE n_live_tup > 900");
    let rows = rows.fetch_all(superuser).await.expect("statistics are there");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// All that is done with collections and downloads.
async fn collect(api: &ControlPlane, superuser: &PgPool, shop: &TestTenant) {
    let send = async |method: Method, target: &str, body: Value, status: u16| {
        ok(&api.json(method, &shop.key, target, &body).await, status)
    };
    ok(&api.json(Method::PUT, &shop.key, "/v1/folders/a", &json!({})).await, 201);
    for (number, folder) in [(1, Some("a")), (2, None)] {
        let medium = sqlx::query(
            "INSERT INTO media (tenant_id, id, public_id, folder, kind, revision, content_type, bytes, sha256)
             VALUES ($1::uuid, $2::uuid, $3, $4, 'image', gen_random_uuid(), 'image/png', 1, sha256(''))",
        );
        let id = format!("00000000-0000-7000-8000-{number:012}");
        let medium = medium.bind(&shop.id).bind(id).bind(format!("of-shop-{number}")).bind(folder);
        medium.execute(superuser).await.expect("the row is good");
    }
    let ids = json!({"ids": ["00000000-0000-7000-8000-000000000001", "00000000-0000-7000-8000-000000000002"]});
    let made = send(Method::POST, "/v1/collections", json!({"name": "x"}), 201).await;
    let collection = made["id"].as_str().expect("an id");
    let path = format!("/v1/collections/{collection}");
    send(Method::POST, &format!("{path}/media"), ids.clone(), 200).await;
    send(Method::PATCH, &path, json!({"name": "y"}), 200).await;
    for target in [
        "/v1/collections",
        "/v1/collections?media=00000000-0000-7000-8000-000000000001",
        &path,
        &format!("{path}/media"),
    ] {
        ok(&api.get(&shop.key, target).await, 200);
    }
    for wanted in [
        json!({"collection": collection}),
        json!({"folder": "a"}),
        json!({"folder": ""}),
        json!({"folder": "", "subfolders": false}),
    ] {
        send(Method::POST, "/v1/downloads", wanted, 201).await;
    }
    send(Method::POST, &format!("{path}/media/remove"), ids, 200).await;
    ok(&api.delete(&shop.key, &path).await, 204);
}

#[tokio::test]
async fn no_request_or_worker_reads_a_table_of_tenants_from_end_to_end() {
    let database = TestDatabase::new().await;
    let superuser = PgPool::connect(&database.superuser_url()).await.expect("reached");
    sqlx::raw_sql(SEED).execute(&superuser).await.expect("the rows are good");
    let receiver = Receiver::start().await;
    let api = ControlPlane::start_with(database, &webhook_rig::settings(&[&receiver])).await;
    let before = whole_reads(&superuser).await;
    for table in [
        "tenants",
        "api_keys",
        "presets",
        "feed_events",
        "jobs",
        "domains",
        "idempotency_keys",
        "media",
        "media_tags",
        "media_counts",
        "collections",
        "collection_media",
        "folders",
        "pointers",
        "stored_objects",
        "replacements",
        "workflows",
        "event_heads",
        "webhooks",
        "webhook_queues",
    ] {
        assert!(before.contains_key(table), "{table} is not large: {before:?}");
    }
    assert!(before.keys().any(|table| table.starts_with("audit_log_")), "{before:?}");

    let shop = api.tenant("shop").await;
    let put = async |name: &str| {
        api.json(Method::PUT, &shop.key, &format!("/v1/presets/{name}"), &json!({"ops": "w=1"})).await
    };
    ok(&put("a").await, 201);
    ok(&put("a").await, 200);
    ok(&api.json(Method::PUT, &shop.key, "/v1/workflows/any", &json!({"steps": []})).await, 201);
    let key = json!({"name": "x", "scopes": ["media:read"]});
    let key = ok(&api.json(Method::POST, &shop.key, "/v1/api-keys", &key).await, 201);
    let domain = Request::new(Method::POST, "/v1/domains").header("authorization", format!("Bearer {}", shop.key));
    let domain = domain.header("content-type", "application/json").header("idempotency-key", "one");
    for _ in 0..2 {
        ok(&api.send(&domain.clone().body(r#"{"host":"img.example"}"#)).await, 201);
    }
    let hook = ok(&api.json(Method::POST, &shop.key, "/v1/webhooks", &json!({"url": receiver.url("/")})).await, 201);
    let webhook = format!("/v1/webhooks/{}", hook["id"].as_str().expect("an id"));
    let order = async |order: &str, body: Value, status: u16| {
        ok(&api.json(Method::POST, &shop.key, &format!("{webhook}/{order}"), &body).await, status)
    };
    let tested = order("test", json!({}), 202).await;
    let event = format!("/v1/events/{}", tested["event_id"].as_str().expect("an id"));
    let worker = api.worker(&webhook_rig::settings(&[&receiver]));
    receiver.wait_for(1).await;
    worker.stop().await;
    order("redeliver", json!({"since": "2026-01-01T00:00:00Z"}), 202).await;
    order(&format!("{}/redeliver", event.replace("/v1/events", "deliveries")), json!({}), 202).await;
    order("disable", json!({}), 200).await;
    order("enable", json!({}), 200).await;
    for target in [
        "/v1/domains",
        "/v1/domains/img.example",
        "/v1/presets",
        "/v1/presets/a",
        "/v1/presets?limit=1",
        "/v1/api-keys",
        "/v1/media",
        "/v1/media?tag=a",
        "/v1/media?folder=a",
        "/v1/media?folder=",
        "/v1/media?kind=image",
        "/v1/media?public_id_prefix=a",
        "/v1/media?state=quarantined",
        "/v1/media?state=rejected&kind=image",
        "/v1/media?replacement=quarantined",
        "/v1/workflows",
        "/v1/workflows/any",
        "/v1/folders",
        "/v1/folders?parent=",
        "/v1/folders?parent=a",
        "/v1/folders/tree",
        "/v1/folders/tree?levels=32",
        "/v1/tags",
        "/v1/tags?prefix=t",
        "/v1/jobs",
        "/v1/jobs?state=done",
        "/v1/audit-log",
        "/v1/audit-log?resource=preset/a",
        "/v1/audit-log?actor=key:1",
        "/v1/audit-log?action=delete",
        "/v1/audit-log?actor=key:1&resource=preset",
        "/v1/audit-log?resource=preset/a&action=delete",
        "/v1/audit-log?to=2020-01-31T12:00:00Z",
    ] {
        ok(&api.get(&shop.key, target).await, 200);
    }
    collect(&api, &superuser, &shop).await;
    let of_shop = format!("/v1/operator/audit-log?tenant={}", shop.id);
    let deleted = "/v1/operator/audit-log?action=delete";
    for target in ["/v1/tenants?limit=1000", "/v1/tenants/tenant-500", "/v1/operator/audit-log", deleted, &of_shop] {
        ok(&api.get(ADMIN_KEY, target).await, 200);
    }
    ok(&api.delete(&shop.key, "/v1/domains/img.example").await, 204);
    ok(&api.delete(&shop.key, "/v1/presets/a").await, 204);
    ok(&api.delete(&shop.key, &format!("/v1/api-keys/{}", key["id"].as_str().expect("an id"))).await, 204);
    ok(&api.json(Method::PATCH, ADMIN_KEY, "/v1/tenants/shop", &json!({"state": "suspended"})).await, 200);
    ok(&api.delete(ADMIN_KEY, "/v1/tenants/shop").await, 204);
    let workers = api.database.pool(WORKER);
    for statement in [
        "SELECT 1 FROM claim_job('{resize}', 'a worker', '1 minute', 10)",
        "SELECT 1 FROM claim_job('{resize,other}', 'a worker', '-1 minute', 10)",
        "SELECT 1 WHERE reap_jobs(100) > 0",
        "SELECT 1 WHERE trim_jobs(now() - interval '1 day', 100) = 0",
        "SELECT 1 FROM claim_unpublished_pointers(10)",
        "SELECT 1 FROM claim_due_objects(10)",
        "SELECT 1 FROM expired_media(10)",
        "SELECT 1 WHERE trim_idempotency_keys(now() - interval '1 day', 100) = 100",
        "SELECT 1 WHERE trim_feed(now() - interval '1 day') = 0",
        "SELECT 1 WHERE webhooks_due_in() > 0",
    ] {
        let done = sqlx::query(statement).fetch_optional(&workers).await.expect(statement);
        assert!(done.is_some(), "{statement} found nothing to do");
    }
    for statement in [
        "SELECT 1 FROM feed_after(200100, 10)",
        "SELECT 1 WHERE feed_oldest() > 0",
        "SELECT 1 FROM feed_snapshot(NULL, 10)",
        "SELECT 1 FROM quarantine() WHERE waiting = 2000",
    ] {
        let pool = api.database.pool(testkit::database::APP);
        assert!(sqlx::query(statement).fetch_optional(&pool).await.expect(statement).is_some(), "{statement}");
    }
    let database = api.stop().await;
    let after = whole_reads(&superuser).await;
    drop(database);
    let read: Vec<_> = before.iter().filter(|(table, count)| after[*table] > **count).map(|(table, _)| table).collect();
    assert!(read.is_empty(), "read from end to end: {read:?}");
}

/// What edits do to media is bounded by what they change, beside 200,000 media of others.
#[tokio::test]
async fn no_edit_or_copy_reads_a_table_of_tenants_from_end_to_end() {
    let rig = MediaRig::start().await;
    let superuser = rig.superuser().await;
    // Nothing of it is due.
    let rested =
        "UPDATE media SET expires_at = NULL; UPDATE pointers SET published = generation; DELETE FROM stored_objects;
                  UPDATE replacements SET state = 'rejected'; UPDATE webhook_queues SET due_at = NULL;";
    sqlx::raw_sql(SEED).execute(&superuser).await.expect("the rows are good");
    sqlx::raw_sql(rested).execute(&superuser).await.expect("the rows are good");
    sqlx::raw_sql("ANALYZE").execute(&superuser).await.expect("it is counted");
    rig.seed(300, "a/b", "{s,t}").await;
    let mut before = whole_reads(&superuser).await;
    before.remove("jobs");
    assert!(before.contains_key("media") && before.contains_key("media_counts"), "{before:?}");

    let form = TestForm::file(b"x").text("public_id", "one").text("folder", "c/d").text("tags", "u,v");
    let one = id(&ok(&rig.post(form).await, 201));
    let post = async |target: &str, body: Value, status: u16| {
        ok(&rig.api.json(Method::POST, &rig.shop.key, target, &body).await, status)
    };
    post(&format!("/v1/media/{one}/copy"), json!({}), 201).await;
    ok(&rig.patch(&one, &json!({"tags": ["u", "w"], "folder": "c"})).await, 200);
    post("/v1/tags/rename", json!({"from": "u", "to": "x"}), 200).await;
    post("/v1/folders/move", json!({"from": "c", "to": "e"}), 200).await;
    ok(&rig.api.delete(&rig.shop.key, "/v1/tags/x").await, 200);
    post("/v1/tags/rename", json!({"from": "s", "to": "y"}), 202).await;
    post("/v1/folders/move", json!({"from": "a", "to": "f"}), 202).await;
    for filter in [
        json!({"tag": "t"}),
        json!({"folder": "f/b"}),
        json!({"folder": ""}),
        json!({"kind": "image"}),
        json!({"state": "ready"}),
        json!({"replacement": "quarantined"}),
        json!({"public_id_prefix": "o"}),
    ] {
        let set = json!({"metadata": {"seen": true}, "expires_at": "2090-01-01T00:00:00Z"});
        post("/v1/media/batch", json!({"action": "set", "filter": filter, "set": set}), 202).await;
    }
    post("/v1/media/batch", json!({"action": "delete", "ids": [one]}), 202).await;
    rig.worker().await;
    let jobs = ok(&rig.api.get(&rig.shop.key, "/v1/jobs?state=done").await, 200);
    assert_eq!(jobs["items"].as_array().expect("a list").len(), 10, "{jobs}");
    rig.worker().await;
    let after = whole_reads(&superuser).await;
    let read: Vec<_> = before.iter().filter(|(table, count)| after[*table] > **count).map(|(table, _)| table).collect();
    assert!(read.is_empty(), "read from end to end: {read:?}");
}
