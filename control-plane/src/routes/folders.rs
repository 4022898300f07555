//! `/v1/folders`: where media is in, for people to find it. Folders are made by whatever is put into them, too.

use isolation::{Database, DatabaseError};
use rocket::http::Status;
use rocket::request::{FromRequest, Outcome, Request};
use rocket::serde::json::Json;
use rocket::{State, delete, get, put};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::RestOfPath;
use crate::auth::{Caller, Scope};
use crate::media;
use crate::page::{List, Page, PageQuery};
use crate::problem::ApiError;
use crate::requests::{Exchange, query_fields};

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
