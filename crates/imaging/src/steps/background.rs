//! Puts a colour under what is transparent, and drops an alpha channel that says nothing.

use transform_url::value::Color;

use super::bands::{to_8_bit, to_srgb, without_alpha};
use crate::vips::{Image, Interpretation, Operation, VipsError};

/// What lies under a transparent picture when the encoding cannot hold transparency and the URL names no colour.
const PAPER: Color = Color { r: 255, g: 255, b: 255, a: 255 };

/// The opaque colour that comes under all of the picture, where that is settled: a step that would make room can fill it with
/// that, and spare the alpha channel.
pub(crate) fn ground(colour: Option<Color>, keeps_alpha: bool) -> Option<Color> {
    match colour {
        Some(colour) if colour.is_opaque() => Some(colour),
        Some(Color { a: 0, .. }) | None if !keeps_alpha => Some(PAPER),
        Some(_) | None => None,
    }
}

/// `image` over `colour`, if one is asked for; without alpha at the end if the encoding holds none or all of it is opaque.
///
/// Of an animation, alpha is kept without asking: its pixels are many, and encoders of animations spare what is opaque.
pub(crate) fn background(
    image: Image,
    colour: Option<Color>,
    keeps_alpha: bool,
    is_animation: bool,
) -> Result<Image, VipsError> {
    if !image.has_alpha() {
        return Ok(image);
    }
    let image = match colour {
        Some(colour) if colour.a == 0 => image,
        Some(colour) if colour.is_opaque() => return flatten(&image, colour),
        Some(colour) => over(&image, colour)?,
        None => image,
    };
    if !keeps_alpha {
        return flatten(&image, PAPER);
    }
    if is_animation {
        return Ok(image);
    }
    // Reading alpha needs the pixels, and so does encoding them.
    let image = image.to_memory()?;
    if is_opaque(&image)? { without_alpha(&image) } else { Ok(image) }
}

fn flatten(image: &Image, colour: Color) -> Result<Image, VipsError> {
    let rgb = [colour.r, colour.g, colour.b].map(f64::from);
    // A grey picture stays grey on a grey ground, and turns into colour on a coloured one.
    let is_grey = colour.r == colour.g && colour.g == colour.b;
    let (image, numbers) = if image.interpretation() == Interpretation::Grey {
        if is_grey { (image.clone(), &rgb[..1]) } else { (to_srgb(image)?, &rgb[..]) }
    } else {
        (image.clone(), &rgb[..])
    };
    Operation::new(c"flatten")?.image(c"in", &image)?.doubles(c"background", numbers)?.run()
}

/// `image` over a colour that lets something shine through (Porter and Duff, "over").
fn over(image: &Image, colour: Color) -> Result<Image, VipsError> {
    let image = to_srgb(image)?;
    // A sheet of the colour: any image of the size, times nothing, plus the colour.
    let numbers = [colour.r, colour.g, colour.b, colour.a].map(f64::from);
    let sheet = Operation::new(c"linear")?
        .image(c"in", &image)?
        .doubles(c"a", &[0.0; 4])?
        .doubles(c"b", &numbers)?
        .flag(c"uchar", true)?
        .run()?;
    Operation::new(c"composite2")?
        .image(c"base", &sheet)?
        .image(c"overlay", &image)?
        .text(c"mode", c"over")?
        .run()
        .and_then(|image| to_8_bit(&image))
}

fn is_opaque(image: &Image) -> Result<bool, VipsError> {
    let last = i32::try_from(image.bands()).unwrap_or(1) - 1;
    let alpha = Operation::new(c"extract_band")?.image(c"in", image)?.int(c"band", last)?.run()?;
    Ok(Operation::new(c"min")?.image(c"in", &alpha)?.run_to_double()? >= 255.0)
}
