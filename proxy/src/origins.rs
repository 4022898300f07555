//! From the policy's origins to what is read from: object stores and guarded clients.
//!
//! Must not read originals: that is the fill's and the original's business.

use std::collections::HashMap;
use std::sync::Arc;

use fetch::{FetchConfig, Fetcher, HeaderMap, PrivateHosts};
use http::{HeaderName, HeaderValue};
use storage::{FolderStore, ObjectPath, ObjectStore, S3Config, S3Credentials, S3Store, Secret};
use tenancy::{HttpOrigin, Origin, OriginKind, Policy, S3Origin, TenantId, UrlSources};
use tokio::sync::Semaphore;
use transform_url::OriginName;

use crate::source::{Source, WebSource};

/// An origin that can be read from.
#[derive(Debug)]
pub struct OpenOrigin {
    /// The policy's word on it; a changed one is opened anew. `None` for all that the tenant's URLs lead to.
    origin: Option<Arc<Origin>>,
    /// The tenant's word on URLs, which redirects are held against.
    urls: Arc<UrlSources>,
    /// What belongs in cache keys, see [`Origin::identity`].
    pub identity: String,
    /// What is read from, or why it cannot be opened. A broken origin must not stop the others.
    pub store: Result<Source, String>,
    /// Held while the objects are listed. One listing at a time: a folder that hangs then costs one thread, however
    /// often it is asked for.
    pub listing: Arc<Semaphore>,
}

impl OpenOrigin {
    /// Tags of all its pictures.
    pub fn tags(&self) -> &[String] {
        self.origin.as_ref().map_or(&[], |origin| &origin.tags)
    }
}

/// Every origin of a policy, opened.
#[derive(Debug, Default)]
pub struct OpenOrigins(HashMap<TenantId, OpenTenant>);

/// The origins of one tenant.
#[derive(Debug, Default)]
struct OpenTenant {
    named: HashMap<OriginName, Arc<OpenOrigin>>,
    /// What its URLs lead to, if it has any.
    urls: Option<Arc<OpenOrigin>>,
}

impl OpenOrigins {
    /// Opens the origins of `policy`; those that did not change keep the store, with its connections, that they had.
    pub fn open(policy: &Policy, before: &Self) -> Self {
        let mut opened: HashMap<_, OpenTenant> = HashMap::new();
        for tenant in policy.tenants() {
            let open_tenant = opened.entry(tenant.id.clone()).or_default();
            for (name, origin) in &tenant.origins {
                let same = before.get(&tenant.id, name);
                let same = same.filter(|open| {
                    open.store.is_ok() && open.origin.as_ref() == Some(origin) && open.urls == tenant.urls
                });
                let open = same.map_or_else(|| Arc::new(open_one(origin, &tenant.urls)), Arc::clone);
                if let Err(reason) = &open.store {
                    tracing::error!(tenant = %tenant.slug, origin = %name, reason, "origin cannot be opened");
                }
                open_tenant.named.insert(name.clone(), open);
            }
            if !tenant.urls.allowed.is_empty() {
                let same = before.urls(&tenant.id).filter(|open| open.urls == tenant.urls);
                open_tenant.urls = Some(same.map_or_else(|| Arc::new(open_urls(&tenant.urls)), Arc::clone));
            }
        }
        Self(opened)
    }

    /// The origin of this name.
    pub fn get(&self, tenant: &TenantId, name: &OriginName) -> Option<&Arc<OpenOrigin>> {
        self.0.get(tenant)?.named.get(name)
    }

    /// What the tenant's URLs lead to, if it allows any.
    pub fn urls(&self, tenant: &TenantId) -> Option<&Arc<OpenOrigin>> {
        self.0.get(tenant)?.urls.as_ref()
    }
}

impl OpenOrigin {
    fn new(origin: Option<&Arc<Origin>>, urls: &Arc<UrlSources>, store: Result<Source, String>) -> Self {
        let identity = origin.map_or_else(|| "url".to_owned(), |origin| origin.identity());
        let (origin, urls) = (origin.map(Arc::clone), Arc::clone(urls));
        Self { origin, urls, identity, store, listing: Arc::new(Semaphore::new(1)) }
    }
}

fn open_one(origin: &Arc<Origin>, urls: &Arc<UrlSources>) -> OpenOrigin {
    let objects = |opened: Result<ObjectStore, String>| opened.map(Source::Objects);
    let store = match &origin.kind {
        OriginKind::Folder(path) => {
            objects(FolderStore::open(path).map(ObjectStore::from).map_err(|error| error.to_string()))
        }
        OriginKind::S3(s3) => objects(open_s3(s3)),
        OriginKind::Http(http) => open_http(http, urls),
    };
    OpenOrigin::new(Some(origin), urls, store)
}

/// A client for one base URL. Redirects may stay on its host, and go where the tenant's URLs may go.
fn open_http(http: &HttpOrigin, urls: &Arc<UrlSources>) -> Result<Source, String> {
    let base = Arc::new(http.clone());
    let mut headers = HeaderMap::new();
    for (name, value) in &http.headers {
        let name = HeaderName::try_from(name).map_err(|error| format!("headers: {error}"))?;
        let mut value = HeaderValue::try_from(value.expose()).map_err(|error| format!("headers: {error}"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    let (own, allowed) = (Arc::clone(&base), Arc::clone(urls));
    let config = FetchConfig {
        ports: http.base_url.port_or_known_default().into_iter().chain(ports(urls)).collect(),
        private: PrivateHosts::new(http.allow_private.iter().map(String::as_str)),
        headers,
        ..FetchConfig::new(Arc::new(move |url| own.is_own_host(url) || allowed.allow(url)))
    };
    Ok(Source::Web(WebSource { fetcher: Fetcher::new(config), base: Some(base) }))
}

/// A client for all that the tenant's URLs lead to.
fn open_urls(urls: &Arc<UrlSources>) -> OpenOrigin {
    let allowed = Arc::clone(urls);
    let config = FetchConfig {
        ports: ports(urls).collect(),
        private: PrivateHosts::new(urls.allow_private.iter().map(String::as_str)),
        ..FetchConfig::new(Arc::new(move |url| allowed.allow(url)))
    };
    OpenOrigin::new(None, urls, Ok(Source::Web(WebSource { fetcher: Fetcher::new(config), base: None })))
}

fn ports(urls: &UrlSources) -> impl Iterator<Item = u16> {
    urls.allowed.iter().filter_map(tenancy::UrlPattern::port)
}

/// A client for a bucket.
///
/// # Errors
/// Why none can be made.
pub fn open_s3(origin: &S3Origin) -> Result<ObjectStore, String> {
    let credentials = match (&origin.access_key_id, &origin.secret_access_key) {
        (Some(id), Some(secret)) => S3Credentials::new(id, Secret::new(secret.expose())),
        _ => S3Credentials::Environment,
    };
    let mut config = S3Config::new(&origin.bucket, credentials);
    let prefix = origin.prefix.trim_end_matches('/');
    if !prefix.is_empty() {
        config.prefix = Some(ObjectPath::new(prefix).map_err(|error| format!("prefix: {error}"))?);
    }
    config.endpoint.clone_from(&origin.endpoint);
    config.region.clone_from(&origin.region);
    config.path_style = origin.path_style;
    S3Store::new(config).map(ObjectStore::from).map_err(|error| error.to_string())
}
