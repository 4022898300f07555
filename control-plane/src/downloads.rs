//! Downloads: all media of a collection, or of a folder, as one archive that is made while it is sent.
//!
//! What goes into it is read from the database before its first byte, in one statement, and from then on only the object store is asked.
//! So its length is known, and what comes in the meantime does not change it. Must not hold more of a file than a few pieces.

mod archive;
mod contents;
mod link;
mod names;
mod sending;

use std::sync::Arc;
use std::time::Duration;

use isolation::{Database, Mandate, TenantKey, TenantTransaction};
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

pub use self::archive::Format;
pub use self::contents::{Contents, Source, Wanted};
pub use self::link::LINK_SECONDS_MAX;
pub use self::sending::Pieces;
use crate::config::ControlPlaneSettings;
use crate::media::Library;
use crate::places::{Full, Place, Places};
use crate::problem::ApiError;
use crate::quotas;
use crate::sealing::Seal;

/// What downloads are made with, and how much of them is allowed.
#[derive(Debug)]
pub struct Downloads {
    /// Where media is kept.
    pub library: Library,
    files_max: usize,
    bytes_max: u64,
    places: Arc<Places>,
    running: IntGauge,
    stall: Duration,
    seal: Seal,
    ended: IntCounterVec,
}

impl Downloads {
    /// With these settings.
    ///
    /// # Errors
    /// When the name of a metric is taken.
    pub fn new(settings: &ControlPlaneSettings, library: Library, registry: &Registry) -> anyhow::Result<Self> {
        let running = IntGauge::new("calotype_api_downloads_running", "Archives that are being sent")?;
        let ended = Opts::new("calotype_api_downloads_total", "Archives that were sent, by how that ended");
        let ended = IntCounterVec::new(ended, &["end"])?;
        registry.register(Box::new(running.clone()))?;
        registry.register(Box::new(ended.clone()))?;
        let (all, of_tenant) = (settings.downloads_running, settings.downloads_of_tenant);
        Ok(Self {
            library,
            files_max: settings.download_files as usize,
            bytes_max: settings.download_bytes,
            places: Arc::new(Places::new(all as usize, of_tenant as usize)),
            running,
            stall: Duration::from_secs(settings.download_stall_seconds),
            seal: settings.seal(),
            ended,
        })
    }

    /// What a download would have in it, if the tenant may send anything more this month.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], [`ApiError::DownloadTooLarge`], [`ApiError::DownloadEmpty`], [`ApiError::Bandwidth`].
    pub async fn contents(&self, transaction: &mut TenantTransaction, wanted: &Wanted) -> Result<Contents, ApiError> {
        quotas::check_bandwidth(transaction).await?;
        let contents = contents::read(transaction, wanted, self.files_max).await?;
        if contents.bytes > self.bytes_max {
            return Err(ApiError::DownloadTooLarge { limit: self.bytes_max, of: "bytes" });
        }
        Ok(contents)
    }

    /// An archive, to be sent.
    ///
    /// # Errors
    /// [`ApiError::NoStore`], and [`ApiError::Busy`] or [`ApiError::TooManyDownloads`] when too many are being sent.
    pub fn send(&self, tenant: TenantKey, contents: Contents) -> Result<Pieces, ApiError> {
        let place = Places::take(&self.places, tenant).map_err(|full| match full {
            Full::Tenant => ApiError::TooManyDownloads { limit: self.places.of_tenant() },
            Full::All => ApiError::Busy,
        })?;
        let place = Counted::new(place, &self.running);
        let (database, ended) = (self.library.database().clone(), self.ended.clone());
        let account = move |sent, end: sending::End| {
            ended.with_label_values(&[end.as_str()]).inc();
            tokio::spawn(count(database, tenant, sent));
        };
        Ok(sending::pieces(self.library.store()?.clone(), tenant, contents, self.stall, (place, account)))
    }
}

/// A place that is counted for as long as it is taken.
struct Counted {
    _place: Place,
    running: IntGauge,
}

impl Counted {
    fn new(place: Place, running: &IntGauge) -> Self {
        running.inc();
        Self { _place: place, running: running.clone() }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.running.dec();
    }
}

/// Adds what was sent to what the tenant has used.
async fn count(database: Database, tenant: TenantKey, sent: u64) {
    let counted = async {
        let mut transaction = database.begin(&Mandate::upkeep(tenant)).await?;
        let bytes = i64::try_from(sent).unwrap_or(i64::MAX);
        sqlx::query!("SELECT count_download($1)", bytes).execute(transaction.connection()).await?;
        transaction.commit().await?;
        quotas::settle_due(&database, &[tenant.as_uuid()]).await
    };
    if let Err(error) = counted.await {
        let error: ApiError = error;
        tracing::error!(%error, %tenant, sent, "a download was not counted");
    }
}
