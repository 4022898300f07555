//! What was sent to a webhook, or is to be, as its tenant sees it.

use std::str::FromStr;

use isolation::TenantTransaction;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::problem::ApiError;

/// What is called when there is none.
pub(super) const DELIVERY: &str = "delivery";

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
