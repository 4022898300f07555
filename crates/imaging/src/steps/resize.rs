//! Cuts the rect out and scales it.

use super::bands::{pixels, premultiplied};
use crate::geometry::{Region, Size};
use crate::resample::{Resampler, STRIP_ROWS};
use crate::vips::{BandFormat, Image, Interpretation, Operation, Strips, VipsError, Watch};

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

/// `image` scaled to exactly `target`, until `watch` runs out.
pub(crate) fn resize(image: Image, target: Size, watch: Option<&Watch>) -> Result<Image, VipsError> {
    if target == Size::new(image.width(), image.height()) {
        return Ok(image);
    }
    match resampler(&image, target) {
        Some(resampler) => resample(&image, target, resampler, watch),
        // Enlarged, or of another kind of numbers.
        None => premultiplied(&image, |image| scale(&image, target)),
    }
}

/// What makes `image` smaller without libvips, if it is of bytes that mean grey or colours as on a screen.
fn resampler(image: &Image, target: Size) -> Option<Resampler> {
    let of_screen = matches!(image.interpretation(), Interpretation::Srgb | Interpretation::Grey);
    let has_alpha = image.bands().is_multiple_of(2);
    if image.band_format() != BandFormat::U8 || !of_screen || has_alpha != image.has_alpha() {
        return None;
    }
    Resampler::new(Size::new(image.width(), image.height()), target, image.bands())
}

fn resample(image: &Image, target: Size, mut resampler: Resampler, watch: Option<&Watch>) -> Result<Image, VipsError> {
    let mut strips = Strips::new(image, watch)?;
    for top in (0..image.height()).step_by(STRIP_ROWS) {
        resampler.push(&strips.read(top, STRIP_ROWS as u32)?);
    }
    Image::from_pixels(&resampler.finish(), target.width, target.height, image.bands())?.with_metadata_of(image)
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
