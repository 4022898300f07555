//! The keys of a tenant's table that say how long answers are used.

use std::time::Duration;

use super::Report;
use crate::Freshness;

/// Longest time an answer may be called fresh or be served stale, in seconds: a year.
const SECONDS_MAX: u64 = 31_536_000;

/// Longest time that "there is no such picture" may be remembered, in seconds: an hour.
const NEGATIVE_SECONDS_MAX: u64 = 3600;

/// The keys as written, in seconds.
#[derive(Default)]
pub(super) struct FreshnessKeys {
    pub(super) max_age: Option<u64>,
    pub(super) stale_while_revalidate: Option<u64>,
    pub(super) stale_if_error: Option<u64>,
    pub(super) negative_max_age: Option<u64>,
    pub(super) browser_max_age: Option<u64>,
    pub(super) cdn_max_age: Option<u64>,
}

impl FreshnessKeys {
    pub(super) fn check(&self, report: &mut Report<'_>) -> Freshness {
        let mut seconds = |key: &str, given: Option<u64>, most: u64| match given {
            Some(seconds) if seconds > most => {
                let span = if most == SECONDS_MAX { "a year" } else { "an hour" };
                report.add(key, format!("{seconds} is more than {most} seconds, {span}"));
                None
            }
            given => given.map(Duration::from_secs),
        };
        let default = Freshness::default();
        Freshness {
            max_age: seconds("max_age_seconds", self.max_age, SECONDS_MAX).unwrap_or(default.max_age),
            stale_while_revalidate: seconds("stale_while_revalidate_seconds", self.stale_while_revalidate, SECONDS_MAX)
                .unwrap_or(default.stale_while_revalidate),
            stale_if_error: seconds("stale_if_error_seconds", self.stale_if_error, SECONDS_MAX)
                .unwrap_or(default.stale_if_error),
            negative_max_age: seconds("negative_max_age_seconds", self.negative_max_age, NEGATIVE_SECONDS_MAX)
                .unwrap_or(default.negative_max_age),
            browser_max_age: seconds("browser_max_age_seconds", self.browser_max_age, SECONDS_MAX),
            cdn_max_age: seconds("cdn_max_age_seconds", self.cdn_max_age, SECONDS_MAX),
        }
    }
}
