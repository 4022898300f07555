//! `/v1/uploads`: files on their way in, sent part by part to URLs that are signed.

use isolation::{Mandate, TenantKey};
use rocket::http::{Header, Status};
use rocket::request::{FromRequest, Outcome, Request};
use rocket::serde::json::Json;
use rocket::{Data, Either, Responder, State, delete, get, post, put};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::answer::Answer;
use crate::auth::{self, Caller, Scope};
use crate::body::Body;
use crate::etag::Condition;
use crate::idempotency::{Begun, Once};
use crate::incoming::{
    self, Incoming, NamedPart, NewUpload, PART_URLS_MAX, PartThere, PartUrl, Protocol, SignedPart, Upload,
};
use crate::media::{self, Description, Media};
use crate::problem::ApiError;
use crate::quotas;
use crate::requests::{Exchange, managed, query_fields};
use crate::sealing::Seal;

/// A file that is to come.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BeginUpload {
    /// How many bytes it has.
    bytes: u64,
    /// SHA-256 of them, in hexadecimal digits. Without it nobody checks what comes.
    sha256: Option<String>,
    /// What it is called.
    filename: Option<String>,
    /// A medium whose bytes it replaces; nothing else is said of that one here.
    media_id: Option<Uuid>,
    /// Its name in URLs.
    public_id: Option<String>,
    /// The folder that it is in.
    folder: Option<String>,
    /// By which it is found and purged.
    #[serde(default)]
    tags: Vec<String>,
    /// A JSON object.
    metadata: Option<Value>,
    /// When the medium ends, as in RFC 3339.
    expires_at: Option<String>,
}

impl BeginUpload {
    fn check(&self, incoming: &Incoming, condition: Condition) -> Result<NewUpload, ApiError> {
        check_length(incoming, "bytes", self.bytes)?;
        let Self { public_id, folder, tags, metadata, expires_at, .. } = self;
        let description = Description {
            public_id: public_id.clone(),
            folder: folder.clone(),
            tags: tags.clone(),
            metadata: metadata.clone(),
            expires_at: expires_at.clone(),
        };
        let replaces = replaced(self.media_id, condition, &description)?;
        Ok(NewUpload {
            id: Uuid::now_v7(),
            protocol: Protocol::Direct,
            bytes: Some(self.bytes),
            part_bytes: Some(incoming::part_bytes(self.bytes)),
            sha256: self.sha256.as_deref().map(sha256).transpose()?,
            filename: self.filename.as_deref().and_then(media::filename),
            description,
            tus_metadata: None,
            replaces,
            concat: None,
        })
    }
}

/// Lets so many bytes come.
pub(super) fn check_length(incoming: &Incoming, name: &'static str, bytes: u64) -> Result<(), ApiError> {
    match bytes {
        0 => Err(ApiError::field(name, "is 1 or more")),
        bytes if bytes > incoming.library.bytes_max => {
            Err(ApiError::FileTooLarge { limit: incoming.library.bytes_max })
        }
        _ => Ok(()),
    }
}

/// Which medium is to get other bytes, and of which version. What is said of a new one is checked.
pub(super) fn replaced(
    media_id: Option<Uuid>,
    condition: Condition,
    description: &Description,
) -> Result<Option<(Uuid, Option<i64>)>, ApiError> {
    description.check()?;
    match (media_id, condition) {
        (None, Condition::None | Condition::IsNew) => Ok(None),
        (None, _) => Err(ApiError::field("media_id", "is what If-Match is about")),
        (Some(_), Condition::IsNew) => Err(ApiError::BadCondition("If-None-Match")),
        (Some(_), _) if *description != Description::default() => {
            Err(ApiError::field("media_id", "stands alone: nothing else is said of a medium that is there"))
        }
        (Some(media), Condition::Version(version)) => Ok(Some((media, Some(version)))),
        (Some(media), _) => Ok(Some((media, None))),
    }
}

/// A SHA-256 as text.
pub(super) fn sha256(text: &str) -> Result<[u8; 32], ApiError> {
    let digit = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let is_digits = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bytes: Option<Vec<u8>> = (0..64).step_by(2).map(digit).collect();
    let bytes = bytes.filter(|_| is_digits).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| ApiError::field("sha256", "is 64 hexadecimal digits"))
}

/// Why an upload has not become a medium.
#[derive(Debug, Serialize, ToSchema)]
pub struct UploadFailure {
    /// As in a problem.
    code: String,
    /// For people.
    detail: String,
}

/// An upload, as its tenant sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct UploadView {
    id: Uuid,
    /// open, completing, done, failed or expired.
    state: &'static str,
    /// direct or tus.
    protocol: &'static str,
    /// How many bytes it has; `null` where a client of tus has not said yet.
    bytes: Option<u64>,
    /// How many of them have come.
    received: u64,
    /// Size of all parts but the last, of a direct upload.
    part_bytes: Option<u64>,
    /// The parts that have come.
    parts: Vec<PartThere>,
    /// Where parts are sent to: those that were asked for, or the first ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    urls: Vec<PartUrl>,
    /// The medium that it becomes, or whose bytes it replaces.
    media_id: Uuid,
    /// That medium, once it is there.
    media: Option<Media>,
    /// The job that completes it, where that takes long.
    job_id: Option<Uuid>,
    /// Why it could not be completed, the last time.
    error: Option<UploadFailure>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// By when it has to be complete.
    #[serde(with = "time::serde::rfc3339")]
    expires_at: OffsetDateTime,
}

/// An upload as it is.
async fn view(
    incoming: &Incoming,
    caller: &Caller,
    upload: Upload,
    urls: Vec<PartUrl>,
) -> Result<UploadView, ApiError> {
    let is_open = upload.state == incoming::State::Open;
    let parts = match upload.protocol {
        Protocol::Direct if is_open => incoming.parts_there(caller.tenant, &upload).await?,
        _ => Vec::new(),
    };
    let media = match upload.state {
        // It may be deleted by now.
        incoming::State::Done => {
            let mut transaction = incoming.library.database().begin(&caller.mandate).await?;
            media::find(&mut transaction, upload.media).await.ok()
        }
        _ => None,
    };
    let received = match upload.protocol {
        Protocol::Tus => upload.received,
        Protocol::Direct if is_open => parts.iter().map(|part| part.bytes).sum(),
        Protocol::Direct => upload.bytes.unwrap_or_default(),
    };
    Ok(UploadView {
        id: upload.id,
        state: upload.state.as_str(),
        protocol: upload.protocol.as_str(),
        bytes: upload.bytes,
        received,
        part_bytes: upload.part_bytes,
        parts,
        urls,
        media_id: upload.media,
        media: media.map(|row| row.seen_by(&incoming.library, &caller.slug)),
        job_id: upload.job,
        error: upload.error.map(|(code, detail)| UploadFailure { code, detail }),
        created_at: upload.created_at,
        expires_at: upload.expires_at,
    })
}

/// The host that a request names, if it can be one.
#[derive(Debug)]
pub struct Host(Option<String>);

impl Host {
    /// It.
    pub fn name(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for Host {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b'-' | b'[' | b']');
        let host = request.headers().get_one("Host").filter(|host| host.len() <= 260 && host.bytes().all(is_part));
        Outcome::Success(Self(host.map(str::to_owned)))
    }
}

/// Begins an upload.
#[utoipa::path(
    tag = "uploads",
    security(("tenantKey" = ["media:write"])),
    params(Once, Condition),
    request_body = BeginUpload,
    responses((status = 201, description = "Where its parts are sent to: all, or the first 100", body = UploadView, headers(("Location" = String, description = "Where it is"))))
)]
#[post("/uploads", data = "<body>")]
pub async fn create(
    caller: Caller,
    once: Once,
    condition: Condition,
    host: Host,
    body: Body<BeginUpload>,
    incoming: &State<Incoming>,
    seal: &State<Seal>,
) -> Result<Answer, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    incoming.library.store()?;
    let new = body.check(incoming, condition)?;
    quotas::check_room(incoming.library.database(), caller.tenant).await?;
    // Another condition is another order.
    let fingerprint = Sha256::new().chain_update(body.fingerprint).chain_update(format!("{condition:?}"));
    let fingerprint = fingerprint.finalize().into();
    let (answer, upload) = match once.begin(incoming.library.database(), seal, &caller.mandate, &fingerprint).await? {
        Begun::First(mut work) => {
            if let Some((media, _)) = new.replaces {
                let before = media::find(work.transaction(), media).await?;
                condition.check(Some(before.version))?;
            }
            let upload = incoming::insert(incoming, work.transaction(), &new).await?;
            // URLs are not kept: whoever comes again gets new ones.
            let begun = Begin { id: upload.id };
            (work.commit(Answer::begun(format!("/v1/uploads/{}", upload.id), &begun)?).await?, upload)
        }
        Begun::Again(answer) => {
            let begun: Begin = serde_json::from_slice(&answer.body).map_err(|_| ApiError::Internal)?;
            let mut transaction = incoming.library.database().begin(&caller.mandate).await?;
            (answer, incoming::find(&mut transaction, begun.id).await?)
        }
    };
    let upload = incoming.ready(caller.tenant, upload).await?;
    let urls = match upload.state {
        incoming::State::Open => incoming.part_urls(caller.tenant, &upload, None, host.name()).await?,
        _ => Vec::new(),
    };
    answer.with_body(&view(incoming, &caller, upload, urls).await?)
}

/// What is kept of the answer.
#[derive(Serialize, Deserialize)]
struct Begin {
    id: Uuid,
}

/// One upload, and what has come of it.
#[utoipa::path(
    tag = "uploads",
    security(("tenantKey" = ["media:read"])),
    responses((status = 200, description = "It", body = UploadView))
)]
#[get("/uploads/<id>")]
pub async fn get(caller: Caller, id: &str, incoming: &State<Incoming>) -> Result<Json<UploadView>, ApiError> {
    caller.needs(Scope::MediaRead)?;
    incoming.library.store()?;
    let upload = found(incoming, caller.tenant, id).await?;
    Ok(Json(view(incoming, &caller, upload, Vec::new()).await?))
}

/// Parts that are to be sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PartNumbers {
    /// From 1; at most 100.
    numbers: Vec<u16>,
}

/// Where parts are sent to.
#[derive(Debug, Serialize, ToSchema)]
pub struct PartUrls {
    urls: Vec<PartUrl>,
}

/// URLs for parts of an upload.
#[utoipa::path(
    tag = "uploads",
    security(("tenantKey" = ["media:write"])),
    request_body = PartNumbers,
    responses((status = 200, description = "Where they are sent to", body = PartUrls))
)]
#[post("/uploads/<id>/parts", data = "<body>")]
pub async fn part_urls(
    caller: Caller,
    id: &str,
    host: Host,
    body: Body<PartNumbers>,
    incoming: &State<Incoming>,
) -> Result<Json<PartUrls>, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    let numbers = &body.numbers[..];
    if !(1..=PART_URLS_MAX).contains(&numbers.len()) {
        return Err(ApiError::field("numbers", format!("are 1 to {PART_URLS_MAX}")));
    }
    let upload = incoming.ready(caller.tenant, found(incoming, caller.tenant, id).await?).await?;
    let urls = incoming.part_urls(caller.tenant, &upload, Some(numbers), host.name()).await?;
    Ok(Json(PartUrls { urls }))
}

/// The part that the URL of a request is good for.
pub struct PartByUrl(SignedPart);

async fn signed_part(request: &Request<'_>) -> Result<SignedPart, ApiError> {
    let segment = |at| request.routed_segment(at).unwrap_or_default();
    let (path, now) = ((segment(1), segment(3)), OffsetDateTime::now_utc().unix_timestamp());
    let part = managed::<Incoming>(request)?.signed_part(path, query_fields(request), now).await;
    if part.is_err() {
        auth::stranger(request)?;
    }
    let part = part?;
    let length = request.headers().get_one("Content-Length").and_then(|length| length.parse::<u64>().ok());
    if length == Some(part.bytes) { Ok(part) } else { Err(ApiError::UploadLength) }
}

#[rocket::async_trait]
impl<'r> FromRequest<'r> for PartByUrl {
    type Error = ();

    async fn from_request(request: &'r Request<'_>) -> Outcome<Self, ()> {
        Exchange::outcome(request, signed_part(request).await.map(Self))
    }
}

/// An answer that only has an entity tag.
#[derive(Responder)]
pub struct Stored {
    nothing: (),
    etag: Header<'static>,
}

/// Takes a part, where the store does not do so itself.
#[utoipa::path(
    tag = "uploads",
    security(("signedUrl" = [])),
    params(
        ("id" = Uuid, Path, description = "Of the upload"),
        ("number" = u16, Path, description = "Which part, from 1"),
        ("tenant" = Uuid, Query, description = "Whose it is"),
        ("bytes" = u64, Query, description = "How many bytes it has; Content-Length has to be the same"),
        ("expires" = i64, Query, description = "Until when the URL is good, in Unix seconds")
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, description = "It is stored", headers(("ETag" = String, description = "What it is named by when the upload is completed"))))
)]
#[put("/uploads/<id>/parts/<number>", data = "<data>")]
pub async fn put_part(
    part: PartByUrl,
    #[allow(unused_variables, reason = "the guard has read it")] id: &str,
    #[allow(unused_variables, reason = "the guard has read it")] number: &str,
    data: Data<'_>,
    incoming: &State<Incoming>,
) -> Result<Stored, ApiError> {
    let etag = incoming.receive_part(&part.0, data).await?;
    Ok(Stored { nothing: (), etag: Header::new("ETag", etag) })
}

/// That all parts were sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompleteUpload {
    /// All of them, with the tags that they were answered with. Without it, whatever has come is taken.
    parts: Option<Vec<NamedPart>>,
}

/// It will be a medium.
#[derive(Responder)]
#[response(status = 202)]
pub struct Completing(Json<UploadView>);

/// Makes a medium of all that was sent.
#[utoipa::path(
    tag = "uploads",
    security(("tenantKey" = ["media:write"])),
    request_body = CompleteUpload,
    responses(
        (status = 200, description = "The medium is there", body = UploadView),
        (status = 202, description = "It is large: the job makes the medium", body = UploadView)
    )
)]
#[post("/uploads/<id>/complete", data = "<body>")]
pub async fn complete(
    caller: Caller,
    id: &str,
    body: Body<CompleteUpload>,
    incoming: &State<Incoming>,
) -> Result<Either<Json<UploadView>, Completing>, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    let (id, place) = (known(id)?, incoming.place(caller.tenant)?);
    let upload = incoming::complete(incoming, (&caller.mandate, place), id, body.parts.as_deref()).await?;
    let is_done = upload.state == incoming::State::Done;
    let view = Json(view(incoming, &caller, upload, Vec::new()).await?);
    Ok(if is_done { Either::Left(view) } else { Either::Right(Completing(view)) })
}

/// Gives an upload up.
#[utoipa::path(
    tag = "uploads",
    security(("tenantKey" = ["media:write"])),
    responses((status = 204, description = "What has come of it is deleted"))
)]
#[delete("/uploads/<id>")]
pub async fn abort(caller: Caller, id: &str, incoming: &State<Incoming>) -> Result<Status, ApiError> {
    caller.needs(Scope::MediaWrite)?;
    incoming::abort(incoming, caller.tenant, known(id)?).await?;
    Ok(Status::NoContent)
}

async fn found(incoming: &Incoming, tenant: TenantKey, id: &str) -> Result<Upload, ApiError> {
    incoming::find(&mut incoming.library.database().begin(&Mandate::upkeep(tenant)).await?, known(id)?).await
}

/// The id of an upload that may be there: what none can have is not asked for.
pub(super) fn known(text: &str) -> Result<Uuid, ApiError> {
    text.parse().map_err(|_| ApiError::NotFound("upload"))
}
