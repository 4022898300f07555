//! A store as an operator writes it down: a folder or a bucket, for the settings of whoever keeps something of its own.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{FolderStore, ObjectPath, ObjectStore, PartSize, S3Config, S3Credentials, S3Store, Secret};

/// A folder or a bucket; neither is no store.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSettings {
    /// A folder. It must exist.
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
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            folder: None,
            bucket: None,
            prefix: String::new(),
            region: "us-east-1".to_owned(),
            endpoint: None,
            access_key_id: None,
            secret_access_key: None,
        }
    }
}

impl StoreSettings {
    /// What is wrong: the key, its value if that is not secret, and what is allowed.
    pub fn mistakes(&self) -> impl Iterator<Item = (&'static str, String, &'static str)> {
        let is_url = |url: &String| url.starts_with("http://") || url.starts_with("https://");
        let both = self.folder.is_some() && self.bucket.is_some();
        let both = both.then(|| ("bucket", "…".to_owned(), "not together with folder"));
        let endpoint = self.endpoint.clone().filter(|endpoint| !is_url(endpoint));
        let endpoint = endpoint.map(|endpoint| ("endpoint", endpoint, "a URL that starts with http:// or https://"));
        let half = self.access_key_id.is_some() != self.secret_access_key.is_some();
        let half = half.then(|| ("access_key_id", "…".to_owned(), "together with secret_access_key, or neither"));
        both.into_iter().chain(endpoint).chain(half)
    }

    /// The store; `None` if neither a folder nor a bucket is named.
    ///
    /// # Errors
    /// Why it cannot be opened: a folder that is not there, or settings that make no client. Whether a bucket answers shows later.
    pub fn open(&self) -> Result<Option<ObjectStore>, String> {
        if let Some(folder) = &self.folder {
            let opened = FolderStore::open(folder).map_err(|error| format!("folder: {error}"))?;
            return Ok(Some(opened.into()));
        }
        let Some(config) = self.s3()? else { return Ok(None) };
        S3Store::new(config).map(|store| Some(store.into())).map_err(|error| error.to_string())
    }

    /// The bucket as a client is made of it; `None` if none is named.
    ///
    /// # Errors
    /// A prefix that is none.
    pub fn s3(&self) -> Result<Option<S3Config>, String> {
        let Some(bucket) = &self.bucket else { return Ok(None) };
        let credentials = match (&self.access_key_id, &self.secret_access_key) {
            (Some(id), Some(secret)) => S3Credentials::new(id, secret.clone()),
            _ => S3Credentials::Environment,
        };
        let mut config = S3Config::new(bucket, credentials);
        let prefix = self.prefix.trim_end_matches('/');
        if !prefix.is_empty() {
            config.prefix = Some(ObjectPath::new(prefix).map_err(|error| format!("prefix: {error}"))?);
        }
        config.endpoint.clone_from(&self.endpoint);
        config.region.clone_from(&self.region);
        // Streams come from many clients at once, each of which takes three parts of memory.
        config.limits.part_size = PartSize::MIN;
        Ok(Some(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_told_and_no_secret() {
        let settings = StoreSettings {
            folder: Some("/x".into()),
            bucket: Some("y".into()),
            endpoint: Some("ftp://z".into()),
            secret_access_key: Some(Secret::new("hunter2")),
            ..StoreSettings::default()
        };
        let keys: Vec<_> = settings.mistakes().map(|(key, ..)| key).collect();
        assert_eq!(keys, ["bucket", "endpoint", "access_key_id"]);
        assert_eq!(StoreSettings::default().mistakes().count(), 0);
        let told = format!("{settings:?} {}", serde_json::to_string(&settings).expect("settings are JSON"));
        assert!(!told.contains("hunter2"), "{told}");
    }

    #[test]
    fn no_store_is_no_mistake_and_a_missing_folder_is_one() {
        assert!(matches!(StoreSettings::default().open(), Ok(None)));
        let missing = StoreSettings { folder: Some("/nowhere/at/all".into()), ..StoreSettings::default() };
        assert!(missing.open().expect_err("not there").contains("folder"));
        let bucket = StoreSettings {
            bucket: Some("b".into()),
            endpoint: Some("http://127.0.0.1:1".into()),
            access_key_id: Some("a".into()),
            secret_access_key: Some(Secret::new("s")),
            prefix: "x/".into(),
            ..StoreSettings::default()
        };
        assert!(matches!(bucket.open(), Ok(Some(ObjectStore::S3(_)))));
    }
}
