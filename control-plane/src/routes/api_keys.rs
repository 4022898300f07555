//! `/v1/api-keys`: a tenant's keys, by a key of the tenant that may do everything.

use isolation::{Database, TenantTransaction};
use rocket::http::Status;
use rocket::serde::json::Json;
use rocket::{State, delete, get, post};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::answer::Answer;
use crate::auth::{ApiKey, Caller, Scope};
use crate::body::Body;
use crate::delivery;
use crate::idempotency::{Begun, Once};
use crate::names;
use crate::page::{List, Page, PageQuery};
use crate::problem::ApiError;
use crate::sealing::Seal;

/// Most keys of a tenant that are not revoked.
const KEYS_MAX: i64 = 1000;

/// A key as it was made: the only time that it is shown whole.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewKey {
    id: Uuid,
    name: String,
    key: String,
    scopes: Vec<Scope>,
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
}

/// A key as it is listed.
#[derive(Debug, Serialize, ToSchema)]
pub struct Key {
    id: Uuid,
    name: String,
    prefix: String,
    scopes: Vec<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    revoked_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    last_used_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// What a new key may do, and until when.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    name: String,
    scopes: Vec<Scope>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
}

/// Makes a key.
#[utoipa::path(
    tag = "api keys",
    security(("tenantKey" = ["admin"])),
    params(Once),
    request_body = CreateKey,
    responses((status = 201, description = "Made: the key is shown this once", body = NewKey, headers(("Location" = String, description = "Where it is"))))
)]
#[post("/api-keys", data = "<body>")]
pub async fn create(
    caller: Caller,
    once: Once,
    body: Body<CreateKey>,
    database: &State<Database>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    caller.needs(Scope::Admin)?;
    let name = names::title(&body.name)?;
    if body.scopes.is_empty() {
        return Err(ApiError::field("scopes", "a key without any is good for nothing"));
    }
    let mut work = match once.begin(database, seal, &caller.mandate, &body.fingerprint).await? {
        Begun::First(work) => work,
        Begun::Again(answer) => return Ok(answer),
    };
    if body.expires_at.is_some_and(|end| end <= OffsetDateTime::now_utc()) {
        return Err(ApiError::field("expires_at", "is in the past"));
    }
    delivery::hold(work.transaction()).await?;
    let count = sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM api_keys WHERE revoked_at IS NULL"#)
        .fetch_one(work.connection())
        .await?;
    if count >= KEYS_MAX {
        return Err(ApiError::field("name", format!("a tenant has at most {KEYS_MAX} keys: revoke one")));
    }
    let key = insert(work.transaction(), name, &body.scopes, body.expires_at).await?;
    let answer = Answer::created(1, format!("/v1/api-keys/{}", key.id), &key)?;
    work.commit(answer.with_secret()).await
}

/// All keys of the tenant, in the order in which they were made.
#[utoipa::path(
    tag = "api keys",
    security(("tenantKey" = ["admin"])),
    params(PageQuery),
    responses((status = 200, description = "A page, oldest first", body = Page<Key>))
)]
#[get("/api-keys")]
pub async fn list(caller: Caller, query: PageQuery, database: &State<Database>) -> Result<Json<Page<Key>>, ApiError> {
    caller.needs(Scope::Admin)?;
    let list = List { name: "api-keys", tenant: Some(caller.tenant) };
    let after = query.after(list)?.map(|after| after.parse::<Uuid>()).transpose().map_err(|_| ApiError::Cursor)?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let found = sqlx::query_as!(
        Key,
        "SELECT id, name, prefix, scopes, expires_at, revoked_at, last_used_at, created_at FROM api_keys
         WHERE $1::uuid IS NULL OR id > $1 ORDER BY id LIMIT $2",
        after,
        query.look_for()
    )
    .fetch_all(transaction.connection())
    .await?;
    Ok(Json(query.page(list, found, |key| key.id.to_string())))
}

/// Revokes a key: within a second it is good for nothing. Revoking it again changes nothing.
#[utoipa::path(
    tag = "api keys",
    security(("tenantKey" = ["admin"])),
    responses((status = 204, description = "It is good for nothing any more"))
)]
#[delete("/api-keys/<id>")]
pub async fn revoke(caller: Caller, id: &str, database: &State<Database>) -> Result<Status, ApiError> {
    caller.needs(Scope::Admin)?;
    let id: Uuid = id.parse().map_err(|_| ApiError::NotFound("key"))?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let revoked = sqlx::query!("UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1", id)
        .execute(transaction.connection())
        .await?;
    if revoked.rows_affected() == 0 {
        return Err(ApiError::NotFound("key"));
    }
    transaction.commit().await?;
    Ok(Status::NoContent)
}

/// Makes a key of the transaction's tenant.
///
/// # Errors
/// [`ApiError::Database`], or [`ApiError::Internal`] when the system has no random numbers.
pub async fn insert(
    transaction: &mut TenantTransaction,
    name: &str,
    scopes: &[Scope],
    expires_at: Option<OffsetDateTime>,
) -> Result<NewKey, ApiError> {
    let key = ApiKey::generate().map_err(|_| ApiError::Internal)?;
    let (tenant, id) = (transaction.tenant().as_uuid(), Uuid::now_v7());
    let words: Vec<String> = scopes.iter().map(|scope| scope.as_str().to_owned()).collect();
    sqlx::query!(
        "INSERT INTO api_keys (tenant_id, id, name, prefix, hash, scopes, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        tenant,
        id,
        name,
        key.prefix(),
        &key.hash()[..],
        &words[..],
        expires_at
    )
    .execute(transaction.connection())
    .await?;
    let (name, scopes) = (name.to_owned(), scopes.to_vec());
    Ok(NewKey { id, name, key: key.expose().to_owned(), scopes, expires_at })
}
