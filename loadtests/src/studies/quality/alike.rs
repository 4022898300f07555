//! Which qualities of which encoder look alike: curves of each, rows of equal score, and the proof that the words mean one
//! look.

use anyhow::Context;
use imaging::{Class, Encoding};

use super::FORMATS;
use crate::curve::{Curve, Point};
use crate::darkroom::Darkroom;
use crate::gallery::{Kind, Picture, of_kind};
use crate::studies::Desk;
use crate::table::{Table, kilobytes};

/// Qualities that are tried.
const QUALITIES: [u8; 11] = [5, 15, 30, 40, 50, 60, 68, 80, 88, 92, 96];

/// The rows of `crates/imaging/src/quality.rs`, on JPEG's scale.
const ANCHORS: [u8; 8] = [15, 30, 50, 68, 80, 88, 92, 96];

const WORDS: [&str; 4] = ["low", "medium-low", "medium-high", "high"];

/// Numbers on JPEG's scale between the rows.
const NUMBERS: [u8; 4] = [20, 40, 60, 85];

const CLASSES: [(&str, Class); 3] = [("JPEG", Class::Legacy), ("WebP", Class::Webp), ("AVIF", Class::Avif)];

/// The tables.
pub fn study(desk: &Desk<'_>, pictures: &[Picture]) -> anyhow::Result<String> {
    let mut text = String::from("\n## Score and bytes at each quality\n");
    eprintln!("  curves");
    let curves = std::thread::scope(|scope| {
        let curves_of = |format| [Kind::Photo, Kind::Drawing].map(|kind| curve(&desk.darkroom, format, pictures, kind));
        let threads = FORMATS.map(|format| scope.spawn(move || curves_of(format)));
        threads.map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked")))
    });
    let mut photos = Vec::new();
    for (format, curves) in FORMATS.into_iter().zip(curves) {
        let [photo, drawing] = curves?;
        let (photo, drawing) = (photo?, drawing?);
        let mut table = Table::new(&["q", "photographs: score", "bytes", "drawings: score", "bytes"]);
        for (photo, drawing) in photo.points().iter().zip(drawing.points()) {
            table.row(&[
                format!("{}", photo.quality),
                format!("{:.1}", photo.score),
                kilobytes(photo.bytes),
                format!("{:.1}", drawing.score),
                kilobytes(drawing.bytes),
            ]);
        }
        text.push_str(&format!("\n{format}\n\n{}", table.into_text()));
        photos.push(photo);
    }
    text.push_str(
        "\n## Rows of equal score\n\nWhat each encoder must be told to score as JPEG does on photographs, on straight lines \
         between the qualities above; the rows of `crates/imaging/src/quality.rs` are these, rounded.\n\n",
    );
    let mut table = Table::new(&["JPEG", "score", "webp", "avif", "jxl"]);
    for anchor in ANCHORS {
        let score = photos[0].at_quality(anchor.into()).context("an anchor lies outside of the curve")?.score;
        let mut cells = vec![anchor.to_string(), format!("{score:.1}")];
        for curve in &photos[1..] {
            cells.push(curve.at_score(score).map_or_else(|| "–".into(), |point| format!("{:.1}", point.quality)));
        }
        table.row(&cells);
    }
    let table = table.into_text();
    eprintln!("{table}");
    text.push_str(&table);
    text.push_str(&words(desk, pictures)?);
    text.push_str(&numbers(desk, pictures)?);
    Ok(text)
}

fn curve(darkroom: &Darkroom, format: &str, pictures: &[Picture], kind: Kind) -> anyhow::Result<Curve> {
    let mut curves = Vec::new();
    for picture in of_kind(pictures, kind) {
        let points = QUALITIES.map(|quality| point(darkroom, picture, format, &quality.to_string(), quality.into()));
        curves.push(Curve::new(points.into_iter().collect::<anyhow::Result<_>>()?));
    }
    Ok(Curve::mean(&curves))
}

fn point(darkroom: &Darkroom, picture: &Picture, format: &str, asked: &str, quality: f64) -> anyhow::Result<Point> {
    let body = darkroom.render(picture.source(format), &format!("f={format},q={asked}"))?.body;
    let score = picture.score(darkroom, &body).with_context(|| picture.name.clone())?;
    Ok(Point { quality, score, bytes: body.len() as f64 })
}

/// The proof: what a URL with a word gives.
fn words(desk: &Desk<'_>, pictures: &[Picture]) -> anyhow::Result<String> {
    eprintln!("  words");
    let mut columns = vec!["quality".to_owned()];
    for kind in ["photographs", "drawings"] {
        columns.extend(FORMATS.map(|format| format!("{kind}: {format}")));
    }
    columns.push("widest gap, photographs".to_owned());
    let mut table = Table::new(&columns);
    for word in WORDS {
        let mut cells = vec![format!("`q={word}`")];
        let mut scores = Vec::new();
        for kind in [Kind::Photo, Kind::Drawing] {
            for format in FORMATS {
                let points: Vec<Curve> = of_kind(pictures, kind)
                    .map(|picture| Ok(Curve::new(vec![point(&desk.darkroom, picture, format, word, 0.0)?])))
                    .collect::<anyhow::Result<_>>()?;
                let mean = *Curve::mean(&points).points().first().context("there are pictures of each kind")?;
                cells.push(format!("{:.1}, {}", mean.score, kilobytes(mean.bytes)));
                if kind == Kind::Photo {
                    scores.push(mean.score);
                }
            }
        }
        cells.push(format!("{:.1}", gap(&scores)));
        table.row(&cells);
    }
    Ok(format!(
        "\n## The words mean one look\n\nScore and bytes of what a URL with this word gives (`medium-high` is the default).\n\n{}",
        table.into_text()
    ))
}

/// The same for numbers with `f=auto`, whose format depends on the client.
fn numbers(desk: &Desk<'_>, pictures: &[Picture]) -> anyhow::Result<String> {
    let mut columns = vec!["quality"];
    columns.extend(CLASSES.map(|(name, _)| name));
    columns.push("widest gap");
    let mut table = Table::new(&columns);
    for number in NUMBERS {
        let mut cells = vec![format!("`f=auto,q={number}`")];
        let mut scores = Vec::new();
        for (_, class) in CLASSES {
            let mut points = Vec::new();
            for picture in of_kind(pictures, Kind::Photo) {
                // On white for all: transparency would turn the last class to PNG.
                let rendered = desk.darkroom.render_for(class, picture.source("jpeg"), &format!("q={number}"))?;
                anyhow::ensure!(rendered.encoding != Encoding::Png, "{} is not opaque", picture.name);
                let score = picture.score(&desk.darkroom, &rendered.body)?;
                points.push(Curve::new(vec![Point { quality: 0.0, score, bytes: rendered.body.len() as f64 }]));
            }
            let mean = *Curve::mean(&points).points().first().context("there are photographs")?;
            cells.push(format!("{:.1}, {}", mean.score, kilobytes(mean.bytes)));
            scores.push(mean.score);
        }
        cells.push(format!("{:.1}", gap(&scores)));
        table.row(&cells);
    }
    Ok(format!("\nNumbers between the words, on photographs, by the client that asks:\n\n{}", table.into_text()))
}

fn gap(scores: &[f64]) -> f64 {
    let highest = scores.iter().copied().fold(f64::MIN, f64::max);
    let lowest = scores.iter().copied().fold(f64::MAX, f64::min);
    highest - lowest
}
