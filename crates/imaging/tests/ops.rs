//! What each op does to the numbers of a pixel.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use image::{DynamicImage, GrayImage, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use imaging::{GeometryError, ImagingError};
use support::{assert_near, pixels, render, render_with_overlay, rgb, rgba, try_render};
use testkit::images::{self, PLACES, png};

const COLOURS: [[u8; 3]; 6] = [[0; 3], [255; 3], [200, 100, 50], [40, 90, 210], [128; 3], [255, 0, 0]];

/// What `ops` make of fields of [`COLOURS`], each at its middle.
fn colours(ops: &str) -> Vec<[u8; 3]> {
    let source = png::rgb(&images::swatches(&COLOURS, 12), &png::Extras::default());
    support::stripes(&rgb(&source, ops), 6)
}

#[track_caller]
fn check(ops: &str, wanted: impl Fn([f64; 3]) -> [f64; 3]) {
    for (found, colour) in colours(ops).into_iter().zip(COLOURS) {
        let wanted = wanted(colour.map(|channel| f64::from(channel) / 255.0));
        let wanted = wanted.map(|value| (value * 255.0).round().clamp(0.0, 255.0) as u8);
        assert_near(found, wanted, 1, &format!("{ops} of {colour:?}"));
    }
}

fn luma([r, g, b]: [f64; 3]) -> f64 {
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

fn saturated(colour: [f64; 3], amount: f64) -> [f64; 3] {
    colour.map(|channel| luma(colour) * (1.0 - amount) + channel * amount)
}

#[test]
fn curves() {
    check("brightness=1.5", |colour| colour.map(|value| value * 1.5));
    check("brightness=0", |_| [0.0; 3]);
    check("contrast=2", |colour| colour.map(|value| (value - 0.5) * 2.0 + 0.5));
    check("contrast=0", |_| [0.5; 3]);
    check("gamma=2.2", |colour| colour.map(|value| value.powf(1.0 / 2.2)));
    check("gamma=0", |colour| colour.map(|value| if value < 1.0 { 0.0 } else { 1.0 }));
    check("gamma=10", |colour| colour.map(|value| value.powf(0.1)));
    // In this order, and cut off only at the end of the first two.
    check("gamma=2,contrast=0.5,brightness=1.2", |colour| {
        colour.map(|value| (((value * 1.2) - 0.5) * 0.5 + 0.5_f64).clamp(0.0, 1.0).sqrt())
    });
}

#[test]
fn saturation_and_filters() {
    check("saturation=2", |colour| saturated(colour, 2.0));
    check("saturation=0", |colour| [luma(colour); 3]);
    check("filter=grayscale", |colour| [luma(colour); 3]);
    check("filter=grayscale,saturation=5", |colour| [luma(colour); 3]);
    check("filter=invert", |colour| colour.map(|value| 1.0 - value));
    check("filter=invert,saturation=0.5", |colour| saturated(colour, 0.5).map(|value| 1.0 - value));
    check("filter=invert,gamma=2", |colour| colour.map(|value| 1.0 - value.sqrt()));
    check("filter=sepia", |[r, g, b]| {
        [0.393 * r + 0.769 * g + 0.189 * b, 0.349 * r + 0.686 * g + 0.168 * b, 0.272 * r + 0.534 * g + 0.131 * b]
    });
    // A grey result has one channel, and a sepia one has three even of a grey source.
    let grey = png::grey(&GrayImage::from_pixel(9, 9, Luma([100])), &png::Extras::default());
    assert!(matches!(pixels(&grey, "filter=grayscale,saturation=3"), DynamicImage::ImageLuma8(_)));
    assert_near(rgb(&grey, "filter=sepia").get_pixel(4, 4).0, [135, 120, 94], 1, "sepia of a grey picture");
    assert_near(rgb(&grey, "filter=invert").get_pixel(4, 4).0, [155; 3], 0, "inverted grey");
}

#[test]
fn alpha_is_not_coloured() {
    let picture = RgbaImage::from_fn(20, 10, |x, _| Rgba([200, 100, 50, if x < 10 { 255 } else { 90 }]));
    let source = png::rgba(&picture);
    for ops in ["brightness=0.5", "saturation=0", "filter=invert", "filter=sepia", "filter=grayscale", "sharpen=1"] {
        let found = rgba(&source, ops);
        assert_eq!((found.get_pixel(5, 5).0[3], found.get_pixel(15, 5).0[3]), (255, 90), "{ops}");
    }
    // What blurs or averages does so to alpha too, and lets no invisible colour show.
    let disc = png::rgba(&images::hard_edged(40, [0, 200, 0], [255, 0, 0]));
    for ops in ["blur=3", "blur=20", "pixelate=5"] {
        for pixel in rgba(&disc, ops).pixels().filter(|pixel| pixel.0[3] > 16) {
            assert!(pixel.0[0] < 24 && pixel.0[1] > 160, "{ops}: {pixel:?}");
        }
    }
}

#[test]
fn a_blur_has_the_width_that_it_says() {
    // A hard edge under a Gaussian is its integral: 16 % of the way one deviation before it, 84 % after.
    let edge = RgbImage::from_fn(400, 60, |x, _| Rgb([if x < 200 { 0 } else { 255 }; 3]));
    let source = png::rgb(&edge, &png::Extras::default());
    for sigma in [2.0, 6.0, 8.5, 13.0, 30.0, 50.0_f64] {
        let blurred = rgb(&source, &format!("blur={sigma}"));
        for (deviations, share) in [(-1.0, 0.1587), (0.0, 0.5), (1.0, 0.8413), (2.0, 0.9772)] {
            let at = 199.5 + deviations * sigma;
            let (left, right) = (at.floor() as u32, at.ceil() as u32);
            let value = |x: u32| f64::from(blurred.get_pixel(x, 30).0[0]);
            let found = (value(left) + value(right)) / 2.0 / 255.0;
            // The library enlarges with an offset of half a pixel, which shows in the narrowest of the shrunk ones.
            assert!((found - share).abs() < 0.035, "sigma {sigma} at {deviations}: {found:.3}, not {share}");
        }
    }
}

#[test]
fn sharpening_makes_edges_steeper_and_nothing_else() {
    let soft = RgbImage::from_fn(60, 20, |x, _| Rgb([(60.0 + 120.0 / (1.0 + (30.0 - f64::from(x)).exp())) as u8; 3]));
    let source = png::rgb(&soft, &png::Extras::default());
    let (plain, sharp) = (rgb(&source, "v=1"), rgb(&source, "sharpen=1.5"));
    let step = |picture: &RgbImage| i16::from(picture.get_pixel(32, 9).0[0]) - i16::from(picture.get_pixel(27, 9).0[0]);
    assert!(step(&sharp) > step(&plain) + 5, "{} after {}", step(&sharp), step(&plain));
    assert_near(sharp.get_pixel(5, 9).0, plain.get_pixel(5, 9).0, 1, "flat parts stay");
}

#[test]
fn pixelation_is_the_mean_of_each_block() {
    let picture = images::photo(50, 31);
    let found = rgb(&png::rgb(&picture, &png::Extras::default()), "pixelate=8");
    for block_y in 0..4 {
        for block_x in 0..6 {
            let inside = |x: u32, y: u32| x / 8 == block_x && y / 8 == block_y;
            let members: Vec<_> = picture.enumerate_pixels().filter(|(x, y, _)| inside(*x, *y)).collect();
            // The last row of blocks is cut off: the library fills it up its own way.
            if members.len() < 64 {
                continue;
            }
            let mean = [0, 1, 2].map(|channel| {
                let sum: u32 = members.iter().map(|(_, _, pixel)| u32::from(pixel.0[channel])).sum();
                u8::try_from((sum + 32) / 64).unwrap()
            });
            for (x, y, _) in &members {
                assert_near(found.get_pixel(*x, *y).0, mean, 1, &format!("{x}, {y}"));
            }
        }
    }
}

#[test]
fn corners_are_round() {
    let source = png::rgb(&RgbImage::from_pixel(80, 60, Rgb([10, 20, 30])), &png::Extras::default());
    let found = rgba(&source, "radius=20");
    for (x, y, alpha) in [(0, 0, 0), (79, 0, 0), (0, 59, 0), (79, 59, 0), (20, 0, 255), (0, 20, 255), (40, 30, 255)] {
        assert_eq!(found.get_pixel(x, y).0[3], alpha, "{x}, {y}");
    }
    // The covered area is the rectangle less what four quarter discs leave of their squares.
    let covered: f64 = found.pixels().map(|pixel| f64::from(pixel.0[3]) / 255.0).sum();
    let wanted = 80.0 * 60.0 - (4.0 - std::f64::consts::PI) * 20.0 * 20.0;
    assert!((covered - wanted).abs() < 4.0, "{covered} pixels, not {wanted}");

    let circle = rgba(&source, "w=61,h=61,fit=cover,radius=max");
    let covered: f64 = circle.pixels().map(|pixel| f64::from(pixel.0[3]) / 255.0).sum();
    assert!((covered - std::f64::consts::PI * 30.5 * 30.5).abs() < 6.0, "{covered}");
    // More than there is to round is as much as there is.
    assert_eq!(rgba(&source, "radius=8192"), rgba(&source, "radius=max"));
    // In a format without transparency, and under a background, the corner has a colour.
    let jpeg = images::decode(&render(&source, "radius=20,f=jpeg").body).into_rgb8();
    assert_near(jpeg.get_pixel(0, 0).0, [255; 3], 12, "paper");
    assert_near(rgb(&source, "radius=20,bg=gold").get_pixel(0, 0).0, [255, 215, 0], 0, "background");
}

#[test]
fn a_border_lies_inside_the_edge() {
    let source = png::rgb(&RgbImage::from_pixel(40, 30, Rgb([10, 20, 30])), &png::Extras::default());
    let found = rgb(&source, "border=4;ff8000");
    assert_eq!((found.width(), found.height()), (40, 30), "it adds nothing to the size");
    for (x, y) in [(0, 0), (39, 29), (3, 15), (36, 15), (20, 3), (20, 26)] {
        assert_near(found.get_pixel(x, y).0, [255, 128, 0], 0, &format!("{x}, {y}"));
    }
    for (x, y) in [(4, 4), (35, 25), (20, 15)] {
        assert_near(found.get_pixel(x, y).0, [10, 20, 30], 0, &format!("{x}, {y}"));
    }
    // Half transparent it mixes with the picture.
    assert_near(rgb(&source, "border=4;ff800080").get_pixel(1, 15).0, [133, 74, 15], 2, "mixed");
    // Along round corners it is as thick as along straight edges.
    let round = rgba(&source, "border=4;ff8000,radius=12");
    assert_eq!(round.get_pixel(0, 0).0[3], 0);
    assert_near(images_rgb(round.get_pixel(20, 1)), [255, 128, 0], 0, "straight part");
    assert_near(images_rgb(round.get_pixel(5, 5)), [255, 128, 0], 2, "in the corner");
    assert_near(images_rgb(round.get_pixel(8, 8)), [10, 20, 30], 2, "inside of it");
    // Thicker than the picture it is all there is.
    for ops in ["border=20;red", "border=15;red", "border=8192;red", "border=100;red,radius=3"] {
        assert_near(rgb(&source, &format!("{ops},bg=red")).get_pixel(20, 15).0, [255, 0, 0], 0, ops);
    }
}

fn images_rgb(pixel: &Rgba<u8>) -> [u8; 3] {
    [pixel.0[0], pixel.0[1], pixel.0[2]]
}

#[test]
fn a_trim_cuts_the_border_away() {
    let mut picture = RgbImage::from_pixel(100, 80, Rgb([250, 250, 250]));
    image::imageops::overlay(&mut picture, &images::places(60, 30), 25, 11);
    let source = png::rgb(&picture, &png::Extras::default());
    let size = |ops: &str| (render(&source, ops).width, render(&source, ops).height);
    assert_eq!(size("trim=5,f=png"), (60, 30));
    assert_eq!(rgb(&source, "trim=5"), images::places(60, 30));
    // A field of 245 is within this tolerance of the border's 250, and at the edge it goes too.
    assert_eq!(size("trim=0,f=png"), (60, 30));
    assert_eq!(size("trim=5,w=30,f=png"), (30, 15), "before the resize");
    // After the rect, whose own top left pixel counts.
    assert_eq!(size("rect=20;5;50;60,trim=5,f=png"), (45, 30));
    assert_eq!(size("trim=1;2;3;4,f=png"), (94, 76));
    assert_near(rgb(&source, "trim=11;15;39;25").get_pixel(0, 0).0, PLACES[0], 0, "the sides by number");
    // Turned by EXIF, the border is that of the upright picture.
    let turned = testkit::images::jpeg::oriented(&picture, 6);
    let found = rgb(&turned, "trim=30");
    assert!(found.width().abs_diff(60) <= 2 && found.height().abs_diff(30) <= 2, "{:?}", found.dimensions());

    // Single pixels are noise, and a thin line is none if it is two pixels thick.
    let mut noisy = picture.clone();
    for (x, y) in [(3, 3), (90, 70), (50, 2)] {
        noisy.put_pixel(x, y, Rgb([0, 0, 0]));
    }
    assert_eq!(rgb(&png::rgb(&noisy, &png::Extras::default()), "trim=5"), images::places(60, 30));
    image::imageops::overlay(&mut noisy, &RgbImage::from_pixel(100, 2, Rgb([0; 3])), 0, 76);
    assert_eq!(rgb(&png::rgb(&noisy, &png::Extras::default()), "trim=5").dimensions(), (100, 67));
    let grey = png::grey(&DynamicImage::from(picture.clone()).into_luma8(), &png::Extras::default());
    assert_eq!(rgb(&grey, "trim=5").dimensions(), (60, 30));

    let blank = png::rgb(&RgbImage::from_pixel(20, 10, Rgb([7; 3])), &png::Extras::default());
    assert_eq!(rgb(&blank, "trim=10").dimensions(), (20, 10), "border all over");
    let mut sticker = RgbaImage::new(50, 40);
    image::imageops::overlay(&mut sticker, &RgbaImage::from_pixel(20, 10, Rgba([1, 2, 3, 255])), 9, 6);
    assert_eq!(rgba(&png::rgba(&sticker), "trim=0").dimensions(), (20, 10), "a transparent border");
    let error = try_render(&source, "trim=40;0;40;0,f=png").unwrap_err();
    assert!(matches!(error, ImagingError::Geometry(GeometryError::TrimmedAway { .. })), "{error:?}");
}

#[test]
fn an_overlay_lies_where_it_says() {
    let source = png::rgb(&RgbImage::from_pixel(100, 60, Rgb([255; 3])), &png::Extras::default());
    let mark = png::rgba(&RgbaImage::from_pixel(10, 10, Rgba([0, 0, 0, 255])));
    let dark = |ops: &str| {
        let rendered = render_with_overlay(&source, &mark, &format!("{ops},f=png")).unwrap();
        let picture = images::decode(&rendered.body).into_rgb8();
        let dark: Vec<_> = picture.enumerate_pixels().filter(|(_, _, pixel)| pixel.0[0] < 128).collect();
        let across = dark.iter().map(|(x, ..)| *x);
        let down = dark.iter().map(|(_, y, _)| *y);
        (across.clone().min(), down.clone().min(), across.max(), down.max())
    };
    let at = |x: u32, y: u32, width: u32, height: u32| (Some(x), Some(y), Some(x + width - 1), Some(y + height - 1));
    assert_eq!(dark("ol=m"), at(45, 25, 10, 10));
    assert_eq!(dark("ol=m;north-west"), at(0, 0, 10, 10));
    assert_eq!(dark("ol=m;south-east;3;4"), at(87, 46, 10, 10));
    assert_eq!(dark("ol=m;top;3;4"), at(48, 4, 10, 10));
    assert_eq!(dark("ol=m;center;0;0;0.5"), at(25, 5, 50, 50));
    // Larger than the picture it is shrunk to fit, and outside of it nothing shows.
    assert_eq!(dark("ol=m;center;0;0;1"), at(20, 0, 60, 60));
    assert_eq!(dark("w=6,ol=m"), at(1, 0, 4, 4));
    assert_eq!(dark("ol=m;west;500;0"), (None, None, None, None));
    assert_eq!(dark("ol=m;east;95;0"), at(0, 25, 5, 10));
    // On the finished picture, whichever way it was turned.
    assert_eq!(dark("rotate=90,ol=m;north-west"), at(0, 0, 10, 10));

    let half = render_with_overlay(&source, &mark, "ol=m;center;0;0;0;0.5,f=png").unwrap();
    assert_near(images::decode(&half.body).into_rgb8().get_pixel(50, 30).0, [127; 3], 1, "opacity");
    let tiled = render_with_overlay(&source, &mark, "ol=m;tile;10;5,f=png").unwrap();
    let tiled = images::decode(&tiled.body).into_rgb8();
    for (x, y, value) in [(0, 0, 0), (9, 9, 0), (10, 0, 255), (20, 15, 0), (0, 12, 255), (85, 50, 0), (99, 59, 255)] {
        assert_near(tiled.get_pixel(x, y).0, [value; 3], 0, &format!("{x}, {y}"));
    }
    // A grey picture under a coloured mark is coloured.
    let grey = png::grey(&GrayImage::from_pixel(40, 40, Luma([200])), &png::Extras::default());
    let red = png::rgba(&RgbaImage::from_pixel(10, 10, Rgba([255, 0, 0, 255])));
    let found = render_with_overlay(&grey, &red, "ol=m,f=png").unwrap();
    let found = images::decode(&found.body).into_rgb8();
    assert_near(found.get_pixel(20, 20).0, [255, 0, 0], 0, "the mark");
    assert_near(found.get_pixel(2, 2).0, [200; 3], 1, "the picture");
}

#[test]
fn an_overlay_that_is_broken_is_told_apart_from_the_source() {
    let source = png::rgb(&images::places(30, 30), &png::Extras::default());
    for broken in [images::hostile::truncated_png(), images::hostile::text(), Vec::new()] {
        let error = render_with_overlay(&source, &broken, "ol=m,f=png").unwrap_err();
        assert!(matches!(error, ImagingError::Overlay(_)) && !error.is_source_fault(), "{error:?}");
    }
}

#[test]
fn pages_are_chosen_by_number() {
    let page = |shade: u8| RgbImage::from_pixel(30, 20, Rgb([shade, 0, 255 - shade]));
    let tiff = images::tiff(&[page(10), page(120), page(230)]);
    for (number, shade) in [(0, 10), (1, 120), (2, 230)] {
        assert_near(rgb(&tiff, &format!("page={number}")).get_pixel(9, 9).0, [shade, 0, 255 - shade], 0, "a page");
    }
    assert_near(rgb(&tiff, "w=10").get_pixel(5, 5).0, [10, 0, 245], 0, "the first unless told");
    let gif = images::animated_gif(20, 20, 5);
    assert_near(rgb(&gif, "page=3").get_pixel(9, 9).0, [243, 12, 128], 0, "a frame");
    for (source, pages) in [(tiff, 3), (gif, 5), (png::rgb(&page(1), &png::Extras::default()), 1)] {
        let error = try_render(&source, &format!("page={pages},f=png")).unwrap_err();
        assert!(
            matches!(error, ImagingError::NoSuchPage { page, pages: has } if page == pages && has == pages),
            "{error:?}"
        );
    }
}

#[test]
fn bmp_is_read() {
    let picture = images::places(60, 40);
    let source = images::bmp(&DynamicImage::from(picture.clone()));
    assert_eq!(rgb(&source, "v=1"), picture);
    assert_eq!(rgb(&source, "w=30").dimensions(), (30, 20));
    let clear = images::hard_edged(20, [1, 2, 3], [0; 3]);
    let found = rgba(&images::bmp(&DynamicImage::from(clear)), "v=1");
    assert_eq!((found.get_pixel(0, 0).0[3], found.get_pixel(10, 10).0[3]), (0, 255));
}

#[test]
fn density_scales_what_is_counted_in_pixels() {
    let source = png::rgb(&images::photo(200, 200), &png::Extras::default());
    for (once, twice) in [
        ("w=50,dpr=2,radius=10", "w=100,radius=20"),
        ("w=50,dpr=2,border=3;red", "w=100,border=6;red"),
        ("w=50,dpr=2,blur=3", "w=100,blur=6"),
        ("w=50,dpr=2,pixelate=5", "w=100,pixelate=10"),
    ] {
        assert_eq!(rgba(&source, once), rgba(&source, twice), "{once}");
    }
}
