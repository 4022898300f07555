//! Writes what `script/fuzz` begins with: a small file of each format that is read, a URL for each op, and their words.
//!
//!     cargo run -p imaging --example fuzz_seeds -- fuzz

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use image::{Rgba, RgbaImage};
use imaging::{EncoderDefaults, Engine, EngineOptions, Limits};
use testkit::images::{self, bmp, hostile, jpeg, png, svg, tiff};
use transform_url::Ops;
use transform_url::table::TABLE;

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).context("the folder to write to is missing")?;
    let folder = Path::new(&folder);
    write(&folder.join("corpus/probe"), pictures()?)?;
    write(&folder.join("corpus/parse"), urls())?;
    write(&folder.join("dictionary"), [("parse".to_owned(), dictionary().into_bytes())])
}

fn write(folder: &Path, files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    for (name, bytes) in files {
        std::fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}

fn pictures() -> Result<Vec<(String, Vec<u8>)>> {
    let small = images::places(24, 18);
    let plain = png::rgb(&small, &png::Extras::default());
    let clear = RgbaImage::from_pixel(9, 9, Rgba([9, 99, 199, 128]));
    let mut files: Vec<(String, Vec<u8>)> = [
        ("jpeg", jpeg::rgb(&small, &jpeg::Extras::default())),
        ("jpeg-oriented", jpeg::oriented(&small, 6)),
        ("jpeg-profile", images::metadata::tell_tale_jpeg(&small)),
        ("png", plain.clone()),
        ("png-alpha", png::rgba(&clear)),
        ("png-profile", images::metadata::tell_tale_png(&small)),
        ("webp", images::webp(&clear)),
        ("gif", images::animated_gif(9, 9, 3)),
        ("svg", hostile::svg(30, 30, "a.png")),
        ("svg-filter", svg::with(30, 30, svg::EVERYTHING)),
        ("tiff", tiff::many(8, 8, 2, false)),
        ("bmp", bmp::file(8, 8, 24, 0, &[9; 8 * 8 * 3])),
        ("bmp-palette", bmp::file(8, 8, 1, 0, &[9; 8 * 4])),
        ("bmp-runs", bmp::file(8, 8, 8, 1, &[8, 1, 0, 0, 8, 2, 0, 1])),
    ]
    .into_iter()
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .collect();
    files.extend(hostile::magic_only().into_iter().map(|(name, bytes)| (format!("magic-{name}"), bytes)));
    // What only libvips writes.
    let engine = Engine::start(&EngineOptions::default())?;
    let animation = Bytes::from(images::animated_gif(9, 9, 3));
    let plain = Bytes::from(plain);
    for (source, format) in [(&plain, "avif"), (&plain, "jxl"), (&animation, "webp")] {
        let transform = Ops::parse(&format!("f={format}"))?.resolve(|_| None)?;
        let made = engine.render(source.into(), &transform, None, &EncoderDefaults::default(), &Limits::default());
        // A library without the encoder has one seed less.
        files.extend(made.ok().map(|made| (format!("made-{format}"), made.body.to_vec())));
    }
    Ok(files)
}

fn urls() -> Vec<(String, Vec<u8>)> {
    let values = |name: &str| match name {
        "rect" => "0.5;0;0.5;1",
        "trim" => "1;2;3;4",
        "background" => "rgb(1%2C2%2C3)",
        "border" => "3;%23f00",
        "overlay" => "logo;tile;3;4;0.5;0.25",
        "gravity" => "0.3x0.7",
        "dpr" => "1.5",
        "download" => "a%20b.jpg",
        "preset" | "fallback" | "v" => "a-1",
        _ => "3",
    };
    let mut urls: Vec<(String, Vec<u8>)> = TABLE
        .iter()
        .map(|spec| {
            let value = (spec.choices)().first().copied().unwrap_or(values(spec.name));
            (spec.name.to_owned(), format!("/demo/{}={value},w=5/@local/a%2Fb/c.jpg", spec.name).into_bytes())
        })
        .collect();
    for (name, url) in [
        ("original", "/demo/-/@local/beach.jpg"),
        ("signed", "/demo/w=400/some%C3%BCn.jpg?exp=2000000000&kid=k1&sig=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        ("url", "/demo/w=400,f=auto/https:/example.com/a%3Fb=c"),
        ("encoded-url", "/demo/p=card,dpr=2/https%3A%2F%2Fexample.com%2Fa"),
        ("own-host", "/w=1/%40home/x"),
    ] {
        urls.push((name.to_owned(), url.into()));
    }
    urls
}

/// Every name and word of the grammar, in libFuzzer's form.
fn dictionary() -> String {
    let mut words: Vec<&str> =
        vec!["/demo/", "/@local/", "%2C", "%25", "%40", "http:/", "https://", "?exp=", "&kid=", "&sig="];
    for spec in TABLE {
        words.push(spec.name);
        words.extend(spec.short);
        words.extend((spec.choices)());
    }
    words.into_iter().fold(String::new(), |mut text, word| {
        writeln!(text, "\"{word}\"").expect("a String takes every text");
        text
    })
}
