//! `/v1/presets`: a tenant's registered sets of ops.

use isolation::Database;
use rocket::http::Status;
use rocket::serde::json::Json;
use rocket::{Either, State, delete, get, put};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use transform_url::value::Name;
use utoipa::ToSchema;

use super::{Created, Versioned, created_or_replaced};
use crate::auth::{Caller, Scope};
use crate::body::Body;
use crate::delivery;
use crate::etag::Condition;
use crate::feed::{Subject, announce};
use crate::names;
use crate::page::{List, Page, PageQuery};
use crate::problem::ApiError;

/// Most presets of a tenant: edges hold all of them in memory.
const PRESETS_MAX: usize = 1000;

/// A preset.
#[derive(Debug, Serialize, ToSchema)]
pub struct Preset {
    name: String,
    ops: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
    #[serde(skip)]
    version: i64,
}

/// What a preset is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutPreset {
    ops: String,
}

/// All presets of the tenant, by their names.
#[utoipa::path(
    tag = "presets",
    security(("tenantKey" = [])),
    params(PageQuery),
    responses((status = 200, description = "A page, by name", body = Page<Preset>))
)]
#[get("/presets")]
pub async fn list(
    caller: Caller,
    query: PageQuery,
    database: &State<Database>,
) -> Result<Json<Page<Preset>>, ApiError> {
    let list = List { name: "presets", tenant: Some(caller.tenant) };
    let after = query.after(list)?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let found = sqlx::query_as!(
        Preset,
        "SELECT name, ops, created_at, updated_at, version FROM presets
         WHERE $1::text IS NULL OR name > $1 ORDER BY name LIMIT $2",
        after,
        query.look_for()
    )
    .fetch_all(transaction.connection())
    .await?;
    Ok(Json(query.page(list, found, |preset| preset.name.clone())))
}

/// One preset.
#[utoipa::path(
    tag = "presets",
    security(("tenantKey" = [])),
    responses((status = 200, description = "It", body = Preset, headers(("ETag" = String, description = "Its version"))))
)]
#[get("/presets/<name>")]
pub async fn get(caller: Caller, name: &str, database: &State<Database>) -> Result<Versioned<Preset>, ApiError> {
    let name = known(name)?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let found = sqlx::query_as!(
        Preset,
        "SELECT name, ops, created_at, updated_at, version FROM presets WHERE name = $1",
        name.as_str()
    )
    .fetch_optional(transaction.connection())
    .await?;
    let preset = found.ok_or(ApiError::NotFound("preset"))?;
    Ok(Versioned::new(preset.version, preset))
}

/// Makes a preset, or replaces it.
#[utoipa::path(
    tag = "presets",
    security(("tenantKey" = ["delivery:write"])),
    params(Condition),
    request_body = PutPreset,
    responses((status = 200, description = "Replaced", body = Preset, headers(("ETag" = String, description = "Its version"))), (status = 201, description = "Made", body = Preset, headers(("ETag" = String, description = "Its version"), ("Location" = String, description = "Where it is"))))
)]
#[put("/presets/<name>", data = "<body>")]
pub async fn put(
    caller: Caller,
    name: &str,
    condition: Condition,
    body: Body<PutPreset>,
    database: &State<Database>,
) -> Result<Either<Created<Preset>, Versioned<Preset>>, ApiError> {
    caller.needs(Scope::DeliveryWrite)?;
    let name = names::name(name)?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let mut parts = delivery::lock(&mut transaction).await?;
    let before = sqlx::query_scalar!("SELECT version FROM presets WHERE name = $1", name.as_str())
        .fetch_optional(transaction.connection())
        .await?;
    condition.check(before)?;
    parts.presets.insert(name.to_string(), body.ops.clone());
    if parts.presets.len() > PRESETS_MAX {
        return Err(ApiError::field("name", format!("a tenant has at most {PRESETS_MAX} presets: delete one")));
    }
    delivery::accept(&parts, &transaction)?;
    let preset = sqlx::query_as!(
        Preset,
        "INSERT INTO presets (tenant_id, name, ops) VALUES ($1, $2, $3)
         ON CONFLICT (tenant_id, name) DO UPDATE SET ops = $3, version = presets.version + 1, updated_at = now()
         RETURNING name, ops, created_at, updated_at, version",
        caller.tenant.as_uuid(),
        name.as_str(),
        body.ops
    )
    .fetch_one(transaction.connection())
    .await?;
    announce(&mut transaction, Subject::Preset(name.as_str()), Some(Value::String(preset.ops.clone()))).await?;
    transaction.commit().await?;
    Ok(created_or_replaced(preset.version, format!("/v1/presets/{name}"), preset))
}

/// Deletes a preset: URLs that name it are refused from then on. Not one that the policy names.
#[utoipa::path(
    tag = "presets",
    security(("tenantKey" = ["delivery:write"])),
    params(Condition),
    responses((status = 204, description = "It is no more"))
)]
#[delete("/presets/<name>")]
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
    let version = sqlx::query_scalar!("DELETE FROM presets WHERE name = $1 RETURNING version", name.as_str())
        .fetch_optional(transaction.connection())
        .await?;
    condition.check(version)?;
    if version.is_none() {
        return Err(ApiError::NotFound("preset"));
    }
    parts.presets.remove(name.as_str());
    delivery::spare(&parts, &transaction)?;
    announce(&mut transaction, Subject::Preset(name.as_str()), None).await?;
    transaction.commit().await?;
    Ok(Status::NoContent)
}

/// The name of a preset that may be there: what none can be called is not asked for.
fn known(text: &str) -> Result<Name, ApiError> {
    names::name(text).map_err(|_| ApiError::NotFound("preset"))
}
