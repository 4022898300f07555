//! What holds for all requests of tus: which version is spoken, what a server says of itself, and methods that proxies do not let
//! through.
//!
//! `OPTIONS` is answered where all such requests are, from the list of routes; here the headers of tus are added.

use rocket::fairing::{Fairing, Info, Kind};
use rocket::http::uri::Origin;
use rocket::http::{Method, Status};
use rocket::{Data, Request, Response};

use crate::incoming::Checksum;

/// The version of tus.
pub(super) const VERSION: &str = "1.0.0";

/// Where it is.
const PATH: &str = "/v1/tus";

/// What of it is spoken beside its core.
const EXTENSIONS: &str =
    "creation,creation-with-upload,creation-defer-length,termination,checksum,expiration,concatenation";

/// Adds what is the same for all requests.
pub struct Tus {
    bytes_max: u64,
}

impl Tus {
    /// For files of at most so many bytes.
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max }
    }
}

fn is_tus(request: &Request<'_>) -> bool {
    let path = request.uri().path();
    path.as_str().strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[rocket::async_trait]
impl Fairing for Tus {
    fn info(&self) -> Info {
        Info { name: "tus", kind: Kind::Request | Kind::Response }
    }

    async fn on_request(&self, request: &mut Request<'_>, _: &mut Data<'_>) {
        if !is_tus(request) {
            return;
        }
        // Clients are often given the address with a slash at its end.
        if request.uri().path().as_str().strip_prefix(PATH) == Some("/") {
            request.set_uri(Origin::path_only(PATH));
        }
        let method = request.headers().get_one("X-HTTP-Method-Override").and_then(|method| method.parse().ok());
        if let Some(method @ (Method::Patch | Method::Delete | Method::Head)) = method
            && request.method() == Method::Post
        {
            request.set_method(method);
        }
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        if !is_tus(request) {
            return;
        }
        response.set_raw_header("Tus-Resumable", VERSION);
        let is_about_itself = request.method() == Method::Options && response.status() == Status::NoContent;
        if is_about_itself || response.status() == Status::PreconditionFailed {
            response.set_raw_header("Tus-Version", VERSION);
        }
        if is_about_itself {
            response.set_raw_header("Tus-Extension", EXTENSIONS);
            response.set_raw_header("Tus-Max-Size", self.bytes_max.to_string());
            response.set_raw_header("Tus-Checksum-Algorithm", Checksum::ALGORITHMS);
        }
    }
}
