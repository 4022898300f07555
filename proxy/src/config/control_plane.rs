//! The settings of the control plane that the edge follows, and of the uploads that it serves.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bootstrap::config::Mistakes;
use fetch::Url;
use serde::{Deserialize, Serialize};
use tenancy::usage::EDGE_BYTES_MAX;

use super::{AdminToken, EdgeSettings};

/// Shortest edge token, in bytes: nobody should guess it. The control plane wants as many.
const TOKEN_BYTES_MIN: usize = 32;

/// Settings of the control plane.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlPlaneTable {
    /// Its base URL; without it the policy file is all there is.
    pub url: Option<String>,
    /// What this edge is known to it by.
    pub token: Option<AdminToken>,
    /// Folder of what it has told, sealed with the token; one edge each.
    pub dir: PathBuf,
    /// What this edge is called in its reports; the machine's name where it is not set.
    pub edge_name: Option<String>,
    /// How often it reports what tenants have used.
    pub usage_seconds: u64,
    /// Folders of this machine that tenants of the control plane have as origins, by `tenant/origin`.
    pub folders: BTreeMap<String, PathBuf>,
}

impl Default for ControlPlaneTable {
    fn default() -> Self {
        Self {
            url: None,
            token: None,
            dir: PathBuf::from(".data/feed"),
            edge_name: None,
            usage_seconds: 10,
            folders: BTreeMap::new(),
        }
    }
}

impl ControlPlaneTable {
    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        if let Some(url) = &self.url {
            mistakes.unless(base_url(url).is_some(), "control_plane.url", url, "an http or https URL without a query");
        }
        let is_whole = self.url.is_some() == self.token.is_some();
        mistakes.unless(is_whole, "control_plane.token", "…", "together with control_plane.url, or neither");
        let is_long = |token: &AdminToken| (TOKEN_BYTES_MIN..=256).contains(&token.0.len());
        mistakes.unless(self.token.as_ref().is_none_or(is_long), "control_plane.token", "…", "32 to 256 bytes");
        if let Some(name) = &self.edge_name {
            let is_name = (1..=EDGE_BYTES_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
            mistakes.unless(is_name, "control_plane.edge_name", name, "1 to 64 visible ASCII characters");
        }
        let seconds = self.usage_seconds;
        mistakes.unless((1..=3600).contains(&seconds), "control_plane.usage_seconds", seconds, "1 to 3600");
        for (name, folder) in &self.folders {
            let is_name = name.split_once('/').is_some_and(|(tenant, origin)| {
                transform_url::TenantSlug::new(tenant).is_ok() && transform_url::OriginName::new(origin).is_ok()
            });
            let key = format!("control_plane.folders.{name}");
            mistakes.unless(is_name, &key, folder.display(), "the key is tenant/origin");
            mistakes.unless(folder.is_absolute(), &key, folder.display(), "an absolute path");
        }
    }
}

/// A base URL, its path ending in `/`.
pub fn base_url(text: &str) -> Option<Url> {
    let mut url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())?;
    if url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() || url.password().is_some() {
        return None;
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Some(url)
}

impl EdgeSettings {
    /// The policy file: the one that is set, or the usual one where there is no control plane to follow.
    pub fn policy_file(&self) -> Option<PathBuf> {
        let usual = || self.control_plane.url.is_none().then(|| PathBuf::from("policy.toml"));
        self.policy_file.clone().or_else(usual)
    }
}
