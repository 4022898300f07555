//! The static policy file (TOML), and its translation into a [`Policy`] with every mistake reported at once.

mod freshness;
mod signing;
mod web;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use thiserror::Error;
use transform_url::value::{Name, OpValue};
use transform_url::{Ops, OriginName, Source, TenantSlug};

use self::freshness::FreshnessKeys;
use self::signing::{Signed, UnsignedTable, check_keys};
use self::web::{HttpTable, check_urls};
use crate::{Origin, OriginKind, Policy, RatesTable, RegisteredImage, S3Origin, Signing, Tenant, TenantId};

/// Most tags of an origin, and longest of them in bytes.
const TAGS_MAX: usize = 16;
const TAG_BYTES_MAX: usize = 128;

/// The policy file as written. `docs/policy.md` explains every key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    #[serde(default)]
    tenants: BTreeMap<String, TenantTable>,
}

// No `Debug`: `keys` are secrets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantTable {
    #[serde(default)]
    open: bool,
    #[serde(default)]
    originals: bool,
    #[serde(default)]
    signed: Signed,
    #[serde(default)]
    expiry_required: bool,
    keys: Option<toml::Value>,
    #[serde(default)]
    unsigned: UnsignedTable,
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    presets: BTreeMap<String, String>,
    #[serde(default)]
    images: BTreeMap<String, String>,
    #[serde(default)]
    origins: BTreeMap<String, OriginTable>,
    #[serde(default)]
    allowed_urls: Vec<String>,
    #[serde(default)]
    allow_private: Vec<String>,
    max_age_seconds: Option<u64>,
    stale_while_revalidate_seconds: Option<u64>,
    stale_if_error_seconds: Option<u64>,
    negative_max_age_seconds: Option<u64>,
    browser_max_age_seconds: Option<u64>,
    cdn_max_age_seconds: Option<u64>,
    #[serde(default = "yes")]
    second_level: bool,
    #[serde(default)]
    improve_when_idle: bool,
    #[serde(default)]
    rates: RatesTable,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OriginTable {
    folder: Option<PathBuf>,
    s3: Option<S3Origin>,
    http: Option<HttpTable>,
    #[serde(default)]
    tags: Vec<String>,
}

fn yes() -> bool {
    true
}

/// Why a policy file is not used.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// It is not TOML, or a key is unknown or of the wrong type. The parser's error is not kept: it repeats the whole
    /// line, which may hold a secret.
    #[error("the policy file cannot be read: line {line}, column {column}: {reason}")]
    Syntax {
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
        /// What is wrong there.
        reason: String,
    },
    /// It can be read, but says things that are not allowed.
    #[error("the policy file has mistakes:{}", .0.iter().map(|mistake| format!("\n  {mistake}")).collect::<String>())]
    Mistakes(Vec<Mistake>),
}

/// One mistake in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The key, with dots.
    pub key: String,
    /// What is wrong and what is allowed.
    pub why: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.why)
    }
}

impl PolicyFile {
    /// Reads the text of a policy file into a policy with this sequence.
    ///
    /// # Errors
    /// [`PolicyError::Syntax`] with its place, or [`PolicyError::Mistakes`] with all of them.
    pub fn load(text: &str, sequence: u64) -> Result<Policy, PolicyError> {
        let file: Self = toml::from_str(text).map_err(|error| syntax(text, &error))?;
        let mut mistakes = Vec::new();
        let mut tenants = Vec::new();
        for (slug, table) in file.tenants {
            let mut report = Report { key: format!("tenants.{slug}"), mistakes: &mut mistakes };
            tenants.extend(table.check(&slug, &mut report));
        }
        check_hosts(&tenants, &mut mistakes);
        if mistakes.is_empty() { Ok(Policy::new(tenants, sequence)) } else { Err(PolicyError::Mistakes(mistakes)) }
    }
}

fn syntax(text: &str, error: &toml::de::Error) -> PolicyError {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |start| start.chars().count()) + 1;
    PolicyError::Syntax { line, column, reason: error.message().to_owned() }
}

/// Collects mistakes under one tenant's key.
struct Report<'a> {
    key: String,
    mistakes: &'a mut Vec<Mistake>,
}

impl Report<'_> {
    fn add(&mut self, key: &str, why: impl Into<String>) {
        let dot = if key.is_empty() { "" } else { "." };
        self.mistakes.push(Mistake { key: format!("{}{dot}{key}", self.key), why: why.into() });
    }
}

impl TenantTable {
    fn check(self, slug: &str, report: &mut Report<'_>) -> Option<Tenant> {
        let freshness = FreshnessKeys {
            max_age: self.max_age_seconds,
            stale_while_revalidate: self.stale_while_revalidate_seconds,
            stale_if_error: self.stale_if_error_seconds,
            negative_max_age: self.negative_max_age_seconds,
            browser_max_age: self.browser_max_age_seconds,
            cdn_max_age: self.cdn_max_age_seconds,
        };
        let freshness = freshness.check(report);
        let rates = self
            .rates
            .check(|key, number, why| report.add(&format!("rates.{key}"), format!("{number} is not allowed: {why}")));
        if self.signed == Signed::Required && self.open {
            report.add("signed", "\"required\" contradicts open = true, which lets unsigned URLs use every op");
        }
        let signing = Signing {
            required: self.signed == Signed::Required,
            expiry_required: self.expiry_required,
            keys: check_keys(self.keys, report),
            unsigned: self.unsigned.check(&self.presets, report),
        };
        let presets = self.presets.iter().filter_map(|(name, ops)| check_preset(name, ops, report)).collect();
        let images = self.images.iter();
        let images = images.filter_map(|(name, source)| check_image(name, source, &self.origins, report)).collect();
        let origins = self.origins.into_iter().filter_map(|(name, table)| table.check(&name, report)).collect();
        let urls = Arc::new(check_urls(&self.allowed_urls, &self.allow_private, report));
        let slug = TenantSlug::new(slug)
            .map_err(|_| report.add("", "a tenant's name is 1 to 63 of a-z, 0-9 and \"-\", and not a reserved word"))
            .ok()?;
        let hosts = self.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        let id = TenantId(slug.to_string());
        Some(Tenant {
            id,
            slug,
            open: self.open,
            originals: self.originals,
            signing,
            hosts,
            presets,
            images,
            origins,
            urls,
            freshness,
            second_level: self.second_level,
            improve_when_idle: self.improve_when_idle,
            rates,
        })
    }
}

fn check_name(key: &str, name: &str, report: &mut Report<'_>) -> Option<Name> {
    Name::parse(name).map_err(|_| report.add(key, format!("the name must be {}", Name::allowed()))).ok()
}

fn check_image(
    name: &str,
    source: &str,
    origins: &BTreeMap<String, OriginTable>,
    report: &mut Report<'_>,
) -> Option<(Name, RegisteredImage)> {
    let key = format!("images.{name}");
    let checked = check_name(&key, name, report);
    match Source::parse(source) {
        Ok(Source::Origin { origin, path }) if origins.contains_key(origin.as_str()) => {
            checked.map(|name| (name, RegisteredImage { origin, path }))
        }
        Ok(Source::Origin { origin, .. }) => {
            report.add(&key, format!("the tenant has no origin {:?}", origin.as_str()));
            None
        }
        Ok(Source::Upload(_) | Source::Url(_)) => {
            report.add(&key, "an image is registered as \"@origin/path\"");
            None
        }
        Err(error) => {
            report.add(&key, error.to_string());
            None
        }
    }
}

fn check_preset(name: &str, text: &str, report: &mut Report<'_>) -> Option<(Name, Ops)> {
    let key = format!("presets.{name}");
    let checked = check_name(&key, name, report);
    match Ops::parse(text) {
        Ok(ops) if ops.preset.is_some() => {
            report.add(&key, "a preset cannot use a preset");
            None
        }
        Ok(ops) => checked.map(|name| (name, ops)),
        Err(error) => {
            report.add(&key, error.to_string());
            None
        }
    }
}

impl OriginTable {
    fn check(self, name: &str, report: &mut Report<'_>) -> Option<(OriginName, Arc<Origin>)> {
        let key = format!("origins.{name}");
        let checked = OriginName::new(name)
            .map_err(|_| report.add(&key, "an origin's name is 1 to 63 of a-z, 0-9, \"-\" and \"_\""))
            .ok();
        let is_tag =
            |tag: &String| (1..=TAG_BYTES_MAX).contains(&tag.len()) && tag.bytes().all(|b| b.is_ascii_graphic());
        if self.tags.len() > TAGS_MAX || !self.tags.iter().all(is_tag) {
            let why = format!("at most {TAGS_MAX} tags of 1 to {TAG_BYTES_MAX} visible ASCII characters each");
            report.add(&format!("{key}.tags"), why);
        }
        let kind = match (self.folder, self.s3, self.http) {
            (Some(folder), None, None) if folder.is_absolute() => OriginKind::Folder(folder),
            (Some(folder), None, None) => {
                report.add(&format!("{key}.folder"), format!("{} is not an absolute path", folder.display()));
                return None;
            }
            (None, Some(s3), None) => OriginKind::S3(check_s3(s3, &key, report)?),
            (None, None, Some(http)) => OriginKind::Http(http.check(&format!("{key}.http"), report)?),
            _ => {
                report.add(&key, "an origin has exactly one of \"folder\", \"s3\" and \"http\"");
                return None;
            }
        };
        checked.map(|name| (name, Arc::new(Origin { kind, tags: self.tags })))
    }
}

fn check_s3(s3: S3Origin, key: &str, report: &mut Report<'_>) -> Option<S3Origin> {
    let before = report.mistakes.len();
    if s3.bucket.is_empty() || s3.bucket.len() > 63 || s3.bucket.contains('/') {
        report.add(&format!("{key}.s3.bucket"), "a bucket's name has 1 to 63 characters and no \"/\"");
    }
    if s3.prefix.starts_with('/') {
        report.add(&format!("{key}.s3.prefix"), "a prefix does not start with \"/\"");
    }
    if let Some(endpoint) = &s3.endpoint
        && !(endpoint.starts_with("http://") || endpoint.starts_with("https://"))
    {
        report.add(&format!("{key}.s3.endpoint"), format!("{endpoint:?} does not start with http:// or https://"));
    }
    if s3.access_key_id.is_some() != s3.secret_access_key.is_some() {
        report.add(&format!("{key}.s3"), "access_key_id and secret_access_key go together");
    }
    (report.mistakes.len() == before).then_some(s3)
}

/// A host leads to one tenant.
fn check_hosts(tenants: &[Tenant], mistakes: &mut Vec<Mistake>) {
    let mut owners = BTreeMap::new();
    for tenant in tenants {
        for host in &tenant.hosts {
            let key = format!("tenants.{}.hosts", tenant.slug);
            if host.is_empty() || host.len() > 253 || host.contains(['/', ':', ' ']) {
                mistakes.push(Mistake { key, why: format!("{host:?} is not a host name (no scheme, no port)") });
            } else if let Some(owner) = owners.insert(host.clone(), &tenant.slug) {
                mistakes.push(Mistake { key, why: format!("{host} already belongs to {owner}") });
            }
        }
    }
}
