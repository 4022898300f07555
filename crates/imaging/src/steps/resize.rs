//! Cuts the rect out and scales it.

use super::bands::{pixels, premultiplied};
use crate::geometry::{Region, Size};
use crate::vips::{Image, Operation, VipsError};

/// Cuts `region` out of `image`, which is a picture of `full` pixels decoded at a smaller or larger size.
///
/// The cut falls on whole pixels of what was decoded, which is at least twice the target: off by at most a quarter of a
/// pixel of the result.
pub(crate) fn cut(image: Image, region: Region, full: Size) -> Result<Image, VipsError> {
    if region.size == full {
        return Ok(image);
    }
    let along = |start: u32, length: u32, full: u32, decoded: u32| {
        let at = |edge: u32| (f64::from(edge) * f64::from(decoded) / f64::from(full)).round() as u32;
        let from = at(start).min(decoded - 1);
        (from, at(start + length).clamp(from + 1, decoded) - from)
    };
    let (x, width) = along(region.x, region.size.width, full.width, image.width());
    let (y, height) = along(region.y, region.size.height, full.height, image.height());
    extract(image, Region { x, y, size: Size { width, height } })
}

/// Exactly `region` of `image`.
pub(crate) fn extract(image: Image, region: Region) -> Result<Image, VipsError> {
    if region.size == Size::new(image.width(), image.height()) {
        return Ok(image);
    }
    Operation::new(c"extract_area")?
        .image(c"input", &image)?
        .int(c"left", pixels(region.x))?
        .int(c"top", pixels(region.y))?
        .int(c"width", pixels(region.size.width))?
        .int(c"height", pixels(region.size.height))?
        .run()
}

/// `image` scaled to exactly `target`.
pub(crate) fn resize(image: Image, target: Size) -> Result<Image, VipsError> {
    if target == Size::new(image.width(), image.height()) {
        return Ok(image);
    }
    premultiplied(&image, |image| scale(&image, target))
}

fn scale(image: &Image, target: Size) -> Result<Image, VipsError> {
    let scaled = Operation::new(c"resize")?
        .image(c"in", image)?
        .double(c"scale", f64::from(target.width) / f64::from(image.width()))?
        .double(c"vscale", f64::from(target.height) / f64::from(image.height()))?
        .run()?;
    // The factors are exact up to rounding, so this only ever cuts what a last bit added.
    extract(scaled, Region { x: 0, y: 0, size: target })
}
