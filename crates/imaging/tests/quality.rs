//! How near a rendition comes to the best that can be made of its original: every pixel decoded, averaged as light, by other
//! code than what is tested.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use devstack::samples::scene;
use image::imageops::FilterType;
use image::{DynamicImage, ImageBuffer, Rgb, RgbImage};
use imaging::Encoding;
use support::{engine, render, rgb, score};
use testkit::images::{self, jpeg, png};

/// Least SSIMULACRA2 of the resize alone, against a resize of light. 90 is no visible difference; averaging sRGB's numbers
/// instead of light, as libvips and nearly everybody do, costs what is missing.
const RESIZE_MIN: f64 = 80.0;
/// Least SSIMULACRA2 of resize and default quality together, by encoding.
const DEFAULT_MIN: [(Encoding, f64); 4] =
    [(Encoding::Jpeg, 68.0), (Encoding::Webp, 68.0), (Encoding::Avif, 68.0), (Encoding::Jxl, 68.0)];

/// A photograph of 6 megapixels.
fn original() -> Vec<u8> {
    let painted = DynamicImage::from(scene::paint(scene::MOUNTAINS, 750, 500));
    let large = painted.resize_exact(3000, 2000, FilterType::CatmullRom).into_rgb8();
    jpeg::rgb(&large, &jpeg::Extras { quality: 92, ..jpeg::Extras::default() })
}

/// `original` decoded whole and resized as light (IEC 61966-2-1), with Lanczos of three lobes.
fn reference(original: &RgbImage, width: u32, height: u32) -> RgbImage {
    let to_light = |number: u8| {
        let value = f32::from(number) / 255.0;
        if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    let to_number = |light: f32| {
        let value = if light <= 0.003_130_8 { 12.92 * light } else { 1.055 * light.powf(1.0 / 2.4) - 0.055 };
        (value * 255.0).round().clamp(0.0, 255.0) as u8
    };
    let table: Vec<f32> = (0..=255).map(to_light).collect();
    let light: ImageBuffer<Rgb<f32>, Vec<f32>> = ImageBuffer::from_fn(original.width(), original.height(), |x, y| {
        Rgb(original.get_pixel(x, y).0.map(|number| table[usize::from(number)]))
    });
    let small = image::imageops::resize(&light, width, height, FilterType::Lanczos3);
    RgbImage::from_fn(width, height, |x, y| Rgb(small.get_pixel(x, y).0.map(to_number)))
}

#[test]
fn renditions_come_near_to_a_full_decode_in_linear_light() {
    let source = original();
    let whole = images::decode(&source).into_rgb8();
    let can = engine().capabilities().clone();
    // Factors 3.75, 7.5 and 10: shrunk on load by 1, 2 and 4.
    for width in [800, 400, 300] {
        let ops = format!("w={width}");
        let resized = rgb(&source, &ops);
        let reference = reference(&whole, resized.width(), resized.height());
        let found = score(&reference, &resized);
        assert!(found >= RESIZE_MIN, "{ops}: {found:.1}");
        for (encoding, least) in DEFAULT_MIN.into_iter().filter(|(encoding, _)| can.writes.contains(encoding)) {
            let body = render(&source, &format!("{ops},f={}", encoding.name())).body;
            let found = score(&reference, &rgb(&body, "v=1"));
            assert!(found >= least, "{ops} as {}: {found:.1}", encoding.name());
        }
    }
}

#[test]
fn the_same_word_looks_alike_in_every_format() {
    let source = png::rgb(&scene::paint(scene::BALLOONS, 480, 640), &png::Extras::default());
    let reference = rgb(&source, "v=1");
    let can = engine().capabilities().clone();
    let encodings = [Encoding::Jpeg, Encoding::Webp, Encoding::Avif, Encoding::Jxl];
    for word in ["low", "medium-low", "medium-high", "high"] {
        let scores: Vec<f64> = encodings
            .iter()
            .filter(|encoding| can.writes.contains(encoding))
            .map(|encoding| {
                let body = render(&source, &format!("q={word},f={}", encoding.name())).body;
                score(&reference, &rgb(&body, "v=1"))
            })
            .collect();
        let (least, most) = scores.iter().fold((f64::MAX, f64::MIN), |(a, b), score| (a.min(*score), b.max(*score)));
        // One picture is no corpus: what is alike on average differs by some points on each.
        assert!(most - least <= 12.0, "{word}: {scores:.1?}");
    }
}
