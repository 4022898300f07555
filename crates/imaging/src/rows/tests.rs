//! The rows beside those of libvips.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use image::{DynamicImage, GrayAlphaImage};
use testkit::images::{self, hostile, jpeg, png};

use super::*;
use crate::engine::{Engine, EngineOptions};
use crate::jpegli::{JpegSettings, JpegWriter};
use crate::probe::{Pages, open};
use crate::resample::{Pixels, Resampler};

/// Rows that are read at once, so that the last ones are fewer.
const STRIP: usize = 16;

fn opened(source: &[u8], format: SourceFormat, scale: Scale) -> (Image, Option<WholeRows>) {
    Engine::start(&EngineOptions::default()).unwrap();
    let source = Bytes::copy_from_slice(source);
    let image = open(&source, format, scale, Pages::One(0)).unwrap();
    let rows = whole(&source, format, scale, &image);
    (image, rows)
}

fn whole(source: &Bytes, format: SourceFormat, scale: Scale, image: &Image) -> Option<WholeRows> {
    Rows::open(source, format, scale, image).map(|rows| match rows {
        Rows::Whole(rows) => rows,
        Rows::Halved(_) => panic!("nobody asked for it"),
    })
}

fn pixels(mut rows: WholeRows, image: &Image) -> Result<Vec<u8>, LeaveIt> {
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
    for (source, format) in sources {
        let (image, _) = opened(&source, format, Scale::Full);
        for part in 1..10 {
            let cut = Bytes::copy_from_slice(&source[..source.len() * part / 10]);
            let rows = whole(&cut, format, Scale::Full, &image);
            assert!(rows.is_none_or(|rows| pixels(rows, &image).is_err()), "{format:?}, {part} tenths");
        }
        // Bits flipped in the pixels: rows of another picture, or none, but nothing worse.
        for at in (source.len() / 4..source.len()).step_by(97) {
            let mut flipped = source.clone();
            flipped[at] ^= 0x55;
            let rows = whole(&Bytes::from(flipped), format, Scale::Full, &image);
            let _either = rows.map(|rows| pixels(rows, &image).is_ok());
        }
        // Rows that are not there.
        let (image, rows) = opened(&source, format, Scale::Full);
        let mut rows = rows.unwrap();
        let mut all = vec![0; image.memory_bytes() as usize];
        rows.read(&mut all).unwrap();
        assert!(rows.read(&mut all[..image.width() as usize * 3]).is_err());
        // Another picture's header.
        let other = images::photo(161, 120);
        let (other, _) = opened(&png::rgb(&other, &png::Extras::default()), SourceFormat::Png, Scale::Full);
        assert!(whole(&Bytes::from(source), format, Scale::Full, &other).is_none());
    }
    assert!(opened_hostile(&hostile::truncated_progressive_jpeg()));
}

/// Whether nothing is read of a hostile file.
fn opened_hostile(source: &[u8]) -> bool {
    let (image, _) =
        opened(&jpeg::rgb(&images::photo(8, 8), &jpeg::Extras::default()), SourceFormat::Jpeg, Scale::Full);
    whole(&Bytes::copy_from_slice(source), SourceFormat::Jpeg, Scale::Full, &image).is_none()
}

/// What becomes of planes, and of whole rows of the same picture.
fn both_ways(source: &[u8], target: Size) -> [Vec<u8>; 2] {
    let (image, whole) = opened(source, SourceFormat::Jpeg, Scale::Full);
    let size = Size::new(image.width(), image.height());
    let Some(Rows::Halved(mut planes)) = Rows::halved(&Bytes::copy_from_slice(source), size) else {
        panic!("a camera's JPEG");
    };
    let mut by_halves = Resampler::of_planes(planes.halved(), target).unwrap();
    while let Some(strip) = planes.read().unwrap() {
        by_halves.push_planes(&strip);
    }
    let mut by_rows = Resampler::new(Pixels::all(size), target, 3).unwrap();
    let pixels = pixels(whole.unwrap(), &image).unwrap();
    for row in pixels.chunks_exact(size.width as usize * 3) {
        by_rows.push(&[row]);
    }
    [by_halves.finish(), by_rows.finish()]
}

#[test]
fn halving_in_linear_light_looks_like_decoding_all_of_it() {
    // Odd sides, and sides that end within a block.
    for (width, height) in [(640, 480), (643, 481), (641, 497), (400, 271)] {
        let source = halved_in_colour(&images::photo(width, height));
        let target = Size::new(width / 5, height / 5);
        let [found, wanted] = both_ways(&source, target);
        let picture = |pixels| image::RgbImage::from_raw(target.width, target.height, pixels).unwrap();
        let psnr = images::psnr(&picture(found), &picture(wanted));
        assert!(psnr > 38.0, "{width} × {height}: {psnr:.1} dB");
    }
}

#[test]
fn colours_come_out_of_planes_as_out_of_rows() {
    for colour in [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [12, 130, 201]] {
        let source = halved_in_colour(&image::RgbImage::from_pixel(77, 53, image::Rgb(colour)));
        let [found, wanted] = both_ways(&source, Size::new(11, 9));
        for (found, wanted) in found.iter().zip(&wanted) {
            assert!(found.abs_diff(*wanted) <= 1, "{colour:?}: {found} beside {wanted}");
        }
    }
}

#[test]
fn planes_of_what_is_unusual_or_damaged_are_left() {
    let picture = images::photo(160, 120);
    let size = Size::new(160, 120);
    let source = halved_in_colour(&picture);
    let all = |source: Vec<u8>| {
        let Some(Rows::Halved(mut planes)) = Rows::halved(&Bytes::from(source), size) else { return false };
        loop {
            match planes.read() {
                Ok(Some(_)) => {}
                Ok(None) => return true,
                Err(LeaveIt) => return false,
            }
        }
    };
    assert!(all(source.clone()));
    assert!(!all(jpeg::rgb(&picture, &jpeg::Extras::default())), "colours in full");
    assert!(
        !all(jpeg::grey(&DynamicImage::from(images::photo(160, 120)).into_luma8(), &jpeg::Extras::default())),
        "grey"
    );
    assert!(!all(halved_in_colour(&images::photo(161, 120))), "another size");
    for part in 1..10 {
        assert!(!all(source[..source.len() * part / 10].to_vec()), "{part} tenths");
    }
    for at in (source.len() / 4..source.len()).step_by(97) {
        let mut flipped = source.clone();
        flipped[at] ^= 0x55;
        // Rows of another picture, or none, but nothing worse.
        all(flipped);
    }
}
