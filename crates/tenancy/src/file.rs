//! The static policy file (TOML), and its translation into [`Tenant`]s with every mistake reported at once.

use std::collections::BTreeMap;

use serde::Deserialize;
use thiserror::Error;

use crate::document::{Report, TenantDocument};
use crate::{Mistake, Tenant, TenantId};

/// The policy file as written. `docs/policy.md` explains every key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    #[serde(default)]
    tenants: BTreeMap<String, TenantDocument>,
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

impl PolicyFile {
    /// Reads the text of a policy file: its tenants, in the order of their names. No two of them have the same host.
    ///
    /// # Errors
    /// [`PolicyError::Syntax`] with its place, or [`PolicyError::Mistakes`] with all of them.
    pub fn load(text: &str) -> Result<Vec<Tenant>, PolicyError> {
        let file: Self = toml::from_str(text).map_err(|error| syntax(text, &error))?;
        let mut mistakes = Vec::new();
        let mut tenants = Vec::new();
        for (slug, document) in file.tenants {
            let mut report = Report { key: format!("tenants.{slug}"), mistakes: &mut mistakes };
            tenants.extend(document.check(TenantId::new(&slug), &slug, &mut report));
        }
        check_hosts(&tenants, &mut mistakes);
        if mistakes.is_empty() { Ok(tenants) } else { Err(PolicyError::Mistakes(mistakes)) }
    }
}

fn syntax(text: &str, error: &toml::de::Error) -> PolicyError {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |start| start.chars().count()) + 1;
    PolicyError::Syntax { line, column, reason: error.message().to_owned() }
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
