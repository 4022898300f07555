//! The edge without sockets: from a request head to an answer, in the order of the phases.
//!
//! limits → tenant → parse → authorise → rates → quotas → negotiate → key → memory → disk → single flight. Nothing is served that the
//! policy in force refuses, so everything up to the key happens before the cache is asked.
//! Must not write to a connection: that is the server's business.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use cache::{RenditionCache, UnixMillis};
use http::{Method, header};
use imaging::Class;
use pingora_http::RequestHeader;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::access::Origination;
use crate::authorise::check_expiry;
use crate::decision::{Decision, Wanted};
use crate::fill::{FillReport, Filler};
use crate::header_limits::HeaderLimits;
use crate::improvements::Improvements;
use crate::negotiate::classify;
use crate::original::{self, OriginalAnswer};
use crate::policy::PolicyInForce;
use crate::problem::EdgeError;
use crate::rates::{Kind, RateLimits};
use crate::rendition::RenditionAnswer;
use crate::tenants::ActiveTenant;
use crate::{quotas, recent};

/// Everything that serving needs; shared by all connections.
pub struct Edge {
    /// What requests are judged by.
    pub policy: Arc<PolicyInForce>,
    /// Finished renditions. Its fills run on the IO runtime.
    pub cache: RenditionCache<EdgeError>,
    /// Makes renditions.
    pub filler: Arc<Filler>,
    /// Makes those better that were made in haste.
    pub improvements: Arc<Improvements>,
    /// The runtime of everything that outlives a connection: fills, the disk, connections to stores.
    pub io: Handle,
    /// How fast requests may come.
    pub rates: RateLimits,
    /// Largest header that is accepted.
    pub header: HeaderLimits,
    /// Largest original that `-` passes through, in bytes.
    pub original_bytes_max: u64,
}

/// What a request is answered with.
pub enum Answer {
    /// A rendition, or a cached "there is none".
    Rendition(RenditionAnswer),
    /// The original.
    Original(OriginalAnswer),
    /// A refusal or a failure.
    Problem(EdgeError),
}

/// What the access event tells beside the answer itself.
pub struct Facts {
    /// Whom the request comes from.
    pub client: IpAddr,
    /// The tenant, once it is known.
    pub tenant: Option<Arc<ActiveTenant>>,
    /// Where the answer came from.
    pub origination: Origination,
    /// What the fill took, if this request started it.
    pub fill: Option<FillReport>,
}

impl Default for Facts {
    fn default() -> Self {
        Self { client: Ipv4Addr::UNSPECIFIED.into(), tenant: None, origination: Origination::None, fill: None }
    }
}

impl Edge {
    /// Answers a request. Never fails: a failure is an answer too.
    pub async fn answer(&self, head: &RequestHeader, facts: &mut Facts) -> Answer {
        match self.deliver(head, facts).await {
            Ok(answer) => answer,
            Err(error) => Answer::Problem(error),
        }
    }

    async fn deliver(&self, head: &RequestHeader, facts: &mut Facts) -> Result<Answer, EdgeError> {
        self.header.check(head)?;
        if !matches!(head.method, Method::GET | Method::HEAD) {
            return Err(EdgeError::Method);
        }
        // An edge as the origin of an edge, or of itself: each would wait for the next.
        if fetch::is_fetch_of_ours(&head.headers) {
            return Err(EdgeError::Loop);
        }
        let decision = self.decide(head, &mut facts.tenant)?;
        self.rates.charge(Kind::Request, facts.client, decision.active.rates.as_deref())?;
        quotas::may_send(&decision.tenant)?;
        match &decision.wanted {
            Wanted::Original => {
                facts.origination = Origination::Original;
                // The store has patience of its own, for several tries; a client has less.
                let opened = timeout(self.filler.deadline, original::open(self, &decision, head)).await;
                opened.unwrap_or(Err(EdgeError::Deadline)).map(Answer::Original)
            }
            Wanted::Rendition(wanted) => {
                let class = if wanted.is_negotiated() { class(head) } else { Class::Legacy };
                self.rendition(&decision, wanted, class, facts).await.map(Answer::Rendition)
            }
        }
    }

    /// What the URL means under the policy in force.
    fn decide(&self, head: &RequestHeader, whose: &mut Option<Arc<ActiveTenant>>) -> Result<Arc<Decision>, EdgeError> {
        let active = self.policy.get();
        let host_tenant = active.tenant_of_host(host(head)).map(|active| &active.tenant.slug);
        let target = head.raw_path();
        let now = UnixMillis::now().0 / 1000;
        if let Some(decision) = recent::recall(&active, host_tenant, target) {
            *whose = Some(Arc::clone(&decision.active));
            check_expiry(decision.expires, now)?;
            return Ok(decision);
        }
        let decision = Arc::new(Decision::new(&active, host_tenant, target, now, whose)?);
        recent::remember(&active, host_tenant, target, &decision);
        Ok(decision)
    }
}

fn class(head: &RequestHeader) -> Class {
    head.headers.get(header::ACCEPT).map_or(Class::Legacy, |accept| classify(accept.as_bytes()))
}

fn host(head: &RequestHeader) -> &str {
    let header = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    header.or_else(|| head.uri.host()).unwrap_or_default()
}
