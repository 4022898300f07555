//! Where the second level is: settings, and the store made from them.

use std::path::PathBuf;
use std::time::Duration;

use bootstrap::config::Mistakes;
use serde::{Deserialize, Serialize};
use storage::{ObjectStore, Secret, StoreSettings};

/// Settings of the second level: a bucket or a folder that nobody but the edges can write to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecondLevelTable {
    /// A folder, shared by some file system. It must exist.
    pub folder: Option<PathBuf>,
    /// A bucket.
    pub bucket: Option<String>,
    /// Put before each name in the bucket.
    pub prefix: String,
    /// Region of the bucket.
    pub region: String,
    /// Base URL of a store that is not AWS.
    pub endpoint: Option<String>,
    /// Public part of the key pair; without it the environment's is used.
    pub access_key_id: Option<String>,
    /// Secret part of the key pair.
    pub secret_access_key: Option<Secret>,
    /// Days for which a rendition there is used. Purges are remembered as long.
    pub days: u32,
}

impl Default for SecondLevelTable {
    fn default() -> Self {
        let StoreSettings { folder, bucket, prefix, region, endpoint, access_key_id, secret_access_key } =
            StoreSettings::default();
        Self { folder, bucket, prefix, region, endpoint, access_key_id, secret_access_key, days: 30 }
    }
}

impl SecondLevelTable {
    fn store(&self) -> StoreSettings {
        let Self { folder, bucket, prefix, region, endpoint, access_key_id, secret_access_key, days: _ } = self.clone();
        StoreSettings { folder, bucket, prefix, region, endpoint, access_key_id, secret_access_key }
    }

    /// Adds what is wrong with it.
    pub fn check(&self, mistakes: &mut Mistakes) {
        for (key, value, allowed) in self.store().mistakes() {
            mistakes.add(format!("second_level.{key}"), value, allowed);
        }
        mistakes.unless((1..=365).contains(&self.days), "second_level.days", self.days, "1 to 365");
    }

    /// For how long what is there is used.
    pub fn retention(&self) -> Duration {
        Duration::from_secs(u64::from(self.days) * 86_400)
    }

    /// The store; `None` if neither a folder nor a bucket is named.
    ///
    /// # Errors
    /// A folder that is not there, or settings that make no client.
    pub fn open(&self) -> anyhow::Result<Option<ObjectStore>> {
        self.store().open().map_err(|reason| anyhow::anyhow!("second_level.{reason}"))
    }
}
