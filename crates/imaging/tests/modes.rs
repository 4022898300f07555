//! Every op on every kind of picture: what comes out is what the op makes of the same picture in plain sRGB.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use image::{DynamicImage, RgbImage, RgbaImage};
use support::render_with_overlay;
use testkit::images::{self, colour, jpeg, png};

/// Ops by what they touch; none changes the size.
const OPS: [&str; 20] = [
    "brightness=1.3",
    "contrast=1.4",
    "gamma=1.8",
    "saturation=1.7",
    "filter=grayscale",
    "filter=sepia",
    "filter=invert",
    "blur=1.5",
    "blur=12",
    "sharpen=1",
    "pixelate=6",
    "radius=14",
    "radius=max",
    "border=5;0080ff",
    "border=5;0080ffa0,radius=9",
    "overlay=m;south-east;3;3;0.4;0.7",
    "overlay=m;tile;4;4;0.2",
    "flip=h,rotate=180",
    "bg=ffcc0080",
    "trim=2;3;4;5",
];

/// What a picture of some kind and its plain twin may differ by. Deep pictures are rounded once more in the twin.
const PSNR_MIN_DB: f64 = 40.0;

fn photo() -> RgbImage {
    images::photo(72, 54)
}

fn veiled() -> RgbaImage {
    let photo = photo();
    RgbaImage::from_fn(72, 54, |x, y| {
        let [r, g, b] = photo.get_pixel(x, y).0;
        image::Rgba([r, g, b, if x < 20 { 0 } else { u8::try_from(x * 3).unwrap() }])
    })
}

fn kinds() -> Vec<(&'static str, Vec<u8>)> {
    let none = png::Extras::default();
    let grey = DynamicImage::from(photo()).into_luma8();
    let grey_alpha = DynamicImage::from(veiled()).into_luma_alpha8();
    let inks: Vec<[u8; 4]> = (0..6).map(|n| [n * 40, 200 - n * 30, n * 25, 10 * n]).collect();
    vec![
        ("grey", png::grey(&grey, &none)),
        ("grey with alpha", png::grey_alpha(&grey_alpha)),
        ("grey, 16 bits", png::grey16(&grey)),
        ("16 bits", png::rgb16(&photo(), &none)),
        ("16 bits with alpha", png::rgba16(&veiled())),
        ("alpha", png::rgba(&veiled())),
        ("wide gamut", png::rgb(&photo(), &png::Extras { icc: Some(colour::display_p3()), ..none })),
        ("inks", jpeg::cmyk(&inks, 24, None)),
        ("inks with a profile", jpeg::cmyk(&inks, 24, Some(colour::ink_profile()))),
        ("turned by EXIF", jpeg::oriented(&photo(), 6)),
        ("palette", png::palette([[200, 0, 0], [0, 200, 0], [0, 0, 200], [250, 250, 250]], 24)),
        ("animated, its first frame", images::animated_gif(60, 44, 3)),
    ]
}

/// The picture on magenta, so that alpha counts as much as colour does.
fn on_magenta(body: &[u8]) -> RgbImage {
    let picture = images::decode(body).into_rgba8();
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let [r, g, b, a] = picture.get_pixel(x, y).0.map(u32::from);
        let over = |top: u32, ground: u32| u8::try_from((top * a + ground * (255 - a) + 127) / 255).unwrap();
        image::Rgb([over(r, 255), over(g, 0), over(b, 255)])
    })
}

#[test]
fn every_op_on_every_kind_of_picture() {
    let mark = png::rgba(&images::hard_edged(16, [255, 60, 0], [0; 3]));
    let render = |source: &[u8], ops: &str| {
        let rendered = render_with_overlay(source, &mark, &format!("{ops},anim=false,f=png"));
        rendered.unwrap_or_else(|error| panic!("{ops}: {error:?}")).body
    };
    for (kind, source) in kinds() {
        let twin = render(&source, "v=1");
        for ops in OPS {
            let (found, wanted) = (on_magenta(&render(&source, ops)), on_magenta(&render(&twin, ops)));
            let psnr = images::psnr(&found, &wanted);
            assert!(psnr >= PSNR_MIN_DB, "{ops} on {kind}: {psnr:.1} dB");
        }
    }
}
