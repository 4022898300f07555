//! What has happened to a tenant's things, for the tenant to hear of.
//!
//! The row is part of the transaction that does it, and gets its number when that commits (`migrations/0008_events.sql`): nothing
//! goes untold, and nothing is told that did not happen. Must not send anything: workers do.

use std::str::FromStr;

use isolation::{DatabaseError, TenantTransaction};
use serde_json::Value;
use uuid::Uuid;

/// Every kind of event, by its name: this table is what filters take and what `docs/webhooks.md` lists.
macro_rules! kinds {
    ($($(#[$about:meta])* $kind:ident = $name:literal,)+) => {
        /// What has happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum EventKind {
            $($(#[$about])* $kind,)+
        }

        impl EventKind {
            /// All that there are.
            pub const ALL: &[Self] = &[$(Self::$kind,)+];

            /// Its name in the API and in the database.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }
        }
    };
}

kinds! {
    /// A medium was taken in.
    MediaCreated = "media.created",
    /// Something else is said of a medium.
    MediaUpdated = "media.updated",
    /// Bytes of a medium wait to be judged before they are served.
    MediaQuarantined = "media.quarantined",
    /// Bytes of a medium may be served: they have passed, or somebody has decided so.
    MediaReleased = "media.released",
    /// Bytes of a medium may not be served: they have not passed, or somebody has decided so.
    MediaRejected = "media.rejected",
    /// A medium has other bytes.
    MediaReplaced = "media.replaced",
    /// A medium was deleted.
    MediaDeleted = "media.deleted",
    /// A medium's time was over, and it was deleted.
    MediaExpired = "media.expired",
    /// 80 % of a quota is used, for the first time in a month.
    QuotaWarning = "quota.warning",
    /// All of a quota is used, for the first time in a month.
    QuotaExceeded = "quota.exceeded",
    /// A job is done. Told by the database.
    JobDone = "job.done",
    /// A job was tried as often as may be. Told by the database.
    JobFailed = "job.failed",
    /// A job was given up. Told by the database.
    JobCancelled = "job.cancelled",
    /// A webhook was disabled because it was gone or had taken nothing for days.
    WebhookDisabled = "webhook.disabled",
    /// Somebody tries whether a webhook works. Sent to that one, whatever it wants to hear of.
    WebhookTest = "webhook.test",
}

impl FromStr for EventKind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text).ok_or(())
    }
}

/// Tells of an event, if `transaction` commits; the event's id. A transaction that also announces a change to edges does that after
/// this: the order in which counters are locked.
///
/// # Errors
/// [`DatabaseError`].
pub async fn emit(transaction: &mut TenantTransaction, kind: EventKind, data: Value) -> Result<Uuid, DatabaseError> {
    insert(transaction, None, kind, data).await
}

/// The same, for one webhook only.
///
/// # Errors
/// [`DatabaseError`].
pub async fn emit_to(
    transaction: &mut TenantTransaction,
    webhook: Uuid,
    kind: EventKind,
    data: Value,
) -> Result<Uuid, DatabaseError> {
    insert(transaction, Some(webhook), kind, data).await
}

async fn insert(
    transaction: &mut TenantTransaction,
    webhook: Option<Uuid>,
    kind: EventKind,
    data: Value,
) -> Result<Uuid, DatabaseError> {
    let tenant = transaction.tenant().as_uuid();
    let id = sqlx::query_scalar!(
        "INSERT INTO events (tenant_id, kind, data, webhook_id) VALUES ($1, $2, $3, $4) RETURNING id",
        tenant,
        kind.as_str(),
        data,
        webhook
    )
    .fetch_one(transaction.connection())
    .await?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_is_in_the_guide_and_no_other() {
        let guide = include_str!("../../docs/webhooks.md");
        let events =
            guide.split("\n## Events\n").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("the table");
        let rows: BTreeSet<_> = events.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        assert_eq!(rows, EventKind::ALL.iter().map(|kind| kind.as_str()).collect());
        for kind in EventKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(*kind));
        }
        assert!("media".parse::<EventKind>().is_err());
    }
}
