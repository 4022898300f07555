//! What must be refused: cut off, damaged, claiming what it is not.

use image::RgbaImage;

use super::{jpeg, paint, png};

/// A JPEG whose second half is missing.
pub fn truncated_jpeg() -> Vec<u8> {
    half(jpeg::rgb(&paint::photo(320, 240), &jpeg::Extras::default()))
}

/// A progressive JPEG whose second half is missing.
pub fn truncated_progressive_jpeg() -> Vec<u8> {
    half(jpeg::rgb(&paint::photo(320, 240), &jpeg::Extras { progressive: true, ..jpeg::Extras::default() }))
}

/// A PNG whose second half is missing.
pub fn truncated_png() -> Vec<u8> {
    half(png::rgb(&paint::photo(320, 240), &png::Extras::default()))
}

/// A WebP whose second half is missing.
pub fn truncated_webp() -> Vec<u8> {
    half(super::webp(&RgbaImage::from_fn(200, 200, |x, y| image::Rgba([x as u8, y as u8, (x ^ y) as u8, 255]))))
}

/// A GIF whose second half is missing.
pub fn truncated_gif() -> Vec<u8> {
    half(super::animated_gif(64, 64, 2))
}

/// A PNG whose compressed data is overwritten in the middle.
pub fn corrupt_png() -> Vec<u8> {
    let mut bytes = png::rgb(&paint::photo(320, 240), &png::Extras::default());
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].fill(0xA5);
    bytes
}

/// A JPEG whose tables are overwritten: the header reads, the pixels do not.
pub fn corrupt_jpeg() -> Vec<u8> {
    let mut bytes = jpeg::rgb(&paint::photo(320, 240), &jpeg::Extras::default());
    let at = find(&bytes, &[0xFF, 0xC4]).expect("a JPEG has Huffman tables");
    bytes[at + 5..at + 21].fill(0xFF);
    bytes
}

/// Nothing but the magic bytes of each format that is read.
pub fn magic_only() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("jpeg", vec![0xFF, 0xD8, 0xFF, 0xE0]),
        ("png", b"\x89PNG\r\n\x1a\n".to_vec()),
        ("gif", b"GIF89a".to_vec()),
        ("webp", b"RIFF\x10\0\0\0WEBPVP8 ".to_vec()),
        ("tiff", b"II*\0\x08\0\0\0".to_vec()),
        ("avif", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf".to_vec()),
        ("bmp", b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0".to_vec()),
        ("heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic".to_vec()),
    ]
}

/// A picture's name on a text.
pub fn text() -> Vec<u8> {
    b"This is a letter, whatever its name says.\n".repeat(20)
}

/// An HTML page that mentions an SVG.
pub fn html() -> Vec<u8> {
    b"<!DOCTYPE html><html><body><svg xmlns=\"http://www.w3.org/2000/svg\"></svg></body></html>".to_vec()
}

/// A PNG that claims `width` × `height` pixels and holds a few bytes of them.
pub fn png_claiming(width: u32, height: u32) -> Vec<u8> {
    png::file(&png::header(width, height, 2, 0), &png::zlib_stored(&[0; 64]))
}

/// A small JPEG whose header claims `width` × `height` pixels.
pub fn jpeg_claiming(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = jpeg::rgb(&paint::photo(64, 64), &jpeg::Extras::default());
    let at = find(&bytes, &[0xFF, 0xC0]).expect("a baseline JPEG has a start of frame");
    bytes[at + 5..at + 7].copy_from_slice(&height.to_be_bytes());
    bytes[at + 7..at + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

/// An SVG of `width` × `height` units that draws a disc, loads `reference` and runs a script if it is let.
pub fn svg(width: u32, height: u32, reference: &str) -> Vec<u8> {
    format!(
        r##"<?xml version="1.0"?>
<!-- made by a test -->
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{width}" height="{height}">
<script>alert(1)</script>
<circle cx="{0}" cy="{1}" r="{2}" fill="#c02040"/>
<image x="0" y="0" width="{width}" height="{height}" xlink:href="{reference}"/>
</svg>"##,
        width / 2,
        height / 2,
        width.min(height) * 2 / 5,
    )
    .into_bytes()
}

fn half(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() / 2);
    bytes
}

fn find(bytes: &[u8], marker: &[u8]) -> Option<usize> {
    bytes.windows(marker.len()).position(|window| window == marker)
}
