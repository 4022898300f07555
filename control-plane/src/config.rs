//! The settings of the control plane: what an operator may change, with defaults, units and ranges.
//!
//! Must not hold anything per tenant: that is in the database.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bootstrap::config::{Mistakes, Settings};
use bootstrap::logging::LogSettings;
use bootstrap::traces::TraceSettings;
use isolation::DatabaseOptions;
use serde::{Deserialize, Serialize};
use storage::StoreSettings;

use crate::cors::Cors;
use crate::scanner::ScannerSettings;
use crate::sealing::Seal;
use crate::webhooks::WebhookSettings;

/// Rocket tells in its own words what each request's event says already.
const LOG_LEVEL: &str = "info,rocket=error,control_plane::routes=error,sqlx=warn";

/// Connections of a worker: whatever it does many of at once, it keeps in a moment.
const WORKER_CONNECTIONS: u32 = 16;

/// Longest wait for a connection to the replica.
const REPLICA_ACQUIRE: Duration = Duration::from_millis(500);

/// Largest upload that may be allowed, in bytes: a bucket takes no more in parts of the size that is sent.
const UPLOAD_BYTES_MAX: u64 = 50_000_000_000;

/// Most bytes of a download that may be allowed.
const DOWNLOAD_BYTES_MAX: u64 = 10_000_000_000_000;

/// Shortest admin key and edge token, in bytes: nobody should guess them.
const TOKEN_BYTES_MIN: usize = 32;

/// Most requests a second, and at once, that a limit is set to.
const RATE_MAX: u32 = 1_000_000;

/// Most origins whose pages may use the API: each answer is held against all.
const ORIGINS_MAX: usize = 1000;

/// Most name servers that are asked.
const DNS_SERVERS_MAX: usize = 8;

/// Settings of the control plane. `docs/configuration.md` lists them all.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlPlaneSettings {
    /// Where the API is served, health and metrics included.
    pub listen: SocketAddr,
    /// The database, as a user who is a member of `calotype_app`.
    pub database_url: SecretText,
    /// A streaming replica of it, as the same user, for lists; without it they are read from the database, too.
    pub read_replica_url: SecretText,
    /// How far the replica may be behind before it is not read from.
    pub replica_lag_seconds: u64,
    /// The same as a user who may become `calotype_owner`; only `control-plane migrate` uses it.
    pub migrate_url: SecretText,
    /// The same as a user who is a member of `calotype_worker`; only `control-plane worker` uses it.
    pub worker_url: SecretText,
    /// What callers must know to administer tenants; without it nobody may.
    pub admin_key: SecretText,
    /// What edges must know to be told of tenants; without it none is.
    pub edge_token: SecretText,
    /// What secrets are sealed with at rest; without it none can be kept.
    pub master_key: SecretText,
    /// What secrets were sealed with before, until `control-plane reseal` has run.
    pub previous_master_keys: Vec<SecretText>,
    /// Connections to the database at a time.
    pub connections: u32,
    /// How long a request waits for one of them.
    pub acquire_ms: u64,
    /// How long a statement may run.
    pub statement_seconds: u64,
    /// Days for which edges may be away without having to start over.
    pub feed_days: u64,
    /// Days for which jobs that are over are kept.
    pub job_days: u64,
    /// Whether parts of tables by month are written to the store of uploads before they are dropped.
    pub archive: bool,
    /// Months for which tables by month keep their rows, by the table's name.
    pub keep_months: BTreeMap<String, u32>,
    /// Requests a second with each key of a tenant; 0 is no limit.
    pub rate_per_second: u32,
    /// Requests with a key that may come at once.
    pub rate_burst: u32,
    /// Requests a second from each address that come without a known key; 0 is no limit.
    pub address_rate_per_second: u32,
    /// Requests of that kind that may come at once.
    pub address_rate_burst: u32,
    /// Origins whose pages may use the API from browsers; `*` is all.
    pub cors_origins: Vec<String>,
    /// How long a body may take to come.
    pub body_seconds: u64,
    /// Name servers that are asked whether a domain is a tenant's; the system's where none is named.
    pub dns_servers: Vec<SocketAddr>,
    /// Private hosts and addresses that tenants may let their origins and URLs reach.
    pub private_hosts: Vec<String>,
    /// Base URLs of stores other than AWS that tenants may have origins in.
    pub s3_endpoints: Vec<String>,
    /// Whether connections are kept for further requests.
    pub keep_alive: bool,
    /// Where uploads are kept; without it none are taken.
    pub uploads: StoreSettings,
    /// Most bytes of an upload.
    pub upload_bytes: u64,
    /// How long an upload may take.
    pub upload_seconds: u64,
    /// Hours that an upload has from its beginning to its end, over all its connections.
    pub upload_hours: u64,
    /// Most uploads of a tenant that are not over.
    pub uploads_open: u32,
    /// Uploads that are received at the same time, each with a piece of 8 MiB in memory.
    pub uploads_receiving: u32,
    /// How long a client may send nothing of an upload in parts, and less than it has to.
    pub upload_wait_seconds: u64,
    /// The least that it has to send.
    pub upload_bytes_per_second: u64,
    /// Archives that are sent at the same time.
    pub downloads_running: u32,
    /// Those of them that may be a tenant's.
    pub downloads_of_tenant: u32,
    /// Most files of an archive.
    pub download_files: u32,
    /// Most bytes of all files of an archive.
    pub download_bytes: u64,
    /// How long a client may take nothing of an archive.
    pub download_stall_seconds: u64,
    /// What URLs of this API begin with; empty where that is the host that a request names.
    pub api_url: String,
    /// Who looks for what is harmful in uploads.
    pub scanner: ScannerSettings,
    /// Days for which bytes that were rejected are kept.
    pub rejected_days: u64,
    /// Ports that media may be fetched from beside 80 and 443.
    pub fetch_ports: Vec<u16>,
    /// Hosts and addresses that media may be fetched from although they are private.
    pub fetch_private: Vec<String>,
    /// How events are sent to webhooks.
    pub webhooks: WebhookSettings,
    /// Where the metrics and the health of `control-plane worker` are served; nowhere if not set.
    pub worker_listen: Option<SocketAddr>,
    /// What the URLs of media begin with: where clients reach edges.
    pub delivery_url: String,
    /// Threads that serve requests; 0 means one a core.
    pub threads: usize,
    /// How long a stop waits for requests that are being answered.
    pub drain_seconds: u32,
    /// The log on standard error.
    pub log: LogSettings,
    /// What is traced, and where that is sent.
    pub traces: TraceSettings,
}

impl Default for ControlPlaneSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            database_url: SecretText::default(),
            read_replica_url: SecretText::default(),
            replica_lag_seconds: 5,
            migrate_url: SecretText::default(),
            worker_url: SecretText::default(),
            admin_key: SecretText::default(),
            edge_token: SecretText::default(),
            master_key: SecretText::default(),
            previous_master_keys: Vec::new(),
            connections: 16,
            acquire_ms: 2000,
            statement_seconds: 10,
            feed_days: 7,
            job_days: 30,
            archive: true,
            keep_months: BTreeMap::new(),
            rate_per_second: 100,
            rate_burst: 200,
            address_rate_per_second: 10,
            address_rate_burst: 100,
            cors_origins: Vec::new(),
            body_seconds: 10,
            dns_servers: Vec::new(),
            private_hosts: Vec::new(),
            s3_endpoints: Vec::new(),
            keep_alive: true,
            uploads: StoreSettings::default(),
            upload_bytes: 500_000_000,
            upload_seconds: 3600,
            upload_hours: 24,
            uploads_open: 1000,
            uploads_receiving: 64,
            upload_wait_seconds: 30,
            upload_bytes_per_second: 1024,
            downloads_running: 32,
            downloads_of_tenant: 8,
            download_files: 10_000,
            download_bytes: 100_000_000_000,
            download_stall_seconds: 60,
            api_url: String::new(),
            scanner: ScannerSettings::default(),
            rejected_days: 30,
            fetch_ports: Vec::new(),
            fetch_private: Vec::new(),
            webhooks: WebhookSettings::default(),
            worker_listen: None,
            delivery_url: "http://127.0.0.1:8080".to_owned(),
            threads: 0,
            drain_seconds: 10,
            log: LogSettings { level: LOG_LEVEL.to_owned(), ..LogSettings::default() },
            traces: TraceSettings::default(),
        }
    }
}

impl Settings for ControlPlaneSettings {
    const SECTION: &'static str = "control-plane";

    fn check(&self, mistakes: &mut Mistakes) {
        let why = format!("at least {TOKEN_BYTES_MIN} bytes that nobody can guess");
        for (key, token) in [("admin_key", &self.admin_key), ("edge_token", &self.edge_token)] {
            mistakes.unless(!token.is_set() || token.expose().len() >= TOKEN_BYTES_MIN, key, "…", &why);
        }
        if let Err(at) = Seal::new(self.master_keys()) {
            let newest = usize::from(self.master_key.is_set());
            let key = if at < newest { "master_key" } else { "previous_master_keys" };
            mistakes.add(key, "…", Seal::ALLOWED);
        }
        let is_without = !self.master_key.is_set() && !self.previous_master_keys.is_empty();
        mistakes.unless(!is_without, "master_key", "(nothing)", "previous_master_keys need one that comes after them");
        // One hears of changes, one asks whose a key is, and one does what is asked.
        mistakes.unless((3..=1000).contains(&self.connections), "connections", self.connections, "3 to 1000");
        mistakes.unless((1..=60_000).contains(&self.acquire_ms), "acquire_ms", self.acquire_ms, "1 to 60000");
        let seconds = self.statement_seconds;
        mistakes.unless((1..=600).contains(&seconds), "statement_seconds", seconds, "1 to 600");
        let lag = self.replica_lag_seconds;
        mistakes.unless((1..=3600).contains(&lag), "replica_lag_seconds", lag, "1 to 3600");
        let days = [("feed_days", self.feed_days), ("job_days", self.job_days), ("rejected_days", self.rejected_days)];
        for (key, days) in days {
            mistakes.unless((1..=3650).contains(&days), key, days, "1 to 3650");
        }
        for (table, months) in &self.keep_months {
            mistakes.unless((1..=1200).contains(months), &format!("keep_months.{table}"), months, "1 to 1200");
        }
        for (key, rate, burst_key, burst) in [
            ("rate_per_second", self.rate_per_second, "rate_burst", self.rate_burst),
            ("address_rate_per_second", self.address_rate_per_second, "address_rate_burst", self.address_rate_burst),
        ] {
            mistakes.unless(rate <= RATE_MAX, key, rate, "0 (no limit) to 1000000");
            mistakes.unless((1..=RATE_MAX).contains(&burst), burst_key, burst, "1 to 1000000");
        }
        for origin in self.cors_origins.iter().filter(|origin| !Cors::is_origin(origin)) {
            mistakes.add("cors_origins", origin, Cors::ALLOWED);
        }
        let origins = self.cors_origins.len();
        mistakes.unless(origins <= ORIGINS_MAX, "cors_origins", origins, "at most 1000 of them");
        let servers = self.dns_servers.len();
        mistakes.unless(servers <= DNS_SERVERS_MAX, "dns_servers", servers, "at most 8 of them");
        mistakes.unless((1..=600).contains(&self.body_seconds), "body_seconds", self.body_seconds, "1 to 600");
        self.check_uploads(mistakes);
        self.webhooks.check(mistakes);
        self.scanner.check(mistakes);
        mistakes.unless(self.threads <= 1024, "threads", self.threads, "at most 1024");
        mistakes.unless(self.drain_seconds <= 600, "drain_seconds", self.drain_seconds, "at most 600");
        self.log.check(mistakes);
        self.traces.check(mistakes);
    }
}

impl ControlPlaneSettings {
    fn check_uploads(&self, mistakes: &mut Mistakes) {
        for (key, value, why) in self.uploads.mistakes() {
            mistakes.add(format!("uploads.{key}"), value, why);
        }
        let (bytes, seconds) = (self.upload_bytes, self.upload_seconds);
        mistakes.unless((1..=UPLOAD_BYTES_MAX).contains(&bytes), "upload_bytes", bytes, "1 to 50000000000");
        mistakes.unless((1..=86_400).contains(&seconds), "upload_seconds", seconds, "1 to 86400");
        let (hours, open, receiving) = (self.upload_hours, self.uploads_open, self.uploads_receiving);
        // No URL of a bucket is good for longer.
        mistakes.unless((1..=168).contains(&hours), "upload_hours", hours, "1 to 168");
        mistakes.unless((1..=1_000_000).contains(&open), "uploads_open", open, "1 to 1000000");
        mistakes.unless((1..=10_000).contains(&receiving), "uploads_receiving", receiving, "1 to 10000");
        let (wait, rate) = (self.upload_wait_seconds, self.upload_bytes_per_second);
        mistakes.unless((1..=3600).contains(&wait), "upload_wait_seconds", wait, "1 to 3600");
        mistakes.unless((1..=1 << 30).contains(&rate), "upload_bytes_per_second", rate, "1 to 1073741824");
        let (running, of_tenant) = (self.downloads_running, self.downloads_of_tenant);
        mistakes.unless((1..=10_000).contains(&running), "downloads_running", running, "1 to 10000");
        mistakes.unless((1..=10_000).contains(&of_tenant), "downloads_of_tenant", of_tenant, "1 to 10000");
        let (files, bytes) = (self.download_files, self.download_bytes);
        mistakes.unless((1..=65_535).contains(&files), "download_files", files, "1 to 65535");
        mistakes.unless((1..=DOWNLOAD_BYTES_MAX).contains(&bytes), "download_bytes", bytes, "1 to 10000000000000");
        let stall = self.download_stall_seconds;
        mistakes.unless((1..=3600).contains(&stall), "download_stall_seconds", stall, "1 to 3600");
        let is_base = |url: &str| {
            ["http://", "https://"].iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme))
                && !url.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#'))
        };
        let why = "a URL that starts with http:// or https://, without query";
        mistakes.unless(is_base(&self.delivery_url), "delivery_url", &self.delivery_url, why);
        mistakes.unless(self.api_url.is_empty() || is_base(&self.api_url), "api_url", &self.api_url, why);
    }

    /// The newest first.
    fn master_keys(&self) -> impl Iterator<Item = &SecretText> {
        Some(&self.master_key).filter(|key| key.is_set()).into_iter().chain(&self.previous_master_keys)
    }

    /// What secrets are sealed with.
    pub fn seal(&self) -> Seal {
        Seal::new(self.master_keys()).expect("the keys were checked with the settings")
    }

    /// How the API reaches the database.
    pub fn database(&self) -> DatabaseOptions {
        self.options(&self.database_url, "calotype control-plane", self.connections)
    }

    /// How the API reaches its replica, if there is one, and how far that may be behind.
    pub fn replica(&self) -> Option<(DatabaseOptions, Duration)> {
        let options = self.options(&self.read_replica_url, "calotype control-plane", self.connections);
        // The primary is asked in its place.
        let options = DatabaseOptions { acquire_time: options.acquire_time.min(REPLICA_ACQUIRE), ..options };
        self.read_replica_url.is_set().then_some((options, Duration::from_secs(self.replica_lag_seconds)))
    }

    /// How `control-plane worker` does.
    pub fn worker_database(&self) -> DatabaseOptions {
        self.options(&self.worker_url, "calotype worker", WORKER_CONNECTIONS)
    }

    fn options(&self, url: &SecretText, application: &'static str, connections: u32) -> DatabaseOptions {
        DatabaseOptions {
            url: url.expose().to_owned(),
            application,
            connections,
            acquire_time: Duration::from_millis(self.acquire_ms),
            statement_time: Duration::from_secs(self.statement_seconds),
        }
    }
}

/// A secret that is never printed.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn is_set(&self) -> bool {
        !self.0.is_empty()
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

impl Serialize for SecretText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { "…" })
    }
}

#[cfg(test)]
mod tests {
    use bootstrap::config::{Sources, load};
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_setting_is_documented() {
        let text = include_str!("../../docs/api.md");
        let settings = serde_json::to_value(ControlPlaneSettings::default()).expect("settings are JSON");
        let mut names = Vec::new();
        for (name, value) in settings.as_object().expect("a table") {
            match value {
                Value::Object(inner) => names.extend(inner.keys().map(|key| format!("{name}.{key}"))),
                _ => names.push(name.clone()),
            }
        }
        for name in names {
            assert!(text.contains(&format!("| `{name}` |")), "docs/api.md lacks {name}");
        }
    }

    #[test]
    fn every_mistake_is_told_at_once_and_no_secret() {
        let environment = [
            ("ADMIN_KEY", "hunter2"),
            ("CONNECTIONS", "0"),
            ("LISTEN", "x"),
            ("UNKNOWN", "1"),
            ("UPLOAD_BYTES", "0"),
            ("DELIVERY_URL", "ftp://x"),
            ("MASTER_KEY", "hunter2"),
        ];
        let environment =
            environment.map(|(name, value)| (format!("CALOTYPE_CONTROL_PLANE__{name}"), value.to_owned())).to_vec();
        let error = load::<ControlPlaneSettings>(&Sources { file: None, environment }).expect_err("seven mistakes");
        let text = error.to_string();
        for key in ["admin_key", "connections", "listen", "master_key", "unknown", "upload_bytes", "delivery_url"] {
            assert!(text.contains(&format!("\n  {key} = ")), "{text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }
}
