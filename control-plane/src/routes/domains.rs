//! `/v1/domains`: hosts of a tenant's own, which it proves to have by a record in the DNS.

use isolation::{Database, DatabaseError};
use rocket::http::Status;
use rocket::serde::json::Json;
use rocket::{State, delete, get, post};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::answer::Answer;
use crate::auth::{Caller, Scope, random_secret};
use crate::body::Body;
use crate::delivery;
use crate::feed::{Subject, announce};
use crate::idempotency::{Begun, Once};
use crate::names;
use crate::page::{List, Page, PageQuery};
use crate::problem::ApiError;
use crate::sealing::Seal;
use crate::txt::TxtRecords;

/// Most domains of a tenant: edges hold all of them in memory.
const DOMAINS_MAX: i64 = 100;

/// A domain.
#[derive(Debug, Serialize, ToSchema)]
pub struct Domain {
    host: String,
    record: TxtRecord,
    /// Since when it is the tenant's; `null` while it is a claim.
    #[serde(with = "time::serde::rfc3339::option")]
    proved_at: Option<OffsetDateTime>,
    /// When the record was last looked for.
    #[serde(with = "time::serde::rfc3339::option")]
    checked_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// The record that proves it.
#[derive(Debug, Serialize, ToSchema)]
pub struct TxtRecord {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    value: String,
}

/// What is claimed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimDomain {
    /// In any script; it is kept as the DNS has it.
    host: String,
}

/// As the database has it.
struct Row {
    host: String,
    challenge: String,
    proved_at: Option<OffsetDateTime>,
    checked_at: Option<OffsetDateTime>,
    created_at: OffsetDateTime,
}

impl From<Row> for Domain {
    fn from(row: Row) -> Self {
        let Row { host, challenge, proved_at, checked_at, created_at } = row;
        let (name, value) = (format!("_calotype.{host}"), format!("calotype-domain={challenge}"));
        Self { host, record: TxtRecord { name, kind: "TXT", value }, proved_at, checked_at, created_at }
    }
}

/// Claims a host. It is not the tenant's before it is proved, and a claim keeps nobody else from it.
#[utoipa::path(
    tag = "domains",
    security(("tenantKey" = ["delivery:write"])),
    params(Once),
    request_body = ClaimDomain,
    responses((status = 201, description = "Claimed: the record proves it", body = Domain, headers(("Location" = String, description = "Where it is"))))
)]
#[post("/domains", data = "<body>")]
pub async fn create(
    caller: Caller,
    once: Once,
    body: Body<ClaimDomain>,
    database: &State<Database>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    caller.needs(Scope::DeliveryWrite)?;
    let host = names::host(&body.host)?;
    let challenge = random_secret().map_err(|_| ApiError::Internal)?;
    let mut work = match once.begin(database, seal, &caller.mandate, &body.fingerprint).await? {
        Begun::First(work) => work,
        Begun::Again(answer) => return Ok(answer),
    };
    delivery::hold(work.transaction()).await?;
    let count = sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM domains"#);
    if count.fetch_one(work.connection()).await? >= DOMAINS_MAX {
        return Err(ApiError::field("host", format!("a tenant has at most {DOMAINS_MAX} domains: delete one")));
    }
    let inserted = sqlx::query_as!(
        Row,
        "INSERT INTO domains (tenant_id, host, challenge) VALUES ($1, $2, $3)
         RETURNING host, challenge, proved_at, checked_at, created_at",
        caller.tenant.as_uuid(),
        host,
        challenge
    )
    .fetch_one(work.connection())
    .await;
    let row = inserted.map_err(|error| match error.into() {
        DatabaseError::Exists { .. } => ApiError::Exists("domain of this host"),
        error => ApiError::Database(error),
    })?;
    work.commit(Answer::created(1, format!("/v1/domains/{host}"), &Domain::from(row))?).await
}

/// All domains of the tenant, by their hosts.
#[utoipa::path(
    tag = "domains",
    security(("tenantKey" = ["delivery:write"])),
    params(PageQuery),
    responses((status = 200, description = "A page, by host", body = Page<Domain>))
)]
#[get("/domains")]
pub async fn list(
    caller: Caller,
    query: PageQuery,
    database: &State<Database>,
) -> Result<Json<Page<Domain>>, ApiError> {
    caller.needs(Scope::DeliveryWrite)?;
    let list = List { name: "domains", tenant: Some(caller.tenant) };
    let after = query.after(list)?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let found = sqlx::query_as!(
        Row,
        "SELECT host, challenge, proved_at, checked_at, created_at FROM domains
         WHERE $1::text IS NULL OR host > $1 ORDER BY host LIMIT $2",
        after,
        query.look_for()
    )
    .fetch_all(transaction.connection())
    .await?;
    let found = found.into_iter().map(Domain::from).collect();
    Ok(Json(query.page(list, found, |domain| domain.host.clone())))
}

/// One domain, with the record that proves it.
#[utoipa::path(
    tag = "domains",
    security(("tenantKey" = ["delivery:write"])),
    responses((status = 200, description = "It", body = Domain))
)]
#[get("/domains/<host>")]
pub async fn get(caller: Caller, host: &str, database: &State<Database>) -> Result<Json<Domain>, ApiError> {
    caller.needs(Scope::DeliveryWrite)?;
    let row = find(database, &caller, &known(host)?).await?;
    Ok(Json(row.into()))
}

/// Looks for the record. When it is there the host is the tenant's and edges are told; nobody else can prove it any more.
#[utoipa::path(
    tag = "domains",
    security(("tenantKey" = ["delivery:write"])),
    responses((status = 200, description = "It is proved", body = Domain))
)]
#[post("/domains/<host>/verify")]
pub async fn verify(
    caller: Caller,
    host: &str,
    database: &State<Database>,
    records: &State<TxtRecords>,
) -> Result<Json<Domain>, ApiError> {
    caller.needs(Scope::DeliveryWrite)?;
    let row = find(database, &caller, &known(host)?).await?;
    if row.proved_at.is_some() {
        return Ok(Json(row.into()));
    }
    let (claimed, wanted) = (row.challenge.clone(), Domain::from(row));
    let texts = records.of(&wanted.record.name).await?;
    let is_proved = texts.contains(&wanted.record.value);
    let mut transaction = database.begin(&caller.mandate).await?;
    // Only if it is the same claim still: somebody may have deleted it meanwhile, and made another one.
    let noted = sqlx::query_as!(
        Row,
        "UPDATE domains SET checked_at = now(), proved_at = coalesce(proved_at, CASE WHEN $3 THEN now() END)
         WHERE host = $1 AND challenge = $2
         RETURNING host, challenge, proved_at, checked_at, created_at",
        wanted.host,
        claimed,
        is_proved
    )
    .fetch_optional(transaction.connection())
    .await;
    let noted = noted.map_err(|error| match error.into() {
        DatabaseError::Exists { .. } => ApiError::DomainTaken,
        error => ApiError::Database(error),
    })?;
    let row = noted.ok_or(ApiError::NotFound("domain"))?;
    if is_proved {
        announce(&mut transaction, Subject::Domain(&row.host), Some(Value::Bool(true))).await?;
    }
    transaction.commit().await?;
    if row.proved_at.is_some() { Ok(Json(row.into())) } else { Err(ApiError::DomainUnproved) }
}

/// Gives a domain up: nothing is served for it from then on, and whoever proves it next has it.
#[utoipa::path(
    tag = "domains",
    security(("tenantKey" = ["delivery:write"])),
    responses((status = 204, description = "It is no more"))
)]
#[delete("/domains/<host>")]
pub async fn delete(caller: Caller, host: &str, database: &State<Database>) -> Result<Status, ApiError> {
    caller.needs(Scope::DeliveryWrite)?;
    let host = known(host)?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let deleted = sqlx::query!("DELETE FROM domains WHERE host = $1 RETURNING proved_at", host)
        .fetch_optional(transaction.connection())
        .await?;
    let deleted = deleted.ok_or(ApiError::NotFound("domain"))?;
    // Edges were not told of a claim.
    if deleted.proved_at.is_some() {
        announce(&mut transaction, Subject::Domain(&host), None).await?;
    }
    transaction.commit().await?;
    Ok(Status::NoContent)
}

async fn find(database: &Database, caller: &Caller, host: &str) -> Result<Row, ApiError> {
    let mut transaction = database.begin(&caller.mandate).await?;
    let found = sqlx::query_as!(
        Row,
        "SELECT host, challenge, proved_at, checked_at, created_at FROM domains WHERE host = $1",
        host
    )
    .fetch_optional(transaction.connection())
    .await?;
    found.ok_or(ApiError::NotFound("domain"))
}

/// A host that may be there: what none can be called is not asked for.
fn known(text: &str) -> Result<String, ApiError> {
    names::host(text).map_err(|_| ApiError::NotFound("domain"))
}
