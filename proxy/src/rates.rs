//! How fast requests and fills may come: from an address, and to a tenant.
//!
//! Each count is one atomic number, kept by the generic cell rate algorithm: exact with any number of threads, no lock,
//! no allocation. A tenant has numbers of its own, since its rates are a promise. Addresses are without number and share
//! a table of fixed size, where two that fall on the same cell are counted as one.
//! Must not know who is asking: the caller says which address and which tenant.

mod addresses;
mod tenants;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock, Reference};
use governor::{NotUntil, Quota};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use tenancy::{Rate, Rates};

use self::addresses::{ByAddress, by_address};
pub use self::tenants::TenantRates;
use crate::client::counted_as;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request.
    Request,
    /// A rendition to be made or refreshed.
    Fill,
}

/// Whose count it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The client's address.
    Address,
    /// The tenant.
    Tenant,
}

/// More than is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverRate {
    /// Whose rate.
    pub whose: Whose,
    /// Of what.
    pub kind: Kind,
    /// Until one more is allowed.
    pub wait: Duration,
}

impl OverRate {
    /// Whole seconds after which one more is allowed, if nothing else comes meanwhile; at least 1.
    pub fn retry_after_seconds(&self) -> u64 {
        (self.wait.as_secs() + u64::from(self.wait.subsec_nanos() > 0)).max(1)
    }
}

impl std::error::Error for OverRate {}

impl fmt::Display for OverRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whose = match self.whose {
            Whose::Address => "from this address",
            Whose::Tenant => "to this tenant",
        };
        let kind = match self.kind {
            Kind::Request => "requests",
            Kind::Fill => "requests for pictures that are not made yet",
        };
        write!(f, "more {kind} come {whose} than are allowed; try again in {} s", self.retry_after_seconds())
    }
}

/// The counts of addresses, and what was refused.
pub struct RateLimits<C: Clock = MonotonicClock> {
    requests: Option<ByAddress<C>>,
    fills: Option<ByAddress<C>>,
    /// By [`Whose`] and [`Kind`].
    refused: [[IntCounter; 2]; 2],
}

impl RateLimits {
    /// Limits with these rates for each address.
    ///
    /// # Errors
    /// When the metric's name is taken.
    pub fn new(addresses: Rates, registry: &Registry) -> prometheus::Result<Self> {
        Self::with_clock(addresses, registry, &MonotonicClock)
    }
}

impl<C: Clock + Clone> RateLimits<C> {
    fn with_clock(addresses: Rates, registry: &Registry, clock: &C) -> prometheus::Result<Self> {
        let refused = IntCounterVec::new(
            Opts::new(
                "calotype_rate_limited_total",
                "Requests answered 429, and refreshes not started, for going beyond a rate.",
            ),
            &["of", "rate"],
        )?;
        registry.register(Box::new(refused.clone()))?;
        Ok(Self {
            requests: addresses.requests.map(|rate| by_address(rate, clock)),
            fills: addresses.fills.map(|rate| by_address(rate, clock)),
            refused: ["address", "tenant"]
                .map(|of| ["requests", "fills"].map(|rate| refused.with_label_values(&[of, rate]))),
        })
    }

    /// Counts one more of `kind`, from this client for a tenant with these counts.
    ///
    /// # Errors
    /// When it is too much for either. For the tenant it then counts as nothing.
    pub fn charge(&self, kind: Kind, client: IpAddr, tenant: Option<&TenantRates<C>>) -> Result<(), OverRate> {
        let by_address = match kind {
            Kind::Request => &self.requests,
            Kind::Fill => &self.fills,
        };
        if let Some(counts) = by_address {
            let is_allowed = counts.check_key(&counted_as(client));
            is_allowed.map_err(|until| self.refuse(Whose::Address, kind, &until, counts.clock()))?;
        }
        if let Some(count) = tenant.and_then(|tenant| tenant.limiter(kind)) {
            let is_allowed = count.check();
            is_allowed.map_err(|until| self.refuse(Whose::Tenant, kind, &until, count.clock()))?;
        }
        Ok(())
    }

    fn refuse<P: Reference>(
        &self,
        whose: Whose,
        kind: Kind,
        until: &NotUntil<P>,
        clock: &impl Clock<Instant = P>,
    ) -> OverRate {
        self.refused[whose as usize][kind as usize].inc();
        OverRate { whose, kind, wait: until.wait_time_from(clock.now()) }
    }
}

fn quota(rate: Rate) -> Quota {
    Quota::per_second(rate.per_second).allow_burst(rate.burst)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::atomic::{AtomicU32, Ordering};

    use governor::clock::FakeRelativeClock;

    use super::addresses::CELLS;
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

    fn rate(per_second: u32, burst: u32) -> Option<Rate> {
        let number = |number| NonZeroU32::new(number).expect("not 0");
        Some(Rate { per_second: number(per_second), burst: number(burst) })
    }

    fn limits(addresses: Rates, clock: &FakeRelativeClock) -> RateLimits<FakeRelativeClock> {
        RateLimits::with_clock(addresses, &Registry::new(), clock).expect("the name is free")
    }

    /// How many of `tries` requests are let through, on eight threads at once.
    fn let_through(limits: &RateLimits<FakeRelativeClock>, tenant: &TenantRates<FakeRelativeClock>, tries: u32) -> u32 {
        let count = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..tries / 8 {
                        if limits.charge(Kind::Request, CLIENT, Some(tenant)).is_ok() {
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        count.into_inner()
    }

    #[test]
    fn a_tenants_rate_is_exact_on_many_threads() {
        let clock = FakeRelativeClock::default();
        let limits = limits(Rates::default(), &clock);
        let tenant = TenantRates::new(Rates { requests: rate(100, 250), fills: None }, None, &clock);
        assert_eq!(let_through(&limits, &tenant, 4000), 250, "the burst");
        clock.advance(Duration::from_secs(2));
        assert_eq!(let_through(&limits, &tenant, 4000), 200, "two seconds");
        clock.advance(Duration::from_millis(5));
        assert_eq!(let_through(&limits, &tenant, 4000), 0, "half of one");
        clock.advance(Duration::from_millis(5));
        assert_eq!(let_through(&limits, &tenant, 4000), 1, "one");
        clock.advance(Duration::from_secs(3600));
        assert_eq!(let_through(&limits, &tenant, 4000), 250, "no more than the burst after any pause");
        assert_eq!(limits.refused[Whose::Tenant as usize][Kind::Request as usize].get(), 5 * 4000 - 701);
    }

    #[test]
    fn the_wait_is_rounded_up_and_enough() {
        let clock = FakeRelativeClock::default();
        let limits = limits(Rates::default(), &clock);
        let tenant = TenantRates::new(Rates { requests: None, fills: rate(1, 3) }, None, &clock);
        let charge = || limits.charge(Kind::Fill, CLIENT, Some(&tenant));
        (0..3).for_each(|_| charge().expect("the burst"));
        let seconds = |refused: Result<(), OverRate>| refused.expect_err("too fast").retry_after_seconds();
        assert_eq!(seconds(charge()), 1);
        clock.advance(Duration::from_millis(1));
        assert_eq!(seconds(charge()), 1, "0.999 s");
        clock.advance(Duration::from_millis(999));
        charge().expect("as told");
        // Requests have no rate here.
        (0..100).for_each(|_| limits.charge(Kind::Request, CLIENT, Some(&tenant)).expect("no limit"));
        let over = |wait| OverRate { whose: Whose::Tenant, kind: Kind::Fill, wait }.retry_after_seconds();
        assert_eq!(over(Duration::from_nanos(2_000_000_001)), 3);
        assert_eq!(over(Duration::from_secs(2)), 2);
        assert_eq!(over(Duration::ZERO), 1);
    }

    #[test]
    fn counts_survive_a_policy_that_keeps_the_numbers() {
        let clock = FakeRelativeClock::default();
        let limits = limits(Rates::default(), &clock);
        let both = Rates { requests: rate(1, 1), fills: rate(1, 1) };
        let first = TenantRates::new(both, None, &clock);
        let charge = |kind, tenant: &TenantRates<_>| limits.charge(kind, CLIENT, Some(tenant)).is_ok();
        assert!(charge(Kind::Request, &first) && charge(Kind::Fill, &first));
        let same = TenantRates::new(both, Some(&first), &clock);
        assert!(!charge(Kind::Request, &same) && !charge(Kind::Fill, &same));
        let other = TenantRates::new(Rates { fills: rate(1, 2), ..both }, Some(&same), &clock);
        assert!(!charge(Kind::Request, &other), "this number did not change");
        assert!(charge(Kind::Fill, &other), "this one did");
        let none = TenantRates::new(Rates::default(), Some(&other), &clock);
        assert!(charge(Kind::Request, &none) && charge(Kind::Fill, &none));
    }

    #[test]
    fn addresses_are_counted_apart_and_ipv6_by_network() {
        let clock = FakeRelativeClock::default();
        let limits = limits(Rates { requests: rate(1, 2), fills: None }, &clock);
        let charge = |address: &str| limits.charge(Kind::Request, address.parse().expect("an address"), None).is_ok();
        for customer in [
            ["198.51.100.7", "::ffff:198.51.100.7", "198.51.100.7"],
            ["2001:db8:1:2::1", "2001:db8:1:2:ffff::", "2001:db8:1:2:3:4:5:6"],
        ] {
            assert_eq!(customer.map(charge), [true, true, false], "{customer:?}");
        }
        assert!(charge("198.51.100.8") && charge("2001:db8:1:3::1"), "others are not affected");
    }

    #[test]
    fn an_address_over_its_rate_costs_the_tenant_nothing() {
        let clock = FakeRelativeClock::default();
        let limits = limits(Rates { requests: rate(1, 1), fills: None }, &clock);
        let tenant = TenantRates::new(Rates { requests: rate(1, 3), fills: None }, None, &clock);
        let charge = |last| limits.charge(Kind::Request, [198, 51, 100, last].into(), Some(&tenant));
        charge(1).expect("the first");
        (0..100).for_each(|_| assert_eq!(charge(1).expect_err("too fast").whose, Whose::Address));
        charge(2).expect("the second");
        charge(3).expect("the third");
        assert_eq!(charge(4).expect_err("the fourth").whose, Whose::Tenant);
    }

    #[test]
    fn any_number_of_addresses_fits_and_is_never_counted_too_low() {
        let clock = FakeRelativeClock::default();
        let limits = limits(Rates { requests: rate(1, 1), fills: None }, &clock);
        let mut let_through = 0;
        for number in 0..u32::try_from(4 * CELLS).expect("fits") {
            let address = IpAddr::from(number.to_be_bytes());
            let_through += u32::from(limits.charge(Kind::Request, address, None).is_ok());
            assert!(limits.charge(Kind::Request, address, None).is_err(), "{address} was let through twice");
        }
        // One for each cell that was hit: nearly all of them, when there are four times as many addresses.
        assert!((CELLS as u32 * 9 / 10..=CELLS as u32).contains(&let_through), "{let_through}");
    }
}
