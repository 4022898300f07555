//! What is said of one tenant, as people and programs write it, and its translation into a [`Tenant`] with every mistake
//! reported at once. The policy file and the control plane say it in the same words.

mod freshness;
mod signing;
mod web;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use transform_url::value::{Name, OpValue};
use transform_url::{Ops, OriginName, Source, TenantSlug};

use self::freshness::FreshnessKeys;
use self::signing::{Signed, UnsignedTable, check_keys};
use self::web::{HttpTable, check_urls};
use crate::{Exhausted, Origin, OriginKind, RatesTable, S3Origin, Signing, Tenant, TenantId};

/// Most tags of an origin, and longest of them in bytes.
const TAGS_MAX: usize = 16;
const TAG_BYTES_MAX: usize = 128;

/// What is said of a tenant. `docs/policy.md` explains every key. No `Debug`: `keys` are secrets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantDocument {
    #[serde(default)]
    open: bool,
    #[serde(default)]
    originals: bool,
    #[serde(default)]
    signed: Signed,
    #[serde(default)]
    expiry_required: bool,
    pub(crate) keys: Option<toml::Value>,
    #[serde(default)]
    unsigned: UnsignedTable,
    #[serde(default)]
    pub(crate) hosts: Vec<String>,
    #[serde(default)]
    pub(crate) presets: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) images: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) origins: BTreeMap<String, OriginTable>,
    /// Whether it was said to a control plane, by whoever has a key, and not by the operator: nothing of the edge's own machine is
    /// in reach then, and images may be uploads.
    #[serde(skip)]
    pub(crate) is_of_control_plane: bool,
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
pub(crate) struct OriginTable {
    folder: Option<PathBuf>,
    s3: Option<S3Origin>,
    http: Option<HttpTable>,
    #[serde(default)]
    tags: Vec<String>,
}

fn yes() -> bool {
    true
}

/// One mistake in what is said.
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

/// Collects mistakes under one tenant's key.
pub(crate) struct Report<'a> {
    pub(crate) key: String,
    pub(crate) mistakes: &'a mut Vec<Mistake>,
}

impl Report<'_> {
    pub(crate) fn add(&mut self, key: &str, why: impl Into<String>) {
        let dot = if key.is_empty() || self.key.is_empty() { "" } else { "." };
        self.mistakes.push(Mistake { key: format!("{}{dot}{key}", self.key), why: why.into() });
    }
}

impl TenantDocument {
    /// The tenant, with what is wrong told to `report`.
    pub(crate) fn check(self, id: TenantId, slug: &str, report: &mut Report<'_>) -> Option<Tenant> {
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
        let images = self.images.iter();
        let images =
            images.filter_map(|(name, source)| self.check_image(name, source, report)).collect::<HashMap<_, _>>();
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
        if self.is_of_control_plane {
            for (name, table) in &self.origins {
                table.check_reach(&format!("origins.{name}"), report);
            }
        }
        let origins = self.origins.into_iter().filter_map(|(name, table)| table.check(&name, report)).collect();
        let urls = Arc::new(check_urls(&self.allowed_urls, &self.allow_private, report));
        let slug = TenantSlug::new(slug)
            .map_err(|_| report.add("", "a tenant's name is 1 to 63 of a-z, 0-9 and \"-\", and not a reserved word"))
            .ok()?;
        let hosts = self.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
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
            exhausted: Exhausted::default(),
        })
    }
}

fn check_name(key: &str, name: &str, report: &mut Report<'_>) -> Option<Name> {
    Name::parse(name).map_err(|_| report.add(key, format!("the name must be {}", Name::allowed()))).ok()
}

impl TenantDocument {
    fn check_image(&self, name: &str, source: &str, report: &mut Report<'_>) -> Option<(Name, Source)> {
        let key = format!("images.{name}");
        let checked = check_name(&key, name, report);
        let why = match Source::parse(source) {
            Ok(Source::Origin { origin, .. }) if !self.origins.contains_key(origin.as_str()) => {
                format!("the tenant has no origin {:?}", origin.as_str())
            }
            Ok(Source::Upload(_)) if !self.is_of_control_plane => {
                "an image is registered as \"@origin/path\"".to_owned()
            }
            Ok(Source::Url(_)) => "an image is not registered by its URL".to_owned(),
            Ok(source) => return checked.map(|name| (name, source)),
            Err(error) => error.to_string(),
        };
        report.add(&key, why);
        None
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
    /// Refuses what reaches the edge's own machine, or would be asked for with the edge's own keys.
    fn check_reach(&self, key: &str, report: &mut Report<'_>) {
        if self.folder.is_some() {
            report.add(&format!("{key}.folder"), "only the operator gives folders of a machine");
        }
        let Some(s3) = &self.s3 else { return };
        let has_id = s3.access_key_id.as_ref().is_some_and(|id| !id.is_empty());
        let has_secret = s3.secret_access_key.as_ref().is_some_and(|secret| !secret.expose().is_empty());
        if !has_id || !has_secret {
            report.add(&format!("{key}.s3"), "it needs access_key_id and secret_access_key");
        }
    }

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
    // Both become parts of a host name.
    let is_label = |text: &str, more: &str| {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || more.contains(c);
        (1..=63).contains(&text.len()) && text.chars().all(is_allowed)
    };
    if !is_label(&s3.bucket, "-_.") {
        report.add(&format!("{key}.s3.bucket"), "a bucket's name is 1 to 63 of A-Z, a-z, 0-9, \"-\", \"_\" and \".\"");
    }
    if !is_label(&s3.region, "-") {
        report.add(&format!("{key}.s3.region"), "a region is 1 to 63 of A-Z, a-z, 0-9 and \"-\"");
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
