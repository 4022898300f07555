//! Owns the bounds on one render, checked against the header before any pixel is decoded.

use std::time::Instant;

use crate::error::ImagingError;
use crate::geometry::Size;
use crate::probe::ImageInfo;

/// What one render may take. The defaults are the delivery defaults.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest source, in bytes. Default 25 MB.
    pub source_bytes: usize,
    /// Most pixels over all frames that are wanted, in millions; of a source, and of an animated result. Default 50.
    pub megapixels: u32,
    /// Most frames of an animation. Default 60.
    pub frames: u32,
    /// Longest side of an output, in pixels. Default 8192.
    pub output_px: u32,
    /// Largest SVG, in bytes: its cost is not in its pixels. Default 2 MB.
    pub svg_bytes: usize,
    /// When to give up. Default never.
    pub deadline: Option<Instant>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            source_bytes: 25_000_000,
            megapixels: 50,
            frames: 60,
            output_px: 8192,
            svg_bytes: 2_000_000,
            deadline: None,
        }
    }
}

impl Limits {
    /// Checks the length of a source.
    pub(crate) fn check_bytes(&self, bytes: usize, is_svg: bool) -> Result<(), ImagingError> {
        let limit = if is_svg { self.svg_bytes.min(self.source_bytes) } else { self.source_bytes };
        if bytes > limit { Err(ImagingError::SourceTooLarge { bytes, limit }) } else { Ok(()) }
    }

    /// Checks what a header claims, of which `frames` frames are wanted. An SVG has no pixels of its own; what it is drawn at
    /// is bounded by the output.
    pub(crate) fn check_header(&self, info: &ImageInfo, frames: u32) -> Result<(), ImagingError> {
        if frames > self.frames {
            return Err(ImagingError::TooManyFrames { frames, limit: self.frames });
        }
        if info.is_vector() { Ok(()) } else { self.check_pixels(info, frames) }
    }

    /// Checks the pixels of `frames` frames in the source's own size, which is what a trim by colour looks at.
    pub(crate) fn check_pixels(&self, info: &ImageInfo, frames: u32) -> Result<(), ImagingError> {
        if info.pixels_of(frames) > self.pixels() {
            return Err(ImagingError::TooManyPixels {
                width: info.stored.width,
                height: info.stored.height,
                frames,
                limit_megapixels: self.megapixels,
            });
        }
        Ok(())
    }

    /// Checks the size of a result of several frames; that of a single one is bounded by its sides.
    pub(crate) fn check_animation(&self, size: Size, frames: u32) -> Result<(), ImagingError> {
        if frames > 1 && size.pixels().saturating_mul(frames.into()) > self.pixels() {
            return Err(ImagingError::AnimationTooLarge { size, frames, limit_megapixels: self.megapixels });
        }
        Ok(())
    }

    fn pixels(&self) -> u64 {
        u64::from(self.megapixels) * 1_000_000
    }
}
