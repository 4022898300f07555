//! `/v1/origins`: where a tenant's originals are, beside its uploads: buckets and web servers.
//!
//! Secrets are taken out of what is put, sealed, and never shown again. Folders of a machine are its operator's to give, not here.

use isolation::Database;
use rocket::http::Status;
use rocket::serde::json::Json;
use rocket::{Either, State, delete, get, put};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tenancy::feed::kind;
use time::OffsetDateTime;
use transform_url::OriginName;
use utoipa::ToSchema;

use super::{Created, Versioned, created_or_replaced};
use crate::auth::{Caller, Scope};
use crate::body::Body;
use crate::delivery::{self, Reach};
use crate::etag::Condition;
use crate::feed::{Sealed, Subject, announce};
use crate::names;
use crate::page::{List, Page, PageQuery};
use crate::problem::ApiError;
use crate::sealing::{Place, Seal};

/// Most origins of a tenant: edges hold all of them in memory.
const ORIGINS_MAX: usize = 100;

/// An origin, without its secrets.
#[derive(Debug, Serialize, ToSchema)]
pub struct Origin {
    name: String,
    /// `s3` or `http`, and `tags`, as in the policy file.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    config: Value,
    /// Whether it has secrets beside.
    has_secrets: bool,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
    #[serde(skip)]
    version: i64,
}

/// All origins of the tenant, by their names.
#[utoipa::path(
    tag = "origins",
    security(("tenantKey" = ["delivery:write"])),
    params(PageQuery),
    responses((status = 200, description = "A page, by name, without secrets", body = Page<Origin>))
)]
#[get("/origins")]
pub async fn list(
    caller: Caller,
    query: PageQuery,
    database: &State<Database>,
) -> Result<Json<Page<Origin>>, ApiError> {
    caller.needs(Scope::DeliveryWrite)?;
    let list = List { name: "origins", tenant: Some(caller.tenant) };
    let after = query.after(list)?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let found = sqlx::query_as!(
        Origin,
        r#"SELECT name, config, secrets IS NOT NULL AS "has_secrets!", created_at, updated_at, version FROM origins
           WHERE $1::text IS NULL OR name > $1 ORDER BY name LIMIT $2"#,
        after,
        query.look_for()
    )
    .fetch_all(transaction.connection())
    .await?;
    Ok(Json(query.page(list, found, |origin| origin.name.clone())))
}

/// One origin, without its secrets.
#[utoipa::path(
    tag = "origins",
    security(("tenantKey" = ["delivery:write"])),
    responses((status = 200, description = "It", body = Origin, headers(("ETag" = String, description = "Its version"))))
)]
#[get("/origins/<name>")]
pub async fn get(caller: Caller, name: &str, database: &State<Database>) -> Result<Versioned<Origin>, ApiError> {
    caller.needs(Scope::DeliveryWrite)?;
    let name = known(name)?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let found = sqlx::query_as!(
        Origin,
        r#"SELECT name, config, secrets IS NOT NULL AS "has_secrets!", created_at, updated_at, version FROM origins
           WHERE name = $1"#,
        name.as_str()
    )
    .fetch_optional(transaction.connection())
    .await?;
    let origin = found.ok_or(ApiError::NotFound("origin"))?;
    Ok(Versioned::new(origin.version, origin))
}

/// Makes an origin, or replaces it with its secrets: `{"s3": …}` or `{"http": …}`, and `"tags"`, as in the policy file.
#[utoipa::path(
    tag = "origins",
    security(("tenantKey" = ["delivery:write"])),
    params(Condition),
    request_body = Object,
    responses((status = 200, description = "Replaced", body = Origin, headers(("ETag" = String, description = "Its version"))), (status = 201, description = "Made", body = Origin, headers(("ETag" = String, description = "Its version"), ("Location" = String, description = "Where it is"))))
)]
#[put("/origins/<name>", data = "<body>")]
pub async fn put(
    caller: Caller,
    name: &str,
    condition: Condition,
    body: Body<Map<String, Value>>,
    database: &State<Database>,
    seal: &State<Seal>,
    reach: &State<Reach>,
) -> Result<Either<Created<Origin>, Versioned<Origin>>, ApiError> {
    caller.needs(Scope::DeliveryWrite)?;
    let name = names::origin(name)?;
    let whole = Value::Object(Map::clone(&body));
    check_reach(&whole, reach)?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let mut parts = delivery::lock(&mut transaction).await?;
    let before = sqlx::query_scalar!("SELECT version FROM origins WHERE name = $1", name.as_str())
        .fetch_optional(transaction.connection())
        .await?;
    condition.check(before)?;
    parts.origins.insert(name.to_string(), whole.clone());
    if parts.origins.len() > ORIGINS_MAX {
        return Err(ApiError::field("name", format!("a tenant has at most {ORIGINS_MAX} origins: delete one")));
    }
    delivery::accept(&parts, &transaction)?;
    let (config, secrets) = parted(whole);
    let place = Place { tenant: caller.tenant, kind: kind::ORIGIN, name: name.as_str() };
    let sealed = secrets.map(|secrets| {
        let sealed = seal.seal(secrets.to_string().as_bytes(), place).map_err(|_| ApiError::Internal)?;
        sealed.ok_or(ApiError::NoMasterKey)
    });
    let sealed = sealed.transpose()?;
    let origin = sqlx::query_as!(
        Origin,
        r#"INSERT INTO origins (tenant_id, name, config, secrets) VALUES ($1, $2, $3, $4)
           ON CONFLICT (tenant_id, name)
           DO UPDATE SET config = $3, secrets = $4, version = origins.version + 1, updated_at = now()
           RETURNING name, config, secrets IS NOT NULL AS "has_secrets!", created_at, updated_at, version"#,
        caller.tenant.as_uuid(),
        name.as_str(),
        config,
        sealed.as_deref()
    )
    .fetch_one(transaction.connection())
    .await?;
    let told = json!(Sealed::new(config, sealed.as_deref()));
    announce(&mut transaction, Subject::Origin(name.as_str()), Some(told)).await?;
    transaction.commit().await?;
    Ok(created_or_replaced(origin.version, format!("/v1/origins/{name}"), origin))
}

/// Deletes an origin that no registered image is in: nothing of it is served from then on.
#[utoipa::path(
    tag = "origins",
    security(("tenantKey" = ["delivery:write"])),
    params(Condition),
    responses((status = 204, description = "It is no more"))
)]
#[delete("/origins/<name>")]
pub async fn delete(
    caller: Caller,
    name: &str,
    condition: Condition,
    database: &State<Database>,
) -> Result<Status, ApiError> {
    caller.needs(Scope::DeliveryWrite)?;
    let name = known(name)?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let mut parts = delivery::lock(&mut transaction).await?;
    let version = sqlx::query_scalar!("DELETE FROM origins WHERE name = $1 RETURNING version", name.as_str())
        .fetch_optional(transaction.connection())
        .await?;
    condition.check(version)?;
    if version.is_none() {
        return Err(ApiError::NotFound("origin"));
    }
    parts.origins.remove(name.as_str());
    delivery::spare(&parts, &transaction)?;
    announce(&mut transaction, Subject::Origin(name.as_str()), None).await?;
    transaction.commit().await?;
    Ok(Status::NoContent)
}

/// What only this operator's settings can tell of a tenant's reach; the rules for all tenants are the edge's.
fn check_reach(origin: &Value, reach: &Reach) -> Result<(), ApiError> {
    if let Some(endpoint) = origin.get("s3").and_then(|s3| s3.get("endpoint")?.as_str()) {
        reach.check_endpoint(endpoint)?;
    }
    origin.get("http").map_or(Ok(()), |http| reach.check_private("http.", http))
}

/// What is not secret, and what is.
fn parted(mut origin: Value) -> (Value, Option<Value>) {
    let mut take = |table: &str, key: &str| {
        let taken = origin.get_mut(table)?.as_object_mut()?.remove(key)?;
        Some(json!({ table: { key: taken } }))
    };
    let secrets = take("s3", "secret_access_key").or_else(|| take("http", "headers"));
    (origin, secrets)
}

/// The name of an origin that may be there: what none can be called is not asked for.
fn known(text: &str) -> Result<OriginName, ApiError> {
    names::origin(text).map_err(|_| ApiError::NotFound("origin"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out() {
        let (config, secrets) = parted(json!({"s3": {"bucket": "b", "secret_access_key": "x"}, "tags": ["t"]}));
        assert_eq!(config, json!({"s3": {"bucket": "b"}, "tags": ["t"]}));
        assert_eq!(secrets, Some(json!({"s3": {"secret_access_key": "x"}})));
        let (config, secrets) = parted(json!({"http": {"base_url": "https://a/", "headers": {"x-key": "x"}}}));
        assert_eq!(config, json!({"http": {"base_url": "https://a/"}}));
        assert_eq!(secrets, Some(json!({"http": {"headers": {"x-key": "x"}}})));
        assert_eq!(parted(json!({"http": {"base_url": "https://a/"}})).1, None);
    }
}
