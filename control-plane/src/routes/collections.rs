//! `/v1/collections`: media put together by hand, in an order of its own.

use std::collections::BTreeSet;

use isolation::Database;
use rocket::http::Status;
use rocket::request::{FromRequest, Outcome, Request};
use rocket::serde::json::Json;
use rocket::{State, delete, get, patch, post};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Versioned;
use crate::answer::Answer;
use crate::auth::{Caller, Scope};
use crate::body::Body;
use crate::collections::{self, Collection, CountedCollection, Membership, Place, Said};
use crate::etag::Condition;
use crate::idempotency::{Begun, Once};
use crate::media::{self, Library, Media};
use crate::page::{List, Page, PageQuery};
use crate::problem::ApiError;
use crate::requests::{Exchange, query_fields};
use crate::sealing::Seal;

/// What a collection is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateCollection {
    /// What people call it: 1 to 255 bytes. Several may be called the same.
    name: String,
    /// What it is about, at most 4096 bytes.
    description: Option<String>,
    /// A JSON object.
    metadata: Option<Value>,
}

/// What becomes of a collection; what is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeCollection {
    name: Option<String>,
    description: Option<String>,
    metadata: Option<Value>,
}

impl ChangeCollection {
    fn check(&self) -> Result<Said, ApiError> {
        Ok(Said {
            name: self.name.as_deref().map(collections::name).transpose()?,
            description: self.description.as_deref().map(collections::description).transpose()?,
            metadata: self.metadata.clone().map(media::metadata).transpose()?,
        })
    }
}

/// Which collections are asked for.
pub struct CollectionQuery {
    media: Option<Uuid>,
    page: PageQuery,
}

impl CollectionQuery {
    fn parse<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, ApiError> {
        let (mut media, mut rest) = (None, Vec::new());
        for (name, value) in fields {
            if name == "media" {
                media = Some(value.parse().map_err(|_| ApiError::field("media", "is the id of a medium"))?);
            } else {
                rest.push((name, value));
            }
        }
        Ok(Self { media, page: PageQuery::parse(rest)? })
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for CollectionQuery {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        Exchange::outcome(request, Self::parse(query_fields(request)))
    }
}

/// Makes a collection that nothing is in.
#[utoipa::path(
    tag = "collections",
    security(("tenantKey" = ["media:write"])),
    params(Once),
    request_body = CreateCollection,
    responses((status = 201, description = "Made", body = Collection, headers(("ETag" = String, description = "Its version"), ("Location" = String, description = "Where it is"))))
)]
#[post("/collections", data = "<body>")]
pub async fn create(
    caller: Caller,
    once: Once,
    body: Body<CreateCollection>,
    database: &State<Database>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    let said = Said {
        name: Some(collections::name(&body.name)?),
        description: body.description.as_deref().map(collections::description).transpose()?,
        metadata: body.metadata.clone().map(media::metadata).transpose()?,
    };
    let mut work = match once.begin(database, seal, &caller.mandate, &body.fingerprint).await? {
        Begun::First(work) => work,
        Begun::Again(answer) => return Ok(answer),
    };
    let made = collections::create(work.transaction(), said).await?;
    let location = format!("/v1/collections/{}", made.id);
    work.commit(Answer::created(made.version, location, &made)?).await
}

/// Collections, the newest first.
#[utoipa::path(
    tag = "collections",
    security(("tenantKey" = ["media:read"])),
    params(("media" = Option<Uuid>, Query, description = "Those only that this medium is in"), PageQuery),
    responses((status = 200, description = "A page, newest first", body = Page<Collection>))
)]
#[get("/collections")]
pub async fn list(
    caller: Caller,
    query: CollectionQuery,
    database: &State<Database>,
) -> Result<Json<Page<Collection>>, ApiError> {
    caller.needs(Scope::MediaRead)?;
    let list = List { name: "collections", tenant: Some(caller.tenant) };
    let after = query.page.after(list)?.map(|after| after.parse().map_err(|_| ApiError::Cursor)).transpose()?;
    let mut transaction = caller.read(database).await?;
    let found = collections::list(&mut transaction, query.media, after, query.page.look_for()).await?;
    Ok(Json(query.page.page(list, found, |collection| collection.id.to_string())))
}

/// One collection, and how much is in it.
#[utoipa::path(
    tag = "collections",
    security(("tenantKey" = ["media:read"])),
    responses((status = 200, description = "It", body = CountedCollection, headers(("ETag" = String, description = "Its version"))))
)]
#[get("/collections/<id>")]
pub async fn get(
    caller: Caller,
    id: &str,
    database: &State<Database>,
) -> Result<Versioned<CountedCollection>, ApiError> {
    caller.needs(Scope::MediaRead)?;
    let found = collections::find(&mut database.begin(&caller.mandate).await?, known(id)?).await?;
    Ok(Versioned::new(found.collection.version, found))
}

/// Changes what is said of a collection.
#[utoipa::path(
    tag = "collections",
    security(("tenantKey" = ["media:write"])),
    params(Condition),
    request_body = ChangeCollection,
    responses((status = 200, description = "Changed", body = Collection, headers(("ETag" = String, description = "Its version"))))
)]
#[patch("/collections/<id>", data = "<body>")]
pub async fn change(
    caller: Caller,
    id: &str,
    condition: Condition,
    body: Body<ChangeCollection>,
    database: &State<Database>,
) -> Result<Versioned<Collection>, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    let said = body.check()?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let changed = collections::change(&mut transaction, known(id)?, condition, said).await?;
    transaction.commit().await?;
    Ok(Versioned::new(changed.version, changed))
}

/// Deletes a collection. What is in it stays.
#[utoipa::path(
    tag = "collections",
    security(("tenantKey" = ["media:write"])),
    params(Condition),
    responses((status = 204, description = "It is no more"))
)]
#[delete("/collections/<id>")]
pub async fn delete(
    caller: Caller,
    id: &str,
    condition: Condition,
    database: &State<Database>,
) -> Result<Status, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    let mut transaction = database.begin(&caller.mandate).await?;
    collections::delete(&mut transaction, known(id)?, condition).await?;
    transaction.commit().await?;
    Ok(Status::NoContent)
}

/// What is in a collection, in its order.
#[utoipa::path(
    tag = "collections",
    operation_id = "list_media",
    security(("tenantKey" = ["media:read"])),
    params(PageQuery),
    responses((status = 200, description = "A page, in the collection's order", body = Page<Media>))
)]
#[get("/collections/<id>/media")]
pub async fn list_media(
    caller: Caller,
    id: &str,
    query: PageQuery,
    library: &State<Library>,
    database: &State<Database>,
) -> Result<Json<Page<Media>>, ApiError> {
    caller.needs(Scope::MediaRead)?;
    let (id, list) = (known(id)?, List { name: "collection_media", tenant: Some(caller.tenant) });
    let after = query.after(list)?.map(|text| placed(&text).ok_or(ApiError::Cursor)).transpose()?;
    let mut transaction = caller.read(database).await?;
    let found = collections::list_members(&mut transaction, id, after, query.look_for()).await?;
    let page = query.page(list, found, |(position, row)| format!("{position}/{}", row.id));
    let items = page.items.into_iter().map(|(_, row)| row.seen_by(library, &caller.slug)).collect();
    Ok(Json(Page { items, next_cursor: page.next_cursor }))
}

/// The place of a medium, out of a cursor.
fn placed(text: &str) -> Option<(i64, Uuid)> {
    let (position, id) = text.split_once('/')?;
    Some((position.parse().ok()?, id.parse().ok()?))
}

/// Media for a collection, and where it is put.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutMedia {
    /// 1 to 1000 media, in the order in which they are put there.
    ids: Vec<Uuid>,
    /// At one of its ends.
    at: Option<AtEnd>,
    /// Right before this one.
    before: Option<Uuid>,
    /// Right after this one.
    after: Option<Uuid>,
}

/// An end of a collection.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AtEnd {
    /// Before all that is in it.
    Start,
    /// After all that is in it.
    End,
}

impl PutMedia {
    fn place(&self) -> Result<Option<Place>, ApiError> {
        match (self.at, self.before, self.after) {
            (None, None, None) => Ok(None),
            (Some(AtEnd::Start), None, None) => Ok(Some(Place::Start)),
            (Some(AtEnd::End), None, None) => Ok(Some(Place::End)),
            (None, Some(id), None) => Ok(Some(Place::Before(id))),
            (None, None, Some(id)) => Ok(Some(Place::After(id))),
            _ => Err(ApiError::field("at", "stands alone: there is one place, by \"at\", \"before\" or \"after\"")),
        }
    }
}

/// What was put into a collection.
#[derive(Debug, Serialize, ToSchema)]
pub struct MediaPut {
    /// How many were not in it before.
    added: usize,
    /// How many are in it now.
    media_count: usize,
}

/// Puts media into a collection, or elsewhere in it. Where no place is named, what is new goes to the end, and what is in it stays where it is.
#[utoipa::path(
    tag = "collections",
    operation_id = "put_media",
    security(("tenantKey" = ["media:write"])),
    params(Once, Condition),
    request_body = PutMedia,
    responses((status = 200, description = "They are in it", body = MediaPut, headers(("ETag" = String, description = "The collection's version"))))
)]
#[post("/collections/<id>/media", data = "<body>")]
pub async fn put_media(
    caller: Caller,
    once: Once,
    id: &str,
    condition: Condition,
    body: Body<PutMedia>,
    database: &State<Database>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    let (id, place) = (known(id)?, body.place()?);
    let mut work = match once.begin(database, seal, &caller.mandate, &body.fingerprint).await? {
        Begun::First(work) => work,
        Begun::Again(answer) => return Ok(answer),
    };
    let Membership { changed, media_count, version } =
        collections::put(work.transaction(), id, condition, &body.ids, place).await?;
    work.commit(Answer::changed(version, &MediaPut { added: changed, media_count })?).await
}

/// Media that is to be taken out of a collection.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RemoveMedia {
    /// 1 to 1000 media.
    ids: BTreeSet<Uuid>,
}

/// What was taken out of a collection.
#[derive(Debug, Serialize, ToSchema)]
pub struct MediaRemoved {
    /// How many were in it before.
    removed: usize,
    /// How many are in it now.
    media_count: usize,
}

/// Takes media out of a collection. What is not in it is as good.
#[utoipa::path(
    tag = "collections",
    operation_id = "remove_media",
    security(("tenantKey" = ["media:write"])),
    params(Once, Condition),
    request_body = RemoveMedia,
    responses((status = 200, description = "They are not in it", body = MediaRemoved, headers(("ETag" = String, description = "The collection's version"))))
)]
#[post("/collections/<id>/media/remove", data = "<body>")]
pub async fn remove_media(
    caller: Caller,
    once: Once,
    id: &str,
    condition: Condition,
    body: Body<RemoveMedia>,
    database: &State<Database>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    let (id, ids) = (known(id)?, body.ids.iter().copied().collect::<Vec<_>>());
    let mut work = match once.begin(database, seal, &caller.mandate, &body.fingerprint).await? {
        Begun::First(work) => work,
        Begun::Again(answer) => return Ok(answer),
    };
    let Membership { changed, media_count, version } =
        collections::remove(work.transaction(), id, condition, &ids).await?;
    work.commit(Answer::changed(version, &MediaRemoved { removed: changed, media_count })?).await
}

/// The id of a collection that may be there: what none can have is not asked for.
fn known(text: &str) -> Result<Uuid, ApiError> {
    text.parse().map_err(|_| ApiError::NotFound("collection"))
}
