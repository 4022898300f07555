//! The span of one request, named and described as the semantic conventions for HTTP clients want it.

use http::Method;
use hyper::body::Incoming;
use traces::{Kind, Span};
use url::Url;

use crate::FetchError;

/// A part of the current span, if there is one.
pub(crate) fn span(method: &Method, url: &Url) -> Span {
    if !traces::is_on() {
        return Span::NONE;
    }
    let span = traces::child(method.as_str().to_owned(), Kind::Client);
    if span.is_recording() {
        span.set("http.request.method", method.as_str().to_owned());
        span.set("server.address", url.host_str().unwrap_or_default().to_owned());
        span.set("server.port", i64::from(url.port_or_known_default().unwrap_or_default()));
        span.set("url.full", shown(url));
    }
    span
}

/// Without what may be a secret: user, password and query.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Only URLs without a host cannot have them, and those are not fetched.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}

/// What came of it. Redirects are answers too; the body is still to come.
pub(crate) fn ended(span: &Span, answer: &Result<http::Response<Incoming>, FetchError>) {
    if !span.is_recording() {
        return;
    }
    match answer {
        Ok(answer) => {
            let status = answer.status();
            span.set("http.response.status_code", i64::from(status.as_u16()));
            if status.is_client_error() || status.is_server_error() {
                span.failed(status.as_str().to_owned());
            }
        }
        Err(error) => span.failed(error.to_string()),
    }
    span.end();
}
