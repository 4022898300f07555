//! `f=json`, `f=blurhash` and `f=thumbhash`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::{Rgb, RgbImage};
use serde_json::{Value, json};
use support::{render, try_render_within};
use testkit::images::{self, jpeg, png};

fn described(source: &[u8], ops: &str) -> Value {
    let rendered = render(source, &format!("{ops},f=json"));
    assert_eq!(rendered.content_type(), "application/json");
    let found: Value = serde_json::from_slice(&rendered.body).unwrap();
    assert_eq!((&found["width"], &found["height"]), (&rendered.width.into(), &rendered.height.into()));
    found
}

fn text(source: &[u8], ops: &str) -> String {
    let rendered = render(source, ops);
    assert_eq!(rendered.content_type(), "text/plain");
    String::from_utf8(rendered.body.to_vec()).unwrap()
}

/// Blue to the left, a strip of red to the right.
fn blue_and_red() -> RgbImage {
    RgbImage::from_fn(100, 60, |x, _| Rgb(if x < 75 { [20, 40, 200] } else { [220, 30, 30] }))
}

#[test]
fn json_tells_about_the_result_and_the_original() {
    let exif = devstack::samples::exif::Exif { orientation: 6, ..Default::default() }.to_bytes();
    let extras = jpeg::Extras { exif: Some(exif), icc: Some(images::colour::adobe_rgb()), ..jpeg::Extras::default() };
    let source = jpeg::rgb(&images::places(90, 60), &extras);
    let found = described(&source, "w=10");
    assert_eq!((&found["width"], &found["height"]), (&json!(10), &json!(15)), "what the same ops would make");
    let original = json!({
        "format": "jpeg", "bytes": source.len(), "width": 90, "height": 60, "orientation": 6, "upright_width": 60,
        "upright_height": 90, "pages": 1, "frames": 1, "alpha": false, "colour_space": "rgb", "bit_depth": 8, "icc": true,
    });
    assert_eq!(found["original"], original);
    assert_eq!(described(&source, "rotate=90")["width"], 90, "the whole size without one in the URL");
    assert_eq!(described(&images::animated_gif(30, 20, 7), "v=1")["original"]["frames"], 7);
}

#[test]
fn colours_are_those_of_the_result() {
    let source = png::rgb(&blue_and_red(), &png::Extras::default());
    let found = described(&source, "v=1");
    let colour = |value: &Value| {
        let [_, r, g, b] = u32::from_str_radix(&value.as_str().unwrap()[1..], 16).unwrap().to_be_bytes();
        [r, g, b]
    };
    // Near the edge between them the resampler's ripples count too.
    support::assert_near(colour(&found["dominant_colour"]), [20, 40, 200], 2, "the field");
    let palette = found["palette"].as_array().unwrap();
    assert_eq!(palette[0]["colour"], found["dominant_colour"]);
    // The strip is narrow, and its edge is mixed.
    support::assert_near(colour(&palette[1]["colour"]), [220, 30, 30], 4, "the strip");
    assert!((palette[0]["share"].as_f64().unwrap() - 0.75).abs() < 0.03, "{found}");
    assert_eq!(described(&source, "rect=80;0;20;60")["dominant_colour"], "#dc1e1e", "what is cut out");
    let inverted = described(&source, "filter=invert");
    support::assert_near(colour(&inverted["dominant_colour"]), [235, 215, 55], 2, "the field, inverted");
    let nothing = png::rgba(&image::RgbaImage::new(9, 9));
    assert_eq!(
        (&described(&nothing, "v=1")["dominant_colour"], &described(&nothing, "v=1")["palette"]),
        (&Value::Null, &json!([]))
    );
}

#[test]
fn a_blurhash_is_read_by_its_own_library() {
    let source = png::rgb(&blue_and_red(), &png::Extras::default());
    let hash = text(&source, "f=blurhash");
    assert_eq!(hash.len(), 1 + 1 + 4 + 2 * (4 * 3 - 1), "4 × 3 components");
    let shown = blurhash::decode(&hash, 100, 60, 1.0).unwrap();
    let at = |x: usize, channel: usize| i32::from(shown[(30 * 100 + x) * 4 + channel]);
    assert!(at(20, 2) > at(20, 0) + 80 && at(95, 0) > at(95, 2), "blue, then red");
    let tall = text(&png::rgb(&images::photo(60, 100), &png::Extras::default()), "f=blurhash");
    assert_eq!(tall.len(), hash.len());
    assert_ne!(tall.as_bytes()[0], hash.as_bytes()[0], "3 × 4 components");
    // Transparent is white.
    let clear = text(&png::rgba(&image::RgbaImage::new(20, 20)), "f=blurhash");
    assert!(blurhash::decode(&clear, 4, 4, 1.0).unwrap()[..3].iter().all(|channel| *channel > 250), "{clear}");
}

#[test]
fn a_thumbhash_is_read_by_its_own_library() {
    let source = png::rgb(&blue_and_red(), &png::Extras::default());
    let hash = STANDARD.decode(text(&source, "w=50,f=thumbhash")).unwrap();
    let (r, g, b, a) = thumbhash::thumb_hash_to_average_rgba(&hash).unwrap();
    assert!(b > r && r > g && a == 1.0, "{r} {g} {b} {a}");
    let aspect = thumbhash::thumb_hash_to_approximate_aspect_ratio(&hash).unwrap();
    assert!((aspect - 100.0 / 60.0).abs() < 0.3, "{aspect}");
    let disc = png::rgba(&images::hard_edged(60, [10, 200, 10], [0; 3]));
    let hash = STANDARD.decode(text(&disc, "f=thumbhash")).unwrap();
    let (_, _, _, alpha) = thumbhash::thumb_hash_to_average_rgba(&hash).unwrap();
    assert!((0.2..0.7).contains(&alpha), "{alpha}");
}

#[test]
fn what_is_too_long_to_animate_can_be_described() {
    let limits = imaging::Limits { frames: 2, ..imaging::Limits::default() };
    let source = images::animated_gif(20, 20, 9);
    let found = try_render_within(&source, "f=json", &limits).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&found.body).unwrap()["original"]["frames"], 9);
}
