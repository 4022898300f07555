//! Which encoding comes out, what `f=json` tells, and which ops are refused.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use bytes::Bytes;
use imaging::{
    Class, ColourSpace, EncoderDefaults, Encoding, Engine, EngineOptions, ImagingError, Limits, SourceFormat,
};
use support::{engine, render, transform, try_render};
use testkit::images::{self, jpeg, png};

fn encoding(source: &[u8], ops: &str, class: Option<Class>) -> Encoding {
    let source = Bytes::copy_from_slice(source);
    let rendered = engine()
        .render((&source).into(), &transform(ops), class, &EncoderDefaults::default(), &Limits::default())
        .unwrap();
    assert_eq!(rendered.content_type(), rendered.encoding.content_type());
    assert_eq!(sniff(&rendered.body), Some(rendered.encoding), "{ops}");
    rendered.encoding
}

fn sniff(body: &[u8]) -> Option<Encoding> {
    match SourceFormat::sniff(body)? {
        SourceFormat::Jpeg => Some(Encoding::Jpeg),
        SourceFormat::Png => Some(Encoding::Png),
        SourceFormat::Webp => Some(Encoding::Webp),
        SourceFormat::Avif => Some(Encoding::Avif),
        _ => None,
    }
}

#[test]
fn the_class_decides_unless_the_format_is_named() {
    let photo = jpeg::rgb(&images::photo(120, 80), &jpeg::Extras::default());
    let logo = png::rgba(&images::hard_edged(60, [9, 9, 9], [0; 3]));
    for (class, opaque, clear) in [
        (Some(Class::Avif), Encoding::Avif, Encoding::Avif),
        (Some(Class::Webp), Encoding::Webp, Encoding::Webp),
        (Some(Class::Legacy), Encoding::Jpeg, Encoding::Png),
        (None, Encoding::Jpeg, Encoding::Png),
    ] {
        assert_eq!(encoding(&photo, "w=60", class), opaque, "{class:?}");
        assert_eq!(encoding(&logo, "w=60", class), clear, "{class:?}");
    }
    for format in [Encoding::Jpeg, Encoding::Png, Encoding::Webp, Encoding::Avif] {
        assert_eq!(encoding(&logo, &format!("w=60,f={}", format.name()), Some(Class::Avif)), format);
    }
}

#[test]
fn large_avif_falls_to_webp_and_a_missing_encoder_to_the_next() {
    let source = png::rgb(&images::places(90, 90), &png::Extras::default());
    assert_eq!(encoding(&source, "w=2001,h=2000,fit=cover", Some(Class::Avif)), Encoding::Webp);

    let options = |without: &[Encoding]| {
        let mut options = EngineOptions::default();
        options.without_encodings.extend(without);
        Engine::start(&options).unwrap()
    };
    let render = |engine: &Engine, ops: &str| {
        let source = Bytes::copy_from_slice(&source);
        engine.render(
            (&source).into(),
            &transform(ops),
            Some(Class::Avif),
            &EncoderDefaults::default(),
            &Limits::default(),
        )
    };
    let no_avif = options(&[Encoding::Avif]);
    assert_eq!(render(&no_avif, "w=9").unwrap().encoding, Encoding::Webp);
    assert_eq!(render(&options(&[Encoding::Avif, Encoding::Webp]), "w=9").unwrap().encoding, Encoding::Jpeg);
    let error = render(&no_avif, "w=9,f=avif").unwrap_err();
    assert!(matches!(error, ImagingError::UnsupportedFormat { format: "avif", .. }), "{error:?}");
}

#[test]
fn quality_changes_the_size_in_the_right_direction() {
    let source = jpeg::rgb(&images::photo(300, 200), &jpeg::Extras::default());
    for format in ["jpeg", "webp", "avif", "jxl"] {
        let bytes = |q: &str| render(&source, &format!("w=200,f={format}{q}")).body.len();
        let steps = ["low", "medium-low", "medium-high", "high"].map(|q| bytes(&format!(",q={q}")));
        assert!(steps.is_sorted() && steps[0] < steps[3], "{format}: {steps:?}");
        assert_eq!(bytes(""), steps[2], "{format}: the default is medium-high");
        assert!(bytes(",q=1") <= bytes(",q=10") && bytes(",q=10") < bytes(",q=90"), "{format}");
    }
}

#[test]
fn a_number_means_one_look_when_the_format_is_chosen_for_the_client() {
    let source = jpeg::rgb(&images::photo(300, 200), &jpeg::Extras::default());
    let bytes = |ops: &str| render(&source, ops).body.len();
    assert_eq!(bytes("w=200,q=80"), bytes("w=200,f=avif,q=66"), "on JPEG's scale");
    assert_ne!(bytes("w=200,f=avif,q=80"), bytes("w=200,q=80"), "on the encoder's own");
}

#[test]
fn headers_of_every_kind_are_read() {
    let probe = |bytes: Vec<u8>| engine().probe(&bytes.into()).unwrap();
    let inks = probe(jpeg::cmyk(&[[0; 4], [255; 4]], 16, None));
    assert_eq!((inks.colour_space, inks.alpha, inks.icc), (ColourSpace::Cmyk, false, false));
    let grey = probe(png::grey16(&image::GrayImage::new(5, 4)));
    assert_eq!((grey.colour_space, grey.bit_depth), (ColourSpace::Grey, 16));
    let clear = probe(png::rgba(&image::RgbaImage::new(5, 4)));
    assert_eq!((clear.alpha, clear.upright.width, clear.upright.height), (true, 5, 4));
    let moving = probe(images::animated_gif(8, 6, 7));
    assert_eq!((moving.format, moving.frames, moving.pixels()), (SourceFormat::Gif, 7, 8 * 6 * 7));
    let drawn = probe(images::hostile::svg(30, 20, ""));
    assert_eq!((drawn.format, drawn.is_vector()), (SourceFormat::Svg, true));
    for (format, wanted) in [("webp", SourceFormat::Webp), ("avif", SourceFormat::Avif), ("png", SourceFormat::Png)] {
        let source = png::rgb(&images::places(30, 20), &png::Extras::default());
        assert_eq!(probe(render(&source, &format!("f={format}")).body.to_vec()).format, wanted);
    }
}

#[test]
fn ops_that_mean_nothing_for_the_format_are_refused_with_a_reason() {
    let source = png::rgb(&images::places(9, 9), &png::Extras::default());
    for (ops, wanted) in [
        ("lossless=true,f=jpeg", "lossless"),
        ("lossless=true,f=gif", "lossless"),
        ("lossless=true,f=avif", "lossless"),
        ("max-bytes=1000,f=png", "max-bytes"),
        ("max-bytes=1000,f=gif", "max-bytes"),
        ("max-bytes=1000,lossless=true,f=webp", "max-bytes"),
        ("t=3", "t"),
        ("overlay=logo", "overlay"),
    ] {
        let error = try_render(&source, ops).unwrap_err();
        assert!(matches!(error, ImagingError::NotApplicable { op, .. } if op == wanted), "{ops}: {error:?}");
        assert!(!error.is_source_fault());
    }
}

#[test]
fn the_engine_says_what_it_can() {
    let engine = engine();
    assert!((engine.version().major, engine.version().minor) >= (8, 14), "{}", engine.version());
    let can = engine.capabilities();
    for format in [SourceFormat::Jpeg, SourceFormat::Png, SourceFormat::Webp, SourceFormat::Gif] {
        assert!(can.reads.contains(&format), "{}", format.name());
    }
    assert!(can.writes.contains(&Encoding::Jpeg) && can.writes.contains(&Encoding::Json));
}
