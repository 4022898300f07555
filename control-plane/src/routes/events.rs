//! `/v1/events`: what has happened to a tenant's things.

use isolation::Database;
use rocket::request::{FromRequest, Outcome, Request};
use rocket::serde::json::Json;
use rocket::{State, get};
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::auth::{Caller, Scope};
use crate::events::EventKind;
use crate::names;
use crate::page::{List, Page, PageQuery};
use crate::problem::ApiError;
use crate::requests::{Exchange, query_fields};

/// Something that has happened.
#[derive(Debug, Serialize, ToSchema)]
pub struct Event {
    /// What `webhook-id` says.
    id: Uuid,
    /// Grows with each of the tenant's events, in the order in which they happened.
    seq: i64,
    #[serde(rename = "type")]
    kind: String,
    #[serde(with = "time::serde::rfc3339")]
    timestamp: OffsetDateTime,
    /// What it is about, as it was then.
    #[schema(value_type = Object)]
    data: Value,
}

/// Which events are asked for.
pub struct EventQuery {
    kind: Option<EventKind>,
    since: Option<OffsetDateTime>,
    until: Option<OffsetDateTime>,
    page: PageQuery,
}

impl EventQuery {
    fn parse<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, ApiError> {
        let (mut kind, mut since, mut until, mut rest) = (None, None, None, Vec::new());
        for (name, value) in fields {
            match name {
                "type" => kind = Some(names::event(value).map_err(|_| ApiError::field("type", "is a type of event"))?),
                "since" => since = Some(names::moment("since", value)?),
                "until" => until = Some(names::moment("until", value)?),
                "limit" | "cursor" => rest.push((name, value)),
                _ => {
                    let known = "only \"type\", \"since\", \"until\", \"limit\" and \"cursor\" are known here";
                    return Err(ApiError::field("query", known));
                }
            }
        }
        Ok(Self { kind, since, until, page: PageQuery::parse(rest)? })
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for EventQuery {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        Exchange::outcome(request, Self::parse(query_fields(request)))
    }
}

/// Events, the newest first.
#[utoipa::path(
    tag = "events",
    security(("tenantKey" = ["media:read"])),
    params(
        ("type" = Option<String>, Query, description = "Those of this type only"),
        ("since" = Option<String>, Query, description = "Those from this time on; RFC 3339"),
        ("until" = Option<String>, Query, description = "Those before this time; RFC 3339"),
        PageQuery
    ),
    responses((status = 200, description = "A page, newest first", body = Page<Event>))
)]
#[get("/events")]
pub async fn list(
    caller: Caller,
    query: EventQuery,
    database: &State<Database>,
) -> Result<Json<Page<Event>>, ApiError> {
    caller.needs(Scope::MediaRead)?;
    let list = List { name: "events", tenant: Some(caller.tenant) };
    let before = query.page.after(list)?.map(|seq| seq.parse().map_err(|_| ApiError::Cursor)).transpose()?;
    let before: i64 = before.unwrap_or(i64::MAX);
    let mut transaction = caller.read(database).await?;
    // What was announced in this range is in few of the table's parts.
    let since = query.since.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let found = match query.kind {
        None => {
            let found = sqlx::query_as!(
                Event,
                r#"SELECT id, seq AS "seq!", kind, created_at AS timestamp, data FROM events
                   WHERE seq < $1 AND created_at >= $2 AND ($3::timestamptz IS NULL OR created_at < $3)
                   ORDER BY seq DESC LIMIT $4"#,
                before,
                since,
                query.until,
                query.page.look_for()
            );
            found.fetch_all(transaction.connection()).await?
        }
        Some(kind) => {
            let found = sqlx::query_as!(
                Event,
                r#"SELECT id, seq AS "seq!", kind, created_at AS timestamp, data FROM events
                   WHERE kind = $5 AND seq < $1 AND created_at >= $2 AND ($3::timestamptz IS NULL OR created_at < $3)
                   ORDER BY seq DESC LIMIT $4"#,
                before,
                since,
                query.until,
                query.page.look_for(),
                kind.as_str()
            );
            found.fetch_all(transaction.connection()).await?
        }
    };
    Ok(Json(query.page.page(list, found, |event| event.seq.to_string())))
}

/// One event.
#[utoipa::path(
    tag = "events",
    security(("tenantKey" = ["media:read"])),
    responses((status = 200, description = "It", body = Event))
)]
#[get("/events/<id>")]
pub async fn get(caller: Caller, id: &str, database: &State<Database>) -> Result<Json<Event>, ApiError> {
    caller.needs(Scope::MediaRead)?;
    let id: Uuid = id.parse().map_err(|_| ApiError::NotFound("event"))?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let found = sqlx::query_as!(
        Event,
        r#"SELECT id, seq AS "seq!", kind, created_at AS timestamp, data FROM events WHERE id = $1"#,
        id
    )
    .fetch_optional(transaction.connection())
    .await?;
    found.map(Json).ok_or(ApiError::NotFound("event"))
}
