//! Cuts the rect out and scales it.

use super::bands::{pixels, premultiplied};
use crate::geometry::{Region, Size};
use crate::resample::{Pixels, Resampler, STRIP_ROWS};
use crate::rows::Rows;
use crate::vips::{BandFormat, Image, Interpretation, Operation, Strips, VipsError, Watch};

/// Cuts `region` out of `image`, which is a picture of `full` pixels decoded at a smaller or larger size.
///
/// The cut falls on whole pixels of what was decoded, which is at least four times the target: off by at most an eighth
/// of a pixel of the result.
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

/// `image`, which is `from`, scaled to exactly `target`, until `watch` runs out. `rows` are its pixels, if they can be had without
/// libvips.
pub(crate) fn resize(
    image: Image,
    (from, rows): (Pixels, Option<Rows>),
    target: Size,
    watch: Option<&Watch>,
) -> Result<Image, VipsError> {
    if target == Size::new(image.width(), image.height()) {
        return Ok(image);
    }
    if !is_of_screen(&image) || target.width > image.width() || target.height > image.height() {
        return premultiplied(&image, |image| scale(&image, target));
    }
    let pixels = match rows.and_then(|rows| resample_rows(&image, (from, rows), target, watch)) {
        Some(pixels) => pixels,
        None => resample(&image, from, target, watch)?,
    };
    Image::from_pixels(&pixels, target.width, target.height, image.bands())?.with_metadata_of(&image)
}

/// Whether `image` is of bytes that mean grey or colours as on a screen.
fn is_of_screen(image: &Image) -> bool {
    let is_meant = matches!(image.interpretation(), Interpretation::Srgb | Interpretation::Grey);
    let has_alpha = image.bands().is_multiple_of(2);
    is_meant && image.band_format() == BandFormat::U8 && has_alpha == image.has_alpha()
}

fn resampler(image: &Image, from: Pixels, target: Size) -> Result<Resampler, VipsError> {
    Resampler::new(from, target, image.bands()).ok_or_else(|| VipsError::new("resample", "not such a picture"))
}

/// The pixels of `image`, made smaller.
fn resample(image: &Image, from: Pixels, target: Size, watch: Option<&Watch>) -> Result<Vec<u8>, VipsError> {
    let mut resampler = resampler(image, from, target)?;
    let mut strips = Strips::new(image, watch)?;
    for top in (0..image.height()).step_by(STRIP_ROWS) {
        resampler.push(&strips.read(top, STRIP_ROWS as u32)?);
    }
    Ok(resampler.finish())
}

/// What `rows`, which are those of `image`, become; `None` if they end too early.
fn resample_rows(image: &Image, (from, rows): (Pixels, Rows), target: Size, watch: Option<&Watch>) -> Option<Vec<u8>> {
    let is_late = || watch.is_some_and(Watch::is_expired);
    match rows {
        Rows::Whole(mut rows) => {
            let mut resampler = resampler(image, from, target).ok()?;
            let (row_bytes, height) = (image.width() as usize * image.bands() as usize, image.height() as usize);
            let mut strip = vec![0; row_bytes * STRIP_ROWS];
            for top in (0..height).step_by(STRIP_ROWS) {
                let strip = &mut strip[..row_bytes * STRIP_ROWS.min(height - top)];
                rows.read(strip).ok().filter(|()| !is_late())?;
                resampler.push(&strip.chunks_exact(row_bytes).collect::<Vec<_>>());
            }
            Some(resampler.finish())
        }
        Rows::Halved(mut planes) => {
            let mut resampler = Resampler::of_planes(planes.halved(), target)?;
            while let Some(strip) = planes.read().ok().filter(|_| !is_late())? {
                resampler.push_planes(&strip);
            }
            Some(resampler.finish())
        }
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use testkit::images;

    use super::*;
    use crate::engine::{Engine, EngineOptions};

    /// How near ours must be to libvips' own, in decibels: an error of two and a half bytes in the mean, which is what the curve as a
    /// polynomial and libvips' roundings add up to at the worst.
    const PSNR_MIN_DB: f64 = 40.0;

    /// What libvips makes of `image` in linear light, without shrinking it before by averages.
    fn by_libvips(image: &Image, target: Size) -> Result<Vec<u8>, VipsError> {
        let light = Operation::new(c"colourspace")?.image(c"in", image)?.text(c"space", c"scrgb")?.run()?;
        let scaled = Operation::new(c"resize")?
            .image(c"in", &light)?
            .double(c"scale", f64::from(target.width) / f64::from(image.width()))?
            .double(c"vscale", f64::from(target.height) / f64::from(image.height()))?
            .double(c"gap", 0.0)?
            .run()?;
        let bytes = Operation::new(c"colourspace")?.image(c"in", &scaled)?.text(c"space", c"srgb")?.run()?;
        extract(bytes, Region { x: 0, y: 0, size: target })?.to_pixels()
    }

    fn psnr(one: &[u8], other: &[u8]) -> f64 {
        let squares: f64 = one.iter().zip(other).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
        10.0 * (255.0f64.powi(2) * one.len() as f64 / squares.max(1e-9)).log10()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn ours_is_what_libvips_makes_in_linear_light(
            (width, height) in (80u32..400, 80u32..400), (across, down) in (1.05f64..9.0, 1.05f64..9.0)
        ) {
            Engine::start(&EngineOptions::default()).expect("starts");
            let picture = images::photo(width, height);
            let image = Image::from_pixels(picture.as_raw(), width, height, 3).expect("a picture");
            let target = Size::new((f64::from(width) / across) as u32, (f64::from(height) / down) as u32);
            let found = resize(image.clone(), (Pixels::all(Size::new(width, height)), None), target, None).and_then(|made| made.to_pixels()).expect("makes it");
            let wanted = by_libvips(&image, target).expect("makes it");
            prop_assert_eq!(found.len(), wanted.len());
            let near = psnr(&found, &wanted);
            prop_assert!(near >= PSNR_MIN_DB, "{:.1} dB", near);
        }
    }
}
