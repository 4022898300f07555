//! `/v1/media`: what a tenant has uploaded.

mod upload;

use isolation::Database;
use rocket::http::{ContentType, Status};
use rocket::request::{FromRequest, Outcome, Request};
use rocket::serde::json::Json;
use rocket::{Data, Either, Responder, State, delete, get, patch, post, put};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use super::jobs::{self, Enqueued};
use super::{Created, Versioned, rest_of_path};
use crate::auth::{Caller, Scope};
use crate::body::Body;
use crate::etag::Condition;
use crate::media::{self, Batch, Change, FetchOrder, Filter, Library, Media, Published, Row};
use crate::page::{List, Page, PageQuery};
use crate::problem::ApiError;
use crate::requests::{Exchange, query_fields};

/// What becomes of a medium; what is left out stays as it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeMedia {
    public_id: Option<String>,
    folder: Option<String>,
    tags: Option<Vec<String>>,
    metadata: Option<Value>,
    /// `null` takes it away.
    #[serde(default, deserialize_with = "given")]
    expires_at: Option<Option<Rfc3339>>,
    /// `null` takes it away.
    #[serde(default, deserialize_with = "given")]
    filename: Option<Option<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Rfc3339(#[serde(with = "time::serde::rfc3339")] OffsetDateTime);

/// A field that is there, `null` or not.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl ChangeMedia {
    fn check(self) -> Result<Change, ApiError> {
        let folder = self.folder.as_deref().map(|path| media::folder(path).map(|path| path.map(str::to_owned)));
        let name = |name: String| match media::filename(&name) {
            Some(kept) if kept == name => Ok(name),
            _ => Err(ApiError::field("filename", "is 1 to 255 bytes without slashes and control characters")),
        };
        Ok(Change {
            public_id: self.public_id.as_deref().map(media::public_id).transpose()?,
            folder: folder.transpose()?,
            tags: self.tags.map(|tags| media::tags(tags.iter().map(String::as_str))).transpose()?,
            metadata: self.metadata.map(media::metadata).transpose()?,
            expires_at: self.expires_at.map(|at| at.map(|at| media::time_to_come(at.0)).transpose()).transpose()?,
            filename: self.filename.map(|given| given.map(name).transpose()).transpose()?,
        })
    }
}

/// Takes a file in.
#[post("/media", data = "<data>")]
pub async fn create(
    caller: Caller,
    content_type: Option<&ContentType>,
    data: Data<'_>,
    library: &State<Library>,
) -> Result<Created<Media>, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    let row = upload::create(library, caller.tenant, content_type, data).await?;
    let location = format!("/v1/media/{}", row.id);
    Ok(Created::new(row.version, location, row.seen_by(library, &caller.slug)))
}

/// Which media are asked for.
pub struct MediaQuery {
    filter: Filter,
    page: PageQuery,
}

impl MediaQuery {
    fn parse<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, ApiError> {
        let mut filter = Filter::default();
        let mut rest = Vec::new();
        for (name, value) in fields {
            match name {
                "folder" => filter.folder = Some(media::folder(value)?.map(str::to_owned)),
                "tag" => filter.tag = Some(media::tag(value).map_err(|_| of_query("tag", "is a tag"))?.to_owned()),
                "kind" => {
                    let why = "is image, video, audio, document or file";
                    filter.kind = Some(value.parse().map_err(|()| of_query("kind", why))?);
                }
                // Whatever a public id can begin with is a public id by itself, but for a slash at its end.
                "public_id_prefix" => {
                    media::public_id(value.strip_suffix('/').unwrap_or(value))
                        .map_err(|_| of_query("public_id_prefix", "is what a public id begins with"))?;
                    filter.public_id_prefix = Some(value.to_owned());
                }
                "limit" | "cursor" => rest.push((name, value)),
                _ => {
                    let known = "only \"folder\", \"tag\", \"kind\", \"public_id_prefix\", \"limit\" and \"cursor\" are known here";
                    return Err(of_query("query", known));
                }
            }
        }
        Ok(Self { filter, page: PageQuery::parse(rest)? })
    }
}

fn of_query(name: &'static str, why: &str) -> ApiError {
    ApiError::field(name, why)
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for MediaQuery {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        Exchange::outcome(request, Self::parse(query_fields(request)))
    }
}

/// Media, the newest first.
#[get("/media")]
pub async fn list(
    caller: Caller,
    query: MediaQuery,
    library: &State<Library>,
    database: &State<Database>,
) -> Result<Json<Page<Media>>, ApiError> {
    caller.needs(Scope::MediaRead)?;
    let list = List { name: "media", tenant: Some(caller.tenant) };
    let after = query.page.after(list)?.map(|after| after.parse().map_err(|_| ApiError::Cursor)).transpose()?;
    let mut transaction = database.begin(caller.tenant).await?;
    let found = media::list(&mut transaction, &query.filter, after, query.page.look_for()).await?;
    let page = query.page.page(list, found, |row: &Row| row.id.to_string());
    let items = page.items.into_iter().map(|row| row.seen_by(library, &caller.slug)).collect();
    Ok(Json(Page { items, next_cursor: page.next_cursor }))
}

/// One medium.
#[get("/media/<id>", rank = 1)]
pub async fn get(
    caller: Caller,
    id: &str,
    library: &State<Library>,
    database: &State<Database>,
) -> Result<Versioned<Media>, ApiError> {
    caller.needs(Scope::MediaRead)?;
    let row = media::find(&mut database.begin(caller.tenant).await?, known(id)?).await?;
    Ok(Versioned::new(row.version, row.seen_by(library, &caller.slug)))
}

/// The medium that a public id means.
#[get("/media/by-public-id/<_..>")]
pub async fn get_by_public_id(
    caller: Caller,
    public_id: PublicIdInPath,
    library: &State<Library>,
    database: &State<Database>,
) -> Result<Versioned<Media>, ApiError> {
    caller.needs(Scope::MediaRead)?;
    let public_id = media::public_id(&public_id.0).map_err(|_| ApiError::NotFound("medium"))?;
    let row = media::find_by_public_id(&mut database.begin(caller.tenant).await?, &public_id).await?;
    Ok(Versioned::new(row.version, row.seen_by(library, &caller.slug)))
}

/// Whatever comes after `/v1/media/by-public-id/`, decoded once.
pub struct PublicIdInPath(String);

#[rocket::async_trait]
impl<'r> FromRequest<'r> for PublicIdInPath {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let found = rest_of_path(request, "/v1/media/by-public-id/").map(Self);
        Exchange::outcome(request, found)
    }
}

/// Changes what is said of a medium.
#[patch("/media/<id>", data = "<body>")]
pub async fn change(
    caller: Caller,
    id: &str,
    condition: Condition,
    body: Body<ChangeMedia>,
    library: &State<Library>,
) -> Result<Versioned<Media>, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    library.store()?;
    let (id, change) = (known(id)?, body.into_inner().check()?);
    let row = media::change(library, caller.tenant, id, condition, |_| Ok(Some(change))).await?;
    Ok(Versioned::new(row.version, row.seen_by(library, &caller.slug)))
}

/// Gives a medium other bytes.
#[put("/media/<id>/file", data = "<data>")]
pub async fn replace(
    caller: Caller,
    id: &str,
    condition: Condition,
    content_type: Option<&ContentType>,
    data: Data<'_>,
    library: &State<Library>,
) -> Result<Versioned<Media>, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    let row = upload::replace(library, caller.tenant, (known(id)?, condition), content_type, data).await?;
    Ok(Versioned::new(row.version, row.seen_by(library, &caller.slug)))
}

/// What was done, although edges are not told yet.
#[derive(Debug, Serialize)]
pub struct NotPublished {
    published: bool,
}

/// An answer with [`NotPublished`].
#[derive(Responder)]
#[response(status = 202)]
pub struct Accepted(Json<NotPublished>);

/// Deletes a medium.
#[delete("/media/<id>")]
pub async fn delete(
    caller: Caller,
    id: &str,
    condition: Condition,
    library: &State<Library>,
) -> Result<Either<Status, Accepted>, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    Ok(match media::delete(library, caller.tenant, known(id)?, condition).await? {
        Published::Yes => Either::Left(Status::NoContent),
        Published::Later => Either::Right(Accepted(Json(NotPublished { published: false }))),
    })
}

/// Changes many media alike, later.
#[post("/media/batch", data = "<body>")]
pub async fn batch(caller: Caller, body: Body<Batch>, library: &State<Library>) -> Result<Enqueued, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    library.store()?;
    body.check()?;
    jobs::enqueue(library.database(), &caller, Batch::JOB, payload(&*body)?).await
}

/// Takes in what is at a URL, later.
#[post("/media/fetch", data = "<body>")]
pub async fn fetch(caller: Caller, body: Body<FetchOrder>, library: &State<Library>) -> Result<Enqueued, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    library.store()?;
    body.check()?;
    jobs::enqueue(library.database(), &caller, FetchOrder::JOB, payload(&*body)?).await
}

fn payload(order: &impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(order).map_err(|_| ApiError::Internal)
}

/// The id of a medium that may be there: what none can have is not asked for.
fn known(text: &str) -> Result<Uuid, ApiError> {
    text.parse().map_err(|_| ApiError::NotFound("medium"))
}
