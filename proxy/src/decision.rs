//! What a URL means under a policy: parsed, authorised, located, resolved.
//!
//! A function of the policy, the tenant whose host was asked, and the raw target, which is why `recent.rs` may remember
//! its results; the time it is given only decides on a refusal, and refusals are not remembered. Must not look at other
//! headers, at a clock or at the cache.

use std::sync::Arc;

use cache::{CacheKey, KeyBuilder, Subject};
use fetch::CacheTags;
use imaging::{Class, ENCODER_VERSION};
use storage::{ObjectPath, StorageError};
use tenancy::Tenant;
use transform_url::native::{self, Delivery, Request};
use transform_url::value::{Format, Name};
use transform_url::{Ops, OriginName, TenantSlug, Transform};

use crate::authorise::{authorise, check_expiry};
use crate::marks::{source_mark, tag_marks, tenant_mark};
use crate::origins::OpenOrigin;
use crate::problem::EdgeError;
use crate::registered::Registered;
use crate::source::{Source, SourcePath};
use crate::tenants::{ActivePolicy, ActiveTenant};

/// What is to be delivered.
pub struct Decision {
    /// Whose picture.
    pub tenant: Arc<Tenant>,
    /// Where its original is.
    pub origin: Arc<OpenOrigin>,
    /// The path in that origin, or the URL.
    pub path: SourcePath,
    /// The original itself, or what is made of it.
    pub wanted: Wanted,
    /// The same as it is served.
    pub active: Arc<ActiveTenant>,
    /// The policy's version.
    pub sequence: u64,
    /// Unix seconds from which on the signed URL is refused. Held against the clock at each request.
    pub expires: Option<u64>,
}

/// What is made of the original.
pub enum Wanted {
    /// Nothing: its bytes.
    Original,
    /// A rendition.
    Rendition(Box<WantedRendition>),
}

/// A transform, and the cache keys of its results.
pub struct WantedRendition {
    /// What is done to the original.
    pub transform: Transform,
    /// What is laid over it.
    pub overlay: Option<Registered>,
    /// What takes its place when it is missing or broken.
    pub fallback: Option<Registered>,
    /// The key of the original in the cache of originals. A version in the URL is part of it: a new one must not be made
    /// of what was fetched for the old one.
    pub original: CacheKey,
    keys: Keys,
}

enum Keys {
    /// The URL names the format.
    One(CacheKey),
    /// The client's class decides.
    ByClass([(Class, CacheKey); 3]),
}

impl WantedRendition {
    /// Every key that the URL can have.
    pub fn keys(&self) -> Vec<CacheKey> {
        match &self.keys {
            Keys::One(key) => vec![*key],
            Keys::ByClass(keys) => keys.iter().map(|(_, key)| *key).collect(),
        }
    }

    /// True when the client's class decides on the format.
    pub fn is_negotiated(&self) -> bool {
        matches!(self.keys, Keys::ByClass(_))
    }

    /// The cache key for a client of this class.
    pub fn key(&self, class: Class) -> CacheKey {
        match &self.keys {
            Keys::One(key) => *key,
            Keys::ByClass([first, rest @ ..]) => rest.iter().find(|(of, _)| *of == class).unwrap_or(first).1,
        }
    }
}

impl Decision {
    /// Decides on a raw request target at `now` in Unix seconds. `host_tenant` is the tenant whose own host was asked.
    /// `whose` is set as soon as the tenant is known: who was refused something is worth telling.
    ///
    /// # Errors
    /// What is wrong with the URL, or why the policy refuses it.
    pub fn new(
        active: &ActivePolicy,
        host_tenant: Option<&TenantSlug>,
        target: &[u8],
        now: u64,
        whose: &mut Option<Arc<ActiveTenant>>,
    ) -> Result<Self, EdgeError> {
        let request = native::parse(target, host_tenant)?;
        let whose_it_is = whose_is(active, &request)?;
        *whose = Some(Arc::clone(whose_it_is));
        let expires = authorise(&whose_it_is.tenant, &request)?;
        check_expiry(expires, now)?;
        Self::authorised(whose_it_is, &request, (active.sequence, expires))
    }

    /// What a path means, whether or not anybody may ask for it: for purging.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of_path(active: &ActivePolicy, host_tenant: Option<&TenantSlug>, path: &[u8]) -> Result<Self, EdgeError> {
        let request = native::parse(path, host_tenant)?;
        Self::authorised(whose_is(active, &request)?, &request, (active.sequence, None))
    }

    fn authorised(
        active: &Arc<ActiveTenant>,
        request: &Request<'_>,
        (sequence, expires): (u64, Option<u64>),
    ) -> Result<Self, EdgeError> {
        let (origin, path) = locate(active, &request.source)?;
        let wanted = match &request.delivery {
            Delivery::Original => Wanted::Original,
            Delivery::Transform(ops) => Wanted::Rendition(Box::new(resolve(active, ops, (&origin, &path))?)),
        };
        let (tenant, active) = (Arc::clone(&active.tenant), Arc::clone(active));
        Ok(Self { tenant, active, origin, path, wanted, sequence, expires })
    }

    /// Names the original, with its tenant.
    pub fn source(&self) -> u64 {
        source_mark(&self.tenant.id, &self.origin, &self.path)
    }

    /// What a purge of this picture goes by.
    pub fn subject(&self) -> Subject {
        let mut sources = vec![self.source()];
        if let Wanted::Rendition(wanted) = &self.wanted {
            sources.extend([&wanted.overlay, &wanted.fallback].into_iter().flatten().map(|image| image.source));
        }
        Subject { tenant: tenant_mark(&self.tenant.id), sources: sources.into() }
    }

    /// What a purge of the original goes by.
    pub fn subject_of_original(&self) -> Subject {
        Subject { tenant: tenant_mark(&self.tenant.id), sources: [self.source()].into() }
    }

    /// The marks of the original's tags; `told` are those of its own server.
    pub fn tags(&self, told: Option<&CacheTags>) -> Vec<u64> {
        tag_marks(&self.tenant.id, &self.origin, told)
    }

    /// What the original is read from.
    ///
    /// # Errors
    /// [`EdgeError::BrokenOrigin`] when it could not be opened.
    pub fn store(&self) -> Result<&Source, EdgeError> {
        self.origin.store.as_ref().map_err(|reason| EdgeError::BrokenOrigin(reason.clone()))
    }
}

fn whose_is<'a>(active: &'a ActivePolicy, request: &Request<'_>) -> Result<&'a Arc<ActiveTenant>, EdgeError> {
    let tenant = active.tenant(&request.tenant);
    tenant.ok_or_else(|| EdgeError::UnknownTenant(request.tenant.to_string()))
}

type Place = (Arc<OpenOrigin>, SourcePath);

/// Where a source is.
///
/// # Errors
/// What the tenant does not have.
pub fn locate(active: &ActiveTenant, source: &transform_url::Source) -> Result<Place, EdgeError> {
    match source {
        transform_url::Source::Origin { origin, path } => locate_in(active, origin, path),
        transform_url::Source::Upload(public_id) => {
            let uploads = active.origins.uploads().ok_or(EdgeError::NoUploads)?;
            let path = ObjectPath::new(public_id.as_str()).map_err(StorageError::from)?;
            Ok((Arc::clone(uploads), SourcePath::Object(path)))
        }
        transform_url::Source::Url(text) => locate_url(active, text),
    }
}

/// A URL is a source where the tenant's list says so; the client that fetches it asks the list again at each redirect.
fn locate_url(active: &ActiveTenant, text: &str) -> Result<Place, EdgeError> {
    let url = fetch::parse_url(text).map_err(|error| EdgeError::BadSourceUrl(error.to_string()))?;
    let web = active.origins.urls(&active.tenant).filter(|_| active.tenant.urls.allow(&url));
    Ok((web.ok_or(EdgeError::SourceNotAllowed)?, SourcePath::Url(Box::new(url))))
}

fn locate_in(active: &ActiveTenant, origin: &OriginName, path: &str) -> Result<Place, EdgeError> {
    let open =
        active.origins.get(&active.tenant, origin).ok_or_else(|| EdgeError::UnknownOrigin(origin.to_string()))?;
    let path = ObjectPath::new(path).map_err(StorageError::from)?;
    Ok((open, SourcePath::Object(path)))
}

/// The registered image of this name.
fn registered(active: &ActiveTenant, name: &Name) -> Result<Registered, EdgeError> {
    let tenant = &active.tenant;
    let image = tenant.images.get(name).ok_or_else(|| EdgeError::UnknownImage(name.to_string()))?;
    let (origin, path) = locate(active, image)?;
    let source = source_mark(&tenant.id, &origin, &path);
    Ok(Registered { name: name.to_string(), tenant: tenant.id.clone(), source, origin, path })
}

fn resolve(
    active: &ActiveTenant,
    ops: &Ops,
    (origin, path): (&OpenOrigin, &SourcePath),
) -> Result<WantedRendition, EdgeError> {
    let tenant = &active.tenant;
    let transform = ops.resolve(|name| tenant.presets.get(name))?;
    let image = |name| registered(active, name);
    let overlay = transform.overlay().map(|overlay| image(&overlay.name)).transpose()?;
    let fallback = transform.fallback().map(image).transpose()?;
    let version = transform.ops().v.as_ref().map_or("", |version| version.as_str());
    let mut original = KeyBuilder::new()
        .part(b"original")
        .part(tenant.id.as_str().as_bytes())
        .part(origin.identity.as_bytes())
        .part(path.as_str().as_bytes())
        .part(version.as_bytes());
    // Everything that the bytes of the answer depend on, and nothing else.
    let mut key = KeyBuilder::new()
        .number(u64::from(ENCODER_VERSION))
        .part(tenant.id.as_str().as_bytes())
        .part(origin.identity.as_bytes())
        .part(path.as_str().as_bytes())
        .part(transform.cache_text().as_bytes());
    // The same folder under another name may give other tags, and a purge by tag must find them all.
    for tag in origin.tags() {
        key = key.part(b"tag").part(tag.as_bytes());
        original = original.part(tag.as_bytes());
    }
    for image in [&overlay, &fallback].into_iter().flatten() {
        key = key.part(image.origin.identity.as_bytes()).part(image.path.as_str().as_bytes());
    }
    let keys = if transform.format() == Format::Auto {
        let of = |class, name: &str| (class, key.clone().part(name.as_bytes()).finish());
        Keys::ByClass([of(Class::Legacy, "legacy"), of(Class::Webp, "webp"), of(Class::Avif, "avif")])
    } else {
        Keys::One(key.finish())
    };
    Ok(WantedRendition { transform, overlay, fallback, original: original.finish(), keys })
}
