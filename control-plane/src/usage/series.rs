//! What a tenant has used, day by day: every day has an entry, whether something was used or not.
//!
//! What was stored at the end of a day is what is stored now, less what has changed since: days on which nothing changed need no row, and
//! old rows may go.

use std::collections::BTreeMap;
use std::fmt::Write;

use isolation::TenantTransaction;
use serde::Serialize;
use time::Date;
use utoipa::ToSchema;

use super::query::{By, RangeQuery};
use crate::problem::ApiError;

/// How much was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, ToSchema)]
pub struct Amounts {
    /// Requests that edges have answered, refusals included.
    pub requests: i64,
    /// Bytes of bodies that they have sent.
    pub bytes: i64,
    /// Requests answered out of an edge's own cache.
    pub hits: i64,
    /// Requests answered with a status of 400 or more.
    pub errors: i64,
    /// Renditions made.
    pub transforms: i64,
    /// Seconds on threads that make renditions.
    pub cpu_seconds: f64,
    /// Bytes of media at the end.
    pub storage_bytes: i64,
    /// Media at the end.
    pub files: i64,
    /// `storage_bytes` of each day, added up.
    pub storage_byte_days: i64,
}

/// How much was used in a day or a month.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub struct Entry {
    /// `2026-01-31` or `2026-01`.
    period: String,
    #[serde(flatten)]
    amounts: Amounts,
}

/// How much was used, from one day to another.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub struct Usage {
    from: String,
    to: String,
    by: &'static str,
    series: Vec<Entry>,
    totals: Amounts,
}

/// What is known of a tenant.
#[derive(Debug, Default)]
struct Known {
    /// What edges have reported, by day.
    reported: BTreeMap<Date, Amounts>,
    /// Bytes and files now.
    stored: (i64, i64),
    /// By how much that has changed, by day.
    changes: BTreeMap<Date, (i64, i64)>,
}

/// What the transaction's tenant has used.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn of(transaction: &mut TenantTransaction, query: RangeQuery) -> Result<Usage, ApiError> {
    let mut known = Known::default();
    let rows = sqlx::query!(
        "SELECT day, requests, bytes, hits, errors, transforms, cpu_us FROM usage_days WHERE day BETWEEN $1 AND $2",
        query.range.from,
        query.range.to
    );
    for row in rows.fetch_all(transaction.connection()).await? {
        let amounts = Amounts {
            requests: row.requests,
            bytes: row.bytes,
            hits: row.hits,
            errors: row.errors,
            transforms: row.transforms,
            cpu_seconds: seconds(row.cpu_us),
            ..Amounts::default()
        };
        known.reported.insert(row.day, amounts);
    }
    // In one statement: an upload between two would be in one of them.
    let rows = sqlx::query!(
        r#"SELECT day AS "day?", bytes AS "bytes!", files AS "files!" FROM stored_days WHERE day > $1
           UNION ALL SELECT NULL, bytes, files FROM stored_totals"#,
        query.range.from
    );
    for row in rows.fetch_all(transaction.connection()).await? {
        match row.day {
            Some(day) => drop(known.changes.insert(day, (row.bytes, row.files))),
            None => known.stored = (row.bytes, row.files),
        }
    }
    Ok(known.told(query))
}

/// Microseconds as they are told.
pub fn seconds(microseconds: i64) -> f64 {
    microseconds as f64 / 1e6
}

impl Known {
    fn told(&self, RangeQuery { range, by }: RangeQuery) -> Usage {
        let mut stored = self.stored;
        for (_, change) in self.changes.iter().filter(|(day, _)| **day > range.to) {
            stored = less(stored, *change);
        }
        let (mut series, mut totals) = (Vec::<Entry>::new(), Amounts::default());
        let mut day = range.to;
        loop {
            let (bytes, files) = stored;
            let reported = self.reported.get(&day).copied().unwrap_or_default();
            let amounts = Amounts { storage_bytes: bytes, files, storage_byte_days: bytes, ..reported };
            let period = period(day, by);
            match series.last_mut().filter(|last| last.period == period) {
                Some(later) => later.amounts = amounts.then(later.amounts),
                None => series.push(Entry { period, amounts }),
            }
            totals = if day == range.to { amounts } else { amounts.then(totals) };
            if day == range.from {
                break;
            }
            stored = less(stored, self.changes.get(&day).copied().unwrap_or_default());
            // It is after `from`, so there is one.
            day = day.previous_day().unwrap_or(range.from);
        }
        series.reverse();
        Usage { from: range.from.to_string(), to: range.to.to_string(), by: by.as_str(), series, totals }
    }
}

fn less(stored: (i64, i64), change: (i64, i64)) -> (i64, i64) {
    (stored.0 - change.0, stored.1 - change.1)
}

fn period(day: Date, by: By) -> String {
    let mut period = day.to_string();
    if by == By::Month {
        // "-31"
        period.truncate(period.len() - 3);
    }
    period
}

impl Amounts {
    /// This and what came after it.
    fn then(self, later: Self) -> Self {
        Self {
            requests: self.requests + later.requests,
            bytes: self.bytes + later.bytes,
            hits: self.hits + later.hits,
            errors: self.errors + later.errors,
            transforms: self.transforms + later.transforms,
            cpu_seconds: self.cpu_seconds + later.cpu_seconds,
            storage_bytes: later.storage_bytes,
            files: later.files,
            storage_byte_days: self.storage_byte_days.saturating_add(later.storage_byte_days),
        }
    }
}

impl Usage {
    /// The series as CSV (RFC 4180), without the totals.
    pub fn to_csv(&self) -> String {
        let columns = "requests,bytes,hits,errors,transforms,cpu_seconds,storage_bytes,files,storage_byte_days";
        let mut text = format!("{},{columns}\r\n", self.by);
        for Entry { period, amounts: a } in &self.series {
            // Nothing here has a comma in it, and a string takes everything.
            let _ = write!(
                text,
                "{period},{},{},{},{},{},{:.6},{},{},{}\r\n",
                a.requests,
                a.bytes,
                a.hits,
                a.errors,
                a.transforms,
                a.cpu_seconds,
                a.storage_bytes,
                a.files,
                a.storage_byte_days
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::query::{self, Range};
    use super::*;

    fn date(text: &str) -> Date {
        query::date("day", text).expect("a date")
    }

    fn known() -> Known {
        let used = |requests| Amounts { requests, cpu_seconds: 0.5, ..Amounts::default() };
        Known {
            reported: [(date("2026-01-30"), used(1)), (date("2026-02-02"), used(10))].into(),
            stored: (1000, 10),
            changes: [(date("2026-01-31"), (100, 1)), (date("2026-02-02"), (-50, -1)), (date("2026-02-04"), (300, 3))]
                .into(),
        }
    }

    fn told(by: By) -> Usage {
        known().told(RangeQuery { range: Range { from: date("2026-01-30"), to: date("2026-02-03") }, by })
    }

    #[test]
    fn every_day_is_told_with_what_was_stored_at_its_end() {
        let usage = told(By::Day);
        let told = usage.series.iter().map(|entry| {
            (entry.period.as_str(), entry.amounts.requests, entry.amounts.storage_bytes, entry.amounts.files)
        });
        let told: Vec<_> = told.collect();
        let expected = [
            ("2026-01-30", 1, 650, 7),
            ("2026-01-31", 0, 750, 8),
            ("2026-02-01", 0, 750, 8),
            ("2026-02-02", 10, 700, 7),
            ("2026-02-03", 0, 700, 7),
        ];
        assert_eq!(told, expected);
        let totals = usage.totals;
        assert_eq!((totals.requests, totals.storage_bytes, totals.files, totals.storage_byte_days), (11, 700, 7, 3550));
    }

    #[test]
    fn months_are_sums_of_the_days_that_were_asked_for() {
        let usage = told(By::Month);
        let [january, february] = &usage.series[..] else { panic!("{usage:?}") };
        assert_eq!(
            (january.period.as_str(), january.amounts.requests, january.amounts.storage_bytes),
            ("2026-01", 1, 750)
        );
        assert_eq!((february.period.as_str(), february.amounts.storage_byte_days), ("2026-02", 2150));
        assert_eq!(usage.totals, told(By::Day).totals);
    }

    #[test]
    fn csv_has_the_same_numbers() {
        let text = told(By::Month).to_csv();
        let lines: Vec<_> = text.split("\r\n").collect();
        assert!(lines[0].starts_with("month,requests,bytes,"));
        assert_eq!(lines[1], "2026-01,1,0,0,0,0,0.500000,750,8,1400");
        assert_eq!((lines.len(), lines[3]), (4, ""));
    }
}
