//! Changes colours: brightness, contrast and gamma by one curve, saturation and filters by one matrix.
//!
//! Everything is computed on sRGB's own numbers, as CSS filters do (Filter Effects Module Level 1 §13), and rounded once.

use transform_url::Transform;
use transform_url::value::Filter;

use super::bands::{meaning, on_colours, to_8_bit, to_srgb};
use crate::vips::{Image, Interpretation, Operation, VipsError};

/// What luma is made of (Rec. 709).
const LUMA: [f64; 3] = [0.2126, 0.7152, 0.0722];
/// Old photo brown, as in CSS.
const SEPIA: Matrix = [[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]];

type Matrix = [[f64; 3]; 3];

/// `image`, 8-bit sRGB or grey, with its colours changed as `transform` says.
pub(crate) fn adjust(image: Image, transform: &Transform) -> Result<Image, VipsError> {
    let filter = transform.filter();
    let curve = curve(transform, filter == Some(Filter::Invert) && transform.saturation() == 1.0);
    let image = match curve {
        Some(curve) => on_colours(&image, |colours| look_up(&colours, &curve))?,
        None => image,
    };
    let is_grey = image.interpretation() == Interpretation::Grey;
    match filter {
        Some(Filter::Grayscale) if is_grey => Ok(image),
        Some(Filter::Grayscale) => on_colours(&image, luma).and_then(|image| meaning(&image, c"b-w")),
        Some(Filter::Sepia) => mix(&to_srgb(&image)?, product(SEPIA, saturation(transform.saturation()))),
        Some(Filter::Invert) | None if is_grey || transform.saturation() == 1.0 => Ok(image),
        None => mix(&image, saturation(transform.saturation())),
        Some(Filter::Invert) => {
            let image = mix(&image, saturation(transform.saturation()))?;
            on_colours(&image, |colours| Operation::new(c"invert")?.image(c"in", &colours)?.run())
        }
    }
}

/// What each of the 256 numbers becomes by brightness, contrast, gamma and perhaps inversion; `None` if they stay.
fn curve(transform: &Transform, inverts: bool) -> Option<[u8; 256]> {
    let (brightness, contrast, gamma) = (transform.brightness(), transform.contrast(), transform.gamma());
    if brightness == 1.0 && contrast == 1.0 && gamma == 1.0 && !inverts {
        return None;
    }
    let mut curve = [0; 256];
    for (number, becomes) in (0_u8..=255).zip(&mut curve) {
        let value = f64::from(number) / 255.0 * brightness;
        let value = ((value - 0.5) * contrast + 0.5).clamp(0.0, 1.0);
        // A gamma of 0 is a power of infinity: white stays and all else is black.
        let value = value.powf(1.0 / gamma);
        // From 0 to 255, so the cast is exact.
        let rounded = (value * 255.0).round() as u8;
        *becomes = if inverts { 255 - rounded } else { rounded };
    }
    Some(curve)
}

fn look_up(colours: &Image, curve: &[u8; 256]) -> Result<Image, VipsError> {
    let table = Image::from_pixels(curve, 256, 1, 1)?;
    Operation::new(c"maplut")?.image(c"in", colours)?.image(c"lut", &table)?.run()
}

/// The matrix of CSS `saturate()`: colours move away from or towards their luma.
fn saturation(amount: f64) -> Matrix {
    let mut matrix = [[0.0; 3]; 3];
    for (row, weights) in matrix.iter_mut().enumerate() {
        for (column, weight) in weights.iter_mut().enumerate() {
            let own = if row == column { amount } else { 0.0 };
            *weight = LUMA[column] * (1.0 - amount) + own;
        }
    }
    matrix
}

/// `second` after `first`. Nothing is cut off in between.
fn product(second: Matrix, first: Matrix) -> Matrix {
    second.map(|row| std::array::from_fn(|column| (0..3).map(|at| row[at] * first[at][column]).sum()))
}

fn mix(image: &Image, matrix: Matrix) -> Result<Image, VipsError> {
    on_colours(image, |colours| {
        let mixed = Operation::new(c"recomb")?.image(c"in", &colours)?.image(c"m", &Image::matrix(&matrix)?)?.run()?;
        meaning(&to_8_bit(&mixed)?, c"srgb")
    })
}

fn luma(colours: Image) -> Result<Image, VipsError> {
    let mixed = Operation::new(c"recomb")?.image(c"in", &colours)?.image(c"m", &Image::matrix(&[LUMA])?)?.run()?;
    meaning(&to_8_bit(&mixed)?, c"b-w")
}
