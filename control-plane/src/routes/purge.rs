//! `POST /v1/purge`: takes back what edges have of a tenant.

use isolation::{Database, TenantTransaction};
use rocket::{State, post};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use transform_url::{Source, TenantSlug, native};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::answer::Answer;
use crate::auth::{Caller, Scope};
use crate::body::Body;
use crate::feed::{Subject, announce};
use crate::idempotency::{Begun, Once};
use crate::problem::ApiError;
use crate::sealing::Seal;

/// Longest tag, in bytes.
const TAG_BYTES_MAX: usize = 256;

/// What to take back: exactly one of them.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PurgeOrder {
    /// The path of a delivery URL, with or without the tenant, in every format that it is answered in.
    url: Option<String>,
    /// A source as in URLs: all that was made of it, or with it.
    source: Option<String>,
    /// Everything with this tag.
    tag: Option<String>,
    /// `true`: everything of the tenant.
    all: Option<bool>,
}

/// A purge that edges are told of.
#[derive(Debug, Serialize, ToSchema)]
pub struct AcceptedPurge {
    /// That of the change in the feed.
    id: Uuid,
}

/// Tells edges to take something back. They hear of it as of any change, within moments; what this answers is that they will.
#[utoipa::path(
    tag = "purges",
    security(("tenantKey" = ["delivery:write"])),
    params(Once),
    request_body = PurgeOrder,
    responses((status = 202, description = "Edges will be told", body = AcceptedPurge))
)]
#[post("/purge", data = "<body>")]
pub async fn order(
    caller: Caller,
    once: Once,
    body: Body<PurgeOrder>,
    database: &State<Database>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    caller.needs(Scope::DeliveryWrite)?;
    let mut work = match once.begin(database, seal, &caller.mandate, &body.fingerprint).await? {
        Begun::First(work) => work,
        Begun::Again(answer) => return Ok(answer),
    };
    let told = told(work.transaction(), &body).await?;
    let id = announce(work.transaction(), Subject::Purge, Some(told)).await?;
    work.commit(Answer::accepted(&AcceptedPurge { id })?).await
}

/// The order as edges are told of it.
async fn told(transaction: &mut TenantTransaction, order: &PurgeOrder) -> Result<Value, ApiError> {
    match order {
        PurgeOrder { url: Some(url), source: None, tag: None, all: None } => {
            let slug = sqlx::query_scalar!("SELECT slug FROM tenants").fetch_one(transaction.connection()).await?;
            let slug = TenantSlug::new(&slug).map_err(|_| ApiError::Internal)?;
            check_url(url, &slug).map(|path| json!({ "url": path }))
        }
        PurgeOrder { url: None, source: Some(source), tag: None, all: None } => {
            Source::parse(source).map_err(|error| ApiError::field("source", error.to_string()))?;
            Ok(json!({ "source": source }))
        }
        PurgeOrder { url: None, source: None, tag: Some(tag), all: None } => {
            let is_allowed = (1..=TAG_BYTES_MAX).contains(&tag.len()) && !tag.chars().any(char::is_control);
            let why = || format!("is 1 to {TAG_BYTES_MAX} bytes without control characters");
            if is_allowed { Ok(json!({ "tag": tag })) } else { Err(ApiError::field("tag", why())) }
        }
        PurgeOrder { url: None, source: None, tag: None, all: Some(true) } => Ok(json!({ "all": true })),
        PurgeOrder { url: None, source: None, tag: None, all: Some(false) } => {
            Err(ApiError::field("all", "is true, or left out"))
        }
        _ => Err(ApiError::field("body", "has exactly one of \"url\", \"source\", \"tag\" and \"all\"")),
    }
}

/// The path that is purged. Signatures are no part of what is cached.
fn check_url<'a>(url: &'a str, slug: &TenantSlug) -> Result<&'a str, ApiError> {
    let path = url.split('?').next().unwrap_or_default();
    let of_shared_host = native::parse(path.as_bytes(), None);
    let parsed = match of_shared_host {
        Ok(request) if request.tenant == *slug => Ok(request),
        // As on a host of the tenant's own.
        _ => native::parse(path.as_bytes(), Some(slug)),
    };
    let request = parsed.map_err(|error| ApiError::field("url", error.to_string()))?;
    if request.ops().is_none() {
        return Err(ApiError::field("url", "originals are not cached"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_of_the_tenant_with_or_without_its_name() {
        let slug = TenantSlug::new("shop").expect("a name");
        for (url, path) in [
            ("/shop/w=1/@local/a.jpg", "/shop/w=1/@local/a.jpg"),
            ("/shop/w=1/@local/a.jpg?exp=1&kid=k&sig=x", "/shop/w=1/@local/a.jpg"),
            ("/w=1/@local/a.jpg", "/w=1/@local/a.jpg"),
        ] {
            assert_eq!(check_url(url, &slug).expect("good"), path, "{url}");
        }
        for bad in
            ["", "shop/w=1/a.jpg", "/blog/w=1/a.jpg", "/shop/w=0/a.jpg", "/shop/-/a.jpg", "/-/a.jpg", "/shop/w=1/../a"]
        {
            assert!(check_url(bad, &slug).is_err(), "{bad}");
        }
    }
}
