//! Owns the reading of pixels a few rows at a time, on the calling thread.

use std::ffi::c_int;

use libvips::bindings::{self, VipsRect};

use super::error::VipsError;
use super::image::{BandFormat, Image};
use super::watch::Watch;

/// Reads an image of one byte a band from top to bottom; what is read is computed.
pub(crate) struct Strips<'a> {
    image: &'a Image,
    watch: Option<&'a Watch>,
    region: *mut bindings::VipsRegion,
}

impl<'a> Strips<'a> {
    /// Of `image`, until `watch` runs out.
    pub(crate) fn new(image: &'a Image, watch: Option<&'a Watch>) -> Result<Self, VipsError> {
        if image.band_format() != BandFormat::U8 {
            return Err(VipsError::new("region", "not 8 bits a channel"));
        }
        // SAFETY: the image is live, and this value holds it for as long as the region.
        let region = unsafe { bindings::vips_region_new(image.as_ptr()) };
        if region.is_null() { Err(VipsError::take("region")) } else { Ok(Self { image, watch, region }) }
    }

    /// `count` rows from `top` on, or as many as there are.
    pub(crate) fn read(&mut self, top: u32, count: u32) -> Result<Vec<&[u8]>, VipsError> {
        if self.watch.is_some_and(Watch::is_expired) {
            return Err(VipsError::new("region", "the deadline has passed"));
        }
        let side = |length: u32| c_int::try_from(length).map_err(|_| VipsError::new("region", "too large"));
        let count = count.min(self.image.height().saturating_sub(top));
        let wanted = VipsRect { left: 0, top: side(top)?, width: side(self.image.width())?, height: side(count)? };
        // SAFETY: the region is live and used by this thread alone; the rectangle is inside the image.
        if unsafe { bindings::vips_region_prepare(self.region, &raw const wanted) } != 0 {
            return Err(VipsError::take("region"));
        }
        let length = self.image.width() as usize * self.image.bands() as usize;
        // SAFETY: after `prepare`, `valid` covers what was wanted and `data` is its first pixel, rows being `bpl` bytes
        // apart. What the slices point at stays until the region is prepared again, for which they must be gone.
        unsafe {
            let bindings::VipsRegion { data, bpl, valid, .. } = &*self.region;
            let bands = self.image.bands() as usize;
            let (Ok(skipped), Ok(down), Ok(apart)) =
                (usize::try_from(-valid.left), usize::try_from(wanted.top - valid.top), usize::try_from(*bpl))
            else {
                return Err(VipsError::new("region", "it is not what was asked for"));
            };
            let first = data.add(skipped * bands + down * apart);
            Ok((0..count as usize).map(|row| std::slice::from_raw_parts(first.add(row * apart), length)).collect())
        }
    }
}

impl Drop for Strips<'_> {
    fn drop(&mut self) {
        // SAFETY: gives back the one reference this value owns.
        unsafe { bindings::g_object_unref(self.region.cast()) };
    }
}
