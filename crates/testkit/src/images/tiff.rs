//! TIFFs of several pages (TIFF 6.0), uncompressed, one strip a page; and ones without an end.

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

/// A grey TIFF (TIFF 6.0, little endian) of `pages` pages of `width` × `height` pixels, the shade of each its number; with
/// `loops`, the directory after the last one is the first.
pub fn many(width: u16, height: u16, pages: u16, loops: bool) -> Vec<u8> {
    const ENTRIES: u16 = 8;
    const DIRECTORY_BYTES: u32 = 2 + ENTRIES as u32 * 12 + 4;
    let area = u32::from(width) * u32::from(height);
    let page_bytes = DIRECTORY_BYTES + area.next_multiple_of(2);
    let mut bytes = b"II*\0\x08\0\0\0".to_vec();
    for page in 0..pages {
        let start = 8 + u32::from(page) * page_bytes;
        bytes.extend(ENTRIES.to_le_bytes());
        // Tag and value of a single number: size, depth, no compression, black is zero, the one strip and its length.
        for (tag, value) in [
            (256_u16, width.into()),
            (257, height.into()),
            (258, 8),
            (259, 1),
            (262, 1),
            (273, start + DIRECTORY_BYTES),
            (278, height.into()),
            (279, area),
        ] {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(4_u16.to_le_bytes());
            bytes.extend(1_u32.to_le_bytes());
            bytes.extend(value.to_le_bytes());
        }
        let next = match (page + 1 == pages, loops) {
            (false, _) => start + page_bytes,
            (true, true) => 8,
            (true, false) => 0,
        };
        bytes.extend(next.to_le_bytes());
        bytes.resize(bytes.len() + area.next_multiple_of(2) as usize, (page % 256) as u8);
    }
    bytes
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("small pictures")
}
