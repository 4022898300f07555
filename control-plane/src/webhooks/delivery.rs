//! What was sent to a webhook, or is to be, as its tenant sees it; and sending it again.

use std::str::FromStr;

use isolation::TenantTransaction;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::queue::{lock_queue, wake};
use super::record::DISABLED;
use crate::problem::ApiError;

/// What is called when there is none.
const DELIVERY: &str = "delivery";

/// Most events that are put in a queue again by one request.
const AGAIN_MAX: i64 = 10_000;

/// Where a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// On its way, or waiting.
    Pending,
    /// Taken.
    Delivered,
    /// Given up.
    Failed,
}

impl DeliveryState {
    const ALL: [Self; 3] = [Self::Pending, Self::Delivered, Self::Failed];

    /// Its name in the database and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

impl FromStr for DeliveryState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}

/// An event on its way to a webhook, or there.
#[derive(Debug, Serialize, ToSchema)]
pub struct Delivery {
    /// The event: what `webhook-id` says.
    pub event_id: Uuid,
    #[serde(rename = "type")]
    kind: String,
    /// `pending`, `delivered` or `failed`.
    state: String,
    /// Attempts so far, since it was last put in the queue.
    attempts: i16,
    /// When it is tried next, if nothing is before it; `null` when it is over.
    #[serde(with = "time::serde::rfc3339::option")]
    try_at: Option<OffsetDateTime>,
    /// When the last attempt ended.
    #[serde(with = "time::serde::rfc3339::option")]
    tried_at: Option<OffsetDateTime>,
    /// How long the last attempt took, in milliseconds.
    duration_ms: Option<i32>,
    /// What was answered to it.
    status: Option<i16>,
    /// Why there was no answer to it.
    error: Option<String>,
    /// The beginning of the answer's body.
    answer: Option<String>,
    /// When the event happened.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// Grows with each of the tenant's events.
    pub seq: i64,
}

/// Deliveries, by the rest of a statement.
macro_rules! select {
    ($rest:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            Delivery,
            r#"SELECT event_id, kind, state, attempts, CASE WHEN state = 'pending' THEN try_at END AS try_at, tried_at, duration_ms,
                 status, error, answer, created_at, seq
               FROM webhook_deliveries "# + $rest
            $(, $argument)*
        )
    };
}

/// Deliveries to a webhook before this one, newest first, at most so many: all, or those in one state.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn deliveries(
    transaction: &mut TenantTransaction,
    webhook: Uuid,
    state: Option<DeliveryState>,
    before: Option<i64>,
    count: i64,
) -> Result<Vec<Delivery>, ApiError> {
    let before = before.unwrap_or(i64::MAX);
    let connection = transaction.connection();
    // A state by itself, so that its index serves.
    let found = match state {
        None => {
            let found =
                select!("WHERE webhook_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3", webhook, before, count);
            found.fetch_all(connection).await?
        }
        Some(DeliveryState::Pending) => {
            let found = select!(
                "WHERE webhook_id = $1 AND seq < $2 AND state = 'pending' ORDER BY seq DESC LIMIT $3",
                webhook,
                before,
                count
            );
            found.fetch_all(connection).await?
        }
        Some(DeliveryState::Delivered) => {
            let found = select!(
                "WHERE webhook_id = $1 AND seq < $2 AND state = 'delivered' ORDER BY seq DESC LIMIT $3",
                webhook,
                before,
                count
            );
            found.fetch_all(connection).await?
        }
        Some(DeliveryState::Failed) => {
            let found = select!(
                "WHERE webhook_id = $1 AND seq < $2 AND state = 'failed' ORDER BY seq DESC LIMIT $3",
                webhook,
                before,
                count
            );
            found.fetch_all(connection).await?
        }
    };
    Ok(found)
}

/// The delivery of an event to a webhook.
///
/// # Errors
/// [`ApiError::NotFound`].
pub async fn find_delivery(
    transaction: &mut TenantTransaction,
    webhook: Uuid,
    event: Uuid,
) -> Result<Delivery, ApiError> {
    let found = select!("WHERE webhook_id = $1 AND event_id = $2", webhook, event);
    found.fetch_optional(transaction.connection()).await?.ok_or(ApiError::NotFound(DELIVERY))
}

/// Puts a delivery in the queue once more, in its old place, with all attempts before it, if `transaction` commits.
///
/// # Errors
/// [`ApiError::NotFound`], and [`ApiError::WebhookState`] when the webhook is disabled.
pub async fn redeliver(transaction: &mut TenantTransaction, webhook: Uuid, event: Uuid) -> Result<Delivery, ApiError> {
    begin(transaction, webhook).await?;
    let again = sqlx::query!(
        "UPDATE webhook_deliveries SET state = 'pending', attempts = 0, try_at = now()
         WHERE webhook_id = $1 AND event_id = $2",
        webhook,
        event
    );
    if again.execute(transaction.connection()).await?.rows_affected() == 0 {
        return Err(ApiError::NotFound(DELIVERY));
    }
    wake(transaction, webhook).await?;
    find_delivery(transaction, webhook, event).await
}

/// Puts every event that has happened since then and is wanted in the queue, if it was not delivered and does not wait already: what was
/// given up, and what has happened while the webhook was disabled or was not there. How many, and whether there are more.
///
/// # Errors
/// [`ApiError::NotFound`], and [`ApiError::WebhookState`] when the webhook is disabled.
pub async fn redeliver_since(
    transaction: &mut TenantTransaction,
    webhook: Uuid,
    since: OffsetDateTime,
) -> Result<(i64, bool), ApiError> {
    begin(transaction, webhook).await?;
    let tenant = transaction.tenant().as_uuid();
    let again = sqlx::query!(
        "WITH wanted AS (
             SELECT events.id, events.created_at, events.kind, events.seq
             FROM events JOIN webhooks ON webhooks.tenant_id = events.tenant_id AND webhooks.id = $2
             LEFT JOIN webhook_deliveries AS known
                 ON known.tenant_id = events.tenant_id AND known.webhook_id = $2 AND known.event_id = events.id
                     AND known.created_at = events.created_at
             WHERE events.created_at >= $3 AND events.seq IS NOT NULL AND events.webhook_id IS NULL
                 AND (webhooks.kinds = '{}' OR events.kind = ANY (webhooks.kinds))
                 AND (known.state IS NULL OR known.state = 'failed')
             ORDER BY events.seq LIMIT $4
         )
         INSERT INTO webhook_deliveries (tenant_id, webhook_id, event_id, created_at, kind, seq, place)
         SELECT $1, $2, id, created_at, kind, seq, seq FROM wanted
         ON CONFLICT (tenant_id, webhook_id, event_id, created_at)
         DO UPDATE SET state = 'pending', attempts = 0, try_at = now()",
        tenant,
        webhook,
        since,
        AGAIN_MAX
    );
    let count = i64::try_from(again.execute(transaction.connection()).await?.rows_affected()).unwrap_or(i64::MAX);
    wake(transaction, webhook).await?;
    Ok((count, count >= AGAIN_MAX))
}

/// Holds the queue of a webhook that is not disabled.
async fn begin(transaction: &mut TenantTransaction, webhook: Uuid) -> Result<(), ApiError> {
    if lock_queue(transaction, webhook).await? { Ok(()) } else { Err(ApiError::WebhookState(DISABLED)) }
}
