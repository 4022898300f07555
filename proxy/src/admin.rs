//! The admin port: health, readiness, metrics, what the installed libvips can do, the playground.
//!
//! Must not be reachable from the internet: but for purging it has no authentication.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bootstrap::metrics;
use cache::{DiskState, RenditionCache};
use http::{HeaderValue, Method, Response, StatusCode, Version, header};
use imaging::Engine;
use pingora_core::apps::http_app::ServeHttp;
use pingora_core::protocols::http::ServerSession;
use pingora_http::RequestHeader;
use prometheus::Registry;
use serde::Serialize;

use crate::drain::Drain;
use crate::playground::{Page, Playground};
use crate::policy::PolicyInForce;
use crate::problem::{self, EdgeError};
use crate::purge::{BODY_BYTES_MAX, PurgeRefusal, Purger};

/// Answers on the admin port.
pub struct Admin {
    /// What `/metrics` shows.
    pub registry: Registry,
    /// Whether the edge is stopping.
    pub drain: Arc<Drain>,
    /// The policy in force.
    pub policy: Arc<PolicyInForce>,
    /// Whether tenants are known, where a control plane tells of them.
    pub tenants_known: Option<Arc<AtomicBool>>,
    /// The cache, for the state of its disk.
    pub cache: RenditionCache<EdgeError>,
    /// The imaging library.
    pub engine: Engine,
    /// Takes purges.
    pub purger: Purger,
    /// The page for developers, where it is on.
    pub playground: Option<Playground>,
}

const HTML: &str = "text/html; charset=utf-8";

/// The page at `/`.
const INDEX: &str = "<!doctype html>
<html lang=en><meta charset=utf-8><title>Calotype admin</title>
<h1>Calotype admin</h1>
<ul>
<!-- playground --><li><a href=/healthz>/healthz</a> the process runs
<li><a href=/readyz>/readyz</a> it serves; the policy in force, the disk of the cache
<li><a href=/metrics>/metrics</a> for Prometheus
<li><a href=/capabilities>/capabilities</a> formats that the installed libvips reads and writes
<li>POST /purge takes content back
</ul>
";

const PLAYGROUND_LINK: &str = "<li><a href=/playground>/playground</a> try ops on the pictures of open tenants\n";

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    draining: bool,
    /// False until the control plane has told of its tenants for the first time.
    tenants_known: bool,
    policy_sequence: u64,
    /// `ready`, `off`, or why the disk part of the cache does not work; the edge serves from memory then.
    cache_disk: String,
}

#[derive(Serialize)]
struct Library {
    libvips: String,
    reads: Vec<&'static str>,
    writes: Vec<&'static str>,
    /// What is missing, and why; a URL that needs it is answered 415.
    cannot_read: BTreeMap<&'static str, &'static str>,
    cannot_write: BTreeMap<&'static str, &'static str>,
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        // Pingora would keep the connection; a client that speaks HTTP/1.0 waits for its end (RFC 9112, section 9.3).
        if session.req_header().version == Version::HTTP_10 {
            session.set_keepalive(None);
        }
        let path = session.req_header().uri.path();
        if let Some(playground) = &self.playground
            && let Some(page) = playground.answer(path, host(session.req_header())).await
        {
            return shown(page);
        }
        if path == "/purge" {
            return self.purge(session).await;
        }
        match path {
            "/" => shown(self.index()),
            "/healthz" => answer(StatusCode::OK, "text/plain", b"ok\n".to_vec()),
            "/readyz" => self.readiness(),
            "/metrics" => answer(StatusCode::OK, metrics::CONTENT_TYPE, metrics::encode(&self.registry)),
            "/capabilities" => self.capabilities(),
            _ => answer(
                StatusCode::NOT_FOUND,
                "text/plain",
                b"/healthz /readyz /metrics /capabilities /purge\n".to_vec(),
            ),
        }
    }
}

impl Admin {
    async fn purge(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        if session.req_header().method != Method::POST {
            let mut refusal = answer(StatusCode::METHOD_NOT_ALLOWED, "text/plain", b"POST /purge\n".to_vec());
            refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            return refusal;
        }
        let headers = session.req_header().headers.clone();
        let purged = match body(session).await {
            Some(body) => self.purger.purge(&headers, &body).await,
            None => Err(PurgeRefusal::BadOrder(format!("it cannot be read, or has more than {BODY_BYTES_MAX} bytes"))),
        };
        match purged {
            Ok(purged) => json(StatusCode::OK, &purged),
            Err(refusal) => {
                let (status, code) = refusal.status_and_code();
                answer(status, problem::CONTENT_TYPE, problem::body(status, code, refusal.to_string()))
            }
        }
    }

    /// What there is on this port, for people.
    fn index(&self) -> Page {
        let playground = if self.playground.is_some() { PLAYGROUND_LINK } else { "" };
        let html = INDEX.replace("<!-- playground -->", playground);
        Page { content_type: HTML, policy: "default-src 'none'; frame-ancestors 'none'".to_owned(), body: html.into() }
    }

    fn readiness(&self) -> Response<Vec<u8>> {
        let draining = self.drain.is_draining();
        let cache_disk = match self.cache.disk_state() {
            DiskState::Ready => "ready".to_owned(),
            DiskState::Off => "off".to_owned(),
            state @ (DiskState::Unavailable(_) | DiskState::ReadOnly(_)) => {
                state.fault().map(ToString::to_string).unwrap_or_default()
            }
        };
        let policy_sequence = self.policy.get().sequence;
        let tenants_known = self.tenants_known.as_ref().is_none_or(|known| known.load(Ordering::Acquire));
        let ready = tenants_known && !draining;
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        json(status, &Readiness { ready, draining, tenants_known, policy_sequence, cache_disk })
    }

    fn capabilities(&self) -> Response<Vec<u8>> {
        let capabilities = self.engine.capabilities();
        let library = Library {
            libvips: self.engine.version().to_string(),
            reads: capabilities.reads.iter().map(|format| format.name()).collect(),
            writes: capabilities.writes.iter().map(|encoding| encoding.name()).collect(),
            cannot_read: capabilities.cannot_read.iter().map(|(format, reason)| (format.name(), *reason)).collect(),
            cannot_write: capabilities.cannot_write.iter().map(|(format, reason)| (format.name(), *reason)).collect(),
        };
        json(StatusCode::OK, &library)
    }
}

fn host(head: &RequestHeader) -> Option<&str> {
    head.headers.get(header::HOST)?.to_str().ok()
}

/// A page for browsers: it may load and do only what it must.
fn shown(page: Page) -> Response<Vec<u8>> {
    let mut response = answer(StatusCode::OK, page.content_type, page.body);
    let headers = response.headers_mut();
    let policy = HeaderValue::try_from(page.policy).expect("made of our words and an address");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// A short body, whole; `None` if it is too long or breaks off.
async fn body(session: &mut ServerSession) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = session.read_request_body().await.ok()? {
        body.extend_from_slice(&chunk);
        if body.len() > BODY_BYTES_MAX {
            return None;
        }
    }
    Some(body)
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Vec<u8>> {
    let mut body = serde_json::to_vec(value).expect("strings, numbers and lists are always JSON");
    body.push(b'\n');
    answer(status, "application/json", body)
}

fn answer(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response<Vec<u8>> {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, content_type)
        .header(header::CONTENT_LENGTH, body.len())
        .header(header::CACHE_CONTROL, "no-store")
        .body(body)
        .expect("the headers are valid")
}
