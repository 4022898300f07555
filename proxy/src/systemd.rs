//! What a service manager is told: that this process serves, that it is the main one now, that it stops.
//!
//! The protocol is systemd's `sd_notify`: a datagram to the socket that the environment names. Must not matter to the
//! edge: where there is no such socket nothing happens, and a failure is a line in the log.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Serving; after an upgrade, in place of the process before.
pub fn serving() {
    notify(&format!("READY=1\nMAINPID={}", std::process::id()));
}

/// Stopping for good.
pub fn stopping() {
    notify("STOPPING=1");
}

fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let send = || -> io::Result<usize> {
        let address = match path.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)
    };
    if let Err(error) = send() {
        tracing::warn!(%error, "the service manager could not be told: {state:?}");
    }
}
