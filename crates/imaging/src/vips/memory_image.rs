//! Owns a finished picture in memory that several threads look at.

use super::error::VipsError;
use super::image::Image;

/// A picture whose pixels are all in memory. Only copies of its header are handed out, so that nobody can mark it killed or
/// change its fields under others.
pub(crate) struct MemoryImage(Image);

// SAFETY: libvips images may be used by any thread, as long as none changes one that others can see. The only image here is
// never changed: its pixels are finished, and `view` copies the header, for which libvips takes its own lock. References
// are counted atomically.
unsafe impl Send for MemoryImage {}
// SAFETY: as above.
unsafe impl Sync for MemoryImage {}

impl MemoryImage {
    /// Computes all pixels of `image`.
    pub(crate) fn new(image: &Image) -> Result<Self, VipsError> {
        image.to_memory().map(Self)
    }

    /// The picture for one who looks: the same pixels, a header of its own.
    pub(crate) fn view(&self) -> Result<Image, VipsError> {
        self.0.editable()
    }
}

impl std::fmt::Debug for MemoryImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemoryImage({}x{})", self.0.width(), self.0.height())
    }
}
