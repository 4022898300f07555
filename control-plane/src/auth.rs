//! Who asks: a tenant by one of its keys, or the operator by the admin key.
//!
//! Must not know what is asked for: routes name the scope that they need.

mod directory;
mod key;
mod scope;

use std::sync::Arc;

use isolation::TenantKey;
use rocket::request::{FromRequest, Outcome, Request};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

pub use self::directory::KeyDirectory;
pub use self::key::ApiKey;
pub use self::scope::{Scope, Scopes};
use crate::config::ControlPlaneSettings;
use crate::problem::ApiError;
use crate::requests::Exchange;

/// A tenant, by one of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Whom the request works for.
    pub tenant: TenantKey,
    /// The key.
    pub key: Uuid,
    scopes: Scopes,
}

impl Caller {
    /// Lets it go on if its key may do this.
    ///
    /// # Errors
    /// [`ApiError::Scope`].
    pub fn needs(&self, scope: Scope) -> Result<(), ApiError> {
        if self.scopes.contain(scope) { Ok(()) } else { Err(ApiError::Scope(scope)) }
    }
}

/// The operator.
#[derive(Debug, Clone, Copy)]
pub struct Admin;

/// The hash of the admin key; `None` where nobody may be the operator.
#[derive(Debug)]
pub struct AdminKey(Option<[u8; 32]>);

impl AdminKey {
    /// That of the settings.
    pub fn of(settings: &ControlPlaneSettings) -> Self {
        let key = settings.admin_key.expose();
        Self((!key.is_empty()).then(|| Sha256::digest(key).into()))
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

/// What is managed for every request; `None` would be a mistake of `server.rs`.
fn managed<'r, T: Send + Sync + 'static>(request: &'r Request<'_>) -> Result<&'r T, ApiError> {
    request.rocket().state::<T>().ok_or(ApiError::Internal)
}

async fn caller(request: &Request<'_>) -> Result<Caller, ApiError> {
    let token = token(request).ok_or(ApiError::Unauthenticated)?;
    let Some(key) = ApiKey::parse(token) else {
        let is_admin = managed::<AdminKey>(request)?.is(token);
        return Err(if is_admin { ApiError::TenantOnly } else { ApiError::Unauthenticated });
    };
    let found = managed::<Arc<KeyDirectory>>(request)?.find(key.hash()).await?;
    found.ok_or(ApiError::Unauthenticated)
}

async fn admin(request: &Request<'_>) -> Result<Admin, ApiError> {
    let token = token(request).ok_or(ApiError::Unauthenticated)?;
    if managed::<AdminKey>(request)?.is(token) {
        return Ok(Admin);
    }
    // Whoever has a tenant's key is told that it is the wrong one.
    caller(request).await.and(Err(ApiError::AdminOnly))
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Caller {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let exchange = Exchange::of(request);
        match caller(request).await {
            Ok(caller) => {
                exchange.came_from(caller.tenant, caller.key);
                Outcome::Success(caller)
            }
            Err(error) => Outcome::Error(exchange.refuse(error)),
        }
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Admin {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        match admin(request).await {
            Ok(admin) => Outcome::Success(admin),
            Err(error) => Outcome::Error(Exchange::of(request).refuse(error)),
        }
    }
}
