//! Everything that can go wrong with a request, and the one mapping to status, code and public text (RFC 9457).
//!
//! The public text never holds what the database or a library said: that goes to the request's event as `cause`.

use std::io::Cursor;

use isolation::DatabaseError;
use jobs::JobsError;
use rocket::Request;
use rocket::http::{ContentType, Header, Status};
use rocket::response::{Responder, Response, Result as Rendered};
use serde::Serialize;
use storage::StorageError;
use tenancy::Mistake;
use thiserror::Error;
use utoipa::ToSchema;

use crate::auth::Scope;
use crate::incoming::Checksum;
use crate::quotas::Quota;
use crate::requests::Exchange;
use crate::sealing::SealError;
use crate::txt::TxtError;

/// Why a request is refused, or failed.
#[derive(Debug, Error)]
pub enum ApiError {
    /// No key, or none that is known, valid and of a tenant that is not suspended.
    #[error("a valid key is needed: \"Authorization: Bearer cal_…\"")]
    Unauthenticated,
    /// A tenant's key where the operator's is needed.
    #[error("only the admin key may do this")]
    AdminOnly,
    /// The operator's key where a tenant's is needed.
    #[error("this belongs to a tenant: use one of its keys")]
    TenantOnly,
    /// The key may not do this.
    #[error("the key lacks the scope {0}")]
    Scope(Scope),
    /// There is none, or it is somebody else's.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// Nothing is served there.
    #[error("nothing is served at this path")]
    NoRoute,
    /// Something is served there, but not so.
    #[error("the path does not take this method")]
    Method,
    /// There is one already.
    #[error("there is already a {0}")]
    Exists(&'static str),
    /// Another change came first.
    #[error("another change came first; try again")]
    Conflict,
    /// It was changed by somebody else, or is not as `If-Match` says.
    #[error("it is not as If-Match says: get it again")]
    Changed,
    /// `If-Match` or `If-None-Match` that cannot be read.
    #[error("{0} is \"*\" or one entity tag as it was sent")]
    BadCondition(&'static str),
    /// Another content type than JSON.
    #[error("the body must be application/json")]
    NotJsonType,
    /// More bytes than are read.
    #[error("the body has more than {limit} bytes")]
    BodyTooLarge {
        /// How many are read.
        limit: u64,
    },
    /// Another content type than that of a form.
    #[error("the body must be multipart/form-data with a boundary")]
    NotFormType,
    /// A form that is not what is wanted.
    #[error("the form cannot be used: {0}")]
    Form(String),
    /// A file of more bytes than are kept.
    #[error("the file has more than {limit} bytes")]
    FileTooLarge {
        /// How many are kept.
        limit: u64,
    },
    /// An upload that took too long, or stood still.
    #[error("the upload took too long")]
    UploadTime,
    /// The body did not come whole.
    #[error("the body ended early")]
    BodyCut,
    /// The body did not come in time.
    #[error("the body did not come within {seconds} seconds")]
    BodySlow {
        /// In which it should have.
        seconds: u64,
    },
    /// More requests than are allowed.
    #[error("more requests come than are allowed; try again in {seconds} s")]
    RateLimited {
        /// After which one more is allowed.
        seconds: u64,
    },
    /// Not JSON, or not what is wanted.
    #[error("the body cannot be used: line {line}, column {column}: {reason}")]
    Json {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A field, or a part of the path or query, that says what is not allowed.
    #[error("{name}: {why}")]
    Field {
        /// Its name.
        name: &'static str,
        /// What is allowed.
        why: String,
    },
    /// What edges would refuse.
    #[error("{}", listed(.0))]
    Mistakes(Vec<Mistake>),
    /// What others lean on.
    #[error("it is still in use: {}", listed(.0))]
    InUse(Vec<Mistake>),
    /// Not a cursor of this list.
    #[error("cursor: not one that this list has given")]
    Cursor,
    /// Another tenant has proved it.
    #[error("another tenant has proved that the host is its own")]
    DomainTaken,
    /// The record is not there.
    #[error("the TXT record does not say so yet: set it as \"record\" tells, and try again once it can be seen")]
    DomainUnproved,
    /// It is not known whether the record is there.
    #[error("name servers cannot be asked for the record; try again")]
    Dns(#[from] TxtError),
    /// An `Idempotency-Key` that is none.
    #[error("Idempotency-Key is one header of 1 to 255 printable ASCII characters")]
    BadIdempotencyKey,
    /// An `Idempotency-Key` where no answer is kept.
    #[error("answers to this are not kept: send it without Idempotency-Key")]
    IdempotencyUnsupported,
    /// The same `Idempotency-Key` with another path or body.
    #[error("another request came with this Idempotency-Key: use a new key for each")]
    IdempotencyMismatch,
    /// The request with this `Idempotency-Key` is being done.
    #[error("the first request with this Idempotency-Key is not answered yet; try again")]
    IdempotencyRunning,
    /// A secret that cannot be kept.
    #[error("secrets cannot be kept here: the operator has to set control-plane.master_key")]
    NoMasterKey,
    /// There is no place for uploads.
    #[error("uploads cannot be kept here: the operator has to set control-plane.uploads")]
    NoStore,
    /// More than the tenant may store.
    #[error("it would be more than the tenant's quota of {0}: delete something, or ask the operator for more")]
    Quota(Quota),
    /// The tenant may send nothing more this month.
    #[error("the tenant's quota of bandwidth is used up for this month: ask the operator for more")]
    Bandwidth,
    /// A folder with something in it.
    #[error("the folder is not empty")]
    NotEmpty,
    /// More uploads than a tenant may have that are not over.
    #[error("{limit} uploads are not over yet: complete or abort some of them")]
    TooManyUploads {
        /// How many there may be.
        limit: i64,
    },
    /// More uploads than are received at the same time, or downloads than are sent.
    #[error("too many files are being received or sent; try again")]
    Busy,
    /// As many uploads as one tenant may have received at the same time.
    #[error("{limit} uploads of this tenant are being received, which is its share; try again")]
    TenantBusy {
        /// How many that are.
        limit: usize,
    },
    /// More downloads of a tenant than are sent at the same time.
    #[error("{limit} downloads are being sent already: let one end")]
    TooManyDownloads {
        /// How many there may be.
        limit: usize,
    },
    /// A download of more than is allowed.
    #[error("it would be more than {limit} {of}: download folders or collections with less in them")]
    DownloadTooLarge {
        /// How many there may be.
        limit: u64,
        /// What is counted.
        of: &'static str,
    },
    /// A download that would have nothing in it.
    #[error("there is nothing in it that could be downloaded")]
    DownloadEmpty,
    /// An upload that is over, without a medium.
    #[error("the upload is {0}: begin another one")]
    UploadGone(&'static str),
    /// An upload that is in another state.
    #[error("the upload is {0}")]
    UploadState(&'static str),
    /// Bytes for an upload that is put together of others.
    #[error("the upload is put together of others, and takes no bytes itself")]
    UploadFinal,
    /// Bytes for another place than the one where an upload goes on.
    #[error("the upload goes on at {offset}")]
    UploadOffset {
        /// Where it does.
        offset: u64,
    },
    /// Somebody else has begun to write to the same upload.
    #[error("another request goes on with the upload")]
    UploadLocked,
    /// An upload of which something is missing.
    #[error("the upload is not complete: {missing} is missing")]
    UploadIncomplete {
        /// What it is.
        missing: String,
    },
    /// More or fewer bytes than were announced.
    #[error("there are not as many bytes as were announced")]
    UploadLength,
    /// Bytes that were damaged on their way.
    #[error("the bytes are not those that Upload-Checksum was made of: send them again")]
    ChecksumMismatch,
    /// A file that is not the one that was announced.
    #[error("the file does not have the SHA-256 that was announced")]
    HashMismatch,
    /// A URL that is good by itself, and is damaged, of somebody else, or too old.
    #[error("the URL is not signed, or not good any more")]
    UrlRefused,
    /// An `Upload-Checksum` that cannot be used.
    #[error("Upload-Checksum is one of {}, and base64 of what has to come out", Checksum::ALGORITHMS)]
    BadChecksum,
    /// Another version of tus.
    #[error("tus 1.0.0 is spoken here: send it as Tus-Resumable")]
    TusVersion,
    /// Another content type than that of tus.
    #[error("the body must be application/offset+octet-stream")]
    NotTusType,
    /// A job that is in another state.
    #[error("the job is {0}")]
    JobState(String),
    /// A webhook that is in another state: how it is.
    #[error("the webhook {0}")]
    WebhookState(&'static str),
    /// A medium of which this cannot be done as it is.
    #[error("the medium is {0}")]
    MediaState(&'static str),
    /// Nothing is to be found out of such media.
    #[error("no workflow is in force for media of this kind")]
    NoWorkflow,
    /// There is no scanner.
    #[error("there is no scanner here: the operator has to set control-plane.scanner")]
    NoScanner,
    /// The object store, or what it said.
    #[error(transparent)]
    Store(#[from] StorageError),
    /// A secret that does not open.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The database, or what it said.
    #[error(transparent)]
    Database(DatabaseError),
    /// The server is stopping, or a panic.
    #[error("the server failed")]
    Internal,
}

fn listed(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl From<DatabaseError> for ApiError {
    fn from(error: DatabaseError) -> Self {
        Quota::of_refusal(&error).map_or(Self::Database(error), Self::Quota)
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        DatabaseError::from(error).into()
    }
}

impl From<JobsError> for ApiError {
    fn from(error: JobsError) -> Self {
        match error {
            JobsError::NotFound => Self::NotFound("job"),
            JobsError::State(state) => Self::JobState(state),
            JobsError::Database(error) => Self::Database(error),
            JobsError::Needs | JobsError::LeaseLost => Self::Internal,
        }
    }
}

/// A status of tus ("Checksum").
const CHECKSUM_MISMATCH: Status = Status::new(460);

/// Seconds after which what failed for a passing reason may be tried again.
const RETRY_SECONDS: u64 = 1;

impl ApiError {
    /// A field that is not allowed.
    pub fn field(name: &'static str, why: impl Into<String>) -> Self {
        Self::Field { name, why: why.into() }
    }

    /// One mistake in a document, by its key.
    pub fn mistake(key: String, why: String) -> Self {
        Self::Mistakes(vec![Mistake { key, why }])
    }

    /// What it is to HTTP.
    pub fn status(&self) -> Status {
        self.status_and_code().0
    }

    fn status_and_code(&self) -> (Status, &'static str) {
        match self {
            Self::Unauthenticated => (Status::Unauthorized, "unauthenticated"),
            Self::AdminOnly => (Status::Forbidden, "admin-only"),
            Self::TenantOnly => (Status::Forbidden, "tenant-only"),
            Self::Scope(_) => (Status::Forbidden, "scope-missing"),
            Self::NotFound(_) => (Status::NotFound, "not-found"),
            Self::NoRoute => (Status::NotFound, "no-such-path"),
            Self::Method => (Status::MethodNotAllowed, "method-not-allowed"),
            Self::Exists(_) => (Status::Conflict, "exists"),
            Self::Changed => (Status::PreconditionFailed, "changed"),
            Self::BadCondition(_) => (Status::BadRequest, "bad-condition"),
            Self::NotJsonType => (Status::UnsupportedMediaType, "not-json"),
            Self::BodyTooLarge { .. } => (Status::PayloadTooLarge, "body-too-large"),
            Self::NotFormType => (Status::UnsupportedMediaType, "not-form"),
            Self::Form(_) => (Status::BadRequest, "bad-form"),
            Self::FileTooLarge { .. } => (Status::PayloadTooLarge, "file-too-large"),
            Self::UploadTime => (Status::RequestTimeout, "upload-time"),
            Self::BodyCut => (Status::BadRequest, "body-cut"),
            Self::BodySlow { .. } => (Status::RequestTimeout, "body-slow"),
            Self::RateLimited { .. } => (Status::TooManyRequests, "rate-limited"),
            Self::Json { .. } => (Status::BadRequest, "bad-json"),
            Self::InUse(_) => (Status::Conflict, "in-use"),
            Self::Mistakes(_) | Self::Field { .. } => (Status::UnprocessableEntity, "bad-field"),
            Self::Cursor => (Status::BadRequest, "bad-cursor"),
            Self::DomainTaken => (Status::Conflict, "domain-taken"),
            Self::DomainUnproved => (Status::UnprocessableEntity, "domain-unproved"),
            Self::Dns(_) => (Status::ServiceUnavailable, "dns-unavailable"),
            Self::BadIdempotencyKey => (Status::BadRequest, "bad-idempotency-key"),
            Self::IdempotencyUnsupported => (Status::BadRequest, "idempotency-unsupported"),
            Self::IdempotencyMismatch => (Status::UnprocessableEntity, "idempotency-mismatch"),
            Self::IdempotencyRunning => (Status::Conflict, "idempotency-running"),
            Self::NoMasterKey => (Status::NotImplemented, "no-master-key"),
            Self::NoStore => (Status::NotImplemented, "no-store"),
            Self::Quota(Quota::Storage) => (Status::Forbidden, "quota-storage"),
            Self::Quota(Quota::Files) => (Status::Forbidden, "quota-files"),
            Self::Bandwidth => (Status::TooManyRequests, "quota-bandwidth"),
            Self::NotEmpty => (Status::Conflict, "not-empty"),
            Self::TooManyUploads { .. } => (Status::TooManyRequests, "too-many-uploads"),
            Self::Busy | Self::TenantBusy { .. } => (Status::ServiceUnavailable, "busy"),
            Self::TooManyDownloads { .. } => (Status::TooManyRequests, "too-many-downloads"),
            Self::DownloadTooLarge { .. } => (Status::UnprocessableEntity, "download-too-large"),
            Self::DownloadEmpty => (Status::NotFound, "download-empty"),
            Self::UploadGone(_) => (Status::Gone, "upload-gone"),
            Self::UploadState(_) => (Status::Conflict, "upload-state"),
            Self::UploadFinal => (Status::Forbidden, "upload-final"),
            Self::UploadOffset { .. } => (Status::Conflict, "upload-offset"),
            Self::UploadLocked => (Status::Locked, "upload-locked"),
            Self::UploadIncomplete { .. } => (Status::Conflict, "upload-incomplete"),
            Self::UploadLength => (Status::UnprocessableEntity, "upload-length"),
            Self::ChecksumMismatch => (CHECKSUM_MISMATCH, "checksum-mismatch"),
            Self::HashMismatch => (Status::UnprocessableEntity, "hash-mismatch"),
            Self::UrlRefused => (Status::Forbidden, "url-refused"),
            Self::BadChecksum => (Status::BadRequest, "bad-checksum"),
            Self::TusVersion => (Status::PreconditionFailed, "tus-version"),
            Self::NotTusType => (Status::UnsupportedMediaType, "not-tus"),
            Self::JobState(_) => (Status::Conflict, "job-state"),
            Self::WebhookState(_) => (Status::Conflict, "webhook-state"),
            Self::MediaState(_) => (Status::Conflict, "media-state"),
            Self::NoWorkflow => (Status::Conflict, "no-workflow"),
            Self::NoScanner => (Status::NotImplemented, "no-scanner"),
            Self::Store(_) => (Status::ServiceUnavailable, "store-unavailable"),
            Self::Database(DatabaseError::Unavailable(_)) => (Status::ServiceUnavailable, "database-unavailable"),
            Self::Conflict | Self::Database(DatabaseError::Conflict(_)) => (Status::Conflict, "conflict"),
            Self::Database(_) | Self::Seal(_) | Self::Internal => (Status::InternalServerError, "internal"),
        }
    }

    /// What does not change between versions.
    pub fn code(&self) -> &'static str {
        self.status_and_code().1
    }

    /// Seconds after which the same may work.
    fn retry_seconds(&self) -> Option<u64> {
        match self {
            Self::Dns(_)
            | Self::Busy
            | Self::TenantBusy { .. }
            | Self::IdempotencyRunning
            | Self::Store(_)
            | Self::Database(DatabaseError::Unavailable(_)) => Some(RETRY_SECONDS),
            Self::RateLimited { seconds } => Some(*seconds),
            _ => None,
        }
    }

    /// The public text: no word of the database's answer.
    pub fn detail(&self) -> String {
        match self {
            Self::Database(DatabaseError::Unavailable(_)) => "the database cannot be reached; try again".to_owned(),
            Self::Database(DatabaseError::Conflict(_)) => "another change came first; try again".to_owned(),
            Self::Store(_) => "the object store cannot be used at the moment; try again".to_owned(),
            Self::Database(_) | Self::Seal(_) | Self::Internal => "something went wrong on our side".to_owned(),
            error => error.to_string(),
        }
    }

    /// What the operator needs to know and the public must not.
    pub fn cause(&self) -> Option<String> {
        let error: &dyn std::error::Error = match self {
            Self::Database(error) => error,
            Self::Store(error) => error,
            Self::Dns(error) => error,
            Self::Seal(error) => error,
            _ => return None,
        };
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            text += &format!(": {error}");
            source = error.source();
        }
        Some(text)
    }
}

/// Why a request was refused, or failed.
#[derive(Serialize, ToSchema)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: String,
}

impl<'r> Responder<'r, 'static> for ApiError {
    fn respond_to(self, request: &'r Request<'_>) -> Rendered<'static> {
        let ((status, code), retry) = (self.status_and_code(), self.retry_seconds());
        Exchange::of(request).failed(code, self.cause());
        let problem = Problem {
            kind: format!("urn:calotype:problem:{code}"),
            title: if status == CHECKSUM_MISMATCH { "Checksum Mismatch" } else { status.reason_lossy() },
            status: status.code,
            code,
            detail: self.detail(),
        };
        let body = serde_json::to_vec(&problem).map_err(|_| Status::InternalServerError)?;
        let mut response = Response::build();
        response.status(status).header(ContentType::new("application", "problem+json"));
        response.sized_body(body.len(), Cursor::new(body));
        if status == Status::Unauthorized {
            response.header(Header::new("WWW-Authenticate", "Bearer"));
        }
        if status == Status::RequestTimeout {
            // The rest of the body is not waited for.
            response.header(Header::new("Connection", "close"));
        }
        if let Some(seconds) = retry {
            response.header(Header::new("Retry-After", seconds.to_string()));
        }
        response.ok()
    }
}

#[cfg(test)]
mod tests {
    /// Codes stand in one place of this file each, as `"code")`.
    #[test]
    fn every_code_is_documented_and_no_other() {
        let (code, docs) = (include_str!("problem.rs"), include_str!("../../docs/api.md"));
        let mapping = code.split("fn status_and_code").nth(1).and_then(|rest| rest.split("\n    }\n").next());
        let pieces = mapping.expect("the mapping is there").split('"').skip(1).step_by(2);
        let codes: std::collections::BTreeSet<_> = pieces.collect();
        let errors = docs.split("## Errors").nth(1).expect("the list is there");
        let rows = errors.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        assert_eq!(codes, rows.collect());
        assert!(codes.len() > 15);
    }
}
