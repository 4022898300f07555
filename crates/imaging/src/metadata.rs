//! Owns which fields of a picture's metadata go into the file that is written.
//!
//! Never kept: the profile, since the pixels are sRGB by now, which is what a picture without one means; the orientation,
//! which has been applied; and the thumbnail inside EXIF, which shows what a crop may have been meant to hide.

use std::ffi::CStr;

use transform_url::value::Metadata;

use crate::vips::{Image, VipsError};

/// What makes an animation of a tall picture.
const TIMING: [&str; 4] = ["page-height", "n-pages", "delay", "loop"];
/// Who made it and whose it is (EXIF 2.32 §4.6.5). libvips makes an EXIF block of them.
const COPYRIGHT: [&str; 2] = ["exif-ifd0-Artist", "exif-ifd0-Copyright"];
/// Blocks that are kept whole.
const BLOCKS: [&str; 3] = ["exif-data", "xmp-data", "iptc-data"];
/// Single EXIF entries, as libvips lists them beside the block.
const EXIF_ENTRY: &str = "exif-ifd";
const EXIF_ORIENTATION: &str = "exif-ifd0-Orientation";
/// Entries of the thumbnail.
const EXIF_THUMBNAIL: &str = "exif-ifd1-";

/// `image` with no field but those that are to be written.
pub(crate) fn reduced(image: &Image, keep: Metadata, is_animation: bool) -> Result<Image, VipsError> {
    image.with_fields(|field| is_kept(field, keep, is_animation))
}

fn is_kept(field: &CStr, keep: Metadata, is_animation: bool) -> bool {
    let Ok(field) = field.to_str() else { return false };
    if TIMING.contains(&field) {
        return is_animation;
    }
    match keep {
        Metadata::None => false,
        Metadata::Copyright => COPYRIGHT.contains(&field),
        Metadata::Keep => {
            let is_entry = field.starts_with(EXIF_ENTRY) && !field.starts_with(EXIF_THUMBNAIL);
            BLOCKS.contains(&field) || is_entry && field != EXIF_ORIENTATION
        }
    }
}
