//! The span of a request: what a trace tells of it, in the names of the semantic conventions for HTTP servers.
//!
//! Where requests are not traced, nothing is built. Must not tell a query: signatures are in it.

use pingora_http::RequestHeader;
use pingora_proxy::Session;
use traces::{Carried, Incoming, Kind, Span};

use crate::access::AccessEvent;

/// What all delivery URLs have in common.
const ROUTE: &str = "/{tenant}/{ops}/{source}";

/// Begins it.
pub fn begin(head: &RequestHeader, trust_incoming: bool) -> Span {
    if !traces::is_on() {
        return Span::NONE;
    }
    let carried = Carried::from_headers(&head.headers);
    let name = match head.method.as_str() {
        method @ ("GET" | "HEAD") => format!("{method} {ROUTE}"),
        // What a client makes up is no name.
        _ => "HTTP".to_owned(),
    };
    Span::begin(name, Kind::Server, Incoming::of(carried.as_ref(), trust_incoming))
}

/// Ends it, with all that its event tells.
pub fn end(span: &Span, session: &Session, event: &AccessEvent<'_>) {
    if span.is_recording() {
        describe(span, session, event);
    }
    span.end();
}

fn describe(span: &Span, session: &Session, event: &AccessEvent<'_>) {
    let path = event.target.split('?').next().unwrap_or_default();
    for (name, text) in [
        ("http.request.method", event.method),
        ("http.route", ROUTE),
        ("url.path", path),
        ("network.protocol.version", if session.is_http2() { "2" } else { "1.1" }),
        ("calotype.request_id", event.request_id),
        ("calotype.cache", event.cache.label()),
    ] {
        span.set(name, text.to_owned());
    }
    span.set("client.address", event.client.to_string());
    span.set("http.response.status_code", i64::from(event.status));
    span.set("http.response.body.size", i64::try_from(event.bytes).unwrap_or(i64::MAX));
    for (name, text) in
        [("calotype.tenant", event.tenant), ("user_agent.original", event.user_agent), ("error.type", event.code)]
    {
        if let Some(text) = text {
            span.set(name, text.to_owned());
        }
    }
    if event.status >= 500 {
        span.failed(event.code.unwrap_or_default());
    }
}
