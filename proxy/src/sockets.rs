//! The listening sockets: bound here or taken over from the process before, lent to Pingora, and handed on.
//!
//! They are held beside Pingora so that a successor can be given them, and so that accepting can end on its own, apart
//! from the end of the server. Must not accept.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::server::{Fds, ListenFds, RuntimeOpts, ShutdownWatch};
use pingora_core::services::Service;

use crate::config::EdgeSettings;

/// Connections that may wait to be accepted; the system's own limit (`net.core.somaxconn`) may be lower.
const BACKLOG: i32 = 65_535;

/// One for each address of the settings.
pub struct Sockets(Vec<(SocketAddr, TcpListener)>);

impl Sockets {
    /// Takes from `inherited` what the settings name, and binds the rest. What they do not name is closed.
    ///
    /// # Errors
    /// When an address cannot be listened on; Pingora would panic.
    pub fn open(settings: &EdgeSettings, inherited: Vec<OwnedFd>) -> anyhow::Result<Self> {
        let mut inherited: Vec<TcpListener> = inherited.into_iter().map(TcpListener::from).collect();
        let named = [
            ("listen", Some(settings.listen)),
            ("admin_listen", Some(settings.admin_listen)),
            ("tls.listen", settings.tls.listen),
        ];
        let mut sockets = Vec::new();
        for (setting, address) in named {
            let Some(address) = address else { continue };
            let is_it = |listener: &TcpListener| listener.local_addr().is_ok_and(|local| local == address);
            let listener = match inherited.iter().position(is_it) {
                Some(found) => inherited.swap_remove(found),
                None => TcpListener::bind(address)
                    .with_context(|| format!("{setting} = {address} cannot be listened on"))?,
            };
            // The standard library asks for 128, which a crowd fills in a moment.
            rustix::net::listen(&listener, BACKLOG)?;
            // Pingora takes it as it is.
            listener.set_nonblocking(true)?;
            sockets.push((address, listener));
        }
        Ok(Self(sockets))
    }

    /// The sockets, to be sent to a successor.
    pub fn as_fds(&self) -> Vec<BorrowedFd<'_>> {
        self.0.iter().map(|(_, listener)| listener.as_fd()).collect()
    }

    /// A second handle of each, which becomes Pingora's.
    ///
    /// # Errors
    /// When the process has no more file descriptors.
    pub fn lend(&self) -> anyhow::Result<ListenFds> {
        let mut fds = Fds::new();
        for (address, listener) in &self.0 {
            fds.add(address.to_string(), listener.try_clone()?.into_raw_fd());
        }
        Ok(Arc::new(Mutex::new(fds)))
    }
}

/// A service of Pingora's on sockets that were lent to it, which accepts until `stop`.
pub struct OnSockets<S> {
    /// The service.
    pub service: S,
    /// Its sockets, and those of others.
    pub sockets: ListenFds,
    /// Becomes true when it is to accept no more. Pingora's own signal comes only at the end of the server.
    pub stop: ShutdownWatch,
}

#[async_trait]
impl<S: Service> Service for OnSockets<S> {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, listeners_per_fd: usize) {
        let (sockets, stop) = (Arc::clone(&self.sockets), self.stop.clone());
        self.service.start_service(Some(sockets), stop, listeners_per_fd).await;
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        self.service.threads()
    }

    fn runtime_opts_override(&self, global: &RuntimeOpts) -> Option<RuntimeOpts> {
        self.service.runtime_opts_override(global)
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        self.service.listen_addresses()
    }
}
