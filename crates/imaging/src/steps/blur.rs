//! Blurs, sharpens and pixelates.

use super::bands::{on_colours, pixels, premultiplied};
use super::resize::extract;
use crate::geometry::{Region, Size};
use crate::vips::{Image, Operation, VipsError};

/// Standard deviation, in pixels of what is convolved, from which on a blur is made of a shrunk picture: its cost grows with
/// its width, and what it leaves has no detail to lose.
const SIGMA_MAX: f64 = 8.0;
/// Standard deviation in the shrunk picture that a wide blur aims at.
const SIGMA_SHRUNK: f64 = 4.0;
/// What shrinking by a box and enlarging by a triangle blur themselves, in squared pixels of the shrunk picture
/// (1/12 + 1/6).
const SHRINKING_VARIANCE: f64 = 0.25;

/// `image`, which is in memory, under a Gaussian blur.
pub(crate) fn blur(image: &Image, sigma: f64) -> Result<Image, VipsError> {
    premultiplied(image, |image| {
        if sigma <= SIGMA_MAX {
            return gaussian(&image, sigma);
        }
        let longest = image.width().max(image.height());
        // At most 250 / 4, so the cast is exact.
        let factor = ((sigma / SIGMA_SHRUNK) as u32).clamp(1, longest);
        let size = Size::new(image.width(), image.height());
        let small = shrink(&image, factor)?;
        let sigma = ((sigma / f64::from(factor)).powi(2) - SHRINKING_VARIANCE).max(0.1).sqrt();
        let small = gaussian(&small, sigma)?;
        let large = Operation::new(c"resize")?
            .image(c"in", &small)?
            .double(c"scale", factor.into())?
            .text(c"kernel", c"linear")?
            .run()?;
        extract(large, Region { x: 0, y: 0, size })
    })
}

fn gaussian(image: &Image, sigma: f64) -> Result<Image, VipsError> {
    Operation::new(c"gaussblur")?.image(c"in", image)?.double(c"sigma", sigma)?.double(c"min-ampl", 0.1)?.run()
}

/// `image`, which is in memory, with what differs from its surroundings within `sigma` made stronger. Works on lightness
/// alone, so that colours do not fringe.
pub(crate) fn sharpen(image: &Image, sigma: f64) -> Result<Image, VipsError> {
    on_colours(image, |colours| Operation::new(c"sharpen")?.image(c"in", &colours)?.double(c"sigma", sigma)?.run())
}

/// `image`, which is in memory, in blocks of `side` pixels, each of one colour. Those at the right and the bottom may be cut
/// off.
pub(crate) fn pixelate(image: &Image, side: u32) -> Result<Image, VipsError> {
    let size = Size::new(image.width(), image.height());
    premultiplied(image, |image| {
        let blocks = shrink(&image, side)?;
        let zoomed = Operation::new(c"zoom")?
            .image(c"input", &blocks)?
            .int(c"xfac", pixels(side))?
            .int(c"yfac", pixels(side))?
            .run()?;
        extract(zoomed, Region { x: 0, y: 0, size })
    })
}

/// The means of blocks of `factor` pixels a side; the last ones of a row or column may be of fewer.
fn shrink(image: &Image, factor: u32) -> Result<Image, VipsError> {
    Operation::new(c"shrink")?
        .image(c"in", image)?
        .double(c"hshrink", factor.into())?
        .double(c"vshrink", factor.into())?
        .flag(c"ceil", true)?
        .run()
}
