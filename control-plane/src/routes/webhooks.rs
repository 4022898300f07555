//! `/v1/webhooks`: where a tenant's events are sent.

pub mod deliveries;

use std::time::Duration;

use isolation::Database;
use rocket::http::Status;
use rocket::serde::json::Json;
use rocket::{State, delete, get, patch, post};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Versioned;
use crate::answer::Answer;
use crate::auth::{Caller, Scope};
use crate::body::Body;
use crate::etag::Condition;
use crate::events::EventKind;
use crate::idempotency::{Begun, Fingerprint, Once};
use crate::names;
use crate::page::{List, Page, PageQuery};
use crate::problem::ApiError;
use crate::sealing::Seal;
use crate::webhooks::{self, Again, Change, NewWebhook, Secret, Webhook, WebhookReach};

/// What a request without a body is known by: its path says all.
const NOTHING: Fingerprint = [0; 32];

/// Most bytes of a description.
const DESCRIPTION_BYTES_MAX: usize = 500;

/// How long the secret before a new one signs as well, unless it is said: a day.
const OVERLAP_SECONDS: u64 = 24 * 3600;

/// The longest that it may: a week.
const OVERLAP_SECONDS_MAX: u64 = 7 * 24 * 3600;

/// What a webhook is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateWebhook {
    url: String,
    /// What it wants to hear of; nothing is everything.
    #[serde(default)]
    types: Vec<String>,
    #[serde(default)]
    description: String,
    /// `whsec_` and base64 of 24 to 64 bytes; one is made if there is none.
    secret: Option<String>,
}

/// A webhook as it was made: the only time that its secret is shown.
#[derive(Serialize, ToSchema)]
pub struct NewWebhookView {
    secret: String,
    #[serde(flatten)]
    webhook: Webhook,
}

/// Makes a webhook: it hears of what happens from then on.
#[utoipa::path(
    tag = "webhooks",
    security(("tenantKey" = ["admin"])),
    params(Once),
    request_body = CreateWebhook,
    responses((status = 201, description = "Made: the secret is shown this once", body = NewWebhookView, headers(("ETag" = String, description = "Its version"), ("Location" = String, description = "Where it is"))))
)]
#[post("/webhooks", data = "<body>")]
pub async fn create(
    caller: Caller,
    once: Once,
    body: Body<CreateWebhook>,
    reach: &State<WebhookReach>,
    database: &State<Database>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    caller.needs(Scope::Admin)?;
    let url = reach.url(&body.url)?;
    let (kinds, description) = (kinds(&body.types)?, description(&body.description)?);
    let secret = body.secret.as_deref().map_or_else(Secret::generate, Secret::parse)?;
    let mut work = match once.begin(database, seal, &caller.mandate, &body.fingerprint).await? {
        Begun::First(work) => work,
        Begun::Again(answer) => return Ok(answer),
    };
    let new = NewWebhook { url: url.as_str(), description, kinds: &kinds, secret: &secret };
    let webhook = webhooks::create(work.transaction(), &new, seal).await?;
    let (version, location) = (webhook.version, format!("/v1/webhooks/{}", webhook.id));
    let made = NewWebhookView { secret: secret.to_text(), webhook };
    work.commit(Answer::created(version, location, &made)?.with_secret()).await
}

fn kinds(types: &[String]) -> Result<Vec<EventKind>, ApiError> {
    let mut kinds = Vec::new();
    for name in types {
        let kind = names::event(name)?;
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    Ok(kinds)
}

fn description(text: &str) -> Result<&str, ApiError> {
    let is_allowed = text.len() <= DESCRIPTION_BYTES_MAX && !text.chars().any(char::is_control);
    let why = || format!("is at most {DESCRIPTION_BYTES_MAX} bytes without control characters");
    if is_allowed { Ok(text) } else { Err(ApiError::field("description", why())) }
}

/// Webhooks, the oldest first, without their secrets.
#[utoipa::path(
    tag = "webhooks",
    security(("tenantKey" = ["admin"])),
    params(PageQuery),
    responses((status = 200, description = "A page, oldest first", body = Page<Webhook>))
)]
#[get("/webhooks")]
pub async fn list(
    caller: Caller,
    query: PageQuery,
    database: &State<Database>,
) -> Result<Json<Page<Webhook>>, ApiError> {
    caller.needs(Scope::Admin)?;
    let list = List { name: "webhooks", tenant: Some(caller.tenant) };
    let after = query.after(list)?.map(|id| id.parse().map_err(|_| ApiError::Cursor)).transpose()?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let found = webhooks::list(&mut transaction, after, query.look_for()).await?;
    Ok(Json(query.page(list, found, |webhook| webhook.id.to_string())))
}

/// One webhook, without its secret.
#[utoipa::path(
    tag = "webhooks",
    security(("tenantKey" = ["admin"])),
    responses((status = 200, description = "It", body = Webhook, headers(("ETag" = String, description = "Its version"))))
)]
#[get("/webhooks/<id>")]
pub async fn get(caller: Caller, id: &str, database: &State<Database>) -> Result<Versioned<Webhook>, ApiError> {
    caller.needs(Scope::Admin)?;
    let webhook = webhooks::find(&mut database.begin(&caller.mandate).await?, known(id)?).await?;
    Ok(Versioned::new(webhook.version, webhook))
}

/// What becomes of a webhook; what is left out stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeWebhook {
    /// Where events are sent from then on; those that wait, at once.
    url: Option<String>,
    /// What it wants to hear of from then on; nothing is everything.
    types: Option<Vec<String>>,
    description: Option<String>,
}

/// Changes a webhook.
#[utoipa::path(
    tag = "webhooks",
    security(("tenantKey" = ["admin"])),
    params(Condition),
    request_body = ChangeWebhook,
    responses((status = 200, description = "Changed", body = Webhook, headers(("ETag" = String, description = "Its version"))))
)]
#[patch("/webhooks/<id>", data = "<body>")]
pub async fn change(
    caller: Caller,
    id: &str,
    condition: Condition,
    body: Body<ChangeWebhook>,
    reach: &State<WebhookReach>,
    database: &State<Database>,
) -> Result<Versioned<Webhook>, ApiError> {
    caller.needs(Scope::Admin)?;
    let change = Change {
        url: body.url.as_deref().map(|url| reach.url(url).map(String::from)).transpose()?,
        description: body.description.as_deref().map(|text| description(text).map(str::to_owned)).transpose()?,
        kinds: body.types.as_deref().map(kinds).transpose()?,
    };
    let mut transaction = database.begin(&caller.mandate).await?;
    let webhook = webhooks::change(&mut transaction, known(id)?, condition, &change).await?;
    transaction.commit().await?;
    Ok(Versioned::new(webhook.version, webhook))
}

/// Deletes a webhook: what waits is not sent any more.
#[utoipa::path(
    tag = "webhooks",
    security(("tenantKey" = ["admin"])),
    params(Condition),
    responses((status = 204, description = "It is no more"))
)]
#[delete("/webhooks/<id>")]
pub async fn delete(
    caller: Caller,
    id: &str,
    condition: Condition,
    database: &State<Database>,
) -> Result<Status, ApiError> {
    caller.needs(Scope::Admin)?;
    let mut transaction = database.begin(&caller.mandate).await?;
    webhooks::delete(&mut transaction, known(id)?, condition).await?;
    transaction.commit().await?;
    Ok(Status::NoContent)
}

/// What the next secret is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateSecret {
    /// `whsec_` and base64 of 24 to 64 bytes; one is made if there is none.
    secret: Option<String>,
    /// How long the secret before it signs as well: 0 to 604800, 86400 if not said.
    #[schema(maximum = 604_800)]
    overlap_seconds: Option<u64>,
}

/// Gives a webhook another secret. For a while, requests are signed with both.
#[utoipa::path(
    tag = "webhooks",
    security(("tenantKey" = ["admin"])),
    params(Once),
    request_body = RotateSecret,
    responses((status = 200, description = "The new secret is shown this once", body = NewWebhookView))
)]
#[post("/webhooks/<id>/secret", data = "<body>")]
pub async fn rotate(
    caller: Caller,
    once: Once,
    id: &str,
    body: Body<RotateSecret>,
    database: &State<Database>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    caller.needs(Scope::Admin)?;
    let id = known(id)?;
    let overlap = body.overlap_seconds.unwrap_or(OVERLAP_SECONDS);
    if overlap > OVERLAP_SECONDS_MAX {
        return Err(ApiError::field("overlap_seconds", format!("is 0 to {OVERLAP_SECONDS_MAX}")));
    }
    let secret = body.secret.as_deref().map_or_else(Secret::generate, Secret::parse)?;
    let mut work = match once.begin(database, seal, &caller.mandate, &body.fingerprint).await? {
        Begun::First(work) => work,
        Begun::Again(answer) => return Ok(answer),
    };
    let webhook = webhooks::rotate(work.transaction(), id, &secret, Duration::from_secs(overlap), seal).await?;
    let rotated = NewWebhookView { secret: secret.to_text(), webhook };
    work.commit(Answer::done(&rotated)?.with_secret()).await
}

/// A test that is sent.
#[derive(Serialize, ToSchema)]
pub struct SentTest {
    /// What `webhook-id` says.
    event_id: Uuid,
}

/// Sends a test: an event of the type `webhook.test`, once, before whatever waits.
#[utoipa::path(
    tag = "webhooks",
    security(("tenantKey" = ["admin"])),
    params(Once),
    responses((status = 202, description = "It is sent; the delivery tells what comes of it", body = SentTest, headers(("Location" = String, description = "The delivery"))))
)]
#[post("/webhooks/<id>/test")]
pub async fn test(
    caller: Caller,
    once: Once,
    id: &str,
    database: &State<Database>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    let (mut work, id) = match begin(&caller, once, id, database, seal).await? {
        (Begun::First(work), id) => (work, id),
        (Begun::Again(answer), _) => return Ok(answer),
    };
    let event_id = webhooks::test(work.transaction(), id).await?;
    let location = format!("/v1/webhooks/{id}/deliveries/{event_id}");
    work.commit(Answer::accepted_at(location, &SentTest { event_id })?).await
}

/// Goes on sending to a webhook that was disabled, with what waits, at once.
#[utoipa::path(
    tag = "webhooks",
    security(("tenantKey" = ["admin"])),
    params(Once),
    responses((status = 200, description = "It is enabled", body = Webhook))
)]
#[post("/webhooks/<id>/enable")]
pub async fn enable(
    caller: Caller,
    once: Once,
    id: &str,
    database: &State<Database>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    let (mut work, id) = match begin(&caller, once, id, database, seal).await? {
        (Begun::First(work), id) => (work, id),
        (Begun::Again(answer), _) => return Ok(answer),
    };
    let webhook = webhooks::enable(work.transaction(), id).await?;
    work.commit(Answer::done(&webhook)?).await
}

/// Sends nothing more to a webhook: what waits goes on waiting, and what happens meanwhile is not put in its queue.
#[utoipa::path(
    tag = "webhooks",
    security(("tenantKey" = ["admin"])),
    params(Once),
    responses((status = 200, description = "It is disabled", body = Webhook))
)]
#[post("/webhooks/<id>/disable")]
pub async fn disable(
    caller: Caller,
    once: Once,
    id: &str,
    database: &State<Database>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    let (mut work, id) = match begin(&caller, once, id, database, seal).await? {
        (Begun::First(work), id) => (work, id),
        (Begun::Again(answer), _) => return Ok(answer),
    };
    let webhook = webhooks::disable(work.transaction(), id).await?;
    work.commit(Answer::done(&webhook)?).await
}

/// From when on events are wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RedeliverSince {
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
    /// `next_after` of the answer before.
    #[schema(minimum = 0)]
    after: Option<u64>,
}

/// What was put in the queue.
#[derive(Serialize, ToSchema)]
pub struct Requeued {
    /// How many events.
    count: i64,
    /// Where to go on: ask again with this as `after`. `null` when nothing is left.
    next_after: Option<i64>,
}

/// Puts what has happened since then and was not delivered in the queue again: what was given up, and what has happened while the webhook
/// was disabled or was not there, oldest first. One request looks at up to 50000 events, and puts up to 10000 in the queue: ask again
/// with `next_after` until it is `null`.
#[utoipa::path(
    tag = "webhooks",
    security(("tenantKey" = ["admin"])),
    params(Once),
    request_body = RedeliverSince,
    responses((status = 202, description = "They are sent", body = Requeued))
)]
#[post("/webhooks/<id>/redeliver", data = "<body>")]
pub async fn redeliver_since(
    caller: Caller,
    once: Once,
    id: &str,
    body: Body<RedeliverSince>,
    database: &State<Database>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    caller.needs(Scope::Admin)?;
    let id = known(id)?;
    let after = body.after.map(i64::try_from).transpose();
    let after = after.map_err(|_| ApiError::field("after", "is \"next_after\" of the answer before"))?;
    let mut work = match once.begin(database, seal, &caller.mandate, &body.fingerprint).await? {
        Begun::First(work) => work,
        Begun::Again(answer) => return Ok(answer),
    };
    let Again { count, next_after } = webhooks::redeliver_since(work.transaction(), id, body.since, after).await?;
    work.commit(Answer::accepted(&Requeued { count, next_after })?).await
}

/// Begins what has no body.
async fn begin(
    caller: &Caller,
    once: Once,
    id: &str,
    database: &Database,
    seal: &Seal,
) -> Result<(Begun, Uuid), ApiError> {
    caller.needs(Scope::Admin)?;
    let id = known(id)?;
    Ok((once.begin(database, seal, &caller.mandate, &NOTHING).await?, id))
}

/// The id of a webhook that may be there: what none can have is not asked for.
fn known(text: &str) -> Result<Uuid, ApiError> {
    text.parse().map_err(|_| ApiError::NotFound("webhook"))
}
