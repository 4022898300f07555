//! BMPs of every depth, and ones that lie.

/// A BMP (BITMAPINFOHEADER) of so many bits a pixel, with a palette of two colours where it needs one. `compression` 0 is
/// none, 1 are runs of 8-bit pixels; `height` may be negative, for rows from the top.
pub fn file(width: i32, height: i32, bits: u16, compression: u32, data: &[u8]) -> Vec<u8> {
    let palette: &[u8] = if bits <= 8 { &[0, 0, 0, 0, 255, 128, 0, 0] } else { &[] };
    let offset = 54 + u32::try_from(palette.len()).expect("two colours");
    let length = u32::try_from(data.len()).expect("some KB");
    let mut bytes = b"BM".to_vec();
    for number in [offset + length, 0, offset, 40] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(width.to_le_bytes());
    bytes.extend(height.to_le_bytes());
    bytes.extend(1_u16.to_le_bytes());
    bytes.extend(bits.to_le_bytes());
    for number in [compression, length, 2835, 2835, u32::from(bits <= 8) * 2, 0] {
        bytes.extend(number.to_le_bytes());
    }
    [&bytes[..], palette, data].concat()
}
