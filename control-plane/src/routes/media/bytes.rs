//! `/v1/media/{id}/bytes`: the bytes themselves, for whoever judges them and has been given the URL.
//!
//! They may be harmful, and nothing of them is for a browser: they go out as a download of no type.

use rocket::http::{ContentType, Header};
use rocket::request::Request;
use rocket::response::{Responder, Response, Result as Rendered};
use rocket::{State, get};
use storage::{GetOptions, ObjectBody, StorageError};
use time::OffsetDateTime;
use uploads::object_path;

use super::known;
use crate::media::{BytesUrls, Library};
use crate::problem::ApiError;
use crate::routes::pass::Pass;
use crate::streamed::streamed;

/// Bytes on their way out.
pub struct Download(ObjectBody);

impl<'r> Responder<'r, 'static> for Download {
    fn respond_to(self, _: &'r Request<'_>) -> Rendered<'static> {
        let mut response = Response::build();
        response.header(ContentType::Binary).header(Header::new("Content-Length", self.0.len().to_string()));
        response.header(Header::new("Content-Disposition", "attachment"));
        response.header(Header::new("Content-Security-Policy", "default-src 'none'; sandbox"));
        streamed(&mut response, self.0);
        response.ok()
    }
}

/// Bytes of a medium, by a URL that a workflow's endpoint was given. It is good for 15 minutes.
#[utoipa::path(
    tag = "media",
    operation_id = "get_bytes",
    security(("signedUrl" = [])),
    params(Pass),
    responses((status = 200, description = "They", content_type = "application/octet-stream"))
)]
#[get("/media/<id>/bytes", rank = 2)]
pub async fn get(
    pass: Pass,
    id: &str,
    urls: &State<BytesUrls>,
    library: &State<Library>,
) -> Result<Download, ApiError> {
    let media = known(id).map_err(|_| ApiError::UrlRefused)?;
    let revision = urls.revision(pass.tenant, media, &pass.token, OffsetDateTime::now_utc())?;
    let path = object_path(pass.tenant.as_uuid(), media, revision);
    let object = library.store()?.get(&path, GetOptions::default()).await.map_err(|error| match error {
        StorageError::NotFound => ApiError::NotFound("medium"),
        error => error.into(),
    })?;
    Ok(Download(object.body))
}
