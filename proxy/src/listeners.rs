//! The ports: which connections are accepted, how their bytes go, and what serves them.
//!
//! Must not know what is served.

use std::sync::Arc;
use std::time::Duration;

use pingora_core::apps::HttpServerOptions;
use pingora_core::listeners::{ListenerConfig, TcpSocketOptions};
use pingora_core::protocols::l4::stream::L4BufferSettings;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{ListenFds, Server};
use pingora_core::services::listening::Service;
use pingora_proxy::http_proxy;

use crate::admin::Admin;
use crate::config::EdgeSettings;
use crate::connections::{Connections, Limited};
use crate::drain::Drain;
use crate::gather::Gathering;
use crate::http2;
use crate::server::EdgeServer;
use crate::sockets::OnSockets;
use crate::tls::Certificates;

/// What is left of requests that ran into the limit of the drain.
const CUT_OFF_SECONDS: u64 = 1;

/// What clients reach.
pub struct Front {
    /// What answers them.
    pub edge: EdgeServer,
    /// What a connection may do.
    pub connections: Arc<Connections>,
    /// For the TLS listener, if there is one.
    pub certificates: Option<Arc<Certificates>>,
    /// The sockets of every port, the operator's too.
    pub listen_fds: ListenFds,
}

/// A server that listens for clients and for the operator, and does not run yet.
///
/// # Errors
/// When there can be no TLS.
pub fn server(settings: &EdgeSettings, front: Front, admin: Admin, drain: &Drain) -> anyhow::Result<Server> {
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
    let sockets = Arc::clone(&front.listen_fds);
    let service = edge(settings, front, &server, drain)?;
    server.add_service(OnSockets { service, sockets: Arc::clone(&sockets), stop: drain.watch_deaf() });

    let mut service = Service::new("admin".to_owned(), admin);
    service.threads = Some(1);
    service.add_tcp(&settings.admin_listen.to_string());
    server.add_service(OnSockets { service, sockets, stop: drain.watch_deaf() });
    Ok(server)
}

fn edge(
    settings: &EdgeSettings,
    front: Front,
    server: &Server,
    drain: &Drain,
) -> anyhow::Result<Service<impl pingora_core::apps::ServerApp + Send + Sync + 'static>> {
    let Front { edge, connections, certificates, .. } = front;
    let mut options = HttpServerOptions::default();
    // Pingora counts those after the first.
    options.keepalive_request_limit = Some(settings.connections.requests - 1);
    http2::serve(&mut options, settings.h2c, Duration::from_secs(settings.connections.idle_seconds));
    let mut edge = http_proxy(&server.configuration, edge);
    edge.server_options = Some(options);
    edge.h2_options = Some(http2::connection_options());
    // Gathering comes first, so that it has the sockets themselves.
    let edge = Gathering::new(Limited::new(edge, Arc::clone(&connections)), drain.watch());

    let mut sockets = TcpSocketOptions::default();
    sockets.tcp_keepalive = Some(connections.keepalive());
    // 8 KiB holds every header we read. Writes are gathered above this buffer, which must not hold them again.
    let buffers = L4BufferSettings { read: Some(8 * 1024), write: Some(1) };
    let listener = |address: std::net::SocketAddr| {
        ListenerConfig::tcp(address.to_string()).l4_buffer(buffers).tcp_socket_options(sockets.clone())
    };
    let mut service = Service::new("edge".to_owned(), edge);
    service.set_connection_filter(connections);
    service.add_listener(listener(settings.listen));
    if let (Some(address), Some(certificates)) = (settings.tls.listen, &certificates) {
        service.add_listener(listener(address).tls(certificates.listener_settings()?));
    }
    Ok(service)
}
