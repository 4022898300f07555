//! What edges are told of a change.
//!
//! The row is part of the transaction that makes the change, and gets its number when that commits
//! (`migrations/0002_feed.sql`): no change goes untold, and nothing is told that did not happen.

use isolation::TenantTransaction;
use serde_json::Value;

use crate::problem::ApiError;

/// What has changed.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// The tenant itself.
    Tenant,
    /// A preset, by its name.
    Preset(&'a str),
}

impl Subject<'_> {
    fn kind_and_name(self) -> (&'static str, String) {
        match self {
            Self::Tenant => ("tenant", String::new()),
            Self::Preset(name) => ("preset", name.to_owned()),
        }
    }
}

/// Tells edges what it is now; `None` when it is no more.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn announce(
    transaction: &mut TenantTransaction,
    subject: Subject<'_>,
    body: Option<Value>,
) -> Result<(), ApiError> {
    let (kind, name) = subject.kind_and_name();
    let tenant = transaction.tenant().as_uuid();
    sqlx::query!(
        "INSERT INTO feed_events (tenant_id, kind, name, body) VALUES ($1, $2, $3, $4)",
        tenant,
        kind,
        name,
        body
    )
    .execute(transaction.connection())
    .await?;
    Ok(())
}
