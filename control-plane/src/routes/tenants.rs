//! `/v1/tenants`: tenants, by the operator.

use isolation::{Database, DatabaseError, TenantKey, TenantTransaction};
use rocket::http::Status;
use rocket::serde::json::Json;
use rocket::{State, delete, get, patch, post};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tenancy::TenantState;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::api_keys::{self, NewKey};
use super::{Created, Versioned};
use crate::auth::{Admin, Scope};
use crate::body::Body;
use crate::etag::Condition;
use crate::feed::{Subject, announce};
use crate::idempotency::NotKept;
use crate::names;
use crate::page::{List, Page, PageQuery};
use crate::problem::ApiError;

/// How long the deletion of a tenant may take.
const DELETE_TIME: &str = "SET LOCAL statement_timeout = '10min'";

const LIST: List = List { name: "tenants", tenant: None };

/// A tenant, as the operator sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Tenant {
    pub(super) id: Uuid,
    slug: String,
    name: String,
    state: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
    #[serde(skip)]
    version: i64,
}

/// A new tenant, with its first key.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreatedTenant {
    #[serde(flatten)]
    tenant: Tenant,
    api_key: NewKey,
}

/// What a tenant begins with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTenant {
    slug: String,
    name: String,
}

/// What becomes of a tenant; what is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeTenant {
    name: Option<String>,
    #[schema(value_type = Option<String>, pattern = "^(active|suspended)$")]
    state: Option<TenantState>,
}

/// Makes a tenant and its first key, which may do everything for it and is shown this once.
#[utoipa::path(
    tag = "tenants",
    security(("adminKey" = [])),
    request_body = CreateTenant,
    responses((status = 201, description = "Made, with its first key", body = CreatedTenant, headers(("ETag" = String, description = "Its version"), ("Location" = String, description = "Where it is"))))
)]
#[post("/tenants", data = "<body>")]
pub async fn create(
    admin: Admin,
    _not_kept: NotKept,
    body: Body<CreateTenant>,
    database: &State<Database>,
) -> Result<Created<CreatedTenant>, ApiError> {
    let (slug, name) = (names::slug(&body.slug)?, names::title(&body.name)?);
    let key = TenantKey::generate();
    let mut transaction = database.begin(&admin.mandate(key)).await?;
    let inserted = sqlx::query_as!(
        Tenant,
        "INSERT INTO tenants (id, slug, name) VALUES ($1, $2, $3)
         RETURNING id, slug, name, state, created_at, updated_at, version",
        key.as_uuid(),
        slug.as_str(),
        name
    )
    .fetch_one(transaction.connection())
    .await;
    let tenant = inserted.map_err(|error| match error.into() {
        DatabaseError::Exists { .. } => ApiError::Exists("tenant of this slug"),
        error => ApiError::Database(error),
    })?;
    sqlx::query!("INSERT INTO policies (tenant_id) VALUES ($1)", key.as_uuid())
        .execute(transaction.connection())
        .await?;
    let api_key = api_keys::insert(&mut transaction, "first key", &[Scope::Admin], None).await?;
    announce_tenant(&mut transaction, &tenant).await?;
    transaction.commit().await?;
    let location = format!("/v1/tenants/{}", tenant.slug);
    Ok(Created::new(tenant.version, location, CreatedTenant { tenant, api_key }))
}

/// All tenants, by their names in URLs.
#[utoipa::path(
    tag = "tenants",
    security(("adminKey" = [])),
    params(PageQuery),
    responses((status = 200, description = "A page, by slug", body = Page<Tenant>))
)]
#[get("/tenants")]
pub async fn list(_admin: Admin, query: PageQuery, database: &State<Database>) -> Result<Json<Page<Tenant>>, ApiError> {
    let after = query.after(LIST)?.unwrap_or_default();
    let found = sqlx::query_as!(
        Tenant,
        r#"SELECT id AS "id!", slug AS "slug!", name AS "name!", state AS "state!", created_at AS "created_at!",
             updated_at AS "updated_at!", version AS "version!"
           FROM list_tenants($1, $2)"#,
        after,
        query.look_for() as i32
    )
    .fetch_all(database.across())
    .await?;
    Ok(Json(query.page(LIST, found, |tenant| tenant.slug.clone())))
}

/// One tenant.
#[utoipa::path(
    tag = "tenants",
    security(("adminKey" = [])),
    responses((status = 200, description = "It", body = Tenant, headers(("ETag" = String, description = "Its version"))))
)]
#[get("/tenants/<slug>")]
pub async fn get(_admin: Admin, slug: &str, database: &State<Database>) -> Result<Versioned<Tenant>, ApiError> {
    let tenant = find(database, slug).await?;
    Ok(Versioned::new(tenant.version, tenant))
}

/// Renames, suspends or restores a tenant.
#[utoipa::path(
    tag = "tenants",
    security(("adminKey" = [])),
    params(Condition),
    request_body = ChangeTenant,
    responses((status = 200, description = "As it is now", body = Tenant, headers(("ETag" = String, description = "Its version"))))
)]
#[patch("/tenants/<slug>", data = "<body>")]
pub async fn change(
    admin: Admin,
    slug: &str,
    condition: Condition,
    body: Body<ChangeTenant>,
    database: &State<Database>,
) -> Result<Versioned<Tenant>, ApiError> {
    let name = body.name.as_deref().map(names::title).transpose()?;
    let (mut transaction, before) = lock(database, &admin, slug, condition).await?;
    let tenant = sqlx::query_as!(
        Tenant,
        "UPDATE tenants
         SET name = coalesce($2, name), state = coalesce($3, state), version = version + 1, updated_at = now()
         WHERE id = $1
         RETURNING id, slug, name, state, created_at, updated_at, version",
        before.id,
        name,
        body.state.map(TenantState::as_str)
    )
    .fetch_one(transaction.connection())
    .await?;
    announce_tenant(&mut transaction, &tenant).await?;
    transaction.commit().await?;
    Ok(Versioned::new(tenant.version, tenant))
}

/// Deletes a tenant with everything that it has. Only a suspended one: that is how a slip of the hand is told from a decision.
#[utoipa::path(
    tag = "tenants",
    security(("adminKey" = [])),
    params(Condition),
    responses((status = 204, description = "It is no more"))
)]
#[delete("/tenants/<slug>")]
pub async fn delete(
    admin: Admin,
    slug: &str,
    condition: Condition,
    database: &State<Database>,
) -> Result<Status, ApiError> {
    let (mut transaction, tenant) = lock(database, &admin, slug, condition).await?;
    if tenant.state != TenantState::Suspended.as_str() {
        return Err(ApiError::field("state", "only a suspended tenant can be deleted"));
    }
    // With many media it takes longer than any other statement may.
    sqlx::query(DELETE_TIME).execute(transaction.connection()).await?;
    sqlx::query!("DELETE FROM tenants WHERE id = $1", tenant.id).execute(transaction.connection()).await?;
    announce(&mut transaction, Subject::Tenant, None).await?;
    transaction.commit().await?;
    Ok(Status::NoContent)
}

/// The tenant of this name.
///
/// # Errors
/// [`ApiError::NotFound`].
pub(super) async fn find(database: &Database, slug: &str) -> Result<Tenant, ApiError> {
    // What no tenant can be called is not asked for.
    names::slug(slug).map_err(|_| ApiError::NotFound("tenant"))?;
    let found = sqlx::query_as!(
        Tenant,
        r#"SELECT id AS "id!", slug AS "slug!", name AS "name!", state AS "state!", created_at AS "created_at!",
             updated_at AS "updated_at!", version AS "version!"
           FROM find_tenant($1)"#,
        slug
    )
    .fetch_optional(database.across())
    .await?;
    found.ok_or(ApiError::NotFound("tenant"))
}

/// The tenant, in a transaction of its own, as it stays until that ends.
async fn lock(
    database: &Database,
    admin: &Admin,
    slug: &str,
    condition: Condition,
) -> Result<(TenantTransaction, Tenant), ApiError> {
    let found = find(database, slug).await?;
    let mut transaction = database.begin(&admin.mandate(found.id.into())).await?;
    let tenant = sqlx::query_as!(
        Tenant,
        "SELECT id, slug, name, state, created_at, updated_at, version FROM tenants WHERE id = $1 FOR UPDATE",
        found.id
    )
    .fetch_optional(transaction.connection())
    .await?
    // It was deleted meanwhile.
    .ok_or(ApiError::NotFound("tenant"))?;
    condition.check(Some(tenant.version))?;
    Ok((transaction, tenant))
}

async fn announce_tenant(transaction: &mut TenantTransaction, tenant: &Tenant) -> Result<(), ApiError> {
    announce(transaction, Subject::Tenant, Some(json!({ "slug": tenant.slug, "state": tenant.state }))).await?;
    Ok(())
}
