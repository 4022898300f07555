//! The ports: which connections are accepted, how their bytes go, and what serves them.
//!
//! Must not know what is served.

use std::sync::Arc;
use std::time::Duration;

use pingora_core::apps::HttpServerOptions;
use pingora_core::listeners::{ListenerConfig, TcpSocketOptions};
use pingora_core::protocols::l4::stream::L4BufferSettings;
use pingora_core::server::configuration::ServerConf;
use pingora_core::server::{Server, ShutdownWatch};
use pingora_core::services::listening::Service;
use pingora_proxy::http_proxy;

use crate::admin::Admin;
use crate::config::EdgeSettings;
use crate::connections::{Connections, Limited};
use crate::gather::Gathering;
use crate::http2;
use crate::server::EdgeServer;
use crate::tls::Certificates;

/// Pingora's unconditional sleep between "stop accepting" and "end the runtimes": time for what was accepted last.
const GRACE_SECONDS: u64 = 1;

/// What clients reach.
pub struct Front {
    /// What answers them.
    pub edge: EdgeServer,
    /// Tells connections of a stop.
    pub draining: ShutdownWatch,
    /// What a connection may do.
    pub connections: Arc<Connections>,
    /// For the TLS listener, if there is one.
    pub certificates: Option<Arc<Certificates>>,
}

/// A server that listens for clients and for the operator, and does not run yet.
///
/// # Errors
/// When there can be no TLS.
pub fn server(settings: &EdgeSettings, front: Front, admin: Admin) -> anyhow::Result<Server> {
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
    let edge = edge(settings, front, &server)?;
    server.add_service(edge);

    let mut admin = Service::new("admin".to_owned(), admin);
    admin.threads = Some(1);
    admin.add_tcp(&settings.admin_listen.to_string());
    server.add_service(admin);
    Ok(server)
}

fn edge(
    settings: &EdgeSettings,
    front: Front,
    server: &Server,
) -> anyhow::Result<Service<impl pingora_core::apps::ServerApp + Send + Sync + 'static>> {
    let Front { edge, draining, connections, certificates } = front;
    let mut options = HttpServerOptions::default();
    // Pingora counts those after the first.
    options.keepalive_request_limit = Some(settings.connections.requests - 1);
    http2::serve(&mut options, settings.h2c, Duration::from_secs(settings.connections.idle_seconds));
    let mut edge = http_proxy(&server.configuration, edge);
    edge.server_options = Some(options);
    edge.h2_options = Some(http2::connection_options());
    let edge = Limited::new(Gathering::new(edge, draining), Arc::clone(&connections));

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
