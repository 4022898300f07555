//! Every route of the API, and one file for each kind of thing.
//!
//! Lifecycle, health and metrics are `server.rs`'s.

mod api_keys;
mod folders;
mod internal;
mod jobs;
mod media;
mod presets;
mod signing_keys;
mod tenants;

use rocket::http::{Header, RawStr};
use rocket::serde::json::Json;
use rocket::{Request, Responder, Route, routes};

use crate::etag::etag;
use crate::problem::ApiError;

/// All of them, below `/v1`.
pub fn all() -> Vec<Route> {
    routes![
        tenants::create,
        tenants::list,
        tenants::get,
        tenants::change,
        tenants::delete,
        api_keys::create,
        api_keys::list,
        api_keys::revoke,
        signing_keys::create,
        signing_keys::list,
        signing_keys::delete,
        presets::list,
        presets::get,
        presets::put,
        presets::delete,
        media::create,
        media::list,
        media::get,
        media::get_by_public_id,
        media::change,
        media::replace,
        media::delete,
        media::batch,
        media::fetch,
        folders::list,
        folders::put,
        folders::delete,
        jobs::list,
        jobs::get,
        jobs::cancel,
        jobs::retry,
    ]
}

/// Those for edges, below `/internal/v1`.
pub fn internal() -> Vec<Route> {
    routes![internal::feed, internal::snapshot]
}

/// Whatever comes after this in a request's path, slashes included, decoded once.
fn rest_of_path(request: &Request<'_>, start: &str) -> Result<String, ApiError> {
    let raw = request.uri().path().raw().as_str().strip_prefix(start);
    let decoded = raw.and_then(|raw| RawStr::new(raw).percent_decode().ok());
    decoded.map(|rest| rest.into_owned()).ok_or(ApiError::NoRoute)
}

/// A thing of a version.
#[derive(Responder)]
struct Versioned<T> {
    body: Json<T>,
    etag: Header<'static>,
}

impl<T> Versioned<T> {
    fn new(version: i64, body: T) -> Self {
        Self { body: Json(body), etag: Header::new("ETag", etag(version)) }
    }
}

/// A thing that was made just now, and where it is.
#[derive(Responder)]
#[response(status = 201)]
struct Created<T> {
    body: Json<T>,
    etag: Header<'static>,
    location: Header<'static>,
}

impl<T> Created<T> {
    fn new(version: i64, location: String, body: T) -> Self {
        let (etag, location) = (Header::new("ETag", etag(version)), Header::new("Location", location));
        Self { body: Json(body), etag, location }
    }
}
