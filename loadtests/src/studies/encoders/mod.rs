//! Encoder settings: what each candidate costs in CPU time, and how many bytes it takes for the same look.

mod candidates;

use anyhow::{Context, anyhow};

use self::candidates::{Family, Measure, families};
use super::Desk;
use crate::curve::{Curve, Point, geometric_mean};
use crate::gallery::{self, Kind, Picture, of_kind};
use crate::statistics::Samples;
use crate::table::{Table, difference};

/// How far apart the qualities are that are tried in search of the score of ours.
const STEP: i16 = 6;

/// Most tries in that search.
const TRIES_MAX: usize = 8;

/// CPU time that one measurement takes at least, in seconds, if it may.
const SECONDS_MIN: f64 = 0.06;

/// Most times that a picture is encoded for one measurement.
const COUNT_MAX: usize = 30;

/// Pictures of each kind that are timed.
const TIMED: usize = 1;

/// Frames of the animations.
const FRAMES: u32 = 24;

/// The report.
///
/// # Errors
/// When a picture cannot be made, encoded or scored.
pub async fn study(desk: &Desk<'_>) -> anyhow::Result<String> {
    let stills = desk.stills()?;
    let animations = gallery::animations(&desk.darkroom, desk.folder(), FRAMES)?;
    let mut text = gallery::describe(&stills)
        + "\nEvery second of these is tried, and the first of each kind is timed. The first row of each table is ours, but for JPEG. Bytes are beside \
           ours at the score that ours has at the default quality, on the line between two qualities that score less and more; where \
           there is no quality, at its own score or without loss. CPU time is of the encoder alone, per megapixel, with one thread of \
           libvips; AVIF's encoder starts threads of its own, which count.\n";
    for family in families() {
        eprintln!("  settings of {}", family.title);
        let pictures = if family.is_animated { &animations } else { &stills };
        let table = table(desk, &family, pictures).await?;
        eprintln!("{table}");
        text.push_str(&format!("\n## {}\n\n{table}", family.title));
    }
    Ok(text)
}

async fn table(desk: &Desk<'_>, family: &Family, pictures: &[Picture]) -> anyhow::Result<String> {
    let has_score = family.measure == Measure::BytesAndScore;
    let mut columns = vec!["settings"];
    for (cpu, bytes, score) in [("photographs: CPU ms/MP", "bytes", "score"), ("drawings: CPU ms/MP", "bytes", "score")]
    {
        columns.extend([cpu, bytes]);
        columns.extend(has_score.then_some(score));
    }
    let mut rows: Vec<Vec<String>> = family.candidates.iter().map(|name| vec![label(name)]).collect();
    for kind in [Kind::Photo, Kind::Drawing] {
        let pictures: Vec<&Picture> = of_kind(pictures, kind).step_by(2).collect();
        let cpu = cpu(desk, family, &pictures[..pictures.len().min(TIMED)]).await?;
        let points = points(desk, family, &pictures)?;
        for (at, row) in rows.iter_mut().enumerate() {
            row.push(format!("{:.0}", cpu[at]));
            row.push(bytes(&points[0], &points[at]));
            if has_score {
                let scores: Vec<f64> = points[at].iter().flatten().map(|point| point.score).collect();
                row.push(format!("{:.1}", scores.iter().sum::<f64>() / scores.len() as f64));
            }
        }
    }
    let mut table = Table::new(&columns);
    rows.iter().for_each(|row| table.row(row));
    Ok(table.into_text())
}

fn label(options: &str) -> String {
    if options.is_empty() { "libvips' own".to_owned() } else { format!("`{options}`") }
}

/// What each candidate makes of each picture, at the score of ours where there is a quality; `None` where it does not reach
/// that.
fn points(desk: &Desk<'_>, family: &Family, pictures: &[&Picture]) -> anyhow::Result<Vec<Vec<Option<Point>>>> {
    // One thread a picture: scores and bytes are the same however busy the machine is.
    let pictures = std::thread::scope(|scope| {
        let threads: Vec<_> = pictures.iter().map(|picture| scope.spawn(|| points_of(desk, family, picture))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked"))))
            .collect::<Vec<_>>()
    });
    let mut all = vec![Vec::new(); family.candidates.len()];
    for points in pictures {
        points?.into_iter().zip(&mut all).for_each(|(point, all)| all.push(point));
    }
    Ok(all)
}

/// What each candidate makes of one picture.
fn points_of(desk: &Desk<'_>, family: &Family, picture: &Picture) -> anyhow::Result<Vec<Option<Point>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let ours = one(desk, family, family.candidates[0], picture, family.quality()).await?;
        let mut all = vec![Some(ours)];
        for candidate in &family.candidates[1..] {
            let found = search(desk, family, candidate, picture, ours.score).await;
            all.push(found.with_context(|| format!("{candidate} of {}", picture.name))?);
        }
        Ok(all)
    })
}

/// Goes from our default quality up or down until `score` lies between two tries.
async fn search(
    desk: &Desk<'_>,
    family: &Family,
    candidate: &str,
    picture: &Picture,
    score: f64,
) -> anyhow::Result<Option<Point>> {
    let first = one(desk, family, candidate, picture, family.quality()).await?;
    let Some(start) = family.quality() else { return Ok(Some(first)) };
    let step = if first.score > score { -STEP } else { STEP };
    let (mut quality, mut tried) = (i16::from(start), vec![first]);
    for _ in 1..TRIES_MAX {
        quality += step;
        let Some(next) = u8::try_from(quality).ok().filter(|quality| (1..=100).contains(quality)) else { break };
        tried.push(one(desk, family, candidate, picture, Some(next)).await?);
        // The last two, in case scores do not only rise.
        if let Some(point) = Curve::new(tried[tried.len() - 2..].to_vec()).at_score(score) {
            return Ok(Some(point));
        }
    }
    Ok(None)
}

async fn one(
    desk: &Desk<'_>,
    family: &Family,
    candidate: &str,
    picture: &Picture,
    quality: Option<u8>,
) -> anyhow::Result<Point> {
    let saver = family.saver(candidate, quality);
    let (_, body) = desk.encode(picture.source_file(family.format), &saver, 1).await?;
    let score = match family.measure {
        Measure::Lossless => 100.0,
        Measure::AtEqualScore(_) | Measure::BytesAndScore => picture.score(&desk.darkroom, &body)?,
    };
    Ok(Point { quality: quality.map_or(0.0, f64::from), score, bytes: body.len() as f64 })
}

/// Bytes beside ours, with how many pictures that could be told of if not of all.
fn bytes(ours: &[Option<Point>], theirs: &[Option<Point>]) -> String {
    let ratios: Vec<f64> =
        ours.iter().zip(theirs).filter_map(|(ours, theirs)| Some((*theirs)?.bytes / (*ours)?.bytes)).collect();
    let part =
        if ratios.len() == ours.len() { String::new() } else { format!(" ({} of {})", ratios.len(), ours.len()) };
    geometric_mean(&ratios).map_or_else(|| "–".into(), |mean| difference(mean) + &part)
}

/// CPU milliseconds per megapixel of each candidate at our default quality, the mean of some pictures. Candidates take turns
/// in each round.
async fn cpu(desk: &Desk<'_>, family: &Family, pictures: &[&Picture]) -> anyhow::Result<Vec<f64>> {
    let mut sums = vec![0.0; family.candidates.len()];
    for picture in pictures {
        let mut rounds = vec![Vec::new(); family.candidates.len()];
        for round in 0..desk.rounds() {
            for turn in 0..family.candidates.len() {
                let at = (turn + round) % family.candidates.len();
                let saver = family.saver(family.candidates[at], family.quality());
                // The last round knows what one takes.
                let count = rounds[at].last().map_or(1, |seconds: &f64| (SECONDS_MIN / seconds).ceil() as usize);
                let count = count.clamp(1, COUNT_MAX);
                rounds[at].push(desk.encode(picture.source_file(family.format), &saver, count).await?.0.cpu);
            }
        }
        for (sum, rounds) in sums.iter_mut().zip(rounds) {
            // The first round is a single cold one.
            let warm = rounds.get(1..).unwrap_or_default().to_vec();
            let median = Samples::new(warm).context("there were no rounds")?.median();
            *sum += median * 1e3 / picture.megapixels / pictures.len() as f64;
        }
    }
    Ok(sums)
}
