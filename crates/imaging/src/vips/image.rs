//! Owns a reference to a libvips image and what its header says.
//!
//! An image is a description of pixels to come: nothing is decoded before a saver, a statistic or `to_memory` asks.

use std::ffi::{CStr, c_int, c_void};

use libvips::bindings;

use super::error::VipsError;
use super::operation::Operation;

/// A reference to a libvips image, given back on drop.
pub(crate) struct Image {
    raw: *mut bindings::VipsImage,
}

/// How one number of a pixel is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BandFormat {
    U8,
    U16,
    Float,
    Other,
}

/// What the numbers of a pixel mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interpretation {
    Srgb,
    Grey,
    Rgb16,
    Grey16,
    ScRgb,
    Cmyk,
    Lab,
    Other,
}

impl Image {
    /// Takes over a reference that libvips handed out; null is the failure of `operation`.
    pub(super) fn from_raw(raw: *mut bindings::VipsImage, operation: &'static str) -> Result<Self, VipsError> {
        if raw.is_null() { Err(VipsError::take(operation)) } else { Ok(Self { raw }) }
    }

    pub(super) fn as_ptr(&self) -> *mut bindings::VipsImage {
        self.raw
    }

    /// Computes all pixels into memory, after which they may be read in any order.
    pub(crate) fn to_memory(&self) -> Result<Self, VipsError> {
        // SAFETY: the image is live; a new reference or null comes back.
        Self::from_raw(unsafe { bindings::vips_image_copy_memory(self.raw) }, "copy_memory")
    }

    /// The same pixels with nothing but what describes them: no profile, EXIF, XMP, comment, page or timing.
    pub(crate) fn without_metadata(&self) -> Result<Self, VipsError> {
        // Metadata is changed on a copy: others may hold the image and its profile's bytes.
        let copy = Operation::new(c"copy")?.image(c"in", self)?.run()?;
        // SAFETY: returns a fresh null-terminated list of NUL-terminated names that the caller owns.
        let fields = unsafe { bindings::vips_image_get_fields(copy.raw) };
        if fields.is_null() {
            return Ok(copy);
        }
        let mut at = fields;
        // SAFETY: walks the list up to its null; removing a field changes the image and not the list. Fields that describe
        // the pixels are no metadata to libvips and stay.
        unsafe {
            while !(*at).is_null() {
                bindings::vips_image_remove(copy.raw, *at);
                at = at.add(1);
            }
            bindings::g_strfreev(fields);
        }
        Ok(copy)
    }

    /// Width in pixels.
    pub(crate) fn width(&self) -> u32 {
        // SAFETY: plain getter on a live image.
        u32::try_from(unsafe { bindings::vips_image_get_width(self.raw) }).unwrap_or(0)
    }

    /// Height in pixels.
    pub(crate) fn height(&self) -> u32 {
        // SAFETY: plain getter on a live image.
        u32::try_from(unsafe { bindings::vips_image_get_height(self.raw) }).unwrap_or(0)
    }

    /// Numbers per pixel, alpha included.
    pub(crate) fn bands(&self) -> u32 {
        // SAFETY: plain getter on a live image.
        u32::try_from(unsafe { bindings::vips_image_get_bands(self.raw) }).unwrap_or(0)
    }

    /// Whether the last band is alpha.
    pub(crate) fn has_alpha(&self) -> bool {
        // SAFETY: plain getter on a live image.
        unsafe { bindings::vips_image_hasalpha(self.raw) != 0 }
    }

    /// How a number is stored.
    pub(crate) fn band_format(&self) -> BandFormat {
        // SAFETY: plain getter on a live image.
        match unsafe { bindings::vips_image_get_format(self.raw) } {
            bindings::VipsBandFormat_VIPS_FORMAT_UCHAR => BandFormat::U8,
            bindings::VipsBandFormat_VIPS_FORMAT_USHORT => BandFormat::U16,
            bindings::VipsBandFormat_VIPS_FORMAT_FLOAT => BandFormat::Float,
            _ => BandFormat::Other,
        }
    }

    /// What the numbers mean; libvips corrects headers that contradict themselves.
    pub(crate) fn interpretation(&self) -> Interpretation {
        // SAFETY: plain getter on a live image.
        match unsafe { bindings::vips_image_guess_interpretation(self.raw) } {
            bindings::VipsInterpretation_VIPS_INTERPRETATION_sRGB
            | bindings::VipsInterpretation_VIPS_INTERPRETATION_RGB => Interpretation::Srgb,
            bindings::VipsInterpretation_VIPS_INTERPRETATION_B_W => Interpretation::Grey,
            bindings::VipsInterpretation_VIPS_INTERPRETATION_RGB16 => Interpretation::Rgb16,
            bindings::VipsInterpretation_VIPS_INTERPRETATION_GREY16 => Interpretation::Grey16,
            bindings::VipsInterpretation_VIPS_INTERPRETATION_scRGB => Interpretation::ScRgb,
            bindings::VipsInterpretation_VIPS_INTERPRETATION_CMYK => Interpretation::Cmyk,
            bindings::VipsInterpretation_VIPS_INTERPRETATION_LAB
            | bindings::VipsInterpretation_VIPS_INTERPRETATION_LABS
            | bindings::VipsInterpretation_VIPS_INTERPRETATION_LABQ => Interpretation::Lab,
            _ => Interpretation::Other,
        }
    }

    /// EXIF orientation, 1..=8; 1 (upright) if none or out of range.
    pub(crate) fn orientation(&self) -> u8 {
        // SAFETY: reads one header field of a live image; libvips keeps the value in 1..=8.
        let value = unsafe { bindings::vips_image_get_orientation(self.raw) };
        u8::try_from(value).ok().filter(|value| (1..=8).contains(value)).unwrap_or(1)
    }

    /// Pages or frames in the file this image was loaded from, at least 1.
    pub(crate) fn pages(&self) -> u32 {
        // SAFETY: reads one header field of a live image.
        u32::try_from(unsafe { bindings::vips_image_get_n_pages(self.raw) }).unwrap_or(1).max(1)
    }

    /// A whole-number header field by name.
    pub(crate) fn int_field(&self, name: &CStr) -> Option<i32> {
        let mut value: c_int = 0;
        // SAFETY: asks for the field's type first, so that the getter cannot fail; writes one int.
        let found = unsafe {
            bindings::vips_image_get_typeof(self.raw, name.as_ptr()) != 0
                && bindings::vips_image_get_int(self.raw, name.as_ptr(), &raw mut value) == 0
        };
        found.then_some(value)
    }

    /// The embedded ICC profile.
    pub(crate) fn icc_profile(&self) -> Option<&[u8]> {
        let name = c"icc-profile-data";
        let mut data: *const c_void = std::ptr::null();
        let mut length = 0;
        // SAFETY: asks for the field's type first; the getter writes a pointer and a length of memory that the image owns.
        let found = unsafe {
            bindings::vips_image_get_typeof(self.raw, name.as_ptr()) != 0
                && bindings::vips_image_get_blob(self.raw, name.as_ptr(), &raw mut data, &raw mut length) == 0
        };
        if !found || data.is_null() {
            return None;
        }
        let length = usize::try_from(length).ok()?;
        // SAFETY: the image holds `length` bytes at `data` as long as it lives and its metadata is not changed, which
        // this layer does on fresh copies only; the slice borrows the image.
        Some(unsafe { std::slice::from_raw_parts(data.cast::<u8>(), length) })
    }
}

impl Clone for Image {
    fn clone(&self) -> Self {
        // SAFETY: adds a reference to a live object.
        unsafe { bindings::g_object_ref(self.raw.cast()) };
        Self { raw: self.raw }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // SAFETY: gives back the one reference this value owns.
        unsafe { bindings::g_object_unref(self.raw.cast()) };
    }
}
