//! What is refused, how, and how fast.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use image::Rgb;
use imaging::{ImagingError, Limits};
use support::{engine, render, rgb, try_render, try_render_within};
use testkit::images::{self, hostile, jpeg, png};

#[track_caller]
fn refused(source: &[u8], what: &str) -> ImagingError {
    match try_render(source, "w=100,f=jpeg") {
        Ok(_) => panic!("{what} was rendered"),
        Err(error) => error,
    }
}

#[test]
fn what_is_no_picture() {
    assert!(matches!(refused(b"", "nothing"), ImagingError::Empty));
    for (what, source) in [("a text", hostile::text()), ("a page", hostile::html()), ("zeros", vec![0; 5000])] {
        assert!(matches!(refused(&source, what), ImagingError::NotAnImage), "{what}");
    }
    for (wanted, source) in [
        ("pdf", b"%PDF-1.7\n".to_vec()),
        ("psd", b"8BPS\0\x01".to_vec()),
        ("video", b"\0\0\0\x18ftypisom\0\0\x02\0isomiso2".to_vec()),
        ("ico", b"\0\0\x01\0\x01\0".to_vec()),
    ] {
        match refused(&source, wanted) {
            ImagingError::UnsupportedFormat { format, .. } => assert_eq!(format, wanted),
            other => panic!("{wanted}: {other:?}"),
        }
    }
}

#[test]
fn what_is_cut_off() {
    for (what, source) in [
        ("JPEG", hostile::truncated_jpeg()),
        ("progressive JPEG", hostile::truncated_progressive_jpeg()),
        ("PNG", hostile::truncated_png()),
        ("WebP", hostile::truncated_webp()),
        ("GIF", hostile::truncated_gif()),
    ] {
        let error = refused(&source, what);
        assert!(matches!(error, ImagingError::Truncated(_)), "{what}: {error:?}");
        assert!(error.is_source_fault());
    }
    for (format, source) in hostile::magic_only() {
        let error = refused(&source, format);
        assert!(matches!(error, ImagingError::Truncated(_) | ImagingError::Corrupt(_)), "{format}: {error:?}");
    }
}

#[test]
fn what_is_damaged() {
    for (what, source) in [("PNG", hostile::corrupt_png()), ("JPEG", hostile::corrupt_jpeg())] {
        let error = refused(&source, what);
        assert!(matches!(error, ImagingError::Corrupt(_)), "{what}: {error:?}");
    }
}

#[test]
fn what_claims_too_many_pixels_is_refused_by_its_header() {
    // Neither holds the pixels it claims, so decoding would find it cut off instead.
    for (what, source, size) in [
        ("PNG", hostile::png_claiming(65_535, 65_535), (65_535, 65_535)),
        ("JPEG", hostile::jpeg_claiming(20_000, 14_000), (20_000, 14_000)),
    ] {
        match refused(&source, what) {
            ImagingError::TooManyPixels { width, height, frames: 1, limit_megapixels: 50 } => {
                assert_eq!((width, height), size, "{what}");
            }
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn frames_are_limited_in_number_and_in_pixels() {
    let limits = Limits { frames: 10, ..Limits::default() };
    let error = try_render_within(&images::animated_gif(16, 16, 11), "f=webp", &limits).unwrap_err();
    assert!(matches!(error, ImagingError::TooManyFrames { frames: 11, limit: 10 }), "{error:?}");
    let limits = Limits { megapixels: 1, ..Limits::default() };
    let error = try_render_within(&images::animated_gif(500, 500, 5), "f=gif", &limits).unwrap_err();
    assert!(matches!(error, ImagingError::TooManyPixels { frames: 5, .. }), "{error:?}");
    // An animation within the limits shows its first frame.
    assert_eq!(rgb(&images::animated_gif(16, 16, 5), "v=1").get_pixel(8, 8), &Rgb([255, 0, 128]));
}

#[test]
fn bytes_are_limited() {
    let source = png::rgb(&images::places(60, 60), &png::Extras::default());
    let limits = Limits { source_bytes: source.len() - 1, ..Limits::default() };
    let error = try_render_within(&source, "f=png", &limits).unwrap_err();
    assert!(matches!(error, ImagingError::SourceTooLarge { .. }), "{error:?}");
    let limits = Limits { svg_bytes: 100, ..Limits::default() };
    let error = try_render_within(&hostile::svg(10, 10, ""), "f=png", &limits).unwrap_err();
    assert!(matches!(error, ImagingError::SourceTooLarge { limit: 100, .. }), "{error:?}");
}

#[test]
fn the_output_is_limited() {
    let source = png::rgb(&images::places(60, 60), &png::Extras::default());
    let limits = Limits { output_px: 500, ..Limits::default() };
    let error = try_render_within(&source, "w=501,fit=contain,f=png", &limits).unwrap_err();
    assert!(matches!(error, ImagingError::Geometry(_)) && !error.is_source_fault(), "{error:?}");
}

#[test]
fn an_svg_loads_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret.png");
    let blue = image::RgbImage::from_pixel(100, 100, Rgb([0, 0, 255]));
    std::fs::write(&secret, png::rgb(&blue, &png::Extras::default())).unwrap();
    for reference in [format!("file://{}", secret.display()), secret.display().to_string(), "secret.png".to_owned()] {
        let picture = rgb(&hostile::svg(100, 100, &reference), "background=fff");
        assert_eq!(picture.get_pixel(50, 50), &Rgb([0xC0, 0x20, 0x40]), "the drawing itself, {reference}");
        assert!(picture.pixels().all(|pixel| pixel.0[2] < 255 || pixel.0[0] == 255), "the file shows, {reference}");
    }
}

#[test]
fn random_bytes_after_a_good_beginning_never_panic() {
    let whole = [
        jpeg::rgb(&images::places(60, 40), &jpeg::Extras::default()),
        png::rgb(&images::places(60, 40), &png::Extras::default()),
        images::animated_gif(20, 20, 3),
        images::webp(&image::RgbaImage::from_pixel(30, 30, image::Rgba([9, 99, 199, 128]))),
        render(&png::rgb(&images::places(60, 40), &png::Extras::default()), "f=avif").body.to_vec(),
    ];
    let mut state = 7_u32;
    for source in whole {
        for _ in 0..60 {
            let mut damaged = source.clone();
            for _ in 0..4 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = 12 + (state >> 8) as usize % (damaged.len() - 12);
                damaged[at] = state as u8;
            }
            // Either answer is right; what counts is that a refusal blames the source and not this crate.
            if let Err(error) = try_render(&damaged, "w=20,h=20,fit=cover,f=jpeg") {
                assert!(error.is_source_fault(), "{error:?}");
            }
        }
    }
}

#[test]
fn a_deadline_stops_the_work() {
    // Enlarged twentyfold: many strips of pixels, of which only the first few are made.
    let source = png::rgb(&images::photo(400, 400), &png::Extras::default());
    let ops = "w=8000,h=8000,fit=contain,f=png";
    let limits = Limits { deadline: Some(Instant::now() + Duration::from_millis(150)), ..Limits::default() };
    let begun = Instant::now();
    let error = try_render_within(&source, ops, &limits).unwrap_err();
    assert!(matches!(error, ImagingError::DeadlineExceeded), "{error:?}");
    // The whole would take ten seconds and more.
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());

    let limits = Limits { deadline: Some(Instant::now()), ..Limits::default() };
    let error = try_render_within(&source, "w=10,f=png", &limits).unwrap_err();
    assert!(matches!(error, ImagingError::DeadlineExceeded), "passed before it began: {error:?}");
    let limits = Limits { deadline: Some(Instant::now() + Duration::from_secs(60)), ..Limits::default() };
    assert_eq!(try_render_within(&source, "w=10,f=png", &limits).unwrap().width, 10, "the next one is not stopped");
}

#[test]
fn a_deadline_stops_every_kind_of_work() {
    let photo = png::rgb(&images::photo(400, 400), &png::Extras::default());
    let moving = images::animated_gif(600, 600, 60);
    for (source, ops) in [
        (&photo, "w=8000,h=8000,fit=contain,blur=250,f=png"),
        (&photo, "w=8000,h=8000,fit=contain,radius=900,border=20;ff000080,f=webp"),
        (&photo, "w=5500,h=5500,fit=contain,rotate=45,f=jpeg"),
        (&photo, "w=8000,h=8000,fit=contain,max-bytes=1000,f=jpeg"),
        (&moving, "w=900,fit=contain,blur=9,f=webp"),
        (&moving, "w=900,fit=contain,f=gif"),
    ] {
        let limits = Limits { deadline: Some(Instant::now() + Duration::from_millis(100)), ..Limits::default() };
        let begun = Instant::now();
        let error = try_render_within(source, ops, &limits).unwrap_err();
        assert!(matches!(error, ImagingError::DeadlineExceeded), "{ops}: {error:?}");
        assert!(begun.elapsed() < Duration::from_secs(4), "{ops}: {:?}", begun.elapsed());
    }
}

#[test]
fn a_damaged_neighbour_disturbs_nobody() {
    let good = Bytes::from(jpeg::rgb(&images::photo(640, 480), &jpeg::Extras::default()));
    let wanted = render(&good, "w=200,f=jpeg").body;
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (good, wanted) = (&good, &wanted);
            scope.spawn(move || {
                for _ in 0..12 {
                    if number % 2 == 0 {
                        assert_eq!(&render(good, "w=200,f=jpeg").body, wanted, "equal input, equal bytes");
                    } else {
                        let error = try_render(&hostile::truncated_png(), "w=50,f=jpeg").unwrap_err();
                        assert!(matches!(error, ImagingError::Truncated(_)), "{error:?}");
                    }
                }
                imaging::thread_finished();
            });
        }
    });
    assert_eq!(engine().probe(&good).unwrap().upright, imaging::Size::new(640, 480));
}
