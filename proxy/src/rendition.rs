//! Renditions by request: the look-up, and joining or starting the one fill.
//!
//! Must not make pixels, and must not know how an answer is written.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use cache::{CacheKey, Entry, Flight, FlightError, Lookup, Role, Tier, UnixMillis};
use imaging::Class;
use traces::Span;

use crate::access::Origination;
use crate::decision::{Decision, Wanted, WantedRendition};
use crate::edge::{Edge, Facts};
use crate::fill::{FillReport, Plan};
use crate::kept;
use crate::problem::EdgeError;
use crate::rates::Kind;

/// An answer from the cache or a fill.
pub struct RenditionAnswer {
    /// The rendition, or a cached problem.
    pub entry: Entry,
    /// How it came.
    pub came: Came,
    /// What was asked for.
    pub decision: Arc<Decision>,
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
    /// From the cache past its use: its source failed a moment ago.
    Held,
    /// Made for this request.
    Filled {
        /// The cache had one that was too old.
        had_expired: bool,
    },
    /// From the second level, for this request.
    SecondLevel,
    /// Made for another request at the same time.
    Collapsed,
}

impl Came {
    fn origination(self) -> Origination {
        match self {
            Self::Memory => Origination::Memory,
            Self::Disk => Origination::Disk,
            Self::Stale => Origination::Stale,
            Self::Held => Origination::StaleIfError,
            Self::SecondLevel => Origination::SecondLevel,
            Self::Filled { .. } => Origination::Miss,
            Self::Collapsed => Origination::Collapsed,
        }
    }
}

/// A fill to start: of what, for whom, instead of what.
struct FillOrder<'a> {
    decision: &'a Arc<Decision>,
    key: CacheKey,
    class: Class,
    now: UnixMillis,
    client: IpAddr,
}

impl Edge {
    /// The rendition that was decided on, for a client of this class: from memory, from disk, or made once for all who
    /// ask now.
    pub async fn rendition(
        &self,
        decision: &Arc<Decision>,
        wanted: &WantedRendition,
        class: Class,
        facts: &mut Facts,
    ) -> Result<RenditionAnswer, EdgeError> {
        let order = FillOrder { decision, key: wanted.key(class), class, now: UnixMillis::now(), client: facts.client };
        let lookup = match self.cache.memory(order.key, order.now) {
            Some(found) => found,
            None => self.cache.lookup(order.key, order.now).await,
        };
        let (entry, came) = match lookup {
            Lookup::Fresh(entry, tier) => {
                if entry.is_draft {
                    self.improvements.ask(decision, class, order.key);
                }
                let came = match tier {
                    Tier::Memory => Came::Memory,
                    Tier::Disk => Came::Disk,
                };
                (entry, came)
            }
            Lookup::Held(entry, _) => (entry, Came::Held),
            Lookup::Stale(entry, _) => {
                // Nobody waits for the refresh; what goes wrong with it is logged by the filler. If there are too many,
                // the next request tries again.
                drop(self.start_fill(&order, Some(entry.clone()), None));
                (entry, Came::Stale)
            }
            Lookup::Miss { expired } => {
                let old = expired.clone();
                match self.wait_for_fill(&order, expired, facts).await {
                    Ok(filled) => filled,
                    Err(error) => (self.instead(&order, old, &error).ok_or(error)?, Came::Held),
                }
            }
        };
        facts.origination = came.origination();
        Ok(RenditionAnswer { entry, came, decision: Arc::clone(decision) })
    }

    async fn wait_for_fill(
        &self,
        order: &FillOrder<'_>,
        expired: Option<Entry>,
        facts: &mut Facts,
    ) -> Result<(Entry, Came), EdgeError> {
        let (report, had_expired) = (Arc::new(OnceLock::new()), expired.is_some());
        let flight = self.start_fill(order, expired, Some(Arc::clone(&report)))?;
        let came = match flight.role() {
            Role::Follower => Came::Collapsed,
            Role::Leader | Role::Refused => Came::Filled { had_expired },
        };
        facts.origination = came.origination();
        let outcome = flight.wait(self.filler.deadline).await;
        facts.fill = report.get().cloned();
        match outcome {
            Ok(entry) if facts.fill.as_ref().is_some_and(|fill| fill.second_level) => Ok((entry, Came::SecondLevel)),
            Ok(entry) => Ok((entry, came)),
            Err(FlightError::Failed(error)) => Err(error),
            Err(FlightError::TimedOut) => Err(EdgeError::Deadline),
            Err(FlightError::TooMany | FlightError::Aborted) => Err(EdgeError::Busy),
            Err(FlightError::Panicked) => Err(EdgeError::Internal),
        }
    }

    /// What the cache had, if it is better than an error that the next request may be spared. The fill has seen to its own
    /// errors; here it is about fills that did not begin, or take too long for this client.
    fn instead(&self, order: &FillOrder<'_>, old: Option<Entry>, error: &EdgeError) -> Option<Entry> {
        let is_usable = |entry: &Entry| entry.lifetime.is_usable_on_error(order.now);
        let is_purged = |entry: &Entry| self.cache.is_purged(order.key, entry);
        old.filter(|entry| kept::is_better(entry, error) && is_usable(entry) && !is_purged(entry))
    }

    /// Joins the fill of a key or starts one, if neither the client nor the tenant starts too many.
    fn start_fill(
        &self,
        order: &FillOrder<'_>,
        previous: Option<Entry>,
        report: Option<Arc<OnceLock<FillReport>>>,
    ) -> Result<Flight<EdgeError>, EdgeError> {
        let (filler, decision, class) = (Arc::clone(&self.filler), Arc::clone(order.decision), order.class);
        let (cache, key) = (self.cache.clone(), order.key);
        // The fill runs elsewhere, and may outlive the request.
        let request = Span::current();
        let mut charged = Ok(());
        let may_start = || {
            charged = self.rates.charge(Kind::Fill, order.client, order.decision.active.rates.as_deref());
            charged.is_ok()
        };
        let flight = self.cache.flight_if(key, &order.decision.subject(), order.now, may_start, move || {
            let span = request.child("fill", traces::Kind::Internal);
            span.over(async move {
                let Wanted::Rendition(wanted) = &decision.wanted else { return Err(EdgeError::Internal) };
                // Purged since it was looked up: to renew it would bring it back.
                let previous = previous.filter(|entry| !cache.is_purged(key, entry));
                filler.fill(&Plan { decision: &decision, wanted, class }, previous, report.as_deref()).await
            })
        });
        charged.map(|()| flight).map_err(EdgeError::from)
    }
}
