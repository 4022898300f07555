//! Our defaults beside those of imgproxy, on whole renditions of large JPEGs.
//!
//! What is compared are documented settings, run through the same libvips; not imgproxy itself.

use std::fs;

use anyhow::Context;
use bytes::Bytes;
use image::RgbImage;
use tokio::process::Command;

use super::FORMATS;
use crate::child;
use crate::curve::{Curve, Point, geometric_mean};
use crate::pictures;
use crate::score::score;
use crate::studies::Desk;
use crate::table::{Table, difference, kilobytes};

/// Widths of the renditions: the decoder can leave little more than a factor of one or much more.
const WIDTHS: [u32; 2] = [480, 800];

/// imgproxy's documented defaults: quality 80 and not progressive; 79 with effort 4; 63 at speed 8; 77 with effort 4.
const THEIRS: [&str; 4] = [
    ".jpeg[Q=80,optimize-coding]",
    ".webp[Q=79,effort=4]",
    ".avif[compression=av1,bitdepth=8,Q=63,effort=1]",
    ".jxl[Q=77,effort=4]",
];

/// Its decoder may shrink to anything that is not smaller than the target.
const THEIR_FACTOR: &str = "1";

/// Qualities of ours that their score lies between.
const QUALITIES: [u8; 6] = [25, 45, 60, 70, 80, 88];

/// Large JPEGs of the corpus without a colour profile, which the pixels would otherwise differ by.
const CORPUS: [&str; 2] = ["2569067123_aca715a2ee_o.jpg", "gain-map.jpg"];

/// One rendition to be made by both.
struct Case {
    source: Bytes,
    width: u32,
    /// Every pixel decoded, and nothing lost.
    reference: RgbImage,
    /// The lossless file that their encoder is given.
    theirs: String,
}

/// The table.
pub async fn study(desk: &Desk<'_>) -> anyhow::Result<String> {
    eprintln!("  beside imgproxy's defaults");
    let mut cases = Vec::new();
    for (number, source) in sources(desk)?.into_iter().enumerate() {
        for width in WIDTHS {
            let path = desk.folder().join(format!("peer-{number}.jpg"));
            fs::write(&path, &source)?;
            let shrink = async |factor: &str| {
                let out = desk.folder().join(format!("peer-{number}-{width}-{factor}.png"));
                let mut command = Command::new(&desk.tools.shrink);
                command.arg(&path).args([&width.to_string(), factor]).arg(&out);
                child::output(&mut command).await?;
                Ok::<_, anyhow::Error>(out)
            };
            let (reference, theirs) = (shrink("0").await?, shrink(THEIR_FACTOR).await?);
            cases.push(Case {
                source: source.clone(),
                width,
                reference: image::open(&reference)?.into_rgb8(),
                theirs: theirs.to_str().context("a folder's name is no text")?.to_owned(),
            });
        }
    }
    let mut table = Table::new(&[
        "format",
        "ours: score",
        "bytes",
        "imgproxy's defaults: score",
        "bytes",
        "our bytes at their score",
    ]);
    for (format, saver) in FORMATS.into_iter().zip(THEIRS) {
        table.row(&row(desk, &cases, format, saver).await?);
    }
    Ok(format!(
        "\n## Beside imgproxy's defaults\n\nWhole renditions of {} JPEGs at widths of {WIDTHS:?}: JPEG decoder, resampler, encoder. \
         imgproxy's documented defaults (JPEG 80, WebP 79 with effort 4, AVIF 63 at speed 8, JPEG XL 77 with effort 4, and a \
         decoder that shrinks as far as the target allows; ours leaves the resampler a factor of two) are run through the same \
         libvips; imgproxy itself is not run. The reference decodes every pixel and resizes with libvips' default kernel, which both use. The \
         last column is the geometric mean of what ours takes at the quality at which it scores as theirs.\n\n{}",
        cases.len() / WIDTHS.len(),
        table.into_text()
    ))
}

async fn row(desk: &Desk<'_>, cases: &[Case], format: &str, saver: &str) -> anyhow::Result<Vec<String>> {
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for case in cases {
        let (_, body) = desk.encode(&case.theirs, saver, 1).await?;
        let their = point(desk, case, 0.0, &body)?;
        let own = |quality: String| {
            let rendered = desk.darkroom.render(&case.source, &format!("w={},f={format}{quality}", case.width))?;
            Ok::<_, anyhow::Error>(rendered.body)
        };
        ours.push(Curve::new(vec![point(desk, case, 0.0, &own(String::new())?)?]));
        let points = QUALITIES.map(|q| point(desk, case, q.into(), &own(format!(",q={q}"))?));
        let curve = Curve::new(points.into_iter().collect::<anyhow::Result<_>>()?);
        ratios.extend(curve.at_score(their.score).map(|own| own.bytes / their.bytes));
        theirs.push(Curve::new(vec![their]));
    }
    let (own, their) = (Curve::mean(&ours).points()[0], Curve::mean(&theirs).points()[0]);
    let equal = geometric_mean(&ratios).map_or_else(|| "–".into(), difference);
    let part =
        if ratios.len() == cases.len() { String::new() } else { format!(" ({} of {})", ratios.len(), cases.len()) };
    Ok(vec![
        format.to_owned(),
        format!("{:.1}", own.score),
        kilobytes(own.bytes),
        format!("{:.1}", their.score),
        kilobytes(their.bytes),
        equal + &part,
    ])
}

fn point(desk: &Desk<'_>, case: &Case, quality: f64, body: &Bytes) -> anyhow::Result<Point> {
    let score = score(&case.reference, &desk.darkroom.pixels(body)?)?;
    Ok(Point { quality, score, bytes: body.len() as f64 })
}

fn sources(desk: &Desk<'_>) -> anyhow::Result<Vec<Bytes>> {
    let folder = desk.folder().join("originals");
    fs::create_dir_all(&folder)?;
    pictures::write(&folder)?;
    let mut sources: Vec<Bytes> = Vec::new();
    for name in [pictures::PHOTO, pictures::CAMERA] {
        sources.push(fs::read(folder.join(name))?.into());
    }
    if let Some(corpus) = &desk.tools.corpus {
        for name in CORPUS {
            let places = [corpus.join(name), corpus.join("images").join(name)];
            let found = places.iter().find_map(|path| fs::read(path).ok()).map(Bytes::from);
            sources.extend(found.filter(|source| desk.darkroom.is_plain(source)));
        }
    }
    Ok(sources)
}
