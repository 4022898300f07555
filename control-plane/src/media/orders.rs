//! What workers are told to do with media: checked when it is ordered, and again when it is done.

use fetch::Url;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;
use uuid::Uuid;

use super::fields::{self, Fields};
use crate::problem::ApiError;

/// Most media of a batch.
const BATCH_MAX: usize = 1000;

/// Longest URL that is fetched, in bytes.
const URL_BYTES_MAX: usize = 2048;

/// The same change to many media.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    action: Action,
    ids: Vec<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tags: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    folder: Option<String>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Action {
    Delete,
    Tag,
    Untag,
    Move,
}

/// What becomes of each medium of a batch.
#[derive(Debug)]
pub enum Step {
    /// It is deleted.
    Delete,
    /// It gets these tags.
    Tag(Vec<String>),
    /// It loses these tags.
    Untag(Vec<String>),
    /// It goes into this folder; `None` is the top.
    Move(Option<String>),
}

impl Batch {
    /// The kind of jobs that do it.
    pub const JOB: &str = "media_batch";

    /// Which media, each once, and what becomes of them.
    ///
    /// # Errors
    /// [`ApiError::Field`].
    pub fn check(&self) -> Result<(Vec<Uuid>, Step), ApiError> {
        if !(1..=BATCH_MAX).contains(&self.ids.len()) {
            return Err(ApiError::field("ids", format!("are 1 to {BATCH_MAX}")));
        }
        let (takes_tags, takes_folder) = match self.action {
            Action::Delete => (false, false),
            Action::Tag | Action::Untag => (true, false),
            Action::Move => (false, true),
        };
        if self.tags.is_some() != takes_tags {
            return Err(ApiError::field("tags", "belong to the actions \"tag\" and \"untag\""));
        }
        if self.folder.is_some() != takes_folder {
            return Err(ApiError::field("folder", "belongs to the action \"move\""));
        }
        let tags = fields::tags(self.tags.iter().flatten().map(String::as_str))?;
        if takes_tags && tags.is_empty() {
            return Err(ApiError::field("tags", "are at least one"));
        }
        let folder = self.folder.as_deref().map(fields::folder).transpose()?.flatten().map(str::to_owned);
        let step = match self.action {
            Action::Delete => Step::Delete,
            Action::Tag => Step::Tag(tags),
            Action::Untag => Step::Untag(tags),
            Action::Move => Step::Move(folder),
        };
        let ids: std::collections::BTreeSet<Uuid> = self.ids.iter().copied().collect();
        Ok((ids.into_iter().collect(), step))
    }
}

/// A medium out of what is at a URL.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FetchOrder {
    url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    folder: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

impl FetchOrder {
    /// The kind of jobs that do it.
    pub const JOB: &str = "media_fetch";

    /// Where it is, and what is said of it.
    ///
    /// # Errors
    /// [`ApiError::Field`].
    pub fn check(&self) -> Result<(Url, Fields), ApiError> {
        let refused = |why: String| ApiError::field("url", why);
        if self.url.len() > URL_BYTES_MAX {
            return Err(refused(format!("is at most {URL_BYTES_MAX} bytes")));
        }
        let url = fetch::parse_url(&self.url).map_err(|error| refused(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
            return Err(refused("is an http or https URL without a user".to_owned()));
        }
        let Self { public_id, folder, tags, metadata, expires_at, .. } = self.clone();
        Ok((url, Description { public_id, folder, tags, metadata, expires_at }.check()?))
    }
}

/// What is said of a medium whose bytes come later, as it is kept until then.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Its name in URLs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_id: Option<String>,
    /// The folder that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Its tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// A JSON object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Value>,
    /// When it ends, as in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

impl Description {
    /// What is said, checked.
    ///
    /// # Errors
    /// [`ApiError::Field`].
    pub fn check(&self) -> Result<Fields, ApiError> {
        let folder = self.folder.as_deref().map(fields::folder).transpose()?.flatten();
        Ok(Fields {
            public_id: self.public_id.as_deref().map(fields::public_id).transpose()?,
            folder: folder.map(str::to_owned),
            tags: fields::tags(self.tags.iter().map(String::as_str))?,
            metadata: self.metadata.clone().map(fields::metadata).transpose()?.unwrap_or_default(),
            expires_at: self.expires_at.as_deref().map(expires_at).transpose()?,
        })
    }
}

/// When a medium ends, as text.
///
/// # Errors
/// [`ApiError::Field`].
pub fn expires_at(text: &str) -> Result<OffsetDateTime, ApiError> {
    let why = "is a time as in RFC 3339: 2030-01-31T12:00:00Z";
    let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| ApiError::field("expires_at", why))?;
    fields::time_to_come(at)
}
