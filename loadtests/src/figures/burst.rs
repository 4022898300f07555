//! A browser's `srcset` in one go: eight widths of one picture that were never made, with and without sharing the decode.

use std::time::Instant;

use anyhow::ensure;
use bytes::Bytes;
use futures_util::future::try_join_all;
use testkit::http::Connection;

use crate::bench::Bench;
use crate::edge::{self, CacheStatus, Edge, EdgeHome, FOLDER};
use crate::pictures::PHOTO;
use crate::quiet::{self, Quiet};
use crate::report::{Figure, Goal, Row, Unit};

/// The widths that frameworks put into a `srcset`.
const WIDTHS: [u32; 8] = [320, 480, 640, 768, 960, 1200, 1600, 1920];

/// Bursts of each kind in a round.
const BURSTS: usize = 4;

/// What is asked for in one burst.
struct Case {
    name: &'static str,
    formats: &'static [&'static str],
}

const CASES: [Case; 3] = [
    Case { name: "JPEG", formats: &["jpeg"] },
    Case { name: "WebP", formats: &["webp"] },
    Case { name: "WebP and JPEG", formats: &["webp", "jpeg"] },
];

/// One of the two edges, with connections that are kept.
struct Contender {
    edge: Edge,
    connections: Vec<Connection>,
    versions_used: usize,
}

/// Seconds for one burst, on the clock and of CPU.
#[derive(Debug, Clone, Copy)]
struct Took {
    wall: f64,
    cpu: f64,
}

pub async fn measure(bench: &Bench) -> anyhow::Result<Figure> {
    let mut sharing = Contender::start(bench, "burst-shared", "").await?;
    let mut alone = Contender::start(bench, "burst-alone", "transform.shared_decode_bytes = 0\n").await?;
    let (mut rows, mut further) = (Vec::new(), Vec::new());
    for case in &CASES {
        let first = sharing.burst(case).await?.0;
        ensure!(first == alone.burst(case).await?.0, "{}: sharing changes the pictures", case.name);
        let quiet = quiet::rounds(bench.effort.burst_rounds, async |round| {
            // Whoever comes second finds a warmer machine.
            let (with, without) = if round % 2 == 0 {
                let with = sharing.bursts(case).await?;
                (with, alone.bursts(case).await?)
            } else {
                let without = alone.bursts(case).await?;
                (sharing.bursts(case).await?, without)
            };
            eprintln!(
                "  {}, round {}: {:.0} ms shared, {:.0} ms alone",
                case.name,
                round + 1,
                with.wall * 1e3,
                without.wall * 1e3
            );
            Ok((with, without))
        })
        .await?;
        let (goal, rest) = case_rows(case, &quiet)?;
        rows.push(goal);
        further.extend(rest);
    }
    rows.extend(further);
    sharing.edge.stop().await?;
    alone.edge.stop().await?;
    let method = vec![
        format!(
            "A JPEG of 6 megapixels at {WIDTHS:?} pixels, each width on a connection of its own and all at once, {BURSTS} \
             bursts of new URLs a round. One libvips thread; the time is until the last answer of a burst."
        ),
        "All pictures of the first burst are compared: sharing must not change a byte.".to_owned(),
    ];
    Ok(Figure { method, rows, ..Figure::default() })
}

fn case_rows(case: &Case, quiet: &Quiet<(Took, Took)>) -> anyhow::Result<(Row, Vec<Row>)> {
    let name = case.name;
    let each = |number: fn(&(Took, Took)) -> f64| quiet.rounds.iter().map(number).collect::<Vec<f64>>();
    let ratio = each(|(with, without)| without.wall / with.wall);
    let goal = Row::median(format!("{name}: throughput, shared ÷ alone"), Unit::Ratio, ratio)?;
    let rest = vec![
        Row::median(
            format!("{name}: CPU, alone ÷ shared"),
            Unit::Ratio,
            each(|(with, without)| without.cpu / with.cpu),
        )?,
        Row::median(format!("{name}: a burst, shared"), Unit::Milliseconds, each(|(with, _)| with.wall * 1e3))?,
        Row::median(format!("{name}: a burst, alone"), Unit::Milliseconds, each(|(_, without)| without.wall * 1e3))?,
        Row::others(quiet)?.of(name),
    ];
    Ok((goal.with_goal(Goal::AtLeast(1.3)), rest))
}

impl Contender {
    async fn start(bench: &Bench, name: &str, settings: &str) -> anyhow::Result<Self> {
        let (edge, _) = EdgeHome::prepare_with(bench, name, settings)?.start(bench).await?;
        let mut connections = Vec::new();
        for _ in 0..WIDTHS.len() * 2 {
            connections.push(edge.connect().await?);
        }
        Ok(Self { edge, connections, versions_used: 0 })
    }

    /// The mean of several bursts.
    async fn bursts(&mut self, case: &Case) -> anyhow::Result<Took> {
        let cpu_before = self.edge.cpu_time()?;
        let mut wall = 0.0;
        for _ in 0..BURSTS {
            wall += self.burst(case).await?.1;
        }
        let cpu = self.edge.cpu_time()?.saturating_sub(cpu_before).as_secs_f64();
        Ok(Took { wall: wall / BURSTS as f64, cpu: cpu / BURSTS as f64 })
    }

    /// Every picture of a burst, and the seconds until the last one was there.
    async fn burst(&mut self, case: &Case) -> anyhow::Result<(Vec<Bytes>, f64)> {
        self.versions_used += 1;
        let version = self.versions_used;
        let wanted = case.formats.iter().flat_map(|format| WIDTHS.map(|width| format!("w={width},f={format}")));
        let started = Instant::now();
        let asked = self.connections.iter_mut().zip(wanted).map(|(connection, ops)| async move {
            let target = edge::target(&format!("{ops},q=80"), version, FOLDER, PHOTO);
            let (body, status) = edge::fetch(connection, &target).await?;
            ensure!(status == CacheStatus::Filled, "{target} was not made for this request");
            Ok(body)
        });
        let bodies = try_join_all(asked).await?;
        Ok((bodies, started.elapsed().as_secs_f64()))
    }
}
