//! Pages of other origins that may use the API (the Fetch standard, "CORS protocol").
//!
//! Must not let browsers send what they hold for the API by themselves: there is nothing of that kind, keys are in the page's own
//! hands, and `Access-Control-Allow-Credentials` is never sent. What edges and operators ask for is no page's business.

use rocket::fairing::{Fairing, Info, Kind};
use rocket::http::{Method, Status};
use rocket::{Request, Response};

use crate::server;

/// Seconds for which a browser may remember what it was told.
const REMEMBERED_SECONDS: u32 = 600;

/// Headers that pages may send.
const REQUEST_HEADERS: &str = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Tus-Resumable, Upload-Checksum, \
     Upload-Concat, Upload-Defer-Length, Upload-Length, Upload-Metadata, Upload-Offset, X-HTTP-Method-Override, X-Request-Id, \
     X-Requested-With";

/// Headers of answers that pages may read.
const ANSWER_HEADERS: &str = "Calotype-Media-Id, ETag, Idempotency-Replayed, Location, RateLimit, RateLimit-Policy, Retry-After, \
     Tus-Checksum-Algorithm, Tus-Extension, Tus-Max-Size, Tus-Resumable, Tus-Version, Upload-Concat, Upload-Defer-Length, \
     Upload-Expires, Upload-Length, Upload-Metadata, Upload-Offset, WWW-Authenticate, X-Request-Id";

/// The origins that may.
pub struct Cors {
    origins: Vec<String>,
}

impl Cors {
    /// What an origin of the settings has to be.
    pub const ALLOWED: &'static str = "each is \"*\", or an origin as browsers send it: \"https://app.example\", in lower case, with a port only if it is not the usual one";

    /// Those of the settings.
    pub fn new(origins: &[String]) -> Self {
        Self { origins: origins.to_vec() }
    }

    /// Whether this can be in the settings.
    pub fn is_origin(text: &str) -> bool {
        // A browser sends exactly what the parser makes of it.
        let origin = || Some(url::Url::parse(text).ok()?.origin()).filter(url::Origin::is_tuple);
        let is_web = text.starts_with("http://") || text.starts_with("https://");
        text == "*"
            || (is_web && !text.contains('*') && origin().is_some_and(|origin| origin.ascii_serialization() == text))
    }

    fn is_for_everyone(&self) -> bool {
        self.origins.iter().any(|origin| origin == "*")
    }
}

#[rocket::async_trait]
impl Fairing for Cors {
    fn info(&self) -> Info {
        Info { name: "cors", kind: Kind::Response }
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        if self.origins.is_empty() || !request.uri().path().starts_with("/v1/") {
            return;
        }
        if !self.is_for_everyone() {
            // Also where it is not allowed: a cache must not give one origin's answer to another.
            response.adjoin_raw_header("Vary", "Origin");
        }
        let Some(origin) = request.headers().get_one("Origin") else { return };
        if self.is_for_everyone() {
            response.set_raw_header("Access-Control-Allow-Origin", "*");
        } else if self.origins.iter().any(|allowed| allowed == origin) {
            response.set_raw_header("Access-Control-Allow-Origin", origin.to_owned());
        } else {
            return;
        }
        let is_preflight = request.method() == Method::Options
            && request.headers().contains("Access-Control-Request-Method")
            && response.status() == Status::NoContent;
        if is_preflight {
            response.set_raw_header("Access-Control-Allow-Methods", server::methods(request).join(", "));
            response.set_raw_header("Access-Control-Allow-Headers", REQUEST_HEADERS);
            response.set_raw_header("Access-Control-Max-Age", REMEMBERED_SECONDS.to_string());
        } else {
            response.set_raw_header("Access-Control-Expose-Headers", ANSWER_HEADERS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        for good in ["*", "https://app.example", "http://localhost:3000", "https://xn--bcher-kva.example"] {
            assert!(Cors::is_origin(good), "{good}");
        }
        for bad in [
            "",
            "null",
            "app.example",
            "https://app.example/",
            "https://app.example:443",
            "HTTPS://app.example",
            "https://*.example",
            "https://a@app.example",
            "https://bücher.example",
            "ftp://app.example",
            "file:///",
        ] {
            assert!(!Cors::is_origin(bad), "{bad}");
        }
    }
}
