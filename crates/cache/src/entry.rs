//! A rendition in a handler's hands, kept or not.

use std::ops::Deref;
use std::sync::Arc;

use foyer::HybridCacheEntry;

use crate::entry_format::StoredRendition;
use crate::rendition::Rendition;

/// A shared rendition; clones are cheap and outlive its eviction.
#[derive(Clone, Debug)]
pub struct Entry(Held);

#[derive(Clone, Debug)]
enum Held {
    Cached(HybridCacheEntry<u128, StoredRendition>),
    Loose(Arc<Rendition>),
}

impl Entry {
    pub(crate) fn cached(entry: HybridCacheEntry<u128, StoredRendition>) -> Self {
        Self(Held::Cached(entry))
    }

    /// False when it was passed on without being kept.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        matches!(self.0, Held::Cached(_))
    }

    pub(crate) fn loose(rendition: Rendition) -> Self {
        Self(Held::Loose(Arc::new(rendition)))
    }
}

impl From<Rendition> for Entry {
    /// Not kept by any cache.
    fn from(rendition: Rendition) -> Self {
        Self::loose(rendition)
    }
}

impl Deref for Entry {
    type Target = Rendition;

    fn deref(&self) -> &Rendition {
        match &self.0 {
            Held::Cached(entry) => &entry.value().rendition,
            Held::Loose(rendition) => rendition,
        }
    }
}
