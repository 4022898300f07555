//! What edges report of how much they have served and made, as JSON: by tenant and day, in batches that are counted once.
//!
//! A batch is known by who sends it: the edge, its boot, and a number that grows within the boot. Whoever has counted a number counts
//! none up to it again, so a batch whose answer was lost is sent again as it was. Fields that a version does not know are left out, and
//! those that it misses are 0.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::TenantId;

/// Most rows of a batch.
pub const ROWS_MAX: usize = 2000;

/// Largest number in a row: what JSON carries exactly everywhere.
pub const COUNT_MAX: u64 = 1 << 53;

/// Longest name of an edge, in bytes.
pub const EDGE_BYTES_MAX: usize = 64;

/// A batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageReport {
    /// The name of the edge, for people: visible ASCII.
    pub edge: String,
    /// Which of its lives, as a UUID.
    pub boot: String,
    /// Grows with each batch of this life, from 1.
    pub number: u64,
    /// At most [`ROWS_MAX`] of them.
    pub rows: Vec<UsageRow>,
}

/// What came to a tenant on a day since it was last reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRow {
    /// Whose.
    pub tenant: TenantId,
    /// The day in UTC, counted from 1970-01-01.
    pub day: u32,
    /// How much.
    #[serde(flatten)]
    pub counts: Counts,
}

/// How much an edge has done for a tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Requests answered, refusals included.
    #[serde(skip_serializing_if = "is_zero")]
    pub requests: u64,
    /// Bytes of bodies sent.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes: u64,
    /// Requests answered out of a cache of the edge's own.
    #[serde(skip_serializing_if = "is_zero")]
    pub hits: u64,
    /// Requests answered with a status of 400 or more.
    #[serde(skip_serializing_if = "is_zero")]
    pub errors: u64,
    /// Renditions made.
    #[serde(skip_serializing_if = "is_zero")]
    pub transforms: u64,
    /// Microseconds on threads that make renditions, whatever came of it.
    #[serde(skip_serializing_if = "is_zero")]
    pub cpu_us: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Counts {
    /// Whether nothing was done.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether every number can be reported.
    pub fn is_sound(&self) -> bool {
        let Self { requests, bytes, hits, errors, transforms, cpu_us } = *self;
        [requests, bytes, hits, errors, transforms, cpu_us].iter().all(|count| *count <= COUNT_MAX)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        let add = |to: &mut u64, more: u64| *to = to.saturating_add(more).min(COUNT_MAX);
        add(&mut self.requests, more.requests);
        add(&mut self.bytes, more.bytes);
        add(&mut self.hits, more.hits);
        add(&mut self.errors, more.errors);
        add(&mut self.transforms, more.transforms);
        add(&mut self.cpu_us, more.cpu_us);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_are_short_and_either_side_may_be_newer() {
        let counts = Counts { requests: 3, bytes: 1000, ..Counts::default() };
        let row = UsageRow { tenant: TenantId::new("a"), day: 20_000, counts };
        let text = json!({"tenant": "a", "day": 20_000, "requests": 3, "bytes": 1000});
        assert_eq!(serde_json::to_value(&row).expect("JSON"), text);
        let newer = json!({"tenant": "a", "day": 20_000, "requests": 3, "bytes": 1000, "videos": 7});
        assert_eq!(serde_json::from_value::<UsageRow>(newer).expect("read"), row);
    }

    #[test]
    fn sums_stay_what_can_be_reported() {
        let mut sum = Counts { bytes: COUNT_MAX - 1, ..Counts::default() };
        sum += Counts { bytes: 10, hits: u64::MAX, ..Counts::default() };
        assert!(sum.is_sound() && sum.bytes == COUNT_MAX && sum.hits == COUNT_MAX);
        assert!(!Counts { errors: COUNT_MAX + 1, ..Counts::default() }.is_sound());
        assert!(Counts::default().is_empty() && !sum.is_empty());
    }
}
