//! Pictures made in code: every kind a user may have, and the ones an attacker sends.
//!
//! Must not read files: what a test needs to know about a picture is in the code that makes it.

pub mod bmp;
pub mod colour;
pub mod frames;
pub mod hostile;
pub mod jpeg;
pub mod metadata;
mod paint;
pub mod png;
pub mod svg;
pub mod tiff;

pub use paint::{PLACES, hard_edged, photo, places, swatches};

use image::codecs::gif::{GifEncoder, Repeat};
use image::{Delay, DynamicImage, Frame, ImageFormat, RgbImage, RgbaImage};

/// `picture` as a lossless WebP.
pub fn webp(picture: &RgbaImage) -> Vec<u8> {
    encode(&DynamicImage::from(picture.clone()), ImageFormat::WebP)
}

/// An animated GIF of `count` frames, each of one colour and a little different from the last.
pub fn animated_gif(width: u32, height: u32, count: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    encoder.set_repeat(Repeat::Infinite).expect("written to memory");
    for number in 0..count {
        let shade = u8::try_from(number * 4 % 256).expect("below 256");
        let frame = RgbaImage::from_pixel(width, height, image::Rgba([255 - shade, shade, 128, 255]));
        encoder.encode_frame(Frame::new(frame)).expect("written to memory");
    }
    drop(encoder);
    bytes
}

/// An animated GIF of these frames, each shown for so many milliseconds (in hundredths of a second), played `plays` times; 0
/// is for ever.
pub fn animation(frames: &[(RgbaImage, u32)], plays: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    let repeat = if plays == 0 { Repeat::Infinite } else { Repeat::Finite(plays) };
    encoder.set_repeat(repeat).expect("written to memory");
    for (picture, millis) in frames {
        let delay = Delay::from_numer_denom_ms(*millis, 1);
        let frame = Frame::from_parts(picture.clone(), 0, 0, delay);
        encoder.encode_frame(frame).expect("written to memory");
    }
    drop(encoder);
    bytes
}

/// `picture` as a BMP, 32 bits a pixel if it has alpha.
pub fn bmp(picture: &DynamicImage) -> Vec<u8> {
    encode(picture, ImageFormat::Bmp)
}

/// A TIFF of several pages, uncompressed.
pub fn tiff(pages: &[RgbImage]) -> Vec<u8> {
    tiff::pages(pages)
}

/// The pixels of an encoded picture, for comparing.
///
/// # Panics
/// If it cannot be decoded: whoever calls has just made it.
pub fn decode(bytes: &[u8]) -> DynamicImage {
    image::load_from_memory(bytes).expect("a rendition that a common decoder reads")
}

/// Peak signal-to-noise ratio of two pictures of one size, in dB; infinite if they are equal.
///
/// # Panics
/// If their sizes differ.
pub fn psnr(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions(), "sizes");
    let sum: u64 = a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum();
    10.0 * (255.0 * 255.0 * a.as_raw().len() as f64 / sum as f64).log10()
}

fn encode(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    picture.write_to(&mut std::io::Cursor::new(&mut bytes), format).expect("written to memory");
    bytes
}
