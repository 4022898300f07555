//! Tenants and what each of them is allowed: the types that the edge and the control plane share.
//!
//! Must not do SQL, HTTP or IO. [`PolicyFile`] is the static form an operator writes by hand, [`TenantParts`] what the control
//! plane keeps of a tenant and edges are told in the words of [`feed`], as edges tell in those of [`usage`]; [`Tenant`] is the validated form that requests are judged
//! by, whichever way it came.

mod document;
pub mod feed;
mod file;
mod freshness;
mod origin;
mod parts;
mod quotas;
mod rates;
mod secret;
mod signing;
mod tenant;
pub mod usage;
mod web;

pub use document::Mistake;
pub use file::{PolicyError, PolicyFile};
pub use freshness::Freshness;
pub use origin::{Origin, OriginKind, S3Origin};
pub use parts::{TenantParts, TenantState, UnknownKind};
pub use quotas::Exhausted;
pub use rates::{Rate, Rates, RatesTable};
pub use secret::Secret;
pub use signing::{Signing, Unsigned};
pub use tenant::{Tenant, TenantId};
pub use web::{HttpOrigin, UrlPattern, UrlPatternError, UrlSources};
