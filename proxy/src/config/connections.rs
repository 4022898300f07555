//! The settings of connections: how many there may be, and what each of them may hold up.

use std::time::Duration;

use bootstrap::config::Mistakes;
use serde::{Deserialize, Serialize};

use crate::connections::ConnectionLimits;
use crate::header_limits::HeaderLimits;

/// Settings of connections.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionsTable {
    /// Connections at a time; further ones are closed at once.
    pub max: usize,
    /// Connections at a time from one address that is not a trusted proxy; 0 is without limit.
    pub per_address: usize,
    /// Requests on one connection.
    pub requests: u32,
    /// How long a connection is kept between two requests.
    pub idle_seconds: u64,
    /// How long a request's header may take to arrive, from its first byte.
    pub header_seconds: u64,
    /// Largest header of a request, the request line not included.
    pub header_bytes: usize,
    /// Most lines of a header.
    pub header_lines: usize,
    /// A client that takes less than `send_bytes_per_second` for so long is dropped.
    pub send_seconds: u64,
    /// The least that a client must take of an answer that waits to be sent.
    pub send_bytes_per_second: u64,
}

impl Default for ConnectionsTable {
    fn default() -> Self {
        Self {
            max: 16_384,
            per_address: 1024,
            requests: 10_000,
            idle_seconds: 75,
            header_seconds: 10,
            header_bytes: 32 * 1024,
            header_lines: 100,
            send_seconds: 30,
            send_bytes_per_second: 1024,
        }
    }
}

impl ConnectionsTable {
    pub(super) fn check(&self, mistakes: &mut Mistakes) {
        let mut within = |name: &str, value: u64, (min, max): (u64, u64)| {
            let why = format!("{min} to {max}");
            mistakes.unless((min..=max).contains(&value), &format!("connections.{name}"), value, &why);
        };
        within("max", self.max as u64, (1, 1_000_000));
        within("per_address", self.per_address as u64, (0, 1_000_000));
        within("requests", self.requests.into(), (1, 1_000_000_000));
        within("idle_seconds", self.idle_seconds, (1, 3600));
        within("header_seconds", self.header_seconds, (1, 600));
        within("header_bytes", self.header_bytes as u64, (1024, 262_144));
        // Pingora reads no more lines than that.
        within("header_lines", self.header_lines as u64, (8, 256));
        within("send_seconds", self.send_seconds, (1, 3600));
        within("send_bytes_per_second", self.send_bytes_per_second, (1, 1 << 30));
    }

    /// What each connection is held to.
    pub fn limits(&self) -> ConnectionLimits {
        ConnectionLimits {
            max: self.max,
            per_address: self.per_address,
            header_time: Duration::from_secs(self.header_seconds),
            header_bytes: self.header_bytes,
            send_time: Duration::from_secs(self.send_seconds),
            send_bytes_per_second: self.send_bytes_per_second,
        }
    }

    /// The largest header.
    pub fn header(&self) -> HeaderLimits {
        HeaderLimits { bytes: self.header_bytes, lines: self.header_lines }
    }
}
