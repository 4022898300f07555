//! Quotas: when more or less of one is used than was known, edges and the tenant are told.
//!
//! What is stored is held to its quota by a trigger (`migrations/0009_usage.sql`), exactly. What edges send and make is held to it by
//! edges, which are told in the feed when it is used up, and until when. Whoever finds out that something has changed calls
//! [`settle`], under the tenant's lock; who dies before that leaves it to the worker, which looks at all tenants ([`sweep`]).

use isolation::{Database, DatabaseError, Mandate, TenantKey, TenantTransaction};
use serde_json::json;
use tenancy::Exhausted;
use time::{Date, Month, Time};
use uuid::Uuid;

use crate::events::{self, EventKind};
use crate::feed::{Subject, announce};
use crate::problem::ApiError;

/// Percent of a quota that tenants are told of, once a month each.
const THRESHOLDS: [i16; 2] = [80, 100];

/// Tenants of a page.
const PAGE: i32 = 1000;

/// One quota of a tenant, now and as it was known.
struct Row {
    quota: String,
    allowed: Option<i64>,
    used: Option<i64>,
    month: Date,
    level: i16,
    known: i16,
    told: i16,
}

impl Row {
    /// When the month ends, if this is the quota and nothing of it is left.
    fn exhausted_until(&self, quota: &str) -> Option<u64> {
        (self.quota == quota && self.level == 100).then(|| end_of(self.month))
    }

    /// Whether edges have to be told.
    fn concerns_edges(&self) -> bool {
        matches!(self.quota.as_str(), "bandwidth" | "transforms") && (self.level == 100) != (self.known == 100)
    }
}

/// When a month ends, in Unix seconds.
pub fn end_of(month: Date) -> u64 {
    let (year, next) = match month.month() {
        Month::December => (month.year() + 1, Month::January),
        earlier => (month.year(), earlier.next()),
    };
    let end = Date::from_calendar_date(year, next, 1).unwrap_or(Date::MAX);
    u64::try_from(end.with_time(Time::MIDNIGHT).assume_utc().unix_timestamp()).unwrap_or_default()
}

/// Brings what is known of the quotas of the transaction's tenant to what is used of them, if it commits.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn settle(transaction: &mut TenantTransaction) -> Result<(), ApiError> {
    // One at a time, so that nobody tells what another one has told.
    sqlx::query!("SELECT version FROM quotas FOR UPDATE").fetch_optional(transaction.connection()).await?;
    let tenant = transaction.tenant().as_uuid();
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT names.quota AS "quota!", use.allowed AS "allowed?", use.used AS "used?", utc_month() AS "month!",
             coalesce(quota_level(use.used, use.allowed), 0::smallint) AS "level!",
             coalesce(known.level, 0::smallint) AS "known!", coalesce(known.told, 0::smallint) AS "told!"
           FROM unnest('{storage,files,bandwidth,transforms}'::text[]) AS names (quota)
           LEFT JOIN quota_use(ARRAY[$1::uuid]) AS use ON use.quota = names.quota
           LEFT JOIN quota_levels AS known ON known.quota = names.quota AND known.month = utc_month()"#,
        tenant
    )
    .fetch_all(transaction.connection())
    .await?;
    for row in rows.iter().filter(|row| row.level != row.known) {
        sqlx::query!(
            "INSERT INTO quota_levels (tenant_id, quota, month, level, told) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (tenant_id, quota) DO UPDATE
             SET month = EXCLUDED.month, level = EXCLUDED.level, told = EXCLUDED.told",
            tenant,
            row.quota,
            row.month,
            row.level,
            row.told.max(row.level)
        )
        .execute(transaction.connection())
        .await?;
        for threshold in THRESHOLDS.into_iter().filter(|threshold| (row.told + 1..=row.level).contains(threshold)) {
            tell(transaction, row, threshold).await?;
        }
    }
    if rows.iter().any(Row::concerns_edges) {
        let until = |quota| rows.iter().find_map(|row| row.exhausted_until(quota));
        let exhausted = Exhausted { bandwidth: until("bandwidth"), transforms: until("transforms") };
        let body = (exhausted != Exhausted::default()).then(|| json!(exhausted));
        announce(transaction, Subject::Quotas, body).await?;
    }
    Ok(())
}

/// Tells the tenant.
async fn tell(transaction: &mut TenantTransaction, row: &Row, threshold: i16) -> Result<(), ApiError> {
    let kind = if threshold == 100 { EventKind::QuotaExceeded } else { EventKind::QuotaWarning };
    let month = row.month.to_string();
    let data = json!({
        "quota": row.quota,
        "percent": threshold,
        "limit": row.allowed,
        "used": row.used,
        // "-01"
        "month": month.get(..month.len().saturating_sub(3)),
    });
    events::emit(transaction, kind, data).await?;
    Ok(())
}

/// Settles the quotas of those of these tenants for whom something has changed.
///
/// # Errors
/// [`ApiError::Database`], after all were tried.
pub async fn settle_due(database: &Database, tenants: &[Uuid]) -> Result<(), ApiError> {
    let due = sqlx::query_scalar!(r#"SELECT due_quotas($1) AS "tenant!""#, tenants);
    let mut done = Ok(());
    for tenant in due.fetch_all(database.across()).await? {
        if let Err(error) = settle_one(database, tenant).await {
            done = Err(error);
        }
    }
    done
}

async fn settle_one(database: &Database, tenant: Uuid) -> Result<(), ApiError> {
    let mut transaction = database.begin(&Mandate::upkeep(tenant.into())).await?;
    settle(&mut transaction).await?;
    Ok(transaction.commit().await?)
}

/// Settles the quotas of all tenants.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn sweep(database: &Database) -> Result<(), ApiError> {
    let mut after = None::<Uuid>;
    loop {
        let page =
            sqlx::query_scalar!(r#"SELECT tenants_with_quotas($1, $2) AS "tenant!""#, after as Option<Uuid>, PAGE);
        let page = page.fetch_all(database.across()).await?;
        settle_due(database, &page).await?;
        match page.last() {
            Some(last) if page.len() == PAGE as usize => after = Some(*last),
            _ => return Ok(()),
        }
    }
}

/// Whether the transaction's tenant may send anything more this month, as edges are told.
///
/// # Errors
/// [`ApiError::Bandwidth`].
pub async fn check_bandwidth(transaction: &mut TenantTransaction) -> Result<(), ApiError> {
    let exhausted = sqlx::query_scalar!(
        r#"SELECT EXISTS (
             SELECT FROM quota_levels WHERE quota = 'bandwidth' AND level = 100 AND month = utc_month()
           ) AS "is_exhausted!""#
    );
    if exhausted.fetch_one(transaction.connection()).await? { Err(ApiError::Bandwidth) } else { Ok(()) }
}

/// Whether the tenant may store anything more: what is certain to be refused at its end need not be received. Exact only there.
///
/// # Errors
/// [`ApiError::Quota`].
pub async fn check_room(database: &Database, tenant: TenantKey) -> Result<(), ApiError> {
    let mut transaction = database.begin(&Mandate::upkeep(tenant)).await?;
    let full = sqlx::query!(
        r#"SELECT
             coalesce(stored.bytes >= limits.storage_bytes, false) AS "bytes!",
             coalesce(stored.files >= limits.files, false) AS "files!"
           FROM quotas AS limits
           CROSS JOIN LATERAL (
             SELECT coalesce(sum(bytes), 0) AS bytes, coalesce(sum(files), 0) AS files FROM stored_totals
           ) AS stored"#
    )
    .fetch_optional(transaction.connection())
    .await?;
    match full {
        Some(full) if full.bytes => Err(ApiError::Quota(Quota::Storage)),
        Some(full) if full.files => Err(ApiError::Quota(Quota::Files)),
        _ => Ok(()),
    }
}

/// Whether there is room for so many bytes of a new medium, or of one that they replace. Exact only once they are stored: of those that
/// replace others, only what is certain to be refused is.
///
/// # Errors
/// [`ApiError::Quota`].
pub async fn check_room_for(
    database: &Database,
    tenant: TenantKey,
    bytes: u64,
    replaced: Option<Uuid>,
) -> Result<(), ApiError> {
    let mut transaction = database.begin(&Mandate::upkeep(tenant)).await?;
    let before = match replaced {
        Some(media) => {
            let before = sqlx::query_scalar!(
                r#"SELECT (coalesce((SELECT bytes FROM media WHERE id = $1), 0)
                     + coalesce((SELECT bytes FROM replacements WHERE media_id = $1), 0)) AS "before!""#,
                media
            );
            before.fetch_one(transaction.connection()).await?
        }
        None => 0,
    };
    let full = sqlx::query!(
        r#"SELECT
             coalesce($1::bigint > 0 AND stored.bytes + $1 > limits.storage_bytes, false) AS "bytes!",
             coalesce($2::boolean AND stored.files >= limits.files, false) AS "files!"
           FROM quotas AS limits
           CROSS JOIN LATERAL (
             SELECT coalesce(sum(bytes), 0) AS bytes, coalesce(sum(files), 0) AS files FROM stored_totals
           ) AS stored"#,
        i64::try_from(bytes).unwrap_or(i64::MAX) - before,
        replaced.is_none()
    )
    .fetch_optional(transaction.connection())
    .await?;
    match full {
        Some(full) if full.bytes => Err(ApiError::Quota(Quota::Storage)),
        Some(full) if full.files => Err(ApiError::Quota(Quota::Files)),
        _ => Ok(()),
    }
}

/// A quota that is held to here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// Of bytes of media.
    Storage,
    /// Of media.
    Files,
}

impl Quota {
    /// That whose trigger has refused a change.
    pub fn of_refusal(error: &DatabaseError) -> Option<Self> {
        match error {
            DatabaseError::Check { constraint } if constraint == "quota_storage" => Some(Self::Storage),
            DatabaseError::Check { constraint } if constraint == "quota_files" => Some(Self::Files),
            _ => None,
        }
    }
}

impl std::fmt::Display for Quota {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Storage => "stored bytes",
            Self::Files => "files",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_ends_where_the_next_begins() {
        let first = |month| Date::from_calendar_date(2026, month, 1).expect("there is one");
        assert_eq!(end_of(first(Month::January)), 1_769_904_000);
        assert_eq!(end_of(first(Month::December)), 1_798_761_600);
    }
}
