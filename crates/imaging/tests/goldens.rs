//! Each op in each format against a picture that was looked at: `tests/goldens/*.png`.
//!
//! `UPDATE_GOLDENS=1` writes them; look at them before you commit. The tolerance is perceptual and holds on every libvips
//! from 8.14 on, whose resamplers and encoders differ in details.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::PathBuf;

use devstack::samples::scene;
use image::imageops::FilterType;
use image::{DynamicImage, Rgb, RgbImage, RgbaImage};
use imaging::{Encoding, ImagingError};
use support::{engine, render_with_overlay, score};
use testkit::images::{self, png};

/// Name of a golden, and the ops that make it.
const CASES: [(&str, &str); 34] = [
    ("plain", "w=96"),
    ("scale-down", "w=60,h=60"),
    ("cover", "w=64,h=64,fit=cover"),
    ("cover-north-east", "w=40,h=64,fit=cover,g=north-east"),
    ("cover-focal", "w=40,h=64,fit=cover,g=0.2x0.5"),
    ("contain-enlarged", "w=150,fit=contain"),
    ("pad", "w=80,h=80,fit=pad,bg=3060a0"),
    ("squeeze", "w=50,h=80,fit=squeeze"),
    ("rect", "rect=0.25;0.25;0.5;0.5"),
    ("trim", "trim=10;20;5;30"),
    ("rotate-90", "rotate=90"),
    ("rotate-30", "rotate=30,bg=white"),
    ("flip", "flip=hv"),
    ("blur", "blur=2"),
    ("blur-wide", "blur=14"),
    ("sharpen", "sharpen=2"),
    ("brightness", "brightness=1.4"),
    ("contrast", "contrast=1.6"),
    ("gamma", "gamma=2"),
    ("saturation", "saturation=1.8"),
    ("grayscale", "filter=grayscale"),
    ("sepia", "filter=sepia"),
    ("invert", "filter=invert"),
    ("pixelate", "pixelate=8"),
    ("radius", "radius=20"),
    ("circle", "w=64,h=64,fit=cover,radius=max"),
    ("border", "border=6;ff8000"),
    ("border-round", "border=6;00a0ffb0,radius=20"),
    ("overlay", "overlay=m;south-east;4;4;0.4"),
    ("overlay-faint", "overlay=m;center;0;0;0.8;0.4"),
    ("overlay-tiled", "overlay=m;tile;6;6;0.2"),
    ("background", "radius=30,bg=ffe080"),
    ("dpr", "w=40,dpr=2,border=3;red"),
    (
        "everything",
        "w=80,h=60,fit=cover,saturation=1.3,sharpen=1,rotate=180,border=3;fff,radius=12,overlay=m;north;2;2;0.3",
    ),
];

/// Least SSIMULACRA2 against the golden, which is lossless, at [`QUALITY`], some ten below what is found on libvips 8.14. WebP
/// stores colour at half the resolution, which shows in pictures as small as these.
fn least(encoding: Encoding) -> f64 {
    match encoding {
        Encoding::Png => 90.0,
        Encoding::Avif => 65.0,
        // Few colours, dithered.
        Encoding::Gif => 55.0,
        Encoding::Jpeg => 50.0,
        Encoding::Jxl => 35.0,
        _ => 25.0,
    }
}

/// What is tested is the op and not the loss.
const QUALITY: u8 = 95;

fn source() -> Vec<u8> {
    // Painted large and shrunk: detail as in a photograph, without the noise that is all that counts in a small one.
    let painted = DynamicImage::from(scene::paint(scene::BEACH, 288, 192));
    png::rgb(&painted.resize_exact(96, 64, FilterType::Lanczos3).into_rgb8(), &png::Extras::default())
}

fn mark() -> Vec<u8> {
    let ring = images::hard_edged(24, [220, 20, 60], [0; 3]);
    png::rgba(&RgbaImage::from_fn(
        40,
        24,
        |x, y| if x < 24 { *ring.get_pixel(x, y) } else { image::Rgba([20, 20, 20, 200]) },
    ))
}

fn on(body: &[u8], ground: [u8; 3]) -> RgbImage {
    let picture = images::decode(body).into_rgba8();
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let pixel = picture.get_pixel(x, y).0;
        let alpha = u32::from(pixel[3]);
        let mix = |top: u8, under: u8| (u32::from(top) * alpha + u32::from(under) * (255 - alpha) + 127) / 255;
        Rgb([0, 1, 2].map(|channel| u8::try_from(mix(pixel[channel], ground[channel])).unwrap()))
    })
}

/// A rendition as a lossless PNG; what the test's own decoder does not read is decoded by the engine.
fn rendered(ops: &str, encoding: Encoding) -> Vec<u8> {
    let ops = format!("{ops},q={QUALITY},f={}", encoding.name());
    let body = render_with_overlay(&source(), &mark(), &ops).unwrap_or_else(|error| panic!("{ops}: {error:?}")).body;
    match encoding {
        Encoding::Png => body.to_vec(),
        _ => engine_decode(&body).unwrap_or_else(|error| panic!("{ops}: {error:?}")),
    }
}

fn engine_decode(body: &[u8]) -> Result<Vec<u8>, ImagingError> {
    support::try_render(body, "f=png").map(|rendered| rendered.body.to_vec())
}

#[test]
fn each_op_in_each_format() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens"));
    let update = std::env::var_os("UPDATE_GOLDENS").is_some();
    let formats = [Encoding::Png, Encoding::Jpeg, Encoding::Webp, Encoding::Avif, Encoding::Jxl, Encoding::Gif];
    let can = engine().capabilities().clone();
    let mut wrong = Vec::new();
    for (name, ops) in CASES {
        let file = folder.join(format!("{name}.png"));
        if update {
            std::fs::write(&file, rendered(ops, Encoding::Png)).unwrap();
        }
        let golden = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for encoding in formats.into_iter().filter(|encoding| can.writes.contains(encoding)) {
            let found = rendered(ops, encoding);
            let grounds: &[[u8; 3]] = if encoding.has_alpha() { &[[255; 3], [0, 0, 0]] } else { &[[255; 3]] };
            for ground in grounds {
                let score = score(&on(&golden, *ground), &on(&found, *ground));
                if score < least(encoding) {
                    wrong.push(format!("{name} as {}: {score:.1}", encoding.name()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Every golden belongs to a case.
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(CASES.iter().any(|(case, _)| name == format!("{case}.png")), "{name} is of no case");
    }
}
