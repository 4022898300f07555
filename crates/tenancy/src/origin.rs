//! Named origins: where a tenant's originals are.
//!
//! Must not open anything: the edge turns an [`Origin`] into an object store.

use std::path::PathBuf;

use serde::Deserialize;

use crate::{HttpOrigin, Secret};

/// A named origin of a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// What it is.
    pub kind: OriginKind,
    /// Tags of all its pictures, by which they can be purged.
    pub tags: Vec<String>,
}

impl Origin {
    /// A text that changes when the origin means other objects, and stays when only its credentials change.
    /// It belongs in cache keys: the same path under another bucket is another picture.
    pub fn identity(&self) -> String {
        match &self.kind {
            OriginKind::Folder(path) => format!("folder\n{}", path.display()),
            OriginKind::Http(http) => format!("http\n{}", http.base_url),
            OriginKind::S3(s3) => {
                format!("s3\n{}\n{}\n{}", s3.endpoint.as_deref().unwrap_or(&s3.region), s3.bucket, s3.prefix)
            }
        }
    }
}

/// The kinds of origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginKind {
    /// A folder of this machine; nothing outside of it is served, by no spelling and no symlink.
    Folder(PathBuf),
    /// A bucket of an S3-compatible store.
    S3(S3Origin),
    /// A base URL of a web server.
    Http(HttpOrigin),
}

/// A bucket, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Origin {
    /// The bucket's name.
    pub bucket: String,
    /// Put before each path; ends in `/` if it is to be a folder.
    #[serde(default)]
    pub prefix: String,
    /// Region for the signature.
    #[serde(default = "default_region")]
    pub region: String,
    /// Base URL of a store that is not AWS.
    pub endpoint: Option<String>,
    /// Bucket in the path instead of the host name; the default is true with an `endpoint`.
    pub path_style: Option<bool>,
    /// Public part of the key pair; left out, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and
    /// `AWS_SESSION_TOKEN` of the environment are used.
    pub access_key_id: Option<String>,
    /// Secret part of the key pair.
    pub secret_access_key: Option<Secret>,
}

fn default_region() -> String {
    "us-east-1".to_owned()
}
