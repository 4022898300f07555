//! Renditions by request: the cache key, the look-up, and joining or starting the one fill.
//!
//! Must not make pixels, and must not know how an answer is written.

use std::sync::{Arc, OnceLock};

use cache::{CacheKey, Entry, FlightError, KeyBuilder, Lookup, Role, Tier, UnixMillis};
use imaging::{Class, ENCODER_VERSION};
use tenancy::{Freshness, Tenant};
use transform_url::Transform;

use crate::access::Origination;
use crate::edge::{Edge, Facts, Located};
use crate::fill::FillReport;
use crate::problem::EdgeError;

/// What is to be delivered, fully decided.
pub struct Plan {
    /// Whose picture.
    pub tenant: Arc<Tenant>,
    /// Which original.
    pub located: Located,
    /// What is done to it.
    pub transform: Transform,
    /// The client's class, if the format is negotiated.
    pub class: Option<Class>,
    /// The policy's version when the request came.
    pub sequence: u64,
}

impl Plan {
    /// Everything that the bytes of the answer depend on, and nothing else.
    pub fn key(&self) -> CacheKey {
        KeyBuilder::new()
            .number(u64::from(ENCODER_VERSION))
            .part(self.tenant.id.as_str().as_bytes())
            .part(self.located.origin.identity.as_bytes())
            .part(self.located.path.as_str().as_bytes())
            .part(self.transform.cache_text().as_bytes())
            .number(self.class.map_or(0, |class| class as u64 + 1))
            .finish()
    }
}

/// An answer from the cache or a fill.
pub struct RenditionAnswer {
    /// The rendition, or a cached problem.
    pub entry: Entry,
    /// How it came.
    pub came: Came,
    /// The URL carries a version: the answer never changes.
    pub versioned: bool,
    /// How long clients may use it.
    pub freshness: Freshness,
    /// The file name of a download.
    pub download: Option<String>,
}

/// How an answer came, for `Cache-Status` (RFC 9211).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// From memory, fresh.
    Memory,
    /// From disk, fresh.
    Disk,
    /// From the cache past its freshness, while it is refreshed.
    Stale,
    /// Made for this request.
    Filled {
        /// The cache had one that was too old.
        had_expired: bool,
    },
    /// Made for another request at the same time.
    Collapsed,
}

impl Edge {
    /// The rendition of `plan`: from memory, from disk, or made once for all who ask now.
    pub async fn rendition(&self, plan: Plan, facts: &mut Facts) -> Result<RenditionAnswer, EdgeError> {
        let (key, now) = (plan.key(), UnixMillis::now());
        let versioned = plan.transform.is_versioned();
        let freshness = plan.tenant.freshness;
        let download = plan.transform.download().map(str::to_owned);
        let lookup = match self.cache.memory(key, now) {
            Some(found) => found,
            None => self.cache.lookup(key, now).await,
        };
        let (entry, came) = match lookup {
            Lookup::Fresh(entry, Tier::Memory) => (entry, Came::Memory),
            Lookup::Fresh(entry, Tier::Disk) => (entry, Came::Disk),
            Lookup::Stale(entry, _) => {
                // Nobody waits for the refresh; what goes wrong with it is logged by the filler.
                drop(self.start_fill(key, now, plan, Some(entry.clone()), None));
                (entry, Came::Stale)
            }
            Lookup::Miss { expired } => self.wait_for_fill(key, now, plan, expired, facts).await?,
        };
        facts.origination = match came {
            Came::Memory => Origination::Memory,
            Came::Disk => Origination::Disk,
            Came::Stale => Origination::Stale,
            Came::Filled { .. } => Origination::Miss,
            Came::Collapsed => Origination::Collapsed,
        };
        Ok(RenditionAnswer { entry, came, versioned, freshness, download })
    }

    async fn wait_for_fill(
        &self,
        key: CacheKey,
        now: UnixMillis,
        plan: Plan,
        expired: Option<Entry>,
        facts: &mut Facts,
    ) -> Result<(Entry, Came), EdgeError> {
        let (report, had_expired) = (Arc::new(OnceLock::new()), expired.is_some());
        let flight = self.start_fill(key, now, plan, expired, Some(Arc::clone(&report)));
        let came = match flight.role() {
            Role::Follower => Came::Collapsed,
            Role::Leader | Role::Refused => Came::Filled { had_expired },
        };
        facts.origination = if came == Came::Collapsed { Origination::Collapsed } else { Origination::Miss };
        let outcome = flight.wait(self.filler.deadline()).await;
        facts.fill = report.get().cloned();
        match outcome {
            Ok(entry) => Ok((entry, came)),
            Err(FlightError::Failed(error)) => Err(error),
            Err(FlightError::TimedOut) => Err(EdgeError::Deadline),
            Err(FlightError::TooMany | FlightError::Aborted) => Err(EdgeError::Busy),
            Err(FlightError::Panicked) => Err(EdgeError::Internal),
        }
    }

    fn start_fill(
        &self,
        key: CacheKey,
        now: UnixMillis,
        plan: Plan,
        previous: Option<Entry>,
        report: Option<Arc<OnceLock<FillReport>>>,
    ) -> cache::Flight<EdgeError> {
        let filler = Arc::clone(&self.filler);
        self.cache.flight(key, now, move || async move { filler.fill(&plan, previous, report.as_deref()).await })
    }
}
