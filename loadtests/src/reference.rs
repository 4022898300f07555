//! What a rendition should look like: the whole original resized by Lanczos3, without any short cut and without loss.
//!
//! Light adds up in linear numbers, and sRGB numbers are not linear: engines differ in which they average, so there is a
//! reference for each. Must not share code with the engine, which is judged by this.

use std::f64::consts::PI;

use anyhow::{Context, ensure};
use image::{RgbImage, Rgba, RgbaImage};

/// Lobes of the filter on each side.
const LOBES: f64 = 3.0;

/// Which numbers are averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Light {
    /// In proportion to light.
    Linear,
    /// As they are in the file.
    Srgb,
}

impl Light {
    /// Both, in the order of reports.
    pub const BOTH: [Self; 2] = [Self::Linear, Self::Srgb];

    /// 0 to 1 out of the numbers of a file.
    fn decode(self, number: u8) -> f64 {
        let number = f64::from(number) / 255.0;
        match self {
            Self::Srgb => number,
            // IEC 61966-2-1.
            Self::Linear if number <= 0.04045 => number / 12.92,
            Self::Linear => ((number + 0.055) / 1.055).powf(2.4),
        }
    }

    fn encode(self, number: f64) -> u8 {
        let number = number.clamp(0.0, 1.0);
        let number = match self {
            Self::Srgb => number,
            Self::Linear if number <= 0.003_130_8 => number * 12.92,
            Self::Linear => 1.055 * number.powf(1.0 / 2.4) - 0.055,
        };
        // 0 to 255 and rounded, so the cast only changes the type.
        (number * 255.0).round() as u8
    }
}

/// What an output pixel is made of.
struct Taps {
    first: usize,
    weights: Vec<f64>,
}

/// Decodes a whole file, with alpha.
///
/// # Errors
/// When it is damaged or of a format that this crate does not read.
pub fn decode(file: &[u8]) -> anyhow::Result<RgbaImage> {
    Ok(image::load_from_memory(file).context("an original cannot be decoded")?.into_rgba8())
}

/// `original` at this size, on white.
///
/// # Errors
/// When a side is nothing, or larger than the original's: this makes smaller.
pub fn resize(original: &RgbaImage, width: u32, height: u32, light: Light) -> anyhow::Result<RgbImage> {
    let is_smaller = width <= original.width() && height <= original.height();
    ensure!(width > 0 && height > 0 && is_smaller, "a reference of {width} × {height} is not smaller");
    let linear: Vec<f64> = (0..=u8::MAX).map(|number| light.decode(number)).collect();
    let across = taps(original.width(), width);
    let down = taps(original.height(), height);
    let row_length = original.width() as usize * 4;
    let narrow: Vec<Vec<[f64; 4]>> =
        original.as_raw().chunks_exact(row_length).map(|row| narrowed(row, &linear, &across)).collect();
    let mut small = RgbaImage::new(width, height);
    for (y, taps) in (0..).zip(&down) {
        for x in 0..width {
            let mut sum = [0.0; 4];
            for (row, weight) in narrow[taps.first..].iter().zip(&taps.weights) {
                add(&mut sum, row[x as usize], *weight);
            }
            small.put_pixel(x, y, straight(sum, light));
        }
    }
    Ok(on_white(&small))
}

/// One row at the new width, alpha multiplied in.
fn narrowed(row: &[u8], linear: &[f64], across: &[Taps]) -> Vec<[f64; 4]> {
    let pixels: Vec<[f64; 4]> = row
        .chunks_exact(4)
        .map(|pixel| {
            let alpha = f64::from(pixel[3]) / 255.0;
            let [r, g, b] = [0, 1, 2].map(|at| linear[usize::from(pixel[at])] * alpha);
            [r, g, b, alpha]
        })
        .collect();
    across
        .iter()
        .map(|taps| {
            let mut sum = [0.0; 4];
            for (pixel, weight) in pixels[taps.first..].iter().zip(&taps.weights) {
                add(&mut sum, *pixel, *weight);
            }
            sum
        })
        .collect()
}

fn add(sum: &mut [f64; 4], pixel: [f64; 4], weight: f64) {
    sum.iter_mut().zip(pixel).for_each(|(sum, number)| *sum += number * weight);
}

/// The pixel with alpha no longer multiplied in.
fn straight([r, g, b, alpha]: [f64; 4], light: Light) -> Rgba<u8> {
    if alpha <= 0.0 {
        return Rgba([0; 4]);
    }
    let [r, g, b] = [r, g, b].map(|number| light.encode(number / alpha));
    Rgba([r, g, b, Light::Srgb.encode(alpha)])
}

/// As a page with a white background shows it.
pub fn on_white(picture: &RgbaImage) -> RgbImage {
    let pixels = picture.pixels().flat_map(|pixel| {
        let [r, g, b, alpha] = pixel.0.map(u32::from);
        // A mean of two numbers of 8 bits, rounded.
        [r, g, b].map(|number| ((number * alpha + 255 * (255 - alpha) + 127) / 255) as u8)
    });
    let mut opaque = RgbImage::new(picture.width(), picture.height());
    opaque.iter_mut().zip(pixels).for_each(|(to, from)| *to = from);
    opaque
}

/// For each output pixel, the input pixels that it is made of. Weights add up to 1.
fn taps(from: u32, to: u32) -> Vec<Taps> {
    let scale = f64::from(from) / f64::from(to);
    (0..to)
        .map(|at| {
            let middle = (f64::from(at) + 0.5) * scale;
            // Not negative, and no more than `from`: the casts only drop fractions.
            let first = (middle - LOBES * scale).floor().max(0.0) as usize;
            let end = (middle + LOBES * scale).ceil().min(f64::from(from)) as usize;
            let mut weights: Vec<f64> = (first..end).map(|at| lanczos((at as f64 + 0.5 - middle) / scale)).collect();
            let sum: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|weight| *weight /= sum);
            Taps { first, weights }
        })
        .collect()
}

fn lanczos(x: f64) -> f64 {
    if x.abs() < 1e-9 {
        return 1.0;
    }
    if x.abs() >= LOBES {
        return 0.0;
    }
    let x = x * PI;
    LOBES * x.sin() * (x / LOBES).sin() / (x * x)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resized(picture: &RgbaImage, light: Light) -> RgbImage {
        resize(picture, picture.width() / 4, picture.height() / 4, light).expect("resizes")
    }

    #[test]
    fn one_colour_stays_itself() {
        let picture = RgbaImage::from_pixel(64, 48, Rgba([200, 100, 3, 255]));
        for light in Light::BOTH {
            assert!(resized(&picture, light).pixels().all(|pixel| pixel.0 == [200, 100, 3]), "{light:?}");
        }
    }

    #[test]
    fn half_black_half_white_is_brighter_in_linear_light() {
        let picture =
            RgbaImage::from_fn(64, 64, |x, y| if (x + y) % 2 == 0 { Rgba([255; 4]) } else { Rgba([0, 0, 0, 255]) });
        let middle = |light| resized(&picture, light).get_pixel(8, 8)[0];
        assert!(middle(Light::Srgb).abs_diff(128) <= 2, "{}", middle(Light::Srgb));
        // Half the light is 188 in sRGB.
        assert!(middle(Light::Linear).abs_diff(188) <= 2, "{}", middle(Light::Linear));
    }

    #[test]
    fn what_cannot_be_seen_does_not_colour_its_neighbours() {
        let picture =
            RgbaImage::from_fn(64, 64, |x, _| if x < 32 { Rgba([0, 0, 255, 0]) } else { Rgba([255, 0, 0, 255]) });
        let small = resized(&picture, Light::Linear);
        assert!(small.pixels().all(|pixel| pixel[2] <= pixel[1].saturating_add(1)), "blue shows");
        assert_eq!((small.get_pixel(0, 0).0, small.get_pixel(15, 0).0), ([255; 3], [255, 0, 0]));
    }

    #[test]
    fn nothing_is_made_larger() {
        assert!(resize(&RgbaImage::new(8, 8), 16, 8, Light::Srgb).is_err());
        assert!(resize(&RgbaImage::new(8, 8), 0, 8, Light::Srgb).is_err());
    }
}
