//! The audit log: every change of a tenant's things, by whom and how, without any secret, for longer than the tenant lasts.

use http::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool, Row};
use testkit::control_plane::{ADMIN_KEY, ControlPlane, MASTER_KEY, body};
use testkit::database::{APP, TestDatabase, WORKER};
use testkit::http::{Request, Response};

use crate::media_rig::{MediaRig, TestForm, id};
use crate::support::{ok, problem};

/// Tables of tenants whose changes are not written down, and why nobody misses them.
const NOT_AUDITED: [(&str, &str); 17] = [
    ("audit_log", "it is the log"),
    ("event_heads", "numbers of events"),
    ("events", "told of what is in the log"),
    ("idempotency_keys", "answers to what is in the log"),
    ("job_dependencies", "part of a job"),
    ("media_counts", "a count of what is in media"),
    ("media_tags", "a copy of what is in media"),
    ("pointers", "how far the object store is behind media"),
    ("quota_levels", "how much of a quota is used"),
    ("stored_days", "a count of what is in media"),
    ("stored_objects", "what the object store has to lose"),
    ("stored_totals", "a count of what is in media"),
    ("upload_parts", "part of an upload"),
    ("uploads", "on its way; what comes of it is in media"),
    ("usage_days", "a count of what edges have done"),
    ("webhook_deliveries", "what is sent of events"),
    ("webhook_queues", "what is sent of events"),
];

/// All entries of a tenant, the oldest first.
async fn entries(api: &ControlPlane, key: &str) -> Vec<Value> {
    let page = ok(&api.get(key, "/v1/audit-log?limit=1000").await, 200);
    assert_eq!(page["next_cursor"], Value::Null);
    page["items"].as_array().expect("a list").iter().rev().cloned().collect()
}

/// What an entry says in short.
fn short(entry: &Value) -> String {
    let text = |name: &str| entry[name].as_str().expect("a text").to_owned();
    format!("{} {} {}", text("action"), text("resource"), text("resource_id")).trim_end().to_owned()
}

/// What was changed since, in short.
async fn since(api: &ControlPlane, key: &str, before: usize) -> Vec<String> {
    entries(api, key).await[before..].iter().map(short).collect()
}

#[tokio::test]
async fn every_change_is_written_down_with_who_made_it_and_how() {
    let rig = MediaRig::with_folder(&[("MASTER_KEY", MASTER_KEY.to_owned())]).await;
    let (api, key) = (&rig.api, &rig.shop.key);
    let begun = entries(api, key).await;
    assert_eq!(begun.iter().map(short).collect::<Vec<_>>()[..2], ["create tenant shop", "create policy"]);
    assert!(begun.iter().all(|entry| entry["actor"] == "operator" && entry["operation"] == "POST /v1/tenants"));
    let own_key = ok(&api.get(key, "/v1/api-keys").await, 200)["items"][0]["id"].as_str().expect("an id").to_owned();

    let mut known = begun.len();
    let mut check = async |answer: Response, expected: &[&str], operation: &str| {
        assert!(answer.status.is_success(), "{}", answer.text());
        let all = entries(api, key).await;
        let new = &all[known..];
        assert_eq!(new.iter().map(short).collect::<Vec<_>>(), expected);
        for entry in new {
            assert_eq!(entry["actor"], format!("key:{own_key}"));
            assert_eq!((&entry["operation"], &entry["client"]), (&operation.into(), &"127.0.0.1".into()));
            assert_eq!(entry["request_id"].as_str(), answer.header("x-request-id"));
        }
        known = all.len();
        new.to_vec()
    };
    let send = async |method: Method, target: &str, body: Value| api.json(method, key, target, &body).await;

    let made = send(Method::PUT, "/v1/presets/p", json!({"ops": "w=1"})).await;
    let made = check(made, &["create preset p"], "PUT /v1/presets/<name>").await;
    assert_eq!((&made[0]["before"], &made[0]["after"]), (&Value::Null, &json!({"name": "p", "ops": "w=1"})));
    let changed = send(Method::PUT, "/v1/presets/p", json!({"ops": "w=2"})).await;
    let changed = check(changed, &["update preset p"], "PUT /v1/presets/<name>").await;
    assert_eq!((&changed[0]["before"], &changed[0]["after"]), (&json!({"ops": "w=1"}), &json!({"ops": "w=2"})));
    let same = send(Method::PUT, "/v1/presets/p", json!({"ops": "w=2"})).await;
    check(same, &[], "").await;
    let gone = check(api.delete(key, "/v1/presets/p").await, &["delete preset p"], "DELETE /v1/presets/<name>").await;
    assert_eq!((&gone[0]["before"]["ops"], &gone[0]["after"]), (&"w=2".into(), &Value::Null));

    // Of a document only what differs.
    let set = json!({"open": true, "unsigned": {"widths": [100]}});
    check(send(Method::PUT, "/v1/policy", set).await, &["update policy"], "PUT /v1/policy").await;
    let set = json!({"open": false, "unsigned": {"widths": [100]}});
    let set = check(send(Method::PUT, "/v1/policy", set).await, &["update policy"], "PUT /v1/policy").await;
    assert_eq!(set[0]["before"], json!({"document": {"open": true}}));

    let new_key = send(Method::POST, "/v1/api-keys", json!({"name": "k", "scopes": ["media:read"]})).await;
    let key_id = id(&body(&new_key));
    check(new_key, &[&format!("create api_key {key_id}")], "POST /v1/api-keys").await;
    let revoked = api.delete(key, &format!("/v1/api-keys/{key_id}")).await;
    check(revoked, &[&format!("update api_key {key_id}")], "DELETE /v1/api-keys/<id>").await;
    check(
        send(Method::POST, "/v1/signing-keys", json!({"kid": "s"})).await,
        &["create signing_key s"],
        "POST /v1/signing-keys",
    )
    .await;
    check(api.delete(key, "/v1/signing-keys/s").await, &["delete signing_key s"], "DELETE /v1/signing-keys/<kid>")
        .await;
    let claimed = send(Method::POST, "/v1/domains", json!({"host": "a.example"})).await;
    check(claimed, &["create domain a.example"], "POST /v1/domains").await;
    check(api.delete(key, "/v1/domains/a.example").await, &["delete domain a.example"], "DELETE /v1/domains/<host>")
        .await;
    let origin = json!({"http": {"base_url": "https://example.com/"}});
    check(send(Method::PUT, "/v1/origins/o", origin).await, &["create origin o"], "PUT /v1/origins/<name>").await;
    let image = json!({"source": "@o/a.png"});
    check(send(Method::PUT, "/v1/overlays/i", image).await, &["create image i"], "PUT /v1/overlays/<name>").await;
    let purge = send(Method::POST, "/v1/purge", json!({"all": true})).await;
    let change = id(&body(&purge));
    check(purge, &[&format!("create purge {change}")], "POST /v1/purge").await;
}

#[tokio::test]
async fn media_and_what_workers_do_with_it_is_written_down() {
    let rig = MediaRig::start().await;
    let (api, key) = (&rig.api, &rig.shop.key);
    let mut known = entries(api, key).await.len();
    let form = TestForm::file(b"one").text("public_id", "a").text("folder", "f/g").text("tags", "x");
    let medium = id(&ok(&rig.post(form).await, 201));
    let mut new = since(api, key, known).await;
    new.sort();
    assert_eq!(new, ["create folder f", "create folder f/g", &format!("create media {medium}")]);
    known += new.len();
    ok(&rig.patch(&medium, &json!({"tags": ["y"], "metadata": {"a": "b".repeat(5000)}})).await, 200);
    ok(&rig.put(&medium, b"two").await, 200);
    let all = entries(api, key).await;
    let (patched, replaced) = (&all[known], &all[known + 1]);
    assert_eq!((&patched["before"]["tags"], &patched["after"]["tags"]), (&json!(["x"]), &json!(["y"])));
    let cut = patched["after"]["metadata"].as_str().expect("cut");
    assert!(cut.len() < 600 && cut.ends_with('…'), "{cut}");
    assert_eq!((&replaced["before"]["sha256"], &replaced["after"]["sha256"]), (&"…".into(), &"…".into()));
    assert!(replaced["before"]["revision"] != replaced["after"]["revision"]);
    known += 2;

    let order = json!({"action": "tag", "tags": ["z"], "ids": [medium]});
    let job = id(&ok(&api.json(Method::POST, key, "/v1/media/batch", &order).await, 202));
    rig.worker().await;
    let all = entries(api, key).await;
    assert_eq!(
        all[known..].iter().map(short).collect::<Vec<_>>(),
        [format!("create job {job}"), format!("update media {medium}")]
    );
    let (ordered, done) = (&all[known], &all[known + 1]);
    assert_eq!((&ordered["after"]["kind"], &ordered["after"]["payload"]), (&"media_batch".into(), &"…".into()));
    assert_eq!((&done["actor"], &done["operation"]), (&format!("job:{job}").into(), &"media_batch".into()));
    known += 2;

    rig.sql("UPDATE media SET expires_at = now()").await;
    rig.worker().await;
    let all = entries(api, key).await;
    let (by_hand, expired) = (&all[known], &all[known + 1]);
    assert_eq!((&by_hand["actor"], &by_hand["operation"]), (&"database:postgres".into(), &Value::Null));
    assert_eq!(short(expired), format!("delete media {medium}"));
    assert_eq!((&expired["actor"], &expired["operation"]), (&"worker".into(), &"expiry".into()));
    assert_eq!(all.len(), known + 2);
}

#[tokio::test]
async fn no_secret_is_in_it() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let send =
        async |method: Method, target: &str, body: Value| ok(&api.json(method, &shop.key, target, &body).await, 201);
    let key = send(Method::POST, "/v1/api-keys", json!({"name": "k", "scopes": ["admin"]})).await;
    let signing = send(Method::POST, "/v1/signing-keys", json!({"kid": "s"})).await;
    let domain = send(Method::POST, "/v1/domains", json!({"host": "a.example"})).await;
    let s3 = json!({"s3": {"bucket": "b", "access_key_id": "the-id-of-a-key", "secret_access_key": "the-secret-of-a-bucket"}});
    send(Method::PUT, "/v1/origins/o", s3).await;
    let superuser = PgPool::connect(&api.database.superuser_url()).await.expect("reached");
    let hashes = "SELECT encode(hash, 'hex') FROM api_keys UNION ALL SELECT encode(secret, 'hex') FROM signing_keys
        UNION ALL SELECT encode(secrets, 'hex') FROM origins WHERE secrets IS NOT NULL";
    let mut secrets: Vec<String> = sqlx::query_scalar(hashes).fetch_all(&superuser).await.expect("read");
    assert_eq!(secrets.len(), 4);
    let challenge = domain["record"]["value"].as_str().expect("a text").trim_start_matches("calotype-domain=");
    let texts =
        [&key["key"], &signing["secret"], &json!(shop.key), &json!(challenge), &json!("the-secret-of-a-bucket")];
    secrets.extend(texts.map(|secret| secret.as_str().expect("a text").to_owned()));
    let log: String = sqlx::query_scalar("SELECT string_agg(log::text, ' ') FROM audit_log AS log")
        .fetch_one(&superuser)
        .await
        .expect("read");
    assert!(log.contains("signing_key") && log.contains("origin"));
    for secret in secrets {
        assert!(secret.len() > 15 && !log.contains(&secret[..]), "{secret} is in {log}");
    }
}

#[tokio::test]
async fn what_was_refused_is_not_in_it() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let before = entries(&api, &shop.key).await;
    let refused = Request::new(Method::PUT, "/v1/presets/p")
        .header("content-type", "application/json")
        .header("if-match", "\"v7\"");
    let refused = refused.header("authorization", format!("Bearer {}", shop.key)).body("{\"ops\":\"w=1\"}");
    problem(&api.send(&refused).await, 412, "changed");
    problem(&api.json(Method::PUT, &shop.key, "/v1/presets/p", &json!({"ops": "w=x"})).await, 422, "bad-field");
    assert_eq!(entries(&api, &shop.key).await, before);
}

#[tokio::test]
async fn the_operator_sees_what_he_has_done_and_all_of_a_tenant_that_is_no_more() {
    let api = ControlPlane::start().await;
    let (shop, blog) = (api.tenant("shop").await, api.tenant("blog").await);
    for n in 0..20 {
        ok(&api.json(Method::PUT, &shop.key, &format!("/v1/presets/p{n}"), &json!({"ops": "w=1"})).await, 201);
    }
    ok(&api.json(Method::PATCH, ADMIN_KEY, "/v1/tenants/shop", &json!({"state": "suspended"})).await, 200);
    ok(&api.delete(ADMIN_KEY, "/v1/tenants/shop").await, 204);
    let list = async |query: &str| {
        let page = ok(&api.get(ADMIN_KEY, &format!("/v1/operator/audit-log?{query}")).await, 200);
        page["items"].as_array().expect("a list").iter().map(short).collect::<Vec<_>>()
    };
    assert_eq!(
        list("resource=tenant").await,
        ["delete tenant shop", "update tenant shop", "create tenant blog", "create tenant shop"]
    );
    let of_shop = list(&format!("tenant={}&limit=100", shop.id)).await;
    // What went with it is told of by that.
    assert_eq!((of_shop.len(), of_shop[0].as_str()), (20 + 2 + 3, "delete tenant shop"));
    assert!(of_shop.iter().filter(|entry| entry.starts_with("create preset")).count() == 20);
    assert_eq!(list(&format!("tenant={}&actor=operator&action=update", shop.id)).await, ["update tenant shop"]);
    assert_eq!(list(&format!("tenant={}&resource=preset/p7", shop.id)).await, ["create preset p7"]);
    problem(&api.get(&blog.key, "/v1/operator/audit-log").await, 403, "admin-only");
    problem(&api.get(ADMIN_KEY, "/v1/audit-log").await, 403, "tenant-only");
    problem(&api.get(ADMIN_KEY, "/v1/operator/audit-log?tenant=shop").await, 422, "bad-field");
    problem(&api.get(&blog.key, &format!("/v1/audit-log?tenant={}", shop.id)).await, 422, "bad-field");
}

#[tokio::test]
async fn it_is_read_by_pages_and_by_what_is_looked_for() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let first = entries(&api, &shop.key).await.len();
    for n in 0..7 {
        ok(&api.json(Method::PUT, &shop.key, &format!("/v1/presets/p{n}"), &json!({"ops": "w=1"})).await, 201);
    }
    ok(&api.delete(&shop.key, "/v1/presets/p3").await, 204);
    let all = entries(&api, &shop.key).await;
    let mut target = "/v1/audit-log?limit=3&resource=preset".to_owned();
    let mut read = Vec::new();
    loop {
        let page = ok(&api.get(&shop.key, &target).await, 200);
        read.extend(page["items"].as_array().expect("a list").clone());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        target = format!("/v1/audit-log?limit=3&resource=preset&cursor={cursor}");
    }
    read.reverse();
    assert_eq!(read, all[first..]);
    let found = async |query: &str| {
        let page = ok(&api.get(&shop.key, &format!("/v1/audit-log?{query}")).await, 200);
        page["items"].as_array().expect("a list").iter().map(short).collect::<Vec<_>>()
    };
    assert_eq!(found("resource=preset/p3").await, ["delete preset p3", "create preset p3"]);
    assert_eq!(found("resource=preset/p3&action=delete").await, ["delete preset p3"]);
    let actor = all[first]["actor"].as_str().expect("a text");
    assert_eq!(found(&format!("actor={actor}&action=delete")).await, ["delete preset p3"]);
    assert!(found("actor=key:00000000-0000-0000-0000-000000000000").await.is_empty());
    let at = all[first + 2]["at"].as_str().expect("a time").replace('+', "%2B");
    assert_eq!(found(&format!("from={at}&resource=preset&action=create")).await.len(), 5);
    assert_eq!(found(&format!("to={at}&resource=preset")).await, ["create preset p1", "create preset p0"]);
    problem(&api.get(&shop.key, "/v1/audit-log?action=drop").await, 422, "bad-field");
    let reader = json!({"name": "r", "scopes": ["media:read", "media:write", "delivery:write"]});
    let reader = ok(&api.json(Method::POST, &shop.key, "/v1/api-keys", &reader).await, 201);
    problem(&api.get(reader["key"].as_str().expect("a key"), "/v1/audit-log").await, 403, "scope-missing");
}

#[tokio::test]
async fn what_is_rare_is_looked_for_a_piece_at_a_time() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let superuser = PgPool::connect(&api.database.superuser_url()).await.expect("reached");
    // What is looked for is the oldest of them, and as old as others.
    let seed = format!(
        "INSERT INTO audit_log (tenant_id, at, actor, action, resource, resource_id)
         SELECT '{}', now() - interval '1 hour' - interval '1 second' * (n / 100),
             CASE n WHEN 25000 THEN 'key:b' ELSE 'key:a' END, CASE n WHEN 25000 THEN 'delete' ELSE 'update' END,
             CASE n WHEN 25000 THEN 'preset' ELSE 'media' END, 'x'
         FROM generate_series(1, 25000) AS n ORDER BY n DESC;
         INSERT INTO audit_log (tenant_id, at, actor, action, resource, resource_id)
         SELECT tenant_id, at, actor, 'create', 'media', resource_id FROM audit_log WHERE action = 'delete';
         ANALYZE",
        shop.id
    );
    sqlx::raw_sql(AssertSqlSafe(seed)).execute(&superuser).await.expect("all rights");
    // All that is found, and on how many pages.
    let find = async |key: &str, query: &str| {
        let (mut found, mut pages, mut cursor) = (Vec::new(), 0, String::new());
        loop {
            let page = ok(&api.get(key, &format!("{query}{cursor}")).await, 200);
            found.extend(page["items"].as_array().expect("a list").iter().map(short));
            pages += 1;
            let Some(next) = page["next_cursor"].as_str() else { return (found, pages) };
            cursor = format!("&cursor={next}");
        }
    };
    let of_shop = format!("/v1/operator/audit-log?tenant={}", shop.id);
    for (query, pages) in [
        ("action=delete", 3),
        ("resource=preset", 3),
        ("resource=preset&action=delete", 3),
        ("actor=key:b&action=delete", 1),
        ("resource=preset/x&action=delete", 1),
        ("resource=preset/x&actor=key:b", 1),
    ] {
        let expected = vec!["delete preset x".to_owned()];
        assert_eq!(find(&shop.key, &format!("/v1/audit-log?{query}")).await, (expected.clone(), pages), "{query}");
        assert_eq!(find(ADMIN_KEY, &format!("{of_shop}&{query}")).await, (expected, 3), "{query}");
    }
    for query in ["actor=key:a&action=create", "resource=media/x&action=create", "resource=media/x&actor=key:b"] {
        let (found, pages) = find(&shop.key, &format!("/v1/audit-log?{query}")).await;
        let expected = if query.contains("key:a") { vec![] } else { vec!["create media x"] };
        assert_eq!((found, pages), (expected.into_iter().map(str::to_owned).collect(), 3), "{query}");
    }
    // Nothing is passed over where pages are full as well.
    let (found, pages) = find(&shop.key, "/v1/audit-log?limit=999&action=update").await;
    assert_eq!(found.len(), 24_999, "on {pages} pages");
}

#[tokio::test]
async fn the_guide_is_true() {
    let guide = include_str!("../../../docs/audit.md");
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    for ops in ["w=100", "w=200"] {
        let put = api.json(Method::PUT, &shop.key, "/v1/presets/thumb", &json!({ "ops": ops })).await;
        assert!(put.status.is_success(), "{}", put.text());
    }
    let url = format!("http://{}", api.addr());
    let run = async |script: &str| {
        let mut bash = tokio::process::Command::new("bash");
        bash.args(["-euo", "pipefail", "-c", &script.replace("curl ", "curl --silent --show-error --fail ")]);
        bash.env("API", &url).env("KEY", &shop.key).env("ADMIN_KEY", ADMIN_KEY).env("TENANT", &shop.id);
        let done = bash.output().await.expect("bash is there");
        assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
        let answers = serde_json::Deserializer::from_slice(&done.stdout).into_iter::<Value>();
        answers.map(|answer| answer.expect("JSON")["items"].as_array().expect("a list").clone()).collect::<Vec<_>>()
    };
    let blocks = |kind: &str| {
        let begin = format!("```{kind}\n");
        let blocks = guide.split(&begin).skip(1).filter_map(|block| block.split("```").next());
        blocks.map(str::to_owned).collect::<Vec<_>>()
    };
    let scripts = blocks("sh");
    let told: Value = serde_json::from_str(&blocks("json")[0]).expect("JSON");
    let answered = run(&scripts[0]).await;
    let (entry, example) = (&answered[0][0], &told["items"][0]);
    let fields = |entry: &Value| entry.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(entry), fields(example));
    for field in ["operation", "action", "resource", "resource_id", "before", "after"] {
        assert_eq!(entry[field], example[field], "{field}");
    }
    for field in fields(entry) {
        assert!(guide.contains(&format!("`{field}`")), "{field} is not documented");
    }
    let of_operator = run(&scripts[1]).await;
    assert_eq!(of_operator.iter().map(Vec::len).collect::<Vec<_>>(), [1, 3]);
    // Every kind of thing is named.
    let superuser = PgPool::connect(&api.database.superuser_url()).await.expect("reached");
    let kinds = "SELECT DISTINCT split_part(encode(tgargs, 'escape'), '\\000', 1) FROM pg_trigger WHERE tgname = 'audit_change'";
    let kinds: Vec<String> = sqlx::query_scalar(kinds).fetch_all(&superuser).await.expect("the catalog is there");
    assert!(kinds.len() >= 12);
    for kind in kinds {
        assert!(guide.contains(&format!("`{kind}`")), "{kind} is not documented");
    }
}

#[tokio::test]
async fn nobody_but_the_owner_writes_or_changes_it() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    for user in [APP, WORKER] {
        let pool = api.database.pool(user);
        for statement in [
            format!(
                "INSERT INTO audit_log (tenant_id, actor, action, resource, resource_id) VALUES ('{}', 'x', 'create', 'x', 'x')",
                shop.id
            ),
            "UPDATE audit_log SET actor = 'x'".to_owned(),
            "DELETE FROM audit_log".to_owned(),
            "TRUNCATE audit_log".to_owned(),
            "ALTER TABLE presets DISABLE TRIGGER audit_change".to_owned(),
            "SET session_replication_role = replica".to_owned(),
        ] {
            let mut transaction = pool.begin().await.expect("begun");
            sqlx::query("SELECT set_config('calotype.tenant', $1, true)")
                .bind(&shop.id)
                .execute(&mut *transaction)
                .await
                .expect("named");
            let refused = sqlx::query(AssertSqlSafe(statement.clone())).execute(&mut *transaction).await;
            let refused = refused.expect_err(&statement).to_string();
            assert!(
                refused.contains("permission denied") || refused.contains("must be owner"),
                "{user}: {statement}: {refused}"
            );
        }
    }
}

#[tokio::test]
async fn every_table_of_tenants_is_in_it_or_there_is_a_reason() {
    let database = TestDatabase::new().await;
    let superuser = PgPool::connect(&database.superuser_url()).await.expect("reached");
    let tables = "SELECT c.relname::text, t.oid IS NOT NULL, coalesce(split_part(encode(t.tgargs, 'escape'), '\\000', 4), ''),
             coalesce((SELECT array_agg(a.attname::text) FROM pg_attribute a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid = 'bytea'::regtype), '{}')
         FROM pg_class c
         JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
         LEFT JOIN pg_trigger t ON t.tgrelid = c.oid AND t.tgname = 'audit_change' AND t.tgenabled = 'O'
         WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
           AND (c.relname = 'tenants' OR EXISTS (
               SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname LIKE '%tenant%' AND NOT a.attisdropped))";
    let rows = sqlx::query(tables).fetch_all(&superuser).await.expect("the catalog is there");
    assert!(rows.len() >= 16);
    for row in &rows {
        let (table, is_audited, hidden, bytes): (String, bool, String, Vec<String>) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        let has_reason = NOT_AUDITED.iter().any(|(name, _)| *name == table);
        assert!(is_audited != has_reason, "{table} is new: CALL audit('{table}'), or say why not");
        let hidden: Vec<_> = hidden.trim_matches(['{', '}']).split(',').collect();
        for column in bytes.iter().filter(|_| is_audited) {
            assert!(hidden.contains(&column.as_str()), "{table}.{column} is bytes, and may be a secret: hide it");
        }
    }
}
