//! What a tenant has set for delivery, as a whole: presets, images, origins and policy lean on each other.
//!
//! Whoever changes one of them holds the tenant's policy row until the end of the transaction, so that there is one change at a time,
//! and has all of them checked by the same rules as an edge that is told of it.

use isolation::TenantTransaction;
use serde_json::{Map, Value};
use tenancy::{Mistake, TenantId, TenantParts};
use url::Host;

use crate::config::ControlPlaneSettings;
use crate::problem::ApiError;

/// Most bytes of all that a tenant sets, as JSON: edges are told of hundreds of tenants in one answer, and hold all in memory.
const PARTS_BYTES_MAX: usize = 768 * 1024;

/// Stands for a secret that is not opened to check what is beside it.
const HIDDEN: &str = "…";

/// What the operator lets tenants reach that is nobody's business by default.
#[derive(Debug, Clone)]
pub struct Reach {
    /// Hosts and addresses that may be private.
    private_hosts: Vec<String>,
    /// Base URLs of stores that are not AWS.
    s3_endpoints: Vec<String>,
}

impl Reach {
    /// That of the settings.
    pub fn of(settings: &ControlPlaneSettings) -> Self {
        Self { private_hosts: settings.private_hosts.clone(), s3_endpoints: settings.s3_endpoints.clone() }
    }

    /// Lets these hosts through.
    ///
    /// # Errors
    /// The first that is not among the operator's.
    pub fn check_private(&self, key: &str, table: &Value) -> Result<(), ApiError> {
        let entries = table.get("allow_private").and_then(Value::as_array);
        let is_allowed = |entry: &Value| {
            // What is no text is told by the rules for all.
            entry.as_str().is_none_or(|entry| self.private_hosts.iter().any(|host| is_same_host(host, entry)))
        };
        match entries.into_iter().flatten().find(|entry| !is_allowed(entry)) {
            Some(entry) => {
                let why = format!("{entry} is not among the operator's setting private_hosts");
                Err(ApiError::mistake(format!("{key}allow_private"), why))
            }
            None => Ok(()),
        }
    }

    /// Lets a store of this address through.
    ///
    /// # Errors
    /// When it is not among the operator's.
    pub fn check_endpoint(&self, endpoint: &str) -> Result<(), ApiError> {
        let plain = |url: &str| url.trim_end_matches('/').to_ascii_lowercase();
        if self.s3_endpoints.iter().any(|allowed| plain(allowed) == plain(endpoint)) {
            return Ok(());
        }
        let why = "it is not among the operator's setting s3_endpoints";
        Err(ApiError::mistake("s3.endpoint".to_owned(), why.to_owned()))
    }
}

fn is_same_host(one: &str, other: &str) -> bool {
    let parsed = |text: &str| match text.parse::<std::net::IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => Host::parse(text).map_or_else(|_| text.to_owned(), |host| host.to_string()),
    };
    parsed(one) == parsed(other)
}

/// Holds what the transaction's tenant has set: others who do so wait until the transaction ends. What counts before it adds does,
/// so that a limit holds for those who come at once, too.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn hold(transaction: &mut TenantTransaction) -> Result<(), ApiError> {
    sqlx::query!("SELECT version FROM policies FOR UPDATE").fetch_optional(transaction.connection()).await?;
    Ok(())
}

/// All parts of the transaction's tenant but its keys, which nothing leans on. Others wait until the transaction ends.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn lock(transaction: &mut TenantTransaction) -> Result<TenantParts, ApiError> {
    hold(transaction).await?;
    let row = sqlx::query!(
        r#"SELECT
             (SELECT slug FROM tenants) AS "slug!",
             (SELECT document FROM policies) AS policy,
             (SELECT jsonb_object_agg(name, ops) FROM presets) AS presets,
             (SELECT jsonb_object_agg(name, source) FROM images) AS images,
             (SELECT jsonb_object_agg(name, config) FROM origins) AS origins"#
    )
    .fetch_one(transaction.connection())
    .await?;
    let object = |value: Option<Value>| value.unwrap_or_else(|| Value::Object(Map::new()));
    let parts = serde_json::json!({
        "slug": row.slug,
        "policy": object(row.policy),
        "presets": object(row.presets),
        "images": object(row.images),
        "origins": object(row.origins),
    });
    let mut parts: TenantParts = serde_json::from_value(parts).map_err(|error| {
        tracing::error!(tenant = %transaction.tenant(), %error, "what the database has of a tenant cannot be read");
        ApiError::Internal
    })?;
    for origin in parts.origins.values_mut() {
        hide(origin);
    }
    Ok(parts)
}

/// Puts something in the place of a secret that was taken out.
fn hide(origin: &mut Value) {
    if let Some(s3) = origin.get_mut("s3").and_then(Value::as_object_mut) {
        s3.insert("secret_access_key".to_owned(), HIDDEN.into());
    }
}

/// What edges would say to these parts.
fn check(parts: &TenantParts, transaction: &TenantTransaction) -> Result<(), Vec<Mistake>> {
    parts.check(TenantId::new(&transaction.tenant().to_string())).map(|_| ())
}

/// Refuses parts that edges would refuse, because of what is to be taken in, or that are too much for them together.
///
/// # Errors
/// [`ApiError::Mistakes`] and [`ApiError::Field`].
pub fn accept(parts: &TenantParts, transaction: &TenantTransaction) -> Result<(), ApiError> {
    let bytes = serde_json::to_vec(parts).map_err(|_| ApiError::Internal)?.len();
    if bytes > PARTS_BYTES_MAX {
        let why = format!("policy, presets, overlays and origins have at most {PARTS_BYTES_MAX} bytes together");
        return Err(ApiError::field("body", why));
    }
    check(parts, transaction).map_err(ApiError::Mistakes)
}

/// Refuses to take out what others lean on.
///
/// # Errors
/// [`ApiError::InUse`].
pub fn spare(parts: &TenantParts, transaction: &TenantTransaction) -> Result<(), ApiError> {
    check(parts, transaction).map_err(ApiError::InUse)
}
