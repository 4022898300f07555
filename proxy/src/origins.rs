//! From the policy's origins to opened object stores.
//!
//! Must not read objects: that is the fill's and the original's business.

use std::collections::HashMap;
use std::sync::Arc;

use storage::{FolderStore, ObjectPath, ObjectStore, S3Config, S3Credentials, S3Store, Secret};
use tenancy::{Origin, OriginKind, Policy, S3Origin, TenantId};
use tokio::sync::Semaphore;
use transform_url::OriginName;

/// An origin that can be read from.
#[derive(Debug)]
pub struct OpenOrigin {
    /// The policy's word on it; a changed one is opened anew.
    origin: Arc<Origin>,
    /// What belongs in cache keys, see [`Origin::identity`].
    pub identity: String,
    /// The store, or why it cannot be opened. A broken origin must not stop the others.
    pub store: Result<ObjectStore, String>,
    /// Held while the objects are listed. One listing at a time: a folder that hangs then costs one thread, however
    /// often it is asked for.
    pub listing: Arc<Semaphore>,
}

impl OpenOrigin {
    /// Tags of all its pictures.
    pub fn tags(&self) -> &[String] {
        &self.origin.tags
    }
}

/// Every origin of a policy, opened.
#[derive(Debug, Default)]
pub struct OpenOrigins(HashMap<TenantId, HashMap<OriginName, Arc<OpenOrigin>>>);

impl OpenOrigins {
    /// Opens the origins of `policy`; those that did not change keep the store, with its connections, that they had.
    pub fn open(policy: &Policy, before: &Self) -> Self {
        let mut opened: HashMap<_, HashMap<_, _>> = HashMap::new();
        for tenant in policy.tenants() {
            for (name, origin) in &tenant.origins {
                let same = before.get(&tenant.id, name).filter(|open| open.store.is_ok() && open.origin == *origin);
                let open = same.map_or_else(|| Arc::new(open_one(origin)), Arc::clone);
                if let Err(reason) = &open.store {
                    tracing::error!(tenant = %tenant.slug, origin = %name, reason, "origin cannot be opened");
                }
                opened.entry(tenant.id.clone()).or_default().insert(name.clone(), open);
            }
        }
        Self(opened)
    }

    /// The origin of this name.
    pub fn get(&self, tenant: &TenantId, name: &OriginName) -> Option<&Arc<OpenOrigin>> {
        self.0.get(tenant)?.get(name)
    }
}

fn open_one(origin: &Arc<Origin>) -> OpenOrigin {
    let store = match &origin.kind {
        OriginKind::Folder(path) => FolderStore::open(path).map(ObjectStore::from).map_err(|error| error.to_string()),
        OriginKind::S3(s3) => open_s3(s3),
    };
    OpenOrigin { origin: Arc::clone(origin), identity: origin.identity(), store, listing: Arc::new(Semaphore::new(1)) }
}

fn open_s3(origin: &S3Origin) -> Result<ObjectStore, String> {
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
