//! The parts that a tenant is kept in by the control plane: each changes on its own, and all together make a [`Tenant`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::document::{Mistake, OriginTable, Report, TenantDocument};
use crate::feed::kind;
use crate::{Exhausted, Secret, Tenant, TenantId};

/// Keys of a tenant in the policy file that are parts of their own here.
const OWN_PARTS: [&str; 5] = ["hosts", "images", "keys", "origins", "presets"];

/// Whether a tenant is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TenantState {
    /// It is.
    #[default]
    Active,
    /// Neither its pictures nor its keys are; nothing of it is lost.
    Suspended,
}

impl TenantState {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }
}

/// The parts of a tenant, as they are said; nothing of them is checked. Written out, they hold secrets.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TenantParts {
    /// Its name in URLs.
    pub slug: String,
    /// Whether it is served.
    pub state: TenantState,
    /// The keys of the policy file that are not parts of their own.
    pub policy: Map<String, Value>,
    /// Ops, by the name of the preset.
    pub presets: BTreeMap<String, String>,
    /// Sources as in URLs, by the name of the registered image.
    pub images: BTreeMap<String, String>,
    /// Origins as in the policy file, by their names.
    pub origins: BTreeMap<String, Value>,
    /// Host names of its own.
    pub domains: BTreeSet<String>,
    /// Secrets, by their `kid`.
    #[serde(serialize_with = "exposed")]
    pub signing_keys: BTreeMap<String, Secret>,
    /// Quotas that are used up.
    pub exhausted: Exhausted,
}

impl fmt::Debug for TenantParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TenantParts({})", self.slug)
    }
}

/// For those who keep them out of sight themselves.
fn exposed<S: serde::Serializer>(keys: &BTreeMap<String, Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(keys.iter().map(|(kid, secret)| (kid, secret.expose())))
}

/// A change of a kind that this version does not know, or with a body that it cannot read.
#[derive(Debug, Error)]
#[error("a change of {kind} cannot be read: {why}")]
pub struct UnknownKind {
    kind: String,
    why: String,
}

impl TenantParts {
    /// Takes in a change of one of its parts; [`kind::TENANT`] with a body included.
    ///
    /// # Errors
    /// [`UnknownKind`]; nothing has changed then.
    pub fn apply(&mut self, kind: &str, name: &str, body: Option<Value>) -> Result<(), UnknownKind> {
        #[derive(Deserialize)]
        struct Head {
            slug: String,
            state: TenantState,
        }
        match kind {
            kind::TENANT => {
                let head: Head = read(kind, body.unwrap_or_default())?;
                (self.slug, self.state) = (head.slug, head.state);
            }
            kind::POLICY => self.policy = read(kind, body.unwrap_or_else(|| Value::Object(Map::new())))?,
            kind::PRESET => set(&mut self.presets, kind, name, body)?,
            kind::IMAGE => set(&mut self.images, kind, name, body)?,
            kind::ORIGIN => set(&mut self.origins, kind, name, body)?,
            kind::SIGNING_KEY => set(&mut self.signing_keys, kind, name, body)?,
            kind::QUOTA => self.exhausted = body.map(|body| read(kind, body)).transpose()?.unwrap_or_default(),
            kind::DOMAIN if body.is_some() => drop(self.domains.insert(name.to_owned())),
            kind::DOMAIN => drop(self.domains.remove(name)),
            _ => return Err(UnknownKind { kind: kind.to_owned(), why: "it is not known here".to_owned() }),
        }
        Ok(())
    }

    /// The tenant that the parts make.
    ///
    /// # Errors
    /// Everything that is wrong with them, by the keys of the policy file.
    pub fn check(&self, id: TenantId) -> Result<Tenant, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let mut report = Report { key: String::new(), mistakes: &mut mistakes };
        let tenant = self.document(&mut report).and_then(|document| document.check(id, &self.slug, &mut report));
        let tenant = tenant.map(|tenant| Tenant { exhausted: self.exhausted, ..tenant });
        tenant.filter(|_| mistakes.is_empty()).ok_or(mistakes)
    }

    fn document(&self, report: &mut Report<'_>) -> Option<TenantDocument> {
        let own: Vec<_> = OWN_PARTS.into_iter().filter(|key| self.policy.contains_key(*key)).collect();
        for key in &own {
            report.add(key, "it is not a part of the policy");
        }
        if !own.is_empty() {
            return None;
        }
        let mut document: TenantDocument = told("", Value::Object(self.policy.clone()), report)?;
        document.is_of_control_plane = true;
        document.presets = self.presets.clone();
        document.images = self.images.clone();
        document.hosts = self.domains.iter().cloned().collect();
        let secret = |(kid, secret): (&String, &Secret)| (kid.clone(), toml::Value::String(secret.expose().to_owned()));
        document.keys = Some(toml::Value::Table(self.signing_keys.iter().map(secret).collect()));
        for (name, origin) in &self.origins {
            let table: Option<OriginTable> = told(&format!("origins.{name}"), origin.clone(), report);
            document.origins.extend(table.map(|table| (name.clone(), table)));
        }
        Some(document)
    }
}

fn read<T: DeserializeOwned>(kind: &str, body: Value) -> Result<T, UnknownKind> {
    serde_json::from_value(body).map_err(|error| UnknownKind { kind: kind.to_owned(), why: error.to_string() })
}

fn set<T: DeserializeOwned>(
    of: &mut BTreeMap<String, T>,
    kind: &str,
    name: &str,
    body: Option<Value>,
) -> Result<(), UnknownKind> {
    match body {
        Some(body) => drop(of.insert(name.to_owned(), read(kind, body)?)),
        None => drop(of.remove(name)),
    }
    Ok(())
}

/// Reads a value, or tells where in it something is wrong, by the key that it has as a whole.
fn told<T: DeserializeOwned>(key: &str, value: Value, report: &mut Report<'_>) -> Option<T> {
    let read = serde_path_to_error::deserialize(value);
    let told = |error: serde_path_to_error::Error<serde_json::Error>| {
        let (path, why) = (error.path().to_string(), error.into_inner().to_string());
        // What is there instead may be a secret.
        let why = match why.split_once(", expected ") {
            Some((given, expected)) if given.starts_with("invalid ") => format!("expected {expected}"),
            _ => why,
        };
        let path = if path == "." { String::new() } else { path };
        let dot = if key.is_empty() || path.is_empty() { "" } else { "." };
        report.add(&format!("{key}{dot}{path}"), why);
    };
    read.map_err(told).ok()
}
