//! What is in a download: read once, in the order in which it is sent.

use isolation::TenantTransaction;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Format;
use super::names::{Names, safe};
use crate::media;
use crate::problem::ApiError;

/// What an archive is called that has everything in it.
const EVERYTHING: &str = "media";

/// What an archive tells of what could not be put into it.
const MISSING: &str = "missing.txt";

/// Of which media an archive is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Those of a collection, in its order.
    Collection(Uuid),
    /// Those in a folder, and in those within it if so wanted; `None` is the top.
    Folder {
        /// Its path.
        path: Option<String>,
        /// Whether folders within it belong to it.
        subfolders: bool,
    },
}

/// Which archive is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// What is in it.
    pub source: Source,
    /// How it is packed.
    pub format: Format,
    /// Whether it is made without those files that cannot be found; else it is cut off there.
    pub skip_missing: bool,
}

/// What is in a download.
#[derive(Debug)]
pub struct Contents {
    /// What the archive is called, without an extension.
    pub name: String,
    /// How it is packed.
    pub format: Format,
    /// The path at which it tells of files that could not be found, if it is made without them.
    pub(super) missing: Option<String>,
    pub(super) files: Vec<File>,
    /// Of all files.
    pub bytes: u64,
}

impl Contents {
    /// How many files it has.
    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// How many bytes the archive has, if that is certain.
    pub fn length(&self) -> Option<u64> {
        self.missing.is_none().then(|| self.format.length(self.files.iter().map(|file| (&file.path[..], file.bytes))))
    }
}

/// A file of an archive.
#[derive(Debug)]
pub(super) struct File {
    /// Its path in the archive.
    pub(super) path: String,
    pub(super) media: Uuid,
    pub(super) revision: Uuid,
    pub(super) bytes: u64,
    pub(super) stored_at: OffsetDateTime,
}

/// A medium that goes into an archive.
struct Row {
    id: Uuid,
    revision: Uuid,
    public_id: String,
    filename: Option<String>,
    content_type: String,
    folder: Option<String>,
    bytes: i64,
    stored_at: OffsetDateTime,
}

/// Reads what is in a download, at most so many files. What edges may not serve is left out.
///
/// # Errors
/// [`ApiError::NotFound`], [`ApiError::DownloadTooLarge`], [`ApiError::DownloadEmpty`].
pub(super) async fn read(
    transaction: &mut TenantTransaction,
    wanted: &Wanted,
    files_max: usize,
) -> Result<Contents, ApiError> {
    let limit = i64::try_from(files_max + 1).map_err(|_| ApiError::Internal)?;
    let (name, rows) = match &wanted.source {
        Source::Collection(id) => of_collection(transaction, *id, limit).await?,
        Source::Folder { path: None, subfolders } => {
            (EVERYTHING.to_owned(), of_top(transaction, *subfolders, limit).await?)
        }
        Source::Folder { path: Some(path), subfolders } => of_folder(transaction, path, *subfolders, limit).await?,
    };
    if rows.len() > files_max {
        return Err(ApiError::DownloadTooLarge { limit: files_max as u64, of: "files" });
    }
    if rows.is_empty() {
        return Err(ApiError::DownloadEmpty);
    }
    let mut names = Names::default();
    rows.iter().for_each(|row| names.keep_for_folders(row.folders(&wanted.source)));
    let files: Vec<File> = rows.into_iter().map(|row| row.into_file(&mut names, &wanted.source)).collect();
    let bytes = files.iter().map(|file| file.bytes).sum();
    let missing = wanted.skip_missing.then(|| names.path("", MISSING));
    Ok(Contents { name: safe(&name), format: wanted.format, missing, files, bytes })
}

impl Row {
    /// The folders that its file is in: those below the one that is downloaded.
    fn folders(&self, source: &Source) -> &str {
        let folder = self.folder.as_deref().unwrap_or_default();
        match source {
            Source::Collection(_) => "",
            Source::Folder { path: None, .. } => folder,
            Source::Folder { path: Some(path), .. } => folder.strip_prefix(&path[..]).unwrap_or_default(),
        }
    }

    /// What its file is called, before that is made safe.
    fn name(&self) -> String {
        let last = || self.public_id.rsplit('/').next().unwrap_or_default();
        let name = self.filename.as_deref().unwrap_or_else(last);
        match media::extension(&self.content_type) {
            Some(extension) if !name.contains('.') => format!("{name}.{extension}"),
            _ => name.to_owned(),
        }
    }

    fn into_file(self, names: &mut Names, source: &Source) -> File {
        File {
            path: names.path(self.folders(source), &self.name()),
            media: self.id,
            revision: self.revision,
            bytes: self.bytes.unsigned_abs(),
            stored_at: self.stored_at,
        }
    }
}

async fn of_collection(
    transaction: &mut TenantTransaction,
    id: Uuid,
    limit: i64,
) -> Result<(String, Vec<Row>), ApiError> {
    let name = sqlx::query_scalar!("SELECT name FROM collections WHERE id = $1", id);
    let name = name.fetch_optional(transaction.connection()).await?.ok_or(ApiError::NotFound("collection"))?;
    let rows = sqlx::query_as!(
        Row,
        "SELECT media.id, revision, public_id, filename, content_type, folder, bytes, stored_at
         FROM collection_media
         JOIN media ON media.tenant_id = collection_media.tenant_id AND media.id = collection_media.media_id
         WHERE collection_media.collection_id = $1 AND is_served(media.state)
         ORDER BY collection_media.position, media.id LIMIT $2",
        id,
        limit
    );
    Ok((name, rows.fetch_all(transaction.connection()).await?))
}

async fn of_top(transaction: &mut TenantTransaction, with_subfolders: bool, limit: i64) -> Result<Vec<Row>, ApiError> {
    let connection = transaction.connection();
    let rows = if with_subfolders {
        let rows = sqlx::query_as!(
            Row,
            "SELECT id, revision, public_id, filename, content_type, folder, bytes, stored_at FROM media
             WHERE is_served(state) ORDER BY folder, id LIMIT $1",
            limit
        );
        rows.fetch_all(connection).await?
    } else {
        let rows = sqlx::query_as!(
            Row,
            "SELECT id, revision, public_id, filename, content_type, folder, bytes, stored_at FROM media
             WHERE folder IS NULL AND is_served(state) ORDER BY id LIMIT $1",
            limit
        );
        rows.fetch_all(connection).await?
    };
    Ok(rows)
}

async fn of_folder(
    transaction: &mut TenantTransaction,
    path: &str,
    with_subfolders: bool,
    limit: i64,
) -> Result<(String, Vec<Row>), ApiError> {
    let there = sqlx::query_scalar!("SELECT 1 FROM folders WHERE path = $1", path);
    there.fetch_optional(transaction.connection()).await?.ok_or(ApiError::NotFound("folder"))?;
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    // What is within a folder begins with its path and a slash; '0' comes right after that.
    let rows = sqlx::query_as!(
        Row,
        r#"SELECT id AS "id!", revision AS "revision!", public_id AS "public_id!", filename,
             content_type AS "content_type!", folder, bytes AS "bytes!", stored_at AS "stored_at!"
         FROM (
             (SELECT * FROM media WHERE folder = $1 AND is_served(state) ORDER BY id LIMIT $3)
             UNION ALL
             (SELECT * FROM media WHERE $2 AND folder > $1 || '/' AND folder < $1 || '0' AND is_served(state)
              ORDER BY folder, id LIMIT $3)
         ) AS found
         ORDER BY folder, id LIMIT $3"#,
        path,
        with_subfolders,
        limit
    );
    Ok((name, rows.fetch_all(transaction.connection()).await?))
}
