//! Owns the reading of BMP, by a Rust decoder: libvips hands it to ImageMagick, which is not let near a stranger's bytes.

use std::io::Cursor;

use image::codecs::bmp::BmpDecoder;
use image::{DynamicImage, ImageDecoder, ImageError};

use crate::geometry::Size;
use crate::vips::{Image, VipsError};

/// What a header says: size, and whether pixels have alpha.
pub(crate) struct BmpHeader {
    pub(crate) size: Size,
    pub(crate) alpha: bool,
}

/// Reads the header only.
pub(crate) fn header(bytes: &[u8]) -> Result<BmpHeader, VipsError> {
    let decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(failed)?;
    let (width, height) = decoder.dimensions();
    Ok(BmpHeader { size: Size::new(width, height), alpha: decoder.color_type().has_alpha() })
}

/// Decodes all pixels. The size is checked before, by [`header`] and the limits.
pub(crate) fn decode(bytes: &[u8]) -> Result<Image, VipsError> {
    let decoder = BmpDecoder::new(Cursor::new(bytes)).map_err(failed)?;
    let picture = DynamicImage::from_decoder(decoder).map_err(failed)?;
    let (width, height) = (picture.width(), picture.height());
    if picture.color().has_alpha() {
        Image::from_pixels(&picture.into_rgba8(), width, height, 4)
    } else {
        Image::from_pixels(&picture.into_rgb8(), width, height, 3)
    }
}

fn failed(error: ImageError) -> VipsError {
    VipsError::new("bmp decoder", &error.to_string())
}
