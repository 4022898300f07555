//! Connections, only to addresses that were checked.
//!
//! The name is resolved here, each address is checked here, and the connection goes to that address: between the check
//! and the connection no name is asked for again, so a name server that changes its mind changes nothing.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tower_service::Service;

use crate::{PrivateHosts, RefusedAddress, Resolve};

/// Addresses of a host that are tried.
const ADDRESSES_MAX: usize = 8;

/// Why there is no connection. For the log: it names addresses.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The host has an address that is not connected to.
    #[error(transparent)]
    Refused(#[from] RefusedAddress),
    /// The name cannot be looked up.
    #[error("the host cannot be resolved")]
    Resolve(#[source] std::io::Error),
    /// The name has no address.
    #[error("the host has no address")]
    NoAddress,
    /// No address takes the connection; the error is that of the last.
    #[error("no address of the host takes the connection")]
    Connect(#[source] std::io::Error),
    /// Not within the limit.
    #[error("no connection within {0:?}")]
    TimedOut(Duration),
}

/// Connects for the client library.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    pub(crate) resolver: Arc<dyn Resolve>,
    pub(crate) private: PrivateHosts,
    pub(crate) time_limit: Duration,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let limit = connector.time_limit;
            let connected = timeout(limit, connector.connect(&uri, Instant::now() + limit));
            connected.await.unwrap_or(Err(ConnectError::TimedOut(limit)))
        })
    }
}

impl Connector {
    async fn connect(&self, uri: &Uri, deadline: Instant) -> Result<TokioIo<TcpStream>, ConnectError> {
        let host = uri.host().unwrap_or_default();
        let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default);
        let addresses = self.addresses(host).await?;
        let mut last = std::io::Error::from(std::io::ErrorKind::TimedOut);
        for (tried, address) in addresses.iter().enumerate() {
            // Each has an equal part of the time that is left: a dead one must not use up that of a live one.
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            match timeout_at(Instant::now() + share, TcpStream::connect(SocketAddr::new(*address, port))).await {
                Ok(Ok(stream)) => {
                    // Requests are written whole; waiting for more would only cost time.
                    stream.set_nodelay(true).map_err(ConnectError::Connect)?;
                    return Ok(TokioIo::new(stream));
                }
                Ok(Err(error)) => last = error,
                Err(_) if tried + 1 == addresses.len() => return Err(ConnectError::TimedOut(self.time_limit)),
                Err(_) => {}
            }
        }
        Err(ConnectError::Connect(last))
    }

    /// The host's addresses, each of which may be connected to. One that may not is a reason to refuse the host: a name
    /// that is public and private at once is an attack or a mistake.
    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, ConnectError> {
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let mut addresses = match literal.parse() {
            Ok(address) => vec![address],
            Err(_) => self.resolver.resolve(host).await.map_err(ConnectError::Resolve)?,
        };
        for address in &mut addresses {
            *address = address.to_canonical();
            self.private.check(host, *address)?;
        }
        addresses.truncate(ADDRESSES_MAX);
        if addresses.is_empty() { Err(ConnectError::NoAddress) } else { Ok(addresses) }
    }
}
