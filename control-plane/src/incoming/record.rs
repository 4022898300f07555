//! The row of an upload: made, found, given up.

use isolation::{Mandate, TenantKey, TenantTransaction};
use serde_json::Value;
use sqlx::postgres::types::PgInterval;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Incoming;
use crate::media::Description;
use crate::problem::ApiError;

/// What is called when there is none.
pub(super) const UPLOAD: &str = "upload";

/// How bytes come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// In parts, to URLs that are signed.
    Direct,
    /// By tus.
    Tus,
}

impl Protocol {
    /// Its name in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Tus => "tus",
        }
    }
}

/// Where an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Bytes may come.
    Open,
    /// All are there, and a medium is made of them.
    Completing,
    /// The medium is there.
    Done,
    /// The bytes are not what was announced.
    Failed,
    /// They did not come in time.
    Expired,
    /// Somebody did not want it any more.
    Aborted,
}

impl State {
    const ALL: [Self; 6] = [Self::Open, Self::Completing, Self::Done, Self::Failed, Self::Expired, Self::Aborted];

    /// Its name in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Completing => "completing",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Aborted => "aborted",
        }
    }

    fn parse(text: &str) -> Result<Self, ApiError> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(ApiError::Internal)
    }
}

/// An upload.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Its unchanging id.
    pub id: Uuid,
    /// How its bytes come.
    pub protocol: Protocol,
    /// Where it is.
    pub state: State,
    /// How many bytes there will be; `None` where that is not said yet.
    pub bytes: Option<u64>,
    /// How many have come without a gap, with tus.
    pub received: u64,
    /// Size of all parts but the last, of a direct upload.
    pub part_bytes: Option<u64>,
    /// What the bucket calls its upload in parts.
    pub multipart: Option<String>,
    /// What the bytes have to have.
    pub sha256: Option<[u8; 32]>,
    /// What the file is called by whoever sends it.
    pub filename: Option<String>,
    /// What is said of the medium.
    pub description: Description,
    /// The same as a client of tus has put it.
    pub tus_metadata: Option<String>,
    /// The medium that it becomes, or whose bytes it replaces.
    pub media: Uuid,
    /// Whether that medium is there already.
    pub replaces: bool,
    /// The only version that it may replace.
    pub media_version: Option<i64>,
    /// `partial` or `final`, where uploads are put together.
    pub concat: Option<String>,
    /// Who makes the medium, where that takes long.
    pub job: Option<Uuid>,
    /// Why that did not work, the last time: a code and a text.
    pub error: Option<(String, String)>,
    /// When it began.
    pub created_at: OffsetDateTime,
    /// When it expires, unless it is complete by then.
    pub expires_at: OffsetDateTime,
}

impl Upload {
    /// Whether it is a part of another one.
    pub fn is_partial(&self) -> bool {
        self.concat.as_deref() == Some("partial")
    }

    /// Whether it is put together of others.
    pub fn is_final(&self) -> bool {
        self.concat.as_deref() == Some("final")
    }

    /// Lets those go on who bring bytes.
    ///
    /// # Errors
    /// [`ApiError::UploadGone`] and [`ApiError::UploadState`].
    pub fn must_be_open(&self) -> Result<(), ApiError> {
        match self.state {
            State::Open => Ok(()),
            State::Expired | State::Aborted => Err(ApiError::UploadGone(self.state.as_str())),
            State::Completing | State::Done | State::Failed => Err(ApiError::UploadState(self.state.as_str())),
        }
    }
}

/// An upload, as the database has it.
struct Row {
    id: Uuid,
    protocol: String,
    state: String,
    bytes: Option<i64>,
    received: i64,
    part_bytes: Option<i64>,
    multipart: Option<String>,
    sha256: Option<Vec<u8>>,
    filename: Option<String>,
    said: Value,
    tus_metadata: Option<String>,
    media_id: Uuid,
    replaces: bool,
    media_version: Option<i64>,
    concat: Option<String>,
    job_id: Option<Uuid>,
    error_code: Option<String>,
    error: Option<String>,
    created_at: OffsetDateTime,
    expires_at: OffsetDateTime,
}

impl TryFrom<Row> for Upload {
    type Error = ApiError;

    fn try_from(row: Row) -> Result<Self, ApiError> {
        let sha256 = row.sha256.map(|hash| hash.try_into().map_err(|_| ApiError::Internal)).transpose()?;
        Ok(Self {
            id: row.id,
            protocol: if row.protocol == Protocol::Tus.as_str() { Protocol::Tus } else { Protocol::Direct },
            state: State::parse(&row.state)?,
            bytes: row.bytes.map(i64::unsigned_abs),
            received: row.received.unsigned_abs(),
            part_bytes: row.part_bytes.map(i64::unsigned_abs),
            multipart: row.multipart,
            sha256,
            filename: row.filename,
            description: serde_json::from_value(row.said).map_err(|_| ApiError::Internal)?,
            tus_metadata: row.tus_metadata,
            media: row.media_id,
            replaces: row.replaces,
            media_version: row.media_version,
            concat: row.concat,
            job: row.job_id,
            error: row.error_code.zip(row.error),
            created_at: row.created_at,
            expires_at: row.expires_at,
        })
    }
}

/// Uploads, by the rest of a statement. One whose time is over is expired, whether or not a worker has said so.
macro_rules! select {
    ($rest:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            Row,
            r#"SELECT id, protocol,
                 CASE WHEN state = 'open' AND expires_at <= now() THEN 'expired' ELSE state END AS "state!",
                 bytes, received, part_bytes, multipart, sha256, filename, said, tus_metadata, media_id, replaces, media_version,
                 concat, job_id, error_code, error, created_at, expires_at
               FROM uploads "# + $rest
            $(, $argument)*
        )
    };
}

/// The upload of this id. One that was aborted is not there any more.
///
/// # Errors
/// [`ApiError::NotFound`].
pub async fn find(transaction: &mut TenantTransaction, id: Uuid) -> Result<Upload, ApiError> {
    let row = select!("WHERE id = $1", id).fetch_optional(transaction.connection()).await?;
    there(row)
}

/// The same, kept from being changed by others before this transaction ends.
///
/// # Errors
/// [`ApiError::NotFound`].
pub(super) async fn lock(transaction: &mut TenantTransaction, id: Uuid) -> Result<Upload, ApiError> {
    let row = select!("WHERE id = $1 FOR UPDATE", id).fetch_optional(transaction.connection()).await?;
    there(row)
}

fn there(row: Option<Row>) -> Result<Upload, ApiError> {
    let upload: Upload = row.ok_or(ApiError::NotFound(UPLOAD))?.try_into()?;
    if upload.state == State::Aborted { Err(ApiError::NotFound(UPLOAD)) } else { Ok(upload) }
}

/// What an upload begins with.
#[derive(Debug)]
pub struct NewUpload {
    /// Its id.
    pub id: Uuid,
    /// How its bytes come.
    pub protocol: Protocol,
    /// How many there will be.
    pub bytes: Option<u64>,
    /// Size of all parts but the last, of a direct upload.
    pub part_bytes: Option<u64>,
    /// What the bytes have to have.
    pub sha256: Option<[u8; 32]>,
    /// What the file is called by whoever sends it.
    pub filename: Option<String>,
    /// What is said of the medium, checked.
    pub description: Description,
    /// The same as a client of tus has put it.
    pub tus_metadata: Option<String>,
    /// The medium whose bytes it replaces, and the only version of it that it may.
    pub replaces: Option<(Uuid, Option<i64>)>,
    /// `partial` or `final`, where uploads are put together.
    pub concat: Option<&'static str>,
}

/// Lets a tenant go on that has not too many uploads that are not over. Of many at the same moment, a few more may be let on.
///
/// # Errors
/// [`ApiError::TooManyUploads`].
async fn has_room(transaction: &mut TenantTransaction, open_max: i64) -> Result<(), ApiError> {
    let open = sqlx::query_scalar!(
        r#"SELECT count(*) AS "open!" FROM (
             SELECT FROM uploads WHERE state IN ('open', 'completing') LIMIT $1
           ) AS uploads"#,
        open_max
    );
    let open = open.fetch_one(transaction.connection()).await?;
    if open < open_max { Ok(()) } else { Err(ApiError::TooManyUploads { limit: open_max }) }
}

/// Begins an upload, if `transaction` commits.
///
/// # Errors
/// [`ApiError::TooManyUploads`]; [`ApiError::Exists`] when the public id that it asks for is taken by now, so that nobody
/// sends a file in vain.
pub async fn insert(
    incoming: &Incoming,
    transaction: &mut TenantTransaction,
    new: &NewUpload,
) -> Result<Upload, ApiError> {
    has_room(transaction, incoming.open_max).await?;
    if let Some(public_id) = &new.description.public_id {
        let taken =
            sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM media WHERE public_id = $1) AS "taken!""#, public_id);
        if taken.fetch_one(transaction.connection()).await? {
            return Err(ApiError::Exists("medium of this public id"));
        }
    }
    let said = serde_json::to_value(&new.description).map_err(|_| ApiError::Internal)?;
    let (media, version) = new.replaces.unwrap_or((new.id, None));
    let tenant = transaction.tenant().as_uuid();
    sqlx::query!(
        "INSERT INTO uploads (tenant_id, id, protocol, bytes, part_bytes, sha256, filename, said, tus_metadata, media_id, replaces,
             media_version, concat, expires_at, due_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, now() + $14, now() + $14)",
        tenant,
        new.id,
        new.protocol.as_str(),
        new.bytes.map(number).transpose()?,
        new.part_bytes.map(number).transpose()?,
        new.sha256.as_ref().map(|hash| &hash[..]),
        new.filename,
        said,
        new.tus_metadata,
        media,
        new.replaces.is_some(),
        version,
        new.concat,
        interval(incoming.lifetime)
    )
    .execute(transaction.connection())
    .await?;
    find(transaction, new.id).await
}

/// Says how many bytes there will be, where that was left open.
///
/// # Errors
/// [`ApiError::UploadLength`] when something else was said before, or more have come.
pub(super) async fn set_length(transaction: &mut TenantTransaction, id: Uuid, bytes: u64) -> Result<(), ApiError> {
    let set = sqlx::query!(
        "UPDATE uploads SET bytes = $2 WHERE id = $1 AND received <= $2 AND (bytes IS NULL OR bytes = $2)",
        id,
        number(bytes)?
    );
    let set = set.execute(transaction.connection()).await?;
    if set.rows_affected() == 1 { Ok(()) } else { Err(ApiError::UploadLength) }
}

/// Makes uploads the parts of another one, in this order; how many bytes they have together.
///
/// # Errors
/// [`ApiError::NotFound`]; [`ApiError::UploadIncomplete`] when one has bytes to come; [`ApiError::UploadState`] when one is
/// no part, or another one's.
pub async fn attach(transaction: &mut TenantTransaction, id: Uuid, parts: &[Uuid]) -> Result<(), ApiError> {
    // In one order, so that two that want the same do not wait for each other.
    let found =
        select!("WHERE id = ANY ($1) ORDER BY id FOR UPDATE", parts).fetch_all(transaction.connection()).await?;
    let mut total = 0u64;
    for part in parts {
        let row = found.iter().find(|row| row.id == *part).ok_or(ApiError::NotFound(UPLOAD))?;
        if row.concat.as_deref() != Some("partial") {
            return Err(ApiError::UploadState("not a partial one"));
        }
        if row.bytes != Some(row.received) {
            return Err(ApiError::UploadIncomplete { missing: row.id.to_string() });
        }
        total = total.saturating_add(row.received.unsigned_abs());
    }
    // What becomes of them from now on is the other one's matter.
    let taken = sqlx::query!(
        "UPDATE uploads SET final_id = $1, place = parts.place, state = 'completing', due_at = 'infinity'
         FROM unnest($2::uuid[]) WITH ORDINALITY AS parts (id, place)
         WHERE uploads.id = parts.id AND uploads.final_id IS NULL AND uploads.state = 'open' AND uploads.expires_at > now()",
        id,
        parts
    )
    .execute(transaction.connection())
    .await?;
    if taken.rows_affected() != parts.len() as u64 {
        return Err(ApiError::UploadState("used already, or expired"));
    }
    let total = number(total)?;
    sqlx::query!("UPDATE uploads SET bytes = $2, received = $2 WHERE id = $1", id, total)
        .execute(transaction.connection())
        .await?;
    Ok(())
}

/// The parts that an upload was put together of, in their order.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn pieces(transaction: &mut TenantTransaction, id: Uuid) -> Result<Vec<Uuid>, ApiError> {
    let parts = sqlx::query_scalar!("SELECT id FROM uploads WHERE final_id = $1 ORDER BY place", id);
    Ok(parts.fetch_all(transaction.connection()).await?)
}

/// Gives an upload up. What has come of it is deleted soon.
///
/// # Errors
/// [`ApiError::NotFound`]; [`ApiError::UploadState`] when it is complete: then there is a medium, or will be, unless the job that was to
/// make it has failed or was cancelled.
pub async fn abort(incoming: &Incoming, tenant: TenantKey, id: Uuid) -> Result<(), ApiError> {
    let mut transaction = incoming.library.database().begin(&Mandate::upkeep(tenant)).await?;
    let upload = lock(&mut transaction, id).await?;
    match upload.state {
        State::Completing if super::sweep::is_left(&mut transaction, &upload).await? => {}
        state @ (State::Completing | State::Done) => return Err(ApiError::UploadState(state.as_str())),
        State::Open | State::Failed | State::Expired | State::Aborted => {}
    }
    sqlx::query!("UPDATE uploads SET state = 'aborted', writer = NULL, due_at = now() WHERE id = $1", id)
        .execute(transaction.connection())
        .await?;
    transaction.commit().await?;
    // A worker does so if this does not work.
    if let Err(error) = super::sweep::clear(&incoming.library, tenant, id).await {
        tracing::debug!(%error, upload = %id, "what has come of an upload is deleted later");
    }
    Ok(())
}

/// A number of bytes as the database has it.
pub(super) fn number(bytes: u64) -> Result<i64, ApiError> {
    i64::try_from(bytes).map_err(|_| ApiError::UploadLength)
}

/// A time as the database has it.
pub(super) fn interval(time: std::time::Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(time.as_micros()).unwrap_or(i64::MAX) }
}
