//! The queue of a webhook, as workers see it: claimed for a while, and emptied one thing after the other.
//!
//! Time is the database's, and each claim has a token of which only the newest counts, as with jobs: what a worker says that was
//! taken for dead changes nothing. Must not send anything.

use std::time::Duration;

use isolation::{Actor, Author, Database, Mandate, TenantKey, TenantTransaction};
use serde_json::{Value, json};
use sqlx::postgres::types::PgInterval;
use time::OffsetDateTime;
use uuid::Uuid;

use super::WebhookSettings;
use super::record::WEBHOOK;
use crate::events::{EventKind, emit};
use crate::problem::ApiError;

/// Queues of a tenant that are worked on at the same time, by all workers.
const TENANT_MAX: i32 = 16;

/// Time until a queue is looked at again whose tenant is suspended.
const SUSPENDED_PAUSE: Duration = Duration::from_secs(300);

/// Longest beginning of an answer and longest error that are kept, in characters.
const TEXT_CHARACTERS_MAX: usize = 1024;

/// A queue that a worker has.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    /// Whose it is.
    pub tenant: TenantKey,
    /// Where it leads to.
    pub webhook: Uuid,
    token: i64,
    lease: Duration,
}

/// What is to be sent now.
#[derive(Debug)]
pub struct Due {
    /// The event.
    pub event: Uuid,
    /// When it has happened.
    pub created_at: OffsetDateTime,
    /// When it was found to be due, which is now.
    pub now: OffsetDateTime,
    /// What has happened.
    pub kind: String,
    /// What it is about; `None` when it is not kept any more.
    pub data: Option<Value>,
    /// Which attempt this is, from 1.
    pub attempt: i16,
    /// It is a test: tried once, and of no meaning for what waits.
    pub is_test: bool,
    /// Where to.
    pub url: String,
    /// Signed with these, the newest first; sealed.
    pub secrets: Vec<Vec<u8>>,
    /// Nothing was taken for so long that the webhook is to be disabled if this is not taken either.
    pub is_last_chance: bool,
}

/// How an attempt ended.
#[derive(Debug, Default)]
pub struct Attempt {
    /// How long it took.
    pub duration: Duration,
    /// What was answered.
    pub status: Option<u16>,
    /// Why nothing was.
    pub error: Option<String>,
    /// The beginning of the answer's body.
    pub answer: Option<String>,
}

/// What becomes of what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was taken.
    Delivered,
    /// It is tried again after this pause.
    Again(Duration),
    /// It is given up.
    Failed,
}

/// How a turn goes on.
#[derive(Debug)]
pub enum Step {
    /// With sending this.
    Send(Box<Due>),
    /// Not: the queue was given back.
    Rest,
    /// Not: the queue is somebody else's by now, or is no more.
    Lost,
}

/// Takes queues that are due, at most so many, for as long as a lease.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn claim(database: &Database, lease: Duration, count: usize) -> Result<Vec<Turn>, ApiError> {
    let rows = sqlx::query!(
        r#"SELECT tenant_id AS "tenant_id!", webhook_id AS "webhook_id!", token AS "token!" FROM claim_webhooks($1, $2, $3)"#,
        interval(lease),
        TENANT_MAX,
        i32::try_from(count).unwrap_or(i32::MAX)
    )
    .fetch_all(database.across())
    .await?;
    let turn = |tenant: Uuid, webhook, token| Turn { tenant: tenant.into(), webhook, token, lease };
    Ok(rows.into_iter().map(|row| turn(row.tenant_id, row.webhook_id, row.token)).collect())
}

/// Time until a queue is due that nobody has; `None` when none will be by itself.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn due_in(database: &Database) -> Result<Option<Duration>, ApiError> {
    let due = sqlx::query_scalar!("SELECT webhooks_due_in()").fetch_one(database.across()).await?;
    Ok(due.map(|milliseconds| Duration::from_millis(milliseconds.unsigned_abs())))
}

impl Turn {
    /// Keeps what came of the last thing, and tells what comes next; the lease begins anew. Without `goes_on`, or when nothing is due, the
    /// queue is given back. Safe to repeat when it is not known whether it was done.
    ///
    /// # Errors
    /// [`ApiError::Database`].
    pub async fn step(
        &self,
        database: &Database,
        ended: Option<(&Due, &Attempt, End)>,
        goes_on: bool,
        settings: &WebhookSettings,
    ) -> Result<Step, ApiError> {
        let mut transaction = database.begin(&Mandate::upkeep(self.tenant)).await?;
        let (is_taken, is_test) =
            ended.map_or((None, true), |(due, _, end)| (Some(end == End::Delivered), due.is_test));
        let held = sqlx::query!(
            "UPDATE webhook_queues SET
                 leased_until = now() + $3,
                 failing_since = CASE WHEN $4::boolean THEN NULL WHEN NOT $4 THEN coalesce(failing_since, now()) ELSE failing_since END
             WHERE webhook_id = $1 AND token = $2",
            self.webhook,
            self.token,
            interval(self.lease),
            is_taken.filter(|_| !is_test)
        )
        .execute(transaction.connection())
        .await?;
        if held.rows_affected() == 0 {
            return Ok(Step::Lost);
        }
        if let Some(ended) = ended {
            self.keep(&mut transaction, ended).await?;
        }
        // A statement after the queue was locked: it sees whatever was put in until then.
        let (due, rest_until) = self.look(&mut transaction, settings).await?;
        let step = match due {
            Some(due) if goes_on => Step::Send(Box::new(due)),
            _ => {
                self.give_back(&mut transaction, rest_until).await?;
                Step::Rest
            }
        };
        transaction.commit().await?;
        Ok(step)
    }

    async fn keep(
        &self,
        transaction: &mut TenantTransaction,
        (due, attempt, end): (&Due, &Attempt, End),
    ) -> Result<(), ApiError> {
        let (state, pause) = match end {
            End::Delivered => ("delivered", None),
            End::Again(pause) => ("pending", Some(interval(pause))),
            End::Failed => ("failed", None),
        };
        sqlx::query!(
            "UPDATE webhook_deliveries SET state = $4, attempts = $5, try_at = now() + coalesce($6, interval '0'), tried_at = now(),
                 duration_ms = $7, status = $8, error = $9, answer = $10
             WHERE webhook_id = $1 AND event_id = $2 AND created_at = $3",
            self.webhook,
            due.event,
            due.created_at,
            state,
            due.attempt,
            pause,
            i32::try_from(attempt.duration.as_millis()).unwrap_or(i32::MAX),
            attempt.status.and_then(|status| i16::try_from(status).ok()),
            attempt.error.as_deref().map(kept),
            attempt.answer.as_deref().map(kept)
        )
        .execute(transaction.connection())
        .await?;
        Ok(())
    }

    /// What is to be sent now, or when to look again; neither while there is nothing.
    async fn look(
        &self,
        transaction: &mut TenantTransaction,
        settings: &WebhookSettings,
    ) -> Result<(Option<Due>, Option<OffsetDateTime>), ApiError> {
        let row = sqlx::query!(
            r#"SELECT webhooks.url, webhooks.secret, webhooks.state,
                 CASE WHEN webhooks.old_secret_until > now() THEN webhooks.old_secret END AS old_secret,
                 coalesce(queues.failing_since < now() - make_interval(days => $2), false) AS "is_last_chance!",
                 tenants.state = 'suspended' AS "is_suspended!", now() AS "now!",
                 head.event_id AS "event_id?", head.created_at AS "created_at?", head.kind AS "kind?", head.place AS "place?",
                 head.attempts AS "attempts?", head.try_at AS "try_at?", events.data AS "data?"
               FROM webhooks
               JOIN tenants ON tenants.id = webhooks.tenant_id
               JOIN webhook_queues AS queues ON queues.tenant_id = webhooks.tenant_id AND queues.webhook_id = webhooks.id
               LEFT JOIN LATERAL (
                   SELECT * FROM webhook_deliveries AS waiting
                   WHERE waiting.tenant_id = webhooks.tenant_id AND waiting.webhook_id = webhooks.id AND waiting.state = 'pending'
                   ORDER BY waiting.place, waiting.seq LIMIT 1
               ) AS head ON true
               LEFT JOIN events
                   ON events.tenant_id = webhooks.tenant_id AND events.id = head.event_id AND events.created_at = head.created_at
               WHERE webhooks.id = $1"#,
            self.webhook,
            i32::try_from(settings.disable_days).unwrap_or(i32::MAX)
        )
        .fetch_optional(transaction.connection())
        .await?;
        let Some(row) = row.filter(|row| row.state == "enabled") else { return Ok((None, None)) };
        let (Some(event), Some(created_at), Some(try_at)) = (row.event_id, row.created_at, row.try_at) else {
            return Ok((None, None));
        };
        if row.is_suspended {
            return Ok((None, Some(row.now + SUSPENDED_PAUSE)));
        }
        if try_at > row.now {
            return Ok((None, Some(try_at)));
        }
        let due = Due {
            event,
            created_at,
            now: row.now,
            kind: row.kind.unwrap_or_default(),
            data: row.data,
            attempt: row.attempts.unwrap_or(0).saturating_add(1),
            is_test: row.place == Some(0),
            url: row.url,
            secrets: [Some(row.secret), row.old_secret].into_iter().flatten().collect(),
            is_last_chance: row.is_last_chance,
        };
        Ok((Some(due), Some(row.now)))
    }

    async fn give_back(
        &self,
        transaction: &mut TenantTransaction,
        due_at: Option<OffsetDateTime>,
    ) -> Result<(), ApiError> {
        sqlx::query!(
            "UPDATE webhook_queues SET token = NULL, leased_until = NULL, due_at = $2 WHERE webhook_id = $1",
            self.webhook,
            due_at
        )
        .execute(transaction.connection())
        .await?;
        Ok(())
    }

    /// Disables the webhook, and tells the tenant's others; whether it was enabled. Comes before what was sent is kept, whose
    /// transaction holds the queue: the tenant's counter of events is not to be waited for with that.
    ///
    /// # Errors
    /// [`ApiError::Database`].
    pub async fn disable(&self, database: &Database, reason: &'static str) -> Result<bool, ApiError> {
        let author = Author::new(Actor::Worker, "webhooks");
        let mut transaction = database.begin(&Mandate::new(self.tenant, &author)).await?;
        // Not its URL, which may be as good as a secret: others hear of this.
        let disabled = sqlx::query_scalar!(
            "UPDATE webhooks SET state = 'disabled', disabled_reason = $2, disabled_at = now(), version = version + 1,
                 updated_at = now()
             WHERE id = $1 AND state = 'enabled' RETURNING description",
            self.webhook,
            reason
        )
        .fetch_optional(transaction.connection())
        .await?;
        let Some(disabled) = disabled else { return Ok(false) };
        let data = json!({
            "webhook_id": self.webhook,
            "description": disabled,
            "reason": reason,
        });
        emit(&mut transaction, EventKind::WebhookDisabled, data).await?;
        transaction.commit().await?;
        Ok(true)
    }
}

/// As much of a text as is kept, and as the database takes it.
fn kept(text: &str) -> String {
    text.chars().filter(|c| *c != '\0').take(TEXT_CHARACTERS_MAX).collect()
}

/// Holds a webhook's queue until the transaction ends; whether the webhook is enabled.
///
/// # Errors
/// [`ApiError::NotFound`].
pub async fn lock_queue(transaction: &mut TenantTransaction, webhook: Uuid) -> Result<bool, ApiError> {
    let state = sqlx::query_scalar!(
        "SELECT webhooks.state FROM webhooks JOIN webhook_queues AS queues
             ON queues.tenant_id = webhooks.tenant_id AND queues.webhook_id = webhooks.id
         WHERE webhooks.id = $1 FOR NO KEY UPDATE OF queues",
        webhook
    );
    let state = state.fetch_optional(transaction.connection()).await?.ok_or(ApiError::NotFound(WEBHOOK))?;
    Ok(state == "enabled")
}

/// Lets workers look at a webhook's queue once `transaction` commits.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn wake(transaction: &mut TenantTransaction, webhook: Uuid) -> Result<(), ApiError> {
    sqlx::query!(
        "WITH woken AS (UPDATE webhook_queues SET due_at = now() WHERE webhook_id = $1 RETURNING 1)
         SELECT pg_notify('calotype_webhooks', '') FROM woken",
        webhook
    )
    .fetch_all(transaction.connection())
    .await?;
    Ok(())
}

/// A time as the database has it; whatever is too long is as long as it may be.
pub fn interval(time: Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(time.as_micros()).unwrap_or(i64::MAX) }
}
