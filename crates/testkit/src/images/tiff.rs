//! TIFFs of several pages, and ones without an end.

/// A grey TIFF (TIFF 6.0, little endian) of `pages` pages of `width` × `height` pixels, the shade of each its number; with
/// `loops`, the directory after the last one is the first.
pub fn pages(width: u16, height: u16, pages: u16, loops: bool) -> Vec<u8> {
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
