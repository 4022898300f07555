//! Sending again what was sent to a webhook, and sending what it has missed.
//!
//! What there is to send is looked for before the queue is held, and a bounded piece at a time: whoever makes an event that the webhook
//! wants waits for the queue when it commits.

use isolation::TenantTransaction;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::delivery::{DELIVERY, Delivery, find_delivery};
use super::queue::{lock_queue, wake};
use super::record::{DISABLED, WEBHOOK};
use crate::problem::ApiError;

/// Most events that are put in a queue again by one request.
const AGAIN_MAX: i64 = 10_000;

/// Most events that one request looks at.
const LOOK_MAX: i64 = 50_000;

/// Longest time between the beginning of a transaction, which is the time of its events, and its end, which is when they are numbered.
const TRANSACTION_TIME_MAX: Duration = Duration::minutes(10);

/// What was put in the queue again.
#[derive(Debug)]
pub struct Again {
    /// How many events.
    pub count: i64,
    /// The number of the last event that was looked at; `None` when that was the tenant's last.
    pub next_after: Option<i64>,
}

/// Puts a delivery in the queue once more, in its old place, with all attempts before it, if `transaction` commits.
///
/// # Errors
/// [`ApiError::NotFound`], [`ApiError::WebhookState`] when the webhook is disabled, and a conflict when its queue is not free soon.
pub async fn redeliver(transaction: &mut TenantTransaction, webhook: Uuid, event: Uuid) -> Result<Delivery, ApiError> {
    hold(transaction, webhook).await?;
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

/// Puts events that have happened since then and are wanted in the queue, if they were not delivered and do not wait already: what was
/// given up, and what has happened while the webhook was disabled or was not there. Looks at a piece of the tenant's events, after that
/// number; where to go on.
///
/// # Errors
/// [`ApiError::NotFound`], [`ApiError::WebhookState`] when the webhook is disabled, and a conflict when its queue is not free soon.
pub async fn redeliver_since(
    transaction: &mut TenantTransaction,
    webhook: Uuid,
    since: OffsetDateTime,
    after: Option<i64>,
) -> Result<Again, ApiError> {
    let wanted = sqlx::query!("SELECT kinds, state FROM webhooks WHERE id = $1", webhook);
    let wanted = wanted.fetch_optional(transaction.connection()).await?.ok_or(ApiError::NotFound(WEBHOOK))?;
    if wanted.state != "enabled" {
        return Err(ApiError::WebhookState(DISABLED));
    }
    let newest = sqlx::query_scalar!("SELECT seq FROM event_heads").fetch_optional(transaction.connection()).await?;
    let newest = newest.unwrap_or(0);
    let after = match after {
        Some(after) => after,
        None => last_before(transaction, newest, since).await?,
    };
    let up_to = after.saturating_add(LOOK_MAX).min(newest);
    let missing = sqlx::query!(
        r#"SELECT events.id, events.created_at, events.kind, events.seq AS "seq!"
           FROM events
           LEFT JOIN webhook_deliveries AS known
               ON known.tenant_id = events.tenant_id AND known.webhook_id = $1 AND known.seq = events.seq
                   AND known.seq > $2 AND known.seq <= $3
           WHERE events.seq > $2 AND events.seq <= $3 AND events.created_at >= $4 AND events.webhook_id IS NULL
               AND ($5::text[] = '{}' OR events.kind = ANY ($5)) AND (known.state IS NULL OR known.state = 'failed')
           ORDER BY events.seq LIMIT $6"#,
        webhook,
        after,
        up_to,
        since,
        &wanted.kinds[..],
        AGAIN_MAX
    )
    .fetch_all(transaction.connection())
    .await?;
    let looked_at = missing.last().filter(|_| missing.len() as i64 == AGAIN_MAX).map_or(up_to, |last| last.seq);
    let next_after = (looked_at < newest).then_some(looked_at);
    if missing.is_empty() {
        return Ok(Again { count: 0, next_after });
    }
    let (mut events, mut times, mut kinds, mut numbers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for event in missing {
        events.push(event.id);
        times.push(event.created_at);
        kinds.push(event.kind);
        numbers.push(event.seq);
    }
    let tenant = transaction.tenant().as_uuid();
    hold(transaction, webhook).await?;
    // What was sent meanwhile, or was put in the queue by somebody else, is left as it is.
    let again = sqlx::query!(
        "INSERT INTO webhook_deliveries AS known (tenant_id, webhook_id, event_id, created_at, kind, seq, place)
         SELECT $1, $2, id, created_at, kind, seq, seq
         FROM unnest($3::uuid[], $4::timestamptz[], $5::text[], $6::bigint[]) AS missing (id, created_at, kind, seq)
         ON CONFLICT (tenant_id, webhook_id, event_id, created_at)
         DO UPDATE SET state = 'pending', attempts = 0, try_at = now() WHERE known.state = 'failed'",
        tenant,
        webhook,
        &events[..],
        &times[..],
        &kinds[..],
        &numbers[..]
    );
    let count = again.execute(transaction.connection()).await?.rows_affected();
    wake(transaction, webhook).await?;
    Ok(Again { count: i64::try_from(count).unwrap_or(i64::MAX), next_after })
}

/// The number of an event that has happened before then, as all before it have; 0 when there is none. Times are almost in the order of
/// numbers: halves of what is left are tried, which needs no index by time that every event would pay for.
async fn last_before(transaction: &mut TenantTransaction, newest: i64, since: OffsetDateTime) -> Result<i64, ApiError> {
    let Some(until) = since.checked_sub(TRANSACTION_TIME_MAX) else { return Ok(0) };
    let found = sqlx::query_scalar!(
        r#"WITH RECURSIVE halves (low, high) AS (
               SELECT 0::bigint, $1::bigint + 1
               UNION ALL
               SELECT CASE WHEN event.created_at < $2 THEN event.seq ELSE low END,
                   CASE WHEN event.created_at < $2 THEN high ELSE (low + high) / 2 END
               FROM halves
               LEFT JOIN LATERAL (
                   SELECT created_at, seq FROM events WHERE seq >= (low + high) / 2 ORDER BY seq LIMIT 1
               ) AS event ON true
               WHERE high - low > 1
           )
           SELECT max(low) AS "low!" FROM halves"#,
        newest,
        until
    );
    Ok(found.fetch_one(transaction.connection()).await?)
}

/// Holds the queue of a webhook that is not disabled, unless others have it for too long.
async fn hold(transaction: &mut TenantTransaction, webhook: Uuid) -> Result<(), ApiError> {
    sqlx::query!("SELECT set_config('lock_timeout', '1s', true)").fetch_one(transaction.connection()).await?;
    if lock_queue(transaction, webhook).await? { Ok(()) } else { Err(ApiError::WebhookState(DISABLED)) }
}
