//! Colours come out as sRGB, whatever they came in as.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use image::{GrayAlphaImage, GrayImage, Luma, LumaA};
use support::{assert_near, pixels, render, rgb, rgba, stripes};
use testkit::images::{self, colour, jpeg, png};

const COLOURS: [[u8; 3]; 6] =
    [[200, 60, 50], [70, 160, 80], [60, 80, 190], [230, 200, 120], [128, 128, 128], [250, 250, 250]];
const SIZE: u32 = 40;

fn with_profile(icc: Vec<u8>) -> png::Extras<'static> {
    png::Extras { icc: Some(icc), ..png::Extras::default() }
}

#[track_caller]
fn check(source: &[u8], wanted: &[[u8; 3]], tolerance: u8, what: &str) {
    // Once at its size and once through the resampler.
    for ops in ["v=1".to_owned(), format!("w={}", SIZE / 2 * wanted.len() as u32)] {
        let found = stripes(&rgb(source, &ops), wanted.len() as u32);
        for (found, wanted) in found.into_iter().zip(wanted) {
            assert_near(found, *wanted, tolerance, &format!("{what}, {ops}"));
        }
    }
}

#[test]
fn rgb_profiles_become_srgb() {
    let picture = images::swatches(&COLOURS, SIZE);
    for (name, icc) in [("Display P3", colour::display_p3()), ("Adobe RGB", colour::adobe_rgb())] {
        let wanted = colour::to_srgb(&icc, &COLOURS);
        assert!(wanted.iter().zip(COLOURS).any(|(a, b)| a[0].abs_diff(b[0]) > 10), "{name} differs from sRGB");
        check(&png::rgb(&picture, &with_profile(icc.clone())), &wanted, 2, &format!("{name} PNG"));
        check(&png::rgb16(&picture, &with_profile(icc.clone())), &wanted, 2, &format!("{name} 16-bit PNG"));
        let extras = jpeg::Extras { icc: Some(icc), ..jpeg::Extras::default() };
        check(&jpeg::rgb(&picture, &extras), &wanted, 5, &format!("{name} JPEG"));
    }
}

#[test]
fn srgb_stays_as_it_is() {
    let picture = images::swatches(&COLOURS, SIZE);
    check(&png::rgb(&picture, &png::Extras::default()), &COLOURS, 0, "no profile");
    check(&png::rgb(&picture, &with_profile(colour::srgb())), &COLOURS, 1, "an sRGB profile");
}

#[test]
fn sixteen_bits_without_a_profile_keep_their_look() {
    let picture = images::swatches(&COLOURS, SIZE);
    check(&png::rgb16(&picture, &png::Extras::default()), &COLOURS, 1, "16-bit");
    let grey = GrayImage::from_fn(SIZE * 2, SIZE, |x, _| Luma([if x < SIZE { 60 } else { 190 }]));
    check(&png::grey16(&grey), &[[60; 3], [190; 3]], 1, "16-bit grey");
}

#[test]
fn a_profile_that_is_not_for_the_picture_is_left_out() {
    let picture = images::swatches(&COLOURS, SIZE);
    let extras = |icc| jpeg::Extras { icc: Some(icc), ..jpeg::Extras::default() };
    check(&jpeg::rgb(&picture, &extras(colour::ink_profile())), &COLOURS, 4, "inks on RGB");
    check(&jpeg::rgb(&picture, &extras(b"not a profile".repeat(20))), &COLOURS, 4, "nonsense");
    let mut broken = colour::adobe_rgb();
    broken.truncate(200);
    check(&jpeg::rgb(&picture, &extras(broken)), &COLOURS, 4, "cut off");
}

#[test]
fn inks_with_a_profile_follow_it() {
    let inks = [[0, 0, 0, 0], [255, 0, 0, 0], [0, 128, 255, 0], [64, 0, 128, 32], [0, 0, 0, 128], [32, 64, 0, 0]];
    let wanted: Vec<_> = inks.into_iter().map(colour::ink_to_srgb).collect();
    let source = jpeg::cmyk(&inks, SIZE, Some(colour::ink_profile()));
    check(&source, &wanted, 6, "CMYK with a profile");
}

#[test]
fn inks_without_a_profile_look_like_inks() {
    let inks = [[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0], [0, 0, 0, 255], [0, 0, 0, 128]];
    let found = stripes(&rgb(&jpeg::cmyk(&inks, SIZE, None), "v=1"), 6);
    let [paper, cyan, magenta, yellow, black, half] = found[..] else { panic!("six stripes") };
    assert_near(paper, [255, 255, 255], 4, "paper");
    // The ISO coated inks in sRGB are about (0,158,224), (226,0,122), (255,237,0) and (29,29,27); profiles differ.
    assert_near(cyan, [0, 160, 225], 25, "cyan");
    assert_near(magenta, [226, 0, 122], 35, "magenta");
    assert_near(yellow, [255, 237, 0], 25, "yellow");
    assert!(black.into_iter().all(|part| part < 60), "black is dark: {black:?}");
    assert!((100..190).contains(&half[0]) && half[0].abs_diff(half[2]) < 12, "half black is grey: {half:?}");
}

#[test]
fn grey_stays_grey() {
    let grey = GrayImage::from_fn(SIZE * 2, SIZE, |x, _| Luma([if x < SIZE { 60 } else { 190 }]));
    for source in [jpeg::grey(&grey, &jpeg::Extras::default()), png::grey(&grey, &png::Extras::default())] {
        check(&source, &[[60; 3], [190; 3]], 2, "grey");
        for ops in ["w=30,f=png", "w=30,f=jpeg"] {
            let picture = images::decode(&render(&source, ops).body);
            assert_eq!(picture.color().channel_count(), 1, "{ops}");
        }
    }
    let linear = [[colour::grey_to_srgb(60, 1.0); 3], [colour::grey_to_srgb(190, 1.0); 3]];
    let source = png::grey(&grey, &with_profile(colour::grey(1.0)));
    check(&source, &linear, 2, "linear grey");
    assert_eq!(pixels(&source, "w=30").color().channel_count(), 1, "linear grey");
}

#[test]
fn grey_with_alpha_keeps_both() {
    let picture = GrayAlphaImage::from_fn(60, 20, |x, _| LumaA([200, if x < 30 { 255 } else { 64 }]));
    let found = rgba(&png::grey_alpha(&picture), "w=30");
    assert_eq!(found.get_pixel(5, 5).0, [200, 200, 200, 255]);
    let faint = found.get_pixel(25, 5).0;
    assert!(faint[0].abs_diff(200) <= 3 && faint[3].abs_diff(64) <= 1, "{faint:?}");
}

#[test]
fn palettes_and_interlaced_pictures_read_like_others() {
    let colours = [[200, 10, 20], [10, 200, 20], [20, 10, 200], [99, 99, 99]];
    let found = rgba(&png::palette(colours, SIZE), "w=80");
    assert_eq!(found.get_pixel(10, 10).0, [200, 10, 20, 255]);
    assert_eq!(found.get_pixel(70, 10).0[3], 0, "the transparent entry");

    let picture = images::photo(67, 41);
    assert_eq!(rgb(&png::interlaced(&picture), "v=1"), picture);
    let plain = rgb(&png::rgb(&picture, &png::Extras::default()), "w=30");
    assert_eq!(rgb(&png::interlaced(&picture), "w=30"), plain);
}

#[test]
fn every_encoding_shows_the_same_colours() {
    let source = png::rgb(&images::swatches(&COLOURS, SIZE), &png::Extras::default());
    for (format, tolerance) in [("jpeg", 5), ("webp", 8), ("avif", 6)] {
        let rendered = render(&source, &format!("f={format},q=92"));
        // Read back through the engine: it is the only decoder of AVIF at hand.
        let found = stripes(&rgb(&rendered.body, "v=1"), 6);
        for (found, wanted) in found.into_iter().zip(COLOURS) {
            assert_near(found, wanted, tolerance, format);
        }
    }
}
