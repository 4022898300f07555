//! Where a daemon listens.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

/// Where a daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A socket in the file system: `LocalSocket` of `clamd.conf`.
    Unix(PathBuf),
    /// Host and port: `TCPAddr` and `TCPSocket` of `clamd.conf`. Nothing on the way is encrypted.
    Tcp(String),
}

/// Why a text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{}", Address::ALLOWED)]
pub struct AddressError;

impl Address {
    /// What an address has to be.
    pub const ALLOWED: &'static str = "the absolute path of a socket, or host:port";
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        let (host, port) = text.rsplit_once(':').ok_or(AddressError)?;
        let is_host = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || matches!(c, '/' | '@'));
        match port.parse::<u16>() {
            Ok(1..) if is_host => Ok(Self::Tcp(text.to_owned())),
            _ => Err(AddressError),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_hosts_with_ports_are_addresses() {
        assert_eq!("/run/clamav/clamd.ctl".parse(), Ok(Address::Unix("/run/clamav/clamd.ctl".into())));
        for good in ["127.0.0.1:3310", "clamav:3310", "[::1]:3310"] {
            assert_eq!(good.parse(), Ok(Address::Tcp(good.to_owned())));
        }
        for bad in ["", "clamd", ":3310", "host:", "host:0", "host:65536", "tcp://host:1", "a b:1", "run/clamd.ctl"] {
            assert_eq!(bad.parse::<Address>(), Err(AddressError), "{bad}");
        }
    }
}
