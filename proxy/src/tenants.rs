//! The tenants in force: what requests are judged by, with what serving each of them needs at hand.
//!
//! A change of one tenant costs no copy of the others: the maps are persistent ones. Must not know where tenants come from,
//! beyond which of two layers each is in.

use std::sync::Arc;

use imbl::HashMap;
use tenancy::{Tenant, TenantId};
use transform_url::TenantSlug;

use crate::origins::OpenOrigins;
use crate::rates::TenantRates;
use crate::uploads::UploadStore;
use crate::usage::{Account, Accounts};

/// One tenant, ready to be served.
#[derive(Debug)]
pub struct ActiveTenant {
    /// What it has and is allowed.
    pub tenant: Arc<Tenant>,
    /// Where its originals come from.
    pub origins: OpenOrigins,
    /// What it is counted by, if it has rates.
    pub rates: Option<Arc<TenantRates>>,
    /// What it uses, if somebody wants to know.
    pub account: Option<Arc<Account>>,
}

impl ActiveTenant {
    /// A tenant that takes over what of `before` did not change.
    fn new(tenant: Tenant, of: &Belongings, before: Option<&Arc<Self>>) -> Self {
        let before = before.filter(|before| before.tenant.id == tenant.id);
        let origins = OpenOrigins::new(&tenant, of.uploads.as_ref(), before.map(|before| &before.origins));
        let rates = TenantRates::of(&tenant, before.and_then(|before| before.rates.as_deref()));
        let account = of.accounts.as_ref().map(|accounts| accounts.of(&tenant.id));
        Self { tenant: Arc::new(tenant), origins, rates, account }
    }
}

/// What all tenants of one place have together.
#[derive(Clone, Default)]
pub struct Belongings {
    /// Where their uploads are, if they can have any.
    pub uploads: Option<Arc<UploadStore>>,
    /// What they use, if somebody wants to know.
    pub accounts: Option<Arc<Accounts>>,
}

/// Tenants that come from one place, by name and by host.
#[derive(Clone, Default)]
pub struct Layer {
    /// What they have together.
    pub belongings: Belongings,
    tenants: HashMap<TenantSlug, Arc<ActiveTenant>>,
    hosts: HashMap<String, Arc<ActiveTenant>>,
}

impl Layer {
    /// Puts a tenant in, or in the place of the one of the same name.
    pub fn put(&mut self, tenant: Tenant) {
        let before = self.tenants.get(&tenant.slug);
        let active = Arc::new(ActiveTenant::new(tenant, &self.belongings, before));
        self.take_out(&active.tenant.slug);
        self.insert(active);
    }

    /// Puts these in the place of all that are there, which keep what did not change. Those that `stay` stay as they are.
    pub fn replace(&mut self, tenants: impl IntoIterator<Item = Tenant>, stay: impl Fn(&TenantId) -> bool) {
        let before = std::mem::replace(self, Self { belongings: self.belongings.clone(), ..Self::default() });
        for tenant in tenants {
            let before = before.tenants.get(&tenant.slug);
            self.insert(Arc::new(ActiveTenant::new(tenant, &self.belongings, before)));
        }
        let staying = before.tenants.values().filter(|active| stay(&active.tenant.id));
        for active in staying {
            if !self.tenants.contains_key(&active.tenant.slug) {
                self.insert(Arc::clone(active));
            }
        }
    }

    /// Takes the tenant of this name out, if it has this id.
    pub fn remove(&mut self, slug: &TenantSlug, id: &TenantId) {
        if self.tenants.get(slug).is_some_and(|known| known.tenant.id == *id) {
            self.take_out(slug);
        }
    }

    fn take_out(&mut self, slug: &TenantSlug) {
        let Some(gone) = self.tenants.remove(slug) else { return };
        for host in &gone.tenant.hosts {
            // A host may have gone to another tenant first.
            if self.hosts.get(host).is_some_and(|owner| Arc::ptr_eq(owner, &gone)) {
                self.hosts.remove(host);
            }
        }
    }

    /// Opens the origins of all of them.
    pub fn open_all(&self) {
        for active in self.tenants.values() {
            active.origins.open_all(&active.tenant);
        }
    }

    fn insert(&mut self, active: Arc<ActiveTenant>) {
        for host in &active.tenant.hosts {
            self.hosts.insert(host.clone(), Arc::clone(&active));
        }
        self.tenants.insert(active.tenant.slug.clone(), active);
    }
}

/// All tenants in force.
#[derive(Clone, Default)]
pub struct ActivePolicy {
    /// Those of the policy file. They win: they were written by hand.
    pub file: Layer,
    /// Those of the control plane.
    pub feed: Layer,
    /// The version: grows with each change, from 1 in each process.
    pub sequence: u64,
}

impl ActivePolicy {
    /// The tenant of this name.
    pub fn tenant(&self, slug: &TenantSlug) -> Option<&Arc<ActiveTenant>> {
        self.file.tenants.get(slug).or_else(|| self.feed.tenants.get(slug))
    }

    /// The tenant whose own host this is; a port is ignored.
    pub fn tenant_of_host(&self, host: &str) -> Option<&Arc<ActiveTenant>> {
        if self.file.hosts.is_empty() && self.feed.hosts.is_empty() {
            return None;
        }
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name).to_ascii_lowercase();
        self.file.hosts.get(&name).or_else(|| self.feed.hosts.get(&name))
    }

    /// Every tenant, in no order.
    pub fn tenants(&self) -> impl Iterator<Item = &Arc<ActiveTenant>> {
        let is_shown = |active: &&Arc<ActiveTenant>| !self.file.tenants.contains_key(&active.tenant.slug);
        self.file.tenants.values().chain(self.feed.tenants.values().filter(is_shown))
    }
}
