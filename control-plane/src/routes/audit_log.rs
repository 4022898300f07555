//! `/v1/audit-log`: who has changed what of a tenant; and `/v1/operator/audit-log`: what the operator has, and all of any tenant.
//!
//! Entries are written by triggers (`migrations/0007_audit.sql`). Must not write any.

use isolation::{Database, TenantKey};
use rocket::request::{FromRequest, Outcome, Request};
use rocket::serde::json::Json;
use rocket::{State, get};
use serde::Serialize;
use serde_json::Value;
use time::format_description::well_known::Rfc3339;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::auth::{Admin, Caller, Scope};
use crate::page::{List, Page, PageQuery};
use crate::problem::ApiError;
use crate::requests::{Exchange, query_fields};

/// Longest actor, kind or id that is looked for, in bytes.
const WORD_BYTES_MAX: usize = 1024;

/// Most entries that one request looks at for those that it asks for.
const LOOK_MAX: i32 = 10_000;

/// Before and after all entries.
const EARLIEST: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
const LATEST: OffsetDateTime = datetime!(9999-12-31 0:00 UTC);

/// A change.
#[derive(Debug, Serialize, ToSchema)]
pub struct Entry {
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// Whose thing it was, by the tenant's unchanging id.
    tenant: Uuid,
    /// `key:…` with the key's id, `operator`, `job:…` with the job's, `worker`, `system`, or `database:…` with a user of the database.
    actor: String,
    /// Method and path of the request, or what a worker was about.
    operation: Option<String>,
    /// That of the answer, and of the request's event.
    request_id: Option<String>,
    client: Option<String>,
    /// `create`, `update` or `delete`.
    action: String,
    resource: String,
    /// Empty where a tenant has one.
    resource_id: String,
    /// What was there, as far as it differs.
    before: Option<Value>,
    /// What took its place.
    after: Option<Value>,
    #[serde(skip)]
    seq: i64,
}

/// Which entries are asked for.
pub struct AuditQuery {
    tenant: Option<String>,
    actor: Option<String>,
    resource: Option<String>,
    resource_id: Option<String>,
    action: Option<String>,
    from: OffsetDateTime,
    to: OffsetDateTime,
    page: PageQuery,
}

impl AuditQuery {
    fn parse<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, ApiError> {
        let mut query = Self {
            tenant: None,
            actor: None,
            resource: None,
            resource_id: None,
            action: None,
            from: EARLIEST,
            to: LATEST,
            page: PageQuery::parse([])?,
        };
        let mut rest = Vec::new();
        for (name, value) in fields {
            match name {
                "tenant" => query.tenant = Some(word("tenant", value)?),
                "actor" => query.actor = Some(word("actor", value)?),
                "resource" => {
                    let value = word("resource", value)?;
                    let (kind, id) =
                        value.split_once('/').map_or((value.as_str(), None), |(kind, id)| (kind, Some(id)));
                    (query.resource_id, query.resource) = (id.map(str::to_owned), Some(kind.to_owned()));
                }
                "action" if ["create", "update", "delete"].contains(&value) => query.action = Some(value.to_owned()),
                "action" => return Err(ApiError::field("action", "is create, update or delete")),
                "from" => query.from = moment("from", value)?,
                "to" => query.to = moment("to", value)?,
                _ => rest.push((name, value)),
            }
        }
        query.page = PageQuery::parse(rest)?;
        Ok(query)
    }

    /// Whether entries that are not asked for are among those that the index gives which is gone by.
    fn is_picky(&self) -> bool {
        let is_left = if self.resource_id.is_some() { self.actor.is_some() } else { self.resource.is_some() };
        is_left || self.action.is_some()
    }

    /// The first entry that may be on the page.
    fn begin(&self, reach: Option<Reach>) -> Reach {
        reach.unwrap_or(Reach { at: self.from, seq: i64::MIN })
    }

    /// The entry that the page comes after: its time, and its number among those of that time.
    fn before(&self, list: List) -> Result<(OffsetDateTime, i64), ApiError> {
        let Some(after) = self.page.after(list)? else { return Ok((self.to, i64::MIN)) };
        let entry = after.split_once('/').and_then(|(at, seq)| {
            let at = EARLIEST.checked_add(Duration::microseconds(at.parse().ok()?))?;
            Some((at, seq.parse().ok()?))
        });
        entry.filter(|(at, _)| *at <= LATEST).ok_or(ApiError::Cursor)
    }

    /// A page that ends where it is full, else where nothing more was looked at.
    fn page(&self, list: List, found: Vec<Entry>, reach: Option<Reach>) -> Page<Entry> {
        let key = |at: OffsetDateTime, seq: i64| format!("{}/{seq}", (at - EARLIEST).whole_microseconds());
        let mut page = self.page.page(list, found, |entry| key(entry.at, entry.seq));
        page.next_cursor = page.next_cursor.or_else(|| reach.map(|reach| list.cursor(&key(reach.at, reach.seq))));
        page
    }
}

/// The last entry that a request looks at, when there may be more behind it.
#[derive(Debug, Clone, Copy)]
struct Reach {
    at: OffsetDateTime,
    seq: i64,
}

fn word(name: &'static str, value: &str) -> Result<String, ApiError> {
    let is_allowed = (1..=WORD_BYTES_MAX).contains(&value.len()) && !value.contains('\0');
    if is_allowed { Ok(value.to_owned()) } else { Err(ApiError::field(name, "is 1 to 1024 bytes without NUL")) }
}

fn moment(name: &'static str, value: &str) -> Result<OffsetDateTime, ApiError> {
    let at = OffsetDateTime::parse(value, &Rfc3339).ok().filter(|at| (EARLIEST..=LATEST).contains(at));
    at.ok_or_else(|| ApiError::field(name, "is a time as in RFC 3339 after 1970: 2030-01-31T12:00:00Z"))
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for AuditQuery {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        Exchange::outcome(request, Self::parse(query_fields(request)))
    }
}

/// Entries from one on, by the rest of a statement that begins with what all have: the first six arguments.
macro_rules! select {
    ($query:expr, $reach:expr, $before:expr, $rest:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            Entry,
            r#"SELECT at, tenant_id AS tenant, actor, operation, request_id::text, client, action, resource, resource_id,
                 before, after, seq
               FROM audit_log
               WHERE at >= $1 AND (at, seq) >= ($1, $2) AND (at, seq) < ($3, $4) AND ($5::text IS NULL OR action = $5) "# + $rest
               + " ORDER BY at DESC, seq DESC LIMIT $6",
            $reach.at,
            $reach.seq,
            $before.0,
            $before.1,
            $query.action,
            $query.page.look_for()
            $(, $argument)*
        )
    };
}

/// How far is looked at what an index gives, which is the rest of the statement.
macro_rules! reach {
    ($query:expr, $before:expr, $rest:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            Reach,
            "SELECT at, seq FROM audit_log WHERE at >= $1 AND (at, seq) < ($2, $3) " + $rest
               + " ORDER BY at DESC, seq DESC OFFSET $4::bigint - 1 LIMIT 1",
            $query.from,
            $before.0,
            $before.1,
            i64::from(LOOK_MAX)
            $(, $argument)*
        )
    };
}

/// What was changed of the tenant's, the newest first.
#[utoipa::path(
    tag = "audit log",
    security(("tenantKey" = ["admin"])),
    params(
        ("actor" = Option<String>, Query, description = "What this one has changed only, as `key:…`"),
        ("resource" = Option<String>, Query, description = "Changes of this kind of thing only, as `media`, or of one of them, as `media/…`"),
        ("action" = Option<String>, Query, description = "Those that `create`, `update` or `delete` only"),
        ("from" = Option<String>, Query, description = "Not before this time (RFC 3339)"),
        ("to" = Option<String>, Query, description = "Before this time (RFC 3339)"),
        PageQuery
    ),
    responses((status = 200, description = "A page, newest first: shorter than asked for, or empty, where 10000 entries were looked at for it; `next_cursor` goes on", body = Page<Entry>))
)]
#[get("/audit-log")]
pub async fn list(
    caller: Caller,
    query: AuditQuery,
    database: &State<Database>,
) -> Result<Json<Page<Entry>>, ApiError> {
    caller.needs(Scope::Admin)?;
    if query.tenant.is_some() {
        return Err(ApiError::field("tenant", "is for the operator"));
    }
    let list = List { name: "audit-log", tenant: Some(caller.tenant) };
    let before = query.before(list)?;
    let mut transaction = caller.read(database).await?;
    let connection = transaction.connection();
    // What is rare goes by an index of its own; what an index does not tell is looked for among a bounded number of entries.
    let (id, actor) = (&query.resource_id, &query.actor);
    let reach = match (id, actor) {
        _ if !query.is_picky() => None,
        (Some(id), _) => {
            let reach = reach!(query, before, "AND resource = $5 AND resource_id = $6", query.resource, id);
            reach.fetch_optional(&mut *connection).await?
        }
        (None, Some(actor)) => reach!(query, before, "AND actor = $5", actor).fetch_optional(&mut *connection).await?,
        (None, None) => reach!(query, before, "").fetch_optional(&mut *connection).await?,
    };
    let from = query.begin(reach);
    let found = match (id, actor) {
        (Some(id), _) => {
            let rest = select!(
                query,
                from,
                before,
                "AND resource = $7 AND resource_id = $8 AND ($9::text IS NULL OR actor = $9)",
                query.resource,
                id,
                query.actor
            );
            rest.fetch_all(connection).await?
        }
        (None, Some(actor)) => {
            let rest = select!(
                query,
                from,
                before,
                "AND actor = $7 AND ($8::text IS NULL OR resource = $8)",
                actor,
                query.resource
            );
            rest.fetch_all(connection).await?
        }
        (None, None) => {
            let rest = select!(query, from, before, "AND ($7::text IS NULL OR resource = $7)", query.resource);
            rest.fetch_all(connection).await?
        }
    };
    Ok(Json(query.page(list, found, reach)))
}

/// What the operator has changed, of any tenant; or all that was changed of one, by its id, even if it is no more. The newest first.
#[utoipa::path(
    tag = "audit log",
    security(("adminKey" = [])),
    params(
        ("tenant" = Option<String>, Query, description = "All changes of this tenant, by its id; else those by the operator, of all"),
        ("actor" = Option<String>, Query, description = "What this one has changed only, as `key:…`"),
        ("resource" = Option<String>, Query, description = "Changes of this kind of thing only, as `tenant`, or of one of them, as `tenant/…`"),
        ("action" = Option<String>, Query, description = "Those that `create`, `update` or `delete` only"),
        ("from" = Option<String>, Query, description = "Not before this time (RFC 3339)"),
        ("to" = Option<String>, Query, description = "Before this time (RFC 3339)"),
        PageQuery
    ),
    responses((status = 200, description = "A page, newest first: shorter than asked for, or empty, where 10000 entries were looked at for it; `next_cursor` goes on", body = Page<Entry>))
)]
#[get("/operator/audit-log")]
pub async fn list_for_operator(
    admin: Admin,
    query: AuditQuery,
    database: &State<Database>,
) -> Result<Json<Page<Entry>>, ApiError> {
    let tenant = query.tenant.as_deref().map(str::parse::<TenantKey>).transpose();
    let tenant = tenant.map_err(|_| ApiError::field("tenant", "is the id of a tenant"))?;
    let list = List { name: "operator-audit-log", tenant };
    let before = query.before(list)?;
    let tenant = tenant.map(TenantKey::as_uuid);
    let mut connection = database.read_across(admin.freshness).await?;
    let reach = sqlx::query_as!(
        Reach,
        r#"SELECT at AS "at!", seq AS "seq!" FROM operator_audit_reach($1, $2, $3, $4, $5)"#,
        tenant,
        query.from,
        before.0,
        before.1,
        LOOK_MAX
    );
    let reach = if query.actor.is_some() || query.resource.is_some() || query.action.is_some() {
        reach.fetch_optional(&mut *connection).await?
    } else {
        None
    };
    let from = query.begin(reach);
    let found = sqlx::query_as!(
        Entry,
        r#"SELECT at AS "at!", tenant_id AS "tenant!", actor AS "actor!", operation, request_id::text, client,
             action AS "action!", resource AS "resource!", resource_id AS "resource_id!", before, after, seq AS "seq!"
           FROM operator_audit_log($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"#,
        tenant,
        query.actor,
        query.resource,
        query.resource_id,
        query.action,
        from.at,
        from.seq,
        before.0,
        before.1,
        query.page.look_for() as i32
    )
    .fetch_all(&mut *connection)
    .await?;
    Ok(Json(query.page(list, found, reach)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_and_mistakes_told() {
        let read = |fields: &[(&'static str, &'static str)]| AuditQuery::parse(fields.iter().copied());
        let query = read(&[("resource", "folder/a/b"), ("from", "2030-01-31T12:00:00+01:00"), ("limit", "5")]);
        let query = query.expect("good");
        assert_eq!((query.resource.as_deref(), query.resource_id.as_deref()), (Some("folder"), Some("a/b")));
        assert_eq!((query.from, query.to), (datetime!(2030-01-31 11:00 UTC), LATEST));
        for bad in [
            ("action", "drop"),
            ("from", "yesterday"),
            ("to", "1969-12-31T23:59:59Z"),
            ("actor", ""),
            ("actor", "a\0"),
            ("limit", "0"),
            ("before", "x"),
        ] {
            assert!(read(&[bad]).is_err(), "{bad:?}");
        }
    }
}
