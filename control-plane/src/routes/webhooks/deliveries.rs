//! `/v1/webhooks/{id}/deliveries`: what was sent to a webhook, or is to be.

use isolation::Database;
use rocket::request::{FromRequest, Outcome, Request};
use rocket::serde::json::Json;
use rocket::{State, get, post};
use uuid::Uuid;

use super::{begin, known};
use crate::answer::Answer;
use crate::auth::{Caller, Scope};
use crate::idempotency::{Begun, Once};
use crate::page::{List, Page, PageQuery};
use crate::problem::ApiError;
use crate::requests::{Exchange, query_fields};
use crate::sealing::Seal;
use crate::webhooks::{self, Delivery, DeliveryState};

/// Which deliveries are asked for.
pub struct DeliveryQuery {
    state: Option<DeliveryState>,
    page: PageQuery,
}

impl DeliveryQuery {
    fn parse<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, ApiError> {
        let (mut state, mut rest) = (None, Vec::new());
        for (name, value) in fields {
            if name == "state" {
                let why = "is pending, delivered or failed";
                state = Some(value.parse().map_err(|()| ApiError::field("state", why))?);
            } else {
                rest.push((name, value));
            }
        }
        Ok(Self { state, page: PageQuery::parse(rest)? })
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for DeliveryQuery {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        Exchange::outcome(request, Self::parse(query_fields(request)))
    }
}

/// Deliveries to a webhook, the newest event first.
#[utoipa::path(
    tag = "webhooks",
    operation_id = "list_deliveries",
    security(("tenantKey" = ["admin"])),
    params(
        ("state" = Option<String>, Query, description = "Those that are pending, delivered or failed only"),
        PageQuery
    ),
    responses((status = 200, description = "A page, newest first", body = Page<Delivery>))
)]
#[get("/webhooks/<id>/deliveries")]
pub async fn list(
    caller: Caller,
    id: &str,
    query: DeliveryQuery,
    database: &State<Database>,
) -> Result<Json<Page<Delivery>>, ApiError> {
    caller.needs(Scope::Admin)?;
    let list = List { name: "deliveries", tenant: Some(caller.tenant) };
    let before = query.page.after(list)?.map(|seq| seq.parse().map_err(|_| ApiError::Cursor)).transpose()?;
    let (mut transaction, id) = (database.begin(&caller.mandate).await?, known(id)?);
    webhooks::find(&mut transaction, id).await?;
    let found = webhooks::deliveries(&mut transaction, id, query.state, before, query.page.look_for()).await?;
    Ok(Json(query.page.page(list, found, |delivery| delivery.seq.to_string())))
}

/// The delivery of an event to a webhook.
#[utoipa::path(
    tag = "webhooks",
    operation_id = "get_delivery",
    security(("tenantKey" = ["admin"])),
    responses((status = 200, description = "It", body = Delivery))
)]
#[get("/webhooks/<id>/deliveries/<event_id>")]
pub async fn get(
    caller: Caller,
    id: &str,
    event_id: &str,
    database: &State<Database>,
) -> Result<Json<Delivery>, ApiError> {
    caller.needs(Scope::Admin)?;
    let (mut transaction, id) = (database.begin(&caller.mandate).await?, known(id)?);
    webhooks::find(&mut transaction, id).await?;
    webhooks::find_delivery(&mut transaction, id, event(event_id)?).await.map(Json)
}

/// Sends an event to a webhook once more: before whatever is newer, and as often as the first time if it has to be.
#[utoipa::path(
    tag = "webhooks",
    operation_id = "redeliver",
    security(("tenantKey" = ["admin"])),
    params(Once),
    responses((status = 202, description = "It is sent", body = Delivery))
)]
#[post("/webhooks/<id>/deliveries/<event_id>/redeliver")]
pub async fn redeliver(
    caller: Caller,
    once: Once,
    id: &str,
    event_id: &str,
    database: &State<Database>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    let event_id = event(event_id)?;
    let (mut work, id) = match begin(&caller, once, id, database, seal).await? {
        (Begun::First(work), id) => (work, id),
        (Begun::Again(answer), _) => return Ok(answer),
    };
    let delivery = webhooks::redeliver(work.transaction(), id, event_id).await?;
    work.commit(Answer::accepted(&delivery)?).await
}

/// The id of an event that may be there.
fn event(text: &str) -> Result<Uuid, ApiError> {
    text.parse().map_err(|_| ApiError::NotFound("delivery"))
}
