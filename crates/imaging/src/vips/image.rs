//! Owns a reference to a libvips image and what its header says.
//!
//! An image is a description of pixels to come: nothing is decoded before a saver, a statistic or `to_memory` asks.

use std::ffi::{CStr, c_int, c_void};

use libvips::bindings;

use super::error::VipsError;
use super::operation::{EMPTY_VALUE, Operation};

/// A reference to a libvips image, given back on drop.
pub(crate) struct Image {
    raw: *mut bindings::VipsImage,
}

/// What libvips lists as fields although it describes the pixels.
const PIXEL_FIELDS: [&CStr; 11] = [
    c"width",
    c"height",
    c"bands",
    c"format",
    c"coding",
    c"interpretation",
    c"xoffset",
    c"yoffset",
    c"xres",
    c"yres",
    c"filename",
];

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

    /// A picture of `width` × `height` pixels of `bands` bytes each, copied from `pixels`, with the meaning that many bands
    /// usually have: one or two are grey, three or four are colours.
    pub(crate) fn from_pixels(pixels: &[u8], width: u32, height: u32, bands: u32) -> Result<Self, VipsError> {
        let side = |length: u32| c_int::try_from(length).map_err(|_| VipsError::new("from_pixels", "too large"));
        let wanted = u64::from(width) * u64::from(height) * u64::from(bands);
        if u64::try_from(pixels.len()) != Ok(wanted) {
            return Err(VipsError::new("from_pixels", "the buffer does not have that many pixels"));
        }
        // SAFETY: the buffer holds exactly the bytes of such an image (checked above) and is copied.
        let raw = unsafe {
            bindings::vips_image_new_from_memory_copy(
                pixels.as_ptr().cast(),
                pixels.len() as _,
                side(width)?,
                side(height)?,
                side(bands)?,
                bindings::VipsBandFormat_VIPS_FORMAT_UCHAR,
            )
        };
        let image = Self::from_raw(raw, "from_pixels")?;
        let meaning = if bands < 3 { c"b-w" } else { c"srgb" };
        Operation::new(c"copy")?.image(c"in", &image)?.text(c"interpretation", meaning)?.run()
    }

    /// A matrix for `recomb`, row by row; `rows` is not empty and its rows are of one length.
    pub(crate) fn matrix<const WIDTH: usize>(rows: &[[f64; WIDTH]]) -> Result<Self, VipsError> {
        let side = |length: usize| c_int::try_from(length).map_err(|_| VipsError::new("matrix", "too large"));
        let numbers = rows.as_flattened();
        // SAFETY: the slice holds width × height numbers, which are copied.
        let raw = unsafe {
            bindings::vips_image_new_matrix_from_array(
                side(WIDTH)?,
                side(rows.len())?,
                numbers.as_ptr(),
                side(numbers.len())?,
            )
        };
        Self::from_raw(raw, "matrix")
    }

    /// The pixels, row by row, one byte a band. Computes them.
    pub(crate) fn to_pixels(&self) -> Result<Vec<u8>, VipsError> {
        if self.band_format() != BandFormat::U8 {
            return Err(VipsError::new("to_pixels", "not 8 bits a channel"));
        }
        let mut length = 0;
        // SAFETY: the image is live; the library allocates the buffer and writes its length.
        let data = unsafe { bindings::vips_image_write_to_memory(self.raw, &raw mut length) };
        if data.is_null() {
            return Err(VipsError::take("to_pixels"));
        }
        let length = usize::try_from(length).unwrap_or(0);
        // SAFETY: the buffer holds `length` initialised bytes, is copied, and given back to the allocator it came from.
        unsafe {
            let pixels = std::slice::from_raw_parts(data.cast::<u8>(), length).to_vec();
            bindings::g_free(data);
            Ok(pixels)
        }
    }

    /// The same pixels with those fields of metadata only for which `keeps` says yes. What describes the pixels themselves
    /// (size, bands, format, meaning) is no metadata and stays.
    pub(crate) fn with_fields(&self, mut keeps: impl FnMut(&CStr) -> bool) -> Result<Self, VipsError> {
        let copy = self.editable()?;
        copy.each_field(|field| {
            if !keeps(field) {
                // SAFETY: `copy` is live and nobody else has seen it; the name is not that of the field itself.
                unsafe { bindings::vips_image_remove(copy.raw, field.as_ptr()) };
            }
        });
        Ok(copy)
    }

    /// Takes over the metadata and the resolution of `other`. What describes the pixels themselves stays.
    pub(crate) fn with_metadata_of(&self, other: &Self) -> Result<Self, VipsError> {
        // SAFETY: plain getters on a live image.
        let (across, down) =
            unsafe { (bindings::vips_image_get_xres(other.raw), bindings::vips_image_get_yres(other.raw)) };
        let copy =
            Operation::new(c"copy")?.image(c"in", self)?.double(c"xres", across)?.double(c"yres", down)?.run()?;
        other.each_field(|field| {
            let mut value = EMPTY_VALUE;
            // SAFETY: the value is zeroed before the getter fills it, and unset once if it did; the setter copies it into `copy`,
            // which nobody else has seen.
            unsafe {
                if !PIXEL_FIELDS.contains(&field)
                    && bindings::vips_image_get(other.raw, field.as_ptr(), &raw mut value) == 0
                {
                    bindings::vips_image_set(copy.raw, field.as_ptr(), &raw mut value);
                    bindings::g_value_unset(&raw mut value);
                }
            }
        });
        Ok(copy)
    }

    /// Hands out the names of all fields there are now; they may be changed meanwhile.
    fn each_field(&self, mut work: impl FnMut(&CStr)) {
        // SAFETY: returns a fresh null-terminated list of NUL-terminated names that the caller owns.
        let fields = unsafe { bindings::vips_image_get_fields(self.raw) };
        if fields.is_null() {
            return;
        }
        let mut at = fields;
        // SAFETY: walks the list up to its null; changing a field changes the image and not the list.
        unsafe {
            while !(*at).is_null() {
                work(CStr::from_ptr(*at));
                at = at.add(1);
            }
            bindings::g_strfreev(fields);
        }
    }

    /// A copy whose metadata may be changed: others may hold the image itself, and its profile's bytes.
    pub(crate) fn editable(&self) -> Result<Self, VipsError> {
        Operation::new(c"copy")?.image(c"in", self)?.run()
    }

    /// Sets a whole-number field. Only for an image that [`Self::editable`] or [`Self::with_fields`] has just made.
    pub(crate) fn set_int(&self, name: &CStr, value: i32) {
        // SAFETY: `name` is NUL-terminated and the image is live; the library copies both.
        unsafe { bindings::vips_image_set_int(self.raw, name.as_ptr(), value) };
    }

    /// Sets a field of whole numbers. Only for an image that [`Self::editable`] or [`Self::with_fields`] has just made.
    pub(crate) fn set_ints(&self, name: &CStr, values: &[i32]) {
        let count = c_int::try_from(values.len()).unwrap_or(0);
        // SAFETY: the slice holds at least `count` numbers, which the library copies.
        unsafe { bindings::vips_image_set_array_int(self.raw, name.as_ptr(), values.as_ptr(), count) };
    }

    /// A field of whole numbers by name.
    pub(crate) fn ints_field(&self, name: &CStr) -> Option<Vec<i32>> {
        let (mut values, mut count): (*mut c_int, c_int) = (std::ptr::null_mut(), 0);
        // SAFETY: asks for the field's type first; the getter writes a pointer to numbers that the image owns and their count.
        let found = unsafe {
            bindings::vips_image_get_typeof(self.raw, name.as_ptr()) == bindings::vips_array_int_get_type()
                && bindings::vips_image_get_array_int(self.raw, name.as_ptr(), &raw mut values, &raw mut count) == 0
        };
        let count = usize::try_from(count).unwrap_or(0);
        if !found || values.is_null() || count == 0 {
            return None;
        }
        // SAFETY: the image holds `count` numbers there as long as it lives; they are copied at once.
        Some(unsafe { std::slice::from_raw_parts(values, count) }.to_vec())
    }

    /// Where this image was cut from its input, in pixels from the left and the top, if the last operation was a cut.
    pub(crate) fn cut_from(&self) -> (u32, u32) {
        // SAFETY: plain getters on a live image.
        let (x, y) =
            unsafe { (bindings::vips_image_get_xoffset(self.raw), bindings::vips_image_get_yoffset(self.raw)) };
        let length = |offset: c_int| u32::try_from(offset.saturating_neg()).unwrap_or(0);
        (length(x), length(y))
    }

    /// What all pixels take in memory, in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let number_bytes = match self.band_format() {
            BandFormat::U8 => 1,
            BandFormat::U16 => 2,
            BandFormat::Float => 4,
            // The widest there is: two doubles.
            BandFormat::Other => 16,
        };
        u64::from(self.width()) * u64::from(self.height()) * u64::from(self.bands()) * number_bytes
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

    /// Whether the field `name` is this text.
    pub(crate) fn has_text(&self, name: &CStr, text: &CStr) -> bool {
        let mut found: *const std::ffi::c_char = std::ptr::null();
        // SAFETY: asks for the field's type first; the getter writes a pointer to a NUL-terminated text that the image owns,
        // which is compared at once.
        unsafe {
            bindings::vips_image_get_typeof(self.raw, name.as_ptr()) != 0
                && bindings::vips_image_get_string(self.raw, name.as_ptr(), &raw mut found) == 0
                && !found.is_null()
                && CStr::from_ptr(found) == text
        }
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
