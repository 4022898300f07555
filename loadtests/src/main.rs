//! Measures Calotype beside its peers and writes the figures down.
//!
//! `script/loadtest` builds and installs what this needs and starts it. A figure that falls short is a result, not a
//! failure; a figure that could not be measured is one.
//!
//! Read in this order: `figures` holds one file for each figure; `edge`, `nginx`, `wrk` and `ceiling` are what they
//! measure and measure with; `cpu_time`, `quiet` and `statistics` are how; `report` is what comes out.

#![allow(unreachable_pub, reason = "in a program, pub means: for the other modules")]

mod bench;
mod ceiling;
mod cores;
mod cpu_time;
mod edge;
mod figures;
mod machine;
mod metrics;
mod nginx;
mod pictures;
mod quiet;
mod report;
mod statistics;
mod wrk;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

use crate::bench::{Bench, Effort, Tools};
use crate::cores::Cores;
use crate::figures::FigureName;
use crate::machine::Machine;
use crate::report::{Measured, Report};

/// Measures the figures and writes RESULTS.md and RESULTS.json.
#[derive(Parser)]
#[command(name = "loadtests", version)]
struct Arguments {
    /// Fewer rounds: all figures in less than three minutes, with more noise. The report says so.
    #[arg(long)]
    quick: bool,
    /// Measures this figure alone, and prints the report instead of writing it.
    #[arg(long, value_name = "NAME")]
    only: Option<FigureName>,
    /// The folder that the report is written to.
    #[arg(long, value_name = "FOLDER", default_value = "loadtests/results")]
    results: PathBuf,
    #[command(flatten)]
    tools: Tools,
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
    let cores = Cores::divide()?;
    cores.take_client_cores()?;
    let effort = if arguments.quick { Effort::quick() } else { Effort::full() };
    let bench = Bench::prepare(arguments.tools, effort, cores).await?;
    let mut figures = Vec::new();
    for name in FigureName::ALL {
        if arguments.only.is_none_or(|only| only == name) {
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
    let report = Report { machine: Machine::describe(&bench).await?, quick: arguments.quick, figures };
    if arguments.only.is_some() {
        eprintln!("\n{}", report.to_markdown());
    } else {
        write(&report, &arguments.results)?;
    }
    Ok(all_measured)
}

fn write(report: &Report, folder: &PathBuf) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    for (name, text) in [("RESULTS.md", report.to_markdown()), ("RESULTS.json", report.to_json()?)] {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}
