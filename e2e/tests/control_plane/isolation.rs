//! Tenants do not see each other, whatever a statement says: asked of the database itself, as the control plane's user.

use sqlx::{AssertSqlSafe, PgPool, Row};
use testkit::database::{APP, TestDatabase, WORKER};

const A: &str = "00000000-0000-0000-0000-00000000000a";
const B: &str = "00000000-0000-0000-0000-00000000000b";

/// Rows of a tenant in every table that has rows of tenants.
const ROWS: &str = "
    INSERT INTO tenants (id, slug, name) VALUES ('$T', 'tenant-$L', 'x');
    INSERT INTO policies (tenant_id) VALUES ('$T');
    INSERT INTO api_keys (tenant_id, id, name, prefix, hash, scopes)
        VALUES ('$T', '$T', 'x', 'cal_x', sha256('$T'), '{admin}');
    INSERT INTO signing_keys (tenant_id, kid, secret) VALUES ('$T', 'k', 'x');
    INSERT INTO domains (tenant_id, host, challenge) VALUES ('$T', '$L.example', 'x');
    INSERT INTO presets (tenant_id, name, ops) VALUES ('$T', 'p', 'w=1');
    INSERT INTO images (tenant_id, name, source) VALUES ('$T', 'i', '@x/y');
    INSERT INTO origins (tenant_id, name, config) VALUES ('$T', 'o', '{}');
    INSERT INTO idempotency_keys (tenant_id, route, key, fingerprint, status, body, is_sealed)
        VALUES ('$T', 'r', 'k', sha256('$T'), 201, '{}', false);
    INSERT INTO feed_events (tenant_id, kind) VALUES ('$T', 'tenant');
    INSERT INTO jobs (tenant_id, id, kind, state, payload) VALUES ('$T', '$T', 'x', 'queued', '{}'),
        ('$T', '00000000-0000-0000-0000-000000000001', 'x', 'queued', '{}');
    INSERT INTO job_dependencies (tenant_id, job_id, needs_id)
        VALUES ('$T', '$T', '00000000-0000-0000-0000-000000000001');
    INSERT INTO folders (tenant_id, path) VALUES ('$T', 'f');
    INSERT INTO media (tenant_id, id, public_id, folder, kind, revision, content_type, bytes, sha256, tags)
        VALUES ('$T', '$T', 'm', 'f', 'image', '$T', 'image/png', 1, sha256('$T'), '{t}');
    INSERT INTO collections (tenant_id, id, name) VALUES ('$T', '$T', 'c');
    INSERT INTO collection_media (tenant_id, collection_id, media_id, position) VALUES ('$T', '$T', '$T', 0);
    INSERT INTO usage_days (tenant_id, day) VALUES ('$T', '2026-01-01');
    INSERT INTO quotas (tenant_id, files) VALUES ('$T', 100);
    INSERT INTO quota_levels (tenant_id, quota, month, level, told) VALUES ('$T', 'files', '2026-01-01', 0, 0);
    INSERT INTO workflows (tenant_id, kind, steps) VALUES ('$T', 'any', '[]');
    INSERT INTO replacements (tenant_id, media_id, scan, kind, revision, content_type, bytes, sha256)
        VALUES ('$T', '$T', '{}', 'image', '$T', 'image/png', 1, sha256('$T'));
    INSERT INTO stored_objects (tenant_id, media_id, revision, state, due_at) VALUES ('$T', '$T', '$T', 'pending', now());
    INSERT INTO uploads (tenant_id, id, protocol, media_id, expires_at, due_at)
        VALUES ('$T', '$T', 'tus', '$T', now(), now());
    INSERT INTO upload_parts (tenant_id, upload_id, number, object, bytes) VALUES ('$T', '$T', 1, '$T', 1);
    INSERT INTO events (tenant_id, kind, data) VALUES ('$T', 'media.created', '{}');
    INSERT INTO webhooks (tenant_id, id, url, secret) VALUES ('$T', '$T', 'https://x.example/', 'x');
    INSERT INTO webhook_queues (tenant_id, webhook_id) VALUES ('$T', '$T');
    INSERT INTO webhook_deliveries (tenant_id, webhook_id, event_id, created_at, kind, seq, place)
        VALUES ('$T', '$T', '$T', now(), 'media.created', 1, 1);
";

async fn database() -> TestDatabase {
    let database = TestDatabase::new().await;
    let superuser = PgPool::connect(&database.superuser_url()).await.expect("reached");
    for (tenant, letter) in [(A, "a"), (B, "b")] {
        let rows = ROWS.replace("$T", tenant).replace("$L", letter);
        sqlx::raw_sql(AssertSqlSafe(rows)).execute(&superuser).await.expect("the rows are good");
    }
    superuser.close().await;
    database
}

/// Every relation of ours that has a column for a tenant, with that column. Parts of tables by month are nobody's
/// (`partitions.rs`).
async fn relations(superuser: &PgPool) -> Vec<(String, String)> {
    let rows = sqlx::query(
        "SELECT c.relname::text, a.attname::text FROM pg_class c
         JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
         JOIN pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
           AND (a.attname LIKE '%tenant%' OR (c.relname = 'tenants' AND a.attname = 'id'))
         ORDER BY 1",
    );
    let rows = rows.fetch_all(superuser).await.expect("the catalog is there");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn count(pool: &PgPool, tenant: Option<&str>, statement: &str) -> Result<i64, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    if let Some(tenant) = tenant {
        sqlx::query("SELECT set_config('calotype.tenant', $1, true)").bind(tenant).execute(&mut *transaction).await?;
    }
    sqlx::query_scalar(AssertSqlSafe(statement.to_owned())).fetch_one(&mut *transaction).await
}

#[tokio::test]
async fn no_relation_shows_or_changes_rows_of_another_tenant() {
    let database = database().await;
    let superuser = PgPool::connect(&database.superuser_url()).await.expect("reached");
    let relations = relations(&superuser).await;
    assert!(relations.len() >= 16, "{relations:?}");
    for (relation, column) in &relations {
        let of_b = format!("SELECT count(*) FROM {relation} WHERE {column} = '{B}'");
        let there = count(&superuser, None, &of_b).await.expect("the superuser sees all");
        assert!(there > 0, "{relation} has no row of B to look for: add one to ROWS");
        for user in [APP, WORKER] {
            let pool = database.pool(user);
            // Not readable at all is just as good.
            let seen = |result: Result<i64, sqlx::Error>| result.map_or(0, |count| count);
            assert_eq!(seen(count(&pool, Some(A), &of_b).await), 0, "{user} sees B in {relation} as A");
            let all = format!("SELECT count(*) FROM {relation}");
            assert_eq!(seen(count(&pool, None, &all).await), 0, "{user} sees {relation} as nobody");
            assert_eq!(seen(count(&pool, Some(""), &all).await), 0, "{user} sees {relation} as \"\"");
            for change in [
                format!("DELETE FROM {relation} WHERE {column} = '{B}'"),
                format!("UPDATE {relation} SET {column} = '{A}' WHERE {column} = '{B}'"),
            ] {
                let counted = format!("WITH changed AS ({change} RETURNING 1) SELECT count(*) FROM changed");
                assert_eq!(seen(count(&pool, Some(A), &counted).await), 0, "{user} as A: {change}");
            }
            pool.close().await;
        }
    }
}

#[tokio::test]
async fn every_table_has_row_level_security_and_every_function_its_path() {
    let database = database().await;
    let superuser = PgPool::connect(&database.superuser_url()).await.expect("reached");
    for (relation, _) in relations(&superuser).await {
        let statement = format!(
            "SELECT count(*) FROM pg_class WHERE relname = '{relation}' AND relrowsecurity AND relforcerowsecurity"
        );
        assert_eq!(count(&superuser, None, &statement).await.expect("the catalog is there"), 1, "{relation}");
    }
    let rows = sqlx::query(
        "SELECT p.proname::text, coalesce(array_to_string(p.proconfig, ','), ''),
            has_function_privilege('public', p.oid, 'EXECUTE'), r.rolname::text
         FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname = 'public'
         JOIN pg_roles r ON r.oid = p.proowner WHERE p.prosecdef",
    );
    let readme = include_str!("../../../migrations/README.md");
    let rows = rows.fetch_all(&superuser).await.expect("the catalog is there");
    assert!(rows.len() >= 10);
    for row in rows {
        let (name, settings): (String, String) = (row.get(0), row.get(1));
        assert!(settings.contains("search_path=pg_catalog, public, pg_temp"), "{name}: {settings}");
        assert!(!row.get::<bool, _>(2), "everybody may call {name}");
        assert_eq!(row.get::<String, _>(3), "calotype_owner", "{name}");
        assert!(readme.contains(&format!("`{name}`")), "migrations/README.md does not list {name}");
    }
}

#[tokio::test]
async fn a_row_cannot_be_given_to_another_tenant_or_refer_to_its_rows() {
    let database = database().await;
    let pool = database.pool(APP);
    for statement in [
        format!(
            "WITH made AS (INSERT INTO presets (tenant_id, name, ops) VALUES ('{B}', 'mine', 'w=1') RETURNING 1) SELECT count(*) FROM made"
        ),
        format!(
            "WITH made AS (INSERT INTO feed_events (tenant_id, kind) VALUES ('{B}', 'tenant') RETURNING 1) SELECT count(*) FROM made"
        ),
        format!(
            "WITH made AS (INSERT INTO feed_events (tenant_id, kind, seq) VALUES ('{A}', 'tenant', 999) RETURNING 1) SELECT count(*) FROM made"
        ),
        format!(
            "WITH made AS (UPDATE presets SET tenant_id = '{B}' WHERE name = 'p' RETURNING 1) SELECT count(*) FROM made"
        ),
        format!(
            "WITH made AS (INSERT INTO job_dependencies (tenant_id, job_id, needs_id) VALUES ('{A}', '{A}', '{B}') RETURNING 1) SELECT count(*) FROM made"
        ),
    ] {
        assert!(count(&pool, Some(A), &statement).await.is_err(), "{statement}");
    }
}
