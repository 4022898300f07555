//! What an answer of the server, or the lack of one, means.
//!
//! The only place that reads S3's error codes. Must not classify by texts meant for people.

use std::error::Error;
use std::time::Duration;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::StorageError;

/// Codes that say: not this object, but we as a whole. `NotSignedUp` is how some servers call an unknown key.
const CREDENTIALS_REFUSED: [&str; 7] = [
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidToken",
    "ExpiredToken",
    "TokenRefreshRequired",
    "RequestTimeTooSkewed",
    "NotSignedUp",
];

/// Codes of failures that pass; some come with a 4xx status, or within an answer that started as a 200.
const UNAVAILABLE: [&str; 6] =
    ["SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "OperationAborted", "Throttling"];

/// Maps a failure of the SDK. `limit` is the time that each attempt had.
pub(super) fn failed<E>(error: SdkError<E, HttpResponse>, limit: Duration) -> StorageError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let timed_out = match &error {
        SdkError::TimeoutError(_) => true,
        SdkError::DispatchFailure(failure) => failure.is_timeout(),
        _ => false,
    };
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = match &error {
        SdkError::ServiceError(answer) => answer.err().code().map(str::to_owned),
        _ => None,
    };
    let is_answer = matches!(error, SdkError::ServiceError(_));
    let is_ours = matches!(error, SdkError::ConstructionFailure(_));
    let source = error.into_source().unwrap_or_else(Into::into);
    if timed_out {
        return StorageError::TimedOut { limit, source: Some(source) };
    }
    if is_ours {
        return StorageError::Rejected { source };
    }
    // Without a well-formed answer, somebody between us and the store, or the store itself, is broken.
    let Some(status) = status.filter(|_| is_answer) else { return StorageError::Unavailable { source } };
    match (status, code.as_deref()) {
        (_, Some(code)) if CREDENTIALS_REFUSED.contains(&code) => {
            StorageError::CredentialsRefused { code: code.to_owned(), source }
        }
        (_, Some(code)) if UNAVAILABLE.contains(&code) => StorageError::Unavailable { source },
        (304, _) => StorageError::NotModified,
        // Anything else with a 404 lacks more than the object: the bucket, an upload, a feature.
        (404, None | Some("NoSuchKey" | "NotFound")) => StorageError::NotFound,
        (401, code) => StorageError::CredentialsRefused { code: code.unwrap_or("401").to_owned(), source },
        (403, _) => StorageError::AccessDenied { source },
        // We name the version of what is to be copied: it is another one by now.
        (412, _) => StorageError::Changed,
        // A success that the SDK could not make sense of.
        (429 | 500.. | 200..300, _) => StorageError::Unavailable { source },
        _ => StorageError::Rejected { source },
    }
}
