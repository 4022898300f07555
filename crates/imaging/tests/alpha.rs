//! Transparency: kept through the resize, laid on a background, dropped when it says nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use image::{Rgba, RgbaImage};
use support::{assert_near, pixels, render, rgb, rgba};
use testkit::images::{self, png};

const RED: [u8; 3] = [210, 40, 30];
const GREEN: [u8; 3] = [0, 255, 0];

fn disc() -> Vec<u8> {
    png::rgba(&images::hard_edged(120, RED, GREEN))
}

/// A picture with one alpha everywhere.
fn veil(alpha: u8) -> Vec<u8> {
    png::rgba(&RgbaImage::from_pixel(40, 40, Rgba([200, 100, 50, alpha])))
}

#[test]
fn the_colour_of_invisible_pixels_does_not_bleed() {
    for (ops, source) in
        [("w=40", disc()), ("w=300,fit=contain", disc()), ("w=40", png::rgba16(&images::hard_edged(120, RED, GREEN)))]
    {
        let picture = rgba(&source, ops);
        let mut edge = 0;
        for pixel in picture.pixels().filter(|pixel| pixel.0[3] > 24) {
            let [r, g, b, a] = pixel.0;
            edge += u32::from(a < 255);
            // The fainter a pixel the coarser its colour: it was stored multiplied by alpha in 8 bits.
            let tolerance = (255 * 2 / u16::from(a)).max(6) as u8;
            // Green would rise and red would fall.
            let bleeds = g > RED[1].saturating_add(tolerance) || r < RED[0].saturating_sub(tolerance);
            assert!(!bleeds && b <= RED[2].saturating_add(tolerance), "{ops}: {pixel:?}");
        }
        assert!(edge > 40, "{ops}: {edge} edge pixels");
    }
}

#[test]
fn alpha_survives_in_every_encoding_that_holds_it() {
    for format in ["png", "webp", "avif"] {
        let rendered = render(&disc(), &format!("w=60,f={format}"));
        let picture = rgba(&rendered.body, "v=1");
        // AVIF's alpha has losses too.
        let lost = if format == "avif" { 2 } else { 0 };
        assert!(picture.get_pixel(1, 1).0[3] <= lost, "{format}");
        assert!(picture.get_pixel(30, 30).0[3] >= 255 - lost, "{format}");
    }
}

#[test]
fn jpeg_lies_on_white_or_on_the_background() {
    let corner = |ops: &str| {
        let picture = images::decode(&render(&disc(), ops).body).into_rgb8();
        (picture.get_pixel(2, 2).0, picture.get_pixel(30, 30).0)
    };
    let (ground, middle) = corner("w=60,f=jpeg,q=95");
    assert_near(ground, [255, 255, 255], 2, "white");
    assert_near(middle, RED, 4, "the disc");
    let (ground, _) = corner("w=60,f=jpeg,q=95,background=204080");
    assert_near(ground, [0x20, 0x40, 0x80], 3, "background");
}

#[test]
fn a_background_lies_under_every_encoding() {
    let picture = pixels(&disc(), "w=60,background=204080");
    assert!(!picture.color().has_alpha(), "nothing shines through any more");
    assert_near(picture.to_rgb8().get_pixel(2, 2).0, [0x20, 0x40, 0x80], 0, "opaque");

    let half = rgba(&disc(), "w=60,background=20408080").get_pixel(2, 2).0;
    assert_eq!(half, [0x20, 0x40, 0x80, 0x80], "a colour that lets something through");
    assert_eq!(rgba(&disc(), "w=60,background=20408000").get_pixel(2, 2).0[3], 0, "no colour at all");
}

#[test]
fn a_veil_mixes_with_the_background() {
    // Half of (200, 100, 50) and half of (0, 0, 0).
    assert_near(rgb(&veil(128), "background=000000").get_pixel(5, 5).0, [100, 50, 25], 1, "on black");
    let mixed = rgba(&veil(128), "background=0000ff80").get_pixel(5, 5).0;
    // Porter and Duff: alpha 0.5 + 0.5 × 0.5; colour (0.5 × c + 0.25 × blue) ÷ 0.75.
    assert!(mixed[3].abs_diff(192) <= 1, "{mixed:?}");
    assert_near([mixed[0], mixed[1], mixed[2]], [134, 67, 118], 2, "over blue");
}

#[test]
fn an_alpha_channel_that_says_nothing_is_dropped() {
    assert!(!pixels(&veil(255), "w=20").color().has_alpha());
    assert!(pixels(&veil(254), "w=20").color().has_alpha());
}

#[test]
fn padding_is_transparent_or_the_background() {
    let source = png::rgb(&images::places(90, 30), &png::Extras::default());
    let padded = rgba(&source, "w=90,h=90,fit=pad");
    assert_eq!(padded.get_pixel(5, 5).0, [0, 0, 0, 0]);
    assert_near(rgb(&source, "w=90,h=90,fit=pad").get_pixel(45, 45).0, images::PLACES[4], 0, "the picture");
    assert_near(rgb(&source, "w=90,h=90,fit=pad,background=f80").get_pixel(5, 5).0, [255, 136, 0], 0, "background");
    assert_near(
        rgb(&source, "w=90,h=90,fit=pad,background=f80,g=south").get_pixel(45, 89).0,
        images::PLACES[7],
        0,
        "south",
    );
    let grey = png::grey(&image::GrayImage::from_pixel(30, 10, image::Luma([77])), &png::Extras::default());
    assert_near(rgb(&grey, "w=30,h=30,fit=pad,background=f80").get_pixel(1, 1).0, [255, 136, 0], 0, "on grey");
    assert_eq!(pixels(&grey, "w=30,h=30,fit=pad,background=fff").color().channel_count(), 1, "grey on white is grey");
}
