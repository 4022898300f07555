//! The settings of making renditions: how many at a time, how long, and of what.

use bootstrap::config::Mistakes;
use serde::{Deserialize, Serialize};

use super::MIB;

/// Settings of making renditions.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformTable {
    /// libvips threads; 0 means one a core.
    pub threads: usize,
    /// Renditions that may wait for a thread; one more is answered 503 at once.
    pub queue: usize,
    /// Renditions of one tenant that may wait for a thread; one more is answered 503 at once.
    pub tenant_queue: usize,
    /// Memory of the renditions that are being made, as estimated; others wait.
    pub memory_bytes: u64,
    /// Memory of decoded originals that renditions under way together share; 0 shares nothing.
    pub shared_decode_bytes: u64,
    /// Renditions that may be in the making, those that wait for their original included.
    pub fills: usize,
    /// Renditions of one tenant that may be in the making; one more is answered 503 at once.
    pub tenant_fills: usize,
    /// Originals held in memory at the same time; fills wait for room.
    pub source_memory_bytes: u64,
    /// Time for one rendition, from the request to the last byte.
    pub deadline_seconds: u64,
}

impl Default for TransformTable {
    fn default() -> Self {
        Self {
            threads: 0,
            queue: 256,
            tenant_queue: 128,
            memory_bytes: 512 * MIB,
            shared_decode_bytes: 64 * MIB,
            fills: 512,
            tenant_fills: 256,
            source_memory_bytes: 256 * MIB,
            deadline_seconds: 10,
        }
    }
}

impl TransformTable {
    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        mistakes.unless(self.threads <= 1024, "transform.threads", self.threads, "at most 1024");
        mistakes.unless((1..=65_536).contains(&self.queue), "transform.queue", self.queue, "1 to 65536");
        mistakes.unless(
            (1..=65_536).contains(&self.tenant_queue),
            "transform.tenant_queue",
            self.tenant_queue,
            "1 to 65536",
        );
        mistakes.unless(
            (MIB..=1 << 40).contains(&self.memory_bytes),
            "transform.memory_bytes",
            self.memory_bytes,
            "1 MiB to 1 TiB",
        );
        mistakes.unless(
            self.shared_decode_bytes <= 1 << 40,
            "transform.shared_decode_bytes",
            self.shared_decode_bytes,
            "at most 1 TiB",
        );
        mistakes.unless((1..=65_536).contains(&self.fills), "transform.fills", self.fills, "1 to 65536");
        mistakes.unless(
            (1..=65_536).contains(&self.tenant_fills),
            "transform.tenant_fills",
            self.tenant_fills,
            "1 to 65536",
        );
        mistakes.unless(
            (1..=600).contains(&self.deadline_seconds),
            "transform.deadline_seconds",
            self.deadline_seconds,
            "1 to 600",
        );
    }
}

/// Settings of what is refused.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsTable {
    /// Largest original that is transformed.
    pub source_bytes: u64,
    /// Most megapixels of an original, over all its frames.
    pub megapixels: u32,
    /// Most frames of an original.
    pub frames: u32,
    /// Largest original that `-` passes through.
    pub original_bytes: u64,
}

impl Default for LimitsTable {
    fn default() -> Self {
        Self { source_bytes: 25 * MIB, megapixels: 50, frames: 60, original_bytes: 5 * 1024 * MIB }
    }
}

impl LimitsTable {
    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        mistakes.unless(
            (1..=4096 * MIB).contains(&self.source_bytes),
            "limits.source_bytes",
            self.source_bytes,
            "1 byte to 4 GiB",
        );
        mistakes.unless((1..=10_000).contains(&self.megapixels), "limits.megapixels", self.megapixels, "1 to 10000");
        mistakes.unless((1..=10_000).contains(&self.frames), "limits.frames", self.frames, "1 to 10000");
    }
}
