//! The originals that are measured with: painted scenes with grain, at the sizes that cameras give.
//!
//! The same on every machine, so that figures of different days can be compared.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use anyhow::Context;
use devstack::samples::scene;
use image::{ImageFormat, RgbImage, Rgba, RgbaImage};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

/// A JPEG of six megapixels.
pub const PHOTO: &str = "photo.jpg";
/// A PNG of one and a half megapixels with soft, partly transparent edges.
pub const CUT_OUT: &str = "cut-out.png";
/// A JPEG of twelve megapixels and five megabytes.
pub const CAMERA: &str = "camera.jpg";
/// A small JPEG: quick to render, for when it is the number of renditions that counts.
pub const SMALL: &str = "small.jpg";

/// A JPEG of 24 megapixels, made by [`write_large`].
pub const LARGE: &str = "large.jpg";

/// The quality of most cameras' JPEGs.
const QUALITY: u8 = 92;

/// The size that [`CAMERA`] comes closest to, in bytes.
const CAMERA_BYTES: usize = 5_000_000;

/// Writes all pictures into `folder`.
///
/// # Errors
/// When one cannot be encoded or written.
pub fn write(folder: &Path) -> anyhow::Result<()> {
    let photo = scene::paint(scene::MOUNTAINS, 3000, 2000);
    let files = [
        (PHOTO, jpeg(&photo, QUALITY)?),
        (CUT_OUT, cut_out(1500, 1000)?),
        (CAMERA, of_size(&scene::paint(scene::BEACH, 4000, 3000), CAMERA_BYTES)?),
        (SMALL, jpeg(&scene::paint(scene::BALLOONS, 800, 533), QUALITY)?),
    ];
    for (name, bytes) in files {
        let path = folder.join(name);
        fs::write(&path, bytes).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}

/// Writes [`LARGE`] into `folder`.
///
/// # Errors
/// When it cannot be encoded or written.
pub fn write_large(folder: &Path) -> anyhow::Result<()> {
    let path = folder.join(LARGE);
    fs::write(&path, jpeg(&scene::paint(scene::MOUNTAINS, 6000, 4000), QUALITY)?)
        .with_context(|| format!("{} cannot be written", path.display()))
}

fn jpeg(picture: &RgbImage, quality: u8) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, quality);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    let (width, height) = (u16::try_from(picture.width())?, u16::try_from(picture.height())?);
    encoder.encode(picture.as_raw(), width, height, ColorType::Rgb)?;
    Ok(bytes)
}

/// The JPEG at the highest quality that takes no more than so many bytes.
fn of_size(picture: &RgbImage, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
    let (mut low, mut high) = (50_u8, 100_u8);
    let mut best = jpeg(picture, low)?;
    while low + 1 < high {
        let quality = u8::midpoint(low, high);
        let bytes = jpeg(picture, quality)?;
        if bytes.len() <= bytes_max {
            (low, best) = (quality, bytes);
        } else {
            high = quality;
        }
    }
    Ok(best)
}

/// A PNG of a scene in an oval whose edge fades into nothing.
///
/// # Errors
/// When it cannot be encoded.
pub fn cut_out(width: u32, height: u32) -> anyhow::Result<Vec<u8>> {
    let scene = scene::paint(scene::BALLOONS, width, height);
    let picture = RgbaImage::from_fn(width, height, |x, y| {
        let [r, g, b] = scene.get_pixel(x, y).0;
        let across = (x as f32 / width as f32 - 0.5) * 2.0;
        let down = (y as f32 / height as f32 - 0.5) * 2.0;
        let inside = 1.0 - (across * across + down * down).sqrt();
        // Clamped to 0..=255, so the cast only drops the fraction.
        Rgba([r, g, b, (inside * 4.0 * 255.0).clamp(0.0, 255.0) as u8])
    });
    let mut bytes = Vec::new();
    picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jpeg_comes_close_to_the_size_asked_for_and_not_over_it() {
        let picture = scene::paint(scene::BEACH, 300, 200);
        let (least, most) = (jpeg(&picture, 50).expect("encodes").len(), jpeg(&picture, 99).expect("encodes").len());
        let wanted = usize::midpoint(least, most);
        let bytes = of_size(&picture, wanted).expect("encodes");
        assert!(bytes.len() <= wanted && bytes.len() > wanted * 3 / 4, "{} of {wanted}", bytes.len());
    }

    #[test]
    fn the_cut_out_is_opaque_here_and_transparent_there() {
        let picture = image::load_from_memory(&cut_out(60, 40).expect("encodes")).expect("decodes").to_rgba8();
        let alphas: Vec<u8> = picture.pixels().map(|pixel| pixel[3]).collect();
        assert!(alphas.contains(&0) && alphas.contains(&255) && alphas.iter().any(|alpha| (1..255).contains(alpha)));
    }
}
