//! What edges are told of a change.
//!
//! The row is part of the transaction that makes the change, and gets its number when that commits
//! (`migrations/0002_feed.sql`): no change goes untold, and nothing is told that did not happen.

mod head;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use isolation::{TenantKey, TenantTransaction};
use serde_json::{Value, json};
use uuid::Uuid;

pub use self::head::FeedHead;
use crate::problem::ApiError;
use crate::sealing::{Place, Seal};

/// What the secrets of signing keys belong to, beside the tenant and their `kid`.
pub const SIGNING_KEY: &str = "signing_key";

/// What has changed.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// The tenant itself.
    Tenant,
    /// What edges have of the tenant and are to take back; never told again in a snapshot.
    Purge,
    /// A host of the tenant's own, which it has proved to have.
    Domain(&'a str),
    /// A preset, by its name.
    Preset(&'a str),
    /// A signing key, by its `kid`; its secret stays sealed.
    SigningKey(&'a str),
    /// What a public id means; the new meaning is in its pointer already.
    Media(&'a str),
}

impl Subject<'_> {
    fn kind_and_name(self) -> (&'static str, String) {
        match self {
            Self::Tenant => ("tenant", String::new()),
            Self::Purge => ("purge", String::new()),
            Self::Domain(host) => ("domain", host.to_owned()),
            Self::Preset(name) => ("preset", name.to_owned()),
            Self::SigningKey(kid) => (SIGNING_KEY, kid.to_owned()),
            Self::Media(public_id) => ("media", public_id.to_owned()),
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

/// A signing key as edges are told of it. One that cannot be opened is left out: it would hold up the changes of all tenants.
pub fn unseal_signing_key(seal: &Seal, tenant: TenantKey, kid: &str, body: Value) -> Option<Value> {
    open(seal, tenant, kid, &body["sealed"]).map(|secret| json!({ "secret": secret }))
}

/// All signing keys of a tenant, by their `kid`, as a snapshot has them.
pub fn unseal_signing_keys(seal: &Seal, tenant: TenantKey, keys: Value) -> Value {
    let Value::Object(keys) = keys else { return keys };
    let opened = keys.into_iter().filter_map(|(kid, sealed)| {
        let secret = open(seal, tenant, &kid, &sealed)?;
        Some((kid, json!({ "secret": secret })))
    });
    Value::Object(opened.collect())
}

fn open(seal: &Seal, tenant: TenantKey, kid: &str, sealed: &Value) -> Option<String> {
    // Postgres breaks base64 into lines.
    let text = sealed.as_str().unwrap_or_default().replace('\n', "");
    let place = Place { tenant, kind: SIGNING_KEY, name: kid };
    let opened = seal.open(&STANDARD.decode(text).unwrap_or_default(), place).map(String::from_utf8);
    match opened {
        Ok(Ok(secret)) => Some(secret),
        Ok(Err(_)) | Err(_) => {
            tracing::error!(%tenant, kid, "edges are not told of a signing key that cannot be opened");
            None
        }
    }
}
