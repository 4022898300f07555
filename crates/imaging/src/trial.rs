//! Owns the trial, at the start, of what the running library can really read and write.
//!
//! That an operation is there says little: libheif and others load codecs one by one, and a loader without its codec fails
//! on every picture. So a tiny picture is written in each encoding, and a tiny sample read of each format whose codec may
//! be missing.

use bytes::Bytes;

use crate::encoding::Encoding;
use crate::format::SourceFormat;
use crate::probe::{Pages, Scale, open};
use crate::vips::{Image, Library, Operation, has_operation};

/// Why a format is not read or written here.
const NOT_BUILT_IN: &str = "the installed libvips was built without it";
const NO_DECODER: &str = "the installed libvips has no decoder for it";
const NO_ENCODER: &str = "the installed libvips has no encoder for it";

/// A picture of 16 × 16 pixels in each format whose codec is loaded on demand.
fn sample(format: SourceFormat) -> Option<&'static [u8]> {
    match format {
        SourceFormat::Avif => Some(include_bytes!("trial/sample.avif")),
        SourceFormat::Heic => Some(include_bytes!("trial/sample.heic")),
        SourceFormat::Jxl => Some(include_bytes!("trial/sample.jxl")),
        SourceFormat::Svg => Some(b"<svg xmlns='http://www.w3.org/2000/svg' width='16' height='16'/>"),
        SourceFormat::Jpeg
        | SourceFormat::Png
        | SourceFormat::Webp
        | SourceFormat::Gif
        | SourceFormat::Tiff
        | SourceFormat::Bmp => None,
    }
}

/// Whether `format` is read.
///
/// # Errors
/// Why not.
pub(crate) fn reads(library: Library, format: SourceFormat) -> Result<(), &'static str> {
    if format.loader_name().is_some_and(|name| !has_operation(library, name)) {
        return Err(NOT_BUILT_IN);
    }
    let Some(sample) = sample(format) else { return Ok(()) };
    open(&Bytes::from_static(sample), format, Scale::Full, Pages::One(0))
        .and_then(|image| image.to_memory())
        .map(drop)
        .map_err(|_| NO_DECODER)
}

/// Whether `encoding` is written.
///
/// # Errors
/// Why not.
pub(crate) fn writes(library: Library, encoding: Encoding) -> Result<(), &'static str> {
    let Some(saver) = encoding.saver_name() else { return Ok(()) };
    if !has_operation(library, saver) {
        return Err(NOT_BUILT_IN);
    }
    let written = || {
        let picture = Image::from_pixels(&[128; 16 * 16 * 3], 16, 16, 3)?;
        let save = Operation::new(saver)?.image(c"in", &picture)?;
        // The saver of AVIF is that of HEIC too.
        let save = if encoding == Encoding::Avif { save.text(c"compression", c"av1")? } else { save };
        save.run_to_buffer()
    };
    written().map(drop).map_err(|_| NO_ENCODER)
}
