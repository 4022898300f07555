//! Owns the answer to `f=json`: facts about the picture.

use serde::Serialize;

use crate::probe::{ColourSpace, ImageInfo};

/// The body of `f=json`. It describes the source: ops other than `format` do not change it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Format of the source, by its content: `jpeg`, `png`, `webp`, `gif`, `avif`, `heic`, `tiff`, `jxl` or `svg`.
    pub format: &'static str,
    /// Width in pixels as seen, after the EXIF orientation.
    pub width: u32,
    /// Height in pixels as seen, after the EXIF orientation.
    pub height: u32,
    /// Frames of an animation, 1 for a still.
    pub frames: u32,
    /// Whether there is an alpha channel.
    pub alpha: bool,
    /// What the numbers of a pixel mean.
    pub colour_space: ColourSpace,
    /// Bits per channel.
    pub bit_depth: u8,
    /// Whether an ICC profile is embedded.
    pub icc: bool,
    /// The file as stored.
    pub original: OriginalReport,
}

/// The file as stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct OriginalReport {
    /// Width in pixels before the EXIF orientation.
    pub width: u32,
    /// Height in pixels before the EXIF orientation.
    pub height: u32,
    /// EXIF orientation, 1 (upright) to 8.
    pub orientation: u8,
    /// Pages or pictures in the file.
    pub pages: u32,
    /// Length in bytes.
    pub bytes: usize,
}

impl Report {
    /// The facts in `info`.
    pub fn new(info: &ImageInfo) -> Self {
        Self {
            format: info.format.name(),
            width: info.upright.width,
            height: info.upright.height,
            frames: info.frames,
            alpha: info.alpha,
            colour_space: info.colour_space,
            bit_depth: info.bit_depth,
            icc: info.icc,
            original: OriginalReport {
                width: info.stored.width,
                height: info.stored.height,
                orientation: info.orientation,
                pages: info.pages,
                bytes: info.bytes,
            },
        }
    }

    /// The JSON text.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a struct of numbers and names has a JSON text")
    }
}
