//! All tenants of the control plane as they are known, by their ids, and what each change means for what is served.
//!
//! Must not do IO.

use std::collections::BTreeMap;

use cache::Scope;
use serde_json::Value;
use tenancy::feed::{FeedEvent, TenantSnapshot, kind};
use tenancy::{TenantId, TenantParts};
use transform_url::TenantSlug;

use crate::marks::{tenant_mark, upload_mark};
use crate::purge::{self, Order};
use crate::tenants::ActivePolicy;

/// The parts of all tenants.
#[derive(Debug, Default)]
pub struct Directory {
    tenants: BTreeMap<TenantId, TenantParts>,
}

/// What has to be done about a change.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// This tenant is another one now, or gone.
    Tenant {
        /// Whose.
        id: TenantId,
        /// The name in URLs that it had.
        old_slug: Option<String>,
    },
    /// This was taken back.
    Ban(Scope),
    /// This is to be taken back; what it covers depends on the tenants in force.
    Purge {
        /// Whose.
        id: TenantId,
        /// What.
        order: Value,
    },
    /// Nothing that this version knows of.
    Nothing,
}

impl Directory {
    /// One of these tenants.
    pub fn of(tenants: impl IntoIterator<Item = TenantSnapshot>) -> Self {
        Self { tenants: tenants.into_iter().map(|tenant| (tenant.id, tenant.parts)).collect() }
    }

    /// Puts tenants in, or in the place of those of the same ids.
    pub fn extend(&mut self, tenants: impl IntoIterator<Item = TenantSnapshot>) {
        self.tenants.extend(tenants.into_iter().map(|tenant| (tenant.id, tenant.parts)));
    }

    /// The tenant of this id.
    pub fn get(&self, id: &TenantId) -> Option<&TenantParts> {
        self.tenants.get(id)
    }

    /// All of them, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (&TenantId, &TenantParts)> {
        self.tenants.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tenants.len()
    }

    /// Takes a change in.
    pub fn apply(&mut self, event: FeedEvent) -> Effect {
        let FeedEvent { seq, at: _, tenant: id, kind, name, body } = event;
        match kind.as_str() {
            kind::MEDIA => {
                let tenant = tenant_mark(&id);
                Effect::Ban(Scope::Source { tenant, source: upload_mark(&id, &name) })
            }
            kind::PURGE => Effect::Purge { id, order: body.unwrap_or_default() },
            kind::TENANT if body.is_none() => {
                let gone = self.tenants.remove(&id);
                gone.map_or(Effect::Nothing, |gone| Effect::Tenant { id, old_slug: Some(gone.slug) })
            }
            kind => {
                let known = self.tenants.entry(id.clone()).or_default();
                let old_slug = (!known.slug.is_empty()).then(|| known.slug.clone());
                match known.apply(kind, &name, body) {
                    Ok(()) => Effect::Tenant { id, old_slug },
                    Err(error) => {
                        tracing::error!(seq, tenant = %id, %error, "a change is left out: is this edge older than its control plane?");
                        Effect::Nothing
                    }
                }
            }
        }
    }
}

/// What an order of a tenant covers now. One that cannot be told covers all that the tenant has: too much, never too little.
pub fn scopes(active: &ActivePolicy, slug: Option<&str>, id: &TenantId, order: Value) -> Vec<Scope> {
    let everything = || vec![Scope::Tenant { tenant: tenant_mark(id) }];
    let slug = slug.filter(|slug| {
        let known = TenantSlug::new(slug).ok().and_then(|slug| active.tenant(&slug));
        known.is_some_and(|known| known.tenant.id == *id)
    });
    let Some(slug) = slug else { return everything() };
    let order = serde_json::from_value::<Order>(order).map(|order| order.of(slug));
    let scopes = order
        .map_err(|error| error.to_string())
        .and_then(|order| purge::scopes(active, &order).map_err(|error| error.to_string()));
    scopes.unwrap_or_else(|reason| {
        tracing::warn!(tenant = %id, reason, "a purge that is not understood purges all that the tenant has");
        everything()
    })
}
