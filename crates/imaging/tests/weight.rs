//! What a render is estimated to take: how estimates compare, for that is what they are for.

mod support;

use bytes::Bytes;
use image::{DynamicImage, RgbaImage};
use imaging::{Class, EncoderDefaults, ImagingError, Inputs, Limits, Weight};
use support::{engine, transform};
use testkit::images::{self, jpeg};

fn weigh_with(source: &[u8], overlay: Option<&[u8]>, ops: &str) -> Result<Weight, ImagingError> {
    let (source, overlay) = (Bytes::copy_from_slice(source), overlay.map(Bytes::copy_from_slice));
    let inputs = Inputs { source: &source, overlay: overlay.as_ref(), share: None };
    let weighed =
        engine().weigh(inputs, &transform(ops), Some(Class::Avif), &EncoderDefaults::default(), &Limits::default());
    weighed.map(|weighed| weighed.weight)
}

fn weigh(source: &[u8], ops: &str) -> Weight {
    weigh_with(source, None, ops).unwrap_or_else(|error| panic!("{ops}: {error:?}"))
}

fn photo(width: u32, height: u32) -> Vec<u8> {
    jpeg::rgb(&images::photo(width, height), &jpeg::Extras::default())
}

/// Checks that each of these costs more than the one before.
#[track_caller]
fn assert_rising(source: &[u8], ops: &[&str]) {
    let costs: Vec<(u64, &str)> = ops.iter().map(|ops| (weigh(source, ops).cost_ms, *ops)).collect();
    assert!(costs.is_sorted_by(|(a, _), (b, _)| a < b), "{costs:?}");
}

#[test]
fn encoders_differ_as_measured() {
    let source = photo(2000, 1500);
    assert_rising(&source, &["f=jpeg", "f=webp", "f=jxl", "f=avif", "f=webp,lossless=true"]);
    assert_rising(&source, &["w=400,f=jpeg", "w=400,f=webp", "w=400,f=avif", "w=1600,f=avif"]);
    // The encoding that is chosen, not the one that might have been.
    assert_eq!(weigh(&source, "w=400"), weigh(&source, "w=400,f=avif"));
}

#[test]
fn more_work_costs_more() {
    let source = photo(2000, 1500);
    assert_rising(&source, &["w=900,f=webp", "w=900,f=webp,sharpen=1", "w=900,f=webp,max-bytes=9000"]);
    assert_rising(&source, &["w=900,f=jpeg", "w=900,f=jpeg,trim=10"]);
    // A decoder that shrinks leaves less to do.
    assert_rising(&source, &["w=100,f=jpeg", "w=700,f=jpeg"]);
    let small = photo(1000, 750);
    assert!(weigh(&small, "w=100,f=jpeg").cost_ms * 3 < weigh(&source, "w=100,f=jpeg").cost_ms * 4);
}

#[test]
fn pictures_in_several_passes_are_held_in_memory() {
    let picture = images::photo(1600, 1200);
    let pixels = 1600 * 1200;
    let one_pass = weigh(&jpeg::rgb(&picture, &jpeg::Extras::default()), "w=100,f=jpeg").memory_bytes;
    let progressive = jpeg::Extras { progressive: true, ..jpeg::Extras::default() };
    let passes = weigh(&jpeg::rgb(&picture, &progressive), "w=100,f=jpeg").memory_bytes;
    assert!(one_pass < pixels, "{one_pass}");
    assert!(passes > one_pass + 5 * pixels, "{passes}");
}

#[test]
fn an_animation_is_as_much_work_as_its_frames() {
    let source = images::animated_gif(400, 300, 20);
    let (still, moving) = (weigh(&source, "w=200,anim=false,f=webp"), weigh(&source, "w=200,f=webp"));
    assert!(moving.cost_ms >= 15 * still.cost_ms.saturating_sub(1), "{moving:?} {still:?}");
    assert!(moving.memory_bytes > still.memory_bytes + 20 * 200 * 150 * 4);
    // JPEG shows one frame.
    assert_eq!(weigh(&source, "w=200,f=jpeg"), weigh(&source, "w=200,anim=false,f=jpeg"));
}

#[test]
fn a_description_without_a_size_looks_at_a_small_picture() {
    let source = photo(2000, 1500);
    assert!(weigh(&source, "f=json").cost_ms < weigh(&source, "f=json,w=2000").cost_ms);
}

#[test]
fn an_overlay_is_decoded_too() {
    let source = photo(400, 300);
    let overlay = images::webp(&RgbaImage::from_pixel(2000, 2000, image::Rgba([1, 2, 3, 4])));
    let ops = "w=300,f=jpeg,overlay=logo;center;0;0;0.5;1";
    let with = weigh_with(&source, Some(&overlay), ops).expect("can be weighed");
    assert!(with.cost_ms > weigh(&source, "w=300,f=jpeg").cost_ms + 50, "{with:?}");
    assert!(with.memory_bytes > 2000 * 2000 * 4);
}

#[test]
fn what_is_refused_cannot_be_weighed() {
    let source = Bytes::from(photo(2000, 1500));
    let limits = Limits { megapixels: 1, ..Limits::default() };
    let weighed = engine().weigh((&source).into(), &transform("w=10"), None, &EncoderDefaults::default(), &limits);
    assert!(matches!(weighed, Err(ImagingError::TooManyPixels { .. })), "{weighed:?}");
    assert!(matches!(weigh_with(b"no picture", None, "w=10"), Err(ImagingError::NotAnImage)));
    let overlay = weigh_with(&photo(40, 30), Some(b"no picture"), "w=10,overlay=logo;center;0;0;0.5;1");
    assert!(matches!(overlay, Err(ImagingError::NotAnImage)), "{overlay:?}");
}

#[test]
fn reading_a_header_costs_little_but_for_text() {
    let drawing = format!("<svg xmlns=\"http://www.w3.org/2000/svg\">{}</svg>", "<g/>".repeat(100_000));
    let bytes = drawing.len();
    assert!(Weight::of_header(drawing.as_bytes()).cost_ms > 20, "{bytes} bytes");
    let picture = images::webp(&DynamicImage::from(images::photo(300, 200)).into_rgba8());
    assert_eq!(Weight::of_header(&picture).cost_ms, 1);
    assert_eq!(Weight::of_header(b"").cost_ms, 1);
}
