//! Health and metrics of the worker, where an operator asks for them. Must not do anything else: the API is another process.

use std::net::SocketAddr;

use isolation::Database;
use prometheus::Registry;
use rocket::config::{Config, Ident, LogLevel, Shutdown};
use rocket::routes;

use crate::server;

/// Serves them until the process ends.
///
/// # Errors
/// When the address cannot be had.
pub async fn serve(listen: SocketAddr, database: Database, registry: Registry) -> anyhow::Result<()> {
    let config = Config {
        address: listen.ip(),
        port: listen.port(),
        ident: Ident::none(),
        ip_header: None,
        log_level: LogLevel::Off,
        cli_colors: false,
        // The worker's own signals end it.
        shutdown: Shutdown { ctrlc: false, signals: [].into(), ..Shutdown::default() },
        ..Config::release_default()
    };
    let routes = routes![server::healthz, server::readyz, server::prometheus_metrics];
    let rocket = rocket::custom(config).manage(database).manage(registry).mount("/", routes);
    rocket.launch().await?;
    Ok(())
}
