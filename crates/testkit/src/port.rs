//! Ports for servers that are started for a test.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A port that nobody else is given: a socket that is bound but deaf keeps it, and lets a listener that also says
/// `SO_REUSEADDR` have it.
#[derive(Debug)]
pub struct Port {
    /// Where it is.
    pub address: SocketAddr,
    _keeper: TcpSocket,
}

impl Port {
    /// Finds one and keeps it.
    ///
    /// # Errors
    /// When none is free.
    pub fn keep() -> std::io::Result<Self> {
        let keeper = TcpSocket::new_v4()?;
        keeper.set_reuseaddr(true)?;
        keeper.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(Self { address: keeper.local_addr()?, _keeper: keeper })
    }
}
