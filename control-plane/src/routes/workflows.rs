//! `/v1/workflows`: what media go through before they are delivered, or while they are.
//!
//! Secrets are taken out of what is put, sealed, and never shown again.

use isolation::Database;
use rocket::http::Status;
use rocket::serde::json::Json;
use rocket::{Either, State, delete, get, put};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{Created, Versioned, created_or_replaced};
use crate::auth::{Caller, Scope};
use crate::body::Body;
use crate::etag::Condition;
use crate::page::{List, Page, PageQuery};
use crate::problem::ApiError;
use crate::sealing::Seal;
use crate::workflows::{self, Means, Step, Subject, Workflow};

/// A workflow, without its secrets.
#[derive(Debug, Serialize, ToSchema)]
pub struct WorkflowView {
    /// `image`, `video`, `audio`, `document` or `file`; `any` is for those that have none of their own.
    kind: String,
    #[schema(value_type = Vec<Step>)]
    steps: Value,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
    #[serde(skip)]
    version: i64,
}

/// All workflows of the tenant, by their kinds.
#[utoipa::path(
    tag = "workflows",
    security(("tenantKey" = ["admin"])),
    params(PageQuery),
    responses((status = 200, description = "A page, by kind, without secrets", body = Page<WorkflowView>))
)]
#[get("/workflows")]
pub async fn list(
    caller: Caller,
    query: PageQuery,
    database: &State<Database>,
) -> Result<Json<Page<WorkflowView>>, ApiError> {
    caller.needs(Scope::Admin)?;
    let list = List { name: "workflows", tenant: Some(caller.tenant) };
    let after = query.after(list)?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let found = sqlx::query_as!(
        WorkflowView,
        "SELECT kind, steps, created_at, updated_at, version FROM workflows
         WHERE $1::text IS NULL OR kind > $1 ORDER BY kind LIMIT $2",
        after,
        query.look_for()
    )
    .fetch_all(transaction.connection())
    .await?;
    Ok(Json(query.page(list, found, |workflow| workflow.kind.clone())))
}

/// One workflow, without its secrets.
#[utoipa::path(
    tag = "workflows",
    security(("tenantKey" = ["admin"])),
    responses((status = 200, description = "It", body = WorkflowView, headers(("ETag" = String, description = "Its version"))))
)]
#[get("/workflows/<kind>")]
pub async fn get(caller: Caller, kind: &str, database: &State<Database>) -> Result<Versioned<WorkflowView>, ApiError> {
    caller.needs(Scope::Admin)?;
    let subject = known(kind)?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let found = sqlx::query_as!(
        WorkflowView,
        "SELECT kind, steps, created_at, updated_at, version FROM workflows WHERE kind = $1",
        subject.as_str()
    )
    .fetch_optional(transaction.connection())
    .await?;
    let workflow = found.ok_or(ApiError::NotFound("workflow"))?;
    Ok(Versioned::new(workflow.version, workflow))
}

/// Makes a workflow, or replaces it. The secret of an endpoint that is left out stays that of the step of the same name.
#[utoipa::path(
    tag = "workflows",
    security(("tenantKey" = ["admin"])),
    params(Condition),
    request_body = Workflow,
    responses((status = 200, description = "Replaced", body = WorkflowView, headers(("ETag" = String, description = "Its version"))), (status = 201, description = "Made", body = WorkflowView, headers(("ETag" = String, description = "Its version"), ("Location" = String, description = "Where it is"))))
)]
#[put("/workflows/<kind>", data = "<body>")]
pub async fn put(
    caller: Caller,
    kind: &str,
    condition: Condition,
    body: Body<Workflow>,
    database: &State<Database>,
    means: &State<Means>,
    seal: &State<Seal>,
) -> Result<Either<Created<WorkflowView>, Versioned<WorkflowView>>, ApiError> {
    caller.needs(Scope::Admin)?;
    let subject = known(kind)?;
    means.check(&body)?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let before = sqlx::query!("SELECT version, secrets FROM workflows WHERE kind = $1 FOR UPDATE", subject.as_str())
        .fetch_optional(transaction.connection())
        .await?;
    condition.check(before.as_ref().map(|before| before.version))?;
    let sealed = before.and_then(|before| before.secrets);
    let known = workflows::secrets_of(seal, caller.tenant, subject.as_str(), sealed.as_deref())?;
    let (steps, secrets) = body.into_value().parted(known)?;
    let sealed = secrets.sealed(seal, caller.tenant, subject.as_str())?;
    let workflow = sqlx::query_as!(
        WorkflowView,
        "INSERT INTO workflows (tenant_id, kind, steps, secrets) VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant_id, kind)
         DO UPDATE SET steps = $3, secrets = $4, version = workflows.version + 1, updated_at = now()
         RETURNING kind, steps, created_at, updated_at, version",
        caller.tenant.as_uuid(),
        subject.as_str(),
        serde_json::to_value(steps).map_err(|_| ApiError::Internal)?,
        sealed.as_deref()
    )
    .fetch_one(transaction.connection())
    .await?;
    transaction.commit().await?;
    Ok(created_or_replaced(workflow.version, format!("/v1/workflows/{subject}"), workflow))
}

/// Deletes a workflow. What waits for it stays where it is.
#[utoipa::path(
    tag = "workflows",
    security(("tenantKey" = ["admin"])),
    params(Condition),
    responses((status = 204, description = "It is no more"))
)]
#[delete("/workflows/<kind>")]
pub async fn delete(
    caller: Caller,
    kind: &str,
    condition: Condition,
    database: &State<Database>,
) -> Result<Status, ApiError> {
    caller.needs(Scope::Admin)?;
    let subject = known(kind)?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let version = sqlx::query_scalar!("DELETE FROM workflows WHERE kind = $1 RETURNING version", subject.as_str())
        .fetch_optional(transaction.connection())
        .await?;
    condition.check(version)?;
    if version.is_none() {
        return Err(ApiError::NotFound("workflow"));
    }
    transaction.commit().await?;
    Ok(Status::NoContent)
}

fn known(text: &str) -> Result<Subject, ApiError> {
    text.parse().map_err(|()| ApiError::NotFound("kind of media"))
}
