//! `/internal/v1`: what edges are told. A snapshot of all tenants first, then each change in turn.
//!
//! An edge remembers the epoch and the number of the last change that it has taken in. It asks for those after it, and waits while there
//! are none. When the answer says so it starts over with a snapshot: it was away for too long, or the database was set back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use isolation::{Database, TenantKey};
use rocket::request::{FromRequest, Outcome, Request};
use rocket::serde::json::Json;
use rocket::{Shutdown, State, get};
use serde_json::{Map, Value, json};
use tenancy::feed::{FeedAnswer, FeedEvent, Snapshot, TenantSnapshot, kind};
use tenancy::{TenantId, TenantParts};
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::schema::{Object, Type};
use uuid::Uuid;

use crate::auth::EdgeNode;
use crate::feed::{FeedHead, opened};
use crate::openapi::optional;
use crate::problem::ApiError;
use crate::requests::{Exchange, query_fields};
use crate::sealing::Seal;

/// Changes that are told in one answer.
const EVENTS_MAX: i32 = 1000;

/// Tenants of a page of the snapshot.
const TENANTS_MAX: usize = 250;

/// Longest time that an edge may wait for a change, in seconds: less than what balancers close idle connections after.
const WAIT_SECONDS_MAX: u64 = 30;

/// What an edge knows, and how long it is ready to wait for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedQuery {
    epoch: Option<Uuid>,
    after: i64,
    wait: Duration,
}

impl IntoParams for FeedQuery {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let whole = |minimum| Object::builder().schema_type(Type::Integer).minimum(Some(minimum));
        vec![
            optional("epoch", ParameterIn::Query, "Of what the edge knows", Object::with_type(Type::String)),
            optional("after", ParameterIn::Query, "The number of the last change that it knows", whole(0)),
            optional(
                "wait",
                ParameterIn::Query,
                "Seconds to wait for a change",
                whole(0).maximum(Some(WAIT_SECONDS_MAX as f64)),
            ),
        ]
    }
}

impl FeedQuery {
    fn parse<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, ApiError> {
        let mut query = Self { epoch: None, after: 0, wait: Duration::ZERO };
        for (name, value) in fields {
            match name {
                "epoch" => query.epoch = Some(value.parse().map_err(|_| ApiError::field("epoch", "is a UUID"))?),
                "after" => {
                    let after = value.parse().ok().filter(|after| *after >= 0);
                    query.after = after.ok_or_else(|| ApiError::field("after", "is the number of a change"))?;
                }
                "wait" => {
                    let seconds = value.parse().ok().filter(|seconds| *seconds <= WAIT_SECONDS_MAX);
                    let why = || ApiError::field("wait", format!("is 0 to {WAIT_SECONDS_MAX} seconds"));
                    query.wait = Duration::from_secs(seconds.ok_or_else(why)?);
                }
                _ => return Err(ApiError::field("query", "only \"epoch\", \"after\" and \"wait\" are known here")),
            }
        }
        Ok(query)
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for FeedQuery {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        Exchange::outcome(request, Self::parse(query_fields(request)))
    }
}

#[derive(Debug, Clone, Copy)]
struct Position {
    epoch: Uuid,
    seq: i64,
}

/// Changes after the one that the edge names, as soon as there are some.
#[utoipa::path(
    tag = "edges",
    security(("edgeToken" = [])),
    params(FeedQuery),
    responses((status = 200, description = "Changes, or that a snapshot is needed", body = Object))
)]
#[get("/feed")]
pub async fn feed(
    _edge: EdgeNode,
    query: FeedQuery,
    database: &State<Database>,
    head: &State<Arc<FeedHead>>,
    seal: &State<Seal>,
    shutdown: Shutdown,
) -> Result<Json<FeedAnswer>, ApiError> {
    let position = position(database).await?;
    if is_lost(database, query, position).await? {
        return Ok(Json(starting_over(current(database, query, position).await?)));
    }
    let mut told = events(database, seal, query.after).await?;
    if told.as_ref().is_some_and(Vec::is_empty) && !query.wait.is_zero() {
        tokio::select! {
            () = head.passed(query.after) => {}
            () = tokio::time::sleep(query.wait) => {}
            () = shutdown => {}
        }
        told = events(database, seal, query.after).await?;
    }
    let Some(events) = told else { return Ok(Json(starting_over(position))) };
    let seq = events.last().map_or(0, |last| last.seq).max(number(position.seq));
    Ok(Json(FeedAnswer { epoch: position.epoch.to_string(), seq, snapshot: false, events }))
}

/// The edge is to take a snapshot first.
fn starting_over(Position { epoch, seq }: Position) -> FeedAnswer {
    FeedAnswer { epoch: epoch.to_string(), seq: number(seq), snapshot: true, events: Vec::new() }
}

/// All tenants, by pages.
#[utoipa::path(
    tag = "edges",
    security(("edgeToken" = [])),
    responses((status = 200, description = "A page of tenants", body = Object))
)]
#[get("/snapshot?<after>")]
pub async fn snapshot(
    _edge: EdgeNode,
    after: Option<&str>,
    database: &State<Database>,
    seal: &State<Seal>,
) -> Result<Json<Snapshot>, ApiError> {
    let after = after.map(str::parse::<Uuid>).transpose().map_err(|_| ApiError::field("after", "is a tenant's id"))?;
    // Before the page is read: what changes meanwhile is told again.
    let Position { epoch, seq } = position(database).await?;
    let rows = sqlx::query!(
        r#"SELECT tenant_id AS "id!", slug AS "slug!", state AS "state!", policy, presets, images, origins, domains, signing_keys
           FROM feed_snapshot($1, $2)"#,
        after,
        TENANTS_MAX as i32
    )
    .fetch_all(database.across())
    .await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let mut exhausted = exhausted(database, &ids).await?;
    let next = rows.last().filter(|_| rows.len() == TENANTS_MAX).map(|last| tenant_id(last.id));
    let object = |value: Option<Value>| value.unwrap_or_else(|| Value::Object(Map::new()));
    let tenants = rows.into_iter().map(|row| {
        let secrets = |kind, parts| all_opened(seal, row.id.into(), kind, object(parts));
        let parts = json!({
            "slug": row.slug,
            "state": row.state,
            "policy": object(row.policy),
            "presets": object(row.presets),
            "images": object(row.images),
            "origins": secrets(kind::ORIGIN, row.origins),
            "domains": row.domains.unwrap_or_else(|| Value::Array(Vec::new())),
            "signing_keys": secrets(kind::SIGNING_KEY, row.signing_keys),
            "exhausted": object(exhausted.remove(&row.id)),
        });
        let parts: TenantParts = serde_json::from_value(parts).map_err(|error| {
            tracing::error!(tenant = %row.id, %error, "what the database has of a tenant cannot be told");
            ApiError::Internal
        })?;
        Ok(TenantSnapshot { id: tenant_id(row.id), parts })
    });
    let tenants = tenants.collect::<Result<_, ApiError>>()?;
    Ok(Json(Snapshot { epoch: epoch.to_string(), seq: number(seq), tenants, next }))
}

/// Quotas that are used up, of these tenants.
async fn exhausted(database: &Database, tenants: &[Uuid]) -> Result<HashMap<Uuid, Value>, ApiError> {
    let rows =
        sqlx::query!(r#"SELECT tenant_id AS "tenant!", exhausted AS "exhausted!" FROM exhausted_quotas($1)"#, tenants);
    let rows = rows.fetch_all(database.across()).await?;
    Ok(rows.into_iter().map(|row| (row.tenant, row.exhausted)).collect())
}

/// Parts with secrets, by their names, as edges are told of them.
fn all_opened(seal: &Seal, tenant: TenantKey, kind: &str, parts: Value) -> Value {
    let Value::Object(parts) = parts else { return parts };
    let opened = parts.into_iter().filter_map(|(name, body)| {
        let body = opened(seal, tenant, kind, &name, body)?;
        Some((name, body))
    });
    Value::Object(opened.collect())
}

fn tenant_id(id: Uuid) -> TenantId {
    TenantId::new(&id.to_string())
}

/// The database has no unsigned numbers.
fn number(seq: i64) -> u64 {
    u64::try_from(seq).unwrap_or_default()
}

async fn position(database: &Database) -> Result<Position, ApiError> {
    let row = sqlx::query!(r#"SELECT epoch AS "epoch!", seq AS "seq!" FROM feed_position()"#);
    let row = row.fetch_one(database.across()).await?;
    Ok(Position { epoch: row.epoch, seq: row.seq })
}

/// Whether the changes after what the edge knows are not to be had.
async fn is_lost(database: &Database, query: FeedQuery, position: Position) -> Result<bool, ApiError> {
    if query.epoch != Some(position.epoch) || query.after > position.seq {
        return Ok(true);
    }
    if query.after == position.seq {
        return Ok(false);
    }
    let oldest = sqlx::query_scalar!("SELECT feed_oldest()").fetch_one(database.across()).await?;
    Ok(oldest.is_none_or(|oldest| query.after < oldest - 1))
}

/// Where the feed is for an edge that starts over. One that knows of later changes than the database, in the same epoch, proves that the
/// database was set back: other edges must not take the numbers that are given out again for those that they know.
async fn current(database: &Database, query: FeedQuery, position: Position) -> Result<Position, ApiError> {
    if query.epoch != Some(position.epoch) || query.after <= position.seq {
        return Ok(position);
    }
    tracing::error!(known = query.after, seq = position.seq, "the database was set back: all edges start over");
    let epoch = sqlx::query_scalar!(r#"SELECT restart_feed($1) AS "epoch!""#, position.epoch);
    Ok(Position { epoch: epoch.fetch_one(database.across()).await?, ..position })
}

/// Changes after this one; `None` if there is a secret in them that does not open any more: what the snapshot has of it may have been
/// sealed anew since.
async fn events(database: &Database, seal: &Seal, after: i64) -> Result<Option<Vec<FeedEvent>>, ApiError> {
    let rows = sqlx::query!(
        r#"SELECT seq AS "seq!", tenant_id AS "tenant!", kind AS "kind!", name AS "name!", body,
             (extract(epoch FROM announced_at) * 1000)::bigint AS "at!"
           FROM feed_after($1, $2)"#,
        after,
        EVENTS_MAX
    )
    .fetch_all(database.across())
    .await?;
    let told = rows.into_iter().map(|row| {
        let body = match row.body {
            Some(body) => Some(opened(seal, row.tenant.into(), &row.kind, &row.name, body)?),
            None => None,
        };
        let (seq, at, tenant) = (number(row.seq), number(row.at), tenant_id(row.tenant));
        Some(FeedEvent { seq, at, tenant, kind: row.kind, name: row.name, body })
    });
    Ok(told.collect())
}
