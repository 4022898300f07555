//! The edge server: transform URLs, answered from a hybrid cache.
//!
//! This file is the whole lifecycle in order: settings, log, policy, imaging, cache, listeners, wait for a signal,
//! drain, close the cache. ARCHITECTURE.md walks through a hit and a miss file by file.

#![allow(unreachable_pub, reason = "in a program, pub means: for the other modules")]

mod access;
mod admin;
mod authorise;
mod config;
mod decision;
mod drain;
mod edge;
mod fill;
mod gather;
mod health;
mod kept;
mod marks;
mod negotiate;
mod original;
mod origins;
mod playground;
mod policy;
mod pool;
mod problem;
mod purge;
mod recent;
mod refreshes;
mod registered;
mod rendition;
mod reply;
mod server;
mod source;

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
use pingora_core::listeners::ListenerConfig;
use pingora_core::protocols::l4::stream::L4BufferSettings;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{RunArgs, Server};
use pingora_core::services::listening::Service;
use pingora_proxy::http_proxy;
use prometheus::Registry;
use tokio::runtime::Runtime;

use crate::access::AccessLog;
use crate::admin::Admin;
use crate::config::{AdminToken, EdgeSettings};
use crate::drain::{Drain, StopSignal};
use crate::edge::Edge;
use crate::fill::{FillLimits, Filler};
use crate::gather::Gathering;
use crate::playground::Playground;
use crate::policy::PolicyInForce;
use crate::pool::TransformPool;
use crate::problem::EdgeError;
use crate::purge::Purger;
use crate::refreshes::Refreshes;
use crate::registered::RegisteredImages;
use crate::server::EdgeServer;

/// jemalloc for us and, being unprefixed, for libvips: glibc's allocator keeps what picture-sized buffers leave behind.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Pingora's unconditional sleep between "stop accepting" and "end the runtimes": time for what was accepted last.
const GRACE_SECONDS: u64 = 1;

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
    /// Asks the edge that runs with these settings whether it is ready, and exits.
    #[arg(long, conflicts_with = "check_config")]
    check_health: bool,
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
    if arguments.check_health {
        return told(health::check(settings.admin_listen));
    }
    let registry = metrics::registry("proxy", env!("CARGO_PKG_VERSION"));
    logging::start(&settings.log);
    let policy = match PolicyInForce::load(&settings.policy_file, &registry) {
        Ok(policy) => Arc::new(policy),
        Err(error) => return usage(&error),
    };
    if arguments.check_config {
        return ExitCode::SUCCESS;
    }
    match run(&settings, cache, policy, &registry) {
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

fn run(
    settings: &EdgeSettings,
    cache: CacheSettings,
    policy: Arc<PolicyInForce>,
    registry: &Registry,
) -> anyhow::Result<()> {
    check_address("listen", settings.listen)?;
    check_address("admin_listen", settings.admin_listen)?;
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
    let access = Arc::new(AccessLog::start(settings.access_log, registry)?);
    let drain = Arc::new(Drain::default());
    let edge = Edge {
        policy: Arc::clone(&policy),
        cache: cache.clone(),
        filler: Arc::new(filler(settings, &engine, registry, RegisteredImages::new(Arc::clone(cache.bans())))?),
        io: io.handle().clone(),
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
            token: settings.admin_token.as_ref().map(AdminToken::hash),
            io: io.handle().clone(),
        },
        playground: settings
            .playground
            .then(|| Playground::new(settings.listen, Arc::clone(&policy), io.handle().clone())),
    };
    io.spawn(policy.watch());

    let server = pingora_server(settings, EdgeServer::new(edge, Arc::clone(&access), Arc::clone(&drain)), admin);
    tracing::info!(listen = %settings.listen, admin = %settings.admin_listen, "serving");
    let stop = StopSignal::new(drain, Duration::from_secs(settings.drain_seconds));
    server.run(RunArgs { shutdown_signal: Box::new(stop) });

    let closed = io.block_on(cache.close(CLOSE_LIMIT));
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

fn filler(
    settings: &EdgeSettings,
    engine: &Engine,
    registry: &Registry,
    images: RegisteredImages,
) -> anyhow::Result<Filler> {
    let (threads, queue) = (settings.transform_threads(), settings.transform.queue);
    let pool = TransformPool::start(threads, queue, registry, imaging::thread_finished)?;
    let picture = Limits {
        source_bytes: usize::try_from(settings.limits.source_bytes)?,
        megapixels: settings.limits.megapixels,
        frames: settings.limits.frames,
        ..Limits::default()
    };
    let limits = FillLimits {
        picture,
        deadline: settings.deadline(),
        source_memory_bytes: settings.transform.source_memory_bytes,
    };
    Ok(Filler::new(engine.clone(), pool, limits, images, Refreshes::register(registry)?))
}

fn pingora_server(settings: &EdgeSettings, edge: EdgeServer, admin: Admin) -> Server {
    let conf = ServerConf {
        threads: settings.serving_threads(),
        // Connections stay on the thread that accepted them: nothing slow runs there.
        work_stealing: false,
        grace_period_seconds: Some(GRACE_SECONDS),
        graceful_shutdown_timeout_seconds: Some(GRACE_SECONDS),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();

    let edge = Gathering(Arc::new(http_proxy(&server.configuration, edge)));
    let mut service = Service::new("edge".to_owned(), edge);
    // 8 KiB holds every header we read. Writes are gathered above this buffer, which must not hold them again.
    let buffers = L4BufferSettings { read: Some(8 * 1024), write: Some(1) };
    service.add_listener(ListenerConfig::tcp(settings.listen.to_string()).l4_buffer(buffers));
    server.add_service(service);

    let mut service = Service::new("admin".to_owned(), admin);
    service.threads = Some(1);
    service.add_tcp(&settings.admin_listen.to_string());
    server.add_service(service);
    server
}

/// Pingora panics on an address that it cannot bind; this says it as an error.
fn check_address(setting: &str, address: SocketAddr) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind(address).with_context(|| format!("{setting} = {address} cannot be listened on"))?;
    drop(listener);
    Ok(())
}
