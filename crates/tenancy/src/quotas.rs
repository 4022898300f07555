//! Which of a tenant's quotas are used up, as edges are told.
//!
//! What is used up has an end of its own, so that an edge lets the tenant go on in the next month with nobody to tell it. Must not count
//! anything: the control plane does.

use serde::{Deserialize, Serialize};

/// Quotas that are used up, each until a time in Unix seconds; `None` is not used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exhausted {
    /// Bytes of bodies sent in a month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<u64>,
    /// Renditions made in a month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transforms: Option<u64>,
}

impl Exhausted {
    /// Seconds from `now` for which nothing more may be sent; `None` when it may.
    pub fn bandwidth_for(&self, now: u64) -> Option<u64> {
        left(self.bandwidth, now)
    }

    /// Seconds from `now` for which nothing more may be made; `None` when it may.
    pub fn transforms_for(&self, now: u64) -> Option<u64> {
        left(self.transforms, now)
    }
}

fn left(until: Option<u64>, now: u64) -> Option<u64> {
    until?.checked_sub(now).filter(|seconds| *seconds > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_by_itself() {
        let exhausted = Exhausted { bandwidth: Some(100), transforms: None };
        assert_eq!(exhausted.bandwidth_for(60), Some(40));
        assert_eq!((exhausted.bandwidth_for(100), exhausted.bandwidth_for(101)), (None, None));
        assert_eq!(exhausted.transforms_for(0), None);
    }

    #[test]
    fn what_a_later_version_knows_of_is_left_out() {
        let told = serde_json::json!({"bandwidth": 7, "videos": 9});
        let read: Exhausted = serde_json::from_value(told).expect("read");
        assert_eq!(read, Exhausted { bandwidth: Some(7), transforms: None });
        assert_eq!(serde_json::to_string(&read).expect("JSON"), "{\"bandwidth\":7}");
    }
}
