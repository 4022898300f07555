//! `/v1/media`: what a tenant has uploaded.

pub mod bytes;
pub mod review;
mod upload;

use isolation::Database;
use rocket::http::{ContentType, Status};
use rocket::request::{FromRequest, Outcome, Request};
use rocket::serde::json::Json;
use rocket::{Data, Either, Responder, State, delete, get, patch, post, put};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::jobs::{self, JobView, NewWork};
use super::{RestOfPath, Versioned};
use crate::answer::Answer;
use crate::auth::{Caller, Scope};
use crate::body::Body;
use crate::etag::Condition;
use crate::idempotency::Once;
use crate::media::{self, Batch, Change, CopyOrder, FetchOrder, Filter, Library, Media, Published, Row};
use crate::page::{List, Page, PageQuery};
use crate::problem::ApiError;
use crate::requests::{Exchange, query_fields};
use crate::sealing::Seal;

/// What becomes of a medium; what is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeMedia {
    public_id: Option<String>,
    folder: Option<String>,
    tags: Option<Vec<String>>,
    metadata: Option<Value>,
    /// `null` takes it away.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Option<Rfc3339>>,
    /// `null` takes it away.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
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

/// A form with a file.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only described: forms are read as they come")]
pub struct UploadForm {
    /// The file. It may stand anywhere in the form.
    #[schema(value_type = String, format = Binary)]
    file: String,
    /// Its name in URLs.
    public_id: Option<String>,
    /// The folder that it is in.
    folder: Option<String>,
    /// With commas between them.
    tags: Option<String>,
    /// A JSON object.
    metadata: Option<String>,
    /// As in RFC 3339.
    expires_at: Option<String>,
}

/// A form with a file and nothing else.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only described: forms are read as they come")]
pub struct FileForm {
    /// The file.
    #[schema(value_type = String, format = Binary)]
    file: String,
}

/// Takes a file in.
#[utoipa::path(
    tag = "media",
    security(("tenantKey" = ["media:write"])),
    params(Once),
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    responses((status = 201, description = "Made", body = Media, headers(("ETag" = String, description = "Its version"), ("Location" = String, description = "Where it is"))))
)]
#[post("/media", data = "<data>")]
pub async fn create(
    caller: Caller,
    once: Once,
    content_type: Option<&ContentType>,
    data: Data<'_>,
    library: &State<Library>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    upload::create(library, &caller, (once, seal), content_type, data).await
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
            if matches!(name, "limit" | "cursor") {
                rest.push((name, value));
            } else if !filter.add(name, value)? {
                let known = "only \"folder\", \"tag\", \"kind\", \"state\", \"replacement\", \"public_id_prefix\", \"limit\" and \"cursor\" are known here";
                return Err(ApiError::field("query", known));
            }
        }
        Ok(Self { filter, page: PageQuery::parse(rest)? })
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for MediaQuery {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        Exchange::outcome(request, Self::parse(query_fields(request)))
    }
}

/// Media, the newest first.
#[utoipa::path(
    tag = "media",
    security(("tenantKey" = ["media:read"])),
    params(
        ("folder" = Option<String>, Query, description = "Those in this folder only; empty is the top"),
        ("tag" = Option<String>, Query, description = "Those with this tag only"),
        ("kind" = Option<String>, Query, description = "image, video, audio, document or file"),
        (
            "state" = Option<String>, Query,
            description = "quarantined, processing, playable, ready, failed or rejected"
        ),
        ("replacement" = Option<String>, Query, description = "Those whose replacement is quarantined or rejected"),
        ("public_id_prefix" = Option<String>, Query, description = "What their public ids begin with"),
        PageQuery
    ),
    responses((status = 200, description = "A page, newest first", body = Page<Media>))
)]
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
    let mut transaction = caller.read(database).await?;
    let found = media::list(&mut transaction, &query.filter, after, query.page.look_for()).await?;
    let page = query.page.page(list, found, |row: &Row| row.id.to_string());
    let items = page.items.into_iter().map(|row| row.seen_by(library, &caller.slug)).collect();
    Ok(Json(Page { items, next_cursor: page.next_cursor }))
}

/// One medium.
#[utoipa::path(
    tag = "media",
    security(("tenantKey" = ["media:read"])),
    responses((status = 200, description = "It", body = Media, headers(("ETag" = String, description = "Its version"))))
)]
#[get("/media/<id>", rank = 1)]
pub async fn get(
    caller: Caller,
    id: &str,
    library: &State<Library>,
    database: &State<Database>,
) -> Result<Versioned<Media>, ApiError> {
    caller.needs(Scope::MediaRead)?;
    let row = media::find(&mut database.begin(&caller.mandate).await?, known(id)?).await?;
    Ok(Versioned::new(row.version, row.seen_by(library, &caller.slug)))
}

/// The medium that a public id means.
#[utoipa::path(
    tag = "media",
    security(("tenantKey" = ["media:read"])),
    params(("public_id" = String, Path, description = "The name in URLs; slashes need not be encoded")),
    responses((status = 200, description = "It", body = Media, headers(("ETag" = String, description = "Its version"))))
)]
#[get("/media/by-public-id/<public_id..>")]
pub async fn get_by_public_id(
    caller: Caller,
    public_id: RestOfPath,
    library: &State<Library>,
    database: &State<Database>,
) -> Result<Versioned<Media>, ApiError> {
    caller.needs(Scope::MediaRead)?;
    let public_id = media::public_id(&public_id.0).map_err(|_| ApiError::NotFound("medium"))?;
    let row = media::find_by_public_id(&mut database.begin(&caller.mandate).await?, &public_id).await?;
    Ok(Versioned::new(row.version, row.seen_by(library, &caller.slug)))
}

/// Changes what is said of a medium.
#[utoipa::path(
    tag = "media",
    security(("tenantKey" = ["media:write"])),
    params(Condition),
    request_body = ChangeMedia,
    responses((status = 200, description = "Changed", body = Media, headers(("ETag" = String, description = "Its version"))))
)]
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
    let (id, change) = (known(id)?, body.into_value().check()?);
    let row = media::change(library, &caller.mandate, id, condition, change).await?;
    Ok(Versioned::new(row.version, row.seen_by(library, &caller.slug)))
}

/// Gives a medium other bytes.
#[utoipa::path(
    tag = "media",
    security(("tenantKey" = ["media:write"])),
    params(Condition),
    request_body(content = FileForm, content_type = "multipart/form-data"),
    responses((status = 200, description = "Replaced", body = Media, headers(("ETag" = String, description = "Its version"))))
)]
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
    let row = upload::replace(library, &caller.mandate, (known(id)?, condition), content_type, data).await?;
    Ok(Versioned::new(row.version, row.seen_by(library, &caller.slug)))
}

/// What was done, although edges are not told yet.
#[derive(Debug, Serialize, ToSchema)]
pub struct NotPublished {
    published: bool,
}

/// An answer with [`NotPublished`].
#[derive(Responder)]
#[response(status = 202)]
pub struct Accepted(Json<NotPublished>);

/// Deletes a medium.
#[utoipa::path(
    tag = "media",
    security(("tenantKey" = ["media:write"])),
    params(Condition),
    responses((status = 202, description = "Deleted; edges are told later", body = NotPublished), (status = 204, description = "Deleted"))
)]
#[delete("/media/<id>")]
pub async fn delete(
    caller: Caller,
    id: &str,
    condition: Condition,
    library: &State<Library>,
) -> Result<Either<Status, Accepted>, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    Ok(match media::delete(library, &caller.mandate, known(id)?, condition).await? {
        Published::Yes => Either::Left(Status::NoContent),
        Published::Later => Either::Right(Accepted(Json(NotPublished { published: false }))),
    })
}

/// Makes a medium of the bytes of another one. What is left out is said of it as of the other one, but for the public id.
#[utoipa::path(
    tag = "media",
    security(("tenantKey" = ["media:write"])),
    params(Once),
    request_body = ChangeMedia,
    responses(
        (status = 201, description = "Made", body = Media, headers(("ETag" = String, description = "Its version"), ("Location" = String, description = "Where it is"))),
        (status = 202, description = "The job that makes a large one", body = JobView, headers(("Location" = String, description = "Where it is")))
    )
)]
#[post("/media/<id>/copy", data = "<body>")]
pub async fn copy(
    caller: Caller,
    once: Once,
    id: &str,
    body: Body<ChangeMedia>,
    library: &State<Library>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    library.store()?;
    let fingerprint = body.fingerprint;
    let (id, other) = (known(id)?, body.into_value().check()?);
    let (order, is_small) = CopyOrder::of(&mut library.database().begin(&caller.mandate).await?, id, other).await?;
    if is_small {
        return upload::copy(library, &caller, (once, seal), &fingerprint, &order).await;
    }
    let work = NewWork { kind: CopyOrder::JOB, payload: payload(&order)?, fingerprint: &fingerprint };
    jobs::enqueue(&caller, once, work, library.database(), seal).await
}

/// Changes many media alike, later.
#[utoipa::path(
    tag = "media",
    security(("tenantKey" = ["media:write"])),
    params(Once),
    request_body = Batch,
    responses((status = 202, description = "The job that does it", body = JobView, headers(("Location" = String, description = "Where it is"))))
)]
#[post("/media/batch", data = "<body>")]
pub async fn batch(
    caller: Caller,
    once: Once,
    body: Body<Batch>,
    library: &State<Library>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    library.store()?;
    body.check()?;
    let work = NewWork { kind: Batch::JOB, payload: payload(&*body)?, fingerprint: &body.fingerprint };
    jobs::enqueue(&caller, once, work, library.database(), seal).await
}

/// Takes in what is at a URL, later.
#[utoipa::path(
    tag = "media",
    security(("tenantKey" = ["media:write"])),
    params(Once),
    request_body = FetchOrder,
    responses((status = 202, description = "The job that does it", body = JobView, headers(("Location" = String, description = "Where it is"))))
)]
#[post("/media/fetch", data = "<body>")]
pub async fn fetch(
    caller: Caller,
    once: Once,
    body: Body<FetchOrder>,
    library: &State<Library>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    library.store()?;
    body.check()?;
    let work = NewWork { kind: FetchOrder::JOB, payload: payload(&*body)?, fingerprint: &body.fingerprint };
    jobs::enqueue(&caller, once, work, library.database(), seal).await
}

/// What a worker is told.
pub fn payload(order: &impl Serialize) -> Result<Value, ApiError> {
    serde_json::to_value(order).map_err(|_| ApiError::Internal)
}

/// The id of a medium that may be there: what none can have is not asked for.
fn known(text: &str) -> Result<Uuid, ApiError> {
    text.parse().map_err(|_| ApiError::NotFound("medium"))
}
