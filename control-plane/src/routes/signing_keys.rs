//! `/v1/signing-keys`: the keys that a tenant's delivery URLs are signed with.

use isolation::{Database, DatabaseError};
use rocket::http::Status;
use rocket::serde::json::Json;
use rocket::{State, delete, get, post};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tenancy::feed::kind;
use time::OffsetDateTime;
use transform_url::signing::{KeyName, SECRET_BYTES};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::answer::Answer;
use crate::auth::{Caller, Scope, random_secret};
use crate::body::Body;
use crate::delivery;
use crate::feed::{Sealed, Subject, announce};
use crate::idempotency::{Begun, Once};
use crate::page::{List, Page, PageQuery};
use crate::problem::ApiError;
use crate::sealing::{Place, Seal};

/// Most signing keys of a tenant: edges hold all of them in memory.
const KEYS_MAX: i64 = 100;

/// A key as it was made: the only time that its secret is shown.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewSigningKey {
    kid: String,
    secret: String,
    /// What signatures name the tenant by.
    tenant_id: Uuid,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// A key as it is listed.
#[derive(Debug, Serialize, ToSchema)]
pub struct SigningKey {
    kid: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// What a key is to be called, and its secret, if there is one already.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSigningKey {
    kid: String,
    secret: Option<String>,
}

/// Makes a key, with a secret of its own or a given one.
#[utoipa::path(
    tag = "signing keys",
    security(("tenantKey" = ["delivery:write"])),
    params(Once),
    request_body = CreateSigningKey,
    responses((status = 201, description = "Made: the secret is shown this once", body = NewSigningKey, headers(("Location" = String, description = "Where it is"))))
)]
#[post("/signing-keys", data = "<body>")]
pub async fn create(
    caller: Caller,
    once: Once,
    body: Body<CreateSigningKey>,
    database: &State<Database>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    caller.needs(Scope::DeliveryWrite)?;
    let kid = KeyName::new(&body.kid).map_err(|_| ApiError::field("kid", format!("is {}", KeyName::ALLOWED)))?;
    let secret = match &body.secret {
        Some(secret) if SECRET_BYTES.contains(&secret.len()) => secret.clone(),
        Some(_) => {
            let (min, max) = (SECRET_BYTES.start(), SECRET_BYTES.end());
            return Err(ApiError::field("secret", format!("has {min} to {max} bytes")));
        }
        None => random_secret().map_err(|_| ApiError::Internal)?,
    };
    let place = Place { tenant: caller.tenant, kind: kind::SIGNING_KEY, name: kid.as_str() };
    let sealed = seal.seal(secret.as_bytes(), place).map_err(|_| ApiError::Internal)?.ok_or(ApiError::NoMasterKey)?;
    let mut work = match once.begin(database, seal, &caller.mandate, &body.fingerprint).await? {
        Begun::First(work) => work,
        Begun::Again(answer) => return Ok(answer),
    };
    delivery::hold(work.transaction()).await?;
    let count = sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM signing_keys"#);
    if count.fetch_one(work.connection()).await? >= KEYS_MAX {
        return Err(ApiError::field("kid", format!("a tenant has at most {KEYS_MAX} signing keys: delete one")));
    }
    let inserted = sqlx::query_scalar!(
        "INSERT INTO signing_keys (tenant_id, kid, secret) VALUES ($1, $2, $3) RETURNING created_at",
        caller.tenant.as_uuid(),
        kid.as_str(),
        sealed
    )
    .fetch_one(work.connection())
    .await;
    let created_at = inserted.map_err(|error| match error.into() {
        DatabaseError::Exists { .. } => ApiError::Exists("signing key of this kid"),
        error => ApiError::Database(error),
    })?;
    let told = json!(Sealed::new(Value::Null, Some(&sealed)));
    announce(work.transaction(), Subject::SigningKey(kid.as_str()), Some(told)).await?;
    let (kid, location) = (kid.as_str().to_owned(), format!("/v1/signing-keys/{}", kid.as_str()));
    let answer =
        Answer::created(1, location, &NewSigningKey { kid, secret, tenant_id: caller.tenant.as_uuid(), created_at })?;
    work.commit(answer.with_secret()).await
}

/// All signing keys of the tenant, by their names, without their secrets.
#[utoipa::path(
    tag = "signing keys",
    security(("tenantKey" = ["delivery:write"])),
    params(PageQuery),
    responses((status = 200, description = "A page, by kid", body = Page<SigningKey>))
)]
#[get("/signing-keys")]
pub async fn list(
    caller: Caller,
    query: PageQuery,
    database: &State<Database>,
) -> Result<Json<Page<SigningKey>>, ApiError> {
    caller.needs(Scope::DeliveryWrite)?;
    let list = List { name: "signing-keys", tenant: Some(caller.tenant) };
    let after = query.after(list)?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let found = sqlx::query_as!(
        SigningKey,
        "SELECT kid, created_at FROM signing_keys WHERE $1::text IS NULL OR kid > $1 ORDER BY kid LIMIT $2",
        after,
        query.look_for()
    )
    .fetch_all(transaction.connection())
    .await?;
    Ok(Json(query.page(list, found, |key| key.kid.clone())))
}

/// Deletes a key: what was signed with it is good for nothing from then on.
#[utoipa::path(
    tag = "signing keys",
    security(("tenantKey" = ["delivery:write"])),
    responses((status = 204, description = "It is no more"))
)]
#[delete("/signing-keys/<kid>")]
pub async fn delete(caller: Caller, kid: &str, database: &State<Database>) -> Result<Status, ApiError> {
    caller.needs(Scope::DeliveryWrite)?;
    let kid = KeyName::new(kid).map_err(|_| ApiError::NotFound("signing key"))?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let deleted =
        sqlx::query!("DELETE FROM signing_keys WHERE kid = $1", kid.as_str()).execute(transaction.connection()).await?;
    if deleted.rows_affected() == 0 {
        return Err(ApiError::NotFound("signing key"));
    }
    announce(&mut transaction, Subject::SigningKey(kid.as_str()), None).await?;
    transaction.commit().await?;
    Ok(Status::NoContent)
}
