//! Counts what came of refreshes: fills that nobody waits for, because the cache had an old rendition to answer with.
//!
//! An origin that fails shows here and nowhere else as long as the cache has what is asked for. Must not count other fills: the
//! answers to those who wait are counted as requests.

use cache::Filled;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use crate::problem::EdgeError;

/// One counter for each result.
pub struct Refreshes {
    renewed: IntCounter,
    replaced: IntCounter,
    failed: IntCounter,
}

impl Refreshes {
    /// Counters at zero.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let help = "Refreshes of old renditions: renewed unchanged, replaced, or failed so that the old one stays.";
        let results = IntCounterVec::new(Opts::new("calotype_refreshes_total", help), &["result"])?;
        registry.register(Box::new(results.clone()))?;
        let [renewed, replaced, failed] =
            ["renewed", "replaced", "failed"].map(|name| results.with_label_values(&[name]));
        Ok(Self { renewed, replaced, failed })
    }

    /// Counts one that has ended.
    pub fn count(&self, filled: &Result<Filled, EdgeError>, not_modified: bool) {
        let counter = match filled {
            Ok(Filled::Hold(_)) | Err(_) => &self.failed,
            Ok(_) if not_modified => &self.renewed,
            Ok(_) => &self.replaced,
        };
        counter.inc();
    }
}
