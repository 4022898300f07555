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
mod decision;
mod drain;
mod edge;
mod fill;
mod first_bytes;
mod gather;
mod header_limits;
mod http2;
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
mod rates;
mod recent;
mod registered;
mod rendition;
mod reply;
mod second_level;
mod server;
mod source;
mod source_cache;
mod spans;
mod tls;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bootstrap::config::Sources;
use bootstrap::{EXIT_USAGE, logging, metrics};
use cache::{CacheSettings, RenditionCache};
use clap::Parser;
use imaging::{Engine, EngineOptions, Limits};
use pingora_core::server::RunArgs;
use prometheus::Registry;
use tokio::runtime::{Handle, Runtime};

use crate::access::AccessLog;
use crate::admin::Admin;
use crate::config::{AdminToken, EdgeSettings};
use crate::connections::Connections;
use crate::drain::{Drain, StopSignal};
use crate::edge::Edge;
use crate::fill::Filler;
use crate::listeners::Front;
use crate::playground::Playground;
use crate::policy::PolicyInForce;
use crate::pool::TransformPool;
use crate::problem::EdgeError;
use crate::purge::Purger;
use crate::rates::RateLimits;
use crate::registered::RegisteredImages;
use crate::second_level::{Local, SecondLevel};
use crate::server::{Clients, EdgeServer};
use crate::source_cache::SourceCache;
use crate::tls::Certificates;

/// jemalloc for us and, being unprefixed, for libvips: glibc's allocator keeps what picture-sized buffers leave behind.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Longest wait for running fills and the flush of the cache at the end.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

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
    /// Stops, as on SIGTERM, when the process that started this one ends in whatever way.
    #[arg(long)]
    stop_with_parent: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.stop_with_parent
        && let Err(error) = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
    {
        return usage(&anyhow::Error::new(error).context("--stop-with-parent"));
    }
    let (settings, cache) = match load(arguments.config) {
        Ok(loaded) => loaded,
        Err(error) => return usage(&error),
    };
    let registry = metrics::registry("proxy", env!("CARGO_PKG_VERSION"));
    logging::start(&settings.log);
    let policy = match PolicyInForce::load(&settings.policy_file, &registry) {
        Ok(policy) => Arc::new(policy),
        Err(error) => return usage(&error),
    };
    let certificates = match certificates(&settings, &registry) {
        Ok(certificates) => certificates.map(Arc::new),
        Err(error) => return usage(&error),
    };
    if arguments.check_config {
        return ExitCode::SUCCESS;
    }
    match run(&settings, cache, Inputs { policy, certificates }, &registry) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Bad settings: all of them on standard error, before any port is bound.
fn usage(error: &anyhow::Error) -> ExitCode {
    #[allow(clippy::print_stderr, reason = "the log may not have been started")]
    {
        eprintln!("{error:#}");
    }
    ExitCode::from(EXIT_USAGE)
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

/// What is read from files beside the settings, and watched.
struct Inputs {
    policy: Arc<PolicyInForce>,
    certificates: Option<Arc<Certificates>>,
}

fn run(settings: &EdgeSettings, cache: CacheSettings, inputs: Inputs, registry: &Registry) -> anyhow::Result<()> {
    let Inputs { policy, certificates } = inputs;
    check_address("listen", settings.listen)?;
    check_address("admin_listen", settings.admin_listen)?;
    open_files::raise(settings.connections.max);
    if let Some(listen) = settings.tls.listen {
        check_address("tls.listen", listen)?;
    }
    let io = io_runtime()?;
    let engine = Engine::start(&EngineOptions::default())?;
    for (format, reason) in &engine.capabilities().cannot_read {
        tracing::warn!(format = format.name(), reason, "not read on this machine");
    }
    for (format, reason) in &engine.capabilities().cannot_write {
        tracing::warn!(format = format.name(), reason, "not written on this machine");
    }
    let cache: RenditionCache<EdgeError> = io.block_on(RenditionCache::open(cache, registry, io.handle().clone()))?;
    if let Some(fault) = cache.disk_state().fault() {
        tracing::error!(reason = %fault, "the cache has no disk; renditions are kept in memory only");
    }
    let originals = io.block_on(originals(settings, &cache, registry, io.handle().clone()))?;
    let sources = source_cache(settings, originals.clone(), registry)?;
    let looked = settings.cache.dir.join("purges-looked-for");
    let second_level =
        SecondLevel::open(&settings.second_level, Local { bans: Arc::clone(cache.bans()), looked }, registry)?;
    let filler = filler(settings, &engine, registry, sources, RegisteredImages::new(Arc::clone(cache.bans())))?;
    let filler = Arc::new(filler.with_second_level(second_level.clone()));
    let access = Arc::new(AccessLog::start(settings.access_log, registry)?);
    let drain = Arc::new(Drain::default());
    let edge = Edge {
        policy: Arc::clone(&policy),
        cache: cache.clone(),
        filler: Arc::clone(&filler),
        io: io.handle().clone(),
        rates: RateLimits::new(settings.address_rates(), registry)?,
        header: settings.connections.header(),
        original_bytes_max: settings.limits.original_bytes,
    };
    let admin = Admin {
        registry: registry.clone(),
        drain: Arc::clone(&drain),
        policy: Arc::clone(&policy),
        cache: cache.clone(),
        engine,
        purger: Purger {
            bans: Arc::clone(cache.bans()),
            policy: Arc::clone(&policy),
            second_level: second_level.clone(),
            token: settings.admin_token.as_ref().map(AdminToken::hash),
            io: io.handle().clone(),
        },
        playground: settings
            .playground
            .then(|| Playground::new(settings.listen, Arc::clone(&policy), io.handle().clone())),
    };
    io.spawn(policy.watch());
    if let Some(certificates) = &certificates {
        io.spawn(Arc::clone(certificates).watch());
    }
    if let Some(second_level) = second_level.clone() {
        io.spawn(async move { second_level.bans().watch().await });
    }

    // Checked when the settings were loaded.
    let trusted = Arc::new(settings.trusted_proxies().unwrap_or_default());
    let connections = Arc::new(Connections::new(settings.connections.limits(), Arc::clone(&trusted), registry)?);
    let idle_seconds = settings.connections.idle_seconds;
    let clients = Clients { trusted, idle_seconds, connections: Arc::clone(&connections) };
    let edge = EdgeServer::new(edge, Arc::clone(&access), Arc::clone(&drain), clients);
    let front = Front { edge, draining: drain.watch(), connections, certificates };
    let server = listeners::server(settings, front, admin)?;
    tracing::info!(listen = %settings.listen, admin = %settings.admin_listen, "serving");
    let stop = StopSignal::new(drain, Duration::from_secs(settings.drain_seconds));
    server.run(RunArgs { shutdown_signal: Box::new(stop) });

    let closed = io.block_on(cache.close(CLOSE_LIMIT));
    if let Some(originals) = originals {
        io.block_on(originals.close(Duration::ZERO));
    }
    if let Some(second_level) = second_level {
        io.block_on(second_level.settle(CLOSE_LIMIT));
    }
    access.flush();
    tracing::info!(fills_left = closed.fills_left, flushed = closed.flushed, "stopped");
    io.shutdown_background();
    Ok(())
}

/// The runtime of all that outlives a connection. Not a listener's: connections to stores and the cache's disk work
/// are bound to the runtime that first drove them.
fn io_runtime() -> anyhow::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).max_blocking_threads(32).thread_name("edge-io").enable_all();
    Ok(builder.build()?)
}

/// The cache of originals, if there is to be one.
async fn originals(
    settings: &EdgeSettings,
    cache: &RenditionCache<EdgeError>,
    registry: &Registry,
    io: Handle,
) -> anyhow::Result<Option<RenditionCache<EdgeError>>> {
    let Some(config) = settings.originals_config() else { return Ok(None) };
    let config = config.validate().context("the configuration has mistakes under \"originals\"")?;
    let originals = RenditionCache::open_beside(config, cache.bans(), registry, io).await?;
    if let Some(fault) = originals.disk_state().fault() {
        tracing::error!(reason = %fault, "the cache of originals has no disk");
    }
    Ok(Some(originals))
}

fn source_cache(
    settings: &EdgeSettings,
    originals: Option<RenditionCache<EdgeError>>,
    registry: &Registry,
) -> anyhow::Result<Arc<SourceCache>> {
    let (bytes_max, memory_bytes) = (settings.limits.source_bytes, settings.transform.source_memory_bytes);
    Ok(SourceCache::new(originals, bytes_max, memory_bytes, settings.deadline(), registry)?)
}

fn filler(
    settings: &EdgeSettings,
    engine: &Engine,
    registry: &Registry,
    sources: Arc<SourceCache>,
    images: RegisteredImages,
) -> anyhow::Result<Filler> {
    let (threads, queue) = (settings.transform_threads(), settings.transform.queue);
    let pool = TransformPool::start(threads, queue, registry, imaging::thread_finished)?;
    let limits = Limits {
        source_bytes: usize::try_from(settings.limits.source_bytes)?,
        megapixels: settings.limits.megapixels,
        frames: settings.limits.frames,
        ..Limits::default()
    };
    Ok(Filler::new(engine.clone(), pool, limits, settings.deadline(), sources, images))
}

/// Pingora panics on an address that it cannot bind; this says it as an error.
fn check_address(setting: &str, address: SocketAddr) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind(address).with_context(|| format!("{setting} = {address} cannot be listened on"))?;
    drop(listener);
    Ok(())
}
