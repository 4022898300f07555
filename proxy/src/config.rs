//! The settings of the edge: what an operator may change, with defaults, units and ranges.
//!
//! Must not hold anything per tenant: that is policy.

mod caches;
mod connections;
mod control_plane;
mod transform;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bootstrap::config::{Mistakes, Settings};
use bootstrap::logging::LogSettings;
use bootstrap::traces::TraceSettings;
use serde::{Deserialize, Serialize};
use storage::StoreSettings;
use tenancy::{Rates, RatesTable};

pub use self::caches::{CacheTable, OriginalsTable};
pub use self::connections::ConnectionsTable;
pub use self::control_plane::{ControlPlaneTable, base_url};
pub use self::transform::{LimitsTable, TransformTable};
use crate::client::{ForwardedHeader, TrustedProxies};
use crate::drain::Patience;
use crate::second_level::SecondLevelTable;

const MIB: u64 = 1024 * 1024;

/// Shortest admin token, in bytes: nobody should guess it.
const ADMIN_TOKEN_BYTES_MIN: usize = 16;

/// Settings of the edge. `docs/configuration.md` lists them all.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EdgeSettings {
    /// Where pictures are served.
    pub listen: SocketAddr,
    /// Where health, readiness and metrics are served; keep it off the internet.
    pub admin_listen: SocketAddr,
    /// The same over TLS, on a port of its own.
    pub tls: TlsTable,
    /// HTTP/2 without TLS on `listen` too, for a balancer that speaks it; over TLS it always is.
    pub h2c: bool,
    /// What callers must know to purge; without it nobody may.
    pub admin_token: Option<AdminToken>,
    /// Networks (CIDR) and addresses of proxies that are believed whom they name as their client.
    pub trusted_proxies: Vec<String>,
    /// Where they name it.
    pub forwarded_header: ForwardedHeader,
    /// Connections of clients.
    pub connections: ConnectionsTable,
    /// How fast requests may come from one address.
    pub rates: RatesTable,
    /// Threads that serve connections; 0 means one a core.
    pub threads: usize,
    /// The static policy file (TOML); not needed with a control plane.
    pub policy_file: Option<PathBuf>,
    /// The control plane that is followed.
    pub control_plane: ControlPlaneTable,
    /// Where the control plane puts uploads.
    pub uploads: StoreSettings,
    /// How long a stop waits for requests that are being answered.
    pub drain_seconds: u64,
    /// How long a stop goes on taking connections before that, so that balancers notice.
    pub drain_notice_seconds: u64,
    /// The Unix socket over which a process that is started with `--upgrade` takes over; without it none can.
    pub upgrade_socket: Option<PathBuf>,
    /// The cache of renditions.
    pub cache: CacheTable,
    /// The cache of originals.
    pub originals: OriginalsTable,
    /// Renditions shared by several edges.
    pub second_level: SecondLevelTable,
    /// Making renditions.
    pub transform: TransformTable,
    /// What is refused.
    pub limits: LimitsTable,
    /// A page on the admin port to try ops on; for developers, off in production.
    pub playground: bool,
    /// Access events on standard output.
    pub access_log: bool,
    /// The log on standard error.
    pub log: LogSettings,
    /// What is traced, and where that is sent.
    pub traces: TraceSettings,
}

/// A secret that is never printed.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct AdminToken(String);

impl AdminToken {
    /// What requests are held against.
    pub fn hash(&self) -> blake3::Hash {
        blake3::hash(self.0.as_bytes())
    }

    /// The token itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminToken(…)")
    }
}

impl Serialize for AdminToken {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("…")
    }
}

/// Settings of TLS.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsTable {
    /// Where pictures are served over TLS; nowhere if it is not set.
    pub listen: Option<SocketAddr>,
    /// The folder of certificates and keys, which is watched.
    pub certificates: Option<PathBuf>,
    /// The name of the pair for clients that ask for no name, or for one without a certificate.
    pub default_certificate: Option<String>,
}

impl Default for EdgeSettings {
    fn default() -> Self {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            listen: loopback(8080),
            admin_listen: loopback(9180),
            tls: TlsTable::default(),
            h2c: false,
            admin_token: None,
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            connections: ConnectionsTable::default(),
            rates: RatesTable::default(),
            threads: 0,
            policy_file: None,
            control_plane: ControlPlaneTable::default(),
            uploads: StoreSettings::default(),
            drain_seconds: 10,
            drain_notice_seconds: 0,
            upgrade_socket: None,
            cache: CacheTable::default(),
            second_level: SecondLevelTable::default(),
            originals: OriginalsTable::default(),
            transform: TransformTable::default(),
            limits: LimitsTable::default(),
            playground: false,
            access_log: true,
            log: LogSettings::default(),
            traces: TraceSettings::default(),
        }
    }
}

impl Settings for EdgeSettings {
    const SECTION: &'static str = "proxy";

    fn check(&self, mistakes: &mut Mistakes) {
        mistakes.unless(
            self.listen != self.admin_listen || self.listen.port() == 0,
            "admin_listen",
            self.admin_listen,
            "must differ from listen",
        );
        self.check_tls(mistakes);
        let is_long = |token: &AdminToken| (ADMIN_TOKEN_BYTES_MIN..=256).contains(&token.0.len());
        mistakes.unless(self.admin_token.as_ref().is_none_or(is_long), "admin_token", "…", "16 to 256 bytes");
        for entry in self.trusted_proxies().err().unwrap_or_default() {
            mistakes.add("trusted_proxies", entry, "a network such as 10.0.0.0/8, or an address");
        }
        self.connections.check(mistakes);
        self.rates.check(|key, number, why| mistakes.add(format!("rates.{key}"), number, why));
        mistakes.unless(self.threads <= 1024, "threads", self.threads, "at most 1024");
        mistakes.unless(self.drain_seconds <= 3600, "drain_seconds", self.drain_seconds, "at most 3600");
        let notice = self.drain_notice_seconds;
        mistakes.unless(notice <= 3600, "drain_notice_seconds", notice, "at most 3600");
        self.transform.check(mistakes);
        self.limits.check(mistakes);
        self.check_memory(mistakes);
        self.check_caches(mistakes);
        self.second_level.check(mistakes);
        self.control_plane.check(mistakes);
        for (key, value, allowed) in self.uploads.mistakes() {
            mistakes.add(format!("uploads.{key}"), value, allowed);
        }
        self.log.check(mistakes);
        self.traces.check(mistakes);
    }
}

impl EdgeSettings {
    fn check_memory(&self, mistakes: &mut Mistakes) {
        let (room, largest) = (self.transform.source_memory_bytes, self.limits.source_bytes);
        mistakes.unless(
            room >= largest && room <= 1 << 40,
            "transform.source_memory_bytes",
            room,
            "at least limits.source_bytes, at most 1 TiB",
        );
    }

    fn check_tls(&self, mistakes: &mut Mistakes) {
        let Some(listen) = self.tls.listen else { return };
        mistakes.unless(
            self.tls.certificates.is_some(),
            "tls.certificates",
            "",
            "tls.listen needs a folder of certificates",
        );
        let is_taken = [self.listen, self.admin_listen].contains(&listen) && listen.port() != 0;
        mistakes.unless(!is_taken, "tls.listen", listen, "must differ from listen and admin_listen");
    }

    /// Who may name the client.
    ///
    /// # Errors
    /// The entries that are neither networks nor addresses.
    pub fn trusted_proxies(&self) -> Result<TrustedProxies, Vec<String>> {
        TrustedProxies::new(&self.trusted_proxies, self.forwarded_header)
    }

    /// How fast requests may come from one address; mistakes were told when the settings were loaded.
    pub fn address_rates(&self) -> Rates {
        self.rates.check(|_, _, _| {})
    }

    /// How long a stop takes.
    pub fn patience(&self) -> Patience {
        let [notice, limit] = [self.drain_notice_seconds, self.drain_seconds].map(Duration::from_secs);
        Patience { notice, limit }
    }

    /// Threads that serve connections.
    pub fn serving_threads(&self) -> usize {
        or_cores(self.threads)
    }

    /// libvips threads.
    pub fn transform_threads(&self) -> usize {
        or_cores(self.transform.threads)
    }

    /// Time for one rendition.
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.transform.deadline_seconds)
    }
}

fn or_cores(threads: usize) -> usize {
    if threads == 0 { std::thread::available_parallelism().map_or(1, usize::from) } else { threads }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn leaves(key: &str, value: &Value, into: &mut Vec<String>) {
        match value {
            Value::Object(table) if !table.is_empty() => {
                for (name, value) in table {
                    let dot = if key.is_empty() { "" } else { "." };
                    leaves(&format!("{key}{dot}{name}"), value, into);
                }
            }
            _ => into.push(key.to_owned()),
        }
    }

    #[test]
    fn every_setting_is_documented() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let text = std::fs::read_to_string(path).expect("the reference is there");
        let mut settings = Vec::new();
        leaves("", &serde_json::to_value(EdgeSettings::default()).expect("is plain data"), &mut settings);
        for setting in &settings {
            assert!(text.contains(&format!("| `{setting}` |")), "docs/configuration.md lacks {setting}");
        }
        let documented = text.lines().filter(|line| line.starts_with("| `")).count();
        assert_eq!(documented, settings.len(), "docs/configuration.md has settings that do not exist");
    }
}
