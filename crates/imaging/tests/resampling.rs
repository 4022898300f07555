//! Decoders that shrink must not cost quality, and content must decide where content is asked to.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use image::{Rgb, RgbImage};
use support::{assert_near, rgb};
use testkit::images::{self, PLACES, jpeg, png};

/// How near a shrunk decode must be to a full one. Without the resampler's margin it is 34 to 38 dB on photographs.
const PSNR_MIN_DB: f64 = 39.0;

#[test]
fn shrink_on_load_looks_like_a_full_decode() {
    let source = jpeg::rgb(&images::photo(2400, 1600), &jpeg::Extras { quality: 92, ..jpeg::Extras::default() });
    // The same pixels in a format whose decoder cannot shrink.
    let whole = png::rgb(&images::decode(&source).into_rgb8(), &png::Extras::default());
    // Factors 2.1, 3.9, 4, 5.4, 8, 9.2, 16, 17.
    for width in [1143, 615, 600, 444, 300, 261, 150, 141] {
        let ops = format!("w={width}");
        let psnr = images::psnr(&rgb(&source, &ops), &rgb(&whole, &ops));
        assert!(psnr > PSNR_MIN_DB, "{ops}: {psnr:.1} dB");
    }
}

#[test]
fn a_side_that_does_not_divide_is_shrunk_to_its_exact_size() {
    // A decoder rounds 803 ÷ 2; what is to the right must not be off for it.
    let picture = images::photo(1603, 803);
    for source in [jpeg::rgb(&picture, &jpeg::Extras { quality: 92, ..jpeg::Extras::default() }), halved(&picture)] {
        let whole = png::rgb(&images::decode(&source).into_rgb8(), &png::Extras::default());
        for width in [330, 190, 95] {
            let ops = format!("w={width}");
            let psnr = images::psnr(&rgb(&source, &ops), &rgb(&whole, &ops));
            assert!(psnr > PSNR_MIN_DB, "{ops}: {psnr:.1} dB");
        }
    }
}

/// As a camera writes it, with colours of half the resolution.
fn halved(picture: &RgbImage) -> Vec<u8> {
    support::render(&png::rgb(picture, &png::Extras::default()), "f=jpeg,q=89").body.to_vec()
}

#[test]
fn a_shrunk_webp_looks_like_a_full_decode() {
    let picture = images::photo(1600, 1200);
    let source = images::webp(&image::DynamicImage::from(picture.clone()).into_rgba8());
    let whole = png::rgb(&picture, &png::Extras::default());
    for width in [600, 400, 133] {
        let ops = format!("w={width}");
        let psnr = images::psnr(&rgb(&source, &ops), &rgb(&whole, &ops));
        assert!(psnr > PSNR_MIN_DB, "{ops}: {psnr:.1} dB");
    }
}

#[test]
fn a_rect_is_cut_where_it_says_however_the_source_is_decoded() {
    let picture = images::places(2400, 1800);
    let sources = [
        jpeg::rgb(&picture, &jpeg::Extras::default()),
        jpeg::oriented(&picture, 6),
        images::webp(&image::DynamicImage::from(picture.clone()).into_rgba8()),
    ];
    for source in sources {
        // The field in the middle, to the pixel, and a corner of it.
        let middle = rgb(&source, "rect=800;600;800;600,w=50");
        for (x, y) in [(1, 1), (48, 1), (1, 35), (48, 35), (25, 18)] {
            assert_near(middle.get_pixel(x, y).0, PLACES[4], 8, &format!("{x}, {y}"));
        }
        let last = rgb(&source, "rect=0.75;0.75;0.25;0.25,w=50");
        assert_near(last.get_pixel(25, 18).0, PLACES[8], 5, "the last field");
    }
}

#[test]
fn content_decides_the_cut() {
    // A busy patch to the right on an empty ground.
    let picture = RgbImage::from_fn(600, 200, |x, y| {
        let busy = (440..540).contains(&x) && (50..150).contains(&y);
        if busy { Rgb([230, (x * 7 % 200) as u8, (y * 11 % 120) as u8]) } else { Rgb([120, 130, 140]) }
    });
    let source = png::rgb(&picture, &png::Extras::default());
    let red = |ops: &str| rgb(&source, ops).pixels().filter(|pixel| pixel.0[0] > 200).count();
    let all = red("w=600,h=200,fit=cover");
    for gravity in ["auto", "entropy"] {
        let seen = red(&format!("w=200,h=200,fit=cover,g={gravity}"));
        assert!(seen * 10 > all * 9, "{gravity}: {seen} of {all}");
    }
    assert_eq!(red("w=200,h=200,fit=cover"), 0, "the middle has nothing of it");
}

#[test]
fn gravity_picks_the_field() {
    let source = png::rgb(&images::places(90, 90), &png::Extras::default());
    let fields = [
        ("north-west", PLACES[0]),
        ("north", PLACES[1]),
        ("north-east", PLACES[2]),
        ("west", PLACES[3]),
        ("center", PLACES[4]),
        ("east", PLACES[5]),
        ("south-west", PLACES[6]),
        ("south", PLACES[7]),
        ("south-east", PLACES[8]),
        ("0.1x0.9", PLACES[6]),
        ("0.8x0.5", PLACES[5]),
    ];
    // Crop cuts both sides only if neither is scaled, so the rows and the columns are tried one after the other.
    for (gravity, wanted) in fields {
        let row = rgb(&source, &format!("w=90,h=30,fit=cover,g={gravity}"));
        let column = rgb(&source, &format!("w=30,h=90,fit=cover,g={gravity}"));
        let x = PLACES.iter().position(|place| *place == wanted).unwrap() as u32 % 3;
        let y = PLACES.iter().position(|place| *place == wanted).unwrap() as u32 / 3;
        assert_eq!(row.get_pixel(x * 30 + 15, 15).0, wanted, "{gravity}");
        assert_eq!(column.get_pixel(15, y * 30 + 15).0, wanted, "{gravity}");
    }
}

#[test]
fn a_vector_picture_is_drawn_at_its_final_size() {
    let source = images::hostile::svg(40, 40, "");
    let picture = rgb(&source, "w=800,fit=contain,background=fff");
    let [red, white] = [[0xC0, 0x20, 0x40], [255, 255, 255]];
    // An edge enlarged from 40 pixels would be soft over 20.
    let soft = (0..800).filter(|x| ![red, white].contains(&picture.get_pixel(*x, 400).0)).count();
    assert!((1..8).contains(&soft), "{soft} pixels between inside and outside");

    // A part so small that the whole would be drawn larger than a picture can be.
    let tiny = rgb(&images::hostile::svg(30_000, 30_000, ""), "rect=15000;15000;2;2,w=2000,fit=contain");
    assert_eq!((tiny.dimensions(), tiny.get_pixel(1000, 1000).0), ((2000, 2000), red));
}
