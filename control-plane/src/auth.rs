//! Who asks: a tenant by one of its keys, or the operator by the admin key.
//!
//! Must not know what is asked for: routes name the scope that they need.

mod directory;
mod key;
mod scope;

use std::sync::Arc;

use isolation::{Actor, Author, Database, DatabaseError, Freshness, Mandate, TenantKey, TenantTransaction};
use rocket::request::{FromRequest, Outcome, Request};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

pub use self::directory::KeyDirectory;
pub use self::key::{ApiKey, random_secret};
pub use self::scope::{Scope, Scopes};
use crate::config::{ControlPlaneSettings, SecretText};
use crate::problem::ApiError;
use crate::rates::RateLimits;
use crate::requests::{Exchange, managed};

/// Whose a key is.
#[derive(Debug, Clone)]
pub struct Holder {
    tenant: TenantKey,
    slug: Arc<str>,
    key: Uuid,
    scopes: Scopes,
}

/// A tenant, by one of its keys.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Whom the request works for.
    pub tenant: TenantKey,
    /// Its name in URLs.
    pub slug: Arc<str>,
    /// What its transactions begin with.
    pub mandate: Mandate,
    scopes: Scopes,
    freshness: Freshness,
}

impl Caller {
    /// Lets it go on if its key may do this.
    ///
    /// # Errors
    /// [`ApiError::Scope`].
    pub fn needs(&self, scope: Scope) -> Result<(), ApiError> {
        if self.scopes.contain(scope) { Ok(()) } else { Err(ApiError::Scope(scope)) }
    }

    /// Begins a transaction for a list or a sum.
    ///
    /// # Errors
    /// [`DatabaseError::Unavailable`].
    pub async fn read(&self, database: &Database) -> Result<TenantTransaction, DatabaseError> {
        database.read(&self.mandate, self.freshness).await
    }
}

/// The operator.
#[derive(Debug, Clone)]
pub struct Admin {
    author: Author,
    /// Of lists and sums.
    pub freshness: Freshness,
}

impl Admin {
    /// What a transaction begins with that works for this tenant.
    pub fn mandate(&self, tenant: TenantKey) -> Mandate {
        Mandate::new(tenant, &self.author)
    }
}

/// An edge.
#[derive(Debug, Clone, Copy)]
pub struct EdgeNode;

/// What the operator and edges are known by.
#[derive(Debug)]
pub struct Operators {
    admin: TokenHash,
    edge: TokenHash,
}

impl Operators {
    /// Those of the settings.
    pub fn of(settings: &ControlPlaneSettings) -> Self {
        Self { admin: TokenHash::of(&settings.admin_key), edge: TokenHash::of(&settings.edge_token) }
    }
}

/// The hash of a token; `None` where nobody may come with it.
#[derive(Debug)]
struct TokenHash(Option<[u8; 32]>);

impl TokenHash {
    fn of(token: &SecretText) -> Self {
        let token = token.expose();
        Self((!token.is_empty()).then(|| Sha256::digest(token).into()))
    }

    fn is(&self, token: &str) -> bool {
        let hash: [u8; 32] = Sha256::digest(token).into();
        self.0.as_ref().is_some_and(|known| known.ct_eq(&hash).into())
    }
}

/// The token of `Authorization: Bearer …`.
fn token<'r>(request: &'r Request<'_>) -> Option<&'r str> {
    let mut all = request.headers().get("Authorization");
    let (scheme, token) = all.next()?.split_once(' ')?;
    (all.next().is_none() && scheme.eq_ignore_ascii_case("bearer")).then_some(token.trim())
}

/// Counts a request that has shown no key that is known, by its address.
///
/// # Errors
/// [`ApiError::RateLimited`].
pub fn stranger(request: &Request<'_>) -> Result<(), ApiError> {
    // There is always one but for requests that tests make up.
    let Some(client) = request.remote() else { return Ok(()) };
    let limits = managed::<Arc<RateLimits>>(request)?;
    Exchange::of(request).is_within(limits.charge_address(client.ip()))
}

/// Who is to be written down for what this request changes.
fn author(request: &Request<'_>, actor: Actor) -> Author {
    let pattern = request.route().map(|route| route.uri.as_str()).unwrap_or_default();
    let (operation, client) = (format!("{} {pattern}", request.method()), request.remote().map(|remote| remote.ip()));
    Author::of_request(actor, &operation, Exchange::of(request).id(), client)
}

/// Lists and sums may lag behind by a little, unless the request says `Cache-Control: no-cache`.
fn freshness(request: &Request<'_>) -> Freshness {
    let wants_newest = request.headers().get("Cache-Control").any(|words| words.contains("no-cache"));
    if wants_newest { Freshness::Newest } else { Freshness::MayLag }
}

async fn caller(request: &Request<'_>) -> Result<Caller, ApiError> {
    let token = token(request).unwrap_or_default();
    if managed::<Operators>(request)?.admin.is(token) {
        return Err(ApiError::TenantOnly);
    }
    let directory = managed::<Arc<KeyDirectory>>(request)?;
    let hash = ApiKey::parse(token).map(|key| key.hash());
    if hash.is_none_or(|hash| !directory.has_met(&hash)) {
        stranger(request)?;
    }
    let hash = hash.ok_or(ApiError::Unauthenticated)?;
    let Holder { tenant, slug, key, scopes } = directory.find(hash).await?.ok_or(ApiError::Unauthenticated)?;
    let exchange = Exchange::of(request);
    exchange.is_within(managed::<Arc<RateLimits>>(request)?.charge_key(key))?;
    exchange.came_from(tenant, key);
    let mandate = Mandate::new(tenant, &author(request, Actor::Key(key)));
    Ok(Caller { tenant, slug, mandate, scopes, freshness: freshness(request) })
}

async fn admin(request: &Request<'_>) -> Result<Admin, ApiError> {
    if managed::<Operators>(request)?.admin.is(token(request).unwrap_or_default()) {
        return Ok(Admin { author: author(request, Actor::Operator), freshness: freshness(request) });
    }
    // Whoever has a tenant's key is told that it is the wrong one.
    caller(request).await.and(Err(ApiError::AdminOnly))
}

fn edge(request: &Request<'_>) -> Result<EdgeNode, ApiError> {
    if managed::<Operators>(request)?.edge.is(token(request).unwrap_or_default()) {
        return Ok(EdgeNode);
    }
    stranger(request)?;
    Err(ApiError::Unauthenticated)
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Caller {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        Exchange::outcome(request, caller(request).await)
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Admin {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        Exchange::outcome(request, admin(request).await)
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for EdgeNode {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        Exchange::outcome(request, edge(request))
    }
}
