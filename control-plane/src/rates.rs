//! How fast requests may come: with a tenant's key, and from an address that has none.
//!
//! Each count is one number, kept by the generic cell rate algorithm. Keys are exact: there are no more of them than tenants have. Addresses
//! are without number and share a table of fixed size, where two that fall on the same cell are counted as one. Counts are this process's.
//! Must not know who is asking: the caller says which key or address.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use prometheus::{IntCounterVec, Opts, Registry};
use uuid::Uuid;

use crate::config::ControlPlaneSettings;

/// Cells for addresses.
const CELLS: u64 = 1 << 16;

/// Time between two times that keys are forgotten whose count is as if they had never been used.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// What a count is of, as `RateLimit-Policy` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// A tenant's key.
    Key,
    /// A client's address.
    Address,
}

impl Whose {
    fn as_str(self) -> &'static str {
        match self {
            Self::Key => "default",
            Self::Address => "address",
        }
    }
}

/// What a client may still send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    whose: Whose,
    burst: u32,
    per_second: u32,
    remaining: u32,
    /// Until one more is allowed; nothing if that is now.
    wait: Option<Duration>,
}

impl Allowance {
    /// Whole seconds after which one more is allowed, where none is; at least 1.
    pub fn retry_seconds(&self) -> Option<u64> {
        self.wait.map(|wait| (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1))
    }

    /// `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers): so many at once, and seconds in which as many come back.
    pub fn policy(&self) -> String {
        format!("\"{}\";q={};w={}", self.whose.as_str(), self.burst, self.burst.div_ceil(self.per_second))
    }

    /// `RateLimit` (the same draft): how many are left, and seconds until all are back.
    pub fn state(&self) -> String {
        let used = self.burst.saturating_sub(self.remaining);
        format!("\"{}\";r={};t={}", self.whose.as_str(), self.remaining, used.div_ceil(self.per_second))
    }
}

type Counts<K, C> = RateLimiter<K, HashMapStateStore<K>, C, StateInformationMiddleware>;

fn counts<K: Hash + Eq + Clone, C: Clock + Clone>(rate: Rate, clock: &C) -> Counts<K, C> {
    let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
    RateLimiter::new(quota, HashMapStateStore::default(), clock.clone())
}

/// The counts of keys and addresses.
pub struct RateLimits<C: Clock = MonotonicClock> {
    keys: Option<(Rate, Counts<Uuid, C>)>,
    addresses: Option<(Rate, Counts<u64, C>)>,
    /// Seeded at random, so that nobody can choose whom to share a cell with.
    hasher: RandomState,
    refused: IntCounterVec,
}

#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: NonZeroU32,
    burst: NonZeroU32,
}

impl Rate {
    /// `None` where there is no limit.
    fn new(per_second: u32, burst: u32) -> Option<Self> {
        Some(Self { per_second: NonZeroU32::new(per_second)?, burst: NonZeroU32::new(burst)? })
    }

    fn allowance(self, whose: Whose, remaining: u32, wait: Option<Duration>) -> Allowance {
        Allowance { whose, burst: self.burst.get(), per_second: self.per_second.get(), remaining, wait }
    }
}

impl RateLimits {
    /// Those of the settings.
    ///
    /// # Errors
    /// When the metric's name is taken.
    pub fn new(settings: &ControlPlaneSettings, registry: &Registry) -> prometheus::Result<Self> {
        let keys = Rate::new(settings.rate_per_second, settings.rate_burst);
        let addresses = Rate::new(settings.address_rate_per_second, settings.address_rate_burst);
        Self::with_clock(keys, addresses, registry, &MonotonicClock)
    }

    /// Forgets keys that are not used, every now and then, for ever.
    pub async fn forget(&self) {
        loop {
            tokio::time::sleep(FORGET_EVERY).await;
            if let Some((_, keys)) = &self.keys {
                keys.retain_recent();
                keys.shrink_to_fit();
            }
        }
    }
}

impl<C: Clock + Clone> RateLimits<C> {
    fn with_clock(
        keys: Option<Rate>,
        addresses: Option<Rate>,
        registry: &Registry,
        clock: &C,
    ) -> prometheus::Result<Self> {
        let refused =
            Opts::new("calotype_api_rate_limited_total", "Requests answered 429 for coming faster than is allowed");
        let refused = IntCounterVec::new(refused, &["of"])?;
        registry.register(Box::new(refused.clone()))?;
        Ok(Self {
            keys: keys.map(|rate| (rate, counts(rate, clock))),
            addresses: addresses.map(|rate| (rate, counts(rate, clock))),
            hasher: RandomState::new(),
            refused,
        })
    }

    /// Counts one more request with a key. `None` where there is no limit.
    pub fn charge_key(&self, key: Uuid) -> Option<Allowance> {
        let (rate, limiter) = self.keys.as_ref()?;
        Some(self.told(*rate, Whose::Key, limiter.check_key(&key), limiter.clock()))
    }

    /// Counts one more request from an address that has shown no key. `None` where there is no limit.
    pub fn charge_address(&self, address: IpAddr) -> Option<Allowance> {
        let (rate, limiter) = self.addresses.as_ref()?;
        let cell = self.hasher.hash_one(counted_as(address)) % CELLS;
        Some(self.told(*rate, Whose::Address, limiter.check_key(&cell), limiter.clock()))
    }

    fn told(
        &self,
        rate: Rate,
        whose: Whose,
        checked: Result<governor::middleware::StateSnapshot, governor::NotUntil<C::Instant>>,
        clock: &C,
    ) -> Allowance {
        match checked {
            Ok(state) => rate.allowance(whose, state.remaining_burst_capacity(), None),
            Err(until) => {
                self.refused.with_label_values(&[whose.as_str()]).inc();
                rate.allowance(whose, 0, Some(until.wait_time_from(clock.now())))
            }
        }
    }
}

/// A network of IPv6 that one customer of a provider has is one address.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn limits(keys: Option<Rate>, addresses: Option<Rate>, clock: &FakeRelativeClock) -> RateLimits<FakeRelativeClock> {
        RateLimits::with_clock(keys, addresses, &Registry::new(), clock).expect("the name is free")
    }

    #[test]
    fn a_key_has_its_burst_and_gets_it_back_by_its_rate() {
        let clock = FakeRelativeClock::default();
        let limits = limits(Rate::new(2, 5), None, &clock);
        let (key, other) = (Uuid::now_v7(), Uuid::now_v7());
        for left in (0..5).rev() {
            let allowance = limits.charge_key(key).expect("there is a limit");
            assert_eq!((allowance.remaining, allowance.retry_seconds()), (left, None));
        }
        let refused = limits.charge_key(key).expect("there is a limit");
        assert_eq!(refused.retry_seconds(), Some(1));
        assert_eq!(
            (refused.policy().as_str(), refused.state().as_str()),
            ("\"default\";q=5;w=3", "\"default\";r=0;t=3")
        );
        assert_eq!(limits.charge_key(other).expect("there is a limit").remaining, 4, "others are not concerned");
        clock.advance(Duration::from_millis(500));
        assert_eq!(limits.charge_key(key).expect("there is a limit").retry_seconds(), None, "one has come back");
        assert!(limits.charge_key(key).expect("there is a limit").retry_seconds().is_some());
        clock.advance(Duration::from_secs(3600));
        assert_eq!(limits.charge_key(key).expect("there is a limit").remaining, 4, "no more than the burst");
    }

    #[test]
    fn any_number_of_addresses_takes_no_more_memory_than_the_table_has() {
        let clock = FakeRelativeClock::default();
        let limits = limits(None, Rate::new(1, 1), &clock);
        for number in 0..300_000u32 {
            limits.charge_address(IpAddr::V4(number.into()));
        }
        let (_, addresses) = limits.addresses.as_ref().expect("there is a limit");
        assert!(addresses.len() as u64 <= CELLS, "{}", addresses.len());
        assert!(limits.charge_key(Uuid::now_v7()).is_none());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_an_ipv4_in_ipv6_is_itself() {
        let counted = |text: &str| counted_as(text.parse().expect("an address")).to_string();
        assert_eq!(counted("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(counted("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(counted("192.0.2.7"), "192.0.2.7");
    }
}
