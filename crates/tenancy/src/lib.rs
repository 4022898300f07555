//! Tenants and what each of them is allowed: the types that the edge and the control plane share.
//!
//! Must not do SQL, HTTP or IO. [`PolicyFile`] is the static form an operator writes by hand; [`Policy`] is the
//! validated form that requests are judged by, whichever way it came.

mod file;
mod freshness;
mod origin;
mod policy;
mod rates;
mod secret;
mod signing;
mod web;

pub use file::{Mistake, PolicyError, PolicyFile};
pub use freshness::Freshness;
pub use origin::{Origin, OriginKind, S3Origin};
pub use policy::{Policy, RegisteredImage, Tenant, TenantId};
pub use rates::{Rate, Rates, RatesTable};
pub use secret::Secret;
pub use signing::{Signing, Unsigned};
pub use web::{HttpOrigin, UrlPattern, UrlPatternError, UrlSources};
