//! Every format in and out, each looked at where it differs from the others.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use image::{DynamicImage, RgbImage};
use imaging::{Encoding, SourceFormat};
use support::{assert_near, engine, render, rgb, rgba};
use testkit::images::{self, PLACES, png};

/// The nine fields in `format`; `None` where the library cannot write it.
fn places(format: SourceFormat) -> Option<Vec<u8>> {
    let picture = images::places(90, 90);
    let by_engine = |encoding: Encoding| {
        let source = png::rgb(&picture, &png::Extras::default());
        let ops = format!("q=90,f={}", encoding.name());
        engine().capabilities().writes.contains(&encoding).then(|| render(&source, &ops).body.to_vec())
    };
    match format {
        SourceFormat::Jpeg => by_engine(Encoding::Jpeg),
        SourceFormat::Png => by_engine(Encoding::Png),
        SourceFormat::Webp => by_engine(Encoding::Webp),
        SourceFormat::Gif => by_engine(Encoding::Gif),
        SourceFormat::Avif => by_engine(Encoding::Avif),
        SourceFormat::Jxl => by_engine(Encoding::Jxl),
        SourceFormat::Tiff => Some(images::tiff(&[picture])),
        SourceFormat::Bmp => Some(images::bmp(&DynamicImage::from(picture))),
        SourceFormat::Svg => {
            let field = |index: usize| {
                let [r, g, b] = PLACES[index];
                let (x, y) = (index % 3 * 30, index / 3 * 30);
                format!("<rect x='{x}' y='{y}' width='30' height='30' fill='rgb({r},{g},{b})'/>")
            };
            let fields: String = (0..9).map(field).collect();
            Some(format!("<svg xmlns='http://www.w3.org/2000/svg' width='90' height='90'>{fields}</svg>").into_bytes())
        }
        // Nothing here writes it: see the test below.
        SourceFormat::Heic => None,
    }
}

#[test]
fn each_format_is_read_in_its_colours() {
    for format in SourceFormat::ALL {
        let Some(source) = places(format) else { continue };
        assert_eq!(engine().probe(&source.clone().into()).unwrap().format, format);
        let shown = rgb(&source, "w=45");
        for (index, wanted) in PLACES.into_iter().enumerate() {
            let (x, y) = (index as u32 % 3 * 15 + 7, index as u32 / 3 * 15 + 7);
            assert_near(shown.get_pixel(x, y).0, wanted, 12, &format!("{} field {index}", format.name()));
        }
    }
}

#[test]
fn heic_is_read_where_there_is_a_decoder() {
    let source = include_bytes!("../src/trial/sample.heic");
    if !engine().capabilities().reads.contains(&SourceFormat::Heic) {
        let reason = engine().capabilities().cannot_read[&SourceFormat::Heic];
        let error = support::try_render(source, "f=png").unwrap_err().to_string();
        assert!(error.contains("heic cannot be read") && error.contains(reason), "{error}");
        return;
    }
    // A gradient from red at the top to blue at the bottom.
    let shown = rgb(source, "v=1");
    assert_eq!(shown.dimensions(), (16, 16));
    assert_near(shown.get_pixel(8, 0).0, [250, 0, 5], 40, "the top");
    assert_near(shown.get_pixel(8, 15).0, [5, 0, 250], 40, "the bottom");
}

#[test]
fn a_vector_picture_is_drawn_at_its_final_size() {
    let disc = b"<svg xmlns='http://www.w3.org/2000/svg' width='20' height='20'><circle cx='10' cy='10' r='8'/></svg>";
    let shown = rgba(disc, "w=1000,fit=contain");
    // Enlarged from 20 pixels, an edge would be 50 pixels of half tones wide.
    let row: Vec<u8> = (0..1000).map(|x| shown.get_pixel(x, 500).0[3]).collect();
    let half_tones = row.iter().filter(|alpha| (10..246).contains(*alpha)).count();
    assert!(half_tones <= 4, "{half_tones} half tones in a row");
    assert_eq!((row[90], row[110], row[500]), (0, 255, 255));
}

#[test]
fn alpha_goes_into_every_format_that_has_it() {
    let source = png::rgba(&images::hard_edged(60, [30, 160, 90], [0; 3]));
    for encoding in engine().capabilities().writes.iter().filter(|encoding| !encoding.is_description()) {
        let body = render(&source, &format!("f={}", encoding.name())).body;
        let shown = rgba(&body, "v=1");
        let corner = if encoding.has_alpha() { 0 } else { 255 };
        // AVIF's alpha has losses too.
        let (off, inside) = (shown.get_pixel(0, 0).0[3].abs_diff(corner), shown.get_pixel(30, 30).0[3]);
        assert!(off <= 2 && inside >= 253, "{}: {off} off, {inside} inside", encoding.name());
        let [r, g, b, _] = shown.get_pixel(30, 30).0;
        assert_near([r, g, b], [30, 160, 90], 8, encoding.name());
    }
}

#[test]
fn what_is_turned_off_is_refused_with_the_reason() {
    let mut options = imaging::EngineOptions::default();
    options.without_encodings.insert(Encoding::Avif);
    let engine = imaging::Engine::start(&options).unwrap();
    let source = bytes::Bytes::from(png::rgb(&RgbImage::new(9, 9), &png::Extras::default()));
    let error = engine.render(
        (&source).into(),
        &support::transform("f=avif"),
        None,
        &imaging::EncoderDefaults::default(),
        &imaging::Limits::default(),
    );
    assert_eq!(error.unwrap_err().to_string(), "avif cannot be written: it is turned off");
    assert!(engine.capabilities().cannot_write.contains_key(&Encoding::Avif));
}
