//! How many archives are sent at the same time, by a process and for each tenant.

use std::collections::HashMap;
use std::sync::Arc;

use isolation::TenantKey;
use parking_lot::Mutex;
use prometheus::IntGauge;

use crate::problem::ApiError;

/// Places for archives that are being sent.
#[derive(Debug)]
pub(super) struct Places {
    all: usize,
    of_tenant: usize,
    taken: Mutex<HashMap<TenantKey, usize>>,
    running: IntGauge,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    tenant: TenantKey,
}

impl Places {
    pub(super) fn new(all: usize, of_tenant: usize, running: IntGauge) -> Self {
        Self { all, of_tenant, taken: Mutex::default(), running }
    }

    /// A place for this tenant.
    ///
    /// # Errors
    /// [`ApiError::TooManyDownloads`] when the tenant has as many as it may, [`ApiError::Busy`] when all are taken.
    pub(super) fn take(places: &Arc<Self>, tenant: TenantKey) -> Result<Place, ApiError> {
        let mut taken = places.taken.lock();
        if taken.get(&tenant).copied().unwrap_or_default() >= places.of_tenant {
            return Err(ApiError::TooManyDownloads { limit: places.of_tenant });
        }
        if taken.values().sum::<usize>() >= places.all {
            return Err(ApiError::Busy);
        }
        *taken.entry(tenant).or_default() += 1;
        places.running.inc();
        Ok(Place { places: Arc::clone(places), tenant })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        if let Some(count) = taken.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.tenant);
            }
        }
        self.places.running.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_tenant_takes_all_places_and_each_is_given_back() {
        let running = IntGauge::new("running", "running").expect("a gauge");
        let places = Arc::new(Places::new(3, 2, running.clone()));
        let (one, other) = (TenantKey::generate(), TenantKey::generate());
        let take = |tenant| Places::take(&places, tenant);
        let first = take(one).expect("the first");
        let _second = take(one).expect("the second");
        assert!(matches!(take(one), Err(ApiError::TooManyDownloads { limit: 2 })));
        let _third = take(other).expect("the other's");
        assert!(matches!(take(other), Err(ApiError::Busy)));
        assert_eq!(running.get(), 3);
        drop(first);
        assert_eq!(running.get(), 2);
        let _fourth = take(other).expect("the place that was given back");
    }
}
