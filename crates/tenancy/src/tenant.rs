//! The validated policy that requests are judged by.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use transform_url::value::Name;
use transform_url::{Ops, OriginName, Source, TenantSlug};

use crate::{Exhausted, Freshness, Origin, Rates, Signing, UrlSources};

/// A tenant's unchanging id; in a static policy, its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TenantId(Box<str>);

impl TenantId {
    /// Takes a text for what it is.
    pub fn new(id: &str) -> Self {
        Self(id.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What one tenant has and is allowed.
#[derive(Debug)]
pub struct Tenant {
    /// The unchanging id.
    pub id: TenantId,
    /// The name in URLs.
    pub slug: TenantSlug,
    /// Unsigned URLs may use every op.
    pub open: bool,
    /// `-` serves originals, with all their metadata, to unsigned URLs.
    pub originals: bool,
    /// Who signs, and what goes unsigned where the tenant is not open.
    pub signing: Signing,
    /// Lower-case host names that are this tenant's own.
    pub hosts: Vec<String>,
    /// Registered sets of ops.
    pub presets: HashMap<Name, Ops>,
    /// Registered images: what `overlay` lays over a picture and `fallback` puts in its place.
    pub images: HashMap<Name, Source>,
    /// Named origins.
    pub origins: HashMap<OriginName, Arc<Origin>>,
    /// The URLs that may be named as a source.
    pub urls: Arc<UrlSources>,
    /// How long answers stay fresh.
    pub freshness: Freshness,
    /// Whether its renditions go to the second level and come from there, where there is one.
    pub second_level: bool,
    /// Whether its renditions are made fast first, and in fewer bytes when there is time.
    pub improve_when_idle: bool,
    /// How fast requests and fills may come.
    pub rates: Rates,
    /// Which of its quotas are used up.
    pub exhausted: Exhausted,
}
