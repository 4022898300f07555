//! The feed of changes: its numbers, as a reader sees them while many write.

use std::collections::BTreeSet;

use http::Method;
use serde_json::json;
use sqlx::{PgPool, Row};
use testkit::control_plane::{ADMIN_KEY, ControlPlane};
use testkit::database::{APP, TestDatabase};
use tokio::task::JoinSet;

use crate::support::ok;

const TENANT: &str = "00000000-0000-0000-0000-00000000000a";
const WRITERS: usize = 8;
const EACH: usize = 25;

/// Announces changes, each in a transaction that takes its time; every third one is taken back.
async fn write(pool: PgPool, writer: usize) {
    for number in 0..EACH {
        let mut transaction = pool.begin().await.expect("reached");
        sqlx::query("SELECT set_config('calotype.tenant', $1, true)")
            .bind(TENANT)
            .execute(&mut *transaction)
            .await
            .expect("a setting");
        sqlx::query("INSERT INTO feed_events (tenant_id, kind, name) VALUES ($1::uuid, 'preset', $2)")
            .bind(TENANT)
            .bind(format!("{writer}-{number}"))
            .execute(&mut *transaction)
            .await
            .expect("announced");
        tokio::task::yield_now().await;
        if number % 3 == 2 {
            transaction.rollback().await.expect("taken back");
        } else {
            transaction.commit().await.expect("done");
        }
    }
}

#[tokio::test]
async fn a_reader_sees_every_number_in_turn_and_misses_none() {
    let database = TestDatabase::new().await;
    let superuser = PgPool::connect(&database.superuser_url()).await.expect("reached");
    let tenant = "INSERT INTO tenants (id, slug, name) VALUES ($1::uuid, 'a', 'a')";
    sqlx::query(tenant).bind(TENANT).execute(&superuser).await.expect("a tenant");
    let writing = sqlx::postgres::PgPoolOptions::new().max_connections(WRITERS as u32);
    let writing = writing.connect(&database.url(APP)).await.expect("reached");
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(writing.clone(), writer));
    }
    let (reading, mut last, mut names) = (database.pool(APP), 0, BTreeSet::new());
    loop {
        let is_over = writers.is_empty();
        let rows = sqlx::query("SELECT seq, name FROM feed_after($1, 7)").bind(last);
        for row in rows.fetch_all(&reading).await.expect("read") {
            last += 1;
            assert_eq!(row.get::<i64, _>(0), last, "a number is missing, or came late");
            assert!(names.insert(row.get::<String, _>(1)), "told twice");
        }
        while writers.try_join_next().is_some() {}
        if is_over && names.len() as i64 == last && head(&reading).await == last {
            break;
        }
    }
    assert_eq!(names.len(), WRITERS * (EACH - EACH / 3), "what was taken back is not told");
}

/// The number of the newest change.
async fn head(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT seq FROM feed_position()").fetch_one(pool).await.expect("read")
}

#[tokio::test]
async fn each_change_is_told_with_what_it_is_now() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    ok(&api.json(Method::PUT, &shop.key, "/v1/presets/thumb", &json!({"ops": "w=1"})).await, 201);
    ok(&api.json(Method::PUT, &shop.key, "/v1/presets/thumb", &json!({"ops": "w=2"})).await, 200);
    ok(&api.delete(&shop.key, "/v1/presets/thumb").await, 204);
    ok(&api.json(Method::PATCH, ADMIN_KEY, "/v1/tenants/shop", &json!({"state": "suspended"})).await, 200);
    ok(&api.delete(ADMIN_KEY, "/v1/tenants/shop").await, 204);
    let rows = sqlx::query("SELECT kind, name, body, tenant_id::text FROM feed_after(0, 100)");
    let rows = rows.fetch_all(&api.database.pool(APP)).await.expect("read");
    let told: Vec<(String, String, Option<serde_json::Value>)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let expected = [
        ("tenant", "", Some(json!({"slug": "shop", "state": "active"}))),
        ("preset", "thumb", Some(json!("w=1"))),
        ("preset", "thumb", Some(json!("w=2"))),
        ("preset", "thumb", None),
        ("tenant", "", Some(json!({"slug": "shop", "state": "suspended"}))),
        ("tenant", "", None),
    ];
    let expected = expected.map(|(kind, name, body)| (kind.to_owned(), name.to_owned(), body));
    assert_eq!(told, expected);
    assert!(rows.iter().all(|row| row.get::<String, _>(3) == shop.id));
}

#[tokio::test]
async fn a_change_that_was_refused_is_not_told() {
    let api = ControlPlane::start().await;
    let shop = api.tenant("shop").await;
    let pool = api.database.pool(APP);
    let before = head(&pool).await;
    let refused = api.json(Method::PUT, &shop.key, "/v1/presets/thumb", &json!({"ops": "w=0"})).await;
    assert_eq!(refused.status, 422);
    assert_eq!(api.delete(&shop.key, "/v1/presets/thumb").await.status, 404);
    assert_eq!(api.delete(ADMIN_KEY, "/v1/tenants/shop").await.status, 422);
    assert_eq!(head(&pool).await, before);
}
