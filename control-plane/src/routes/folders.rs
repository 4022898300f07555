//! `/v1/folders`: where media is in, for people to find it. Folders are made by whatever is put into them, too.

use isolation::{Database, DatabaseError};
use rocket::http::Status;
use rocket::request::{FromRequest, Outcome, Request};
use rocket::serde::json::Json;
use rocket::{State, delete, get, post, put};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::RestOfPath;
use super::jobs::{self, JobView, NewWork};
use super::media::payload;
use crate::answer::Answer;
use crate::auth::{Caller, Scope};
use crate::body::Body;
use crate::idempotency::Once;
use crate::media::{self, Bulk, CountedFolder, FolderMove, Library, Tally};
use crate::page::{List, Page, PageQuery};
use crate::problem::ApiError;
use crate::requests::{Exchange, query_fields};
use crate::sealing::Seal;

/// Most levels of the tree in one answer: as deep as folders may be.
const LEVELS_MAX: u8 = 32;

/// A folder.
#[derive(Debug, Serialize, ToSchema)]
pub struct Folder {
    path: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
}

/// Which folders are asked for.
pub struct FolderQuery {
    /// Those in this one; `Some(None)` is the top.
    parent: Option<Option<String>>,
    page: PageQuery,
}

impl FolderQuery {
    fn parse<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, ApiError> {
        let (mut parent, mut rest) = (None, Vec::new());
        for (name, value) in fields {
            if name == "parent" {
                parent = Some(media::folder(value)?.map(str::to_owned));
            } else {
                rest.push((name, value));
            }
        }
        Ok(Self { parent, page: PageQuery::parse(rest)? })
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for FolderQuery {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        Exchange::outcome(request, Self::parse(query_fields(request)))
    }
}

/// Which part of the tree is asked for.
pub struct TreeQuery {
    /// The folders within this one; `None` is the top.
    parent: Option<String>,
    /// Up to so many levels below it.
    levels: u8,
    page: PageQuery,
}

impl TreeQuery {
    fn parse<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, ApiError> {
        let (mut parent, mut levels, mut rest) = (None, 1, Vec::new());
        for (name, value) in fields {
            match name {
                "parent" => parent = media::folder(value)?.map(str::to_owned),
                "levels" => {
                    let given = value.parse().ok().filter(|levels| (1..=LEVELS_MAX).contains(levels));
                    levels = given.ok_or_else(|| ApiError::field("levels", format!("is 1 to {LEVELS_MAX}")))?;
                }
                _ => rest.push((name, value)),
            }
        }
        Ok(Self { parent, levels, page: PageQuery::parse(rest)? })
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for TreeQuery {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        Exchange::outcome(request, Self::parse(query_fields(request)))
    }
}

/// A page of the tree of folders, and how much is in each.
#[derive(Debug, Serialize, ToSchema)]
pub struct FolderTree {
    /// What was asked for: the top, or a folder.
    folder: CountedFolder,
    /// Those within it.
    items: Vec<CountedFolder>,
    /// What asks for the next page; `null` on the last.
    next_cursor: Option<String>,
}

/// The folder that a path names.
fn named(path: &RestOfPath) -> Result<&str, ApiError> {
    media::folder(&path.0)?.ok_or(ApiError::NotFound("folder"))
}

/// Folders, by their paths.
#[utoipa::path(
    tag = "folders",
    security(("tenantKey" = ["media:read"])),
    params(("parent" = Option<String>, Query, description = "Those in this one only; empty is the top"), PageQuery),
    responses((status = 200, description = "A page, by path", body = Page<Folder>))
)]
#[get("/folders")]
pub async fn list(
    caller: Caller,
    query: FolderQuery,
    database: &State<Database>,
) -> Result<Json<Page<Folder>>, ApiError> {
    caller.needs(Scope::MediaRead)?;
    let list = List { name: "folders", tenant: Some(caller.tenant) };
    let (after, count) = (query.page.after(list)?.unwrap_or_default(), query.page.look_for());
    let mut transaction = caller.read(database).await?;
    let connection = transaction.connection();
    let found = match &query.parent {
        None => {
            let found = sqlx::query_as!(
                Folder,
                "SELECT path, created_at FROM folders WHERE path > $1 ORDER BY path LIMIT $2",
                after,
                count
            );
            found.fetch_all(connection).await?
        }
        Some(None) => {
            let found = sqlx::query_as!(
                Folder,
                "SELECT path, created_at FROM folders WHERE parent IS NULL AND path > $1 ORDER BY path LIMIT $2",
                after,
                count
            );
            found.fetch_all(connection).await?
        }
        Some(Some(parent)) => {
            let found = sqlx::query_as!(
                Folder,
                "SELECT path, created_at FROM folders WHERE parent = $1 AND path > $2 ORDER BY path LIMIT $3",
                parent,
                after,
                count
            );
            found.fetch_all(connection).await?
        }
    };
    Ok(Json(query.page.page(list, found, |folder| folder.path.clone())))
}

/// Folders with how much is in them, by their paths.
#[utoipa::path(
    tag = "folders",
    security(("tenantKey" = ["media:read"])),
    params(
        ("parent" = Option<String>, Query, description = "Those within this one; empty, or left out, is the top"),
        ("levels" = Option<u8>, Query, description = "Up to so many levels below it, 1 to 32; 1 if not said"),
        PageQuery
    ),
    responses((status = 200, description = "A page, by path", body = FolderTree))
)]
#[get("/folders/tree")]
pub async fn tree(caller: Caller, query: TreeQuery, database: &State<Database>) -> Result<Json<FolderTree>, ApiError> {
    caller.needs(Scope::MediaRead)?;
    let list = List { name: "folders/tree", tenant: Some(caller.tenant) };
    let (after, parent) = (query.page.after(list)?, query.parent.as_deref());
    let mut transaction = caller.read(database).await?;
    let folder = media::count(&mut transaction, parent).await?;
    let found = media::tree(&mut transaction, parent, query.levels, after.as_deref(), query.page.look_for()).await?;
    let Page { items, next_cursor } = query.page.page(list, found, |folder| folder.path.clone());
    Ok(Json(FolderTree { folder, items, next_cursor }))
}

/// Gives a folder another name or place, with all that is in it.
#[utoipa::path(
    tag = "folders",
    security(("tenantKey" = ["media:write"])),
    params(Once),
    request_body = FolderMove,
    responses(
        (status = 200, description = "What has come of it", body = Tally),
        (status = 202, description = "The job that moves many", body = JobView, headers(("Location" = String, description = "Where it is")))
    )
)]
#[post("/folders/move", data = "<body>")]
pub async fn move_to(
    caller: Caller,
    once: Once,
    body: Body<FolderMove>,
    library: &State<Library>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    let bulk = Bulk::of_move(&body)?;
    let work = NewWork { kind: FolderMove::JOB, payload: payload(&*body)?, fingerprint: &body.fingerprint };
    jobs::edit(&caller, once, (&bulk, "folder"), work, library, seal).await
}

/// Makes a folder, and those that it is in.
#[utoipa::path(
    tag = "folders",
    security(("tenantKey" = ["media:write"])),
    params(("path" = String, Path, description = "Names with slashes between them")),
    responses((status = 200, description = "It was there", body = Folder), (status = 201, description = "Made", body = Folder))
)]
#[put("/folders/<path..>")]
pub async fn put(
    caller: Caller,
    path: RestOfPath,
    database: &State<Database>,
) -> Result<(Status, Json<Folder>), ApiError> {
    caller.needs(Scope::MediaWrite)?;
    let path = named(&path)?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let before = sqlx::query_scalar!("SELECT 1 FROM folders WHERE path = $1", path)
        .fetch_optional(transaction.connection())
        .await?;
    media::make_folder(&mut transaction, Some(path)).await?;
    let folder = sqlx::query_as!(Folder, "SELECT path, created_at FROM folders WHERE path = $1", path)
        .fetch_one(transaction.connection())
        .await?;
    transaction.commit().await?;
    Ok((if before.is_some() { Status::Ok } else { Status::Created }, Json(folder)))
}

/// Deletes a folder that nothing is in.
#[utoipa::path(
    tag = "folders",
    security(("tenantKey" = ["media:write"])),
    params(("path" = String, Path, description = "Names with slashes between them")),
    responses((status = 204, description = "Deleted"))
)]
#[delete("/folders/<path..>")]
pub async fn delete(caller: Caller, path: RestOfPath, database: &State<Database>) -> Result<Status, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    let path = named(&path)?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let deleted = sqlx::query!("DELETE FROM folders WHERE path = $1", path).execute(transaction.connection()).await;
    let deleted = deleted.map_err(|error| match error.into() {
        DatabaseError::Refers { .. } => ApiError::NotEmpty,
        error => ApiError::Database(error),
    })?;
    if deleted.rows_affected() == 0 {
        return Err(ApiError::NotFound("folder"));
    }
    transaction.commit().await?;
    Ok(Status::NoContent)
}
