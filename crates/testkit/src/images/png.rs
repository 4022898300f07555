//! PNGs of every kind: depth, alpha, palette, interlace, profile, metadata.

use std::io::Write as _;

use image::{GrayAlphaImage, GrayImage, RgbImage, RgbaImage};
use png::{BitDepth, ColorType, Compression, Encoder, Info};

/// What a PNG holds beside its pixels.
#[derive(Debug, Clone, Default)]
pub struct Extras<'a> {
    /// An ICC profile.
    pub icc: Option<Vec<u8>>,
    /// An EXIF block.
    pub exif: Option<Vec<u8>>,
    /// Keywords and texts.
    pub texts: &'a [(&'a str, &'a str)],
}

/// 8-bit RGB.
pub fn rgb(picture: &RgbImage, extras: &Extras<'_>) -> Vec<u8> {
    encode(picture.dimensions(), ColorType::Rgb, BitDepth::Eight, picture.as_raw(), extras)
}

/// 8-bit RGBA.
pub fn rgba(picture: &RgbaImage) -> Vec<u8> {
    encode(picture.dimensions(), ColorType::Rgba, BitDepth::Eight, picture.as_raw(), &Extras::default())
}

/// 8-bit grey.
pub fn grey(picture: &GrayImage, extras: &Extras<'_>) -> Vec<u8> {
    encode(picture.dimensions(), ColorType::Grayscale, BitDepth::Eight, picture.as_raw(), extras)
}

/// 8-bit grey with alpha.
pub fn grey_alpha(picture: &GrayAlphaImage) -> Vec<u8> {
    encode(picture.dimensions(), ColorType::GrayscaleAlpha, BitDepth::Eight, picture.as_raw(), &Extras::default())
}

/// 16-bit RGB: every channel is the 8-bit one, widened so that 255 becomes 65535.
pub fn rgb16(picture: &RgbImage, extras: &Extras<'_>) -> Vec<u8> {
    encode(picture.dimensions(), ColorType::Rgb, BitDepth::Sixteen, &widened(picture.as_raw()), extras)
}

/// 16-bit RGBA, widened likewise.
pub fn rgba16(picture: &RgbaImage) -> Vec<u8> {
    let bytes = widened(picture.as_raw());
    encode(picture.dimensions(), ColorType::Rgba, BitDepth::Sixteen, &bytes, &Extras::default())
}

/// 16-bit grey, widened likewise.
pub fn grey16(picture: &GrayImage) -> Vec<u8> {
    let bytes = widened(picture.as_raw());
    encode(picture.dimensions(), ColorType::Grayscale, BitDepth::Sixteen, &bytes, &Extras::default())
}

/// Four colours in a palette, the last one transparent, as vertical stripes of `size` pixels.
pub fn palette(colours: [[u8; 3]; 4], size: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut info = Info::with_size(size * 4, size);
    (info.color_type, info.bit_depth) = (ColorType::Indexed, BitDepth::Eight);
    info.palette = Some(colours.concat().into());
    info.trns = Some(vec![255, 255, 255, 0].into());
    let row: Vec<u8> = (0..4).flat_map(|index| vec![index; size as usize]).collect();
    let encoder = Encoder::with_info(&mut bytes, info).expect("a plain header");
    let mut writer = encoder.write_header().expect("written to memory");
    writer.write_image_data(&row.repeat(size as usize)).expect("written to memory");
    writer.finish().expect("written to memory");
    bytes
}

fn widened(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| [*byte, *byte]).collect()
}

fn encode(
    (width, height): (u32, u32),
    kind: ColorType,
    depth: BitDepth,
    pixels: &[u8],
    extras: &Extras<'_>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut info = Info::with_size(width, height);
    (info.color_type, info.bit_depth) = (kind, depth);
    info.icc_profile = extras.icc.clone().map(Into::into);
    info.exif_metadata = extras.exif.clone().map(Into::into);
    let mut encoder = Encoder::with_info(&mut bytes, info).expect("a plain header");
    encoder.set_compression(Compression::Fast);
    for (keyword, text) in extras.texts {
        encoder.add_text_chunk((*keyword).to_owned(), (*text).to_owned()).expect("a short text");
    }
    let mut writer = encoder.write_header().expect("written to memory");
    writer.write_image_data(pixels).expect("written to memory");
    writer.finish().expect("written to memory");
    bytes
}

/// The passes of Adam7 interlacing (PNG specification §8.2): first column, first row, column step, row step.
const ADAM7: [(usize, usize, usize, usize); 7] =
    [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)];

/// Interlaced 8-bit RGB, which common encoders do not write.
pub fn interlaced(picture: &RgbImage) -> Vec<u8> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let mut rows = Vec::new();
    for (left, top, across, down) in ADAM7 {
        for y in (top..height).step_by(down).filter(|_| left < width) {
            rows.push(0);
            for x in (left..width).step_by(across) {
                let at = (y * width + x) * 3;
                rows.extend(&picture.as_raw()[at..at + 3]);
            }
        }
    }
    file(&header(picture.width(), picture.height(), 2, 1), &zlib_stored(&rows))
}

/// The body of an IHDR chunk: 8 bits a channel, `kind` 2 for RGB, `interlace` 0 or 1.
pub(super) fn header(width: u32, height: u32, kind: u8, interlace: u8) -> Vec<u8> {
    [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, kind, 0, 0, interlace]].concat()
}

/// A whole file of one header and one block of image data.
pub(super) fn file(header: &[u8], data: &[u8]) -> Vec<u8> {
    chunks(&[(b"IHDR", header), (b"IDAT", data), (b"IEND", &[])])
}

fn chunks(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    for (name, body) in chunks {
        let length = u32::try_from(body.len()).expect("a chunk is below 4 GiB");
        let checked = [&name[..], body].concat();
        bytes.write_all(&length.to_be_bytes()).expect("written to memory");
        bytes.extend(&checked);
        bytes.extend(crc32(&checked).to_be_bytes());
    }
    bytes
}

/// A zlib stream without compression (RFC 1950, RFC 1951 §3.2.4).
pub(super) fn zlib_stored(data: &[u8]) -> Vec<u8> {
    const BLOCK_BYTES_MAX: usize = 65_535;
    let mut bytes = vec![0x78, 0x01];
    let count = data.len().div_ceil(BLOCK_BYTES_MAX);
    for (number, block) in data.chunks(BLOCK_BYTES_MAX).enumerate() {
        let length = u16::try_from(block.len()).expect("chunks of at most 65,535");
        bytes.push(u8::from(number + 1 == count));
        bytes.extend(length.to_le_bytes());
        bytes.extend((!length).to_le_bytes());
        bytes.extend(block);
    }
    let (a, b) = data.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    bytes.extend((b << 16 | a).to_be_bytes());
    bytes
}

/// A zlib stream that inflates to `count` zeros, a hundred and fiftieth of that long (RFC 1951 §3.2.6).
pub fn zlib_zeros(count: u64) -> Vec<u8> {
    let mut bits = Bits { bytes: vec![0x78, 0x01], filled: 0 };
    // The last block, with fixed codes; a zero; then 258 more at a time from one byte back.
    bits.push(0b011, 3);
    bits.push(reversed(0b0011_0000, 8), 8);
    let repeats = count.saturating_sub(1) / 258;
    for _ in 0..repeats {
        bits.push(reversed(0b1100_0101, 8), 13);
    }
    bits.push(0, 7);
    let sum = (1 + repeats * 258) % 65_521;
    [&bits.bytes[..], &u32::try_from(sum << 16 | 1).expect("two numbers below 65,521").to_be_bytes()].concat()
}

/// A PNG of one grey pixel whose profile is what `compressed` inflates to.
pub fn with_compressed_profile(compressed: &[u8]) -> Vec<u8> {
    let profile = [b"p\0\0", compressed].concat();
    chunks(&[(b"IHDR", &header(1, 1, 0, 0)), (b"iCCP", &profile), (b"IDAT", &zlib_stored(&[0, 99])), (b"IEND", &[])])
}

/// A PNG of one grey pixel with a chunk of this name before its pixels, which holds `data` and claims to hold `length` bytes.
pub fn with_chunk(name: [u8; 4], data: &[u8], length: usize) -> Vec<u8> {
    let data_chunk = zlib_stored(&[0, 99]);
    let mut bytes = chunks(&[(b"IHDR", &header(1, 1, 0, 0)), (&name, data), (b"IDAT", &data_chunk), (b"IEND", &[])]);
    // After the magic number and the header with its frame.
    const AT: usize = 8 + 13 + 12;
    bytes[AT..AT + 4].copy_from_slice(&u32::try_from(length).expect("below 4 GiB").to_be_bytes());
    bytes
}

struct Bits {
    bytes: Vec<u8>,
    filled: u32,
}

impl Bits {
    /// Adds the lowest `count` bits of `bits`, the lowest first.
    fn push(&mut self, bits: u32, count: u32) {
        for at in 0..count {
            if self.filled == 0 {
                self.bytes.push(0);
            }
            let bit = u8::from(bits >> at & 1 == 1);
            *self.bytes.last_mut().expect("pushed above") |= bit << self.filled;
            self.filled = (self.filled + 1) % 8;
        }
    }
}

/// The lowest `count` bits in the other order: Huffman codes are stored from their highest bit on.
fn reversed(bits: u32, count: u32) -> u32 {
    bits.reverse_bits() >> (32 - count)
}

/// PNG specification, annex D.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 })
    })
}
