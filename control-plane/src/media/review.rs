//! Which bytes edges may serve: what becomes of a medium by what its workflow finds out, or by what somebody decides.
//!
//! A new medium that has to wait is there and not served. New bytes for one that is served wait beside it, as its replacement, and the
//! old ones are served until those have passed. So a row of `media` that is served only ever leads to bytes that may be.
//!
//! Must not ask anybody, nor go by what somebody has answered: that is `judging.rs`.

use isolation::TenantTransaction;
use jobs::NewJob;
use serde_json::Value;
use uuid::Uuid;

use super::content::Kind;
use super::judging::ScanOrder;
use super::record;
use super::row::{self, Row};
use super::state::MediaState;
use super::{Library, fields, intake};
use crate::etag::Condition;
use crate::events::EventKind;
use crate::problem::ApiError;
use crate::workflows::{self, Found, Occasion, Scan, Verdict};

/// How often a job may be begun: for days, since what is closed on failure has to wait for whoever fails.
const ATTEMPTS_MAX: i16 = 100;

/// Most bytes of the reason of a decision.
const REASON_BYTES_MAX: usize = 500;

/// Bytes that are judged.
#[derive(Debug)]
pub struct Judged {
    /// Of which medium.
    pub media: Uuid,
    /// Whether they are to take the place of others.
    is_replacement: bool,
    state: MediaState,
    /// What sort of thing they are.
    pub kind: Kind,
    /// Which they are.
    pub revision: Uuid,
    /// How many.
    pub bytes: u64,
    /// How they have fared so far; `None` where there was no workflow.
    pub scan: Option<Scan>,
}

impl Judged {
    /// Whether they are not served.
    pub fn is_held(&self) -> bool {
        self.is_replacement || !self.state.is_served()
    }
}

/// Begins a workflow for bytes that `transaction` gives to a medium; `None` when none is in force.
///
/// # Errors
/// [`ApiError::Database`].
pub async fn begin(
    transaction: &mut TenantTransaction,
    (media, revision): (Uuid, Uuid),
    kind: Kind,
    occasion: Occasion,
) -> Result<Option<Scan>, ApiError> {
    let Some(workflow) = workflows::in_force(transaction, kind).await? else { return Ok(None) };
    let mut scan = Scan::new(occasion, &workflow);
    if scan.is_over() {
        return Ok(None);
    }
    scan.job = Some(order(transaction, media, revision).await?);
    Ok(Some(scan))
}

async fn order(transaction: &mut TenantTransaction, media: Uuid, revision: Uuid) -> Result<Uuid, ApiError> {
    let payload = serde_json::to_value(ScanOrder { media, revision }).map_err(|_| ApiError::Internal)?;
    let job = NewJob { attempts_max: ATTEMPTS_MAX, ..NewJob::new(ScanOrder::JOB, payload) };
    Ok(jobs::enqueue(transaction, &job).await?.0)
}

/// A scan as the database has it.
pub(super) fn to_json(scan: &Scan) -> Result<Value, ApiError> {
    serde_json::to_value(scan).map_err(|_| ApiError::Internal)
}

fn of_json(scan: Option<Value>) -> Result<Option<Scan>, ApiError> {
    scan.map(serde_json::from_value).transpose().map_err(|error| {
        tracing::error!(%error, "a scan cannot be read");
        ApiError::Internal
    })
}

/// The bytes of a medium, and those that are to take their place. Nobody else changes either before `transaction` ends.
pub(super) async fn locked(
    transaction: &mut TenantTransaction,
    media: Uuid,
    condition: Condition,
) -> Result<(Judged, Option<Judged>), ApiError> {
    let own =
        sqlx::query!("SELECT version, state, kind, revision, bytes, scan FROM media WHERE id = $1 FOR UPDATE", media)
            .fetch_optional(transaction.connection())
            .await?
            .ok_or(ApiError::NotFound("medium"))?;
    condition.check(Some(own.version))?;
    let replacement = sqlx::query!(
        r#"SELECT state, kind, revision, bytes, scan AS "scan?" FROM replacements WHERE media_id = $1 FOR UPDATE"#,
        media
    )
    .fetch_optional(transaction.connection())
    .await?;
    let judged = |is_replacement, state: &str, kind: &str, revision, bytes: i64, scan| {
        Ok::<_, ApiError>(Judged {
            media,
            is_replacement,
            state: state.parse().map_err(|()| ApiError::Internal)?,
            kind: kind.parse().map_err(|()| ApiError::Internal)?,
            revision,
            bytes: bytes.unsigned_abs(),
            scan: of_json(scan)?,
        })
    };
    let replacement = replacement.map(|row| judged(true, &row.state, &row.kind, row.revision, row.bytes, row.scan));
    Ok((judged(false, &own.state, &own.kind, own.revision, own.bytes, own.scan)?, replacement.transpose()?))
}

/// Keeps a scan and where the bytes stand by it, and says what it has found if they are served.
pub(super) async fn keep(
    transaction: &mut TenantTransaction,
    judged: &Judged,
    scan: &mut Scan,
) -> Result<(), ApiError> {
    if !judged.is_held() {
        say(transaction, judged.media, scan).await?;
    }
    let (media, state, json) = (judged.media, judged.state.as_str(), to_json(scan)?);
    if judged.is_replacement {
        sqlx::query!("UPDATE replacements SET state = $2, scan = $3 WHERE media_id = $1", media, state, json)
            .execute(transaction.connection())
            .await?;
        return touch(transaction, media).await;
    }
    sqlx::query!(
        "UPDATE media SET state = $2, scan = $3, version = version + 1, updated_at = now() WHERE id = $1",
        media,
        state,
        json
    )
    .execute(transaction.connection())
    .await?;
    Ok(())
}

/// Something about a medium has changed that stands elsewhere.
pub(super) async fn touch(transaction: &mut TenantTransaction, media: Uuid) -> Result<(), ApiError> {
    sqlx::query!("UPDATE media SET version = version + 1, updated_at = now() WHERE id = $1", media)
        .execute(transaction.connection())
        .await?;
    Ok(())
}

/// Lets bytes be served: those of the medium, or those that take their place by that.
pub(super) async fn release_bytes(
    library: &Library,
    transaction: &mut TenantTransaction,
    judged: &Judged,
    scan: &mut Scan,
) -> Result<(), ApiError> {
    let media = judged.media;
    if judged.is_replacement {
        // They are counted beside the others until then: it takes no room that they have not.
        sqlx::query!(
            "UPDATE media SET kind = new.kind, revision = new.revision, content_type = new.content_type, bytes = new.bytes,
                 sha256 = new.sha256, width = new.width, height = new.height,
                 filename = coalesce(new.filename, media.filename), stored_at = new.stored_at
             FROM replacements AS new
             WHERE media.id = $1 AND new.tenant_id = media.tenant_id AND new.media_id = media.id",
            media
        )
        .execute(transaction.connection())
        .await?;
        sqlx::query!("DELETE FROM replacements WHERE media_id = $1", media).execute(transaction.connection()).await?;
    }
    let state = if judged.is_held() { MediaState::Ready } else { judged.state };
    let served = Judged { is_replacement: false, state, scan: None, ..*judged };
    keep(transaction, &served, scan).await?;
    if !judged.is_held() {
        return Ok(());
    }
    let row = row::find(transaction, media).await?;
    if judged.is_replacement {
        record::tell(library, transaction, EventKind::MediaReplaced, row.clone()).await?;
    }
    record::tell(library, transaction, EventKind::MediaReleased, row).await
}

/// Keeps bytes from being served, and has them deleted after a while.
pub(super) async fn reject_bytes(
    library: &Library,
    transaction: &mut TenantTransaction,
    judged: &Judged,
    scan: &mut Scan,
) -> Result<(), ApiError> {
    scan.found = Found::default();
    let (tenant, media) = (transaction.tenant().as_uuid(), judged.media);
    sqlx::query!(
        "INSERT INTO stored_objects (tenant_id, media_id, revision, state, due_at)
         VALUES ($1, $2, $3, 'rejected', now() + $4) ON CONFLICT DO NOTHING",
        tenant,
        media,
        judged.revision,
        intake::interval(library.rejected_time)
    )
    .execute(transaction.connection())
    .await?;
    let rejected = Judged { state: MediaState::Rejected, scan: None, ..*judged };
    keep(transaction, &rejected, scan).await?;
    let row = row::find(transaction, media).await?;
    record::tell(library, transaction, EventKind::MediaRejected, row).await
}

/// Says of a medium what its steps have found. What does not fit is left out, and noted.
async fn say(transaction: &mut TenantTransaction, media: Uuid, scan: &mut Scan) -> Result<(), ApiError> {
    if scan.found.is_empty() {
        return Ok(());
    }
    let Found { metadata, tags } = std::mem::take(&mut scan.found);
    let before = sqlx::query!("SELECT metadata, tags FROM media WHERE id = $1", media)
        .fetch_one(transaction.connection())
        .await?;
    let mut merged = before.metadata;
    if let Value::Object(merged) = &mut merged {
        merged.extend(metadata);
    }
    let all = before.tags.iter().chain(&tags).map(String::as_str);
    let fits = fields::metadata(merged).and_then(|metadata| Ok((metadata, fields::tags(all)?)));
    let Ok((metadata, tags)) = fits else {
        let last = scan.steps.iter_mut().rev().find(|finding| finding.verdict == Verdict::Passed);
        if let Some(finding) = last {
            finding.note = Some("what was found does not fit beside what is said already".to_owned());
        }
        return Ok(());
    };
    sqlx::query!("UPDATE media SET metadata = $2, tags = $3 WHERE id = $1", media, Value::Object(metadata), &tags[..])
        .execute(transaction.connection())
        .await?;
    Ok(())
}

/// Why somebody decides.
///
/// # Errors
/// [`ApiError::Field`].
pub fn reason(text: &str) -> Result<String, ApiError> {
    let is_allowed = (1..=REASON_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    let why = || format!("is 1 to {REASON_BYTES_MAX} bytes without control characters");
    if is_allowed { Ok(text.to_owned()) } else { Err(ApiError::field("reason", why())) }
}

/// Has bytes judged anew: those that are to take the place of others, if there are some, else the medium's own. Bytes that are served are
/// served meanwhile; rejected ones are in quarantine again.
///
/// # Errors
/// [`ApiError::NotFound`], [`ApiError::Changed`], [`ApiError::NoWorkflow`]; [`ApiError::MediaState`] when they were rejected by hand, or
/// are deleted.
pub async fn scan_again(
    library: &Library,
    transaction: &mut TenantTransaction,
    media: Uuid,
    condition: Condition,
) -> Result<jobs::JobId, ApiError> {
    let (own, replacement) = locked(transaction, media, condition).await?;
    let mut judged = replacement.unwrap_or(own);
    let is_back = judged.state == MediaState::Rejected;
    if is_back {
        if judged.scan.as_ref().is_some_and(|scan| scan.by_hand) {
            return Err(ApiError::MediaState("rejected by hand: only a release lets it through"));
        }
        keep_bytes(transaction, &judged).await?;
        judged.state = MediaState::Quarantined;
    }
    let workflow = workflows::in_force(transaction, judged.kind).await?.ok_or(ApiError::NoWorkflow)?;
    give_up(transaction, judged.scan.as_ref()).await?;
    let job = order(transaction, media, judged.revision).await?;
    // What is held was held for a reason, and goes through the same steps: others would be a way around them.
    let occasion = judged.scan.as_ref().filter(|_| judged.is_held()).map_or(Occasion::Requested, |scan| scan.event);
    let mut scan = Scan::new(occasion, &workflow);
    if scan.is_over() {
        return Err(ApiError::NoWorkflow);
    }
    scan.job = Some(job);
    keep(transaction, &judged, &mut scan).await?;
    if is_back {
        let row = row::find(transaction, media).await?;
        record::tell(library, transaction, EventKind::MediaQuarantined, row).await?;
    }
    Ok(jobs::JobId(job))
}

/// Keeps rejected bytes from being deleted, unless they are.
async fn keep_bytes(transaction: &mut TenantTransaction, judged: &Judged) -> Result<(), ApiError> {
    let kept = sqlx::query!(
        "DELETE FROM stored_objects WHERE media_id = $1 AND revision = $2 AND state = 'rejected'",
        judged.media,
        judged.revision
    )
    .execute(transaction.connection())
    .await?;
    if kept.rows_affected() == 1 { Ok(()) } else { Err(ApiError::MediaState("rejected, and its bytes are deleted")) }
}

/// Ends the job of a scan that does not count any more.
async fn give_up(transaction: &mut TenantTransaction, scan: Option<&Scan>) -> Result<(), ApiError> {
    let Some(job) = scan.filter(|scan| !scan.is_over()).and_then(|scan| scan.job) else { return Ok(()) };
    match jobs::cancel(transaction, jobs::JobId(job)).await {
        // It has ended, or was forgotten.
        Ok(()) | Err(jobs::JobsError::NotFound | jobs::JobsError::State(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Lets bytes be served, whatever their workflow says: those that are to take the place of others, if there are some, else the medium's own.
/// Then [`record::published`] has to follow.
///
/// # Errors
/// [`ApiError::NotFound`], [`ApiError::Changed`]; [`ApiError::MediaState`] when they are served already, or deleted.
pub async fn release(
    library: &Library,
    transaction: &mut TenantTransaction,
    media: Uuid,
    condition: Condition,
    reason: String,
) -> Result<Row, ApiError> {
    let (own, replacement) = locked(transaction, media, condition).await?;
    let mut judged = replacement.unwrap_or(own);
    match judged.state {
        MediaState::Quarantined => {}
        MediaState::Rejected => keep_bytes(transaction, &judged).await?,
        _ => return Err(ApiError::MediaState("served already")),
    }
    let mut scan = judged.scan.take().unwrap_or_else(|| Scan::without_workflow(Occasion::Requested));
    give_up(transaction, Some(&scan)).await?;
    scan.decide(Verdict::Passed, reason);
    release_bytes(library, transaction, &judged, &mut scan).await?;
    row::find(transaction, media).await
}

/// Keeps bytes from being served, whatever their workflow says: those that wait to take the place of others, if there are some, else the
/// medium's own. Then [`record::published`] has to follow.
///
/// # Errors
/// [`ApiError::NotFound`], [`ApiError::Changed`]; [`ApiError::MediaState`] when they are rejected already.
pub async fn reject(
    library: &Library,
    transaction: &mut TenantTransaction,
    media: Uuid,
    condition: Condition,
    reason: String,
) -> Result<Row, ApiError> {
    let (own, replacement) = locked(transaction, media, condition).await?;
    let waiting = replacement.filter(|replacement| replacement.state == MediaState::Quarantined);
    let mut judged = waiting.unwrap_or(own);
    if judged.state == MediaState::Rejected {
        return Err(ApiError::MediaState("rejected already"));
    }
    let mut scan = judged.scan.take().unwrap_or_else(|| Scan::without_workflow(Occasion::Requested));
    give_up(transaction, Some(&scan)).await?;
    scan.decide(Verdict::Rejected, reason);
    reject_bytes(library, transaction, &judged, &mut scan).await?;
    row::find(transaction, media).await
}
