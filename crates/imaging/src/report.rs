//! Owns the answer to `f=json`: facts about the picture.

use serde::Serialize;

use crate::geometry::Size;
use crate::palette::{Palette, PaletteColour};
use crate::probe::{ColourSpace, ImageInfo};

/// The body of `f=json`: the picture that the other ops make, and the original it is made from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Width in pixels of the picture that the ops make.
    pub width: u32,
    /// Height in pixels of the picture that the ops make.
    pub height: u32,
    /// The colour of most of that picture, `#rrggbb`; none if nothing of it is visible.
    pub dominant_colour: Option<String>,
    /// Up to six colours that stand for that picture, the most frequent first.
    pub palette: Vec<PaletteColour>,
    /// The file it is made from.
    pub original: OriginalReport,
}

/// The file as stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct OriginalReport {
    /// Format, by its content: `jpeg`, `png`, `webp`, `gif`, `avif`, `heic`, `tiff`, `jxl`, `svg` or `bmp`.
    pub format: &'static str,
    /// Length in bytes.
    pub bytes: usize,
    /// Width in pixels as stored, before the EXIF orientation.
    pub width: u32,
    /// Height in pixels as stored, before the EXIF orientation.
    pub height: u32,
    /// EXIF orientation, 1 (upright) to 8.
    pub orientation: u8,
    /// Width in pixels as seen, after the EXIF orientation.
    pub upright_width: u32,
    /// Height in pixels as seen, after the EXIF orientation.
    pub upright_height: u32,
    /// Pages or pictures in the file.
    pub pages: u32,
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
}

impl Report {
    /// The facts in `info`, for a result of `size` with these colours.
    pub(crate) fn new(info: &ImageInfo, size: Size, palette: &Palette) -> Self {
        Self {
            width: size.width,
            height: size.height,
            dominant_colour: palette.0.first().map(|first| first.colour.clone()),
            palette: palette.0.clone(),
            original: OriginalReport {
                format: info.format.name(),
                bytes: info.bytes,
                width: info.stored.width,
                height: info.stored.height,
                orientation: info.orientation,
                upright_width: info.upright.width,
                upright_height: info.upright.height,
                pages: info.pages,
                frames: info.frames,
                alpha: info.alpha,
                colour_space: info.colour_space,
                bit_depth: info.bit_depth,
                icc: info.icc,
            },
        }
    }

    /// The JSON text.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a struct of numbers and names has a JSON text")
    }
}
