//! The edge server: transform URLs, answered from a hybrid cache.
//!
//! This file is the whole lifecycle in order: settings, log, policy, imaging, cache, listeners, wait for a signal,
//! drain, close the cache. ARCHITECTURE.md walks through a hit and a miss file by file.

#![allow(unreachable_pub, reason = "in a program, pub means: for the other modules")]

mod access;
mod admin;
mod authorise;
mod cache_headers;
mod client;
mod config;
mod connections;
mod control_plane;
mod decision;
mod drain;
mod edge;
mod fill;
mod first_bytes;
mod gather;
mod header_limits;
mod health;
mod http2;
mod improvements;
mod kept;
mod listeners;
mod marks;
mod negotiate;
mod open_files;
mod original;
mod origins;
mod passthrough;
mod playground;
mod policy;
mod pool;
mod problem;
mod purge;
mod quotas;
mod rates;
mod recent;
mod refreshes;
mod registered;
mod render_job;
mod rendition;
mod reply;
mod request_span;
mod second_level;
mod server;
mod shares;
mod sockets;
mod source;
mod source_cache;
mod spans;
mod stores;
mod succession;
mod systemd;
mod tenants;
mod tls;
mod upgrade;
mod uploads;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use bootstrap::config::Sources;
use bootstrap::traces::{self, Service};
use bootstrap::{logging, metrics};
use cache::CacheSettings;
use clap::Parser;
use imaging::{Engine, EngineOptions, Limits};
use pingora_core::server::RunArgs;
use prometheus::Registry;
use tokio::runtime::Runtime;

use crate::access::AccessLog;
use crate::admin::Admin;
use crate::config::{AdminToken, EdgeSettings};
use crate::connections::Connections;
use crate::control_plane::{Follower, Reporter};
use crate::drain::{Drain, StopSignal};
use crate::edge::Edge;
use crate::fill::Filler;
use crate::improvements::Improvements;
use crate::listeners::Front;
use crate::playground::Playground;
use crate::policy::PolicyInForce;
use crate::pool::{SchedulerLimits, TransformPool};
use crate::purge::Purger;
use crate::rates::RateLimits;
use crate::refreshes::Refreshes;
use crate::registered::RegisteredImages;
use crate::render_job::Sharing;
use crate::server::{Clients, EdgeServer};
use crate::shares::Shares;
use crate::source_cache::SourceCache;
use crate::stores::Stores;
use crate::succession::Succession;
use crate::tls::Certificates;
use crate::uploads::UploadStore;
use crate::usage::Accounts;

/// jemalloc for us and, being unprefixed, for libvips: glibc's allocator keeps what picture-sized buffers leave behind.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Serves transformed pictures.
#[derive(Parser)]
#[command(name = "proxy", version)]
struct Arguments {
    /// The TOML file with settings under `[proxy]`.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Checks settings and policy, and exits.
    #[arg(long)]
    check_config: bool,
    /// Asks the edge that runs with these settings whether it is ready, and exits.
    #[arg(long, conflicts_with = "check_config")]
    check_health: bool,
    /// Stops, as on SIGTERM, when the process that started this one ends in whatever way.
    #[arg(long)]
    stop_with_parent: bool,
    /// Takes over from the edge that listens on `upgrade_socket`; starts as usual if there is none.
    #[arg(long)]
    upgrade: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.stop_with_parent
        && let Err(error) = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
    {
        return bootstrap::usage(&anyhow::Error::new(error).context("--stop-with-parent"));
    }
    let (settings, cache) = match load(arguments.config) {
        Ok(loaded) => loaded,
        Err(error) => return bootstrap::usage(&error),
    };
    if arguments.check_health {
        return told(health::check(settings.admin_listen));
    }
    let registry = metrics::registry("proxy", env!("CARGO_PKG_VERSION"));
    logging::start(&settings.log);
    let policy = match PolicyInForce::load(settings.policy_file().as_deref(), &registry) {
        Ok(policy) => Arc::new(policy),
        Err(error) => return bootstrap::usage(&error),
    };
    let certificates = match certificates(&settings, &registry) {
        Ok(certificates) => certificates.map(Arc::new),
        Err(error) => return bootstrap::usage(&error),
    };
    if arguments.check_config {
        return ExitCode::SUCCESS;
    }
    match run(&settings, cache, Inputs { policy, certificates, upgrade: arguments.upgrade }, &registry) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What a check found, on standard error.
fn told(checked: anyhow::Result<()>) -> ExitCode {
    let Err(error) = checked else { return ExitCode::SUCCESS };
    #[allow(clippy::print_stderr, reason = "no log was started")]
    {
        eprintln!("{error:#}");
    }
    ExitCode::FAILURE
}

fn load(file: Option<PathBuf>) -> anyhow::Result<(EdgeSettings, CacheSettings)> {
    let settings: EdgeSettings = bootstrap::config::load(&Sources::of_process(file))?;
    let cache = settings.cache_config().validate().context("the configuration has mistakes under \"cache\"")?;
    Ok((settings, cache))
}

fn certificates(settings: &EdgeSettings, registry: &Registry) -> anyhow::Result<Option<Certificates>> {
    let (Some(_), Some(folder)) = (settings.tls.listen, &settings.tls.certificates) else { return Ok(None) };
    Certificates::load(folder, settings.tls.default_certificate.clone(), registry).map(Some)
}

/// What there is beside the settings.
struct Inputs {
    policy: Arc<PolicyInForce>,
    certificates: Option<Arc<Certificates>>,
    upgrade: bool,
}

fn run(settings: &EdgeSettings, cache: CacheSettings, inputs: Inputs, registry: &Registry) -> anyhow::Result<()> {
    let Inputs { policy, certificates, upgrade } = inputs;
    let service = Service { name: "calotype-edge", version: env!("CARGO_PKG_VERSION") };
    let traces = traces::start(&settings.traces, service, registry)?;
    let succession = Succession::prepare(settings, upgrade)?;
    open_files::raise(settings.connections.max);
    let io = io_runtime()?;
    let engine = Engine::start(&EngineOptions::default())?;
    tell_what_is_missing(&engine);
    let stores = io.block_on(Stores::open(settings, cache, registry, io.handle()))?;
    if let Some(store) = settings.uploads.open().map_err(|reason| anyhow::anyhow!("uploads.{reason}"))? {
        let uploads = UploadStore::new(store, Arc::clone(stores.cache.bans()));
        policy.change_feed(|layer| layer.belongings.uploads = Some(uploads));
    }
    let accounts = Arc::new(Accounts::default());
    let reporter = Reporter::open(&settings.control_plane, Arc::clone(&accounts), registry)?;
    if reporter.is_some() {
        policy.change_feed(|layer| layer.belongings.accounts = Some(accounts));
    }
    let follower = Follower::open(
        &settings.control_plane,
        Arc::clone(&policy),
        Arc::clone(stores.cache.bans()),
        stores.second_level.clone(),
        registry,
    )?;
    let filler = Arc::new(filler(settings, &engine, registry, &stores)?);
    let access = Arc::new(AccessLog::start(settings.access_log, registry)?);
    // As late as can be: from here on the edge before this one takes no purges.
    let (sockets, succession) = succession.sockets(settings)?;
    let listen_fds = sockets.lend()?;
    let drain = Arc::new(Drain::new(sockets));
    let improvements = Improvements::new(Arc::clone(&filler), stores.cache.clone(), Arc::clone(&policy), registry)?;
    let edge = Edge {
        policy: Arc::clone(&policy),
        cache: stores.cache.clone(),
        filler,
        improvements: Arc::clone(&improvements),
        io: io.handle().clone(),
        rates: RateLimits::new(settings.address_rates(), registry)?,
        header: settings.connections.header(),
        original_bytes_max: settings.limits.original_bytes,
    };
    let admin = Admin {
        registry: registry.clone(),
        drain: Arc::clone(&drain),
        policy: Arc::clone(&policy),
        tenants_known: follower.as_ref().map(Follower::is_known),
        cache: stores.cache.clone(),
        engine,
        purger: Purger {
            bans: Arc::clone(stores.cache.bans()),
            policy: Arc::clone(&policy),
            second_level: stores.second_level.clone(),
            token: settings.admin_token.as_ref().map(AdminToken::hash),
            io: io.handle().clone(),
        },
        playground: settings
            .playground
            .then(|| Playground::new(settings.listen, Arc::clone(&policy), io.handle().clone())),
    };
    if let Some(follower) = follower {
        io.spawn(follower.run());
    }
    let reporting = reporter.map(|reporter| reporter.start(io.handle()));
    io.spawn(policy.watch());
    io.spawn(improvements.run(drain.watch()));
    if let Some(certificates) = &certificates {
        io.spawn(Arc::clone(certificates).watch());
    }
    if let Some(second_level) = stores.second_level.clone() {
        io.spawn(async move { second_level.bans().watch().await });
    }

    // Checked when the settings were loaded.
    let trusted = Arc::new(settings.trusted_proxies().unwrap_or_default());
    let connections = Arc::new(Connections::new(settings.connections.limits(), Arc::clone(&trusted), registry)?);
    let idle_seconds = settings.connections.idle_seconds;
    let trust_traces = settings.traces.trust_incoming;
    let clients = Clients { trusted, trust_traces, idle_seconds, connections: Arc::clone(&connections) };
    let edge = EdgeServer::new(edge, Arc::clone(&access), Arc::clone(&drain), clients);
    let front = Front { edge, connections, certificates, listen_fds };
    let server = listeners::server(settings, front, admin, &drain)?;
    tracing::info!(listen = %settings.listen, admin = %settings.admin_listen, "serving");
    let stop = {
        let (drain, bans, _context) = (Arc::clone(&drain), Arc::clone(stores.cache.bans()), io.enter());
        let begin = {
            let drain = Arc::clone(&drain);
            move || succession.begin(&drain, bans)
        };
        StopSignal::new(drain, settings.patience(), begin)?
    };
    server.run(RunArgs { shutdown_signal: Box::new(stop) });

    let closed = io.block_on(stores.close());
    if let Some(reporting) = reporting {
        // After the last fill.
        io.block_on(reporting.stop());
    }
    access.flush();
    tracing::info!(fills_left = closed.fills_left, flushed = closed.flushed, "stopped");
    io.shutdown_background();
    traces.stop();
    anyhow::ensure!(!drain.is_refused(), "the upgrade has failed");
    Ok(())
}

fn tell_what_is_missing(engine: &Engine) {
    for (format, reason) in &engine.capabilities().cannot_read {
        tracing::warn!(format = format.name(), reason, "not read on this machine");
    }
    for (format, reason) in &engine.capabilities().cannot_write {
        tracing::warn!(format = format.name(), reason, "not written on this machine");
    }
}

/// The runtime of all that outlives a connection. Not a listener's: connections to stores and the cache's disk work
/// are bound to the runtime that first drove them.
fn io_runtime() -> anyhow::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).max_blocking_threads(32).thread_name("edge-io").enable_all();
    Ok(builder.build()?)
}

fn filler(settings: &EdgeSettings, engine: &Engine, registry: &Registry, stores: &Stores) -> anyhow::Result<Filler> {
    let scheduler = SchedulerLimits {
        threads: settings.transform_threads(),
        queue: settings.transform.queue,
        tenant_queue: settings.transform.tenant_queue,
        memory_bytes: settings.transform.memory_bytes,
    };
    let pool = TransformPool::start(scheduler, registry, imaging::thread_finished)?;
    let limits = Limits {
        source_bytes: usize::try_from(settings.limits.source_bytes)?,
        megapixels: settings.limits.megapixels,
        frames: settings.limits.frames,
        ..Limits::default()
    };
    let shares = Shares::new(settings.transform.tenant_fills, settings.transform.source_memory_bytes);
    let sharing = Sharing::new(settings.transform.shared_decode_bytes, registry)?;
    let deadline = settings.deadline();
    let originals = stores.originals.clone();
    let sources = SourceCache::new(originals, settings.limits.source_bytes, deadline, registry)?;
    let images = RegisteredImages::new(Arc::clone(stores.cache.bans()));
    let (engine, refreshes) = (engine.clone(), Refreshes::register(registry)?);
    let second_level = stores.second_level.clone();
    Ok(Filler { engine, pool, limits, deadline, sources, images, second_level, shares, sharing, refreshes })
}
