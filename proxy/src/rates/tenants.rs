//! The counts of tenants: one of its own for each rate, kept over a change of the policy that keeps the rate.

use std::sync::Arc;

use governor::RateLimiter;
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use tenancy::{Rate, Rates, Tenant};

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

impl TenantRates {
    /// The counts of a tenant that has rates, going on from those it had `before`.
    pub fn of(tenant: &Tenant, before: Option<&Self>) -> Option<Arc<Self>> {
        let is_limited = tenant.rates != Rates::default();
        is_limited.then(|| Arc::new(Self::new(tenant.rates, before, &MonotonicClock)))
    }
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
