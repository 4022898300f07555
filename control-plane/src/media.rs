//! Media: what a tenant has uploaded. Its bytes are in the object store, a row of the database says what it is, and a pointer in
//! the store tells edges what its public id means.
//!
//! Bytes come first, then the row, then the pointer: whoever is killed in between, nothing that was acknowledged is lost, and what
//! nothing leads to is swept (`migrations/0004_media.sql`). Must not know HTTP, so that workers use it as routes do.

mod bulk;
mod bytes_url;
mod content;
mod copy;
mod dimensions;
mod edits;
mod fields;
mod filter;
mod folders;
mod intake;
mod judging;
mod orders;
mod publish;
mod record;
mod replace;
mod review;
mod row;
mod state;

use std::time::Duration;

use isolation::Database;
use storage::ObjectStore;

pub use self::bulk::{Bulk, Checkpoint, NOW_MEDIA_MAX, Tally};
pub use self::bytes_url::BytesUrls;
pub use self::content::{Kind, extension};
pub use self::copy::CopyOrder;
pub use self::fields::{Fields, filename, folder, metadata, public_id, tag, tags, time_to_come};
pub use self::filter::{Filter, list};
pub use self::folders::{CountedFolder, count, make_folder, tree};
pub use self::intake::{Intake, Taken, sweep};
pub use self::judging::{Next, Question, ScanOrder, answer, described, next};
pub use self::orders::{Batch, Description, FetchOrder, FolderMove, expires_at};
pub use self::publish::{Published, Publisher, hexadecimal};
pub use self::record::{Change, NewMedia, change, create, delete, delete_expired, insert, publish_all, published};
pub use self::replace::{replace, replace_in};
pub use self::review::{reason, reject, release, scan_again};
pub use self::row::{Media, Row, find, find_all, find_by_public_id, is_published};
use crate::config::ControlPlaneSettings;
use crate::problem::ApiError;

/// Where media is kept, and what is allowed of it.
#[derive(Debug, Clone)]
pub struct Library {
    store: Option<ObjectStore>,
    database: Database,
    /// Most bytes of a file.
    pub bytes_max: u64,
    /// How long an upload may take.
    pub upload_time: Duration,
    /// How long bytes are kept that were rejected.
    pub rejected_time: Duration,
    delivery_url: String,
}

impl Library {
    /// That of the settings.
    ///
    /// # Errors
    /// When its store cannot be opened.
    pub fn open(settings: &ControlPlaneSettings, database: Database) -> anyhow::Result<Self> {
        let store = settings.uploads.open().map_err(|why| anyhow::anyhow!("control-plane.uploads: {why}"))?;
        Ok(Self {
            store,
            database,
            bytes_max: settings.upload_bytes,
            upload_time: Duration::from_secs(settings.upload_seconds),
            rejected_time: Duration::from_secs(settings.rejected_days * 24 * 3600),
            delivery_url: settings.delivery_url.trim_end_matches('/').to_owned(),
        })
    }

    /// The store.
    ///
    /// # Errors
    /// [`ApiError::NoStore`].
    pub fn store(&self) -> Result<&ObjectStore, ApiError> {
        self.store.as_ref().ok_or(ApiError::NoStore)
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// What writes pointers.
    ///
    /// # Errors
    /// [`ApiError::NoStore`].
    pub fn publisher(&self) -> Result<Publisher<'_>, ApiError> {
        Ok(Publisher::new(&self.database, self.store()?))
    }
}
