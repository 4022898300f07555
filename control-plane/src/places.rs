//! Places for work of which a process does only so much at the same time: so many in all, and of them a share for each tenant, so that
//! none takes all.
//!
//! Whoever finds none is told so at once. Must not make anybody wait, and must not know what the places are for.

use std::collections::HashMap;
use std::sync::Arc;

use isolation::TenantKey;
use parking_lot::Mutex;

/// So many places.
#[derive(Debug)]
pub struct Places {
    all: usize,
    of_tenant: usize,
    taken: Mutex<HashMap<TenantKey, usize>>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    tenant: TenantKey,
}

/// Why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The tenant has its share.
    Tenant,
    /// All are taken.
    All,
}

impl Places {
    /// So many, and of them so many for each tenant.
    pub fn new(all: usize, of_tenant: usize) -> Self {
        Self { all, of_tenant, taken: Mutex::default() }
    }

    /// How many a tenant may have.
    pub fn of_tenant(&self) -> usize {
        self.of_tenant
    }

    /// One for this tenant.
    ///
    /// # Errors
    /// [`Full`].
    pub fn take(places: &Arc<Self>, tenant: TenantKey) -> Result<Place, Full> {
        let mut taken = places.taken.lock();
        if taken.get(&tenant).copied().unwrap_or_default() >= places.of_tenant {
            return Err(Full::Tenant);
        }
        if taken.values().sum::<usize>() >= places.all {
            return Err(Full::All);
        }
        *taken.entry(tenant).or_default() += 1;
        Ok(Place { places: Arc::clone(places), tenant })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        if let Some(count) = taken.get_mut(&self.tenant) {
            *count -= 1;
            // Tenants that have none are forgotten.
            if *count == 0 {
                taken.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_tenant_takes_all_places_and_each_is_given_back() {
        let places = Arc::new(Places::new(3, 2));
        let (one, other) = (TenantKey::generate(), TenantKey::generate());
        let take = |tenant| Places::take(&places, tenant);
        let first = take(one).expect("the first");
        let _second = take(one).expect("the second");
        assert_eq!(take(one).expect_err("its share is taken"), Full::Tenant);
        let third = take(other).expect("the other's");
        assert_eq!(take(other).expect_err("all are taken"), Full::All);
        drop(first);
        let _fourth = take(other).expect("the place that was given back");
        drop(third);
        let _fifth = take(one).expect("it has one again");
        assert_eq!(places.taken.lock().values().sum::<usize>(), 3);
    }
}
