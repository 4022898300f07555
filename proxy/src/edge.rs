//! The edge without sockets: from a request head to an answer, in the order of the phases.
//!
//! limits → tenant → parse → authorise → negotiate → key → memory → disk → single flight. Nothing is served that the
//! policy in force refuses, so everything up to the key happens before the cache is asked.
//! Must not write to a connection: that is the server's business.

use std::sync::Arc;

use cache::RenditionCache;
use http::{Method, header};
use imaging::Class;
use pingora_http::RequestHeader;
use storage::ObjectPath;
use tenancy::Tenant;
use tokio::runtime::Handle;
use transform_url::native::{self, Delivery, Request};
use transform_url::value::Format;
use transform_url::{Ops, Source, Transform};

use crate::access::Origination;
use crate::fill::{FillReport, Filler};
use crate::negotiate::classify;
use crate::original::{self, OriginalAnswer};
use crate::origins::OpenOrigin;
use crate::policy::{ActivePolicy, PolicyInForce};
use crate::problem::EdgeError;
use crate::rendition::{Plan, RenditionAnswer};

/// Everything that serving needs; shared by all connections.
pub struct Edge {
    /// What requests are judged by.
    pub policy: Arc<PolicyInForce>,
    /// Finished renditions. Its fills run on the IO runtime.
    pub cache: RenditionCache<EdgeError>,
    /// Makes renditions.
    pub filler: Arc<Filler>,
    /// The runtime of everything that outlives a connection: fills, the disk, connections to stores.
    pub io: Handle,
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
    /// The tenant, once it is known.
    pub tenant: Option<Arc<Tenant>>,
    /// Where the answer came from.
    pub origination: Origination,
    /// What the fill took, if this request started it.
    pub fill: Option<FillReport>,
}

impl Default for Facts {
    fn default() -> Self {
        Self { tenant: None, origination: Origination::None, fill: None }
    }
}

/// The store and path that a source means.
pub struct Located {
    /// The origin.
    pub origin: Arc<OpenOrigin>,
    /// The path in its store.
    pub path: ObjectPath,
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
        if !matches!(head.method, Method::GET | Method::HEAD) {
            return Err(EdgeError::Method);
        }
        let active = self.policy.get();
        let host_tenant = active.policy.tenant_of_host(host(head));
        let request = native::parse(head.raw_path(), host_tenant.map(|tenant| &tenant.slug))?;
        let tenant = active.policy.tenant(&request.tenant);
        let tenant = tenant.ok_or_else(|| EdgeError::UnknownTenant(request.tenant.to_string()))?;
        facts.tenant = Some(Arc::clone(tenant));
        authorise(tenant, &request)?;
        let located = locate(&active, tenant, &request.source)?;
        match &request.delivery {
            Delivery::Original => {
                facts.origination = Origination::Original;
                original::open(self, located, head).await.map(Answer::Original)
            }
            Delivery::Transform(ops) => {
                let plan = self.plan(&active, tenant, ops, located, head)?;
                self.rendition(plan, facts).await.map(Answer::Rendition)
            }
        }
    }

    fn plan(
        &self,
        active: &ActivePolicy,
        tenant: &Arc<Tenant>,
        ops: &Ops,
        located: Located,
        head: &RequestHeader,
    ) -> Result<Plan, EdgeError> {
        let transform = ops.resolve(|name| tenant.presets.get(name))?;
        imaging::supports(&transform).map_err(|error| EdgeError::NotImplemented(format!("the op {:?}", error.op)))?;
        let class = negotiated_class(&transform, head);
        Ok(Plan { tenant: Arc::clone(tenant), located, transform, class, sequence: active.policy.sequence() })
    }
}

/// The client's class, if the answer depends on it.
fn negotiated_class(transform: &Transform, head: &RequestHeader) -> Option<Class> {
    (transform.format() == Format::Auto)
        .then(|| head.headers.get(header::ACCEPT).map_or(Class::Legacy, |accept| classify(accept.as_bytes())))
}

fn host(head: &RequestHeader) -> &str {
    let header = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    header.or_else(|| head.uri.host()).unwrap_or_default()
}

/// Refuses what the tenant's policy does not allow to this URL.
fn authorise(tenant: &Tenant, request: &Request<'_>) -> Result<(), EdgeError> {
    if !request.signature.is_empty() {
        return Err(EdgeError::NotImplemented("signing".to_owned()));
    }
    if !tenant.open {
        return Err(EdgeError::SignatureRequired);
    }
    if request.delivery == Delivery::Original && !tenant.originals {
        return Err(EdgeError::OriginalsOff);
    }
    Ok(())
}

fn locate(active: &ActivePolicy, tenant: &Tenant, source: &Source) -> Result<Located, EdgeError> {
    match source {
        Source::Origin { origin: name, path } => {
            let origin =
                active.origins.get(&tenant.id, name).ok_or_else(|| EdgeError::UnknownOrigin(name.to_string()))?;
            let path = ObjectPath::new(path.as_str()).map_err(storage::StorageError::from)?;
            Ok(Located { origin: Arc::clone(origin), path })
        }
        Source::Upload(_) => Err(EdgeError::NotImplemented("serving uploads by public id".to_owned())),
        Source::Url(_) => Err(EdgeError::NotImplemented("fetching sources by URL".to_owned())),
    }
}

impl Located {
    /// The opened store.
    ///
    /// # Errors
    /// [`EdgeError::BrokenOrigin`] when it could not be opened.
    pub fn store(&self) -> Result<&storage::ObjectStore, EdgeError> {
        self.origin.store.as_ref().map_err(|reason| EdgeError::BrokenOrigin(reason.clone()))
    }
}
