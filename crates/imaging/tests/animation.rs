//! Animations in and out: frames, timing and plays are kept, and each frame is what the ops make of it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::Cursor;

use bytes::Bytes;
use image::codecs::gif::GifDecoder;
use image::codecs::webp::WebPDecoder;
use image::{AnimationDecoder, Frame, Rgba, RgbaImage};
use imaging::{Class, EncoderDefaults, Encoding, ImagingError, Limits};
use support::{engine, pixels, render, render_with_overlay, rgba, transform, try_render_within};
use testkit::images::{self, png};

const DELAYS: [u32; 4] = [50, 200, 70, 400];

/// Four frames with a square that wanders, transparent around it.
fn wandering() -> Vec<u8> {
    let frames: Vec<_> = DELAYS.iter().enumerate().map(|(index, delay)| (frame(index), *delay)).collect();
    images::animation(&frames, 3)
}

fn frame(index: usize) -> RgbaImage {
    let (left, shade) = (index as u32 * 14, index as u8 * 60);
    RgbaImage::from_fn(60, 40, |x, y| {
        let inside = (left..left + 18).contains(&x) && (10..30).contains(&y);
        Rgba(if inside { [255 - shade, shade, 80, 255] } else { [0; 4] })
    })
}

fn frames(body: &[u8]) -> Vec<Frame> {
    let frames = if body.starts_with(b"GIF") {
        GifDecoder::new(Cursor::new(body)).unwrap().into_frames()
    } else {
        WebPDecoder::new(Cursor::new(body)).unwrap().into_frames()
    };
    frames.collect_frames().unwrap()
}

fn frame_count(body: &Bytes) -> usize {
    engine().probe(body).unwrap().frames as usize
}

fn delays(body: &[u8]) -> Vec<u32> {
    frames(body).iter().map(|frame| frame.delay().numer_denom_ms()).map(|(millis, parts)| millis / parts).collect()
}

/// How often it plays, out of the file itself; 0 is for ever.
fn plays(body: &[u8]) -> u16 {
    let after = |mark: &[u8], skip: usize| {
        let at = body.windows(mark.len()).position(|window| window == mark).unwrap() + mark.len() + skip;
        u16::from_le_bytes([body[at], body[at + 1]])
    };
    if body.starts_with(b"GIF") { after(b"NETSCAPE2.0", 2) } else { after(b"ANIM", 8) }
}

#[test]
fn frames_timing_and_plays_are_kept() {
    let gif = wandering();
    // The same animation in the other format is a source like any.
    let webp = render(&gif, "lossless=true,f=webp").body;
    for source in [&gif[..], &webp] {
        for format in ["webp", "gif"] {
            let rendered = render(source, &format!("w=30,f={format}"));
            assert_eq!((rendered.width, rendered.height), (30, 20));
            assert_eq!(delays(&rendered.body), DELAYS, "{format}");
            // A GIF counts how often it is repeated after the first time, a WebP how often it is shown.
            assert_eq!(plays(&rendered.body), if format == "gif" { 3 } else { 4 }, "{format}");
        }
    }
    let endless = images::animated_gif(20, 20, 3);
    for format in ["webp", "gif"] {
        assert_eq!(plays(&render(&endless, &format!("w=10,f={format}")).body), 0, "{format}");
    }
}

#[test]
fn each_frame_is_what_the_ops_make_of_it() {
    let source = wandering();
    let mark = png::rgba(&images::hard_edged(12, [0, 0, 255], [0; 3]));
    for ops in [
        "w=30",
        "w=40,h=40,fit=cover",
        "w=50,h=50,fit=pad,bg=fff",
        "blur=2",
        "pixelate=5",
        "filter=invert,bg=fff",
        "rotate=90,flip=h",
        "rect=10;10;30;20",
        "radius=8",
        "border=3;red",
        "overlay=m;north-east;2;2",
        "trim=3;4;5;6",
        "saturation=0.3,brightness=1.4",
    ] {
        let render = |ops: &str| render_with_overlay(&source, &mark, ops).unwrap().body;
        let whole = render(&format!("{ops},lossless=true,f=webp"));
        assert_eq!(frame_count(&whole), DELAYS.len(), "{ops}");
        for number in 0..DELAYS.len() {
            let frame = rgba(&whole, &format!("page={number}"));
            let alone = images::decode(&render(&format!("{ops},page={number},f=png"))).into_rgba8();
            let pairs = frame.pixels().zip(alone.pixels());
            // What is invisible has no colour.
            let seen = |pixel: &Rgba<u8>| if pixel.0[3] == 0 { [0; 4] } else { pixel.0 };
            let worst = pairs.flat_map(|(a, b)| seen(a).into_iter().zip(seen(b)).map(|(a, b)| a.abs_diff(b))).max();
            assert!(worst <= Some(1), "{ops}, frame {number}: {worst:?}");
        }
    }
}

#[test]
fn the_first_frame_decides_where_content_is_cut() {
    // A square that wanders from left to right; the cut must not follow it.
    let frames_made: Vec<_> = (0..3).map(|index| (frame(index), 100)).collect();
    let source = images::animation(&frames_made, 0);
    let cut = render(&source, "w=30,h=40,fit=crop,g=auto,lossless=true,f=webp").body;
    for number in 0..3 {
        let frame = rgba(&cut, &format!("page={number}"));
        let whole = rgba(&source, &format!("page={number}"));
        let at =
            |picture: &RgbaImage, left: u32| (0..30).map(|x| picture.get_pixel(left + x, 20).0[3]).collect::<Vec<_>>();
        assert!(at(&frame, 0) == at(&whole, 0), "frame {number} is cut elsewhere");
    }
}

#[test]
fn what_shows_an_animation_and_what_its_first_frame() {
    let source = Bytes::from(wandering());
    let encoding = |ops: &str, class| {
        let rendered =
            engine().render((&source).into(), &transform(ops), class, &EncoderDefaults::default(), &Limits::default());
        let rendered = rendered.unwrap();
        (rendered.encoding, frame_count(&rendered.body))
    };
    for (class, wanted) in [
        (Some(Class::Avif), (Encoding::Webp, 4)),
        (Some(Class::Webp), (Encoding::Webp, 4)),
        (Some(Class::Legacy), (Encoding::Gif, 4)),
        (None, (Encoding::Gif, 4)),
    ] {
        assert_eq!(encoding("w=30", class), wanted, "{class:?}");
    }
    assert_eq!(encoding("w=30,anim=false", Some(Class::Legacy)), (Encoding::Png, 1));
    assert_eq!(encoding("w=30,anim=false", Some(Class::Avif)), (Encoding::Avif, 1));
    assert_eq!(encoding("w=30,anim=false,f=webp", None).1, 1);
    assert_eq!(encoding("w=30,page=2,f=gif", None).1, 1);
    assert_eq!(encoding("w=30,f=png", None), (Encoding::Png, 1));
    // A quality that can be lowered is something that GIF does not have.
    assert_eq!(encoding("w=30,max-bytes=5000", None), (Encoding::Jpeg, 1));
    assert_eq!(rgba(&source, "v=1"), rgba(&source, "page=0"), "PNG shows the first frame");
}

#[test]
fn a_still_becomes_a_gif() {
    let source = png::rgba(&images::hard_edged(40, [200, 10, 10], [0; 3]));
    let shown = images::decode(&render(&source, "w=40,f=gif").body).into_rgba8();
    assert_eq!((shown.get_pixel(20, 20).0[3], shown.get_pixel(0, 0).0[3]), (255, 0));
    let [r, g, b, _] = shown.get_pixel(20, 20).0;
    support::assert_near([r, g, b], [200, 10, 10], 3, "a colour of its palette");
    assert_eq!(pixels(&source, "w=40").width(), 40);
}

#[test]
fn animations_are_bounded_in_both_directions() {
    let source = images::animated_gif(100, 100, 20);
    let limits = Limits { megapixels: 1, ..Limits::default() };
    // 20 × 0.01 megapixels in, 20 × 0.09 out.
    let error = try_render_within(&source, "w=300,fit=contain,f=webp", &limits).unwrap_err();
    assert!(matches!(error, ImagingError::AnimationTooLarge { frames: 20, .. }), "{error:?}");
    assert_eq!(try_render_within(&source, "w=300,fit=contain,f=png", &limits).unwrap().width, 300, "one frame");
    assert_eq!(try_render_within(&source, "w=200,fit=contain,f=gif", &limits).unwrap().width, 200);
    let limits = Limits { frames: 19, ..Limits::default() };
    let error = try_render_within(&source, "w=30,f=gif", &limits).unwrap_err();
    assert!(matches!(error, ImagingError::TooManyFrames { frames: 20, limit: 19 }), "{error:?}");
    assert_eq!(try_render_within(&source, "w=30,anim=false,f=gif", &limits).unwrap().width, 30);
}
