//! What tenants of the control plane use of this edge, counted as answers end and renditions are made.
//!
//! A count is an addition to a number of the tenant's own: no lock, nothing to look up. Every now and then the numbers are collected, to
//! the day that it is until then. Must not know to whom that is reported.

use std::collections::{BTreeMap, HashMap};
use std::mem::take;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cache::UnixMillis;
use parking_lot::Mutex;
use tenancy::TenantId;
use tenancy::usage::Counts;

const DAY_MILLIS: u64 = 24 * 3600 * 1000;

/// What one tenant has used since it was last collected. Alone on its cache line, or tenants would slow each other down.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Account {
    requests: AtomicU64,
    bytes: AtomicU64,
    hits: AtomicU64,
    errors: AtomicU64,
    transforms: AtomicU64,
    cpu_us: AtomicU64,
}

impl Account {
    /// A request has been answered, with so many bytes of body; 0 is no status.
    pub fn answered(&self, status: u16, bytes: u64, is_hit: bool) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if is_hit {
            self.hits.fetch_add(1, Ordering::Relaxed);
        }
        if status >= 400 {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A rendition was made.
    pub fn made(&self) {
        self.transforms.fetch_add(1, Ordering::Relaxed);
    }

    /// A thread has worked for it, whatever came of that.
    pub fn worked(&self, time: Duration) {
        self.cpu_us.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn collect(&self) -> Counts {
        // Nearly all are 0, and looking is cheaper than taking.
        let collect =
            |count: &AtomicU64| if count.load(Ordering::Relaxed) == 0 { 0 } else { count.swap(0, Ordering::Relaxed) };
        Counts {
            requests: collect(&self.requests),
            bytes: collect(&self.bytes),
            hits: collect(&self.hits),
            errors: collect(&self.errors),
            transforms: collect(&self.transforms),
            cpu_us: collect(&self.cpu_us),
        }
    }
}

/// What was used, by day (UTC, counted from 1970-01-01) and tenant.
pub type Used = BTreeMap<(u32, TenantId), Counts>;

/// The accounts of all tenants, and what was collected from them. They outlive changes of a tenant, its name and its end.
#[derive(Debug, Default)]
pub struct Accounts {
    open: Mutex<HashMap<TenantId, Arc<Account>>>,
    collected: Mutex<Collected>,
}

#[derive(Debug, Default)]
struct Collected {
    /// When that was last done.
    day: Option<u32>,
    used: Used,
}

impl Accounts {
    /// That of a tenant.
    pub fn of(&self, tenant: &TenantId) -> Arc<Account> {
        let mut open = self.open.lock();
        if let Some(account) = open.get(tenant) {
            return Arc::clone(account);
        }
        Arc::clone(open.entry(tenant.clone()).or_default())
    }

    /// Collects all at midnight, for ever: what comes after that is another day's.
    pub async fn watch(&self) {
        loop {
            let now = UnixMillis::now().0;
            tokio::time::sleep(Duration::from_millis(DAY_MILLIS - now % DAY_MILLIS)).await;
            self.collect(day(UnixMillis::now()));
        }
    }

    /// All that was used until now and not taken before.
    pub fn take(&self, now: UnixMillis) -> Used {
        self.collect(day(now));
        take(&mut self.collected.lock().used)
    }

    /// What was used since the last time counts for the day that it was then.
    fn collect(&self, today: u32) {
        let mut collected = self.collected.lock();
        let of_day = collected.day.replace(today).unwrap_or(today);
        self.open.lock().retain(|tenant, account| {
            // No policy has it any more, and nobody gets it without the lock.
            let is_over = Arc::strong_count(account) == 1;
            let counts = account.collect();
            if !counts.is_empty() {
                *collected.used.entry((of_day, tenant.clone())).or_default() += counts;
            }
            !is_over
        });
    }
}

/// The day of a time.
pub fn day(time: UnixMillis) -> u32 {
    u32::try_from(time.0 / DAY_MILLIS).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: UnixMillis = UnixMillis(20_000 * DAY_MILLIS);

    fn later(days: u64) -> UnixMillis {
        UnixMillis(DAY.0 + days * DAY_MILLIS)
    }

    #[test]
    fn everything_is_taken_once_whoever_counts_meanwhile() {
        let accounts = Accounts::default();
        let account = accounts.of(&TenantId::new("a"));
        let mut taken = Counts::default();
        std::thread::scope(|scope| {
            let counting: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        for number in 0..10_000 {
                            account.answered(if number % 10 == 0 { 404 } else { 200 }, 3, number % 2 == 0);
                        }
                        account.made();
                        account.worked(Duration::from_micros(7));
                    })
                })
                .collect();
            while !counting.iter().all(|thread| thread.is_finished()) {
                accounts.take(DAY).into_values().for_each(|counts| taken += counts);
            }
        });
        accounts.take(DAY).into_values().for_each(|counts| taken += counts);
        let expected =
            Counts { requests: 40_000, bytes: 120_000, hits: 20_000, errors: 4_000, transforms: 4, cpu_us: 28 };
        assert_eq!(taken, expected);
    }

    #[test]
    fn what_was_used_before_midnight_counts_for_the_day_before() {
        let accounts = Accounts::default();
        let (a, tenant) = (accounts.of(&TenantId::new("a")), TenantId::new("a"));
        assert!(accounts.take(DAY).is_empty());
        a.made();
        accounts.collect(day(later(1)));
        a.made();
        a.made();
        let used = accounts.take(later(1));
        let made: Vec<_> = used.iter().map(|((day, of), counts)| (*day, of.clone(), counts.transforms)).collect();
        assert_eq!(made, [(20_000, tenant.clone(), 1), (20_001, tenant, 2)]);
    }

    #[test]
    fn a_tenant_that_is_gone_is_forgotten_once_it_was_collected() {
        let accounts = Accounts::default();
        let tenant = TenantId::new("a");
        let account = accounts.of(&tenant);
        account.made();
        // As under another name.
        assert!(Arc::ptr_eq(&account, &accounts.of(&tenant)));
        drop(account);
        assert_eq!(accounts.take(DAY).len(), 1);
        assert!(accounts.open.lock().is_empty() && accounts.take(DAY).is_empty());
    }
}
