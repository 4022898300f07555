//! The native dialect: `/{tenant}/{ops}/{source}`, with Cloudflare Images' option names.
//!
//! Must not decide what is allowed to whom: it reads the URL and nothing else.

use crate::encoding::decode;
use crate::error::shown;
use crate::signing::{SIGNATURE_CHARS, is_key_name};
use crate::source::RESERVED;
use crate::{Ops, Source, TenantSlug, URL_BYTES_MAX, UrlError};

/// What a URL asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// The tenant, from the path or the host.
    pub tenant: TenantSlug,
    /// The original or a rendition.
    pub delivery: Delivery,
    /// Of what.
    pub source: Source,
    /// The query: expiry and signature.
    pub signature: SignatureQuery<'a>,
    /// The raw path after the tenant part, with its leading slash: the text that a signature covers.
    pub signed_path: &'a str,
}

impl Request<'_> {
    /// The ops, unless the original is asked for.
    pub fn ops(&self) -> Option<&Ops> {
        match &self.delivery {
            Delivery::Original => None,
            Delivery::Transform(ops) => Some(ops),
        }
    }
}

/// The bytes of the original, or a rendition of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// `-`: the original as it is.
    Original,
    /// These ops.
    Transform(Box<Ops>),
}

/// The query of a delivery URL, checked for shape only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SignatureQuery<'a> {
    /// `exp`: Unix seconds from which on the URL is refused.
    pub expires: Option<u64>,
    /// `kid`: the name of the signing key.
    pub key: Option<&'a str>,
    /// `sig`: the signature, base64url without padding.
    pub signature: Option<&'a str>,
}

impl SignatureQuery<'_> {
    /// True when nothing was given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Reads a raw request target (path and query as they came over the wire).
///
/// `host_tenant` is the tenant whose own host was asked; the path then has no tenant part.
///
/// # Errors
/// Every [`UrlError`] but the preset ones.
pub fn parse<'a>(target: &'a [u8], host_tenant: Option<&TenantSlug>) -> Result<Request<'a>, UrlError> {
    if target.len() > URL_BYTES_MAX {
        return Err(UrlError::TooLong { bytes: target.len(), max: URL_BYTES_MAX });
    }
    let target =
        std::str::from_utf8(target).map_err(|_| UrlError::BadEncoding { part: "the URL", reason: "invalid UTF-8" })?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let rest = path.strip_prefix('/').ok_or(UrlError::BadPath { reason: "the path does not start with \"/\"" })?;
    let (tenant, rest) = match host_tenant {
        Some(tenant) => (tenant.clone(), rest),
        None => split_tenant(rest)?,
    };
    let (ops, source) = rest.split_once('/').ok_or(UrlError::BadPath { reason: "the source is missing" })?;
    let delivery = match ops {
        "-" => Delivery::Original,
        "" => return Err(UrlError::BadPath { reason: "the ops are empty (\"-\" asks for the original)" }),
        ops => Delivery::Transform(Box::new(Ops::parse(ops)?)),
    };
    Ok(Request {
        tenant,
        delivery,
        source: Source::parse(source)?,
        signature: parse_query(query)?,
        signed_path: &path[path.len() - rest.len() - 1..],
    })
}

fn split_tenant(rest: &str) -> Result<(TenantSlug, &str), UrlError> {
    let (segment, rest) = rest.split_once('/').unwrap_or((rest, ""));
    if RESERVED.contains(&segment) {
        return Err(UrlError::Reserved { segment: segment.to_owned() });
    }
    let slug = decode(segment, "the tenant")?;
    let tenant = TenantSlug::new(&slug)
        .map_err(|_| UrlError::BadPath { reason: "the tenant is missing or not a tenant's name" })?;
    Ok((tenant, rest))
}

fn parse_query(query: &str) -> Result<SignatureQuery<'_>, UrlError> {
    let mut parsed = SignatureQuery::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let bad = |reason| UrlError::BadQuery { name: shown(name), reason };
        let is_new = match name {
            "exp" => {
                let seconds = unix_seconds(value).ok_or(bad("exp is a time in Unix seconds"))?;
                parsed.expires.replace(seconds).is_none()
            }
            "kid" => {
                let name = Some(value).filter(|value| is_key_name(value)).ok_or(bad("kid is the name of a key"))?;
                parsed.key.replace(name).is_none()
            }
            "sig" => {
                parsed.signature.replace(base64url(value).ok_or(bad("sig is base64url without padding"))?).is_none()
            }
            _ => return Err(bad("only exp, kid and sig are known; encode the \"?\" of a source as %3F")),
        };
        if !is_new {
            return Err(bad("it is given more than once"));
        }
    }
    Ok(parsed)
}

/// Up to 12 digits in their one spelling, because the number as text is part of what is signed.
fn unix_seconds(text: &str) -> Option<u64> {
    let is_minimal = text == "0" || !text.starts_with('0');
    let is_number = text.len() <= 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_minimal && is_number)
}

/// A non-empty text of base64url characters. Its length is for the comparison to judge.
fn base64url(text: &str) -> Option<&str> {
    let is_character = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (!text.is_empty() && text.len() <= SIGNATURE_CHARS * 2 && text.bytes().all(is_character)).then_some(text)
}
