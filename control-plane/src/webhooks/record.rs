//! The row of a webhook: made, found, changed, deleted, switched off and on, given another secret.

use std::time::Duration;

use isolation::TenantTransaction;
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Secret;
use super::queue::{interval, lock_queue, wake};
use crate::delivery;
use crate::etag::Condition;
use crate::events::{EventKind, emit_to};
use crate::problem::ApiError;
use crate::sealing::Seal;

/// Most webhooks of a tenant: each event has a row for each of them that wants it.
const WEBHOOKS_MAX: i64 = 20;

/// What is called when there is none.
pub const WEBHOOK: &str = "webhook";

/// A webhook, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct Webhook {
    /// Its unchanging id.
    pub id: Uuid,
    url: String,
    description: String,
    /// What it wants to hear of; empty is everything.
    types: Vec<String>,
    /// `enabled` or `disabled`.
    state: String,
    /// `asked`, `gone` (it answered 410) or `failing` (nothing had been taken for days).
    disabled_reason: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    disabled_at: Option<OffsetDateTime>,
    /// Since when nothing was taken; `null` when the last thing was.
    #[serde(with = "time::serde::rfc3339::option")]
    failing_since: Option<OffsetDateTime>,
    /// Deliveries that wait; 1000 means that many or more.
    pending: i64,
    /// Until when the secret before this one signs as well.
    #[serde(with = "time::serde::rfc3339::option")]
    old_secret_until: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
    /// Grows with each change.
    #[serde(skip)]
    pub version: i64,
}

/// Webhooks, by the rest of a statement.
macro_rules! select {
    ($rest:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            Webhook,
            r#"SELECT webhooks.id, webhooks.url, webhooks.description, webhooks.kinds AS types, webhooks.state,
                 webhooks.disabled_reason, webhooks.disabled_at, webhook_queues.failing_since,
                 (
                     SELECT count(*) FROM (
                         SELECT FROM webhook_deliveries AS waiting
                         WHERE waiting.webhook_id = webhooks.id AND waiting.state = 'pending' LIMIT 1000
                     ) AS counted
                 ) AS "pending!",
                 CASE WHEN webhooks.old_secret_until > now() THEN webhooks.old_secret_until END AS old_secret_until,
                 webhooks.created_at, webhooks.updated_at, webhooks.version
               FROM webhooks JOIN webhook_queues
                   ON webhook_queues.tenant_id = webhooks.tenant_id AND webhook_queues.webhook_id = webhooks.id "# + $rest
            $(, $argument)*
        )
    };
}

/// What a new webhook is to be.
#[derive(Debug)]
pub struct NewWebhook<'a> {
    /// Where events are sent; it was checked.
    pub url: &'a str,
    /// For people; it was checked.
    pub description: &'a str,
    /// What it wants to hear of; empty is everything.
    pub kinds: &'a [EventKind],
    /// What is signed with.
    pub secret: &'a Secret,
}

/// Makes a webhook, if `transaction` commits. It hears of what happens from then on.
///
/// # Errors
/// [`ApiError::Field`] when the tenant has as many as may be, and [`ApiError::NoMasterKey`].
pub async fn create(
    transaction: &mut TenantTransaction,
    new: &NewWebhook<'_>,
    seal: &Seal,
) -> Result<Webhook, ApiError> {
    let (tenant, id) = (transaction.tenant(), Uuid::now_v7());
    let secret = new.secret.seal(seal, tenant, id)?;
    delivery::hold(transaction).await?;
    let count = sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM webhooks"#);
    if count.fetch_one(transaction.connection()).await? >= WEBHOOKS_MAX {
        return Err(ApiError::field("url", format!("a tenant has at most {WEBHOOKS_MAX} webhooks: delete one")));
    }
    sqlx::query!(
        "WITH made AS (
             INSERT INTO webhooks (tenant_id, id, url, description, kinds, secret) VALUES ($1, $2, $3, $4, $5, $6)
             RETURNING tenant_id, id
         )
         INSERT INTO webhook_queues (tenant_id, webhook_id) SELECT tenant_id, id FROM made",
        tenant.as_uuid(),
        id,
        new.url,
        new.description,
        &names(new.kinds)[..],
        secret
    )
    .execute(transaction.connection())
    .await?;
    find(transaction, id).await
}

fn names(kinds: &[EventKind]) -> Vec<String> {
    kinds.iter().map(|kind| kind.as_str().to_owned()).collect()
}

/// The webhook of this id.
///
/// # Errors
/// [`ApiError::NotFound`].
pub async fn find(transaction: &mut TenantTransaction, id: Uuid) -> Result<Webhook, ApiError> {
    let found = select!("WHERE webhooks.id = $1", id).fetch_optional(transaction.connection()).await?;
    found.ok_or(ApiError::NotFound(WEBHOOK))
}

/// Webhooks after this one, oldest first, at most so many.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn list(
    transaction: &mut TenantTransaction,
    after: Option<Uuid>,
    count: i64,
) -> Result<Vec<Webhook>, ApiError> {
    let after = after.unwrap_or(Uuid::nil());
    let found = select!("WHERE webhooks.id > $1 ORDER BY webhooks.id LIMIT $2", after, count);
    Ok(found.fetch_all(transaction.connection()).await?)
}

/// What becomes of a webhook; what is `None` stays as it is.
#[derive(Debug, Default)]
pub struct Change {
    /// Another place, for what waits as well, at once; it was checked.
    pub url: Option<String>,
    /// Another text for people; it was checked.
    pub description: Option<String>,
    /// What it wants to hear of from then on.
    pub kinds: Option<Vec<EventKind>>,
}

/// Changes a webhook, if `transaction` commits.
///
/// # Errors
/// [`ApiError::NotFound`] and [`ApiError::Changed`].
pub async fn change(
    transaction: &mut TenantTransaction,
    id: Uuid,
    condition: Condition,
    change: &Change,
) -> Result<Webhook, ApiError> {
    lock(transaction, id, condition).await?;
    let kinds = change.kinds.as_deref().map(names);
    sqlx::query!(
        "UPDATE webhooks SET url = coalesce($2, url), description = coalesce($3, description), kinds = coalesce($4, kinds),
             version = version + 1, updated_at = now()
         WHERE id = $1",
        id,
        change.url,
        change.description,
        kinds.as_deref()
    )
    .execute(transaction.connection())
    .await?;
    if change.url.is_some() {
        try_at_once(transaction, id).await?;
    }
    find(transaction, id).await
}

/// Deletes a webhook, if `transaction` commits: nothing is sent any more, not even what waits.
///
/// # Errors
/// [`ApiError::NotFound`] and [`ApiError::Changed`].
pub async fn delete(transaction: &mut TenantTransaction, id: Uuid, condition: Condition) -> Result<(), ApiError> {
    lock(transaction, id, condition).await?;
    sqlx::query!("DELETE FROM webhooks WHERE id = $1", id).execute(transaction.connection()).await?;
    Ok(())
}

/// Sends nothing more to a webhook, if `transaction` commits. What waits goes on waiting.
///
/// # Errors
/// [`ApiError::NotFound`].
pub async fn disable(transaction: &mut TenantTransaction, id: Uuid) -> Result<Webhook, ApiError> {
    lock(transaction, id, Condition::None).await?;
    sqlx::query!(
        "UPDATE webhooks SET state = 'disabled', disabled_reason = 'asked', disabled_at = now(), version = version + 1,
             updated_at = now()
         WHERE id = $1 AND state = 'enabled'",
        id
    )
    .execute(transaction.connection())
    .await?;
    find(transaction, id).await
}

/// Goes on sending to a webhook, if `transaction` commits, with what waits, at once.
///
/// # Errors
/// [`ApiError::NotFound`].
pub async fn enable(transaction: &mut TenantTransaction, id: Uuid) -> Result<Webhook, ApiError> {
    lock(transaction, id, Condition::None).await?;
    let enabled = sqlx::query!(
        "UPDATE webhooks SET state = 'enabled', disabled_reason = NULL, disabled_at = NULL, version = version + 1,
             updated_at = now()
         WHERE id = $1 AND state = 'disabled'",
        id
    );
    if enabled.execute(transaction.connection()).await?.rows_affected() > 0 {
        try_at_once(transaction, id).await?;
        sqlx::query!("UPDATE webhook_queues SET failing_since = NULL WHERE webhook_id = $1", id)
            .execute(transaction.connection())
            .await?;
    }
    find(transaction, id).await
}

/// Lets what is first in the queue wait no longer for its next attempt.
async fn try_at_once(transaction: &mut TenantTransaction, id: Uuid) -> Result<(), ApiError> {
    lock_queue(transaction, id).await?;
    // Nothing else that waits was tried.
    sqlx::query!(
        "UPDATE webhook_deliveries SET try_at = now() WHERE webhook_id = $1 AND state = 'pending' AND attempts > 0",
        id
    )
    .execute(transaction.connection())
    .await?;
    wake(transaction, id).await
}

/// Gives a webhook another secret, if `transaction` commits. The one before signs as well for this long.
///
/// # Errors
/// [`ApiError::NotFound`]; [`ApiError::WebhookState`] while the secret before the current one still signs, unless that is to end;
/// [`ApiError::NoMasterKey`].
pub async fn rotate(
    transaction: &mut TenantTransaction,
    id: Uuid,
    secret: &Secret,
    overlap: Duration,
    seal: &Seal,
) -> Result<Webhook, ApiError> {
    lock(transaction, id, Condition::None).await?;
    let sealed = secret.seal(seal, transaction.tenant(), id)?;
    let rotated = sqlx::query!(
        "UPDATE webhooks SET
             old_secret = CASE WHEN $3 > interval '0' THEN secret END,
             old_secret_until = CASE WHEN $3 > interval '0' THEN now() + $3 END,
             secret = $2, version = version + 1, updated_at = now()
         WHERE id = $1 AND ($3 = interval '0' OR old_secret_until IS NULL OR old_secret_until <= now())",
        id,
        sealed,
        interval(overlap)
    )
    .execute(transaction.connection())
    .await?;
    if rotated.rows_affected() == 0 {
        let why = "still signs with the secret before this one as well: wait for its end, or rotate with \"overlap_seconds\" 0";
        return Err(ApiError::WebhookState(why));
    }
    find(transaction, id).await
}

/// Sends a test to a webhook, if `transaction` commits, before whatever waits: the id of the event.
///
/// # Errors
/// [`ApiError::NotFound`], and [`ApiError::WebhookState`] when it is disabled.
pub async fn test(transaction: &mut TenantTransaction, id: Uuid) -> Result<Uuid, ApiError> {
    let state = sqlx::query_scalar!("SELECT state FROM webhooks WHERE id = $1", id)
        .fetch_optional(transaction.connection())
        .await?
        .ok_or(ApiError::NotFound(WEBHOOK))?;
    if state != "enabled" {
        return Err(ApiError::WebhookState(DISABLED));
    }
    Ok(emit_to(transaction, id, EventKind::WebhookTest, json!({ "webhook_id": id })).await?)
}

/// Why nothing is sent to one that is disabled.
pub const DISABLED: &str = "is disabled: enable it first";

/// Keeps others from changing it before this transaction ends.
async fn lock(transaction: &mut TenantTransaction, id: Uuid, condition: Condition) -> Result<(), ApiError> {
    let version = sqlx::query_scalar!("SELECT version FROM webhooks WHERE id = $1 FOR UPDATE", id)
        .fetch_optional(transaction.connection())
        .await?
        .ok_or(ApiError::NotFound(WEBHOOK))?;
    condition.check(Some(version))
}

/// Seals a tenant's secrets with the newest master key; how many that were.
///
/// # Errors
/// What the database says, [`ApiError::Seal`], or [`ApiError::NoMasterKey`].
pub async fn reseal(transaction: &mut TenantTransaction, seal: &Seal) -> Result<u64, ApiError> {
    let tenant = transaction.tenant();
    let rows = sqlx::query!("SELECT id, secret, old_secret FROM webhooks ORDER BY id FOR UPDATE")
        .fetch_all(transaction.connection())
        .await?;
    let mut resealed = 0;
    for row in rows {
        let all = [Some(&row.secret), row.old_secret.as_ref()];
        let aged = all.into_iter().flatten().filter(|sealed| !seal.is_newest(sealed)).count() as u64;
        if aged == 0 {
            continue;
        }
        let anew = |sealed: &[u8]| Secret::open(sealed, seal, tenant, row.id)?.seal(seal, tenant, row.id);
        let (secret, old_secret) = (anew(&row.secret)?, row.old_secret.as_deref().map(anew).transpose()?);
        sqlx::query!("UPDATE webhooks SET secret = $2, old_secret = $3 WHERE id = $1", row.id, secret, old_secret)
            .execute(transaction.connection())
            .await?;
        resealed += aged;
    }
    Ok(resealed)
}
