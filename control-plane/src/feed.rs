//! What edges are told of a change.
//!
//! The row is part of the transaction that makes the change, and gets its number when that commits
//! (`migrations/0002_feed.sql`): no change goes untold, and nothing is told that did not happen.

mod head;
mod secrets;

use isolation::TenantTransaction;
use serde_json::Value;
use tenancy::feed::kind;
use uuid::Uuid;

pub use self::head::FeedHead;
pub use self::secrets::{Sealed, opened};
use crate::problem::ApiError;

/// What has changed.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// The tenant itself.
    Tenant,
    /// What edges have of the tenant and are to take back; never told again in a snapshot.
    Purge,
    /// A host of the tenant's own, which it has proved to have.
    Domain(&'a str),
    /// Its policy document.
    Policy,
    /// A preset, by its name.
    Preset(&'a str),
    /// A registered image, by its name.
    Image(&'a str),
    /// A named origin; its secrets stay sealed.
    Origin(&'a str),
    /// A signing key, by its `kid`; its secret stays sealed.
    SigningKey(&'a str),
    /// Which of its quotas are used up.
    Quotas,
    /// What a public id means; the new meaning is in its pointer already.
    Media(&'a str),
}

impl<'a> Subject<'a> {
    fn kind_and_name(self) -> (&'static str, &'a str) {
        match self {
            Self::Tenant => (kind::TENANT, ""),
            Self::Purge => (kind::PURGE, ""),
            Self::Domain(host) => (kind::DOMAIN, host),
            Self::Policy => (kind::POLICY, ""),
            Self::Preset(name) => (kind::PRESET, name),
            Self::Image(name) => (kind::IMAGE, name),
            Self::Origin(name) => (kind::ORIGIN, name),
            Self::SigningKey(kid) => (kind::SIGNING_KEY, kid),
            Self::Quotas => (kind::QUOTA, ""),
            Self::Media(public_id) => (kind::MEDIA, public_id),
        }
    }
}

/// Tells edges what it is now; `None` when it is no more. Returns the id of the change, whose number is not known before the commit.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn announce(
    transaction: &mut TenantTransaction,
    subject: Subject<'_>,
    body: Option<Value>,
) -> Result<Uuid, ApiError> {
    let id = Uuid::now_v7();
    let (kind, name) = subject.kind_and_name();
    let tenant = transaction.tenant().as_uuid();
    sqlx::query!(
        "INSERT INTO feed_events (id, tenant_id, kind, name, body) VALUES ($1, $2, $3, $4, $5)",
        id,
        tenant,
        kind,
        name,
        body
    )
    .execute(transaction.connection())
    .await?;
    Ok(id)
}
