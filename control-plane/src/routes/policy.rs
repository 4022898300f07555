//! `/v1/policy`: everything else that a tenant is allowed, as one document.

use isolation::Database;
use rocket::{State, get, put};
use serde_json::{Map, Value};

use super::Versioned;
use crate::auth::{Caller, Scope};
use crate::body::Body;
use crate::delivery::{self, Reach};
use crate::etag::Condition;
use crate::feed::{Subject, announce};
use crate::problem::ApiError;

/// The keys of a tenant in the policy file, but for those that have routes of their own.
type Document = Map<String, Value>;

/// The policy in force.
#[utoipa::path(
    tag = "policy",
    security(("tenantKey" = [])),
    responses((status = 200, description = "It, as it was put", body = Object, headers(("ETag" = String, description = "Its version"))))
)]
#[get("/policy")]
pub async fn get(caller: Caller, database: &State<Database>) -> Result<Versioned<Value>, ApiError> {
    let mut transaction = database.begin(&caller.mandate).await?;
    let row = sqlx::query!("SELECT document, version FROM policies").fetch_optional(transaction.connection()).await?;
    let row = row.ok_or(ApiError::NotFound("policy"))?;
    Ok(Versioned::new(row.version, row.document))
}

/// Puts another policy in force, as a whole: what it does not say is as by default.
#[utoipa::path(
    tag = "policy",
    security(("tenantKey" = ["delivery:write"])),
    params(Condition),
    request_body = Object,
    responses((status = 200, description = "In force at edges within a second", body = Object, headers(("ETag" = String, description = "Its version"))))
)]
#[put("/policy", data = "<body>")]
pub async fn put(
    caller: Caller,
    condition: Condition,
    body: Body<Document>,
    database: &State<Database>,
    reach: &State<Reach>,
) -> Result<Versioned<Value>, ApiError> {
    caller.needs(Scope::DeliveryWrite)?;
    let document = Value::Object(Map::clone(&body));
    reach.check_private("", &document)?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let mut parts = delivery::lock(&mut transaction).await?;
    let before = sqlx::query_scalar!("SELECT version FROM policies").fetch_optional(transaction.connection()).await?;
    condition.check(before)?;
    parts.policy = Map::clone(&body);
    delivery::accept(&parts, &transaction)?;
    let version = sqlx::query_scalar!(
        "UPDATE policies SET document = $1, version = version + 1, updated_at = now() RETURNING version",
        document
    )
    .fetch_one(transaction.connection())
    .await?;
    announce(&mut transaction, Subject::Policy, Some(document.clone())).await?;
    transaction.commit().await?;
    Ok(Versioned::new(version, document))
}
