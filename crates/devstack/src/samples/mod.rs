//! Sample pictures, painted by code: something to look at when nobody gave a folder.
//!
//! Must not read files or use randomness from outside: the same picture comes out on every machine. The scenes have what
//! photographs have and test cards have not: soft gradients, sharp edges, fine detail and grain.

pub mod exif;
mod logo;
mod noise;
pub mod scene;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use image::{ImageFormat, RgbImage};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

/// Quality of the sample JPEGs, as a camera's.
const JPEG_QUALITY: u8 = 92;

/// Writes the sample pictures into `folder`, which is made if it is missing, and returns their file names.
///
/// A picture that is there already is left alone: painting takes a second or two.
///
/// # Errors
/// When the folder or a file cannot be written.
pub fn write(folder: &Path) -> anyhow::Result<Vec<&'static str>> {
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    std::thread::scope(|scope| {
        let painters = SAMPLES.map(|(name, paint)| scope.spawn(move || write_one(folder, name, paint)));
        painters.into_iter().try_for_each(|painter| painter.join().map_err(|_| anyhow!("a painter panicked"))?)
    })?;
    Ok(SAMPLES.iter().map(|(name, _)| *name).collect())
}

fn write_one(folder: &Path, name: &str, paint: Paint) -> anyhow::Result<()> {
    let path = folder.join(name);
    if path.exists() {
        return Ok(());
    }
    // Under another name first, so that a picture is whole or absent.
    let part = folder.join(format!(".{name}.part"));
    fs::write(&part, paint()?).with_context(|| format!("{} cannot be written", part.display()))?;
    fs::rename(&part, &path).with_context(|| format!("{} cannot be written", path.display()))
}

type Paint = fn() -> anyhow::Result<Vec<u8>>;

const SAMPLES: [(&str, Paint); 4] = [
    ("beach.jpg", || jpeg(&scene::paint(scene::BEACH, 1600, 1067), None)),
    ("mountains.jpg", || jpeg(&scene::paint(scene::MOUNTAINS, 1800, 1013), None)),
    // Stored lying on its side, as a telephone held upright does.
    ("portrait.jpg", || {
        let upright = scene::paint(scene::BALLOONS, 1000, 1500);
        jpeg(&image::imageops::rotate270(&upright), Some(6))
    }),
    ("logo.png", logo),
];

/// The sample logo: a PNG with transparent parts.
///
/// # Errors
/// When the encoder refuses it.
pub fn logo() -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    logo::paint(800).write_to(&mut std::io::Cursor::new(&mut bytes), ImageFormat::Png)?;
    Ok(bytes)
}

/// `picture` as a JPEG, with an EXIF orientation if one is given.
///
/// # Errors
/// When the encoder refuses the size.
pub fn jpeg(picture: &RgbImage, orientation: Option<u8>) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, JPEG_QUALITY);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    if let Some(orientation) = orientation {
        encoder.add_exif_metadata(&exif::Exif { orientation, ..exif::Exif::default() }.to_bytes())?;
    }
    let (width, height) = (u16::try_from(picture.width())?, u16::try_from(picture.height())?);
    encoder.encode(picture.as_raw(), width, height, ColorType::Rgb)?;
    Ok(bytes)
}
