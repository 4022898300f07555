//! Collections: media put together by hand, in an order of its own. A medium may be in any number of them.
//!
//! Must not change media: a collection only names it.

mod members;
mod place;

use isolation::TenantTransaction;
use serde::Serialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

pub use self::members::{Membership, Place, list_members, put, remove};
use crate::etag::Condition;
use crate::problem::ApiError;

/// Most collections of a tenant.
const COLLECTIONS_MAX: i64 = 10_000;

/// Most bytes of a name.
const NAME_BYTES_MAX: usize = 255;

/// Most bytes of a description.
const DESCRIPTION_BYTES_MAX: usize = 4096;

/// What is called when there is none.
const COLLECTION: &str = "collection";

/// A collection.
#[derive(Debug, Serialize, ToSchema)]
pub struct Collection {
    /// Its unchanging id.
    pub id: Uuid,
    name: String,
    description: String,
    metadata: Value,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// When it was last changed, or what is in it.
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
    /// Grows with each change.
    #[serde(skip)]
    pub version: i64,
}

/// A collection, and how much is in it.
#[derive(Debug, Serialize, ToSchema)]
pub struct CountedCollection {
    /// The collection.
    #[serde(flatten)]
    pub collection: Collection,
    media_count: i64,
    /// Of all media in it.
    bytes: i64,
}

/// What is said of a collection; what is `None` stays as it is.
#[derive(Debug, Default)]
pub struct Said {
    /// What people call it.
    pub name: Option<String>,
    /// What it is about.
    pub description: Option<String>,
    /// Whatever the tenant wants to know.
    pub metadata: Option<Map<String, Value>>,
}

/// What people call a collection.
///
/// # Errors
/// [`ApiError::Field`].
pub fn name(text: &str) -> Result<String, ApiError> {
    let name = text.trim();
    let is_allowed = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    let why = || format!("is 1 to {NAME_BYTES_MAX} bytes without control characters");
    if is_allowed { Ok(name.to_owned()) } else { Err(ApiError::field("name", why())) }
}

/// What a collection is about, in any number of lines.
///
/// # Errors
/// [`ApiError::Field`].
pub fn description(text: &str) -> Result<String, ApiError> {
    let is_allowed = text.len() <= DESCRIPTION_BYTES_MAX && !text.chars().any(|c| c.is_control() && c != '\n');
    let why = || format!("is at most {DESCRIPTION_BYTES_MAX} bytes without control characters but line breaks");
    if is_allowed { Ok(text.to_owned()) } else { Err(ApiError::field("description", why())) }
}

/// Makes a collection that nothing is in.
///
/// # Errors
/// [`ApiError::Field`] when the tenant has as many as it may.
pub async fn create(transaction: &mut TenantTransaction, said: Said) -> Result<Collection, ApiError> {
    let count = sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM collections"#);
    if count.fetch_one(transaction.connection()).await? >= COLLECTIONS_MAX {
        let why = format!("a tenant has at most {COLLECTIONS_MAX} collections: delete one");
        return Err(ApiError::field("name", why));
    }
    let tenant = transaction.tenant().as_uuid();
    let made = sqlx::query_as!(
        Collection,
        "INSERT INTO collections (tenant_id, id, name, description, metadata) VALUES ($1, $2, $3, $4, $5)
         RETURNING id, name, description, metadata, created_at, updated_at, version",
        tenant,
        Uuid::now_v7(),
        said.name.unwrap_or_default(),
        said.description.unwrap_or_default(),
        Value::Object(said.metadata.unwrap_or_default())
    );
    Ok(made.fetch_one(transaction.connection()).await?)
}

/// The newest collections after this one, at most so many; of those that a medium is in, if one is named.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn list(
    transaction: &mut TenantTransaction,
    media: Option<Uuid>,
    after: Option<Uuid>,
    count: i64,
) -> Result<Vec<Collection>, ApiError> {
    // Nothing is after the greatest id.
    let after = after.unwrap_or(Uuid::max());
    let found = match media {
        None => {
            let found = sqlx::query_as!(
                Collection,
                "SELECT id, name, description, metadata, created_at, updated_at, version FROM collections
                 WHERE id < $1 ORDER BY id DESC LIMIT $2",
                after,
                count
            );
            found.fetch_all(transaction.connection()).await?
        }
        Some(media) => {
            let found = sqlx::query_as!(
                Collection,
                "SELECT id, name, description, metadata, created_at, updated_at, version FROM collections
                 JOIN collection_media ON collection_media.tenant_id = collections.tenant_id
                     AND collection_media.collection_id = collections.id
                 WHERE collection_media.media_id = $1 AND collection_media.collection_id < $2
                 ORDER BY collection_media.collection_id DESC LIMIT $3",
                media,
                after,
                count
            );
            found.fetch_all(transaction.connection()).await?
        }
    };
    Ok(found)
}

/// The collection of this id.
///
/// # Errors
/// [`ApiError::NotFound`].
pub async fn find(transaction: &mut TenantTransaction, id: Uuid) -> Result<CountedCollection, ApiError> {
    let found = sqlx::query_as!(
        Collection,
        "SELECT id, name, description, metadata, created_at, updated_at, version FROM collections WHERE id = $1",
        id
    );
    let found = found.fetch_optional(transaction.connection()).await?;
    let collection = found.ok_or(ApiError::NotFound(COLLECTION))?;
    let sums = sqlx::query!(
        r#"SELECT count(*) AS "media_count!", coalesce(sum(media.bytes), 0)::bigint AS "bytes!"
           FROM collection_media
           JOIN media ON media.tenant_id = collection_media.tenant_id AND media.id = collection_media.media_id
           WHERE collection_media.collection_id = $1"#,
        id
    );
    let sums = sums.fetch_one(transaction.connection()).await?;
    Ok(CountedCollection { collection, media_count: sums.media_count, bytes: sums.bytes })
}

/// Changes what is said of a collection.
///
/// # Errors
/// [`ApiError::NotFound`] and [`ApiError::Changed`].
pub async fn change(
    transaction: &mut TenantTransaction,
    id: Uuid,
    condition: Condition,
    said: Said,
) -> Result<Collection, ApiError> {
    lock(transaction, id, condition).await?;
    let changed = sqlx::query_as!(
        Collection,
        "UPDATE collections SET
             name = coalesce($2, name),
             description = coalesce($3, description),
             metadata = coalesce($4, metadata),
             version = version + 1,
             updated_at = now()
         WHERE id = $1
         RETURNING id, name, description, metadata, created_at, updated_at, version",
        id,
        said.name,
        said.description,
        said.metadata.map(Value::Object)
    );
    Ok(changed.fetch_one(transaction.connection()).await?)
}

/// Deletes a collection, and nothing that is in it.
///
/// # Errors
/// [`ApiError::NotFound`] and [`ApiError::Changed`].
pub async fn delete(transaction: &mut TenantTransaction, id: Uuid, condition: Condition) -> Result<(), ApiError> {
    lock(transaction, id, condition).await?;
    sqlx::query!("DELETE FROM collections WHERE id = $1", id).execute(transaction.connection()).await?;
    Ok(())
}

/// Keeps others from changing it, or what is in it, before this transaction ends.
async fn lock(transaction: &mut TenantTransaction, id: Uuid, condition: Condition) -> Result<(), ApiError> {
    let version = sqlx::query_scalar!("SELECT version FROM collections WHERE id = $1 FOR UPDATE", id);
    let version = version.fetch_optional(transaction.connection()).await?.ok_or(ApiError::NotFound(COLLECTION))?;
    condition.check(Some(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_say_of_a_collection_is_text() {
        assert_eq!(name(" Summer / 2026 ").expect("a name"), "Summer / 2026");
        for bad in ["", "  ", "a\nb", "a\0", &"é".repeat(128)] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
        assert_eq!(description("one\ntwo").expect("lines"), "one\ntwo");
        for bad in ["a\0", "a\r\n", &"x".repeat(4097)] {
            assert!(description(bad).is_err(), "{bad:?}");
        }
    }
}
