//! The control plane: an API over Postgres for tenants and what each of them sets.
//!
//! This file is the whole lifecycle in order: settings, log, database, server, drain. ARCHITECTURE.md walks through a change.

#![allow(unreachable_pub, reason = "in a program, pub means: for the other modules")]

mod answer;
mod auth;
mod body;
mod collections;
mod config;
mod cors;
mod delivery;
mod downloads;
mod etag;
mod events;
mod feed;
mod form;
mod idempotency;
mod incoming;
mod media;
mod monthly;
mod names;
mod openapi;
mod page;
mod places;
mod problem;
mod quotas;
mod rates;
mod replica;
mod requests;
mod reseal;
mod routes;
mod scanner;
mod sealing;
mod server;
mod streamed;
mod traced;
mod txt;
mod usage;
mod webhooks;
mod worker;
mod workflows;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use bootstrap::config::Sources;
use bootstrap::traces::{self, Service};
use bootstrap::{logging, metrics, usage};
use clap::{Parser, Subcommand};
use isolation::Database;

use crate::config::ControlPlaneSettings;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Serves the API.
#[derive(Parser)]
#[command(name = "control-plane", version)]
struct Arguments {
    /// The TOML file with settings under `[control-plane]`.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Checks the settings, and exits.
    #[arg(long)]
    check_config: bool,
    /// Stops, as on SIGTERM, when the process that started this one ends in whatever way.
    #[arg(long)]
    stop_with_parent: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Brings the database to what this version needs. Safe to run again, and while older versions serve.
    Migrate,
    /// Does jobs, sends events to webhooks, gives jobs of dead workers to others and forgets what is old, until it is stopped.
    Worker {
        /// One round only, for those who have a clock of their own.
        #[arg(long)]
        once: bool,
    },
    /// Prints what the API says of itself (OpenAPI 3.1), as JSON. Needs no database.
    Describe,
    /// Seals every secret with the newest master key. Safe to run again, and while the API is served.
    Reseal,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.stop_with_parent
        && let Err(error) = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
    {
        return usage(&anyhow::Error::new(error).context("--stop-with-parent"));
    }
    let settings: ControlPlaneSettings = match bootstrap::config::load(&Sources::of_process(arguments.config)) {
        Ok(settings) => settings,
        Err(error) => return usage(&anyhow::Error::from(error)),
    };
    logging::start(&settings.log);
    if arguments.check_config {
        return ExitCode::SUCCESS;
    }
    let done = match arguments.command {
        None => serve(&settings),
        Some(Command::Worker { once }) => work(&settings, once),
        Some(Command::Describe) => describe(),
        Some(Command::Reseal) => runtime(&settings).and_then(|runtime| runtime.block_on(reseal(&settings))),
        Some(Command::Migrate) => runtime(&settings).and_then(|runtime| runtime.block_on(migrate(&settings))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn describe() -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    Ok(writeln!(output, "{}", openapi::text())?)
}

async fn migrate(settings: &ControlPlaneSettings) -> anyhow::Result<()> {
    isolation::migrate(settings.migrate_url.expose()).await.context("control-plane.migrate_url")?;
    tracing::info!("the database is up to date");
    Ok(())
}

async fn reseal(settings: &ControlPlaneSettings) -> anyhow::Result<()> {
    let secrets = reseal::run(settings).await?;
    tracing::info!(secrets, "all secrets are sealed with the newest master key");
    Ok(())
}

fn serve(settings: &ControlPlaneSettings) -> anyhow::Result<()> {
    let registry = metrics::registry("control-plane", env!("CARGO_PKG_VERSION"));
    runtime(settings)?.block_on(async {
        let traces = traces::start(&settings.traces, service("calotype-control-plane"), &registry)?;
        let mut database = Database::open(&settings.database()).context("control-plane.database_url")?;
        if let Some((options, lag_max)) = settings.replica() {
            database = database.with_replica(&options, lag_max).context("control-plane.read_replica_url")?;
        }
        server::build(settings, database.clone(), &registry)?.launch().await?;
        database.close().await;
        traces.stop();
        tracing::info!("stopped");
        Ok(())
    })
}

/// One round of work, or all until it is stopped.
fn work(settings: &ControlPlaneSettings, once: bool) -> anyhow::Result<()> {
    let registry = metrics::registry("worker", env!("CARGO_PKG_VERSION"));
    let traces = traces::start(&settings.traces, service("calotype-worker"), &registry)?;
    let done = runtime(settings)?.block_on(worker::run(settings, once, registry));
    traces.stop();
    done
}

fn service(name: &'static str) -> Service {
    Service { name, version: env!("CARGO_PKG_VERSION") }
}

fn runtime(settings: &ControlPlaneSettings) -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if settings.threads > 0 {
        builder.worker_threads(settings.threads);
    }
    Ok(builder.enable_all().thread_name("control-plane").build()?)
}
