//! The counts of tenants: one of its own for each rate, kept over a change of the policy that keeps the rate.

use std::collections::HashMap;
use std::sync::Arc;

use governor::RateLimiter;
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use tenancy::{Policy, Rate, Rates, TenantId};

use super::{Kind, quota};

type Exact<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// A rate and how much of it is used.
#[derive(Debug)]
struct Count<C: Clock> {
    rate: Rate,
    limiter: Exact<C>,
}

/// The counts of one tenant.
#[derive(Debug)]
pub struct TenantRates<C: Clock = MonotonicClock> {
    requests: Option<Arc<Count<C>>>,
    fills: Option<Arc<Count<C>>>,
}

impl<C: Clock + Clone> TenantRates<C> {
    /// Counts for these rates. Those whose rate is what it was go on from `before`.
    pub(super) fn new(rates: Rates, before: Option<&Self>, clock: &C) -> Self {
        let count = |rate: Option<Rate>, kept: Option<&Arc<Count<C>>>| {
            let rate = rate?;
            let kept = kept.filter(|kept| kept.rate == rate).cloned();
            Some(kept.unwrap_or_else(|| {
                let limiter = RateLimiter::new(quota(rate), InMemoryState::default(), clock.clone());
                Arc::new(Count { rate, limiter })
            }))
        };
        Self {
            requests: count(rates.requests, before.and_then(|before| before.requests.as_ref())),
            fills: count(rates.fills, before.and_then(|before| before.fills.as_ref())),
        }
    }

    /// What counts this kind; `None` where there is no limit.
    pub(super) fn limiter(&self, kind: Kind) -> Option<&Exact<C>> {
        let count = match kind {
            Kind::Request => &self.requests,
            Kind::Fill => &self.fills,
        };
        count.as_ref().map(|count| &count.limiter)
    }
}

/// The counts of all tenants that have rates.
#[derive(Debug, Default)]
pub struct RatesOfTenants(HashMap<TenantId, Arc<TenantRates>>);

impl RatesOfTenants {
    /// The counts for a policy that follows `before`'s.
    pub fn of(policy: &Policy, before: &Self) -> Self {
        let limited = policy.tenants().filter(|tenant| tenant.rates != Rates::default());
        let counts = limited.map(|tenant| {
            let before = before.get(&tenant.id).map(AsRef::as_ref);
            (tenant.id.clone(), Arc::new(TenantRates::new(tenant.rates, before, &MonotonicClock)))
        });
        Self(counts.collect())
    }

    /// The counts of a tenant; `None` if it has no rates.
    pub fn get(&self, tenant: &TenantId) -> Option<&Arc<TenantRates>> {
        self.0.get(tenant)
    }
}
