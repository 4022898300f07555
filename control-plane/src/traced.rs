//! The span of a request to the API, in the names of the semantic conventions for HTTP servers.
//!
//! Where requests are not traced, nothing is built and no handler is wrapped.

use rocket::http::Method;
use rocket::route::{self, Handler, Route};
use rocket::{Data, Request};
use traces::{Carried, Incoming, Kind, Span};

use crate::requests::Exchange;

/// Begins the span of a request; none of those that ask for health and metrics.
pub fn begin(request: &Request<'_>, trust_incoming: bool) -> Span {
    let path = request.uri().path();
    if !traces::is_on() || !["/v1/", "/internal/"].iter().any(|below| path.starts_with(below)) {
        return Span::NONE;
    }
    let headers = request.headers();
    let carried = headers.get_one("traceparent").and_then(|parent| {
        let is_clear = headers.get("traceparent").count() == 1;
        is_clear.then(|| Carried::from_values(parent, headers.get_one("tracestate")))?
    });
    Span::begin(name(request.method()), Kind::Server, Incoming::of(carried.as_ref(), trust_incoming))
}

/// What a client makes up is no name.
fn name(method: Method) -> &'static str {
    if method == Method::Options { "HTTP" } else { method.as_str() }
}

/// What is told of it at its end.
pub struct Told<'a> {
    /// Status of the answer.
    pub status: u16,
    /// Stable code of a refusal.
    pub code: Option<&'static str>,
    /// Whose key it came with.
    pub tenant: Option<String>,
    /// The request's id.
    pub id: &'a str,
}

/// Ends the span of a request.
pub fn end(span: &Span, request: &Request<'_>, told: &Told<'_>) {
    if span.is_recording() {
        let method = request.method().as_str();
        if let Some(route) = request.route() {
            span.rename(format!("{method} {}", route.uri.path()));
            span.set("http.route", route.uri.path().to_owned());
        }
        span.set("http.request.method", method);
        span.set("url.path", request.uri().path().to_string());
        span.set("http.response.status_code", i64::from(told.status));
        span.set("calotype.request_id", told.id.to_owned());
        if let Some(remote) = request.remote() {
            span.set("client.address", remote.ip().to_string());
        }
        if let Some(tenant) = &told.tenant {
            span.set("calotype.tenant", tenant.clone());
        }
        if let Some(code) = told.code {
            span.set("error.type", code);
        }
        if told.status >= 500 {
            span.failed(told.code.unwrap_or_default());
        }
    }
    span.end();
}

/// Routes whose guards and handlers work within the span of their request.
pub fn routes(routes: Vec<Route>) -> Vec<Route> {
    if !traces::is_on() {
        return routes;
    }
    let within = |mut route: Route| {
        route.handler = Box::new(Traced(route.handler.clone()));
        route
    };
    routes.into_iter().map(within).collect()
}

#[derive(Clone)]
struct Traced(Box<dyn Handler>);

#[rocket::async_trait]
impl Handler for Traced {
    async fn handle<'r>(&self, request: &'r Request<'_>, data: Data<'r>) -> route::Outcome<'r> {
        Exchange::of(request).span().over(self.0.handle(request, data)).await
    }
}
