//! How fast requests and fills may come: the numbers, the same for a tenant and for a client's address.
//!
//! Must not count anything: whoever serves does.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

/// Highest rate and largest burst that can be set.
const RATE_MAX: u32 = 1_000_000;

/// So many a second, and so many at once after a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In the long run, each second.
    pub per_second: NonZeroU32,
    /// At once, when nothing has come for long enough.
    pub burst: NonZeroU32,
}

/// The rates of one tenant, or of each address; `None` is without limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Of requests.
    pub requests: Option<Rate>,
    /// Of requests that start a fill: renditions to be made or refreshed.
    pub fills: Option<Rate>,
}

/// Rates as they are written, in the policy and in settings.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RatesTable {
    /// Requests each second; 0 is without limit.
    pub requests_per_second: u32,
    /// Requests at once; 0 is as many as in a second.
    pub requests_burst: u32,
    /// Fills each second; 0 is without limit.
    pub fills_per_second: u32,
    /// Fills at once; 0 is as many as in a second.
    pub fills_burst: u32,
}

impl RatesTable {
    /// The rates, with `mistake` told each key and number that cannot be, and why.
    pub fn check(&self, mut mistake: impl FnMut(&'static str, u32, &'static str)) -> Rates {
        let requests = ("requests_per_second", self.requests_per_second, "requests_burst", self.requests_burst);
        let fills = ("fills_per_second", self.fills_per_second, "fills_burst", self.fills_burst);
        let [requests, fills] = [requests, fills].map(|(rate_key, per_second, burst_key, burst)| {
            for (key, number) in [(rate_key, per_second), (burst_key, burst)] {
                if number > RATE_MAX {
                    mistake(key, number, "at most 1000000");
                }
            }
            let Some(per_second) = NonZeroU32::new(per_second) else {
                if burst > 0 {
                    mistake(burst_key, burst, "a burst needs a rate");
                }
                return None;
            };
            Some(Rate { per_second, burst: NonZeroU32::new(burst).unwrap_or(per_second) })
        });
        Rates { requests, fills }
    }
}
