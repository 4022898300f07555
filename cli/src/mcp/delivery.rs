//! Delivery URLs for an assistant: put together, read back by the edge's own parser, signed where there is a key.
//!
//! Must not tell a secret, nor sign for another tenant than the key's.

use anyhow::{Context, bail, ensure};
use transform_url::native::{self, Delivery as Wanted};
use transform_url::signing::check_wire_form;
use transform_url::{Source, TenantSlug};
use uploads::PublicId;

use super::McpArguments;
use crate::credentials::Credentials;
use crate::sign::{KEY_VARIABLE, Signer, expiry};

/// Where pictures are delivered, whose, and what signs their URLs.
pub struct Delivery {
    base: Option<String>,
    tenant: Option<TenantSlug>,
    key: Key,
}

enum Key {
    /// That of the state folder, for its own tenant.
    Kept(Box<Signer>),
    /// `kid:secret` for whatever tenant, and the tenant's id.
    Variable(String, Option<String>),
    None,
}

/// A URL, put together.
#[derive(Debug)]
pub struct Made {
    /// All of it.
    pub url: String,
    /// Whether a signature is on it.
    pub is_signed: bool,
    /// What is done to the original, in the one canonical form; `None` for the original itself, and where a preset says it.
    pub canonical: Option<String>,
}

/// Where a medium is delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    base: String,
    tenant: TenantSlug,
}

impl Delivery {
    /// What the arguments, the environment and the state folder say.
    ///
    /// # Errors
    /// When some of that makes no sense.
    pub fn of(arguments: &McpArguments) -> anyhow::Result<Self> {
        let slug = |name: &str| TenantSlug::new(name).with_context(|| format!("{name:?} is not a tenant's name"));
        let named = arguments.tenant.as_deref().map(slug).transpose().context("--tenant")?;
        let key = match std::env::var(KEY_VARIABLE) {
            Ok(value) => {
                // A mistake in it is told now, not when the first URL is asked for.
                Signer::of_variable(slug("tenant")?, None, &value)?;
                Key::Variable(value, arguments.tenant_id.clone())
            }
            Err(std::env::VarError::NotUnicode(_)) => bail!("{KEY_VARIABLE} is not UTF-8"),
            Err(std::env::VarError::NotPresent) => match Credentials::read(arguments.data())? {
                Some(kept) => Key::Kept(Box::new(Signer::of_credentials(kept)?)),
                None => Key::None,
            },
        };
        let kept = match &key {
            Key::Kept(signer) => Some(signer.tenant.clone()),
            Key::Variable(..) | Key::None => None,
        };
        let base = arguments.delivery_url.as_deref().map(|url| url.trim_end_matches('/').to_owned());
        Ok(Self { base, tenant: named.or(kept), key })
    }

    /// Where sources are delivered that are no uploads.
    ///
    /// # Errors
    /// When nobody has said.
    pub fn place(&self) -> anyhow::Result<Place> {
        let how = "for a source that is no upload, start `calotype mcp` with CALOTYPE_DELIVERY_URL and CALOTYPE_TENANT";
        let (base, tenant) = (self.base.clone().context(how)?, self.tenant.clone().context(how)?);
        Ok(Place { base, tenant })
    }

    /// The URL of a rendition, or with the ops `-` of the original.
    ///
    /// # Errors
    /// What is wrong with ops or source, in the edge's own words.
    pub fn url(&self, place: &Place, ops: &str, source: &str, expires_in: Option<u64>) -> anyhow::Result<Made> {
        ensure!(!ops.contains('/'), "ops are one part of a path: write / as %2F");
        let path = format!("/{ops}/{source}");
        check_wire_form(&path)?;
        let request = native::parse(path.as_bytes(), Some(&place.tenant))?;
        let canonical = match &request.delivery {
            Wanted::Original => None,
            // What a preset says is the tenant's business, and the edge's to know.
            Wanted::Transform(ops) if ops.preset.is_some() => None,
            Wanted::Transform(ops) => Some(ops.resolve(|_| None)?.to_string()),
        };
        let signer = match &self.key {
            Key::Kept(signer) if signer.tenant == place.tenant => Some(Signer::clone(signer)),
            Key::Kept(_) | Key::None => None,
            Key::Variable(value, id) => Some(Signer::of_variable(place.tenant.clone(), id.as_deref(), value)?),
        };
        ensure!(
            signer.is_some() || expires_in.is_none(),
            "only signed URLs expire, and there is no signing key: set {KEY_VARIABLE}"
        );
        let signed = signer.map(|signer| anyhow::Ok(signer.sign(&path, expiry(expires_in, None)?))).transpose()?;
        let is_signed = signed.is_some();
        let Place { base, tenant } = place;
        Ok(Made { url: format!("{base}/{tenant}{}", signed.unwrap_or(path)), is_signed, canonical })
    }
}

impl Place {
    /// Where a medium is delivered, out of the URL that the API tells of it.
    ///
    /// # Errors
    /// When it is not one of those.
    pub fn of_medium(url: &str, public_id: &str) -> anyhow::Result<Self> {
        let read = || {
            let source = path_of(public_id).ok()?;
            let before = url.strip_suffix(&source)?.strip_suffix('/')?;
            let (before, _ops) = before.rsplit_once('/')?;
            let (base, tenant) = before.rsplit_once('/')?;
            Some(Self { base: base.to_owned(), tenant: TenantSlug::new(tenant).ok()? })
        };
        read().with_context(|| format!("the API tells a URL that is not understood: {url}"))
    }
}

/// A public id as the last part of a URL.
///
/// # Errors
/// When it is none.
pub fn path_of(public_id: &str) -> anyhow::Result<String> {
    Ok(PublicId::new(public_id).context("the public id")?.to_url_path())
}

/// A source as in URLs that is no upload: `@origin/path`, or a URL.
///
/// # Errors
/// When it is something else.
pub fn path_of_source(source: &str) -> anyhow::Result<&str> {
    match Source::parse(source).with_context(|| format!("the source {source:?}"))? {
        Source::Upload(_) => bail!("{source:?} is an upload: give it as public_id"),
        _ => Ok(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "an example secret, 32 bytes or more";

    fn delivery(key: Key) -> Delivery {
        Delivery { base: None, tenant: None, key }
    }

    fn place() -> Place {
        Place { base: "http://edge/x".to_owned(), tenant: TenantSlug::new("demo").expect("a name") }
    }

    #[test]
    fn a_place_is_read_out_of_the_url_of_a_medium() {
        let of = |url: &str, id: &str| Place::of_medium(url, id).ok();
        assert_eq!(of("http://edge/x/demo/f=auto/a%20b/c.jpg", "a b/c.jpg"), Some(place()));
        assert_eq!(of("http://edge/x/demo/-/a", "a"), Some(place()));
        assert_eq!(of("http://edge/x/demo/-/a", "b"), None);
        assert_eq!(of("http:", "http:"), None);
    }

    #[test]
    fn a_url_is_signed_for_the_tenant_of_the_key_and_for_no_other() {
        let signed = delivery(Key::Variable(format!("2026-01:{SECRET}"), None));
        let made = signed.url(&place(), "w=400,f=auto", "@local/beach.jpg", None).expect("it is one");
        // docs/signing.md has the same example.
        let url = "http://edge/x/demo/w=400,f=auto/@local/beach.jpg?kid=2026-01&sig=0MFYH1XILCSfZYBZOlSLQF1_nVAR9SvRvtwF5GJUhds";
        assert_eq!((made.url.as_str(), made.is_signed, made.canonical.as_deref()), (url, true, Some("width=400")));
        let other = TenantSlug::new("other").expect("a name");
        let signer = Signer::of_variable(other, None, &format!("k:{SECRET}")).expect("a key");
        let made = delivery(Key::Kept(Box::new(signer))).url(&place(), "-", "a.jpg", None).expect("it is one");
        assert_eq!((made.url.as_str(), made.is_signed, made.canonical), ("http://edge/x/demo/-/a.jpg", false, None));
    }

    #[test]
    fn mistakes_are_told_as_the_edge_tells_them() {
        for (ops, source, told) in [
            ("wdith=400", "a.jpg", "width"),
            ("w=0", "a.jpg", "8192"),
            ("w=1,w=2", "a.jpg", "w"),
            ("w=1/h=2", "a.jpg", "one part"),
            ("", "a.jpg", ""),
            ("w=1 0", "a.jpg", "percent-encoded"),
        ] {
            let error = delivery(Key::None).url(&place(), ops, source, None).expect_err(ops);
            assert!(format!("{error:#}").contains(told), "{ops}: {error:#}");
        }
        let error = delivery(Key::None).url(&place(), "w=1", "a.jpg", Some(60)).expect_err("no key");
        assert!(error.to_string().contains(KEY_VARIABLE), "{error}");
    }
}
