//! EXIF orientation, flip and rotate.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use image::RgbImage;
use image::imageops;
use support::{assert_near, pixels, render, rgb};
use testkit::images::{self, PLACES, jpeg, png};

/// The colours in the middle of the nine fields, row by row.
fn fields(picture: &RgbImage) -> Vec<[u8; 3]> {
    let (width, height) = (picture.width() / 3, picture.height() / 3);
    (0..9).map(|i| picture.get_pixel(i % 3 * width + width / 2, i / 3 * height + height / 2).0).collect()
}

#[test]
fn every_orientation_gives_the_same_picture() {
    let upright = images::photo(288, 192);
    let ops = ["w=144", "w=90,h=90,fit=cover,g=north-west", "rect=24;16;96;64,w=60", "w=90,h=90,fit=pad,rotate=90"];
    for ops in ops {
        let wanted = rgb(&jpeg::oriented(&upright, 1), ops);
        for orientation in 2..=8 {
            let found = rgb(&jpeg::oriented(&upright, orientation), ops);
            // Not equal to the last bit: the file's own blocks lie otherwise, and rows are averaged before columns.
            let psnr = images::psnr(&found, &wanted);
            assert!(psnr > 36.0, "{ops}, orientation {orientation}: {psnr:.1} dB");
        }
    }
}

#[test]
fn orientation_is_exact_where_nothing_is_resized() {
    let upright = images::places(30, 21);
    for orientation in 1..=8 {
        let exif = devstack::samples::exif::Exif { orientation, ..Default::default() }.to_bytes();
        let stored = jpeg::stored(&upright, orientation);
        let source = png::rgb(&stored, &png::Extras { exif: Some(exif), ..png::Extras::default() });
        assert_eq!(rgb(&source, "v=1"), upright, "orientation {orientation}");
    }
}

#[test]
fn orientation_holds_with_shrink_on_load() {
    let upright = images::places(1800, 1200);
    for orientation in 1..=8 {
        let found = fields(&rgb(&jpeg::oriented(&upright, orientation), "w=180"));
        for (index, wanted) in PLACES.into_iter().enumerate() {
            assert_near(found[index], wanted, 6, &format!("orientation {orientation}, field {index}"));
        }
    }
}

#[test]
fn a_second_orientation_is_not_applied_by_the_client() {
    let rendered = render(&jpeg::oriented(&images::places(60, 30), 6), "f=jpeg");
    assert!(!rendered.body.windows(4).any(|window| window == b"Exif"));
    assert_eq!((rendered.width, rendered.height), (60, 30));
}

#[test]
fn quarter_turns_and_flips_are_exact() {
    let picture = images::places(30, 21);
    let source = png::rgb(&picture, &png::Extras::default());
    let cases = [
        ("rotate=90", imageops::rotate90(&picture)),
        ("rotate=180", imageops::rotate180(&picture)),
        ("rotate=270", imageops::rotate270(&picture)),
        ("flip=h", imageops::flip_horizontal(&picture)),
        ("flip=v", imageops::flip_vertical(&picture)),
        ("flip=hv", imageops::rotate180(&picture)),
        // The flip comes first.
        ("flip=h,rotate=90", imageops::rotate90(&imageops::flip_horizontal(&picture))),
    ];
    for (ops, wanted) in cases {
        assert_eq!(rgb(&source, ops), wanted, "{ops}");
    }
}

#[test]
fn a_flip_turns_the_cut_and_not_what_is_cut() {
    let source = png::rgb(&images::places(90, 30), &png::Extras::default());
    let west = rgb(&source, "w=30,h=30,fit=cover,g=west,flip=h");
    assert_near(west.get_pixel(15, 5).0, PLACES[0], 0, "the west of the upright picture");
}

#[test]
fn any_angle_keeps_the_middle_and_clears_the_corners() {
    let source = png::rgb(&images::places(120, 120), &png::Extras::default());
    let turned = pixels(&source, "rotate=45").into_rgba8();
    assert_eq!(turned.dimensions(), (170, 170));
    assert_eq!(turned.get_pixel(1, 1).0[3], 0, "corners are transparent");
    let middle = turned.get_pixel(85, 85).0;
    assert_near([middle[0], middle[1], middle[2]], PLACES[4], 1, "the middle");
    // Clockwise: what was the top left corner is at the top.
    let top = turned.get_pixel(85, 20).0;
    assert_near([top[0], top[1], top[2]], PLACES[0], 1, "the top");

    let on_blue = rgb(&source, "rotate=45,background=0000ff");
    assert_near(on_blue.get_pixel(1, 1).0, [0, 0, 255], 0, "corners are the background");
    let jpeg = images::decode(&render(&source, "rotate=45,f=jpeg,q=95").body).into_rgb8();
    assert_near(jpeg.get_pixel(3, 3).0, [255, 255, 255], 3, "corners of a JPEG are white");
}
