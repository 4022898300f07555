//! A rendition that was made in haste, while a better one is made to take its place.
//!
//! Must not hold up anybody: it is no flight, nobody can join it, and a fill of the same key goes before. What takes the
//! place of a draft does so only if the draft is still what the cache answers with.

use std::sync::Arc;

use crate::bans::Subject;
use crate::cache::Lookup;
use crate::entry::Entry;
use crate::key::CacheKey;
use crate::rendition::{Rendition, UnixMillis};
use crate::tiers::Tiers;

/// A fresh draft, and the place that what comes of it may take.
pub struct Draft {
    /// Those that it was found in: numbers of bans mean nothing in others.
    tiers: Arc<Tiers>,
    key: CacheKey,
    /// The number of the newest ban before anything is asked for in its place.
    begun: u64,
    entry: Entry,
}

impl Draft {
    /// What the key has, if that is a fresh draft which memory holds. What only the disk takes cannot be replaced: nothing
    /// would tell whether it is still the same.
    pub(crate) async fn find(tiers: Arc<Tiers>, key: CacheKey, now: UnixMillis) -> Option<Self> {
        let begun = tiers.bans.latest();
        let Lookup::Fresh(entry, _) = tiers.lookup(key, now).await else { return None };
        let draft = Self { tiers, key, begun, entry };
        (draft.entry.is_draft && draft.is_current(now)).then_some(draft)
    }

    /// The draft.
    #[must_use]
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Puts `rendition` in the place of the draft, unless it was purged, renewed, replaced or evicted meanwhile.
    pub async fn replace(self, subject: &Subject, rendition: Rendition, now: UnixMillis) -> Option<Entry> {
        let rendition = rendition.begun_by(self.begun);
        // Back into memory, if only the disk has it by now.
        self.tiers.lookup(self.key, now).await;
        let bans = &self.tiers.bans;
        if bans.is_banned(self.key, &rendition) || bans.is_outdated(self.key, subject, self.begun) {
            return None;
        }
        self.tiers.replace_if(self.key, rendition, || self.is_current(now))
    }

    fn is_current(&self, now: UnixMillis) -> bool {
        let Some(Lookup::Fresh(current, _)) = self.tiers.memory(self.key, now) else { return false };
        let is_as_it_was = current.etag() == self.entry.etag() && current.lifetime == self.entry.lifetime;
        is_as_it_was && current.is_draft && current.begun == self.entry.begun
    }
}
