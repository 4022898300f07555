//! JPEGs: any orientation, profile and metadata, grey, progressive, and in printing inks.

use devstack::samples::exif::Exif;
use image::{GrayImage, RgbImage, imageops};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

/// Quality of a fixture unless it matters: its own loss should not be what a test measures.
const QUALITY: u8 = 95;

/// What a JPEG holds beside its pixels.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// An EXIF block without its marker.
    pub exif: Option<Vec<u8>>,
    /// An XMP packet.
    pub xmp: Option<String>,
    /// An ICC profile.
    pub icc: Option<Vec<u8>>,
    /// Whether it is stored in several scans.
    pub progressive: bool,
    /// 1..=100; 0 for the usual one.
    pub quality: u8,
}

impl Extras {
    fn encoder<'a>(&self, bytes: &'a mut Vec<u8>) -> Encoder<&'a mut Vec<u8>> {
        let quality = if self.quality == 0 { QUALITY } else { self.quality };
        let mut encoder = Encoder::new(bytes, quality);
        // Colour in full resolution, so that small fields keep theirs.
        encoder.set_sampling_factor(SamplingFactor::F_1_1);
        encoder.set_progressive(self.progressive);
        if let Some(exif) = &self.exif {
            encoder.add_exif_metadata(exif).expect("shorter than a segment");
        }
        if let Some(xmp) = &self.xmp {
            let segment = [b"http://ns.adobe.com/xap/1.0/\0", xmp.as_bytes()].concat();
            encoder.add_app_segment(1, segment).expect("shorter than a segment");
        }
        if let Some(icc) = &self.icc {
            encoder.add_icc_profile(icc).expect("a profile of some KB");
        }
        encoder
    }
}

/// `picture` as a JPEG.
pub fn rgb(picture: &RgbImage, extras: &Extras) -> Vec<u8> {
    encode(picture.as_raw(), picture.dimensions(), ColorType::Rgb, extras)
}

/// `picture` as a JPEG with one channel.
pub fn grey(picture: &GrayImage, extras: &Extras) -> Vec<u8> {
    encode(picture.as_raw(), picture.dimensions(), ColorType::Luma, extras)
}

/// A JPEG in printing inks, vertical stripes of `size` pixels: cyan, magenta, yellow and black, 255 = full ink.
pub fn cmyk(inks: &[[u8; 4]], size: u32, icc: Option<Vec<u8>>) -> Vec<u8> {
    let width = size * u32::try_from(inks.len()).expect("a handful");
    let row: Vec<u8> = inks.iter().flat_map(|ink| ink.repeat(size as usize)).collect();
    encode(&row.repeat(size as usize), (width, size), ColorType::Cmyk, &Extras { icc, ..Extras::default() })
}

/// A JPEG that shows `upright` once its EXIF orientation is applied.
pub fn oriented(upright: &RgbImage, orientation: u8) -> Vec<u8> {
    let exif = Exif { orientation, ..Exif::default() }.to_bytes();
    rgb(&stored(upright, orientation), &Extras { exif: Some(exif), ..Extras::default() })
}

/// How `upright` is stored under `orientation` (EXIF 2.32 §4.6.4).
pub fn stored(upright: &RgbImage, orientation: u8) -> RgbImage {
    match orientation {
        2 => imageops::flip_horizontal(upright),
        3 => imageops::rotate180(upright),
        4 => imageops::flip_vertical(upright),
        5 => imageops::rotate90(&imageops::flip_vertical(upright)),
        6 => imageops::rotate270(upright),
        7 => imageops::rotate270(&imageops::flip_vertical(upright)),
        8 => imageops::rotate90(upright),
        _ => upright.clone(),
    }
}

fn encode(pixels: &[u8], (width, height): (u32, u32), kind: ColorType, extras: &Extras) -> Vec<u8> {
    let mut bytes = Vec::new();
    let side = |length| u16::try_from(length).expect("a JPEG has at most 65,535 pixels a side");
    extras.encoder(&mut bytes).encode(pixels, side(width), side(height), kind).expect("written to memory");
    bytes
}
