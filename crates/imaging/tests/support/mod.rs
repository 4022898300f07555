//! What every test of this crate starts from: an engine, ops as in a URL, and pixels to look at.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "each test file uses a part of it")]

pub mod bounded;

use bytes::Bytes;
use image::{DynamicImage, RgbImage, RgbaImage};
use imaging::{Class, EncoderDefaults, Engine, EngineOptions, ImagingError, Inputs, Limits, Rendered};
use transform_url::{Ops, Transform};

/// The engine of this process.
pub fn engine() -> Engine {
    Engine::start(&EngineOptions::default()).unwrap()
}

/// A transform from ops as in a URL.
pub fn transform(ops: &str) -> Transform {
    Ops::parse(ops).unwrap().resolve(|_| None).unwrap()
}

/// A rendition with default limits, for a client that shows everything.
pub fn try_render(source: &[u8], ops: &str) -> Result<Rendered, ImagingError> {
    try_render_within(source, ops, &Limits::default())
}

/// A rendition within `limits`.
pub fn try_render_within(source: &[u8], ops: &str, limits: &Limits) -> Result<Rendered, ImagingError> {
    let source = Bytes::copy_from_slice(source);
    engine().render((&source).into(), &transform(ops), Some(Class::Avif), &EncoderDefaults::default(), limits)
}

/// A rendition with the image `overlay` for the op of that name.
pub fn render_with_overlay(source: &[u8], overlay: &[u8], ops: &str) -> Result<Rendered, ImagingError> {
    let (source, overlay) = (Bytes::copy_from_slice(source), Bytes::copy_from_slice(overlay));
    let inputs = Inputs { source: &source, overlay: Some(&overlay), share: None };
    engine().render(inputs, &transform(ops), Some(Class::Avif), &EncoderDefaults::default(), &Limits::default())
}

/// A rendition that must succeed, and whose body must have the size it says.
pub fn render(source: &[u8], ops: &str) -> Rendered {
    try_render(source, ops).unwrap_or_else(|error| panic!("{ops}: {error:?}"))
}

/// The pixels of a lossless rendition.
pub fn pixels(source: &[u8], ops: &str) -> DynamicImage {
    let rendered = render(source, &format!("{ops},f=png"));
    let picture = testkit::images::decode(&rendered.body);
    assert_eq!((picture.width(), picture.height()), (rendered.width, rendered.height), "{ops}");
    picture
}

/// The colours of a lossless rendition.
pub fn rgb(source: &[u8], ops: &str) -> RgbImage {
    pixels(source, ops).into_rgb8()
}

/// The colours and alpha of a lossless rendition.
pub fn rgba(source: &[u8], ops: &str) -> RgbaImage {
    pixels(source, ops).into_rgba8()
}

/// Asserts that two colours differ by at most `tolerance` in every channel.
#[track_caller]
pub fn assert_near(found: [u8; 3], wanted: [u8; 3], tolerance: u8, what: &str) {
    let off = found.iter().zip(wanted).map(|(a, b)| a.abs_diff(b)).max().unwrap();
    assert!(off <= tolerance, "{what}: {found:?} is not within {tolerance} of {wanted:?}");
}

/// The middle of each of `count` vertical stripes.
pub fn stripes(picture: &RgbImage, count: u32) -> Vec<[u8; 3]> {
    let width = picture.width() / count;
    (0..count).map(|index| picture.get_pixel(index * width + width / 2, picture.height() / 2).0).collect()
}

/// How alike two pictures look: SSIMULACRA2, 100 for equal, 90 for no visible difference, 70 for good, below 50 for poor.
pub fn score(reference: &RgbImage, found: &RgbImage) -> f64 {
    use ssimulacra2::{ColorPrimaries, Rgb, TransferCharacteristic, compute_frame_ssimulacra2};
    assert_eq!(reference.dimensions(), found.dimensions(), "sizes");
    let frame = |picture: &RgbImage| {
        let pixels = picture.pixels().map(|pixel| pixel.0.map(|channel| f32::from(channel) / 255.0)).collect();
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        Rgb::new(pixels, width, height, TransferCharacteristic::SRGB, ColorPrimaries::BT709).unwrap()
    };
    compute_frame_ssimulacra2(frame(reference), frame(found)).unwrap()
}
