//! What the edge keeps, and where: the cache, the cache of originals, the second level. Opened in this order and closed in
//! it, because the purges that all of them go by are in the folder of the first.
//!
//! Must not read or write entries.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use cache::{CacheSettings, CloseReport, RenditionCache};
use memfile::MemFile;
use prometheus::{PullingGauge, Registry};
use tokio::runtime::Handle;

use crate::config::EdgeSettings;
use crate::problem::EdgeError;
use crate::second_level::{Local, SecondLevel};

/// Longest wait for running fills and the flush of the cache at the end, and for writes to the second level.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Remembers when purges of other edges were looked for, beside what they concern.
const LOOKED: &str = "purges-looked-for";

/// The stores of an edge.
pub struct Stores {
    /// Renditions.
    pub cache: RenditionCache<EdgeError>,
    /// Originals, if they are cached.
    pub originals: Option<RenditionCache<EdgeError>>,
    /// Renditions that edges share, if they do.
    pub second_level: Option<Arc<SecondLevel>>,
}

impl Stores {
    /// Opens them. A folder that cannot be used is told in the log and stops nothing.
    ///
    /// # Errors
    /// Settings of the originals or of the second level that make no store, and metrics that are registered already.
    pub async fn open(
        settings: &EdgeSettings,
        cache: CacheSettings,
        registry: &Registry,
        io: &Handle,
    ) -> anyhow::Result<Self> {
        bodies_in_pages(settings, registry)?;
        let cache: RenditionCache<EdgeError> = RenditionCache::open(cache, registry, io.clone()).await?;
        if let Some(fault) = cache.disk_state().fault() {
            tracing::error!(reason = %fault, "the cache has no disk; renditions are kept in memory only");
        }
        let originals = open_originals(settings, &cache, registry, io).await?;
        let local = Local { bans: Arc::clone(cache.bans()), looked: settings.cache.dir.join(LOOKED) };
        let second_level = SecondLevel::open(&settings.second_level, local, registry)?;
        Ok(Self { cache, originals, second_level })
    }

    /// Waits for what runs and is written, and gives the folders up.
    pub async fn close(self) -> CloseReport {
        let closed = self.cache.close(CLOSE_LIMIT).await;
        if let Some(originals) = self.originals {
            // Fetches that still run are for nobody now.
            originals.close(Duration::ZERO).await;
        }
        if let Some(second_level) = self.second_level {
            second_level.settle(CLOSE_LIMIT).await;
        }
        closed
    }
}

/// Lets both caches keep bodies where they can be sent from without being copied, if the system has that.
fn bodies_in_pages(settings: &EdgeSettings, registry: &Registry) -> anyhow::Result<()> {
    match MemFile::new(settings.cache.memory_bytes.saturating_add(settings.originals.memory_bytes)) {
        Ok(file) => memfile::install(file),
        Err(error) => tracing::warn!(%error, "bodies are copied when they are sent"),
    }
    let held_bytes = || memfile::installed().map_or(0.0, |file| file.held_bytes() as f64);
    let help = "Memory of bodies that are sent without being copied";
    let gauge = PullingGauge::new("calotype_body_pages_bytes", help, Box::new(held_bytes))?;
    registry.register(Box::new(gauge))?;
    Ok(())
}

async fn open_originals(
    settings: &EdgeSettings,
    cache: &RenditionCache<EdgeError>,
    registry: &Registry,
    io: &Handle,
) -> anyhow::Result<Option<RenditionCache<EdgeError>>> {
    let Some(config) = settings.originals_config() else { return Ok(None) };
    let config = config.validate().context("the configuration has mistakes under \"originals\"")?;
    let originals = RenditionCache::open_beside(config, cache.bans(), registry, io.clone()).await?;
    if let Some(fault) = originals.disk_state().fault() {
        tracing::error!(reason = %fault, "the cache of originals has no disk");
    }
    Ok(Some(originals))
}
