//! Owns the taking apart of an animation into frames and the putting together again, with its timing.
//!
//! libvips shows an animation as one tall picture, frame below frame. Frames are taken from it from top to bottom, so that the
//! decoder runs along and only finished, usually smaller frames are in memory.

use crate::geometry::{Region, Size};
use crate::steps::resize::extract;
use crate::vips::{Image, Operation, VipsError};

/// Length of a frame that says none, in milliseconds: what browsers take.
const DELAY_MS: i32 = 100;

/// The number `index` frame of `size` out of the tall picture.
pub(crate) fn frame(tall: &Image, index: u32, size: Size) -> Result<Image, VipsError> {
    extract(tall.clone(), Region { x: 0, y: index * size.height, size })
}

/// What an animation is beside its pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Timing {
    /// How long each frame is shown, in milliseconds.
    delays: Vec<i32>,
    /// How often it is played, 0 for ever.
    plays: i32,
}

impl Timing {
    /// The timing of a decoded animation of so many frames.
    pub(crate) fn read(image: &Image, frames: u32) -> Self {
        let mut delays = image.ints_field(c"delay").unwrap_or_default();
        delays.resize(frames as usize, DELAY_MS);
        Self { delays, plays: image.int_field(c"loop").unwrap_or(0) }
    }

    /// `frames`, all of one size, as one tall picture with this timing, as savers want it.
    pub(crate) fn join(&self, frames: &[Image]) -> Result<Image, VipsError> {
        let height = frames.first().map_or(0, Image::height);
        let tall = Operation::new(c"arrayjoin")?.images(c"in", frames)?.int(c"across", 1)?.run()?;
        self.write(&tall, height)
    }

    /// A copy of `tall` with this timing, for frames of `height`.
    pub(crate) fn write(&self, tall: &Image, height: u32) -> Result<Image, VipsError> {
        let tall = tall.editable()?;
        let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
        tall.set_int(c"page-height", i32::try_from(height).unwrap_or(i32::MAX));
        tall.set_int(c"n-pages", count(self.delays.len()));
        tall.set_int(c"loop", self.plays);
        tall.set_ints(c"delay", &self.delays);
        Ok(tall)
    }
}
