//! What is in a collection, and in which order.
//!
//! Whoever changes that locks the media first and then the collection: whoever deletes a medium begins with that, too.

use std::collections::{HashMap, HashSet};

use isolation::TenantTransaction;
use uuid::Uuid;

use super::{COLLECTION, lock, place};
use crate::etag::Condition;
use crate::media::{self, Row};
use crate::problem::ApiError;

/// Most media in a collection.
const MEMBERS_MAX: usize = 10_000;

/// Most media that are put in, or taken out, by one request.
const AT_ONCE_MAX: usize = 1000;

/// Where media is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before all others.
    Start,
    /// After all others.
    End,
    /// Right before this one.
    Before(Uuid),
    /// Right after this one.
    After(Uuid),
}

/// What has become of a collection.
#[derive(Debug)]
pub struct Membership {
    /// How many were put in, or taken out.
    pub changed: usize,
    /// How many are in it now.
    pub media_count: usize,
    /// The collection's.
    pub version: i64,
}

/// Puts media in, in this order. What is in it already is moved if a place is named, and else stays where it is.
///
/// # Errors
/// [`ApiError::NotFound`], [`ApiError::Changed`], and [`ApiError::Field`] for media that is not there, and for more than a collection may have.
pub async fn put(
    transaction: &mut TenantTransaction,
    collection: Uuid,
    condition: Condition,
    ids: &[Uuid],
    wanted: Option<Place>,
) -> Result<Membership, ApiError> {
    check(ids)?;
    let known = lock_media(transaction, ids).await?;
    lock(transaction, collection, condition).await?;
    if let Some(missing) = ids.iter().find(|id| !known.contains(id)) {
        return Err(ApiError::field("ids", format!("there is no medium {missing}")));
    }
    let there = order(transaction, collection).await?;
    let members: HashSet<Uuid> = there.iter().map(|(id, _)| *id).collect();
    let added = ids.iter().filter(|id| !members.contains(id)).count();
    let media_count = there.len() + added;
    if media_count > MEMBERS_MAX {
        return Err(ApiError::field("ids", format!("a collection has at most {MEMBERS_MAX} media")));
    }
    let placed: Vec<Uuid> = ids.iter().filter(|id| wanted.is_some() || !members.contains(id)).copied().collect();
    place_at(transaction, collection, there, &placed, wanted.unwrap_or(Place::End)).await?;
    let version = touch(transaction, collection, added < placed.len()).await?;
    Ok(Membership { changed: added, media_count, version })
}

/// Takes media out; what is not in it is as good.
///
/// # Errors
/// [`ApiError::NotFound`], [`ApiError::Changed`] and [`ApiError::Field`].
pub async fn remove(
    transaction: &mut TenantTransaction,
    collection: Uuid,
    condition: Condition,
    ids: &[Uuid],
) -> Result<Membership, ApiError> {
    check(ids)?;
    lock_media(transaction, ids).await?;
    lock(transaction, collection, condition).await?;
    let removed =
        sqlx::query!("DELETE FROM collection_media WHERE collection_id = $1 AND media_id = ANY ($2)", collection, ids);
    let removed = removed.execute(transaction.connection()).await?.rows_affected();
    let version = touch(transaction, collection, false).await?;
    let left = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM collection_media WHERE collection_id = $1"#,
        collection
    );
    let left = left.fetch_one(transaction.connection()).await?;
    let number = |count| usize::try_from(count).map_err(|_| ApiError::Internal);
    Ok(Membership { changed: removed as usize, media_count: number(left)?, version })
}

/// What is in a collection after this place, at most so many, each with its place.
///
/// # Errors
/// [`ApiError::NotFound`].
pub async fn list_members(
    transaction: &mut TenantTransaction,
    collection: Uuid,
    after: Option<(i64, Uuid)>,
    count: i64,
) -> Result<Vec<(i64, Row)>, ApiError> {
    let (position, id) = after.unwrap_or((i64::MIN, Uuid::nil()));
    let places = sqlx::query!(
        "SELECT position, media_id FROM collection_media
         WHERE collection_id = $1 AND (position, media_id) > ($2, $3) ORDER BY position, media_id LIMIT $4",
        collection,
        position,
        id,
        count
    );
    let places = places.fetch_all(transaction.connection()).await?;
    if places.is_empty() {
        let there = sqlx::query_scalar!("SELECT 1 FROM collections WHERE id = $1", collection);
        there.fetch_optional(transaction.connection()).await?.ok_or(ApiError::NotFound(COLLECTION))?;
    }
    let ids: Vec<Uuid> = places.iter().map(|place| place.media_id).collect();
    let rows = media::find_all(transaction, &ids).await?;
    let mut rows: HashMap<Uuid, Row> = rows.into_iter().map(|row| (row.id, row)).collect();
    let row = |id| rows.remove(&id);
    let mut members = Vec::with_capacity(places.len());
    members.extend(
        places.iter().zip(ids.iter().copied().map(row)).filter_map(|(place, row)| Some((place.position, row?))),
    );
    Ok(members)
}

fn check(ids: &[Uuid]) -> Result<(), ApiError> {
    if !(1..=AT_ONCE_MAX).contains(&ids.len()) {
        return Err(ApiError::field("ids", format!("are 1 to {AT_ONCE_MAX}")));
    }
    let mut sorted = ids.to_vec();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(ApiError::field("ids", format!("{} is named twice", pair[0]))),
        None => Ok(()),
    }
}

/// Those of these media that are there. They cannot be deleted before this transaction ends. They are locked in the order in which
/// edits lock them.
async fn lock_media(transaction: &mut TenantTransaction, ids: &[Uuid]) -> Result<Vec<Uuid>, ApiError> {
    let found = sqlx::query_scalar!("SELECT id FROM media WHERE id = ANY ($1) ORDER BY id DESC FOR KEY SHARE", ids);
    Ok(found.fetch_all(transaction.connection()).await?)
}

/// All that is in a collection, with its places, in its order.
async fn order(transaction: &mut TenantTransaction, collection: Uuid) -> Result<Vec<(Uuid, i64)>, ApiError> {
    let members = sqlx::query!(
        "SELECT media_id, position FROM collection_media WHERE collection_id = $1 ORDER BY position, media_id",
        collection
    );
    let members = members.fetch_all(transaction.connection()).await?;
    Ok(members.into_iter().map(|member| (member.media_id, member.position)).collect())
}

/// Gives these media, which may be in it already, a place in a collection whose order is known.
async fn place_at(
    transaction: &mut TenantTransaction,
    collection: Uuid,
    there: Vec<(Uuid, i64)>,
    placed: &[Uuid],
    wanted: Place,
) -> Result<(), ApiError> {
    if placed.is_empty() {
        return Ok(());
    }
    let (mut others, moved) = (there, placed.iter().collect::<HashSet<_>>());
    others.retain(|(id, _)| !moved.contains(id));
    let of = |field, id| {
        let found = others.iter().position(|(member, _)| *member == id);
        found.ok_or_else(|| {
            ApiError::field(field, "is a medium of the collection, and none of those that are put there")
        })
    };
    let at = match wanted {
        Place::Start => 0,
        Place::End => others.len(),
        Place::Before(id) => of("before", id)?,
        Place::After(id) => of("after", id)? + 1,
    };
    let position = |at: usize| others.get(at).map(|(_, position)| *position);
    let room = place::between(at.checked_sub(1).and_then(position), position(at), placed.len());
    match room {
        Some(places) => write(transaction, collection, placed, &places).await,
        None => {
            let mut all: Vec<Uuid> = others.into_iter().map(|(id, _)| id).collect();
            all.splice(at..at, placed.iter().copied());
            write(transaction, collection, &all, &place::anew(all.len())).await
        }
    }
}

async fn write(
    transaction: &mut TenantTransaction,
    collection: Uuid,
    ids: &[Uuid],
    places: &[i64],
) -> Result<(), ApiError> {
    let tenant = transaction.tenant().as_uuid();
    let written = sqlx::query!(
        "INSERT INTO collection_media (tenant_id, collection_id, media_id, position)
         SELECT $1, $2, media_id, position FROM unnest($3::uuid[], $4::bigint[]) AS placed (media_id, position)
         ON CONFLICT (tenant_id, collection_id, media_id) DO UPDATE SET position = EXCLUDED.position",
        tenant,
        collection,
        ids,
        places
    );
    written.execute(transaction.connection()).await?;
    Ok(())
}

/// What is in it has changed, or the order of that. Returns its version.
async fn touch(transaction: &mut TenantTransaction, collection: Uuid, is_arranged: bool) -> Result<i64, ApiError> {
    let version = sqlx::query_scalar!(
        "UPDATE collections SET
             version = version + 1,
             updated_at = now(),
             arranged_at = CASE WHEN $2 THEN now() ELSE arranged_at END
         WHERE id = $1 RETURNING version",
        collection,
        is_arranged
    );
    Ok(version.fetch_one(transaction.connection()).await?)
}
