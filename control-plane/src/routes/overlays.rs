//! `/v1/overlays`: a tenant's registered images, which `overlay` lays over a picture and `fallback` puts in its place.

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

/// Most registered images of a tenant: edges hold all of them in memory.
const OVERLAYS_MAX: usize = 1000;

/// Longest source, in bytes.
const SOURCE_BYTES_MAX: usize = 2048;

/// A registered image.
#[derive(Debug, Serialize, ToSchema)]
pub struct Overlay {
    name: String,
    source: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
    #[serde(skip)]
    version: i64,
}

/// What a registered image is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutOverlay {
    /// As in URLs: the public id of an upload, or `@origin/path`.
    source: String,
}

/// All registered images of the tenant, by their names.
#[utoipa::path(
    tag = "overlays",
    security(("tenantKey" = [])),
    params(PageQuery),
    responses((status = 200, description = "A page, by name", body = Page<Overlay>))
)]
#[get("/overlays")]
pub async fn list(
    caller: Caller,
    query: PageQuery,
    database: &State<Database>,
) -> Result<Json<Page<Overlay>>, ApiError> {
    let list = List { name: "overlays", tenant: Some(caller.tenant) };
    let after = query.after(list)?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let found = sqlx::query_as!(
        Overlay,
        "SELECT name, source, created_at, updated_at, version FROM images
         WHERE $1::text IS NULL OR name > $1 ORDER BY name LIMIT $2",
        after,
        query.look_for()
    )
    .fetch_all(transaction.connection())
    .await?;
    Ok(Json(query.page(list, found, |overlay| overlay.name.clone())))
}

/// One registered image.
#[utoipa::path(
    tag = "overlays",
    security(("tenantKey" = [])),
    responses((status = 200, description = "It", body = Overlay, headers(("ETag" = String, description = "Its version"))))
)]
#[get("/overlays/<name>")]
pub async fn get(caller: Caller, name: &str, database: &State<Database>) -> Result<Versioned<Overlay>, ApiError> {
    let name = known(name)?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let found = sqlx::query_as!(
        Overlay,
        "SELECT name, source, created_at, updated_at, version FROM images WHERE name = $1",
        name.as_str()
    )
    .fetch_optional(transaction.connection())
    .await?;
    let overlay = found.ok_or(ApiError::NotFound("overlay"))?;
    Ok(Versioned::new(overlay.version, overlay))
}

/// Registers an image, or replaces it.
#[utoipa::path(
    tag = "overlays",
    security(("tenantKey" = ["delivery:write"])),
    params(Condition),
    request_body = PutOverlay,
    responses((status = 200, description = "Replaced", body = Overlay, headers(("ETag" = String, description = "Its version"))), (status = 201, description = "Made", body = Overlay, headers(("ETag" = String, description = "Its version"), ("Location" = String, description = "Where it is"))))
)]
#[put("/overlays/<name>", data = "<body>")]
pub async fn put(
    caller: Caller,
    name: &str,
    condition: Condition,
    body: Body<PutOverlay>,
    database: &State<Database>,
) -> Result<Either<Created<Overlay>, Versioned<Overlay>>, ApiError> {
    caller.needs(Scope::DeliveryWrite)?;
    let name = names::name(name)?;
    if !(1..=SOURCE_BYTES_MAX).contains(&body.source.len()) {
        return Err(ApiError::field("source", format!("has 1 to {SOURCE_BYTES_MAX} bytes")));
    }
    let mut transaction = database.begin(&caller.mandate).await?;
    let mut parts = delivery::lock(&mut transaction).await?;
    let before = sqlx::query_scalar!("SELECT version FROM images WHERE name = $1", name.as_str())
        .fetch_optional(transaction.connection())
        .await?;
    condition.check(before)?;
    parts.images.insert(name.to_string(), body.source.clone());
    if parts.images.len() > OVERLAYS_MAX {
        return Err(ApiError::field("name", format!("a tenant has at most {OVERLAYS_MAX} overlays: delete one")));
    }
    delivery::accept(&parts, &transaction)?;
    let overlay = sqlx::query_as!(
        Overlay,
        "INSERT INTO images (tenant_id, name, source) VALUES ($1, $2, $3)
         ON CONFLICT (tenant_id, name) DO UPDATE SET source = $3, version = images.version + 1, updated_at = now()
         RETURNING name, source, created_at, updated_at, version",
        caller.tenant.as_uuid(),
        name.as_str(),
        body.source
    )
    .fetch_one(transaction.connection())
    .await?;
    announce(&mut transaction, Subject::Image(name.as_str()), Some(Value::String(overlay.source.clone()))).await?;
    transaction.commit().await?;
    Ok(created_or_replaced(overlay.version, format!("/v1/overlays/{name}"), overlay))
}

/// Takes an image off the list: URLs that name it are refused from then on.
#[utoipa::path(
    tag = "overlays",
    security(("tenantKey" = ["delivery:write"])),
    params(Condition),
    responses((status = 204, description = "It is no more"))
)]
#[delete("/overlays/<name>")]
pub async fn delete(
    caller: Caller,
    name: &str,
    condition: Condition,
    database: &State<Database>,
) -> Result<Status, ApiError> {
    caller.needs(Scope::DeliveryWrite)?;
    let name = known(name)?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let version = sqlx::query_scalar!("DELETE FROM images WHERE name = $1 RETURNING version", name.as_str())
        .fetch_optional(transaction.connection())
        .await?;
    condition.check(version)?;
    if version.is_none() {
        return Err(ApiError::NotFound("overlay"));
    }
    announce(&mut transaction, Subject::Image(name.as_str()), None).await?;
    transaction.commit().await?;
    Ok(Status::NoContent)
}

/// The name of an image that may be there: what none can be called is not asked for.
fn known(text: &str) -> Result<Name, ApiError> {
    names::name(text).map_err(|_| ApiError::NotFound("overlay"))
}
