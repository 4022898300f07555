//! The operator's scanner: where it is, and what is to be seen of it and of what waits for it.

use std::time::Duration;

use bootstrap::config::Mistakes;
use clamd::{Address, Clamd};
use isolation::{Database, DatabaseError};
use prometheus::{IntGauge, Registry};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::time::sleep;

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// Settings of the scanner.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScannerSettings {
    /// Where ClamAV's daemon listens: a path, or `host:port`. Empty: there is none.
    pub address: String,
    /// Longest that it may take over a file, in seconds.
    pub seconds: u64,
    /// Most bytes of a file that it is sent.
    pub bytes: u64,
}

impl Default for ScannerSettings {
    fn default() -> Self {
        Self { address: String::new(), seconds: 120, bytes: 100 << 20 }
    }
}

impl ScannerSettings {
    /// Tells what is not allowed.
    pub fn check(&self, mistakes: &mut Mistakes) {
        let is_address = self.address.is_empty() || self.address.parse::<Address>().is_ok();
        mistakes.unless(is_address, "scanner.address", &self.address, Address::ALLOWED);
        mistakes.unless((1..=3600).contains(&self.seconds), "scanner.seconds", self.seconds, "1 to 3600");
        mistakes.unless(self.bytes > 0, "scanner.bytes", self.bytes, "at least 1");
    }

    /// The scanner, if there is one.
    pub fn scanner(&self) -> Scanner {
        let address = self.address.parse().ok();
        Scanner {
            daemon: address.map(|address| Clamd::new(address, self.bytes)),
            time: Duration::from_secs(self.seconds),
        }
    }
}

/// The operator's scanner.
#[derive(Debug, Clone)]
pub struct Scanner {
    /// `None` where there is none.
    pub daemon: Option<Clamd>,
    /// Longest that it may take over a file.
    pub time: Duration,
}

/// What is to be seen of the scanner and the quarantine.
pub struct ScannerWatch {
    scanner: Scanner,
    down: IntGauge,
    signatures: IntGauge,
    waiting: IntGauge,
    oldest: IntGauge,
}

impl ScannerWatch {
    /// With metrics.
    ///
    /// # Errors
    /// When the name of a metric is taken.
    pub fn new(scanner: Scanner, registry: &Registry) -> anyhow::Result<Self> {
        let gauge = |name, about| IntGauge::new(name, about);
        let watch = Self {
            down: gauge("calotype_api_scanner_down", "Whether there is a scanner and it does not answer")?,
            signatures: gauge(
                "calotype_api_scanner_signatures_timestamp_seconds",
                "When the scanner's signatures were made; 0 where it has none of ClamAV's own",
            )?,
            waiting: gauge("calotype_api_quarantine_files", "Files that wait to be judged before they are served")?,
            oldest: gauge("calotype_api_quarantine_oldest_seconds", "Age of the oldest of them")?,
            scanner,
        };
        for gauge in [&watch.down, &watch.signatures, &watch.waiting, &watch.oldest] {
            registry.register(Box::new(gauge.clone()))?;
        }
        Ok(watch)
    }

    /// Looks, for ever.
    pub async fn look(&self, database: &Database) {
        loop {
            self.look_at_scanner().await;
            if let Err(error) = self.look_at_quarantine(database).await {
                tracing::debug!(%error, "the quarantine is looked at again soon");
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn look_at_scanner(&self) {
        let Some(daemon) = &self.scanner.daemon else { return };
        let was_down = self.down.get() == 1;
        match daemon.version().await {
            Ok(version) => {
                if was_down {
                    tracing::info!(scanner = %daemon, version = version.program, "the scanner answers again");
                }
                self.down.set(0);
                self.signatures.set(version.signatures.map_or(0, OffsetDateTime::unix_timestamp));
            }
            Err(error) => {
                if !was_down {
                    tracing::warn!(scanner = %daemon, %error, "the scanner does not answer");
                }
                self.down.set(1);
            }
        }
    }

    async fn look_at_quarantine(&self, database: &Database) -> Result<(), DatabaseError> {
        let found = sqlx::query!(r#"SELECT waiting AS "waiting!", oldest FROM quarantine()"#)
            .fetch_one(database.across())
            .await?;
        let age = found.oldest.map_or(0, |oldest| (OffsetDateTime::now_utc() - oldest).whole_seconds());
        self.waiting.set(found.waiting);
        self.oldest.set(age.max(0));
        Ok(())
    }
}
