//! The size of a picture, read from its header: nothing is decoded.
//!
//! What stands further back than the beginning that is kept is not known: TIFFs may have their size at the end, and WebPs their
//! EXIF data. That is no error.

use std::io::Cursor;

use exif::{In, Reader, Tag};

/// Bytes of a file's beginning that are kept for this.
pub const BEGINNING_BYTES: usize = 256 * 1024;

/// Widest and highest that is believed, in pixels.
const SIDE_MAX: usize = 1 << 24;

/// Types that are turned as their EXIF data says; others have a way of their own.
const TURNED: [&str; 4] = ["image/jpeg", "image/png", "image/webp", "image/tiff"];

/// Width and height in pixels as the picture is looked at.
pub fn of(beginning: &[u8], content_type: &str) -> Option<(i32, i32)> {
    let size = imagesize::blob_size(beginning).ok()?;
    let is_believed = |side: usize| (1..=SIDE_MAX).contains(&side);
    if !is_believed(size.width) || !is_believed(size.height) {
        return None;
    }
    let (width, height) = (i32::try_from(size.width).ok()?, i32::try_from(size.height).ok()?);
    let is_turned = TURNED.contains(&content_type) && lies_on_its_side(beginning);
    Some(if is_turned { (height, width) } else { (width, height) })
}

/// Whether the EXIF orientation swaps the sides.
fn lies_on_its_side(beginning: &[u8]) -> bool {
    let Ok(exif) = Reader::new().read_from_container(&mut Cursor::new(beginning)) else { return false };
    let orientation = exif.get_field(Tag::Orientation, In::PRIMARY).and_then(|field| field.value.get_uint(0));
    matches!(orientation, Some(5..=8))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PNG's header is enough.
    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
        bytes.extend(width.to_be_bytes());
        bytes.extend(height.to_be_bytes());
        bytes.extend([8, 2, 0, 0, 0, 0, 0, 0, 0]);
        bytes
    }

    #[test]
    fn a_header_is_enough_and_nonsense_is_no_size() {
        assert_eq!(of(&png(640, 480), "image/png"), Some((640, 480)));
        for bytes in [png(0, 480), png(640, u32::MAX), b"\xff\xd8\xff".to_vec(), Vec::new(), vec![0; 100]] {
            assert_eq!(of(&bytes, "image/png"), None, "{bytes:?}");
        }
    }

    #[test]
    fn no_broken_header_stops_it() {
        let starts: [&[u8]; 8] = [
            &png(64, 64),
            b"\xff\xd8\xff\xe1\0\x20Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\xff\xc0\0\x11\x08\0\x10\0\x20",
            b"II*\0\x08\0\0\0\x02\0\0\x01\x03\0\x01\0\0\0\x40\0\0\0\x01\x01\x03\0\x01\0\0\0\x40\0\0\0",
            b"RIFF\x24\0\0\0WEBPVP8X\x0a\0\0\0\x08\0\0\0\x3f\0\0\x3f\0\0",
            b"\0\0\0\x20ftypheic\0\0\0\0mif1heic\0\0\0\x40meta\0\0\0\0",
            b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14ftypjxl ",
            b"8BPS\0\x01\0\0\0\0\0\0\0\x03\0\0\0\x40\0\0\0\x40",
            b"\0\0\x01\0\x01\0\x10\x10\0\0\x01\0\x20\0",
        ];
        for start in starts {
            for at in 0..start.len() {
                for byte in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut bytes = start.to_vec();
                    bytes[at] = byte;
                    let _ = of(&bytes, "image/jpeg");
                    let _ = of(&bytes[..at], "image/jpeg");
                    bytes.extend([byte; 300]);
                    let _ = of(&bytes, "image/tiff");
                }
            }
        }
    }
}
