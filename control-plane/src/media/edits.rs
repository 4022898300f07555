//! What becomes of each of many media: the same words for all, and for each the change that makes them true.
//!
//! A medium that is so already is not changed, so that whatever is done twice is the same as done once. Must not know the database.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::fields;
use super::orders::expires_at;
use super::record::Change;
use super::row::Row;
use crate::problem::ApiError;

/// What becomes of each medium.
#[derive(Debug)]
pub enum Edit {
    /// It is deleted.
    Delete,
    /// Something else is said of it.
    Say(Words),
}

/// What is said of each medium; what is empty stays as it is.
#[derive(Debug, Default)]
pub struct Words {
    /// The folder that it goes into; `Some(None)` is the top.
    pub folder: Option<Option<String>>,
    /// All tags that it has, before others are taken away and added.
    pub tags: Option<Vec<String>>,
    /// Tags that it loses.
    pub remove_tags: Vec<String>,
    /// Tags that it gets.
    pub add_tags: Vec<String>,
    /// Keys of metadata; `null` takes one away.
    pub metadata: Map<String, Value>,
    /// When it ends; `Some(None)` is never.
    pub expires_at: Option<Option<OffsetDateTime>>,
}

impl Words {
    /// What has to change of a medium; `None` when all is so already.
    ///
    /// # Errors
    /// [`ApiError::Field`] when it would be more than may be said of a medium.
    pub fn change(&self, row: &Row) -> Result<Option<Change>, ApiError> {
        let folder = self.folder.clone().filter(|folder| *folder != row.folder);
        let expires_at = self.expires_at.filter(|expires_at| *expires_at != row.expires_at);
        let (tags, metadata) = (self.tags_of(&row.tags)?, self.metadata_of(&row.metadata)?);
        let is_none = folder.is_none() && expires_at.is_none() && tags.is_none() && metadata.is_none();
        Ok((!is_none).then(|| Change { folder, tags, metadata, expires_at, ..Change::default() }))
    }

    fn tags_of(&self, before: &[String]) -> Result<Option<Vec<String>>, ApiError> {
        if self.tags.is_none() && self.remove_tags.is_empty() && self.add_tags.is_empty() {
            return Ok(None);
        }
        let kept = self.tags.as_deref().unwrap_or(before).iter().filter(|tag| !self.remove_tags.contains(tag));
        let tags = fields::tags(kept.chain(&self.add_tags).map(String::as_str))?;
        Ok((tags != before).then_some(tags))
    }

    fn metadata_of(&self, before: &Value) -> Result<Option<Map<String, Value>>, ApiError> {
        let mut merged = before.clone();
        if let Value::Object(merged) = &mut merged {
            for (key, value) in &self.metadata {
                match value {
                    Value::Null => merged.remove(key),
                    value => merged.insert(key.clone(), value.clone()),
                };
            }
        }
        if merged == *before { Ok(None) } else { fields::metadata(merged).map(Some) }
    }
}

/// The same as it is ordered; what is left out stays as it is.
#[derive(Debug, Default, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EditFields {
    /// Empty is the top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// All that each has, before the others are taken away and added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Taken away first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove_tags: Vec<String>,
    /// Added then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_tags: Vec<String>,
    /// Put over what each has, key by key; `null` takes a key away.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
    /// `null` takes it away.
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Option<String>>,
}

impl EditFields {
    /// What is said, checked.
    ///
    /// # Errors
    /// [`ApiError::Field`].
    pub fn check(&self) -> Result<Words, ApiError> {
        let tags = |tags: &[String]| fields::tags(tags.iter().map(String::as_str));
        let words = Words {
            folder: self
                .folder
                .as_deref()
                .map(|path| fields::folder(path).map(|path| path.map(str::to_owned)))
                .transpose()?,
            tags: self.tags.as_deref().map(tags).transpose()?,
            remove_tags: tags(&self.remove_tags)?,
            add_tags: tags(&self.add_tags)?,
            metadata: fields::metadata(Value::Object(self.metadata.clone()))?,
            expires_at: self.expires_at.as_ref().map(|at| at.as_deref().map(expires_at).transpose()).transpose()?,
        };
        let says_nothing = words.folder.is_none()
            && words.tags.is_none()
            && words.remove_tags.is_empty()
            && words.add_tags.is_empty()
            && words.metadata.is_empty()
            && words.expires_at.is_none();
        if says_nothing { Err(ApiError::field("set", "says at least one thing")) } else { Ok(words) }
    }
}

/// A field that is there, `null` or not.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}
