//! The admin port: health, readiness, metrics, what the installed libvips can do.
//!
//! Must not be reachable from the internet: it has no authentication.

use std::sync::Arc;

use async_trait::async_trait;
use bootstrap::metrics;
use cache::{DiskState, RenditionCache};
use http::{Response, StatusCode, Version, header};
use imaging::Engine;
use pingora_core::apps::http_app::ServeHttp;
use pingora_core::protocols::http::ServerSession;
use prometheus::Registry;
use serde::Serialize;

use crate::drain::Drain;
use crate::policy::PolicyInForce;
use crate::problem::EdgeError;

/// Answers on the admin port.
pub struct Admin {
    /// What `/metrics` shows.
    pub registry: Registry,
    /// Whether the edge is stopping.
    pub drain: Arc<Drain>,
    /// The policy in force.
    pub policy: Arc<PolicyInForce>,
    /// The cache, for the state of its disk.
    pub cache: RenditionCache<EdgeError>,
    /// The imaging library.
    pub engine: Engine,
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    draining: bool,
    policy_sequence: u64,
    /// `ready`, `off`, or why the disk part of the cache does not work; the edge serves from memory then.
    cache_disk: String,
}

#[derive(Serialize)]
struct Library {
    libvips: String,
    reads: Vec<&'static str>,
    writes: Vec<&'static str>,
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        // Pingora would keep the connection; a client that speaks HTTP/1.0 waits for its end (RFC 9112, section 9.3).
        if session.req_header().version == Version::HTTP_10 {
            session.set_keepalive(None);
        }
        match session.req_header().uri.path() {
            "/healthz" => answer(StatusCode::OK, "text/plain", b"ok\n".to_vec()),
            "/readyz" => self.readiness(),
            "/metrics" => answer(StatusCode::OK, metrics::CONTENT_TYPE, metrics::encode(&self.registry)),
            "/capabilities" => self.capabilities(),
            _ => answer(StatusCode::NOT_FOUND, "text/plain", b"/healthz /readyz /metrics /capabilities\n".to_vec()),
        }
    }
}

impl Admin {
    fn readiness(&self) -> Response<Vec<u8>> {
        let draining = self.drain.is_draining();
        let cache_disk = match self.cache.disk_state() {
            DiskState::Ready => "ready".to_owned(),
            DiskState::Off => "off".to_owned(),
            state @ (DiskState::Unavailable(_) | DiskState::ReadOnly(_)) => {
                state.fault().map(ToString::to_string).unwrap_or_default()
            }
        };
        let policy_sequence = self.policy.get().policy.sequence();
        let status = if draining { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        json(status, &Readiness { ready: !draining, draining, policy_sequence, cache_disk })
    }

    fn capabilities(&self) -> Response<Vec<u8>> {
        let capabilities = self.engine.capabilities();
        let library = Library {
            libvips: self.engine.version().to_string(),
            reads: capabilities.reads.iter().map(|format| format.name()).collect(),
            writes: capabilities.writes.iter().map(|encoding| encoding.name()).collect(),
        };
        json(StatusCode::OK, &library)
    }
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
