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
mod first_bytes;
mod gather;
mod http2;
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
mod registered;
mod rendition;
mod reply;
mod server;
mod sockets;
mod source;
mod succession;
mod systemd;
mod tls;
mod upgrade;

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
use pingora_core::server::{ListenFds, RunArgs, Server};
use pingora_core::services::listening::Service;
use pingora_proxy::http_proxy;
use prometheus::Registry;
use tokio::runtime::Runtime;

use crate::access::AccessLog;
use crate::admin::Admin;
use crate::config::{AdminToken, EdgeSettings};
use crate::drain::{Drain, StopSignal};
use crate::edge::Edge;
use crate::fill::Filler;
use crate::gather::Gathering;
use crate::playground::Playground;
use crate::policy::PolicyInForce;
use crate::pool::TransformPool;
use crate::problem::EdgeError;
use crate::purge::Purger;
use crate::registered::RegisteredImages;
use crate::server::EdgeServer;
use crate::sockets::OnSockets;
use crate::succession::Succession;
use crate::tls::Certificates;

/// jemalloc for us and, being unprefixed, for libvips: glibc's allocator keeps what picture-sized buffers leave behind.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What is left of requests that ran into the limit of the drain.
const CUT_OFF_SECONDS: u64 = 1;

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
    /// Takes over from the edge that listens on `upgrade_socket`; starts as usual if there is none.
    #[arg(long)]
    upgrade: bool,
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
    match run(&settings, cache, Inputs { policy, certificates, upgrade: arguments.upgrade }, &registry) {
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

/// What there is beside the settings.
struct Inputs {
    policy: Arc<PolicyInForce>,
    certificates: Option<Arc<Certificates>>,
    upgrade: bool,
}

fn run(settings: &EdgeSettings, cache: CacheSettings, inputs: Inputs, registry: &Registry) -> anyhow::Result<()> {
    let Inputs { policy, certificates, upgrade } = inputs;
    let succession = Succession::prepare(settings, upgrade)?;
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
    let filler = filler(settings, &engine, registry, RegisteredImages::new(Arc::clone(cache.bans())))?;
    // As late as can be: from here on the edge before this one takes no purges.
    let (sockets, succession) = succession.sockets(settings)?;
    let listen_fds = sockets.lend()?;
    let drain = Arc::new(Drain::new(sockets));
    let edge = Edge {
        policy: Arc::clone(&policy),
        cache: cache.clone(),
        filler: Arc::new(filler),
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
    if let Some(certificates) = &certificates {
        io.spawn(Arc::clone(certificates).watch());
    }

    let edge = EdgeServer::new(edge, Arc::clone(&access), Arc::clone(&drain));
    let server = pingora_server(settings, Services { edge, admin, listen_fds }, &drain, certificates.as_deref())?;
    tracing::info!(listen = %settings.listen, admin = %settings.admin_listen, "serving");
    let bans = Arc::clone(cache.bans());
    let begin = {
        let drain = Arc::clone(&drain);
        move || succession.begin(&drain, bans)
    };
    let stop = {
        let _context = io.enter();
        StopSignal::new(Arc::clone(&drain), settings.patience(), begin)?
    };
    server.run(RunArgs { shutdown_signal: Box::new(stop) });

    let closed = io.block_on(cache.close(CLOSE_LIMIT));
    access.flush();
    tracing::info!(fills_left = closed.fills_left, flushed = closed.flushed, "stopped");
    io.shutdown_background();
    anyhow::ensure!(!drain.is_refused(), "the upgrade has failed");
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
    let limits = Limits {
        source_bytes: usize::try_from(settings.limits.source_bytes)?,
        megapixels: settings.limits.megapixels,
        frames: settings.limits.frames,
        ..Limits::default()
    };
    let (deadline, source_memory_bytes) = (settings.deadline(), settings.transform.source_memory_bytes);
    Ok(Filler::new(engine.clone(), pool, limits, deadline, source_memory_bytes, images))
}

/// What Pingora is to run, and on what.
struct Services {
    edge: EdgeServer,
    admin: Admin,
    listen_fds: ListenFds,
}

fn pingora_server(
    settings: &EdgeSettings,
    Services { edge, admin, listen_fds }: Services,
    drain: &Drain,
    certificates: Option<&Certificates>,
) -> anyhow::Result<Server> {
    let conf = ServerConf {
        threads: settings.serving_threads(),
        // Connections stay on the thread that accepted them: nothing slow runs there.
        work_stealing: false,
        // Nothing is left to wait for: `drain.rs` has.
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(CUT_OFF_SECONDS),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();

    let mut edge = http_proxy(&server.configuration, edge);
    edge.server_options = Some(http2::server_options(settings.h2c));
    edge.h2_options = Some(http2::connection_options());
    let mut service = Service::new("edge".to_owned(), Gathering::new(edge, drain.watch()));
    // 8 KiB holds every header we read. Writes are gathered above this buffer, which must not hold them again.
    let buffers = L4BufferSettings { read: Some(8 * 1024), write: Some(1) };
    service.add_listener(ListenerConfig::tcp(settings.listen.to_string()).l4_buffer(buffers));
    if let (Some(listen), Some(certificates)) = (settings.tls.listen, certificates) {
        let tls = certificates.listener_settings()?;
        service.add_listener(ListenerConfig::tcp(listen.to_string()).l4_buffer(buffers).tls(tls));
    }
    let (sockets, stop) = (Arc::clone(&listen_fds), drain.watch_deaf());
    server.add_service(OnSockets { service, sockets, stop });

    let mut service = Service::new("admin".to_owned(), admin);
    service.threads = Some(1);
    service.add_tcp(&settings.admin_listen.to_string());
    server.add_service(OnSockets { service, sockets: listen_fds, stop: drain.watch_deaf() });
    Ok(server)
}
