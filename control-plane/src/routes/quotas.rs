//! `/v1/quotas`: how much a tenant may have, which the operator says, and how much of that it has.

use isolation::{Database, DatabaseError, TenantTransaction};
use rocket::serde::json::Json;
use rocket::{State, get, put};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{Versioned, tenants};
use crate::auth::{Admin, Caller};
use crate::body::Body;
use crate::etag::Condition;
use crate::problem::ApiError;
use crate::quotas::{end_of, settle};

/// Highest limit, which JSON carries exactly everywhere.
const LIMIT_MAX: i64 = 1 << 53;

/// How much a tenant may have; what is left out, or `null`, is without limit.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutQuotas {
    /// Bytes of media.
    storage_bytes: Option<i64>,
    /// Media.
    files: Option<i64>,
    /// Bytes of bodies that edges send in a calendar month (UTC).
    bandwidth_bytes: Option<i64>,
    /// Renditions that edges make in a calendar month (UTC).
    transforms: Option<i64>,
}

/// One quota.
#[derive(Debug, Serialize, ToSchema)]
pub struct Quota {
    /// `null` is without limit.
    limit: Option<i64>,
    /// As far as it is known.
    used: i64,
}

/// How much a tenant may have, and has.
#[derive(Debug, Serialize, ToSchema)]
pub struct Quotas {
    storage_bytes: Quota,
    files: Quota,
    bandwidth_bytes: Quota,
    transforms: Quota,
    /// When what is used of a month's begins anew.
    #[serde(with = "time::serde::rfc3339")]
    month_ends_at: OffsetDateTime,
    #[serde(skip)]
    version: i64,
}

/// The tenant's quotas.
#[utoipa::path(
    tag = "quotas",
    security(("tenantKey" = [])),
    responses((status = 200, description = "They", body = Quotas))
)]
#[get("/quotas")]
pub async fn get(caller: Caller, database: &State<Database>) -> Result<Json<Quotas>, ApiError> {
    Ok(Json(read(&mut database.begin(&caller.mandate).await?).await?))
}

/// The quotas of a tenant, for the operator.
#[utoipa::path(
    tag = "quotas",
    security(("adminKey" = [])),
    responses((status = 200, description = "They", body = Quotas, headers(("ETag" = String, description = "Their version"))))
)]
#[get("/tenants/<slug>/quotas")]
pub async fn get_of(admin: Admin, slug: &str, database: &State<Database>) -> Result<Versioned<Quotas>, ApiError> {
    let tenant = tenants::find(database, slug).await?;
    let quotas = read(&mut database.begin(&admin.mandate(tenant.id.into())).await?).await?;
    Ok(Versioned::new(quotas.version, quotas))
}

/// Sets the quotas of a tenant, all of them. Less than it has already takes nothing away; more than it had lets it go on at once.
#[utoipa::path(
    tag = "quotas",
    security(("adminKey" = [])),
    params(Condition),
    request_body = PutQuotas,
    responses((status = 200, description = "In force; edges are told within a second", body = Quotas, headers(("ETag" = String, description = "Their version"))))
)]
#[put("/tenants/<slug>/quotas", data = "<body>")]
pub async fn put(
    admin: Admin,
    slug: &str,
    condition: Condition,
    body: Body<PutQuotas>,
    database: &State<Database>,
) -> Result<Versioned<Quotas>, ApiError> {
    let PutQuotas { storage_bytes, files, bandwidth_bytes, transforms } = *body;
    for (name, limit) in [
        ("storage_bytes", storage_bytes),
        ("files", files),
        ("bandwidth_bytes", bandwidth_bytes),
        ("transforms", transforms),
    ] {
        if limit.is_some_and(|limit| !(0..=LIMIT_MAX).contains(&limit)) {
            return Err(ApiError::field(name, format!("is 0 to {LIMIT_MAX}, or null")));
        }
    }
    let tenant = tenants::find(database, slug).await?;
    let mut transaction = database.begin(&admin.mandate(tenant.id.into())).await?;
    // There is always one to lock.
    let made = sqlx::query!("INSERT INTO quotas (tenant_id, version) VALUES ($1, 0) ON CONFLICT DO NOTHING", tenant.id);
    made.execute(transaction.connection()).await.map_err(|error| match error.into() {
        DatabaseError::Refers { .. } => ApiError::NotFound("tenant"),
        error => ApiError::from(error),
    })?;
    let version = sqlx::query_scalar!("SELECT version FROM quotas FOR UPDATE");
    condition.check(Some(version.fetch_one(transaction.connection()).await?))?;
    sqlx::query!(
        "UPDATE quotas SET storage_bytes = $1, files = $2, bandwidth_bytes = $3, transforms = $4, version = version + 1,
             updated_at = now()",
        storage_bytes,
        files,
        bandwidth_bytes,
        transforms
    )
    .execute(transaction.connection())
    .await?;
    settle(&mut transaction).await?;
    let quotas = read(&mut transaction).await?;
    transaction.commit().await?;
    Ok(Versioned::new(quotas.version, quotas))
}

async fn read(transaction: &mut TenantTransaction) -> Result<Quotas, ApiError> {
    let row = sqlx::query!(
        r#"SELECT limits.storage_bytes AS "storage_bytes?", limits.files AS "files?",
             limits.bandwidth_bytes AS "bandwidth_bytes?", limits.transforms AS "transforms?",
             coalesce(limits.version, 0) AS "version!",
             coalesce(stored.bytes, 0) AS "stored_bytes!", coalesce(stored.files, 0) AS "stored_files!",
             of_month.bytes AS "bytes!", of_month.transforms AS "made!", utc_month() AS "month!"
           FROM (
             SELECT coalesce(sum(bytes), 0)::bigint AS bytes, coalesce(sum(transforms), 0)::bigint AS transforms
             FROM usage_days WHERE day >= utc_month() AND day < utc_month() + interval '1 month'
           ) AS of_month
           LEFT JOIN quotas AS limits ON true
           LEFT JOIN stored_totals AS stored ON true"#
    )
    .fetch_one(transaction.connection())
    .await?;
    let end = i64::try_from(end_of(row.month)).ok().and_then(|end| OffsetDateTime::from_unix_timestamp(end).ok());
    Ok(Quotas {
        storage_bytes: Quota { limit: row.storage_bytes, used: row.stored_bytes },
        files: Quota { limit: row.files, used: row.stored_files },
        bandwidth_bytes: Quota { limit: row.bandwidth_bytes, used: row.bytes },
        transforms: Quota { limit: row.transforms, used: row.made },
        month_ends_at: end.ok_or(ApiError::Internal)?,
        version: row.version,
    })
}
