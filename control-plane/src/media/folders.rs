//! Folders: made by what is put into them, counted with what is in them, and moved with it.
//!
//! Nothing but people goes by them: edges know nothing of folders.

use isolation::TenantTransaction;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::fields;
use super::record::refused;
use crate::problem::ApiError;

/// What is called when there is none.
const FOLDER: &str = "folder";

/// Makes a folder, and those that it is in.
pub async fn make_folder(transaction: &mut TenantTransaction, path: Option<&str>) -> Result<(), ApiError> {
    let Some(path) = path else { return Ok(()) };
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    let all: Vec<String> = ends.map(|end| path[..end].to_owned()).collect();
    let tenant = transaction.tenant().as_uuid();
    sqlx::query!(
        "INSERT INTO folders (tenant_id, path) SELECT $1, path FROM unnest($2::text[]) AS paths (path)
         ON CONFLICT DO NOTHING",
        tenant,
        &all[..]
    )
    .execute(transaction.connection())
    .await
    .map_err(refused)?;
    Ok(())
}

/// How much there is.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Count {
    /// How many media.
    media: i64,
    /// How many bytes they have.
    bytes: i64,
}

/// A folder, and how much is in it.
#[derive(Debug, Serialize, ToSchema)]
pub struct CountedFolder {
    /// Names with slashes between them; empty is the top.
    pub path: String,
    /// `null` for the top, which was always there.
    #[serde(with = "time::serde::rfc3339::option")]
    created_at: Option<OffsetDateTime>,
    /// In itself.
    own: Count,
    /// With all folders that are in it.
    total: Count,
}

/// A folder as the database counts it.
struct CountedRow {
    path: String,
    created_at: Option<OffsetDateTime>,
    media: i64,
    bytes: i64,
    media_within: i64,
    bytes_within: i64,
}

impl From<CountedRow> for CountedFolder {
    fn from(row: CountedRow) -> Self {
        let CountedRow { path, created_at, media, bytes, media_within, bytes_within } = row;
        let total = Count { media: media + media_within, bytes: bytes + bytes_within };
        Self { path, created_at, own: Count { media, bytes }, total }
    }
}

/// Folders and how much is in them, by the rest of a statement. Whatever is within a folder comes after its path and a slash, and before
/// its path and what comes after a slash.
macro_rules! counted {
    ($folders:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            CountedRow,
            r#"SELECT page.path AS "path!", page.created_at, coalesce(own.media, 0) AS "media!", coalesce(own.bytes, 0) AS "bytes!",
                 coalesce(within.media, 0)::bigint AS "media_within!", coalesce(within.bytes, 0)::bigint AS "bytes_within!"
               FROM ("# + $folders + r#") AS page
               LEFT JOIN media_counts AS own ON own.kind = 'folder' AND own.name = page.path
               CROSS JOIN LATERAL (
                   SELECT sum(counts.media) AS media, sum(counts.bytes) AS bytes FROM media_counts AS counts
                   WHERE counts.kind = 'folder' AND counts.name > page.first AND counts.name < page.last
               ) AS within
               ORDER BY page.path"#
            $(, $argument)*
        )
    };
}

/// A folder with what is in it; `None` is the top.
///
/// # Errors
/// [`ApiError::NotFound`].
pub async fn count(transaction: &mut TenantTransaction, path: Option<&str>) -> Result<CountedFolder, ApiError> {
    let connection = transaction.connection();
    let row = match path {
        None => {
            let top = counted!(
                "SELECT '' COLLATE \"C\" AS path, NULL::timestamptz AS created_at, '' COLLATE \"C\" AS first,
                     chr(1114111) COLLATE \"C\" AS last"
            );
            top.fetch_optional(connection).await?
        }
        Some(path) => {
            let folder = counted!(
                "SELECT path, created_at, path || '/' AS first, path || '0' AS last FROM folders WHERE path = $1",
                path
            );
            folder.fetch_optional(connection).await?
        }
    };
    Ok(row.ok_or(ApiError::NotFound(FOLDER))?.into())
}

/// The folders within one, up to so many levels below it, by path: those after this one, at most so many.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn tree(
    transaction: &mut TenantTransaction,
    parent: Option<&str>,
    levels: u8,
    after: Option<&str>,
    count: i64,
) -> Result<Vec<CountedFolder>, ApiError> {
    let connection = transaction.connection();
    let after = after.unwrap_or_default();
    let rows = match (parent, levels) {
        (None, 1) => {
            let rows = counted!(
                "SELECT path, created_at, path || '/' AS first, path || '0' AS last FROM folders
                 WHERE parent IS NULL AND path > $1 ORDER BY path LIMIT $2",
                after,
                count
            );
            rows.fetch_all(connection).await?
        }
        (Some(parent), 1) => {
            let rows = counted!(
                "SELECT path, created_at, path || '/' AS first, path || '0' AS last FROM folders
                 WHERE parent = $1 AND path > $2 ORDER BY path LIMIT $3",
                parent,
                after,
                count
            );
            rows.fetch_all(connection).await?
        }
        (parent, levels) => {
            let (first, last) = match parent {
                None => (String::new(), char::MAX.to_string()),
                Some(parent) => (format!("{parent}/"), format!("{parent}0")),
            };
            let deepest = parent.map_or(0, |parent| parent.split('/').count()) + usize::from(levels);
            let rows = counted!(
                "SELECT path, created_at, path || '/' AS first, path || '0' AS last FROM folders
                 WHERE path > greatest($1, $2) AND path < $3 AND cardinality(string_to_array(path, '/')) <= $4
                 ORDER BY path LIMIT $5",
                first,
                after,
                last,
                i32::try_from(deepest).unwrap_or(i32::MAX),
                count
            );
            rows.fetch_all(connection).await?
        }
    };
    Ok(rows.into_iter().map(CountedFolder::from).collect())
}

/// What is moved with a folder.
pub(super) struct Size {
    /// Folders, itself among them.
    pub(super) folders: u64,
    /// Media.
    pub(super) media: u64,
}

/// How much is moved with a folder, which has to be there, and fit where it goes.
///
/// # Errors
/// [`ApiError::NotFound`], and [`ApiError::Field`] when a path would be too long or too deep.
pub(super) async fn moved(transaction: &mut TenantTransaction, from: &str, to: &str) -> Result<Size, ApiError> {
    let (first, last) = (format!("{from}/"), format!("{from}0"));
    let found = sqlx::query!(
        r#"SELECT count(*) AS "folders!", coalesce(bool_or(path = $1), false) AS "is_there!",
             coalesce(max(octet_length(path)), 0) AS "longest!",
             coalesce(max(cardinality(string_to_array(path, '/'))), 0) AS "deepest!"
           FROM (
               SELECT path FROM folders WHERE path = $1
               UNION ALL
               SELECT path FROM folders WHERE path > $2 AND path < $3
           ) AS moved"#,
        from,
        first,
        last
    );
    let found = found.fetch_one(transaction.connection()).await?;
    if !found.is_there {
        return Err(ApiError::NotFound(FOLDER));
    }
    let as_long = |most: i32, own: usize, new: usize| usize::try_from(most).unwrap_or_default() - own + new;
    let levels = |path: &str| path.split('/').count();
    let (bytes, deep) =
        (as_long(found.longest, from.len(), to.len()), as_long(found.deepest, levels(from), levels(to)));
    if !fields::fits_folder(bytes, deep) {
        let why =
            format!("makes a path of {bytes} bytes and {deep} names out of one in it: {}", fields::folder_limits());
        return Err(ApiError::field("to", why));
    }
    let media = count(transaction, Some(from)).await?.total.media;
    Ok(Size { folders: found.folders.unsigned_abs(), media: media.unsigned_abs() })
}

/// The last folder by path of those that are moved, before this one: whatever is in a folder comes before it.
pub(super) async fn next(
    transaction: &mut TenantTransaction,
    from: &str,
    before: Option<&str>,
) -> Result<Option<String>, ApiError> {
    if before == Some(from) {
        return Ok(None);
    }
    let (first, last) = (format!("{from}/"), format!("{from}0"));
    let within = sqlx::query_scalar!(
        "SELECT path FROM folders WHERE path > $1 AND path < $2 ORDER BY path DESC LIMIT 1",
        first,
        before.unwrap_or(&last)
    );
    let within = within.fetch_optional(transaction.connection()).await?;
    Ok(within.or_else(|| Some(from.to_owned())))
}

/// Keeps anything from being put into a folder before this transaction ends, after waiting for what is.
pub(super) async fn close(transaction: &mut TenantTransaction, path: &str) -> Result<(), ApiError> {
    sqlx::query_scalar!("SELECT path FROM folders WHERE path = $1 FOR UPDATE", path)
        .fetch_optional(transaction.connection())
        .await?;
    Ok(())
}

/// The same of a folder and all within it, and keeps anybody from changing the media in there: all that a move has to wait for, before it
/// has anything that others wait for.
pub(super) async fn close_all(transaction: &mut TenantTransaction, path: &str) -> Result<(), ApiError> {
    let (first, last) = (format!("{path}/"), format!("{path}0"));
    sqlx::query_scalar!(
        "SELECT path FROM folders WHERE path > $1 AND path < $2 ORDER BY path DESC FOR UPDATE",
        first,
        last
    )
    .fetch_all(transaction.connection())
    .await?;
    close(transaction, path).await?;
    sqlx::query_scalar!(
        "SELECT id FROM media WHERE id = ANY (ARRAY(
             SELECT id FROM media WHERE folder = $1 UNION ALL SELECT id FROM media WHERE folder > $2 AND folder < $3
         )) ORDER BY id DESC FOR UPDATE",
        path,
        first,
        last
    )
    .fetch_all(transaction.connection())
    .await?;
    Ok(())
}

/// Deletes a folder that was [closed](close), unless something is in it.
pub(super) async fn delete_empty(transaction: &mut TenantTransaction, path: &str) -> Result<(), ApiError> {
    sqlx::query!(
        "DELETE FROM folders WHERE path = $1
             AND NOT EXISTS (SELECT FROM media WHERE media.folder = $1)
             AND NOT EXISTS (SELECT FROM folders AS within WHERE within.parent = $1)",
        path
    )
    .execute(transaction.connection())
    .await
    .map_err(refused)?;
    Ok(())
}
