//! The fast encode and the small one: how many bytes the second saves at the score of the first, and at which quality it
//! has that score.

use anyhow::Context;
use imaging::Effort;

use super::Desk;
use crate::curve::{Curve, Point, geometric_mean};
use crate::gallery::{self, Kind, Picture, of_kind};
use crate::table::{Table, difference};

/// Qualities of the fast encode.
const QUALITIES: [u8; 7] = [15, 30, 52, 71, 82, 88, 94];

/// How far from them the small one is tried. It may score higher at the same quality, so more is tried below.
const OFFSETS: [i16; 6] = [-12, -8, -5, -2, 0, 3];

/// A format with its fast settings and candidates for the small ones.
struct Family {
    title: &'static str,
    format: &'static str,
    fast: &'static str,
    small: &'static [&'static str],
}

const FAMILIES: [Family; 1] = [Family {
    title: "WebP",
    format: "webp",
    fast: "effort=2,preset=photo",
    small: &["effort=6,preset=photo", "effort=6,preset=photo,smart-subsample"],
}];

/// One picture at one quality: the fast encode, and the small one at its score.
struct Pair {
    fast: Point,
    small: Point,
}

/// The report.
///
/// # Errors
/// When a picture cannot be made, encoded or scored.
pub async fn study(desk: &Desk<'_>) -> anyhow::Result<String> {
    let stills = desk.stills()?;
    let mut text = gallery::describe(&stills)
        + "\nFor each quality of the fast encode, the quality at which the small one has the same score, on the line between two \
           that score less and more, as the mean of the pictures; and its bytes beside those of the fast one there, with the \
           number of pictures that this could be told of. All pictures are on white.\n";
    for family in &FAMILIES {
        for small in family.small {
            eprintln!("  {}: {small}", family.title);
            text.push_str(&format!("\n## {}: `{}` and `{small}`\n\n", family.title, family.fast));
            let table = table(desk, family, small, &stills).await?;
            eprintln!("{table}");
            text.push_str(&table);
        }
    }
    text.push_str(&proof(desk, &stills)?);
    Ok(text)
}

async fn table(desk: &Desk<'_>, family: &Family, small: &str, stills: &[Picture]) -> anyhow::Result<String> {
    let mut table = Table::new(&["fast", "photographs: score", "small", "bytes", "drawings: score", "small", "bytes"]);
    for quality in QUALITIES {
        let mut cells = vec![quality.to_string()];
        for kind in [Kind::Photo, Kind::Drawing] {
            let mut pairs = Vec::new();
            for picture in of_kind(stills, kind) {
                let pair = pair(desk, family, small, picture, quality).await;
                pairs.extend(pair.with_context(|| format!("{} at {quality}", picture.name))?);
            }
            cells.extend(summary(&pairs));
        }
        eprintln!("    {}", cells.join("  "));
        table.row(&cells);
    }
    Ok(table.into_text())
}

fn summary(pairs: &[Pair]) -> [String; 3] {
    let count = pairs.len() as f64;
    let mean = |number: fn(&Pair) -> f64| pairs.iter().map(number).sum::<f64>() / count;
    let ratios: Vec<f64> = pairs.iter().map(|pair| pair.small.bytes / pair.fast.bytes).collect();
    let Some(bytes) = geometric_mean(&ratios) else { return ["–", "–", "–"].map(str::to_owned) };
    [
        format!("{:.1}", mean(|pair| pair.fast.score)),
        format!("{:.1}", mean(|pair| pair.small.quality)),
        format!("{} ({})", difference(bytes), pairs.len()),
    ]
}

/// `None` where the small one has no such score near the quality.
async fn pair(
    desk: &Desk<'_>,
    family: &Family,
    small: &str,
    picture: &Picture,
    quality: u8,
) -> anyhow::Result<Option<Pair>> {
    let fast = point(desk, family, family.fast, picture, quality).await?;
    let mut tried: Vec<Point> = Vec::new();
    for offset in OFFSETS.iter().rev() {
        let Ok(quality) = u8::try_from(i16::from(quality) + offset) else { continue };
        if !(1..=100).contains(&quality) {
            continue;
        }
        tried.push(point(desk, family, small, picture, quality).await?);
        let last = tried[tried.len().saturating_sub(2)..].to_vec();
        if let Some(small) = Curve::new(last).at_score(fast.score) {
            return Ok(Some(Pair { fast, small }));
        }
    }
    Ok(None)
}

async fn point(
    desk: &Desk<'_>,
    family: &Family,
    options: &str,
    picture: &Picture,
    quality: u8,
) -> anyhow::Result<Point> {
    // Always the opaque picture: the small settings are for those.
    let separator = if options.is_empty() { "" } else { "," };
    let saver = format!(".{}[{options}{separator}Q={quality}]", family.format);
    let (_, body) = desk.encode(picture.source_file("jpeg"), &saver, 1).await?;
    let score = picture.score(&desk.darkroom, &body)?;
    Ok(Point { quality: quality.into(), score, bytes: body.len() as f64 })
}

/// What our own settings give, with the rows of `crates/imaging/src/quality.rs`.
fn proof(desk: &Desk<'_>, stills: &[Picture]) -> anyhow::Result<String> {
    eprintln!("  proof");
    let columns = ["", "q", "photographs: score", "score, small", "bytes", "drawings: score", "score, small", "bytes"];
    let mut table = Table::new(&columns);
    for family in &FAMILIES {
        for quality in QUALITIES {
            let mut cells = vec![family.title.to_owned(), quality.to_string()];
            for kind in [Kind::Photo, Kind::Drawing] {
                let mut pairs = Vec::new();
                for picture in of_kind(stills, kind) {
                    let [fast, small] =
                        [Effort::Fast, Effort::Small].map(|effort| made(desk, family, effort, picture, quality));
                    pairs.push(Pair { fast: fast?, small: small? });
                }
                let mean = |score: fn(&Pair) -> f64| pairs.iter().map(score).sum::<f64>() / pairs.len() as f64;
                let ratios: Vec<f64> = pairs.iter().map(|pair| pair.small.bytes / pair.fast.bytes).collect();
                cells.push(format!("{:.1}", mean(|pair| pair.fast.score)));
                cells.push(format!("{:+.1}", mean(|pair| pair.small.score - pair.fast.score)));
                cells.push(geometric_mean(&ratios).map_or_else(|| "–".to_owned(), difference));
            }
            eprintln!("    {}", cells.join("  "));
            table.row(&cells);
        }
    }
    Ok(format!(
        "\n## What the edge makes\n\nThe two encodes of a URL with this quality, with `improve_when_idle`, and by how much the second \
         scores more: of WebP, the smaller one of the two above.\n\n{}",
        table.into_text()
    ))
}

fn made(desk: &Desk<'_>, family: &Family, effort: Effort, picture: &Picture, quality: u8) -> anyhow::Result<Point> {
    let ops = format!("f={},q={quality}", family.format);
    let body = desk.darkroom.render_with(effort, picture.source("jpeg"), &ops)?.body;
    let score = picture.score(&desk.darkroom, &body).with_context(|| picture.name.clone())?;
    Ok(Point { quality: quality.into(), score, bytes: body.len() as f64 })
}
