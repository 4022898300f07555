//! The pixels that the fixtures are made of.

use devstack::samples::scene;
use image::imageops::FilterType;
use image::{DynamicImage, Rgb, RgbImage, Rgba, RgbaImage};

/// Width of what is painted before it is enlarged: painting a pixel is slow, and tests start often.
const PAINTED_PX: u32 = 320;

/// A picture like a photograph of any size: large shapes, edges, and grain in every pixel.
pub fn photo(width: u32, height: u32) -> RgbImage {
    let painted_height = (PAINTED_PX * height / width.max(1)).clamp(1, 4 * PAINTED_PX);
    let small = DynamicImage::from(scene::paint(scene::BEACH, PAINTED_PX, painted_height));
    let mut picture = small.resize_exact(width, height, FilterType::CatmullRom).into_rgb8();
    // A linear congruential generator (Knuth's MMIX constants): grain needs no better.
    let mut state = 1_u64;
    for part in picture.iter_mut() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let grain = (state >> 60) as u8;
        *part = part.saturating_add(grain).saturating_sub(7);
    }
    picture
}

/// The colours of [`places`], from the top left, row by row.
pub const PLACES: [[u8; 3]; 9] = [
    [220, 30, 30],
    [30, 200, 40],
    [40, 50, 220],
    [230, 220, 40],
    [128, 128, 128],
    [40, 200, 210],
    [200, 40, 200],
    [245, 245, 245],
    [20, 20, 20],
];

/// Nine fields of one colour each, so that one can see which part of a picture is which.
pub fn places(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let third = |at: u32, side: u32| (at * 3 / side.max(1)).min(2) as usize;
        Rgb(PLACES[third(y, height) * 3 + third(x, width)])
    })
}

/// Vertical stripes of the given colours, `size` pixels wide and high each.
pub fn swatches(colours: &[[u8; 3]], size: u32) -> RgbImage {
    let count = u32::try_from(colours.len()).expect("a handful");
    RgbImage::from_fn(size * count, size, |x, _| Rgb(colours[(x / size) as usize]))
}

/// A `colour` disc with hard edges on invisible pixels of `hidden` colour.
pub fn hard_edged(side: u32, colour: [u8; 3], hidden: [u8; 3]) -> RgbaImage {
    let radius = f64::from(side) * 0.37;
    RgbaImage::from_fn(side, side, |x, y| {
        let from_middle = |at: u32| f64::from(at) + 0.5 - f64::from(side) / 2.0;
        let inside = from_middle(x).hypot(from_middle(y)) < radius;
        let ([r, g, b], a) = if inside { (colour, 255) } else { (hidden, 0) };
        Rgba([r, g, b, a])
    })
}
