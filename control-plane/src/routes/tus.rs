//! `/v1/tus`: files that are sent over as many connections as it takes (tus 1.0.0, <https://tus.io/protocols/resumable-upload>), with
//! the extensions creation, creation-with-upload, creation-defer-length, termination, checksum, expiration and concatenation.

mod headers;
mod metadata;
mod protocol;

use isolation::Mandate;
use rocket::http::{Header, Status};
use rocket::response::{Responder, Response, Result as Rendered};
use rocket::{Data, Request, State, delete, head, patch, post};
use time::OffsetDateTime;
use uuid::Uuid;

use self::headers::{Concat, Length, TusHeaders};
use self::metadata::Metadata;
pub use self::protocol::Tus;
use super::uploads::{check_length, known, replaced};
use crate::auth::{Caller, Scope};
use crate::etag::Condition;
use crate::idempotency::NotKept;
use crate::incoming::{self, Incoming, NewUpload, Protocol, Received, Upload, Writer};
use crate::media;
use crate::places::Place;
use crate::problem::ApiError;
use crate::quotas;

/// An answer without a body.
pub struct TusAnswer {
    status: Status,
    headers: Vec<Header<'static>>,
}

impl TusAnswer {
    fn new(status: Status) -> Self {
        Self { status, headers: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push(Header::new(name, value.to_string()));
        self
    }

    /// With what is told of an upload each time.
    fn about(self, upload: &Upload, offset: u64) -> Self {
        let answer = self.with("Upload-Offset", offset);
        let answer = match upload.is_partial() {
            true => answer,
            false => answer.with("Calotype-Media-Id", upload.media),
        };
        // What is complete does not expire any more.
        match upload.state {
            incoming::State::Open if upload.bytes != Some(offset) => {
                answer.with("Upload-Expires", http_date(upload.expires_at))
            }
            _ => answer,
        }
    }
}

impl<'r> Responder<'r, 'static> for TusAnswer {
    fn respond_to(self, _: &'r Request<'_>) -> Rendered<'static> {
        let mut response = Response::build();
        response.status(self.status);
        for header in self.headers {
            response.header(header);
        }
        response.ok()
    }
}

fn http_date(at: OffsetDateTime) -> String {
    httpdate::fmt_http_date(at.into())
}

/// Begins an upload, with its first bytes if there are some.
#[utoipa::path(
    tag = "uploads",
    operation_id = "create_tus",
    security(("tenantKey" = ["media:write"])),
    params(TusHeaders, Condition),
    request_body(content = Vec<u8>, content_type = "application/offset+octet-stream"),
    responses((status = 201, description = "Begun", headers(("Location" = String, description = "Where it is"), ("Upload-Offset" = u64, description = "How many bytes have come"), ("Calotype-Media-Id" = Uuid, description = "The medium that it becomes"))))
)]
#[post("/tus", data = "<data>")]
pub async fn create(
    caller: Caller,
    _not_kept: NotKept,
    headers: TusHeaders,
    condition: Condition,
    data: Data<'_>,
    incoming: &State<Incoming>,
) -> Result<TusAnswer, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    incoming.library.store()?;
    let new = begin(incoming, &headers, condition)?;
    quotas::check_room(incoming.library.database(), caller.tenant).await?;
    let mut upload = insert(incoming, &caller.mandate, &new, (condition, &headers.concat)).await?;
    let location = format!("{}/v1/tus/{}", incoming.base_url(), upload.id);
    let mut offset = upload.received;
    if upload.state == incoming::State::Completing {
        upload = finish(incoming, &caller.mandate, upload, incoming.place(caller.tenant)).await?;
    } else if headers.is_offset_type {
        // That not all of the first bytes could be kept is no reason to begin anew.
        match receive(incoming, &caller.mandate, (upload.id, 0, None), headers, data).await {
            Ok((after, received)) => (upload, offset) = (after, received),
            Err(
                ApiError::BodyCut
                | ApiError::Busy
                | ApiError::Database(_)
                | ApiError::Store(_)
                | ApiError::TenantBusy { .. }
                | ApiError::UploadLocked
                | ApiError::UploadTime,
            ) => {
                let mut transaction = incoming.library.database().begin(&caller.mandate).await?;
                upload = incoming::find(&mut transaction, upload.id).await?;
                offset = upload.received;
            }
            // Nobody is told where it is, so nobody could go on with it.
            Err(error) => {
                if let Err(left) = incoming::abort(incoming, caller.tenant, upload.id).await {
                    tracing::debug!(%left, upload = %upload.id, "an upload that nobody knows of expires");
                }
                return Err(error);
            }
        }
    }
    Ok(TusAnswer::new(Status::Created).with("Location", location).about(&upload, offset))
}

fn begin(incoming: &Incoming, headers: &TusHeaders, condition: Condition) -> Result<NewUpload, ApiError> {
    let bytes = match (headers.length, &headers.concat) {
        (None, Some(Concat::Final(_))) => None,
        (Some(Length::Bytes(bytes)), None | Some(Concat::Partial)) => {
            check_length(incoming, "Upload-Length", bytes)?;
            Some(bytes)
        }
        (Some(Length::Later), None | Some(Concat::Partial)) => None,
        _ => {
            return Err(ApiError::field("Upload-Length", "or Upload-Defer-Length is sent, but not for a final upload"));
        }
    };
    let Metadata { filename, description, sha256, media_id } = Metadata::parse(headers.metadata.as_deref())?;
    Ok(NewUpload {
        id: Uuid::now_v7(),
        protocol: Protocol::Tus,
        bytes,
        part_bytes: None,
        sha256,
        filename: filename.as_deref().and_then(media::filename),
        replaces: replaced(media_id, condition, &description)?,
        description,
        tus_metadata: headers.metadata.clone(),
        concat: headers.concat.as_ref().map(Concat::as_str),
    })
}

async fn insert(
    incoming: &Incoming,
    mandate: &Mandate,
    new: &NewUpload,
    (condition, concat): (Condition, &Option<Concat>),
) -> Result<Upload, ApiError> {
    let mut transaction = incoming.library.database().begin(mandate).await?;
    if let Some((media, _)) = new.replaces {
        condition.check(Some(media::find(&mut transaction, media).await?.version))?;
    }
    let mut upload = incoming::insert(incoming, &mut transaction, new).await?;
    if let Some(Concat::Final(parts)) = concat {
        incoming::attach(&mut transaction, upload.id, parts).await?;
        upload = incoming::find(&mut transaction, upload.id).await?;
        check_length(incoming, "Upload-Concat", upload.received)?;
        incoming::begin_completing(&mut transaction, upload.id, upload.received).await?;
        upload = incoming::find(&mut transaction, upload.id).await?;
    }
    transaction.commit().await?;
    Ok(upload)
}

/// How far an upload is. Whoever sends bytes of it is ended: it is asked by a client whose connection is gone.
#[utoipa::path(
    tag = "uploads",
    operation_id = "tus_offset",
    security(("tenantKey" = ["media:write"])),
    params(TusHeaders),
    responses((status = 200, description = "It", headers(("Upload-Offset" = u64, description = "How many bytes have come"), ("Upload-Length" = u64, description = "How many there will be"))))
)]
#[head("/tus/<id>")]
pub async fn offset(
    caller: Caller,
    #[allow(unused_variables, reason = "they were checked")] headers: TusHeaders,
    id: &str,
    incoming: &State<Incoming>,
) -> Result<TusAnswer, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    let (id, database) = (known(id)?, incoming.library.database());
    of_tus(&incoming::find(&mut database.begin(&caller.mandate).await?, id).await?)?;
    incoming::take_over(database, caller.tenant, id, None).await?;
    let mut transaction = database.begin(&caller.mandate).await?;
    let upload = incoming::find(&mut transaction, id).await?;
    match upload.state {
        incoming::State::Completing | incoming::State::Done => {}
        // All is there, but for somebody to see to what is in the way.
        incoming::State::Open if upload.error.is_some() => return Err(ApiError::UploadState("not completed")),
        _ => upload.must_be_open()?,
    }
    let mut answer = TusAnswer::new(Status::Ok).about(&upload, upload.received);
    answer = match upload.bytes {
        Some(bytes) => answer.with("Upload-Length", bytes),
        None => answer.with("Upload-Defer-Length", 1),
    };
    if let Some(metadata) = &upload.tus_metadata {
        answer = answer.with("Upload-Metadata", metadata);
    }
    Ok(match upload.concat.as_deref() {
        Some("final") => {
            let parts = incoming::pieces(&mut transaction, id).await?;
            let parts: Vec<_> = parts.iter().map(|part| format!("{}/v1/tus/{part}", incoming.base_url())).collect();
            answer.with("Upload-Concat", format!("final;{}", parts.join(" ")))
        }
        Some(concat) => answer.with("Upload-Concat", concat),
        None => answer,
    })
}

/// Takes the bytes of an upload that come next. When the connection breaks, what has come until then is kept.
#[utoipa::path(
    tag = "uploads",
    operation_id = "append_tus",
    security(("tenantKey" = ["media:write"])),
    params(TusHeaders),
    request_body(content = Vec<u8>, content_type = "application/offset+octet-stream"),
    responses((status = 204, description = "They are stored", headers(("Upload-Offset" = u64, description = "How many bytes have come"), ("Calotype-Media-Id" = Uuid, description = "The medium that it becomes, once all have"))))
)]
#[patch("/tus/<id>", data = "<data>")]
pub async fn append(
    caller: Caller,
    headers: TusHeaders,
    id: &str,
    data: Data<'_>,
    incoming: &State<Incoming>,
) -> Result<TusAnswer, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    let id = known(id)?;
    if !headers.is_offset_type {
        return Err(ApiError::NotTusType);
    }
    let offset = headers.offset.ok_or_else(|| ApiError::field("Upload-Offset", "is missing"))?;
    let bytes = match headers.length {
        Some(Length::Bytes(bytes)) => {
            check_length(incoming, "Upload-Length", bytes)?;
            Some(bytes)
        }
        _ => None,
    };
    let (upload, offset) = receive(incoming, &caller.mandate, (id, offset, bytes), headers, data).await?;
    Ok(TusAnswer::new(Status::NoContent).about(&upload, offset))
}

/// Receives bytes; the upload after that, and how many have come.
async fn receive(
    incoming: &Incoming,
    mandate: &Mandate,
    (id, offset, bytes): (Uuid, u64, Option<u64>),
    headers: TusHeaders,
    data: Data<'_>,
) -> Result<(Upload, u64), ApiError> {
    let upload = incoming::find(&mut incoming.library.database().begin(mandate).await?, id).await?;
    of_tus(&upload)?;
    // As its specification says ("Concatenation").
    if upload.is_final() {
        return Err(ApiError::UploadFinal);
    }
    let writer = Writer::begin(incoming, mandate.tenant, id, (offset, bytes)).await?;
    let Received { offset, mut upload, is_whole, place } = writer.receive(data, headers.checksum).await?;
    if is_whole {
        upload = finish(incoming, mandate, upload, Ok(place)).await?;
    }
    Ok((upload, offset))
}

/// Makes the medium, if that takes no longer than a request may.
async fn finish(
    incoming: &Incoming,
    mandate: &Mandate,
    upload: Upload,
    place: Result<Place, ApiError>,
) -> Result<Upload, ApiError> {
    let completed = match place {
        Ok(place) => incoming::complete(incoming, (mandate, place), upload.id, None).await,
        Err(busy) => Err(busy),
    };
    match completed {
        // Its bytes are there: a worker goes on, and nobody has to send anything again.
        Err(
            error @ (ApiError::Busy
            | ApiError::Conflict
            | ApiError::Database(_)
            | ApiError::Store(_)
            | ApiError::TenantBusy { .. }
            | ApiError::UploadTime),
        ) => {
            tracing::warn!(cause = error.cause(), upload = %upload.id, "a worker completes an upload: {error}");
            Ok(Upload { state: incoming::State::Completing, ..upload })
        }
        completed => completed,
    }
}

/// Gives an upload up.
#[utoipa::path(
    tag = "uploads",
    operation_id = "terminate_tus",
    security(("tenantKey" = ["media:write"])),
    params(TusHeaders),
    responses((status = 204, description = "What has come of it is deleted"))
)]
#[delete("/tus/<id>")]
pub async fn terminate(
    caller: Caller,
    #[allow(unused_variables, reason = "they were checked")] headers: TusHeaders,
    id: &str,
    incoming: &State<Incoming>,
) -> Result<TusAnswer, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    let id = known(id)?;
    of_tus(&incoming::find(&mut incoming.library.database().begin(&caller.mandate).await?, id).await?)?;
    incoming::abort(incoming, caller.tenant, id).await?;
    Ok(TusAnswer::new(Status::NoContent))
}

/// Direct uploads are not found here.
fn of_tus(upload: &Upload) -> Result<(), ApiError> {
    if upload.protocol == Protocol::Tus { Ok(()) } else { Err(ApiError::NotFound("upload")) }
}
