//! What making renditions again in idle time saves: the first answer and the later one of a running edge, their bytes, and
//! how both score beside the picture.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use testkit::http::Connection;

use crate::bench::Bench;
use crate::curve::geometric_mean;
use crate::darkroom::Darkroom;
use crate::edge::{self, CacheStatus, Edge, EdgeHome, FOLDER};
use crate::gallery::{self, Kind, Picture, of_kind};
use crate::report::{Figure, Goal, Row, Unit};

/// Longest wait for all of it to be made again.
const WAIT_LIMIT: Duration = Duration::from_secs(120);

/// As URLs name them, with what a report calls them.
const FORMATS: [(&str, &str); 1] = [("webp", "WebP")];

/// The first answer and the later one.
struct Pair {
    bytes: [f64; 2],
    scores: [f64; 2],
}

pub async fn measure(bench: &Bench) -> anyhow::Result<Figure> {
    let darkroom = Darkroom::open()?;
    let corpus = std::env::var_os("CALOTYPE_CORPUS").map(PathBuf::from);
    let stills = gallery::stills(&darkroom, &bench.folder("later-pictures")?, corpus.as_deref(), false)?;
    let photos: Vec<&Picture> = of_kind(&stills, Kind::Photo).collect();
    for (number, photo) in photos.iter().enumerate() {
        // Without loss, so that all that is lost is lost by the edge.
        fs::write(bench.photo(&name(number)), photo.source("jpeg"))?;
    }
    let (edge, _) = EdgeHome::prepare(bench, "later")?.start(bench).await?;
    let mut connection = edge.connect().await?;
    let mut rows = Vec::new();
    let mut asked = 0;
    for (format, title) in FORMATS {
        let drafts = answers(&mut connection, format, photos.len(), CacheStatus::Filled).await?;
        let hits = answers(&mut connection, format, photos.len(), CacheStatus::Hit).await?;
        ensure!(drafts == hits, "{title}: a first hit is not the draft");
        asked += photos.len();
        until_made(&edge, asked).await?;
        let later = answers(&mut connection, format, photos.len(), CacheStatus::Hit).await?;
        let mut pairs = Vec::new();
        for (photo, (draft, later)) in photos.iter().zip(drafts.iter().zip(&later)) {
            let score = |body: &Bytes| photo.score(&darkroom, body).with_context(|| photo.name.clone());
            let bytes = [draft.len() as f64, later.len() as f64];
            pairs.push(Pair { bytes, scores: [score(draft)?, score(later)?] });
        }
        rows.extend(rows_of(title, &pairs)?);
    }
    let metrics = edge.metrics().await?;
    let seconds = metrics.sum("calotype_improvement_seconds_total", "");
    rows.push(Row::single("time on a thread, each", Unit::Milliseconds, seconds * 1e3 / asked as f64));
    let kept = metrics.sum("calotype_improvements_total", "result=\"not_smaller\"");
    rows.push(Row::single("first answers that stay", Unit::Count, kept));
    edge.stop().await?;
    let method = vec![
        format!(
            "{} photographs of 500 × 500 pixels at the most, without loss, are asked for as WebP at the default \
             quality, of a tenant with `improve_when_idle`: once, once more, and again when the edge has nothing left to make \
             better. `CALOTYPE_CORPUS` adds real ones to those that are painted.",
            photos.len()
        ),
        "Bytes are the geometric mean of the later answer beside the first. Scores are SSIMULACRA2 beside the picture itself; \
         their difference is of the means."
            .to_owned(),
    ];
    Ok(Figure { method, rows, ..Figure::default() })
}

fn name(number: usize) -> String {
    format!("later-{number}.png")
}

/// Every photograph in `format`, each answered as it should be.
async fn answers(
    connection: &mut Connection,
    format: &str,
    count: usize,
    expected: CacheStatus,
) -> anyhow::Result<Vec<Bytes>> {
    let mut bodies = Vec::new();
    for number in 0..count {
        let target = format!("/later/f={format}/{FOLDER}/{}", name(number));
        let (body, status) = edge::fetch(connection, &target).await?;
        ensure!(status == expected, "{target} was answered by {status:?}");
        bodies.push(body);
    }
    Ok(bodies)
}

/// Waits until so many were made again, and checks that nothing else came of any.
async fn until_made(edge: &Edge, count: usize) -> anyhow::Result<()> {
    const ENDED: &str = "calotype_improvements_total";
    let started = Instant::now();
    loop {
        let metrics = edge.metrics().await?;
        let ended = metrics.sum(ENDED, "");
        if ended == count as f64 {
            let made = metrics.sum(ENDED, "\"improved\"") + metrics.sum(ENDED, "\"not_smaller\"");
            ensure!(made == ended, "{ended} drafts have ended, {made} were made again");
            return Ok(());
        }
        ensure!(started.elapsed() < WAIT_LIMIT, "{ended} of {count} drafts were made again in {WAIT_LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn rows_of(title: &str, pairs: &[Pair]) -> anyhow::Result<Vec<Row>> {
    let ratios: Vec<f64> = pairs.iter().map(|pair| pair.bytes[1] / pair.bytes[0]).collect();
    let saved = (1.0 - geometric_mean(&ratios).context("there are no photographs")?) * 100.0;
    let mean = |at: usize| pairs.iter().map(|pair| pair.scores[at]).sum::<f64>() / pairs.len() as f64;
    let apart = pairs.iter().map(|pair| pair.scores[1] - pair.scores[0]);
    let lowest = apart.clone().fold(f64::MAX, f64::min);
    let highest = apart.fold(f64::MIN, f64::max);
    Ok(vec![
        Row::single(format!("{title}: bytes saved"), Unit::Percent, saved).with_goal(Goal::AtLeast(10.0)),
        Row::single(format!("{title}: scores apart"), Unit::Points, (mean(1) - mean(0)).abs())
            .with_goal(Goal::AtMost(0.5)),
        Row::single(format!("{title}: score of the first answer"), Unit::Points, mean(0)),
        Row::single(format!("{title}: score of the later one"), Unit::Points, mean(1)),
        Row::single(format!("{title}: later less first, lowest of a picture"), Unit::Points, lowest),
        Row::single(format!("{title}: later less first, highest of a picture"), Unit::Points, highest),
    ])
}
