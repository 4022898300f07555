//! Making renditions: our CPU time for one against a loop of plain libvips calls that makes a like picture.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures_util::future::try_join_all;

use crate::bench::{Bench, S3_LATENCY};
use crate::ceiling::{self, Job, Quality};
use crate::darkroom::Darkroom;
use crate::edge::{self, CacheStatus, Edge, EdgeHome, FOLDER, S3};
use crate::pictures::{CUT_OUT, PHOTO};
use crate::quiet::{self, Quiet};
use crate::report::{Figure, Goal, Row, Unit};
use crate::score::score;

/// Width of the renditions.
const WIDTH: u32 = 512;

const ALONE: &str = "transform.shared_decode_bytes = 0\n";

/// Clients that ask at the same time; more than can be served at once, so that nothing waits for them.
const CLIENTS: usize = 4;

/// Renditions that a case makes in a round, whatever one costs.
const COUNTS: std::ops::RangeInclusive<usize> = 8..=200;

/// How like the ceiling's picture ours must be, by SSIMULACRA2: one is made smaller in the light of the bytes, the other in true
/// light, and each has lost something to its encoder.
const LIKENESS_MIN: f64 = 50.0;

/// Renditions before the clock starts.
const WARM_UPS: usize = 8;

struct Case {
    name: &'static str,
    source: &'static str,
    format: &'static str,
}

const CASES: [Case; 4] = [
    Case { name: "JPEG → JPEG", source: PHOTO, format: "jpeg" },
    Case { name: "JPEG → WebP", source: PHOTO, format: "webp" },
    Case { name: "alpha PNG → WebP", source: CUT_OUT, format: "webp" },
    Case { name: "JPEG → AVIF", source: PHOTO, format: "avif" },
];

impl Case {
    fn ops(&self) -> String {
        format!("w={WIDTH},f={}", self.format)
    }

    fn job<'a>(&'a self, source: &'a Path, count: usize) -> Job<'a> {
        Job { source, width: WIDTH, format: self.format, quality: Quality::Edge, count, libvips: None }
    }
}

#[derive(Debug, Clone, Copy)]
enum Contender {
    Ceiling,
    Ours(&'static str),
}

const CONTENDERS: [Contender; 3] = [Contender::Ceiling, Contender::Ours(FOLDER), Contender::Ours(S3)];

/// Seconds for one rendition.
#[derive(Debug, Clone, Copy, Default)]
struct Took {
    cpu: f64,
    wall: f64,
}

/// One case under measurement.
struct Run<'a> {
    bench: &'a Bench,
    edge: &'a Edge,
    case: &'a Case,
    /// What the ceiling makes each time.
    ceiling: Bytes,
    /// What the edge has to: what its engine makes without a server around it.
    ours: Bytes,
    /// Renditions per round.
    count: usize,
    /// Versions of URLs already asked for.
    versions_used: usize,
}

pub async fn measure(bench: &Bench) -> anyhow::Result<Figure> {
    // The ceiling decodes for each rendition, and so must we.
    let (edge, _) = EdgeHome::prepare_with(bench, "cold", ALONE)?.start(bench).await?;
    let edge_libvips = edge.libvips().await?;
    let darkroom = Darkroom::open()?;
    let (mut rows, mut jemalloc) = (Vec::new(), String::new());
    for case in &CASES {
        let first = ceiling::run(bench, &case.job(&bench.photo(case.source), 4)).await?;
        ensure!(
            first.libvips.starts_with(&edge_libvips),
            "the ceiling runs on libvips {}, the edge on {edge_libvips}",
            first.libvips
        );
        jemalloc = first.jemalloc;
        let count = bench.effort.cold_cpu.as_secs_f64() / first.cpu_seconds;
        let count = (count as usize).clamp(*COUNTS.start(), *COUNTS.end());
        let source = Bytes::from(fs::read(bench.photo(case.source))?);
        let ours = darkroom.render(&source, &case.ops())?.body;
        let likeness = score(&darkroom.pixels(&first.body)?, &darkroom.pixels(&ours)?)?;
        ensure!(likeness >= LIKENESS_MIN, "the ceiling makes another picture: SSIMULACRA2 {likeness:.1}");
        let mut run = Run { bench, edge: &edge, case, ceiling: first.body, ours, count, versions_used: 0 };
        rows.extend(run.all_rounds().await.context(case.name)?);
    }
    edge.stop().await?;
    // What has a goal comes first.
    rows.sort_by_key(|row: &Row| !row.has_goal());
    let method = vec![
        format!(
            "The ceiling is loadtests/ceiling/ceiling.c: the libvips calls that the picture needs in a loop in one process, \
             same library, the edge's own jemalloc ({jemalloc}), one thread, the edge's qualities, source in memory, shrunk by the decoder \
             to no less than twice the size. Ours decodes up to four times the size, resizes in linear light and writes JPEG with jpegli; so \
             the pictures are alike, not the same, and a ratio may be above one. Every one of our answers is compared byte for byte with what \
             the engine makes by itself."
        ),
        format!(
            "Ours is all of it: HTTP, fetching the original (6 MP JPEG, 1.5 MP PNG), transform, ETag, cache in memory and on \
             disk until it is flushed. {CLIENTS} clients ask for distinct URLs; the S3 server takes {} ms longer for each \
             request and is not counted.",
            S3_LATENCY.as_millis()
        ),
        "Throughput is of one core, with one libvips thread; decodes are not shared.".to_owned(),
    ];
    Ok(Figure { method, rows, ..Figure::default() })
}

impl Run<'_> {
    async fn all_rounds(&mut self) -> anyhow::Result<Vec<Row>> {
        for origin in [FOLDER, S3] {
            self.ours(origin, WARM_UPS).await?;
        }
        let wanted = self.bench.effort.cold_rounds;
        let quiet = quiet::rounds(wanted, async |round| {
            let mut took = [Took::default(); CONTENDERS.len()];
            for turn in 0..CONTENDERS.len() {
                let at = (round + turn) % CONTENDERS.len();
                took[at] = match CONTENDERS[at] {
                    Contender::Ceiling => self.ceiling().await?,
                    Contender::Ours(origin) => self.ours(origin, self.count).await?,
                };
            }
            let [ceiling, folder, s3] = took.map(|took| took.cpu * 1e3);
            eprintln!(
                "  {}, round {} ({wanted} wanted): ceiling {ceiling:.2} ms, ours {folder:.2} ms from a folder, {s3:.2} ms from S3",
                self.case.name,
                round + 1,
            );
            Ok(took)
        })
        .await?;
        self.rows(&quiet)
    }

    async fn ceiling(&self) -> anyhow::Result<Took> {
        let source = self.bench.photo(self.case.source);
        let took = ceiling::run(self.bench, &self.case.job(&source, self.count)).await?;
        ensure!(took.body == self.ceiling, "the ceiling does not make the same bytes each time");
        Ok(Took { cpu: took.cpu_seconds, wall: took.wall_seconds })
    }

    /// `count` new renditions, asked for by all clients at the same time.
    async fn ours(&mut self, origin: &'static str, count: usize) -> anyhow::Result<Took> {
        let versions = self.versions_used..self.versions_used + count;
        self.versions_used = versions.end;
        let (before, started) = (self.edge.cpu_time()?, Instant::now());
        let share = |client: usize| versions.clone().skip(client).step_by(CLIENTS);
        try_join_all((0..CLIENTS).map(|client| self.client(origin, share(client)))).await?;
        let wall = started.elapsed();
        // Writing to the disk is part of the price.
        self.edge.until_flushed().await?;
        let cpu = self.edge.cpu_time()?.saturating_sub(before);
        let one = |all: Duration| all.as_secs_f64() / count as f64;
        Ok(Took { cpu: one(cpu), wall: one(wall) })
    }

    async fn client(&self, origin: &str, versions: impl Iterator<Item = usize>) -> anyhow::Result<()> {
        let ops = self.case.ops();
        let mut connection = self.edge.connect().await?;
        for version in versions {
            let target = edge::target(&ops, version, origin, self.case.source);
            let (body, status) = edge::fetch(&mut connection, &target).await?;
            ensure!(status == CacheStatus::Filled, "{target} was not made for this request");
            ensure!(
                body == self.ours,
                "{target} has {} bytes that are not the {} of the engine",
                body.len(),
                self.ours.len()
            );
        }
        Ok(())
    }

    fn rows(&self, quiet: &Quiet<[Took; 3]>) -> anyhow::Result<Vec<Row>> {
        let name = self.case.name;
        let each = |number: fn(&[Took; 3]) -> f64| quiet.rounds.iter().map(number).collect::<Vec<f64>>();
        let goal = Goal::AtLeast(0.9);
        let row = |what: &str, unit, number| Row::median(format!("{name}{what}"), unit, each(number));
        Ok(vec![
            row(" from a folder: ceiling ÷ ours", Unit::Ratio, |took| took[0].cpu / took[1].cpu)?.with_goal(goal),
            row(" from S3: ceiling ÷ ours", Unit::Ratio, |took| took[0].cpu / took[2].cpu)?.with_goal(goal),
            row(", CPU, ceiling", Unit::Milliseconds, |took| took[0].cpu * 1e3)?,
            row(", CPU, ours from a folder", Unit::Milliseconds, |took| took[1].cpu * 1e3)?,
            row(", CPU, ours from S3", Unit::Milliseconds, |took| took[2].cpu * 1e3)?,
            row(", throughput, ceiling", Unit::PerSecond, |took| 1.0 / took[0].wall)?,
            row(", throughput, ours from a folder", Unit::PerSecond, |took| 1.0 / took[1].wall)?,
            row(", throughput, ours from S3", Unit::PerSecond, |took| 1.0 / took[2].wall)?,
            Row::single(format!("{name}, size"), Unit::Bytes, self.ours.len() as f64),
            Row::others(quiet)?.of(name),
        ])
    }
}
