//! The part of a tenant's table about signatures.
//!
//! Must not repeat a secret in a mistake. That is why `keys` is read as any value first: the parser's own message about
//! a wrong type would quote it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use transform_url::signing::{KeyName, SECRET_BYTES};
use transform_url::table::Side;
use transform_url::value::{Name, OpValue};

use super::Report;
use crate::{Secret, Unsigned};

/// The value of `signed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Signed {
    /// No URL goes without a signature.
    Required,
    /// Some do.
    #[default]
    Optional,
}

/// The value of `unsigned`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UnsignedTable {
    #[serde(default)]
    widths: Vec<i64>,
    presets: Option<Vec<String>>,
}

/// Checks the names of keys and the lengths of their secrets.
pub(super) fn check_keys(keys: Option<toml::Value>, report: &mut Report<'_>) -> BTreeMap<KeyName, Secret> {
    let table = match keys {
        None => return BTreeMap::new(),
        Some(toml::Value::Table(table)) => table,
        Some(_) => {
            report.add("keys", "it is a table: a name and a secret for each key");
            return BTreeMap::new();
        }
    };
    table.into_iter().filter_map(|(name, secret)| check_key(&name, secret, report)).collect()
}

fn check_key(name: &str, secret: toml::Value, report: &mut Report<'_>) -> Option<(KeyName, Secret)> {
    let key = format!("keys.{name}");
    let checked =
        KeyName::new(name).map_err(|_| report.add(&key, format!("the name of a key is {}", KeyName::ALLOWED))).ok();
    let toml::Value::String(secret) = secret else {
        report.add(&key, "the secret is a text");
        return None;
    };
    if !SECRET_BYTES.contains(&secret.len()) {
        let (min, max) = (SECRET_BYTES.start(), SECRET_BYTES.end());
        report.add(&key, format!("the secret has {} bytes, allowed are {min} to {max}", secret.len()));
        return None;
    }
    checked.map(|name| (name, Secret::new(secret)))
}

impl UnsignedTable {
    /// Checks the allow-lists against the names of the presets, sound or not: a mistake is told once.
    pub(super) fn check(self, presets: &BTreeMap<String, String>, report: &mut Report<'_>) -> Unsigned {
        let mut unsigned = Unsigned::default();
        for width in self.widths {
            match u32::try_from(width).ok().and_then(|width| Side::new(width).ok()) {
                Some(side) => {
                    unsigned.widths.insert(side.get());
                }
                None => report.add("unsigned.widths", format!("{width} is not {}", Side::allowed())),
            }
        }
        for name in self.presets.iter().flatten().filter(|name| !presets.contains_key(*name)) {
            report.add("unsigned.presets", format!("there is no preset {name:?}"));
        }
        let names = self.presets.unwrap_or_else(|| presets.keys().cloned().collect());
        unsigned.presets = names.iter().filter_map(|name| Name::parse(name).ok()).collect::<BTreeSet<_>>();
        unsigned
    }
}
