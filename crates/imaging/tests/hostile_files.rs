//! BMPs and TIFFs that lie, and ops that ask for more than the picture has.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use imaging::ImagingError;
use support::bounded::bounded;
use support::{render, render_with_overlay, rgb, try_render};
use testkit::images::{self, bmp, frames, hostile, jpeg, png, svg, tiff};

/// Most that a small picture may take, in megabytes.
const MEGABYTES: u64 = 120;

/// Refused as the source's fault.
#[track_caller]
fn is_refused(source: &[u8], what: &str) -> ImagingError {
    for ops in ["f=json", "w=9,f=png"] {
        let error = bounded(what, MEGABYTES, || try_render(source, ops)).expect_err(what);
        assert!(error.is_source_fault(), "{what} {ops}: {error:?}");
    }
    try_render(source, "w=9,f=png").unwrap_err()
}

#[test]
fn bmps_that_lie() {
    for (what, width, height) in [
        ("a huge one", i32::MAX, i32::MAX),
        ("a wide one", 65_535, 65_535),
        ("one from the top", 60_000, -60_000),
        ("the lowest number", 1, i32::MIN),
        ("a negative width", -8, 8),
        ("no width", 0, 8),
        ("no height", 8, 0),
    ] {
        for (bits, compression) in [(24, 0), (8, 1), (1, 0)] {
            is_refused(&bmp::file(width, height, bits, compression, &[9; 64]), what);
        }
    }
    let error = is_refused(&bmp::file(30_000, 30_000, 24, 0, &[9; 64]), "claims");
    assert!(matches!(error, ImagingError::TooManyPixels { .. }), "{error:?}");
    is_refused(&bmp::file(100, 100, 24, 0, &[9; 64]), "cut off");
    for bits in [0, 3, 7, 33, 65_535] {
        is_refused(&bmp::file(8, 8, bits, 0, &[9; 256]), "odd depth");
    }
    for compression in [4, 5, 99, u32::MAX] {
        is_refused(&bmp::file(8, 8, 24, compression, &[9; 256]), "odd compression");
    }

    let upright = rgb(&bmp::file(8, 2, 24, 0, &[[0, 0, 200].repeat(8), [200, 0, 0].repeat(8)].concat()), "v=1");
    assert_eq!((upright.get_pixel(3, 0).0, upright.get_pixel(3, 1).0), ([0, 0, 200], [200, 0, 0]));
    let from_top = rgb(&bmp::file(8, -2, 24, 0, &[[0, 0, 200].repeat(8), [200, 0, 0].repeat(8)].concat()), "v=1");
    assert_eq!((from_top.get_pixel(3, 0).0, from_top.get_pixel(3, 1).0), ([200, 0, 0], [0, 0, 200]));
    let bits = rgb(&bmp::file(8, 1, 1, 0, &[0b0100_0000, 0, 0, 0]), "v=1");
    assert_eq!((bits.get_pixel(0, 0).0, bits.get_pixel(1, 0).0), ([0; 3], [0, 128, 255]));
}

/// Found by `script/fuzz`: libpng makes room for what a chunk claims, which were 600 MB for 800 bytes.
#[test]
fn png_chunks_that_lie_or_inflate() {
    for name in [*b"tEXt", *b"zTXt", *b"iTXt", *b"iCCP", *b"eXIf", *b"PLTE", *b"abCd", *b"IDAT"] {
        for length in [100, 1_000_000_000, 0x7FFF_FFFF, 0xFFFF_FFFF] {
            let what = format!("{} of {length}", String::from_utf8_lossy(&name));
            let error = is_refused(&png::with_chunk(name, b"key\0text", length), &what);
            assert!(matches!(error, ImagingError::Truncated(_)), "{what}: {error:?}");
        }
    }
    let zeros = png::zlib_zeros(300_000_000);
    for (name, head) in [(*b"zTXt", &b"key\0\0"[..]), (*b"iTXt", &b"key\0\x01\0\0\0"[..])] {
        let data = [head, &zeros].concat();
        let source = png::with_chunk(name, &data, data.len());
        for ops in ["f=png", "f=json", "metadata=keep,f=webp"] {
            let what = format!("{} {ops}", String::from_utf8_lossy(&name));
            if let Err(error) = bounded(&what, MEGABYTES, || try_render(&source, ops)) {
                assert!(error.is_source_fault(), "{what}: {error:?}");
            }
        }
    }
}

#[test]
fn runs_beyond_the_picture() {
    for (what, runs) in [
        ("a run over the edge", vec![255, 1, 0, 1]),
        ("runs over the end", [255, 1].repeat(500)),
        ("a jump out of it", vec![0, 2, 255, 255, 8, 1, 0, 1]),
        ("jumps without end", [0, 2, 0, 255].repeat(5000)),
        ("an index without colour", vec![8, 200, 0, 1]),
        ("absolute pixels that are missing", vec![0, 255, 1, 1]),
        ("nothing", vec![]),
        ("no end", [8, 1, 0, 0].repeat(8)),
        ("the end at once", vec![0, 1]),
    ] {
        let made = bounded(what, MEGABYTES, || try_render(&bmp::file(8, 8, 8, 1, &runs), "f=png"));
        match made {
            Ok(made) => assert_eq!((made.width, made.height), (8, 8), "{what}"),
            Err(error) => assert!(error.is_source_fault(), "{what}: {error:?}"),
        }
    }
}

#[test]
fn tiffs_of_many_pages_and_without_an_end() {
    let many = tiff::many(4, 4, 2000, false);
    assert_eq!(rgb(&many, "v=1").get_pixel(1, 1).0, [0; 3]);
    let last = bounded("the last page", MEGABYTES, || rgb(&many, "page=199"));
    assert_eq!(last.get_pixel(1, 1).0, [199; 3]);
    let error = bounded("after the last", MEGABYTES, || try_render(&many, "page=2000,f=png")).unwrap_err();
    assert!(matches!(error, ImagingError::NoSuchPage { page: 2000, pages: 2000 }), "{error:?}");

    let looping = tiff::many(4, 4, 3, true);
    for ops in ["f=png", "f=json", "page=2,f=png", "page=9999,f=png"] {
        match bounded(ops, MEGABYTES, || try_render(&looping, ops)) {
            Ok(made) => assert!(ops != "page=9999,f=png" && made.width == 4, "{ops}"),
            Err(ImagingError::NoSuchPage { .. }) => assert_eq!(ops, "page=9999,f=png"),
            Err(error) => assert!(error.is_source_fault(), "{ops}: {error:?}"),
        }
    }
    // Directories and strips far outside of the file.
    let good = tiff::many(4, 4, 1, false);
    let ends = good.len() - 16;
    for (what, range) in [
        ("the directory", 4..8),
        ("the next directory", ends - 4..ends),
        ("the strip", 78..82),
        ("its length", 102..106),
    ] {
        let mut bad = good.clone();
        bad[range].fill(0xEE);
        if let Err(error) = bounded(what, MEGABYTES, || try_render(&bad, "f=png")) {
            assert!(error.is_source_fault(), "{what}: {error:?}");
        }
    }
    let mut claims = good;
    for side in [18..20, 30..32] {
        claims[side].copy_from_slice(&60_000_u16.to_le_bytes());
    }
    let error = bounded("claims", MEGABYTES, || try_render(&claims, "w=9,f=png")).unwrap_err();
    assert!(matches!(error, ImagingError::TooManyPixels { .. }), "{error:?}");
}

#[test]
fn more_than_the_picture_has() {
    let source = jpeg::rgb(&images::photo(60, 40), &jpeg::Extras::default());
    let gif = frames::gif(3, None);
    for (source, ops) in [
        (&source, "max-bytes=1,f=jpeg"),
        (&source, "max-bytes=1"),
        (&source, "rect=60;0;1;1,f=png"),
        (&source, "rect=65535;65535;65535;65535,f=png"),
        (&source, "trim=20;0;20;0,f=png"),
        (&source, "trim=65535;65535;65535;65535,f=png"),
        (&source, "page=1,f=png"),
        (&gif, "page=3,f=webp"),
        (&source, "t=5,f=png"),
    ] {
        let error = try_render(source, ops).expect_err(ops);
        assert!(!error.is_source_fault(), "it is the URL's fault, {ops}: {error:?}");
        let is_its_own = matches!(
            error,
            ImagingError::BytesOutOfReach { .. }
                | ImagingError::Geometry(_)
                | ImagingError::NoSuchPage { .. }
                | ImagingError::NotApplicable { .. }
        );
        assert!(is_its_own, "{ops}: {error:?}");
    }
    for ops in [
        "radius=8192,f=png",
        "radius=max,border=8192;red,f=png",
        "border=8192;red,f=png",
        "border=30;ff000080,radius=1,f=png",
        "border=20;red,f=jpeg",
        "rect=59;39;65535;65535,f=png",
        "rect=0.9999;0.9999;1;1,f=png",
        "trim=255,f=png",
        "pixelate=512,f=png",
        "blur=250,f=png",
        "sharpen=10,blur=250,pixelate=512,f=png",
        "w=1,h=1,fit=cover,radius=max,border=1;red,blur=250,f=png",
        "w=1,h=1,fit=pad,rotate=45,f=png",
        "brightness=10,contrast=10,saturation=10,gamma=0,filter=invert,f=png",
    ] {
        bounded(ops, MEGABYTES, || render(&source, ops));
        if !ops.starts_with("rect=59") {
            render(&gif, &ops.replace("f=png", "f=webp"));
        }
    }
    assert_eq!(rgb(&source, "border=8192;00f").get_pixel(30, 20).0, [0, 0, 255], "all of it is border");
}

#[test]
fn overlays_of_every_kind() {
    let source = jpeg::rgb(&images::photo(60, 40), &jpeg::Extras::default());
    let large = png::rgb(&images::places(2000, 1500), &png::Extras::default());
    let drawing = svg::with(5000, 5000, "<rect width=\"5000\" height=\"5000\" fill=\"#00f\"/>");
    for (what, layer) in [
        ("larger", &large),
        ("an animation", &frames::gif(500, None)),
        ("a drawing", &drawing),
        ("one pixel", &png::rgb(&images::places(1, 1), &png::Extras::default())),
    ] {
        for place in
            ["center;0;0;1;0.5", "tile", "tile;65535;65535;0.01;1", "south-east;65535;65535", "north;0;0;0.0001"]
        {
            let ops = format!("overlay=logo;{},f=png", place.trim_end_matches(';'));
            let made = bounded(&format!("{what} {place}"), MEGABYTES, || render_with_overlay(&source, layer, &ops));
            let made = made.unwrap_or_else(|error| panic!("{what} {place}: {error:?}"));
            assert_eq!((made.width, made.height), (60, 40), "{what} {place}");
        }
    }
    let embedding = svg::with(9, 9, &format!("<use href=\"{}#a\"/>", svg::data_url("image/svg+xml", b"<svg/>")));
    for (what, layer) in [
        ("cut off", hostile::truncated_png()),
        ("damaged", hostile::corrupt_jpeg()),
        ("a text", hostile::text()),
        ("nothing", vec![]),
        ("claims", hostile::png_claiming(60_000, 60_000)),
        ("refused", embedding),
        ("costly", svg::with(9, 9, &svg::filtered("<feTurbulence numOctaves=\"99999999\"/>"))),
    ] {
        let error =
            bounded(what, MEGABYTES, || render_with_overlay(&source, &layer, "overlay=logo,f=png")).expect_err(what);
        assert!(matches!(error, ImagingError::Overlay(_)), "{what}: {error:?}");
        assert!(!error.is_source_fault(), "the picture is sound, {what}");
    }
    let error = try_render(&source, "overlay=logo,f=png").unwrap_err();
    assert!(matches!(error, ImagingError::NotApplicable { op: "overlay", .. }), "{error:?}");
}
