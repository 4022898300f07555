//! What has happened to a tenant's things, for the tenant to hear of.
//!
//! The row is part of the transaction that does it, and gets its number when that commits (`migrations/0008_events.sql`): nothing
//! goes untold, and nothing is told that did not happen. Must not send anything: workers do.

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
    /// A job is done. Told by the database.
    JobDone = "job.done",
    /// A job was tried as often as may be. Told by the database.
    JobFailed = "job.failed",
    /// A job was given up. Told by the database.
    JobCancelled = "job.cancelled",
}

/// Tells of an event, if `transaction` commits; the event's id. A transaction that also announces a change to edges does that after
/// this: the order in which counters are locked.
///
/// # Errors
/// [`DatabaseError`].
pub async fn emit(transaction: &mut TenantTransaction, kind: EventKind, data: Value) -> Result<Uuid, DatabaseError> {
    let tenant = transaction.tenant().as_uuid();
    let id = sqlx::query_scalar!(
        "INSERT INTO events (tenant_id, kind, data) VALUES ($1, $2, $3) RETURNING id",
        tenant,
        kind.as_str(),
        data
    )
    .fetch_one(transaction.connection())
    .await?;
    Ok(id)
}
