//! Animated GIFs made byte by byte (GIF89a): frames by the thousand, delays that are missing or absurd.

/// A GIF of `count` frames of 8 × 8 pixels, each of one of four colours. `delay` is in 1/100 s; without one no frame tells any.
pub fn gif(count: u32, delay: Option<u16>) -> Vec<u8> {
    let mut bytes = b"GIF89a\x08\0\x08\0\xF1\0\0".to_vec();
    // The palette, then "play for ever".
    bytes.extend([200, 0, 0, 0, 200, 0, 0, 0, 200, 200, 200, 200]);
    bytes.extend(b"\x21\xFF\x0BNETSCAPE2.0\x03\x01\0\0\0");
    for number in 0..count {
        if let Some(delay) = delay {
            bytes.extend([0x21, 0xF9, 4, 0]);
            bytes.extend(delay.to_le_bytes());
            bytes.extend([0, 0]);
        }
        bytes.extend(b"\x2C\0\0\0\0\x08\0\x08\0\0\x02");
        let data = image_data((number % 4) as u8);
        bytes.push(u8::try_from(data.len()).expect("64 pixels"));
        bytes.extend(data);
        bytes.push(0);
    }
    bytes.push(0x3B);
    bytes
}

/// 64 pixels of one colour out of four, with a code to begin anew before every pair so that codes stay three bits long.
fn image_data(colour: u8) -> Vec<u8> {
    const CLEAR: u8 = 4;
    const END: u8 = 5;
    let mut codes = [CLEAR, colour, colour].repeat(32);
    codes.push(END);
    let mut bytes = vec![0; (codes.len() * 3).div_ceil(8)];
    for (at, code) in codes.iter().enumerate() {
        for bit in 0..3 {
            let place = at * 3 + bit;
            bytes[place / 8] |= (code >> bit & 1) << (place % 8);
        }
    }
    bytes
}
