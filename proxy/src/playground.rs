//! The playground: a page on the admin port where a developer picks a picture, turns ops and sees what the edge answers.
//!
//! Must not make renditions or judge URLs: the page asks the edge as any browser would. It knows no op by name; what
//! can be turned comes from the table of `transform-url`. It is off unless the setting `playground` says otherwise,
//! because it lists what the open tenants have.

mod pictures;

use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;
use tokio::runtime::Handle;
use transform_url::table::{OpSpec, TABLE};

use crate::policy::PolicyInForce;

const JSON: &str = "application/json";

/// A page or a part of one, with what it may load.
pub struct Page {
    /// Its type.
    pub content_type: &'static str,
    /// Its `Content-Security-Policy`.
    pub policy: String,
    /// Itself.
    pub body: Vec<u8>,
}

/// The page, its parts and its data.
pub struct Playground {
    /// Where the edge listens.
    listen: SocketAddr,
    policy: Arc<PolicyInForce>,
    /// The runtime that stores are read on.
    io: Handle,
}

impl Playground {
    /// A playground of the edge that listens on `listen`.
    pub fn new(listen: SocketAddr, policy: Arc<PolicyInForce>, io: Handle) -> Self {
        Self { listen, policy, io }
    }

    /// What is at `path`; `host` is the `Host` of the request.
    pub async fn answer(&self, path: &str, host: Option<&str>) -> Option<Page> {
        let edge = edge_seen_from(host, self.listen);
        let (content_type, body) = match path.strip_prefix("/playground")? {
            "" | "/" => ("text/html; charset=utf-8", include_str!("playground/index.html").into()),
            "/style.css" => ("text/css; charset=utf-8", include_str!("playground/style.css").into()),
            "/script.js" => ("text/javascript; charset=utf-8", include_str!("playground/script.js").into()),
            "/urls.js" => ("text/javascript; charset=utf-8", include_str!("playground/urls.js").into()),
            "/config.json" => (JSON, to_json(&Config { edge: &edge })),
            "/ops.json" => (JSON, to_json(&TABLE.iter().map(Op::new).collect::<Vec<_>>())),
            "/pictures.json" => (JSON, to_json(&pictures::list(&self.policy.keep(), &self.io).await)),
            _ => return None,
        };
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src {edge} blob: data:; connect-src 'self' {edge}; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        Some(Page { content_type, policy, body })
    }
}

#[derive(Serialize)]
struct Config<'a> {
    /// Where the browser finds the edge, without a slash at the end.
    edge: &'a str,
}

/// A row of the table of ops, as the page needs it.
#[derive(Serialize)]
struct Op {
    name: &'static str,
    short: Option<&'static str>,
    doc: &'static str,
    allowed: String,
    default: Option<String>,
    choices: &'static [&'static str],
    /// The choices are everything that is allowed.
    only_choices: bool,
    range: Option<Range>,
}

#[derive(Serialize)]
struct Range {
    min: String,
    max: String,
    whole: bool,
}

impl Op {
    fn new(spec: &OpSpec) -> Self {
        let (allowed, choices) = ((spec.allowed)(), (spec.choices)());
        Self {
            name: spec.name,
            short: spec.short,
            doc: spec.doc.trim(),
            default: (spec.default)(),
            choices,
            only_choices: !choices.is_empty() && choices.join(", ") == allowed,
            range: (spec.range)().map(|range| Range { min: range.min, max: range.max, whole: range.is_whole }),
            allowed,
        }
    }
}

/// The edge's origin for a browser that reached the admin port under the name `host`: an edge that listens everywhere
/// is there under the same name.
fn edge_seen_from(host: Option<&str>, listen: SocketAddr) -> String {
    let same = host.filter(|_| listen.ip().is_unspecified()).and_then(host_name);
    match same {
        Some(name) => format!("http://{name}:{}", listen.port()),
        None if listen.ip().is_unspecified() => format!("http://127.0.0.1:{}", listen.port()),
        None => format!("http://{listen}"),
    }
}

/// The name without the port; `None` for what must not get into a header or a page.
fn host_name(host: &str) -> Option<&str> {
    let end = match host.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => host.find(':').unwrap_or(host.len()),
    };
    let name = &host[..end];
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._[:]".contains(c);
    (!name.is_empty() && name.chars().all(is_plain)).then_some(name)
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts, numbers and lists are always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, listen: &str, expected: &str) {
        let listen = listen.parse().expect("an address");
        assert_eq!(edge_seen_from(Some(host), listen), expected, "{host} and {listen}");
    }

    #[test]
    fn the_edge_is_where_it_listens_or_where_the_page_came_from() {
        check("localhost:9180", "127.0.0.1:8080", "http://127.0.0.1:8080");
        check("localhost:9180", "[::1]:8080", "http://[::1]:8080");
        check("localhost:9180", "0.0.0.0:8080", "http://localhost:8080");
        check("pictures.example", "0.0.0.0:8080", "http://pictures.example:8080");
        check("192.0.2.7:9180", "[::]:8080", "http://192.0.2.7:8080");
        check("[2001:db8::1]:9180", "[::]:8080", "http://[2001:db8::1]:8080");
        assert_eq!(edge_seen_from(None, "0.0.0.0:80".parse().expect("an address")), "http://127.0.0.1:80");
    }

    #[test]
    fn a_forged_host_gets_nowhere() {
        for host in ["", ":9180", "[::1", "a b", "x;script-src *", "x'", "\"", "é", "[", "a,b", "a/b", "a@b"] {
            check(host, "0.0.0.0:8080", "http://127.0.0.1:8080");
        }
    }
}
