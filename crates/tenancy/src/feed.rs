//! What the control plane tells edges, as JSON: everything first, then each change in turn.
//!
//! An edge remembers the epoch and the number of the last change that it has taken in, and asks for those after it. Fields that a
//! version does not know are left out, so that either side may be the newer one.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{TenantId, TenantParts};

/// What a change is of.
pub mod kind {
    /// The tenant itself: whether it is there, its name in URLs, its state.
    pub const TENANT: &str = "tenant";
    /// Its policy document.
    pub const POLICY: &str = "policy";
    /// A preset, by its name.
    pub const PRESET: &str = "preset";
    /// A registered image, by its name.
    pub const IMAGE: &str = "image";
    /// A named origin.
    pub const ORIGIN: &str = "origin";
    /// A host name of its own.
    pub const DOMAIN: &str = "domain";
    /// A key for signatures, by its `kid`.
    pub const SIGNING_KEY: &str = "signing_key";
    /// Content that is taken back: the body says which, as in an edge's own purges.
    pub const PURGE: &str = "purge";
    /// What a public id means: the pointer in the object store has changed.
    pub const MEDIA: &str = "media";
    /// Which of its quotas are used up, and until when: an [`Exhausted`](crate::Exhausted); `null` when none is.
    pub const QUOTA: &str = "quota";
}

/// Changes, or that they are not to be had.
#[derive(Debug, Serialize, Deserialize)]
pub struct FeedAnswer {
    /// Another one after the database was set back.
    pub epoch: String,
    /// The number of the newest change.
    pub seq: u64,
    /// The edge is to take a snapshot first.
    pub snapshot: bool,
    /// Those after the one that was named, oldest first, without a gap.
    pub events: Vec<FeedEvent>,
}

/// One change. No `Debug` of its body: there are secrets in it.
#[derive(Clone, Serialize, Deserialize)]
pub struct FeedEvent {
    /// Its number.
    pub seq: u64,
    /// When it was announced, in Unix milliseconds by the database's clock.
    #[serde(default)]
    pub at: u64,
    /// Whose.
    pub tenant: TenantId,
    /// What it is of, one of [`kind`].
    pub kind: String,
    /// Which of them; empty where a tenant has one.
    pub name: String,
    /// What it is now; `null` when it is no more.
    pub body: Option<Value>,
}

impl std::fmt::Debug for FeedEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FeedEvent({}: {} {:?} of {})", self.seq, self.kind, self.name, self.tenant)
    }
}

/// A page of all tenants.
#[derive(Debug, Serialize, Deserialize)]
pub struct Snapshot {
    /// As in [`FeedAnswer`]. All pages have to be of the same one.
    pub epoch: String,
    /// Changes after this one may not be in this page. Those after that of the first page are to be taken in afterwards.
    pub seq: u64,
    /// The tenants.
    pub tenants: Vec<TenantSnapshot>,
    /// What asks for the next page; `null` on the last.
    pub next: Option<TenantId>,
}

/// All that edges know of a tenant.
#[derive(Debug, Serialize, Deserialize)]
pub struct TenantSnapshot {
    /// Its id.
    pub id: TenantId,
    /// Everything else.
    #[serde(flatten)]
    pub parts: TenantParts,
}
