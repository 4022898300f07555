//! Every route of the API, and one file for each kind of thing.
//!
//! Lifecycle, health and metrics are `server.rs`'s.

mod api_keys;
mod audit_log;
mod collections;
mod domains;
mod downloads;
mod events;
mod folders;
mod internal;
mod jobs;
mod media;
mod origins;
mod overlays;
mod pass;
mod policy;
mod presets;
mod purge;
mod quotas;
mod reports;
mod signing_keys;
mod tags;
mod tenants;
mod tus;
mod uploads;
mod usage;
mod webhooks;
mod workflows;

use std::convert::Infallible;

use rocket::http::Header;
use rocket::http::uri::Segments;
use rocket::http::uri::fmt::Path;
use rocket::request::FromSegments;
use rocket::serde::json::Json;
use rocket::{Either, Responder, Route, routes};
use utoipa::OpenApi;

pub use self::tus::Tus;
use crate::etag::etag;
use crate::openapi;

/// Mounts routes, and describes the same ones: one list, so that none is forgotten in either.
macro_rules! api {
    ($(#[$about:meta])* $mounted:ident, $(#[$about_description:meta])* $described:ident: $($($part:ident)::+,)+) => {
        $(#[$about])*
        pub fn $mounted() -> Vec<Route> {
            routes![$($($part)::+),+]
        }

        $(#[$about_description])*
        #[derive(OpenApi)]
        #[openapi(paths($($($part)::+),+))]
        pub struct $described;
    };
}

api! {
    /// All of them, below `/v1`.
    all,
    /// The descriptions of [`all`].
    PublicApi:
    tenants::create,
    tenants::list,
    tenants::get,
    tenants::change,
    tenants::delete,
    quotas::get_of,
    quotas::put,
    quotas::get,
    usage::get_of,
    usage::list,
    usage::get,
    api_keys::create,
    api_keys::list,
    api_keys::revoke,
    signing_keys::create,
    signing_keys::list,
    signing_keys::delete,
    domains::create,
    domains::list,
    domains::get,
    domains::verify,
    domains::delete,
    purge::order,
    policy::get,
    policy::put,
    overlays::list,
    overlays::get,
    overlays::put,
    overlays::delete,
    origins::list,
    origins::get,
    origins::put,
    origins::delete,
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
    media::copy,
    media::batch,
    media::fetch,
    uploads::create,
    uploads::get,
    uploads::part_urls,
    uploads::put_part,
    uploads::complete,
    uploads::abort,
    tus::create,
    tus::offset,
    tus::append,
    tus::terminate,
    media::review::scan,
    media::review::release,
    media::review::reject,
    media::bytes::get,
    workflows::list,
    workflows::get,
    workflows::put,
    workflows::delete,
    folders::list,
    folders::tree,
    folders::move_to,
    folders::put,
    folders::delete,
    tags::list,
    tags::rename,
    tags::delete,
    collections::create,
    collections::list,
    collections::get,
    collections::change,
    collections::delete,
    collections::list_media,
    collections::put_media,
    collections::remove_media,
    downloads::get,
    downloads::create,
    downloads::get_by_link,
    jobs::list,
    jobs::get,
    jobs::cancel,
    jobs::retry,
    events::list,
    events::get,
    webhooks::create,
    webhooks::list,
    webhooks::get,
    webhooks::change,
    webhooks::delete,
    webhooks::rotate,
    webhooks::test,
    webhooks::enable,
    webhooks::disable,
    webhooks::redeliver_since,
    webhooks::deliveries::list,
    webhooks::deliveries::get,
    webhooks::deliveries::redeliver,
    audit_log::list,
    audit_log::list_for_operator,
    openapi::description,
    openapi::page,
}

api! {
    /// Those for edges, below `/internal/v1`.
    internal,
    /// Those of [`internal()`].
    InternalApi:
    internal::feed,
    internal::snapshot,
    reports::report,
}

/// The rest of a path, slashes included, decoded once.
pub struct RestOfPath(String);

impl<'r> FromSegments<'r> for RestOfPath {
    type Error = Infallible;

    fn from_segments(segments: Segments<'r, Path>) -> Result<Self, Infallible> {
        Ok(Self(segments.collect::<Vec<_>>().join("/")))
    }
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

/// A thing that was put: of version 1 it was made, else replaced.
fn created_or_replaced<T>(version: i64, location: String, body: T) -> Either<Created<T>, Versioned<T>> {
    match version {
        1 => Either::Left(Created::new(version, location, body)),
        _ => Either::Right(Versioned::new(version, body)),
    }
}
