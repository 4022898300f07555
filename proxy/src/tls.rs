//! TLS on a listener of its own: certificates from a watched folder, chosen by the name that the client asks for.
//!
//! Must not serve a certificate that is worse than the one it replaces: whatever happens to a file, what worked goes on
//! working until something better is there. Must not know HTTP, or tenants: a name is served because there is a
//! certificate for it.

mod certificate;
mod folder;
mod metrics;
mod resolver;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use pingora_core::listeners::tls::TlsSettings;
use prometheus::Registry;

use self::folder::CertificateFolder;
use self::metrics::TlsMetrics;
use self::resolver::{CertificateResolver, Names};

/// How often the folder is looked at. A poll sees every way of replacing a file, on every file system.
const POLL: Duration = Duration::from_secs(1);

/// The certificates in use, and the watch on their folder.
pub struct Certificates {
    folder: Mutex<CertificateFolder>,
    resolver: Arc<CertificateResolver>,
    default: Option<String>,
    metrics: TlsMetrics,
}

impl Certificates {
    /// Loads a folder. A pair that cannot be used is told in the log and left out: it may be one of many.
    /// `default` is what is presented to clients that ask for no name, or for one without a certificate.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn load(folder: &Path, default: Option<String>, registry: &Registry) -> anyhow::Result<Self> {
        let metrics = TlsMetrics::register(registry)?;
        let resolver = Arc::new(CertificateResolver::new(metrics.clone()));
        let folder = Mutex::new(CertificateFolder::open(folder)?);
        let certificates = Self { folder, resolver, default, metrics };
        certificates.look();
        if certificates.metrics.in_use.get() == 0 {
            tracing::error!("there is no certificate yet: every TLS handshake is refused");
        }
        Ok(certificates)
    }

    /// What a listener needs: TLS 1.2 and 1.3 with rustls' own choice of suites, HTTP/2 preferred.
    ///
    /// # Errors
    /// None that can be named: Pingora's constructor is fallible for the sake of other TLS libraries.
    pub fn listener_settings(&self) -> anyhow::Result<TlsSettings> {
        let mut settings = TlsSettings::intermediate("", "")?;
        settings.set_cert_resolver(Arc::clone(&self.resolver) as _);
        settings.enable_h2();
        Ok(settings)
    }

    /// Watches the folder for ever.
    pub async fn watch(self: Arc<Self>) {
        let mut tick = tokio::time::interval(POLL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let this = Arc::clone(&self);
            // The folder may be on a network.
            if tokio::task::spawn_blocking(move || this.look()).await.is_err() {
                tracing::error!("looking through the certificates broke off; those in use stay");
            }
        }
    }

    fn look(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let mut folder = self.folder.lock();
        if !folder.look(now, &self.metrics) {
            return;
        }
        let names = Names::new(folder.in_use(), self.default.as_deref());
        if let Some(default) = self.default.as_deref().filter(|_| !names.has_default()) {
            tracing::error!(default, "the default certificate is not there");
        }
        self.metrics.in_use.set(i64::try_from(folder.in_use().count()).unwrap_or(i64::MAX));
        self.metrics.not_after.set(folder.in_use().map(|(_, certificate)| certificate.not_after).min().unwrap_or(0));
        self.resolver.replace(names);
    }
}
