//! `/v1/media/{id}/bytes`: the bytes themselves, for whoever judges them and has been given the URL.
//!
//! They may be harmful, and nothing of them is for a browser: they go out as a download of no type.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::Stream;
use isolation::TenantKey;
use rocket::http::{ContentType, Header};
use rocket::request::{FromRequest, Outcome, Request};
use rocket::response::{Responder, Response, Result as Rendered};
use rocket::tokio::io::{AsyncRead, ReadBuf};
use rocket::{State, get};
use storage::{GetOptions, ObjectBody, StorageError};
use time::OffsetDateTime;
use uploads::object_path;
use utoipa::IntoParams;

use super::known;
use crate::media::{BytesUrls, Library};
use crate::problem::ApiError;
use crate::requests::{Exchange, query_fields};
use crate::streamed::streamed;

/// What makes a URL good.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Pass {
    /// Whose bytes they are.
    #[param(value_type = String)]
    tenant: TenantKey,
    /// That they may be read.
    token: String,
}

impl Pass {
    fn parse<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let (mut tenant, mut token) = (None, None);
        for (name, value) in fields {
            match name {
                "tenant" => tenant = Some(value.parse().ok()?),
                "token" => token = Some(value.to_owned()),
                _ => return None,
            }
        }
        Some(Self { tenant: tenant?, token: token? })
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Pass {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        Exchange::outcome(request, Self::parse(query_fields(request)).ok_or(ApiError::UrlRefused))
    }
}

/// Bytes on their way out.
pub struct Download {
    body: ObjectBody,
    piece: Bytes,
}

impl AsyncRead for Download {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.piece.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_next(cx)) {
                Some(Ok(piece)) => self.piece = piece,
                // The connection is cut, so that nobody takes what came for all.
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let bytes = self.piece.len().min(into.remaining());
        into.put_slice(&self.piece[..bytes]);
        self.piece.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl<'r> Responder<'r, 'static> for Download {
    fn respond_to(self, _: &'r Request<'_>) -> Rendered<'static> {
        let mut response = Response::build();
        response.header(ContentType::Binary).header(Header::new("Content-Length", self.body.len().to_string()));
        response.header(Header::new("Content-Disposition", "attachment"));
        response.header(Header::new("Content-Security-Policy", "default-src 'none'; sandbox"));
        streamed(&mut response, self);
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
    Ok(Download { body: object.body, piece: Bytes::new() })
}
