//! ICC profiles and what colours under them look like in sRGB, computed by other code than what is tested.

use moxcms::{ColorProfile, Layout, TransformOptions};

/// Points of a side of the ink profile's grid.
const GRID: usize = 9;

/// Display P3, as telephones embed it.
pub fn display_p3() -> Vec<u8> {
    encoded(&ColorProfile::new_display_p3())
}

/// Adobe RGB (1998).
pub fn adobe_rgb() -> Vec<u8> {
    encoded(&ColorProfile::new_adobe_rgb())
}

/// sRGB.
pub fn srgb() -> Vec<u8> {
    encoded(&ColorProfile::new_srgb())
}

/// Grey with a gamma of `gamma`.
pub fn grey(gamma: f32) -> Vec<u8> {
    encoded(&ColorProfile::new_gray_with_gamma(gamma))
}

/// What `colours` under an RGB `profile` are in sRGB.
///
/// # Panics
/// If the profile is none.
pub fn to_srgb(profile: &[u8], colours: &[[u8; 3]]) -> Vec<[u8; 3]> {
    let profile = ColorProfile::new_from_slice(profile).expect("a profile made here");
    let transform = profile
        .create_transform_8bit(Layout::Rgb, &ColorProfile::new_srgb(), Layout::Rgb, TransformOptions::default())
        .expect("between two RGB profiles");
    let mut result = vec![0; colours.len() * 3];
    transform.transform(&colours.concat(), &mut result).expect("buffers of one length");
    result.chunks_exact(3).map(|part| [part[0], part[1], part[2]]).collect()
}

/// What `grey` under a gamma of `gamma` is under sRGB's curve (IEC 61966-2-1).
pub fn grey_to_srgb(grey: u8, gamma: f32) -> u8 {
    let light = (f64::from(grey) / 255.0).powf(gamma.into());
    (from_light(light) * 255.0).round() as u8
}

/// The colour that `ink` is under [`ink_profile`]: each ink takes away its share of the light's number.
pub fn ink_to_srgb([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    [c, m, y].map(|ink| {
        let left = (1.0 - f64::from(ink) / 255.0) * (1.0 - f64::from(k) / 255.0);
        (left * 255.0).round() as u8
    })
}

/// An ICC profile for inks that mix as in [`ink_to_srgb`]: a version 2 output profile with one table to Lab (ICC.1:2001-04
/// §6.5.7, `lut16Type`).
pub fn ink_profile() -> Vec<u8> {
    let table = ink_table();
    let (tag_at, count) = (128 + 4 + 12, 1_u32);
    let mut profile = vec![0; 128];
    let mut put = |at: usize, bytes: &[u8]| profile[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &length(tag_at + table.len()));
    put(8, &[2, 0x40, 0, 0]);
    put(12, b"prtrCMYKLab ");
    put(36, b"acsp");
    // The illuminant, D50, in 1/65,536.
    put(68, &[0, 0, 0xF6, 0xD6, 0, 1, 0, 0, 0, 0, 0xD3, 0x2D]);
    profile.extend(count.to_be_bytes());
    profile.extend(b"A2B0");
    profile.extend(length(tag_at));
    profile.extend(length(table.len()));
    profile.extend(table);
    profile
}

fn ink_table() -> Vec<u8> {
    let mut table = b"mft2\0\0\0\0".to_vec();
    table.extend([4, 3, GRID as u8, 0]);
    for entry in 0..9_u32 {
        // The identity matrix; it is only used for XYZ.
        let one = if entry % 4 == 0 { 0x0001_0000_u32 } else { 0 };
        table.extend(one.to_be_bytes());
    }
    let straight = [0_u16, 65_535].map(u16::to_be_bytes).concat();
    table.extend([2_u16, 2].map(u16::to_be_bytes).concat());
    table.extend(straight.repeat(4));
    // The first ink varies slowest.
    for index in 0..GRID.pow(4) {
        let ink = |place: u32| (index / GRID.pow(place) % GRID) as f64 / (GRID - 1) as f64;
        let (c, m, y, k) = (ink(3), ink(2), ink(1), ink(0));
        let rgb = [c, m, y].map(|ink| (1.0 - ink) * (1.0 - k));
        table.extend(lab16(rgb).map(u16::to_be_bytes).concat());
    }
    table.extend(straight.repeat(3));
    table
}

/// sRGB in 0..1 → Lab under D50, in the 16-bit numbers of version 2 profiles.
fn lab16(rgb: [f64; 3]) -> [u16; 3] {
    let [r, g, b] = rgb.map(to_light);
    // sRGB's primaries adapted to D50 (Bradford), each row divided by D50's white.
    let x = (0.436_07 * r + 0.385_15 * g + 0.143_07 * b) / 0.964_29;
    let y = 0.222_49 * r + 0.716_87 * g + 0.060_64 * b;
    let z = (0.013_92 * r + 0.097_08 * g + 0.714_09 * b) / 0.825_09;
    let [x, y, z] =
        [x, y, z].map(|t| if t > 216.0 / 24_389.0 { t.cbrt() } else { t * 24_389.0 / 27.0 / 116.0 + 4.0 / 29.0 });
    let (lightness, a, b) = (116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z));
    let number = |value: f64| value.round().clamp(0.0, 65_535.0) as u16;
    [number(lightness / 100.0 * 65_280.0), number((a + 128.0) * 256.0), number((b + 128.0) * 256.0)]
}

fn to_light(number: f64) -> f64 {
    if number <= 0.040_45 { number / 12.92 } else { ((number + 0.055) / 1.055).powf(2.4) }
}

fn from_light(light: f64) -> f64 {
    if light <= 0.003_130_8 { light * 12.92 } else { 1.055 * light.powf(1.0 / 2.4) - 0.055 }
}

fn length(bytes: usize) -> [u8; 4] {
    u32::try_from(bytes).expect("some KB").to_be_bytes()
}

fn encoded(profile: &ColorProfile) -> Vec<u8> {
    let mut bytes = profile.encode().expect("a profile of standard tags");
    // A profile's length is a multiple of four (ICC.1:2022 §7.2.2), and libpng leaves out those that are not.
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let size = length(bytes.len());
    bytes[..4].copy_from_slice(&size);
    bytes
}
