//! Quotas that are used up: what a tenant is refused for the rest of the month.
//!
//! The control plane decides that it is so, and tells until when; an edge that it cannot reach goes on by what it was told. Must not count
//! anything.

use std::fmt;

use cache::UnixMillis;
use tenancy::Tenant;

/// What nothing is left of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// Bytes that may be sent.
    Bandwidth,
    /// Renditions that may be made.
    Transforms,
}

/// More than the tenant may have in a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverQuota {
    /// Of what.
    pub of: Spent,
    /// Until the month ends.
    pub seconds: u64,
}

impl std::error::Error for OverQuota {}

impl fmt::Display for OverQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.of {
            Spent::Bandwidth => "may send no more this month: its quota of bandwidth is used up",
            Spent::Transforms => {
                "may have no more renditions made this month: its quota of transforms is used up; those that are made are served"
            }
        };
        write!(f, "this tenant {what}")
    }
}

/// Whether anything may be sent.
///
/// # Errors
/// When the quota of bandwidth is used up.
pub fn may_send(tenant: &Tenant) -> Result<(), OverQuota> {
    if tenant.exhausted.bandwidth.is_none() {
        return Ok(());
    }
    refused(Spent::Bandwidth, tenant.exhausted.bandwidth_for(now()))
}

/// Whether a rendition may be made.
///
/// # Errors
/// When the quota of transforms is used up.
pub fn may_make(tenant: &Tenant) -> Result<(), OverQuota> {
    refused(Spent::Transforms, tenant.exhausted.transforms_for(now()))
}

fn refused(of: Spent, seconds: Option<u64>) -> Result<(), OverQuota> {
    seconds.map_or(Ok(()), |seconds| Err(OverQuota { of, seconds }))
}

fn now() -> u64 {
    UnixMillis::now().0 / 1000
}
