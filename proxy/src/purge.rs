//! `POST /purge` on the admin port: takes content back.
//!
//! Must not answer before the purge is written down: what was acknowledged holds after a crash too. Must not be open: the
//! token is the only thing between a stranger in the network and an empty cache.

use std::sync::Arc;

use cache::{Bans, PurgeError, Scope};
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::runtime::Handle;
use transform_url::{Source, TenantSlug, native};

use crate::decision::{self, Decision, Wanted};
use crate::marks::{source_mark, tag_mark, tenant_mark};
use crate::policy::PolicyInForce;
use crate::problem::EdgeError;
use crate::second_level::{AnnounceError, SecondLevel};
use crate::tenants::{ActivePolicy, ActiveTenant};

/// Longest body that is read, in bytes.
pub const BODY_BYTES_MAX: usize = 16 * 1024;

/// Takes purges.
pub struct Purger {
    /// What has been purged.
    pub bans: Arc<Bans>,
    /// The policy in force.
    pub policy: Arc<PolicyInForce>,
    /// A hash of the token that callers must know; without one nobody may purge.
    pub token: Option<blake3::Hash>,
    /// Where other edges hear of it.
    pub second_level: Option<Arc<SecondLevel>>,
    /// The IO runtime: writing a purge down waits for the disk.
    pub io: Handle,
}

/// What to purge: exactly one of `url`, `source`, `tag` and `all`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Whose; not needed with a whole `url`, and left out with `all` to purge everybody's.
    tenant: Option<String>,
    /// One delivery URL's path, in every format that it is answered in.
    url: Option<String>,
    /// A source as in URLs: all that was made of it, or with it as an overlay.
    source: Option<String>,
    /// Everything with this tag.
    tag: Option<String>,
    /// Everything.
    #[serde(default)]
    all: bool,
}

impl Order {
    /// The same for a tenant, whatever it says of whose it is.
    pub fn of(self, tenant: &str) -> Self {
        Self { tenant: Some(tenant.to_owned()), ..self }
    }
}

/// The answer: what was purged was begun before this number.
#[derive(Debug, Serialize)]
pub struct Purged {
    /// Counts the purges of this edge.
    pub purge: u64,
}

/// Why nothing was purged, or not for sure.
#[derive(Debug, Error)]
pub enum PurgeRefusal {
    /// No token is set.
    #[error("purging is off: set admin_token (CALOTYPE_PROXY__ADMIN_TOKEN) and restart the edge")]
    Off,
    /// The request does not have it.
    #[error("send the edge's admin_token as \"Authorization: Bearer …\"")]
    Unauthorized,
    /// The body is not an order.
    #[error("the body must be JSON with one of \"url\", \"source\", \"tag\" and \"all\", and mostly \"tenant\": {0}")]
    BadOrder(String),
    /// What it names does not exist.
    #[error(transparent)]
    Target(#[from] EdgeError),
    /// It is in force, but may be forgotten, or it is not in force at all.
    #[error(transparent)]
    NotDone(#[from] PurgeError),
    /// It is in force here, but other edges may not hear of it.
    #[error("the purge is in force at this edge, but others may not hear of it: {0}; purge again")]
    NotShared(#[from] AnnounceError),
}

impl PurgeRefusal {
    /// Status and stable code.
    pub fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Off => (StatusCode::FORBIDDEN, "purge-off"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::BadOrder(_) => (StatusCode::BAD_REQUEST, "bad-purge"),
            Self::Target(error) => error.status_and_code(),
            Self::NotDone(PurgeError::HandedOver) => (StatusCode::SERVICE_UNAVAILABLE, "upgrading"),
            Self::NotDone(_) => (StatusCode::SERVICE_UNAVAILABLE, "purge-not-durable"),
            Self::NotShared(_) => (StatusCode::SERVICE_UNAVAILABLE, "purge-not-shared"),
        }
    }
}

impl Purger {
    /// Carries out the purge that `body` orders.
    ///
    /// # Errors
    /// [`PurgeRefusal`].
    pub async fn purge(&self, headers: &HeaderMap, body: &[u8]) -> Result<Purged, PurgeRefusal> {
        self.check_token(headers)?;
        let order = serde_json::from_slice(body).map_err(|error| PurgeRefusal::BadOrder(error.to_string()))?;
        let scopes = scopes(&self.policy.get(), &order)?;
        let (bans, ordered) = (Arc::clone(&self.bans), scopes.clone());
        let written = self.io.spawn_blocking(move || bans.purge_all(&ordered));
        let written = written.await.map_err(|_| EdgeError::Internal)?;
        // Others are told of it whether or not it could be written down here.
        let announced = self.announce(scopes).await;
        let purge = written?;
        announced?;
        tracing::info!(tenant = order.tenant, url = order.url, source = order.source, tag = order.tag, purge, "purged");
        Ok(Purged { purge })
    }

    /// Tells the other edges.
    async fn announce(&self, scopes: Vec<Scope>) -> Result<(), PurgeRefusal> {
        let Some(second_level) = self.second_level.clone() else { return Ok(()) };
        let announced = self.io.spawn(async move { second_level.bans().announce(&scopes).await });
        Ok(announced.await.map_err(|_| EdgeError::Internal)??)
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), PurgeRefusal> {
        let wanted = self.token.as_ref().ok_or(PurgeRefusal::Off)?;
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        // Hashes compare in constant time.
        match given {
            Some(given) if blake3::hash(given.as_bytes()) == *wanted => Ok(()),
            _ => Err(PurgeRefusal::Unauthorized),
        }
    }
}

/// What an order covers; a URL has several renditions.
///
/// # Errors
/// An order that is none, or names what there is not.
pub fn scopes(active: &ActivePolicy, order: &Order) -> Result<Vec<Scope>, PurgeRefusal> {
    let bad = |why: &str| Err(PurgeRefusal::BadOrder(why.to_owned()));
    let tenant = order.tenant.as_deref().map(|name| named(active, name)).transpose()?;
    match (order, tenant) {
        (Order { url: Some(url), source: None, tag: None, all: false, .. }, tenant) => of_url(active, url, tenant),
        (Order { url: None, source: Some(source), tag: None, all: false, .. }, Some(active)) => {
            let source = Source::parse(source).map_err(EdgeError::from)?;
            let (origin, path) = decision::locate(active, &source)?;
            let id = &active.tenant.id;
            let source = source_mark(id, &origin, &path);
            Ok(vec![Scope::Source { tenant: tenant_mark(id), source }])
        }
        (Order { url: None, source: None, tag: Some(tag), all: false, .. }, Some(active)) => {
            let id = &active.tenant.id;
            Ok(vec![Scope::Tag { tenant: tenant_mark(id), tag: tag_mark(id, tag) }])
        }
        (Order { url: None, source: None, tag: None, all: true, .. }, Some(active)) => {
            Ok(vec![Scope::Tenant { tenant: tenant_mark(&active.tenant.id) }])
        }
        (Order { url: None, source: None, tag: None, all: true, .. }, None) => Ok(vec![Scope::Everything]),
        (Order { url: None, source: None, tag: None, all: false, .. }, _) => bad("it says nothing of what to purge"),
        (Order { url: None, all: false, source, tag, .. }, None) if source.is_some() != tag.is_some() => {
            bad("\"tenant\" is missing")
        }
        _ => bad("it says more than one thing to purge"),
    }
}

fn named<'a>(active: &'a ActivePolicy, name: &str) -> Result<&'a Arc<ActiveTenant>, EdgeError> {
    let slug = TenantSlug::new(name).map_err(|_| EdgeError::UnknownTenant(name.to_owned()))?;
    active.tenant(&slug).ok_or_else(|| EdgeError::UnknownTenant(name.to_owned()))
}

/// With a tenant the path may lack its tenant part, as on a host of its own.
fn of_url(active: &ActivePolicy, url: &str, whose: Option<&Arc<ActiveTenant>>) -> Result<Vec<Scope>, PurgeRefusal> {
    // Signatures are no part of what is cached.
    let path = url.split('?').next().unwrap_or_default().as_bytes();
    let has_tenant = native::parse(path, None).is_ok_and(|request| {
        whose.is_none_or(|whose| whose.tenant.slug == request.tenant) && active.tenant(&request.tenant).is_some()
    });
    let host_tenant = whose.filter(|_| !has_tenant).map(|whose| &whose.tenant.slug);
    let decision = Decision::of_path(active, host_tenant, path)?;
    let tenant = tenant_mark(&decision.tenant.id);
    match &decision.wanted {
        Wanted::Rendition(wanted) => {
            // With what they are made of, or they would be made of the same again.
            let keys = wanted.keys().into_iter().chain([wanted.original]);
            Ok(keys.map(|key| Scope::Key { tenant, key }).collect())
        }
        Wanted::Original => Err(PurgeRefusal::BadOrder("originals are not cached".to_owned())),
    }
}
