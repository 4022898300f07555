//! Fast now, better later: renditions that were made in haste are made once more when there is nothing else to do, and take
//! the place of the first ones if they have fewer bytes for the same look.
//!
//! What was asked for once may never be asked for again, so a draft waits from its first hit on. One is made at a time,
//! with CPU time that nobody wants (`pool/idle.rs`). Nobody waits for it and nobody is told of failures but the metrics:
//! the draft is good enough, and stays.
//!
//! Must not make a draft look fresher than it is, and must not bring back what was purged: what takes its place has its
//! times and marks, and takes it only from the draft itself (`cache::Draft`).

mod metrics;
mod queue;
mod remake;

use std::sync::Arc;
use std::time::{Duration, Instant};

use cache::{CacheKey, RenditionCache, UnixMillis};
use imaging::Class;
use parking_lot::Mutex;
use prometheus::Registry;
use tokio::sync::{Notify, watch};
use traces::{Incoming, Kind, Span};

use self::metrics::{Ended, ImprovementMetrics};
use self::queue::{Asked, Queue, Waiting};
use self::remake::{Failure, Outcome, remake};
use crate::decision::{Decision, Wanted};
use crate::fill::{Filler, Plan};
use crate::policy::PolicyInForce;
use crate::problem::EdgeError;

/// How often one is begun that has to give way to other work.
const TRIES_MAX: u32 = 3;

/// How long a draft is left alone after it was outdated: it may be evicted again and again.
const REST_OUTDATED: Duration = Duration::from_secs(5);
/// The same after its source has failed, or there was other work each time.
const REST_FAILED: Duration = Duration::from_secs(60);
/// The same after it turned out to be too much, which will hardly change.
const REST_TOO_HEAVY: Duration = Duration::from_secs(3600);

/// What a draft that waits is taken to hold in memory, beside its path: its decision, with all that the ops say.
const HELD_BYTES: usize = 2048;

/// A draft to be made better.
struct Order {
    decision: Arc<Decision>,
    class: Class,
}

/// Makes drafts better.
pub struct Improvements {
    filler: Arc<Filler>,
    cache: RenditionCache<EdgeError>,
    policy: Arc<PolicyInForce>,
    queue: Mutex<Queue<Order>>,
    asked: Notify,
    metrics: ImprovementMetrics,
}

impl Improvements {
    /// None waits yet.
    ///
    /// # Errors
    /// When the metrics are registered already.
    pub fn new(
        filler: Arc<Filler>,
        cache: RenditionCache<EdgeError>,
        policy: Arc<PolicyInForce>,
        registry: &Registry,
    ) -> prometheus::Result<Arc<Self>> {
        let metrics = ImprovementMetrics::register(registry)?;
        Ok(Arc::new(Self { filler, cache, policy, queue: Mutex::default(), asked: Notify::new(), metrics }))
    }

    /// A draft was asked for again: it is worth to be made better. Returns at once.
    pub fn ask(&self, decision: &Arc<Decision>, class: Class, key: CacheKey) {
        if !decision.tenant.improve_when_idle {
            return;
        }
        let held = (HELD_BYTES + decision.path.as_str().len(), Instant::now());
        let order = || Order { decision: Arc::clone(decision), class };
        match self.queue.lock().ask(key, &decision.tenant.id, held, order) {
            Asked::Known => {}
            Asked::Full => self.metrics.ended(Ended::Dropped),
            Asked::Queued => {
                self.metrics.queued.inc();
                self.metrics.waiting.inc();
                self.asked.notify_one();
            }
        }
    }

    /// Makes one after the other, until the edge is `draining`.
    pub async fn run(self: Arc<Self>, mut draining: watch::Receiver<bool>) {
        let work = async {
            loop {
                self.until_asked().await;
                self.filler.pool.until_idle().await;
                self.next().await;
            }
        };
        tokio::select! {
            () = work => {}
            _ = draining.wait_for(|is_draining| *is_draining) => {}
        }
    }

    async fn until_asked(&self) {
        loop {
            let asked = self.asked.notified();
            if self.queue.lock().len() > 0 {
                return;
            }
            asked.await;
        }
    }

    async fn next(&self) {
        let Some(next) = self.queue.lock().take() else { return };
        self.metrics.waiting.dec();
        let span = Span::begin("improvement", Kind::Internal, Incoming::Nothing);
        let ended = span.over(self.improve(&next)).await;
        drop(span);
        if ended == Ended::Busy && next.tries + 1 < TRIES_MAX {
            self.metrics.waiting.inc();
            return self.queue.lock().put_back(next);
        }
        self.metrics.ended(ended);
        let rest = match ended {
            Ended::Improved | Ended::NotSmaller | Ended::Refreshed | Ended::Dropped => None,
            Ended::Outdated => Some(REST_OUTDATED),
            Ended::Busy | Ended::Failed => Some(REST_FAILED),
            Ended::TooHeavy => Some(REST_TOO_HEAVY),
        };
        self.queue.lock().ended(next.key, rest.map(|rest| Instant::now() + rest));
    }

    async fn improve(&self, next: &Waiting<Order>) -> Ended {
        let Order { decision, class } = &next.what;
        let Wanted::Rendition(wanted) = &decision.wanted else { return Ended::Outdated };
        // Who asks under the new policy lets it wait again, if that still wants it.
        if self.policy.get().sequence != decision.sequence {
            return Ended::Outdated;
        }
        match self.replace(&Plan { decision, wanted, class: *class }, next.key).await {
            Ok(ended) => ended,
            Err(Failure::Busy) => Ended::Busy,
            Err(Failure::TooHeavy) => Ended::TooHeavy,
            Err(Failure::Edge(error)) => {
                let (tenant, path) = (&decision.tenant.slug, decision.path.as_str());
                tracing::info!(%tenant, path, cause = error.cause(), %error, "a draft stays as it is");
                Ended::Failed
            }
        }
    }

    /// Makes what the key has once more, if that is a draft, and lets the result take its place.
    async fn replace(&self, plan: &Plan<'_>, key: CacheKey) -> Result<Ended, Failure> {
        let Some(draft) = self.cache.draft(key, UnixMillis::now()).await else { return Ok(Ended::Outdated) };
        let before = draft.entry().body.len();
        let remade = remake(&self.filler, plan, draft.entry()).await?;
        self.metrics.ran(remade.ran);
        let (rendition, ended) = match remade.result {
            Outcome::Smaller(rendition) => (rendition, Ended::Improved),
            Outcome::AsGood(rendition) => (rendition, Ended::NotSmaller),
            Outcome::OfChanged(rendition) => (rendition, Ended::Refreshed),
            Outcome::Unkept => return Ok(Ended::Outdated),
        };
        let replaced = draft.replace(&plan.decision.subject(), rendition.clone(), UnixMillis::now()).await;
        let Some(entry) = replaced else { return Ok(Ended::Outdated) };
        if ended == Ended::Improved {
            self.metrics.saved(before.saturating_sub(entry.body.len()));
        }
        if let Some(second_level) = self.filler.second_level(plan) {
            second_level.keep(key, rendition, remade.asked);
        }
        Ok(ended)
    }
}
