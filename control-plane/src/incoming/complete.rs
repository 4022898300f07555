//! What all bytes of an upload become: a medium.
//!
//! They are read once, on their way to an object of the medium's own: what is hashed, measured and looked at is what is stored there,
//! and what anybody writes below the upload's name afterwards changes nothing. The last transaction makes the medium and says so in
//! the upload's row, under a lock: whoever does the same meanwhile finds it done, so that any number of tries makes one medium. That
//! not all of them read the bytes for nothing, the row says who does, for as long as that one is heard of.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use isolation::{Mandate, TenantKey, TenantTransaction};
use jobs::{JobId, NewJob};
use serde::{Deserialize, Serialize};
use storage::{GetOptions, ObjectPath, StorageError, StoredPart};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::parts::{self, NamedPart};
use super::record::{self, Protocol, State, Upload, interval};
use super::sweep::is_left;
use super::{Incoming, bucket, whole_path};
use crate::etag::Condition;
use crate::media::{self, Intake, Library, NewMedia, Row, Taken};
use crate::places::Place;
use crate::problem::ApiError;
use crate::quotas;

/// Uploads that are larger are completed by a worker: reading them takes longer than proxies wait for an answer.
const NOW_BYTES_MAX: u64 = 64 << 20;

/// How long nobody else reads the bytes of an upload whose reader is not heard of any more.
const HOLD: Duration = Duration::from_secs(15);

/// Time between two times that a reader is heard of.
const HEARD_EVERY: Duration = Duration::from_secs(3);

/// How long somebody waits for another one who completes the same: longer than for one who has died.
const PATIENCE: Duration = Duration::from_secs(20);

/// Time between two looks at whether it is done.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// So many bytes are copied in a second, however slow the store: what is larger has more time.
const BYTES_PER_SECOND: u64 = 4 << 20;

/// The kind of jobs that complete uploads.
pub const COMPLETE_JOB: &str = "complete_upload";

/// What such a job is told.
#[derive(Debug, Serialize, Deserialize)]
pub struct CompleteOrder {
    /// Which upload.
    pub upload: Uuid,
}

/// Says that all bytes are there: if `transaction` commits, a medium is made of them, whoever dies from then on.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn begin(transaction: &mut TenantTransaction, id: Uuid, bytes: u64) -> Result<(), ApiError> {
    let job = if bytes > NOW_BYTES_MAX { Some(enqueue(transaction, id).await?.0) } else { None };
    sqlx::query!(
        "UPDATE uploads SET state = 'completing', writer = NULL, writer_wanted = false, job_id = $2, error_code = NULL, error = NULL,
             due_at = now() + CASE WHEN $2::uuid IS NULL THEN interval '1 minute' ELSE interval '1 hour' END
         WHERE id = $1",
        id,
        job
    )
    .execute(transaction.connection())
    .await?;
    Ok(())
}

/// Has a worker complete it.
pub(super) async fn enqueue(transaction: &mut TenantTransaction, id: Uuid) -> Result<JobId, ApiError> {
    let order = serde_json::to_value(CompleteOrder { upload: id }).map_err(|_| ApiError::Internal)?;
    Ok(jobs::enqueue(transaction, &NewJob::new(COMPLETE_JOB, order)).await?)
}

/// Completes an upload, or has a worker do so: then it is [`State::Completing`], as when another request takes long to. Doing it again
/// changes nothing. It needs one of the places for uploads, as it reads and writes no less.
///
/// # Errors
/// Those of [`parts::check`] and [`finish`]; what an upload has failed with is told again.
pub async fn complete(
    incoming: &Incoming,
    (mandate, _place): (&Mandate, Place),
    id: Uuid,
    named: Option<&[NamedPart]>,
) -> Result<Upload, ApiError> {
    let tenant = mandate.tenant;
    let database = incoming.library.database();
    let mut transaction = database.begin(&Mandate::upkeep(tenant)).await?;
    let mut upload = record::find(&mut transaction, id).await?;
    if upload.is_partial() {
        return Err(ApiError::UploadState("a part of another one"));
    }
    let is_left = is_left(&mut transaction, &upload).await?;
    drop(transaction);
    if upload.state == State::Open {
        gather(incoming, tenant, &upload, named).await?;
    }
    if upload.state == State::Open || is_left {
        let mut transaction = database.begin(&Mandate::upkeep(tenant)).await?;
        // Somebody else may have done so meanwhile.
        let now = record::lock(&mut transaction, id).await?;
        if now.state == upload.state && now.job == upload.job {
            begin(&mut transaction, id, upload.bytes.unwrap_or_default()).await?;
        }
        upload = record::find(&mut transaction, id).await?;
        transaction.commit().await?;
    }
    match upload.state {
        State::Completing if upload.job.is_some() => Ok(upload),
        State::Completing => finish(&incoming.library, mandate, id, |_| ()).await,
        State::Done => Ok(upload),
        State::Failed => Err(failed_with(&upload)),
        State::Open | State::Expired | State::Aborted => Err(ApiError::UploadGone(upload.state.as_str())),
    }
}

/// What an upload has failed with, told again.
fn failed_with(upload: &Upload) -> ApiError {
    match upload.error.as_ref().map(|(code, _)| code.as_str()) {
        Some("hash-mismatch") => ApiError::HashMismatch,
        Some("upload-length") => ApiError::UploadLength,
        _ => ApiError::UploadState("failed: begin another one"),
    }
}

/// Makes sure that all bytes are there. A bucket puts its parts together.
async fn gather(
    incoming: &Incoming,
    tenant: TenantKey,
    upload: &Upload,
    named: Option<&[NamedPart]>,
) -> Result<(), ApiError> {
    if upload.protocol == Protocol::Tus {
        let is_whole = upload.bytes == Some(upload.received);
        let missing = || format!("the bytes from {} on", upload.received);
        return if is_whole { Ok(()) } else { Err(ApiError::UploadIncomplete { missing: missing() }) };
    }
    let (store, path) = (incoming.library.store()?, whole_path(tenant, upload.id));
    let there = incoming.parts_there(tenant, upload).await?;
    if let (Some(bucket), Some(multipart)) = (bucket(store), &upload.multipart) {
        // After a try that had to be given up, they are together already.
        if there.is_empty() && is_whole_there(store, &path, upload.bytes).await? {
            return Ok(());
        }
        parts::check(upload, &there, named)?;
        let parts = there.into_iter();
        let parts = parts.map(|part| StoredPart { number: part.number, size: part.bytes, etag: part.etag });
        return match bucket.complete_parts(&path, multipart, parts.collect()).await {
            Ok(_) => Ok(()),
            Err(StorageError::NotFound) if is_whole_there(store, &path, upload.bytes).await? => Ok(()),
            // One was sent again at this moment.
            Err(StorageError::NotFound | StorageError::Rejected { .. }) => Err(ApiError::Conflict),
            Err(error) => Err(error.into()),
        };
    }
    parts::check(upload, &there, named)
}

async fn is_whole_there(store: &storage::ObjectStore, path: &ObjectPath, bytes: Option<u64>) -> Result<bool, ApiError> {
    match store.head(path).await {
        Ok(meta) => Ok(Some(meta.size) == bytes),
        Err(StorageError::NotFound) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Makes the medium of an upload of which all bytes are there. `progress` is told how many have been read. While another one does so it
/// is waited for; if that takes long, the upload is still [`State::Completing`].
///
/// # Errors
/// [`ApiError::HashMismatch`] and others that are about the bytes: then the upload has failed. [`ApiError::Exists`] when the public id
/// is taken, and [`ApiError::Quota`]: it can be completed again. After [`ApiError::Store`], [`ApiError::Database`] and
/// [`ApiError::Conflict`] a worker goes on.
pub async fn finish(
    library: &Library,
    mandate: &Mandate,
    id: Uuid,
    progress: impl Fn(u64) + Send + Sync,
) -> Result<Upload, ApiError> {
    let (tenant, copier, until) = (mandate.tenant, Uuid::now_v7(), Instant::now() + PATIENCE);
    let mut has_waited = false;
    let upload = loop {
        let (upload, is_ours) = hold(library, tenant, (id, copier)).await?;
        match upload.state {
            State::Completing if is_ours => break upload,
            State::Completing if Instant::now() < until => {}
            State::Completing | State::Done => return Ok(upload),
            State::Failed => return Err(failed_with(&upload)),
            // Whoever was at it had to give it back.
            State::Open if has_waited => return Err(ApiError::Conflict),
            State::Open => return Err(ApiError::UploadState(upload.state.as_str())),
            state @ (State::Expired | State::Aborted) => return Err(ApiError::UploadGone(state.as_str())),
        }
        has_waited = true;
        sleep(LOOK_EVERY).await;
    };
    let copied = tokio::select! {
        copied = copy(library, mandate, &upload, progress) => copied,
        lost = keep_hold(library, tenant, (id, copier)) => Err(lost),
    };
    match copied {
        Ok(row) => media::published(library, tenant, row, None).await?,
        Err(reason) => {
            give_back(library, tenant, (id, copier), &reason).await?;
            return Err(reason);
        }
    };
    record::find(&mut library.database().begin(&Mandate::upkeep(tenant)).await?, id).await
}

/// Keeps others from reading the bytes of an upload, unless somebody does already; the upload, and whether they are ours to read.
async fn hold(library: &Library, tenant: TenantKey, (id, copier): (Uuid, Uuid)) -> Result<(Upload, bool), ApiError> {
    let mut transaction = library.database().begin(&Mandate::upkeep(tenant)).await?;
    let held = sqlx::query!(
        "UPDATE uploads SET copier = $2, copied_until = now() + $3
         WHERE id = $1 AND state = 'completing' AND coalesce(copied_until <= now(), true)",
        id,
        copier,
        interval(HOLD)
    );
    let is_ours = held.execute(transaction.connection()).await?.rows_affected() == 1;
    let upload = record::find(&mut transaction, id).await?;
    transaction.commit().await?;
    Ok((upload, is_ours))
}

/// Is heard of until the bytes are not ours any more, or it is not known.
async fn keep_hold(library: &Library, tenant: TenantKey, (id, copier): (Uuid, Uuid)) -> ApiError {
    let mut heard = Instant::now();
    loop {
        sleep(HEARD_EVERY).await;
        let renewed = async {
            let mut transaction = library.database().begin(&Mandate::upkeep(tenant)).await?;
            // Or done, by us and at this moment.
            let held = sqlx::query!(
                "UPDATE uploads SET copied_until = now() + $3
                 WHERE id = $1 AND copier = $2 AND state IN ('completing', 'done')",
                id,
                copier,
                interval(HOLD)
            );
            let is_ours = held.execute(transaction.connection()).await?.rows_affected() == 1;
            transaction.commit().await?;
            Ok::<_, ApiError>(is_ours)
        };
        match renewed.await {
            Ok(true) => heard = Instant::now(),
            Ok(false) => return ApiError::Conflict,
            // The database may be back before anybody else goes on.
            Err(_) if heard.elapsed() < HOLD => {}
            Err(error) => return error,
        }
    }
}

/// Reads the bytes on their way to the medium's object, and makes the medium.
async fn copy(
    library: &Library,
    mandate: &Mandate,
    upload: &Upload,
    progress: impl Fn(u64) + Send + Sync,
) -> Result<Row, ApiError> {
    let tenant = mandate.tenant;
    let (bytes, replaced) = (upload.bytes.unwrap_or_default(), upload.replaces.then_some(upload.media));
    quotas::check_room_for(library.database(), tenant, bytes, replaced).await?;
    let objects = objects(library, tenant, upload).await?;
    let time = time_for(library.upload_time, bytes);
    let intake = Intake::begin_within(library, tenant, upload.media, time).await?;
    let made = async {
        let taken = intake.take(Box::pin(read(library, objects, progress))).await.map_err(of_source)?;
        check(upload, &taken)?;
        make(library, mandate, upload, &intake, &taken).await
    };
    let made = timeout(time, made).await.unwrap_or(Err(ApiError::UploadTime));
    if let Err(reason) = &made {
        intake.give_up(reason).await;
    }
    made
}

/// How long so many bytes may take.
fn time_for(upload_time: Duration, bytes: u64) -> Duration {
    upload_time + Duration::from_secs(bytes / BYTES_PER_SECOND)
}

/// The objects that have its bytes, in their order.
async fn objects(library: &Library, tenant: TenantKey, upload: &Upload) -> Result<Vec<ObjectPath>, ApiError> {
    if upload.protocol == Protocol::Direct && bucket(library.store()?).is_some() {
        return Ok(vec![whole_path(tenant, upload.id)]);
    }
    let mut transaction = library.database().begin(&Mandate::upkeep(tenant)).await?;
    let rows = sqlx::query!(
        "SELECT upload_parts.upload_id, upload_parts.object FROM uploads
         JOIN upload_parts ON upload_parts.tenant_id = uploads.tenant_id AND upload_parts.upload_id = uploads.id
         WHERE uploads.id = $1 OR uploads.final_id = $1
         ORDER BY uploads.place, upload_parts.number",
        upload.id
    );
    let rows = rows.fetch_all(transaction.connection()).await?;
    let path = |upload, object| uploads::incoming_path(tenant.as_uuid(), upload, object);
    Ok(rows.into_iter().map(|row| path(row.upload_id, row.object)).collect())
}

/// The bytes of objects, one after the other.
fn read(
    library: &Library,
    objects: Vec<ObjectPath>,
    progress: impl Fn(u64) + Send + Sync,
) -> impl Stream<Item = Result<Bytes, StorageError>> + Send {
    let bodies = stream::iter(objects).then(async |path| {
        let store = library.store().map_err(|_| StorageError::Unsupported { what: "be read" })?;
        Ok::<_, StorageError>(store.get(&path, GetOptions::default()).await?.body)
    });
    let mut done = 0;
    bodies.try_flatten().inspect_ok(move |piece: &Bytes| {
        done += piece.len() as u64;
        progress(done);
    })
}

/// What a failure means when it was the source that could not be read, and not the object that could not be written.
fn of_source(error: ApiError) -> ApiError {
    match error {
        ApiError::Store(StorageError::Input { source }) => match source.downcast::<StorageError>() {
            Ok(error) if matches!(*error, StorageError::NotFound) => {
                ApiError::UploadIncomplete { missing: "something that had come".to_owned() }
            }
            Ok(error) => ApiError::Store(*error),
            Err(source) => ApiError::Store(StorageError::Input { source }),
        },
        error => error,
    }
}

/// Holds what has come against what was announced.
fn check(upload: &Upload, taken: &Taken) -> Result<(), ApiError> {
    if upload.bytes != Some(taken.bytes.unsigned_abs()) {
        return Err(ApiError::UploadLength);
    }
    if upload.sha256.is_some_and(|expected| expected != taken.sha256) {
        return Err(ApiError::HashMismatch);
    }
    Ok(())
}

/// Makes the medium.
async fn make(
    library: &Library,
    mandate: &Mandate,
    upload: &Upload,
    intake: &Intake<'_>,
    taken: &Taken,
) -> Result<Row, ApiError> {
    let fields = upload.description.check()?;
    let mut transaction = library.database().begin(mandate).await?;
    match record::lock(&mut transaction, upload.id).await?.state {
        State::Completing => {}
        // Another one had taken us for dead.
        State::Done => return Err(ApiError::Conflict),
        state => return Err(ApiError::UploadState(state.as_str())),
    }
    let filename = upload.filename.as_deref();
    let row = if upload.replaces {
        let condition = upload.media_version.map_or(Condition::None, Condition::Version);
        media::replace_in(&mut transaction, condition, intake, taken, filename).await?
    } else {
        media::insert(&mut transaction, &NewMedia { intake, taken, fields: &fields, filename }).await?
    };
    sqlx::query!(
        "UPDATE uploads SET state = 'done', error_code = NULL, error = NULL, due_at = now() WHERE id = $1 OR final_id = $1",
        upload.id
    )
    .execute(transaction.connection())
    .await?;
    transaction.commit().await?;
    Ok(row)
}

/// Notes why no medium was made, and lets others try.
async fn give_back(
    library: &Library,
    tenant: TenantKey,
    (id, copier): (Uuid, Uuid),
    reason: &ApiError,
) -> Result<(), ApiError> {
    let state = match reason {
        // Somebody has to change something else first; the bytes are good.
        ApiError::Exists(_) | ApiError::Quota(_) => State::Open,
        ApiError::HashMismatch
        | ApiError::UploadLength
        | ApiError::UploadIncomplete { .. }
        | ApiError::FileTooLarge { .. }
        | ApiError::Field { .. }
        | ApiError::NotFound(_)
        | ApiError::Changed => State::Failed,
        // A worker goes on.
        _ => State::Completing,
    };
    let mut transaction = library.database().begin(&Mandate::upkeep(tenant)).await?;
    sqlx::query!(
        "UPDATE uploads SET state = $2, error_code = $3, error = $4, copier = NULL, copied_until = NULL,
             job_id = CASE WHEN $2 = 'completing' THEN job_id END,
             refused_at = CASE WHEN $2 = 'open' THEN given.first ELSE refused_at END,
             expires_at = CASE WHEN $2 = 'completing' THEN expires_at ELSE given.until END,
             due_at = CASE $2 WHEN 'completing' THEN due_at WHEN 'open' THEN given.until ELSE now() END
         FROM (
             SELECT coalesce(refused_at, now()) AS first,
                 greatest(expires_at, coalesce(refused_at, now()) + interval '1 hour') AS until
             FROM uploads WHERE id = $1
         ) AS given
         WHERE id = $1 AND state = 'completing' AND copier = $5",
        id,
        state.as_str(),
        reason.code(),
        reason.detail(),
        copier
    )
    .execute(transaction.connection())
    .await?;
    transaction.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_uploads_have_more_time() {
        let hour = Duration::from_secs(3600);
        assert_eq!(time_for(hour, 1), hour);
        assert_eq!(time_for(hour, 50_000_000_000), hour + Duration::from_secs(11_920));
    }
}
