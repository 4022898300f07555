//! Uploads on their way in: direct to the store part by part, or through us with tus, and in either case over as many connections as
//! it takes.
//!
//! All that is known of one is in its row (`migrations/0010_uploads.sql`), so that any process goes on where another one has stopped.
//! Its bytes lie below `u/` in the store until they are complete, and are then read once more on their way to the medium's own object,
//! which nobody has a URL for. Must not know HTTP, but for the bodies that bytes come in.

mod body;
mod checksum;
mod complete;
mod key;
mod parts;
mod record;
mod sweep;
mod take_over;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use isolation::TenantKey;
use storage::{ObjectPath, ObjectStore, S3Store};
use tokio::sync::OnceCell;
use uuid::Uuid;

use self::body::Pace;
pub use self::checksum::Checksum;
pub use self::complete::{COMPLETE_JOB, CompleteOrder, begin as begin_completing, complete, finish};
pub use self::key::SignedPart;
pub use self::parts::{NamedPart, PART_URLS_MAX, PartThere, PartUrl, part_bytes};
pub use self::record::{NewUpload, Protocol, State, Upload, abort, attach, find, insert, pieces};
pub use self::sweep::{due, see_to};
pub use self::take_over::take_over;
pub use self::writer::{Received, Writer};
use crate::config::ControlPlaneSettings;
use crate::media::Library;
use crate::places::{Full, Place, Places};
use crate::problem::ApiError;

/// What takes uploads in.
pub struct Incoming {
    /// Where media is kept.
    pub library: Library,
    /// How long an upload may take from its beginning to its end, over all its connections.
    pub lifetime: Duration,
    /// Most uploads of a tenant that are not over.
    pub open_max: i64,
    /// Those that may be received by us at the same time: each holds a piece of its bytes in memory.
    receiving: Arc<Places>,
    /// How fast their bytes have to come.
    pace: Pace,
    url_key: OnceCell<key::UrlKey>,
    /// What URLs of ours begin with; `None` where that is the host that a request names.
    api_url: Option<String>,
}

impl Incoming {
    /// With these settings.
    pub fn new(settings: &ControlPlaneSettings, library: Library) -> Self {
        let places = settings.uploads_receiving as usize;
        let api_url = settings.api_url.trim_end_matches('/');
        Self {
            library,
            lifetime: Duration::from_secs(settings.upload_hours * 3600),
            open_max: settings.uploads_open.into(),
            receiving: Arc::new(Places::new(places, places.div_ceil(4))),
            pace: Pace::new(Duration::from_secs(settings.upload_wait_seconds), settings.upload_bytes_per_second),
            url_key: OnceCell::new(),
            api_url: (!api_url.is_empty()).then(|| api_url.to_owned()),
        }
    }

    /// A path of ours as a URL, for somebody who has reached us at this host.
    pub fn url(&self, host: Option<&str>, path: &str) -> String {
        match (&self.api_url, host) {
            (Some(base), _) => format!("{base}{path}"),
            (None, Some(host)) => format!("http://{host}{path}"),
            (None, None) => path.to_owned(),
        }
    }

    /// What URLs of tus begin with: nothing, where clients find them by the host that they have asked.
    pub fn base_url(&self) -> &str {
        self.api_url.as_deref().unwrap_or_default()
    }

    /// A place among those that are received. A tenant has a quarter of them.
    ///
    /// # Errors
    /// [`ApiError::Busy`] and [`ApiError::TenantBusy`].
    pub fn place(&self, tenant: TenantKey) -> Result<Place, ApiError> {
        Places::take(&self.receiving, tenant).map_err(|full| match full {
            Full::Tenant => ApiError::TenantBusy { limit: self.receiving.of_tenant() },
            Full::All => ApiError::Busy,
        })
    }
}

/// The bucket, where there is one: it takes parts from others by itself.
fn bucket(store: &ObjectStore) -> Option<&S3Store> {
    match store {
        ObjectStore::S3(bucket) => Some(bucket),
        ObjectStore::Folder(_) => None,
    }
}

/// The one object that a bucket makes of a direct upload. It is called as the upload is.
fn whole_path(tenant: TenantKey, upload: Uuid) -> ObjectPath {
    uploads::incoming_path(tenant.as_uuid(), upload, upload)
}
