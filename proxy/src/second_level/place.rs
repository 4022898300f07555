//! Where the second level is: settings, and the store made from them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use bootstrap::config::Mistakes;
use serde::{Deserialize, Serialize};
use storage::{FolderStore, ObjectStore};
use tenancy::{S3Origin, Secret};

use crate::origins::open_s3;

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
    #[serde(serialize_with = "hidden")]
    pub secret_access_key: Option<Secret>,
    /// Days for which a rendition there is used. Purges are remembered as long.
    pub days: u32,
}

impl Default for SecondLevelTable {
    fn default() -> Self {
        Self {
            folder: None,
            bucket: None,
            prefix: String::new(),
            region: "us-east-1".to_owned(),
            endpoint: None,
            access_key_id: None,
            secret_access_key: None,
            days: 30,
        }
    }
}

fn hidden<S: serde::Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|_| "…").serialize(serializer)
}

impl SecondLevelTable {
    /// Adds what is wrong with it.
    pub fn check(&self, mistakes: &mut Mistakes) {
        let both = self.folder.is_some() && self.bucket.is_some();
        mistakes.unless(!both, "second_level.bucket", "…", "not together with second_level.folder");
        mistakes.unless((1..=365).contains(&self.days), "second_level.days", self.days, "1 to 365");
        let is_url = |url: &String| url.starts_with("http://") || url.starts_with("https://");
        mistakes.unless(
            self.endpoint.as_ref().is_none_or(is_url),
            "second_level.endpoint",
            self.endpoint.as_deref().unwrap_or_default(),
            "a URL that starts with http:// or https://",
        );
        mistakes.unless(
            self.access_key_id.is_some() == self.secret_access_key.is_some(),
            "second_level.access_key_id",
            "…",
            "together with second_level.secret_access_key, or neither",
        );
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
        if let Some(folder) = &self.folder {
            return Ok(Some(FolderStore::open(folder).context("second_level.folder")?.into()));
        }
        let Some(bucket) = self.bucket.clone() else { return Ok(None) };
        let origin = S3Origin {
            bucket,
            prefix: self.prefix.clone(),
            region: self.region.clone(),
            endpoint: self.endpoint.clone(),
            path_style: None,
            access_key_id: self.access_key_id.clone(),
            secret_access_key: self.secret_access_key.clone(),
        };
        open_s3(&origin).map(Some).map_err(|reason| anyhow::anyhow!("second_level: {reason}"))
    }
}
