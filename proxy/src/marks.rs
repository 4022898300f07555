//! The 64 bits by which an entry of the cache knows whose it is, what it was made from and how it is tagged.
//!
//! Each includes the tenant, so that no tenant's purge can reach another's pictures.

use cache::ANY_TAG;
use fetch::CacheTags;
use tenancy::TenantId;

use crate::origins::{OpenOrigin, UPLOADS};
use crate::source::SourcePath;

/// Names a tenant.
pub fn tenant_mark(tenant: &TenantId) -> u64 {
    hash(&["tenant", tenant.as_str()])
}

/// Names a source of a tenant.
pub fn source_mark(tenant: &TenantId, origin: &OpenOrigin, path: &SourcePath) -> u64 {
    mark_in(tenant, &origin.identity, path.as_str())
}

/// Names an upload of a tenant: the mark of its source.
pub fn upload_mark(tenant: &TenantId, public_id: &str) -> u64 {
    mark_in(tenant, UPLOADS, public_id)
}

fn mark_in(tenant: &TenantId, identity: &str, path: &str) -> u64 {
    hash(&["source", tenant.as_str(), identity, path])
}

/// Names a tag of a tenant.
pub fn tag_mark(tenant: &TenantId, tag: &str) -> u64 {
    hash(&["tag", tenant.as_str(), tag])
}

/// Names the tags of an original: those that its origin gives all its pictures, and those that its server tells.
pub fn tag_marks(tenant: &TenantId, origin: &OpenOrigin, told: Option<&CacheTags>) -> Vec<u64> {
    let names = origin.tags().iter().chain(told.into_iter().flat_map(|told| &told.names));
    let others = told.filter(|told| told.has_others).map(|_| ANY_TAG);
    names.map(|name| tag_mark(tenant, name)).chain(others).collect()
}

fn hash(parts: &[&str]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first)
}
