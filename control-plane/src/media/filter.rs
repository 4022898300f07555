//! Which media: what lists and orders are asked for, and what the database is.

use isolation::TenantTransaction;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::content::Kind;
use super::fields;
use super::row::{Row, select};
use super::state::MediaState;
use crate::problem::ApiError;

/// Which media a list has, or an order is about.
#[derive(Debug, Default, PartialEq)]
pub struct Filter {
    /// Those in this folder, and in none within it; `Some(None)` is the top.
    pub folder: Option<Option<String>>,
    /// Those with this tag.
    pub tag: Option<String>,
    /// Those of this kind.
    pub kind: Option<Kind>,
    /// Those whose public id starts so.
    pub public_id_prefix: Option<String>,
    /// Those in this state.
    pub state: Option<MediaState>,
    /// Those with a replacement in this state.
    pub replacement: Option<MediaState>,
}

/// The same as it is asked for: each medium has all of what is said.
#[derive(Debug, Default, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FilterFields {
    /// Those in this folder, and in none within it; empty is the top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<String>,
    /// Those with this tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// `image`, `video`, `audio`, `document` or `file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// `quarantined`, `processing`, `playable`, `ready`, `failed` or `rejected`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Those whose replacement is `quarantined` or `rejected`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement: Option<String>,
    /// What their public ids begin with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_id_prefix: Option<String>,
}

impl FilterFields {
    /// What is said, checked.
    ///
    /// # Errors
    /// [`ApiError::Field`].
    pub fn check(&self) -> Result<Filter, ApiError> {
        let mut filter = Filter::default();
        for (name, value) in [
            ("folder", &self.folder),
            ("tag", &self.tag),
            ("kind", &self.kind),
            ("state", &self.state),
            ("replacement", &self.replacement),
            ("public_id_prefix", &self.public_id_prefix),
        ] {
            if let Some(value) = value {
                filter.add(name, value)?;
            }
        }
        Ok(filter)
    }
}

impl Filter {
    /// Leaves out what is not so; whether there is anything of this name to go by.
    ///
    /// # Errors
    /// [`ApiError::Field`].
    pub fn add(&mut self, name: &str, value: &str) -> Result<bool, ApiError> {
        match name {
            "folder" => self.folder = Some(fields::folder(value)?.map(str::to_owned)),
            "tag" => {
                self.tag = Some(fields::tag(value).map_err(|_| ApiError::field("tag", "is a tag"))?.to_owned());
            }
            "kind" => {
                let why = "is image, video, audio, document or file";
                self.kind = Some(value.parse().map_err(|()| ApiError::field("kind", why))?);
            }
            "state" => {
                let why = "is quarantined, processing, playable, ready, failed or rejected";
                self.state = Some(value.parse().map_err(|()| ApiError::field("state", why))?);
            }
            "replacement" => {
                let state = value.parse().ok().filter(|state: &MediaState| !state.is_served());
                let refused = || ApiError::field("replacement", "is quarantined or rejected");
                self.replacement = Some(state.ok_or_else(refused)?);
            }
            // Whatever a public id can begin with is a public id by itself, but for a slash at its end.
            "public_id_prefix" => {
                fields::public_id(value.strip_suffix('/').unwrap_or(value))
                    .map_err(|_| ApiError::field("public_id_prefix", "is what a public id begins with"))?;
                self.public_id_prefix = Some(value.to_owned());
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Those in a folder, and in none within it; `None` is the top.
    pub fn in_folder(folder: Option<&str>) -> Self {
        Self { folder: Some(folder.map(str::to_owned)), ..Self::default() }
    }

    /// Whether a medium is one of these: the same as [`list`] goes by.
    pub fn has(&self, row: &Row) -> bool {
        let replacement = row.replacement.as_ref().and_then(|new| new.get("state")).and_then(Value::as_str);
        self.folder.as_ref().is_none_or(|folder| *folder == row.folder)
            && self.tag.as_ref().is_none_or(|tag| row.tags.contains(tag))
            && self.kind.is_none_or(|kind| kind.as_str() == row.kind)
            && self.public_id_prefix.as_ref().is_none_or(|prefix| row.public_id.starts_with(prefix.as_str()))
            && self.state.is_none_or(|state| state.as_str() == row.state)
            && self.replacement.is_none_or(|state| replacement == Some(state.as_str()))
    }
}

/// The newest media after this one, at most so many. What a list goes by first has an index, the rest is left out on the way.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn list(
    transaction: &mut TenantTransaction,
    filter: &Filter,
    after: Option<Uuid>,
    count: i64,
) -> Result<Vec<Row>, ApiError> {
    // Nothing is after the greatest id.
    let (after, kind) = (after.unwrap_or(Uuid::max()), filter.kind.map(Kind::as_str));
    let (folder, is_top) = (filter.folder.clone().flatten(), filter.folder == Some(None));
    let prefix = filter.public_id_prefix.as_deref();
    let (state, replacement) = (filter.state.map(MediaState::as_str), filter.replacement.map(MediaState::as_str));
    let connection = transaction.connection();
    let rows = if let Some(replacement) = replacement {
        let rows = select!(
            "JOIN replacements ON replacements.tenant_id = media.tenant_id AND replacements.media_id = media.id
             WHERE replacements.state = $1 AND replacements.media_id < $2
                 AND ($3::text IS NULL OR media.folder = $3) AND (NOT $4 OR media.folder IS NULL)
                 AND ($5::text IS NULL OR media.kind = $5) AND ($6::text IS NULL OR starts_with(media.public_id, $6))
                 AND ($7::text IS NULL OR media.state = $7) AND ($8::text IS NULL OR $8 = ANY (media.tags))
             ORDER BY replacements.media_id DESC LIMIT $9",
            replacement,
            after,
            folder,
            is_top,
            kind,
            prefix,
            state,
            filter.tag,
            count
        );
        rows.fetch_all(connection).await?
    } else if let Some(tag) = &filter.tag {
        let rows = select!(
            "JOIN media_tags ON media_tags.tenant_id = media.tenant_id AND media_tags.media_id = media.id
             WHERE media_tags.tag = $1 AND media_tags.media_id < $2
                 AND ($3::text IS NULL OR media.folder = $3) AND (NOT $4 OR media.folder IS NULL)
                 AND ($5::text IS NULL OR media.kind = $5) AND ($6::text IS NULL OR starts_with(media.public_id, $6))
                 AND ($7::text IS NULL OR media.state = $7)
             ORDER BY media_tags.media_id DESC LIMIT $8",
            tag,
            after,
            folder,
            is_top,
            kind,
            prefix,
            state,
            count
        );
        rows.fetch_all(connection).await?
    } else if let Some(prefix) = prefix {
        let rows = select!(
            "WHERE media.public_id BETWEEN $1 AND $1 || repeat(chr(1114111), 128) AND starts_with(media.public_id, $1)
                 AND media.id < $2
                 AND ($3::text IS NULL OR media.folder = $3) AND (NOT $4 OR media.folder IS NULL)
                 AND ($5::text IS NULL OR media.kind = $5) AND ($6::text IS NULL OR media.state = $6)
             ORDER BY media.id DESC LIMIT $7",
            prefix,
            after,
            folder,
            is_top,
            kind,
            state,
            count
        );
        rows.fetch_all(connection).await?
    } else if let Some(folder) = folder {
        let rows = select!(
            "WHERE media.folder = $1 AND media.id < $2 AND ($3::text IS NULL OR media.kind = $3)
                 AND ($4::text IS NULL OR media.state = $4)
             ORDER BY media.id DESC LIMIT $5",
            folder,
            after,
            kind,
            state,
            count
        );
        rows.fetch_all(connection).await?
    } else if is_top {
        let rows = select!(
            "WHERE media.folder IS NULL AND media.id < $1 AND ($2::text IS NULL OR media.kind = $2)
                 AND ($3::text IS NULL OR media.state = $3)
             ORDER BY media.id DESC LIMIT $4",
            after,
            kind,
            state,
            count
        );
        rows.fetch_all(connection).await?
    } else if let Some(state) = state {
        let rows = select!(
            "WHERE media.state = $1 AND media.id < $2 AND ($3::text IS NULL OR media.kind = $3)
             ORDER BY media.id DESC LIMIT $4",
            state,
            after,
            kind,
            count
        );
        rows.fetch_all(connection).await?
    } else if let Some(kind) = kind {
        let rows =
            select!("WHERE media.kind = $1 AND media.id < $2 ORDER BY media.id DESC LIMIT $3", kind, after, count);
        rows.fetch_all(connection).await?
    } else {
        let rows = select!("WHERE media.id < $1 ORDER BY media.id DESC LIMIT $2", after, count);
        rows.fetch_all(connection).await?
    };
    Ok(rows)
}

/// How many media there are at most that a list has. What folders and tags have is known; for the rest of a filter, it is less.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn at_most(transaction: &mut TenantTransaction, filter: &Filter) -> Result<u64, ApiError> {
    let folder = filter.folder.as_ref().map(|folder| folder.as_deref().unwrap_or_default());
    let most = sqlx::query_scalar!(
        r#"SELECT coalesce(least(
             (SELECT files FROM stored_totals),
             CASE WHEN $1::text IS NOT NULL THEN
                 coalesce((SELECT media FROM media_counts WHERE kind = 'folder' AND name = $1), 0) END,
             CASE WHEN $2::text IS NOT NULL THEN
                 coalesce((SELECT media FROM media_counts WHERE kind = 'tag' AND name = $2), 0) END
           ), 0) AS "most!""#,
        folder,
        filter.tag
    );
    Ok(most.fetch_one(transaction.connection()).await?.unsigned_abs())
}
