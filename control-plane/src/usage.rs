//! What tenants use: what edges report is counted, once, and what is known of it is told by days or months.
//!
//! A batch is one statement (`migrations/0009_usage.sql`), and is acknowledged when that has committed. Must not decide what comes of
//! it: `quotas.rs` does.

mod query;
mod series;

use isolation::Database;
use tenancy::usage::{EDGE_BYTES_MAX, ROWS_MAX, UsageReport};
use uuid::Uuid;

pub use self::query::{RangeQuery, wants_csv};
pub use self::series::{Amounts, Usage, of, seconds};
use crate::problem::ApiError;

/// A batch, as the database takes it: a list for each column.
#[derive(Debug, Default)]
struct Columns {
    tenants: Vec<Uuid>,
    days: Vec<i32>,
    requests: Vec<i64>,
    bytes: Vec<i64>,
    hits: Vec<i64>,
    errors: Vec<i64>,
    transforms: Vec<i64>,
    cpu_us: Vec<i64>,
}

/// What came of a batch.
#[derive(Debug)]
pub struct Taken {
    /// It was counted now, and not before.
    pub is_new: bool,
    /// Whom it was about.
    pub tenants: Vec<Uuid>,
}

/// Counts a batch, unless it was counted before. Tenants that are not there, or not any more, are left out.
///
/// # Errors
/// [`ApiError::Field`] for what no edge sends.
pub async fn take(database: &Database, report: &UsageReport) -> Result<Taken, ApiError> {
    let is_name =
        (1..=EDGE_BYTES_MAX).contains(&report.edge.len()) && report.edge.bytes().all(|b| b.is_ascii_graphic());
    if !is_name {
        return Err(ApiError::field("edge", format!("is 1 to {EDGE_BYTES_MAX} visible ASCII characters")));
    }
    let boot: Uuid = report.boot.parse().map_err(|_| ApiError::field("boot", "is a UUID"))?;
    let number = i64::try_from(report.number).map_err(|_| ApiError::field("number", "is too large"))?;
    let Columns { tenants, days, requests, bytes, hits, errors, transforms, cpu_us } = columns(report)?;
    let is_new = sqlx::query_scalar!(
        r#"SELECT take_usage($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS "is_new!""#,
        report.edge,
        boot,
        number,
        &tenants,
        &days,
        &requests,
        &bytes,
        &hits,
        &errors,
        &transforms,
        &cpu_us
    );
    let is_new = is_new.fetch_one(database.across()).await?;
    Ok(Taken { is_new, tenants })
}

fn columns(report: &UsageReport) -> Result<Columns, ApiError> {
    if report.rows.len() > ROWS_MAX {
        return Err(ApiError::field("rows", format!("are at most {ROWS_MAX}")));
    }
    let mut columns = Columns::default();
    for row in &report.rows {
        let day = i32::try_from(row.day).ok().filter(|_| row.counts.is_sound());
        let day = day.ok_or_else(|| ApiError::field("rows", "have a number that is too large"))?;
        // One of a policy file: nobody here knows it.
        let Ok(tenant) = row.tenant.as_str().parse() else { continue };
        let counts = row.counts;
        // At most 2^53 each.
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        columns.tenants.push(tenant);
        columns.days.push(day);
        columns.requests.push(number(counts.requests));
        columns.bytes.push(number(counts.bytes));
        columns.hits.push(number(counts.hits));
        columns.errors.push(number(counts.errors));
        columns.transforms.push(number(counts.transforms));
        columns.cpu_us.push(number(counts.cpu_us));
    }
    Ok(columns)
}
