//! From the policy's origins to what is read from: object stores and guarded clients.
//!
//! Must not read originals: that is the fill's and the original's business.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use fetch::{FetchConfig, Fetcher, HeaderMap, PrivateHosts};
use http::{HeaderName, HeaderValue};
use storage::{FolderStore, ObjectStore, S3Config, S3Store, Secret, StoreSettings};
use tenancy::{HttpOrigin, Origin, OriginKind, S3Origin, Tenant, UrlSources};
use tokio::sync::Semaphore;
use transform_url::OriginName;

use crate::source::{Source, WebSource};
use crate::uploads::{TenantUploads, UploadStore};

/// The identity of a tenant's uploads.
pub const UPLOADS: &str = "uploads";

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
    /// True for the uploads of a tenant.
    pub fn is_uploads(&self) -> bool {
        matches!(self.store, Ok(Source::Uploads(_)))
    }

    /// Tags of all its pictures.
    pub fn tags(&self) -> &[String] {
        self.origin.as_ref().map_or(&[], |origin| &origin.tags)
    }
}

/// The origins of one tenant, each opened when it is first asked for: of a hundred thousand tenants few are at a time.
#[derive(Debug)]
pub struct OpenOrigins {
    named: HashMap<OriginName, LazyOrigin>,
    /// What its URLs lead to, if it has any.
    urls: Option<LazyOrigin>,
    /// Its uploads, if it can have any.
    uploads: Option<Arc<OpenOrigin>>,
}

#[derive(Debug)]
struct LazyOrigin {
    /// `None` for all that the tenant's URLs lead to.
    origin: Option<Arc<Origin>>,
    /// Once it could be opened; until then it is tried again by each who asks.
    opened: OnceLock<Arc<OpenOrigin>>,
    is_told: AtomicBool,
}

impl LazyOrigin {
    /// Takes over what was opened `before`, with its connections, unless it is another origin now or could not be opened.
    fn new(origin: Option<&Arc<Origin>>, urls: &Arc<UrlSources>, before: Option<&Self>) -> Self {
        let opened = before.and_then(|before| before.opened.get());
        let is_same =
            |open: &&Arc<OpenOrigin>| open.store.is_ok() && open.origin.as_ref() == origin && open.urls == *urls;
        let same = opened.filter(is_same).map(|open| OnceLock::from(Arc::clone(open)));
        Self { origin: origin.cloned(), opened: same.unwrap_or_default(), is_told: AtomicBool::new(false) }
    }

    fn open(&self, tenant: &Tenant) -> Arc<OpenOrigin> {
        if let Some(open) = self.opened.get() {
            return Arc::clone(open);
        }
        let open = Arc::new(match &self.origin {
            Some(origin) => open_one(origin, &tenant.urls),
            None => open_urls(&tenant.urls),
        });
        match &open.store {
            Ok(_) => Arc::clone(self.opened.get_or_init(|| open)),
            Err(reason) => {
                if !self.is_told.swap(true, Ordering::Relaxed) {
                    tracing::error!(tenant = %tenant.slug, origin = open.identity, reason, "origin cannot be opened");
                }
                open
            }
        }
    }
}

impl OpenOrigins {
    /// The origins of `tenant`, whose uploads are in `uploads`; those that did not change keep what was opened `before`.
    pub fn new(tenant: &Tenant, uploads: Option<&Arc<UploadStore>>, before: Option<&Self>) -> Self {
        let named = |(name, origin): (&OriginName, &Arc<Origin>)| {
            let before = before.and_then(|before| before.named.get(name));
            (name.clone(), LazyOrigin::new(Some(origin), &tenant.urls, before))
        };
        let named = tenant.origins.iter().map(named).collect();
        let before = before.and_then(|before| before.urls.as_ref());
        let urls = (!tenant.urls.allowed.is_empty()).then(|| LazyOrigin::new(None, &tenant.urls, before));
        let uploads = uploads.map(|all| {
            let source = Source::Uploads(TenantUploads::new(all, &tenant.id));
            let (identity, urls, store) = (UPLOADS.to_owned(), Arc::clone(&tenant.urls), Ok(source));
            Arc::new(OpenOrigin { origin: None, urls, identity, store, listing: Arc::new(Semaphore::new(1)) })
        });
        Self { named, urls, uploads }
    }

    /// Opens all that are not, so that what is wrong with them shows now.
    pub fn open_all(&self, tenant: &Tenant) {
        for origin in self.named.values().chain(&self.urls) {
            origin.open(tenant);
        }
    }

    /// The origin of this name. `tenant` is whose origins these are.
    pub fn get(&self, tenant: &Tenant, name: &OriginName) -> Option<Arc<OpenOrigin>> {
        self.named.get(name).map(|origin| origin.open(tenant))
    }

    /// The tenant's uploads, if it can have any.
    pub fn uploads(&self) -> Option<&Arc<OpenOrigin>> {
        self.uploads.as_ref()
    }

    /// What the tenant's URLs lead to, if it allows any.
    pub fn urls(&self, tenant: &Tenant) -> Option<Arc<OpenOrigin>> {
        self.urls.as_ref().map(|origin| origin.open(tenant))
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
fn open_s3(origin: &S3Origin) -> Result<ObjectStore, String> {
    let settings = StoreSettings {
        folder: None,
        bucket: Some(origin.bucket.clone()),
        prefix: origin.prefix.clone(),
        region: origin.region.clone(),
        endpoint: origin.endpoint.clone(),
        access_key_id: origin.access_key_id.clone(),
        secret_access_key: origin.secret_access_key.as_ref().map(|secret| Secret::new(secret.expose())),
    };
    let config = settings.s3()?.ok_or("it has no bucket")?;
    let config = S3Config { path_style: origin.path_style, ..config };
    S3Store::new(config).map(ObjectStore::from).map_err(|error| error.to_string())
}
