//! Measures Calotype beside its peers and writes the figures down.
//!
//! `script/loadtest` builds and installs what this needs and starts it. A figure that falls short is a result, not a
//! failure; a figure that could not be measured is one.
//!
//! Read in this order: `figures` holds one file for each figure; `edge`, `nginx`, `varnish`, `peers`, `wrk` and `ceiling` are
//! what they measure and measure with; `cpu_time`, `memory`, `quiet` and `statistics` are how; `reference` and `score` tell how
//! renditions look; `report` and `svg` are what comes out. `studies` are of the
//! imaging engine alone: `darkroom` renders, `gallery` has the pictures, `score` and `curve` tell how they look.

#![allow(unreachable_pub, reason = "in a program, pub means: for the other modules")]

mod bench;
mod ceiling;
mod child;
mod cores;
mod cpu_time;
mod curve;
mod darkroom;
mod edge;
mod figures;
mod gallery;
mod machine;
mod memory;
mod metrics;
mod nginx;
mod peers;
mod pictures;
mod quiet;
mod reference;
mod report;
mod score;
mod statistics;
mod studies;
mod subject;
mod svg;
mod table;
mod varnish;
mod wrk;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::bench::{Bench, Effort, Tools};
use crate::cores::Cores;
use crate::darkroom::RenderLoop;
use crate::figures::FigureName;
use crate::machine::{Machine, Servers};
use crate::report::{Measured, Report};
use crate::studies::{StudyName, StudyTools};
use crate::subject::Subject;

/// As the edge: jemalloc for us and, being unprefixed, for libvips.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Measures the figures and writes REPORT.md, its plots and RESULTS.json.
#[derive(Parser)]
#[command(name = "loadtests", version)]
struct Arguments {
    /// Fewer rounds, with more noise. The report says so.
    #[arg(long)]
    quick: bool,
    /// Measures this figure alone and prints the report instead of writing it, or makes this study and writes its report.
    #[arg(long, value_name = "NAME")]
    only: Option<Subject>,
    /// The report that is written.
    #[arg(long, value_name = "FILE", default_value = "loadtests/REPORT.md")]
    report: PathBuf,
    /// The folder that its plots and numbers, and reports of studies, are written to.
    #[arg(long, value_name = "FOLDER", default_value = "loadtests/results")]
    results: PathBuf,
    #[command(flatten)]
    tools: Tools,
    #[command(flatten)]
    study_tools: StudyTools,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What this program starts itself for.
#[derive(Subcommand)]
enum Part {
    /// Renders in a loop.
    #[command(hide = true)]
    Render(RenderLoop),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("loadtests: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every figure could be measured.
async fn run(arguments: Arguments) -> anyhow::Result<bool> {
    if let Some(Part::Render(render)) = arguments.part {
        return render.run().map(|()| true);
    }
    let only = match arguments.only {
        Some(Subject::Study(name)) => {
            tokio::select! {
                done = study(&arguments, name) => done?,
                _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            }
            return Ok(true);
        }
        Some(Subject::Figure(name)) => Some(name),
        None => None,
    };
    let cores = Cores::divide()?;
    cores.take_client_cores()?;
    let effort = if arguments.quick { Effort::quick() } else { Effort::full() };
    let bench = Bench::prepare(arguments.tools, effort, cores).await?;
    let mut figures = Vec::new();
    for name in FigureName::ALL {
        if only.is_none_or(|only| only == name) {
            eprintln!("{}:", name.as_str());
            let measured = tokio::select! {
                measured = name.measure(&bench) => measured,
                // Dropping what is under way ends the processes that it started.
                _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            };
            figures.push(Measured::new(name, measured));
        }
    }
    let all_measured = figures.iter().all(Measured::is_measured);
    let report = Report {
        machine: Machine::look().await,
        servers: Servers::ask(&bench).await?,
        quick: arguments.quick,
        figures,
    };
    let (results, home) = (&arguments.results, arguments.report.parent().unwrap_or(Path::new("")));
    let markdown = report.to_markdown(&results.strip_prefix(home).unwrap_or(results).to_string_lossy());
    if only.is_some() {
        eprintln!("\n{markdown}");
    } else {
        write(&arguments.report, &markdown)?;
        write(&results.join("RESULTS.json"), &report.to_json()?)?;
        for plot in report.plots() {
            write(&results.join(format!("{}.svg", plot.name)), &plot.svg)?;
        }
    }
    Ok(all_measured)
}

async fn study(arguments: &Arguments, name: StudyName) -> anyhow::Result<()> {
    let report = name.study(&arguments.study_tools, &arguments.tools.proxy, arguments.quick).await?;
    write(&arguments.results.join(name.file()), &report)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}
