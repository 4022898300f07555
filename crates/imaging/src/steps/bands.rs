//! What several steps do to the numbers of a pixel: rounding, colours apart from alpha, alpha multiplied in.

use std::ffi::CStr;

use crate::vips::{BandFormat, Image, Interpretation, Operation, VipsError};

/// `image` with an alpha channel, opaque if it had none.
pub(crate) fn with_alpha(image: Image) -> Result<Image, VipsError> {
    if image.has_alpha() {
        return Ok(image);
    }
    Operation::new(c"bandjoin_const")?.image(c"in", &image)?.doubles(c"c", &[255.0])?.run()
}

/// The colours of `image`, and its alpha if it has one.
pub(crate) fn split(image: &Image) -> Result<(Image, Option<Image>), VipsError> {
    if !image.has_alpha() {
        return Ok((image.clone(), None));
    }
    let colours = count(image.bands()) - 1;
    Ok((bands(image, 0, colours)?, Some(bands(image, colours, 1)?)))
}

/// What [`split`] took apart.
pub(crate) fn join(colours: Image, alpha: Option<Image>) -> Result<Image, VipsError> {
    match alpha {
        Some(alpha) => Operation::new(c"bandjoin")?.images(c"in", &[colours, alpha])?.run(),
        None => Ok(colours),
    }
}

/// `image` without its alpha channel.
pub(crate) fn without_alpha(image: &Image) -> Result<Image, VipsError> {
    split(image).map(|(colours, _)| colours)
}

/// `work` on the colours only; alpha stays as it is.
pub(crate) fn on_colours(
    image: &Image,
    work: impl FnOnce(Image) -> Result<Image, VipsError>,
) -> Result<Image, VipsError> {
    let (colours, alpha) = split(image)?;
    join(work(colours)?, alpha)
}

/// `work` on an image whose alpha is multiplied in, for everything that averages pixels: without that the colour of
/// invisible pixels bleeds into the edges of visible ones.
pub(crate) fn premultiplied(
    image: &Image,
    work: impl FnOnce(Image) -> Result<Image, VipsError>,
) -> Result<Image, VipsError> {
    if !image.has_alpha() {
        return work(image.clone());
    }
    // Back to whole numbers before the work: averaging those is several times faster than averaging floats.
    let format = whole_format(image);
    let multiplied = Operation::new(c"premultiply")?.image(c"in", image)?.run()?;
    let done = work(rounded(&multiplied, format)?)?;
    let straight = Operation::new(c"unpremultiply")?.image(c"in", &done)?.run()?;
    rounded(&straight, format)
}

/// `image` in 8 bits a channel, rounded to the nearest.
pub(crate) fn to_8_bit(image: &Image) -> Result<Image, VipsError> {
    if image.band_format() == BandFormat::U8 { Ok(image.clone()) } else { rounded(image, c"uchar") }
}

/// `image` in sRGB's three channels.
pub(crate) fn to_srgb(image: &Image) -> Result<Image, VipsError> {
    if image.interpretation() == Interpretation::Srgb {
        return Ok(image.clone());
    }
    Operation::new(c"colourspace")?.image(c"in", image)?.text(c"space", c"srgb")?.run()
}

/// `image` said to mean `space`, with the same numbers.
pub(crate) fn meaning(image: &Image, space: &'static CStr) -> Result<Image, VipsError> {
    Operation::new(c"copy")?.image(c"in", image)?.text(c"interpretation", space)?.run()
}

/// Pixels as libvips counts them. Everything that reaches a step is far below its limit.
pub(crate) fn pixels(length: u32) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

fn bands(image: &Image, first: i32, count: i32) -> Result<Image, VipsError> {
    Operation::new(c"extract_band")?.image(c"in", image)?.int(c"band", first)?.int(c"n", count)?.run()
}

fn count(bands: u32) -> i32 {
    i32::try_from(bands).unwrap_or(1)
}

fn whole_format(image: &Image) -> &'static CStr {
    match (image.band_format(), image.interpretation()) {
        (BandFormat::U8, _) => c"uchar",
        (BandFormat::U16, Interpretation::Rgb16 | Interpretation::Grey16) => c"ushort",
        _ => c"float",
    }
}

/// `image` with its numbers stored as `format`. libvips cuts fractions off, so a half is added first.
fn rounded(image: &Image, format: &'static CStr) -> Result<Image, VipsError> {
    let half = Operation::new(c"linear")?.image(c"in", image)?.doubles(c"a", &[1.0])?.doubles(c"b", &[0.5])?;
    match format.to_bytes() {
        b"uchar" => half.flag(c"uchar", true)?.run(),
        b"ushort" => Operation::new(c"cast")?.image(c"in", &half.run()?)?.text(c"format", format)?.run(),
        _ => Operation::new(c"cast")?.image(c"in", image)?.text(c"format", format)?.run(),
    }
}
