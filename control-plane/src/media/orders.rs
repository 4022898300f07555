//! What workers are told to do with media: checked when it is ordered, and again when it is done.

use fetch::Url;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::ToSchema;
use uuid::Uuid;

use super::edits::{Edit, EditFields, Words};
use super::fields::{self, Fields};
use super::filter::{Filter, FilterFields};
use crate::problem::ApiError;

/// Most media of a batch that are named one by one.
const BATCH_MAX: usize = 1000;

/// Longest URL that is fetched, in bytes.
const URL_BYTES_MAX: usize = 2048;

/// The same to many media: to those of these ids, or to all that a filter has.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    action: Action,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ids: Option<Vec<Uuid>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filter: Option<FilterFields>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tags: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    folder: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    set: Option<EditFields>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Action {
    Delete,
    Tag,
    Untag,
    Move,
    Set,
}

/// Which media an order is about.
#[derive(Debug)]
pub enum Selection {
    /// Those of these ids, in their order.
    Ids(Vec<Uuid>),
    /// Those of a list.
    Filter(Filter),
}

impl Batch {
    /// The kind of jobs that do it.
    pub const JOB: &str = "media_batch";

    /// Whatever has this tag gets another one instead.
    pub fn rename_tag(from: &str, to: &str) -> Self {
        let set =
            EditFields { remove_tags: vec![from.to_owned()], add_tags: vec![to.to_owned()], ..EditFields::default() };
        Self { set: Some(set), ..Self::of_tag(Action::Set, from) }
    }

    /// Whatever has this tag loses it.
    pub fn remove_tag(tag: &str) -> Self {
        Self { tags: Some(vec![tag.to_owned()]), ..Self::of_tag(Action::Untag, tag) }
    }

    fn of_tag(action: Action, tag: &str) -> Self {
        let filter = FilterFields { tag: Some(tag.to_owned()), ..FilterFields::default() };
        Self { action, ids: None, filter: Some(filter), tags: None, folder: None, set: None }
    }

    /// Which media, each once, and what becomes of them.
    ///
    /// # Errors
    /// [`ApiError::Field`].
    pub fn check(&self) -> Result<(Selection, Edit), ApiError> {
        Ok((self.selection()?, self.edit()?))
    }

    fn selection(&self) -> Result<Selection, ApiError> {
        match (&self.ids, &self.filter) {
            (Some(ids), None) if (1..=BATCH_MAX).contains(&ids.len()) => {
                let ids: std::collections::BTreeSet<Uuid> = ids.iter().copied().collect();
                Ok(Selection::Ids(ids.into_iter().collect()))
            }
            (Some(_), None) => Err(ApiError::field("ids", format!("are 1 to {BATCH_MAX}"))),
            (None, Some(filter)) => match filter.check()? {
                // Whoever forgets to say which must not lose all.
                filter if filter == Filter::default() => Err(ApiError::field("filter", "says at least one thing")),
                filter => Ok(Selection::Filter(filter)),
            },
            _ => Err(ApiError::field("ids", "or a filter says which media, and not both")),
        }
    }

    fn edit(&self) -> Result<Edit, ApiError> {
        let is_of = |actions: &[Action]| actions.contains(&self.action);
        let takes_tags = is_of(&[Action::Tag, Action::Untag]);
        if self.tags.is_some() != takes_tags {
            return Err(ApiError::field("tags", "belong to the actions \"tag\" and \"untag\""));
        }
        if self.folder.is_some() != is_of(&[Action::Move]) {
            return Err(ApiError::field("folder", "belongs to the action \"move\""));
        }
        if self.set.is_some() != is_of(&[Action::Set]) {
            return Err(ApiError::field("set", "belongs to the action \"set\""));
        }
        let tags = fields::tags(self.tags.iter().flatten().map(String::as_str))?;
        if takes_tags && tags.is_empty() {
            return Err(ApiError::field("tags", "are at least one"));
        }
        let folder = self.folder.as_deref().map(|path| fields::folder(path).map(|path| path.map(str::to_owned)));
        Ok(match (self.action, &self.set) {
            (Action::Delete, _) => Edit::Delete,
            (Action::Set, Some(set)) => Edit::Say(set.check()?),
            (Action::Tag, _) => Edit::Say(Words { add_tags: tags, ..Words::default() }),
            (Action::Untag, _) => Edit::Say(Words { remove_tags: tags, ..Words::default() }),
            (Action::Move | Action::Set, _) => Edit::Say(Words { folder: folder.transpose()?, ..Words::default() }),
        })
    }
}

/// A folder of another name, or in another place, with all that is in it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FolderMove {
    from: String,
    to: String,
}

impl FolderMove {
    /// The kind of jobs that do it.
    pub const JOB: &str = "folder_move";

    /// From where, and to where.
    ///
    /// # Errors
    /// [`ApiError::Field`]; [`ApiError::NotFound`] for what no folder can be called.
    pub fn check(&self) -> Result<(&str, &str), ApiError> {
        let path = |name, text| match fields::folder(text) {
            Ok(Some(path)) => Ok(path),
            Ok(None) => Err(ApiError::field(name, "is a folder, and not the top")),
            Err(ApiError::Field { why, .. }) => Err(ApiError::Field { name, why }),
            Err(error) => Err(error),
        };
        let (from, to) = (path("from", &self.from)?, path("to", &self.to)?);
        let is_in = |one: &str, other: &str| one.strip_prefix(other).is_some_and(|rest| rest.starts_with('/'));
        // What is within would be meant by two names at once, or the place be gone before all is there.
        if from == to || is_in(to, from) || is_in(from, to) {
            return Err(ApiError::field("to", "is another folder than \"from\", and neither is in the other"));
        }
        Ok((from, to))
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
