//! The validated policy that requests are judged by.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use transform_url::value::Name;
use transform_url::{Ops, OriginName, TenantSlug};

use crate::{Freshness, Origin, Rates, Signing, UrlSources};

/// Every tenant, by name and by host.
#[derive(Debug, Default)]
pub struct Policy {
    tenants: HashMap<TenantSlug, Arc<Tenant>>,
    hosts: HashMap<String, Arc<Tenant>>,
    sequence: u64,
}

impl Policy {
    /// A policy of these tenants. `sequence` grows with each version of the policy.
    pub(crate) fn new(tenants: impl IntoIterator<Item = Tenant>, sequence: u64) -> Self {
        let mut policy = Self { sequence, ..Self::default() };
        for tenant in tenants.into_iter().map(Arc::new) {
            for host in &tenant.hosts {
                policy.hosts.insert(host.clone(), Arc::clone(&tenant));
            }
            policy.tenants.insert(tenant.slug.clone(), tenant);
        }
        policy
    }

    /// The tenant of this name.
    pub fn tenant(&self, slug: &TenantSlug) -> Option<&Arc<Tenant>> {
        self.tenants.get(slug)
    }

    /// The tenant whose own host this is; a port is ignored.
    pub fn tenant_of_host(&self, host: &str) -> Option<&Arc<Tenant>> {
        if self.hosts.is_empty() {
            return None;
        }
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        self.hosts.get(name.to_ascii_lowercase().as_str())
    }

    /// Every tenant, in no order.
    pub fn tenants(&self) -> impl Iterator<Item = &Arc<Tenant>> {
        self.tenants.values()
    }

    /// The version of the policy. Static policies count from 1 in each process.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
}

/// A tenant's unchanging id; in a static policy, its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TenantId(pub(crate) String);

impl TenantId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What one tenant has and is allowed.
#[derive(Debug)]
pub struct Tenant {
    /// The unchanging id.
    pub id: TenantId,
    /// The name in URLs.
    pub slug: TenantSlug,
    /// Unsigned URLs may use every op.
    pub open: bool,
    /// `-` serves originals, with all their metadata, to unsigned URLs.
    pub originals: bool,
    /// Who signs, and what goes unsigned where the tenant is not open.
    pub signing: Signing,
    /// Lower-case host names that are this tenant's own.
    pub hosts: Vec<String>,
    /// Registered sets of ops.
    pub presets: HashMap<Name, Ops>,
    /// Registered images: what `overlay` lays over a picture and `fallback` puts in its place.
    pub images: HashMap<Name, RegisteredImage>,
    /// Named origins.
    pub origins: HashMap<OriginName, Arc<Origin>>,
    /// The URLs that may be named as a source.
    pub urls: Arc<UrlSources>,
    /// How long answers stay fresh.
    pub freshness: Freshness,
    /// Whether its renditions go to the second level and come from there, where there is one.
    pub second_level: bool,
    /// Whether its renditions are made fast first, and in fewer bytes when there is time.
    pub improve_when_idle: bool,
    /// How fast requests and fills may come.
    pub rates: Rates,
}

/// Where a registered image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredImage {
    /// One of the tenant's origins.
    pub origin: OriginName,
    /// The path in it.
    pub path: String,
}
