//! `/v1/tags`: what media are tagged with. A tag is there while something has it.

use isolation::Database;
use rocket::request::{FromRequest, Outcome, Request};
use rocket::serde::json::Json;
use rocket::{State, delete, get, post};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::jobs::{self, JobView, NOTHING, NewWork};
use super::media::payload;
use crate::answer::Answer;
use crate::auth::{Caller, Scope};
use crate::body::Body;
use crate::idempotency::Once;
use crate::media::{self, Batch, Bulk, Library, Tally};
use crate::page::{List, Page, PageQuery};
use crate::problem::ApiError;
use crate::requests::{Exchange, query_fields};
use crate::sealing::Seal;

/// A tag, and what has it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Tag {
    tag: String,
    /// How many media.
    media: i64,
    /// How many bytes they have.
    bytes: i64,
}

/// Which tags are asked for.
pub struct TagQuery {
    prefix: String,
    page: PageQuery,
}

impl TagQuery {
    fn parse<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, ApiError> {
        let (mut prefix, mut rest) = (String::new(), Vec::new());
        for (name, value) in fields {
            if name == "prefix" {
                media::tag(value).map_err(|_| ApiError::field("prefix", "is what a tag begins with"))?;
                prefix = value.to_owned();
            } else {
                rest.push((name, value));
            }
        }
        Ok(Self { prefix, page: PageQuery::parse(rest)? })
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for TagQuery {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        Exchange::outcome(request, Self::parse(query_fields(request)))
    }
}

/// Tags, by their names.
#[utoipa::path(
    tag = "tags",
    security(("tenantKey" = ["media:read"])),
    params(("prefix" = Option<String>, Query, description = "What they begin with"), PageQuery),
    responses((status = 200, description = "A page, by name", body = Page<Tag>))
)]
#[get("/tags")]
pub async fn list(caller: Caller, query: TagQuery, database: &State<Database>) -> Result<Json<Page<Tag>>, ApiError> {
    caller.needs(Scope::MediaRead)?;
    let list = List { name: "tags", tenant: Some(caller.tenant) };
    let (after, count) = (query.page.after(list)?.unwrap_or_default(), query.page.look_for());
    let mut transaction = caller.read(database).await?;
    // No tag is longer than what comes after the prefix here.
    let found = sqlx::query_as!(
        Tag,
        "SELECT name AS tag, media, bytes FROM media_counts
         WHERE kind = 'tag' AND name > $1 AND name BETWEEN $2 AND $2 || repeat(chr(1114111), 32) AND starts_with(name, $2)
         ORDER BY name LIMIT $3",
        after,
        query.prefix,
        count
    );
    let found = found.fetch_all(transaction.connection()).await?;
    Ok(Json(query.page.page(list, found, |tag| tag.tag.clone())))
}

/// Another name for a tag.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameTag {
    from: String,
    to: String,
}

impl RenameTag {
    fn check(&self) -> Result<(&str, &str), ApiError> {
        let tag = |name, text| media::tag(text).map_err(|error| renamed(error, name));
        let (from, to) = (tag("from", &self.from)?, tag("to", &self.to)?);
        if from == to { Err(ApiError::field("to", "is another tag than \"from\"")) } else { Ok((from, to)) }
    }
}

/// The same about a field of this name.
fn renamed(error: ApiError, name: &'static str) -> ApiError {
    match error {
        ApiError::Field { why, .. } => ApiError::Field { name, why },
        error => error,
    }
}

/// Gives a tag another name. If there is one of that name, both become one.
#[utoipa::path(
    tag = "tags",
    security(("tenantKey" = ["media:write"])),
    params(Once),
    request_body = RenameTag,
    responses(
        (status = 200, description = "What has come of it", body = Tally),
        (status = 202, description = "The job that does it to many", body = JobView, headers(("Location" = String, description = "Where it is")))
    )
)]
#[post("/tags/rename", data = "<body>")]
pub async fn rename(
    caller: Caller,
    once: Once,
    body: Body<RenameTag>,
    library: &State<Library>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    let (from, to) = body.check()?;
    edit(&caller, once, &Batch::rename_tag(from, to), &body.fingerprint, (library, seal)).await
}

/// Takes a tag away from all that has it.
#[utoipa::path(
    tag = "tags",
    security(("tenantKey" = ["media:write"])),
    params(("tag" = String, Path, description = "A slash in it is encoded")),
    responses(
        (status = 200, description = "What has come of it", body = Tally),
        (status = 202, description = "The job that does it to many", body = JobView, headers(("Location" = String, description = "Where it is")))
    )
)]
#[delete("/tags/<tag>")]
pub async fn delete(
    caller: Caller,
    tag: &str,
    library: &State<Library>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    let tag = media::tag(tag).map_err(|_| ApiError::NotFound("tag"))?;
    edit(&caller, Once::each_time(), &Batch::remove_tag(tag), &NOTHING, (library, seal)).await
}

async fn edit(
    caller: &Caller,
    once: Once,
    batch: &Batch,
    fingerprint: &crate::idempotency::Fingerprint,
    (library, seal): (&Library, &Seal),
) -> Result<Answer, ApiError> {
    let bulk = Bulk::of_batch(batch)?;
    let work = NewWork { kind: Batch::JOB, payload: payload(batch)?, fingerprint };
    jobs::edit(caller, once, (&bulk, "tag"), work, library, seal).await
}
