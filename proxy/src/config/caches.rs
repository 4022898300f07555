//! The settings of the caches: where they are and how large.

use std::path::PathBuf;

use bootstrap::config::Mistakes;
use cache::CacheConfig;
use serde::{Deserialize, Serialize};

use super::{EdgeSettings, MIB};

/// Bytes of originals that are gathered for one write: as many as the largest that is usual.
const ORIGINALS_BUFFER_BYTES: u64 = 32 * MIB;

/// Settings of the cache.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheTable {
    /// Folder of the disk part; one edge process each.
    pub dir: PathBuf,
    /// Size of the memory part.
    pub memory_bytes: u64,
    /// Size of the disk part; 0 turns it off.
    pub disk_bytes: u64,
}

impl Default for CacheTable {
    fn default() -> Self {
        Self { dir: PathBuf::from(".data/cache"), memory_bytes: 256 * MIB, disk_bytes: 4096 * MIB }
    }
}

/// Settings of the cache of originals from buckets and web servers, in a folder under that of the cache.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OriginalsTable {
    /// Size of the memory part.
    pub memory_bytes: u64,
    /// Size of the disk part; 0 turns the cache of originals off.
    pub disk_bytes: u64,
}

impl Default for OriginalsTable {
    fn default() -> Self {
        Self { memory_bytes: 32 * MIB, disk_bytes: 1024 * MIB }
    }
}

impl EdgeSettings {
    /// The cache's own settings, not validated yet.
    pub fn cache_config(&self) -> CacheConfig {
        CacheConfig {
            dir: self.cache.dir.clone(),
            memory_bytes: self.cache.memory_bytes,
            disk_bytes: self.cache.disk_bytes,
            flights_max: u32::try_from(self.transform.fills).unwrap_or(u32::MAX),
            ..CacheConfig::default()
        }
    }

    /// The settings of the cache of originals, not validated yet; `None` if there is none, because it is turned off or
    /// the whole disk is.
    pub fn originals_config(&self) -> Option<CacheConfig> {
        (self.originals.disk_bytes > 0 && self.cache.disk_bytes > 0).then(|| CacheConfig {
            name: "originals",
            metrics_prefix: "calotype_originals_cache",
            dir: self.cache.dir.join("originals"),
            memory_bytes: self.originals.memory_bytes,
            disk_bytes: self.originals.disk_bytes,
            // An eighth of a small disk, but room for the largest original that is usual.
            buffer_bytes: Some((self.originals.disk_bytes / 8).min(ORIGINALS_BUFFER_BYTES)),
            flights_max: u32::try_from(self.transform.fills).unwrap_or(u32::MAX),
            ..CacheConfig::default()
        })
    }

    /// What the caches would refuse, said together with everything else.
    pub(super) fn check_caches(&self, mistakes: &mut Mistakes) {
        let caches = [("cache", Some(self.cache_config())), ("originals", self.originals_config())];
        for (table, config) in caches {
            let Some(Err(found)) = config.map(CacheConfig::validate) else { continue };
            // `transform.fills` has a narrower range of its own.
            for mistake in found.0.into_iter().filter(|mistake| mistake.field != "flights_max") {
                mistakes.add(format!("{table}.{}", mistake.field), mistake.value, mistake.expected);
            }
        }
    }
}
