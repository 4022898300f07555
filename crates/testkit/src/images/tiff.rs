//! TIFFs of several pages (TIFF 6.0), uncompressed, one strip a page.

use image::RgbImage;

const SHORT: u16 = 3;
const LONG: u16 = 4;

/// One file of all `pages`.
pub(super) fn pages(pages: &[RgbImage]) -> Vec<u8> {
    let mut bytes = b"II*\0".to_vec();
    // The place of the first directory comes right after these four.
    let mut next_at = bytes.len();
    bytes.extend([0; 4]);
    for page in pages {
        let pixels_at = length(bytes.len());
        bytes.extend(page.as_raw());
        let bits_at = length(bytes.len());
        bytes.extend([8_u16, 8, 8].map(u16::to_le_bytes).concat());
        bytes.resize(bytes.len().next_multiple_of(2), 0);
        let directory_at = length(bytes.len());
        bytes[next_at..next_at + 4].copy_from_slice(&directory_at.to_le_bytes());
        let entries = [
            (256, LONG, 1, page.width()),
            (257, LONG, 1, page.height()),
            (258, SHORT, 3, bits_at),
            (259, SHORT, 1, 1),
            // RGB.
            (262, SHORT, 1, 2),
            (273, LONG, 1, pixels_at),
            (277, SHORT, 1, 3),
            (278, LONG, 1, page.height()),
            (279, LONG, 1, length(page.as_raw().len())),
            // One plane.
            (284, SHORT, 1, 1),
        ];
        bytes.extend(u16::try_from(entries.len()).expect("ten").to_le_bytes());
        for (tag, kind, count, value) in entries {
            bytes.extend(u16::to_le_bytes(tag));
            bytes.extend(u16::to_le_bytes(kind));
            bytes.extend(u32::to_le_bytes(count));
            bytes.extend(value.to_le_bytes());
        }
        next_at = bytes.len();
        bytes.extend([0; 4]);
    }
    bytes
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("small pictures")
}
