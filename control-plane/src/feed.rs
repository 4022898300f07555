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
    /// What a public id means; the new meaning is in its pointer already.
    Media(&'a str),
}

impl Subject<'_> {
    fn kind_and_name(self) -> (&'static str, String) {
        match self {
            Self::Tenant => (kind::TENANT, String::new()),
            Self::Purge => (kind::PURGE, String::new()),
            Self::Domain(host) => (kind::DOMAIN, host.to_owned()),
            Self::Policy => (kind::POLICY, String::new()),
            Self::Preset(name) => (kind::PRESET, name.to_owned()),
            Self::Image(name) => (kind::IMAGE, name.to_owned()),
            Self::Origin(name) => (kind::ORIGIN, name.to_owned()),
            Self::SigningKey(kid) => (kind::SIGNING_KEY, kid.to_owned()),
            Self::Media(public_id) => (kind::MEDIA, public_id.to_owned()),
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
