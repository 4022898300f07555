//! TXT records, asked of name servers each time anew: whoever has just set one does not wait for a cache.
//!
//! Must not be asked while a transaction is open: name servers take their time.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::name_server::TokioConnectionProvider;
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::xfer::Protocol;
use hickory_resolver::proto::{ProtoError, ProtoErrorKind};
use hickory_resolver::{ResolveError, Resolver, TokioResolver};
use thiserror::Error;
use tokio::sync::Semaphore;

/// How long a name server is waited for, each time it is asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tries after the first one.
const TRIES: usize = 1;

/// How long all of it may take, whatever servers there are.
const TIME_MAX: Duration = Duration::from_secs(8);

/// Questions at a time; others wait, and are given up like those that no server answers.
const QUESTIONS_MAX: usize = 32;

/// Why it is not known what a record says.
#[derive(Debug, Error)]
pub enum TxtError {
    /// No name server is known.
    #[error("no name server is known")]
    NoServer,
    /// None has answered in time.
    #[error("no name server has answered in time")]
    Late,
    /// They have answered that they do not know.
    #[error("the name servers do not know")]
    Failed(#[from] ResolveError),
}

/// Who asks name servers.
pub struct TxtRecords {
    /// `None` where the system knows no name server.
    resolver: Option<TokioResolver>,
    turns: Semaphore,
}

impl TxtRecords {
    /// Asks these name servers; the system's if there are none.
    pub fn new(servers: &[SocketAddr]) -> Self {
        let provider = TokioConnectionProvider::default;
        let builder = if servers.is_empty() {
            // Searching is for names that people type.
            Resolver::builder_tokio().inspect_err(|error| tracing::warn!(%error, "domains cannot be verified")).ok()
        } else {
            let mut config = ResolverConfig::new();
            for server in servers {
                for protocol in [Protocol::Udp, Protocol::Tcp] {
                    config.add_name_server(NameServerConfig::new(*server, protocol));
                }
            }
            Some(Resolver::builder_with_config(config, provider()))
        };
        let resolver = builder.map(|mut builder| {
            let options = builder.options_mut();
            (options.cache_size, options.timeout, options.attempts) = (0, PATIENCE, TRIES);
            builder.build()
        });
        Self { resolver, turns: Semaphore::new(QUESTIONS_MAX) }
    }

    /// All texts of a name; none if there is no such name.
    ///
    /// # Errors
    /// [`TxtError`].
    pub async fn of(&self, name: &str) -> Result<Vec<String>, TxtError> {
        let resolver = self.resolver.as_ref().ok_or(TxtError::NoServer)?;
        // With the dot it is a whole name, which nothing is appended to.
        let asked = tokio::time::timeout(TIME_MAX, async {
            let _turn = self.turns.acquire().await;
            resolver.txt_lookup(format!("{name}.")).await
        });
        match asked.await.map_err(|_| TxtError::Late)? {
            Ok(found) => Ok(found.iter().map(ToString::to_string).collect()),
            Err(error) if is_none(&error) => Ok(Vec::new()),
            Err(error) => Err(TxtError::Failed(error)),
        }
    }
}

/// Whether it is known that there is none: the library takes a server that has failed for one that knows of none.
fn is_none(error: &ResolveError) -> bool {
    match error.proto().map(ProtoError::kind) {
        Some(ProtoErrorKind::NoRecordsFound { response_code, .. }) => {
            matches!(response_code, ResponseCode::NoError | ResponseCode::NXDomain)
        }
        _ => false,
    }
}

impl fmt::Debug for TxtRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TxtRecords")
    }
}
