//! A part of a table, written to the object store: CSV as `COPY` of Postgres reads it, compressed with gzip, and beside it a manifest.
//!
//! Rows come a few blocks at a time and leave as they come, so memory does not grow with the part. Before it is believed, the object is
//! read back from the store. Whoever does it again writes the same names.

use std::io::Write;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{Stream, StreamExt, stream};
use isolation::{Database, DatabaseError};
use parking_lot::Mutex;
use serde_json::json;
use sha2::{Digest, Sha256};
use storage::{GetOptions, ObjectPath, ObjectStore, PutOptions};
use time::Date;
use tokio::time::timeout;
use uuid::Uuid;

use crate::media::hexadecimal;
use crate::problem::ApiError;

/// Blocks of the table that are read at a time: half a megabyte, and what rows keep elsewhere.
const BLOCKS: i32 = 64;

/// Most bytes of an object.
const BYTES_MAX: u64 = 50_000_000_000;

/// How often it is said that a part is still being written: its claim lasts for a quarter of an hour.
const RENEW_EVERY: Duration = Duration::from_secs(5);

/// A part that was taken out of its table, and is ours to write.
#[derive(Debug)]
pub struct RetiredPart {
    pub id: Uuid,
    /// The table that it was a part of.
    pub relation: String,
    /// Its first day.
    pub month: Date,
    /// What tells us from other workers.
    pub claim: Uuid,
    /// Those that are not made of others.
    pub columns: Vec<String>,
    /// How large the table is.
    pub blocks: i64,
}

impl RetiredPart {
    fn month_name(&self) -> String {
        format!("{}-{:02}", self.month.year(), u8::from(self.month.month()))
    }

    /// Below `a/`: what uploads of tenants are called begins with `t/` (`crates/uploads`).
    fn path(&self, ending: &str) -> Result<ObjectPath, ApiError> {
        let path = format!("a/{}/{}/{}.{ending}", self.relation, self.month_name(), self.id);
        ObjectPath::new(path).map_err(|_| ApiError::Internal)
    }
}

/// What is in the store for certain.
#[derive(Debug)]
pub struct Archived {
    pub object: ObjectPath,
    pub rows: i64,
    pub bytes: i64,
    pub sha256: [u8; 32],
}

/// Writes a part and its manifest. However slow the store is, the part stays ours.
///
/// # Errors
/// [`ApiError::Store`], [`ApiError::Database`], and [`ApiError::Internal`] when the store gives back something else; [`ApiError::Conflict`]
/// when the part is another worker's by now.
pub async fn write(database: &Database, store: &ObjectStore, part: &RetiredPart) -> Result<Archived, ApiError> {
    let mut written = pin!(write_once(database, store, part));
    loop {
        match timeout(RENEW_EVERY, &mut written).await {
            Ok(archived) => return archived,
            // When that cannot be said, there is time until the next.
            Err(_) if !renew(database, part).await.unwrap_or(true) => return Err(ApiError::Conflict),
            Err(_) => {}
        }
    }
}

async fn renew(database: &Database, part: &RetiredPart) -> Result<bool, DatabaseError> {
    let renewed = sqlx::query_scalar!(r#"SELECT renew_retired_part($1, $2) AS "renewed!""#, part.id, part.claim);
    Ok(renewed.fetch_one(database.across()).await?)
}

async fn write_once(database: &Database, store: &ObjectStore, part: &RetiredPart) -> Result<Archived, ApiError> {
    let (object, manifest) = (part.path("csv.gz")?, part.path("json")?);
    let tally = Mutex::new(Tally::default());
    let body = Box::pin(compressed(database, part, &tally));
    let options = PutOptions { content_type: Some("application/gzip".to_owned()), ..PutOptions::default() };
    store.put_stream(&object, body, BYTES_MAX, options).await?;
    let Tally { rows, bytes, hash } = tally.into_inner();
    let sha256 = hash.finalize().into();
    if read_back(store, &object).await? != (bytes, sha256) {
        tracing::error!(%object, "the store does not give back what it was given");
        return Err(ApiError::Internal);
    }
    let told = json!({
        "table": part.relation,
        "month": part.month_name(),
        "object": object.as_str(),
        "columns": part.columns,
        "rows": rows,
        "bytes": bytes,
        "sha256": hexadecimal(&sha256),
    });
    let options = PutOptions { content_type: Some("application/json".to_owned()), ..PutOptions::default() };
    store.put(&manifest, Bytes::from(told.to_string()), options).await?;
    Ok(Archived { object, rows, bytes: bytes.try_into().map_err(|_| ApiError::Internal)?, sha256 })
}

/// What has passed by.
#[derive(Default)]
struct Tally {
    rows: i64,
    bytes: u64,
    hash: Sha256,
}

/// Where a stream is.
struct Reading {
    encoder: GzEncoder<Vec<u8>>,
    next_block: i64,
}

/// The rows as compressed CSV, below a line with the names of the columns.
fn compressed<'a>(
    database: &'a Database,
    part: &'a RetiredPart,
    tally: &'a Mutex<Tally>,
) -> impl Stream<Item = Result<Bytes, ApiError>> + Send + 'a {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let header: Vec<_> = part.columns.iter().map(|name| Some(name.as_str())).collect();
    // What is written into memory is taken in.
    let begun = encoder.write_all(csv_line(&header).as_bytes()).map(|()| Reading { encoder, next_block: 0 });
    let pieces = stream::try_unfold(begun.ok(), async move |reading| {
        let Some(Reading { mut encoder, next_block }) = reading else { return Ok(None) };
        if next_block >= part.blocks {
            let rest = encoder.finish().map_err(|_| ApiError::Internal)?;
            return Ok(Some((Bytes::from(rest), None)));
        }
        let lines = page(database, part, next_block, tally).await?;
        encoder.write_all(lines.as_bytes()).map_err(|_| ApiError::Internal)?;
        let piece = Bytes::from(std::mem::take(encoder.get_mut()));
        Ok(Some((piece, Some(Reading { encoder, next_block: next_block + i64::from(BLOCKS) }))))
    });
    pieces.inspect(|piece| {
        if let Ok(piece) = piece {
            let mut tally = tally.lock();
            tally.bytes += piece.len() as u64;
            tally.hash.update(piece);
        }
    })
}

/// The lines of some blocks.
async fn page(
    database: &Database,
    part: &RetiredPart,
    first_block: i64,
    tally: &Mutex<Tally>,
) -> Result<String, DatabaseError> {
    let rows = sqlx::query_scalar!(
        r#"SELECT read_retired_part($1, $2, $3, $4, $5) AS "row!: Vec<Option<String>>""#,
        part.id,
        part.claim,
        &part.columns[..],
        first_block,
        BLOCKS
    )
    .fetch_all(database.across())
    .await?;
    tally.lock().rows += rows.len() as i64;
    let texts = |row: &Vec<Option<String>>| csv_line(&row.iter().map(Option::as_deref).collect::<Vec<_>>());
    Ok(rows.iter().map(texts).collect())
}

/// A line as `COPY … (FORMAT csv)` writes it: nothing at all is NULL.
fn csv_line(values: &[Option<&str>]) -> String {
    let quoted =
        |value: &Option<&str>| value.map(|text| format!("\"{}\"", text.replace('"', "\"\""))).unwrap_or_default();
    values.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n"
}

/// How many bytes an object has, and their SHA-256.
async fn read_back(store: &ObjectStore, path: &ObjectPath) -> Result<(u64, [u8; 32]), ApiError> {
    let mut body = store.get(path, GetOptions::default()).await?.body;
    let (mut bytes, mut hash) = (0, Sha256::new());
    while let Some(piece) = body.next().await {
        let piece = piece?;
        bytes += piece.len() as u64;
        hash.update(&piece);
    }
    Ok((bytes, hash.finalize().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_copy() {
        let line = csv_line(&[Some("a"), None, Some(""), Some("say \"no\",\nnow"), Some("\\N")]);
        assert_eq!(line, "\"a\",,\"\",\"say \"\"no\"\",\nnow\",\"\\N\"\n");
    }
}
