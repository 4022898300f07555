//! The rows beside those of libvips.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use image::{DynamicImage, GrayAlphaImage};
use testkit::images::{self, hostile, jpeg, png};

use super::*;
use crate::engine::{Engine, EngineOptions};
use crate::jpegli::{JpegSettings, JpegWriter};
use crate::probe::{Pages, open};

/// Rows that are read at once, so that the last ones are fewer.
const STRIP: usize = 16;

fn opened(source: &[u8], format: SourceFormat, scale: Scale) -> (Image, Option<Rows>) {
    Engine::start(&EngineOptions::default()).unwrap();
    let source = Bytes::copy_from_slice(source);
    let image = open(&source, format, scale, Pages::One(0)).unwrap();
    let rows = Rows::open(&source, format, scale, &image);
    (image, rows)
}

fn pixels(mut rows: Rows, image: &Image) -> Result<Vec<u8>, LeaveIt> {
    let row = image.width() as usize * image.bands() as usize;
    let mut pixels = vec![0; row * image.height() as usize];
    pixels.chunks_mut(row * STRIP).try_for_each(|strip| rows.read(strip))?;
    Ok(pixels)
}

#[track_caller]
fn is_the_same(source: &[u8], format: SourceFormat, scale: Scale) {
    let (image, rows) = opened(source, format, scale);
    let found = pixels(rows.expect("a plain file"), &image).unwrap();
    assert!(found == image.to_pixels().unwrap(), "{format:?} at {scale:?}");
}

#[track_caller]
fn is_left(source: &[u8], format: SourceFormat) {
    assert!(opened(source, format, Scale::Full).1.is_none());
}

/// As most cameras write it.
fn halved_in_colour(picture: &image::RgbImage) -> Vec<u8> {
    let (width, height) = picture.dimensions();
    let settings = JpegSettings { width, height, is_grey: false, quality: 90, full_colour: false, progressive: false };
    let mut writer = JpegWriter::new(settings).unwrap();
    for row in picture.as_raw().chunks_exact(width as usize * 3) {
        writer.write(&[row]).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn jpegs_at_every_scale_are_what_libvips_makes_of_them() {
    let picture = images::photo(333, 217);
    let grey = DynamicImage::from(picture.clone()).into_luma8();
    let extras = |quality| jpeg::Extras { quality, ..jpeg::Extras::default() };
    let sources = [
        jpeg::rgb(&picture, &extras(92)),
        jpeg::rgb(&picture, &extras(40)),
        jpeg::grey(&grey, &extras(80)),
        jpeg::oriented(&picture, 6),
        halved_in_colour(&picture),
    ];
    for source in sources {
        for scale in [Scale::Full, Scale::Jpeg(2), Scale::Jpeg(4), Scale::Jpeg(8)] {
            is_the_same(&source, SourceFormat::Jpeg, scale);
        }
    }
}

#[test]
fn pngs_are_what_libvips_makes_of_them() {
    let picture = images::photo(133, 97);
    let dynamic = DynamicImage::from(picture.clone());
    let alpha = image::RgbaImage::from_fn(133, 97, |x, y| {
        let [r, g, b] = picture.get_pixel(x, y).0;
        image::Rgba([r, g, b, (x * 2) as u8])
    });
    let grey_alpha: GrayAlphaImage = DynamicImage::from(alpha.clone()).into_luma_alpha8();
    for source in [
        png::rgb(&picture, &png::Extras::default()),
        png::rgba(&alpha),
        png::grey(&dynamic.to_luma8(), &png::Extras::default()),
        png::grey_alpha(&grey_alpha),
        png::palette([[1, 2, 3], [250, 0, 0], [0, 250, 0], [9, 9, 250]], 20),
    ] {
        is_the_same(&source, SourceFormat::Png, Scale::Full);
    }
}

#[test]
fn the_unusual_is_left_to_libvips() {
    let picture = images::photo(64, 48);
    is_left(&jpeg::rgb(&picture, &jpeg::Extras { progressive: true, ..jpeg::Extras::default() }), SourceFormat::Jpeg);
    is_left(&jpeg::cmyk(&[[0, 0, 0, 0], [255, 0, 0, 0]], 16, None), SourceFormat::Jpeg);
    is_left(&png::interlaced(&picture), SourceFormat::Png);
    is_left(&png::rgb16(&picture, &png::Extras::default()), SourceFormat::Png);
}

#[test]
fn whatever_is_damaged_is_left_too() {
    let picture = images::photo(160, 120);
    let sources = [
        (jpeg::rgb(&picture, &jpeg::Extras::default()), SourceFormat::Jpeg),
        (png::rgb(&picture, &png::Extras::default()), SourceFormat::Png),
    ];
    for (whole, format) in sources {
        let (image, _) = opened(&whole, format, Scale::Full);
        for part in 1..10 {
            let cut = Bytes::copy_from_slice(&whole[..whole.len() * part / 10]);
            let rows = Rows::open(&cut, format, Scale::Full, &image);
            assert!(rows.is_none_or(|rows| pixels(rows, &image).is_err()), "{format:?}, {part} tenths");
        }
        // Bits flipped in the pixels: rows of another picture, or none, but nothing worse.
        for at in (whole.len() / 4..whole.len()).step_by(97) {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x55;
            let rows = Rows::open(&Bytes::from(flipped), format, Scale::Full, &image);
            let _either = rows.map(|rows| pixels(rows, &image).is_ok());
        }
        // Rows that are not there.
        let (image, rows) = opened(&whole, format, Scale::Full);
        let mut rows = rows.unwrap();
        let mut all = vec![0; image.memory_bytes() as usize];
        rows.read(&mut all).unwrap();
        assert!(rows.read(&mut all[..image.width() as usize * 3]).is_err());
        // Another picture's header.
        let other = images::photo(161, 120);
        let (other, _) = opened(&png::rgb(&other, &png::Extras::default()), SourceFormat::Png, Scale::Full);
        assert!(Rows::open(&Bytes::from(whole), format, Scale::Full, &other).is_none());
    }
    assert!(opened_hostile(&hostile::truncated_progressive_jpeg()));
}

/// Whether nothing is read of a hostile file.
fn opened_hostile(source: &[u8]) -> bool {
    let (image, _) =
        opened(&jpeg::rgb(&images::photo(8, 8), &jpeg::Extras::default()), SourceFormat::Jpeg, Scale::Full);
    Rows::open(&Bytes::copy_from_slice(source), SourceFormat::Jpeg, Scale::Full, &image).is_none()
}
