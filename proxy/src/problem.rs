//! Everything that can go wrong with a request, and the one mapping to status, code and public text (RFC 9457).
//!
//! The public text never holds what a store or library said: that goes to the access event as `cause`.

use std::sync::Arc;

use fetch::FetchError;
use http::StatusCode;
use imaging::ImagingError;
use serde::Serialize;
use storage::StorageError;
use thiserror::Error;
use transform_url::UrlError;

use crate::pool::PoolError;
use crate::quotas::{OverQuota, Spent};
use crate::rates::{Kind, OverRate};
use crate::source::SourceError;

/// Content type of a problem.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// Why a request is not answered with a picture. Shared by all who waited for the same fill.
#[derive(Debug, Clone, Error)]
pub enum EdgeError {
    /// The URL is not a delivery URL.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The header is larger than we read.
    #[error("the request's header has more than {limit} {unit}")]
    HeaderTooLarge {
        /// How many are allowed.
        limit: usize,
        /// Of what.
        unit: &'static str,
    },
    /// A body where there is nothing to send.
    #[error("requests have no body here")]
    Body,
    /// Neither GET nor HEAD.
    #[error("only GET and HEAD are answered here")]
    Method,
    /// No tenant has this name.
    #[error("there is no tenant {0:?}")]
    UnknownTenant(String),
    /// The tenant has no origin of this name.
    #[error("the tenant has no origin {0:?}")]
    UnknownOrigin(String),
    /// The URL is not signed and does not go without.
    #[error("the URL must be signed; without a signature this tenant serves {without}")]
    SignatureRequired {
        /// What goes without, in words.
        without: String,
    },
    /// An op of an unsigned URL goes beyond the tenant's lists.
    #[error("op {op:?} goes beyond what this tenant serves without a signature: {without}")]
    UnsignedNotAllowed {
        /// The full name of the op.
        op: &'static str,
        /// What goes without, in words.
        without: String,
    },
    /// Some of `exp`, `kid` and `sig`, but not `kid` and `sig`.
    #[error("a signed URL has kid and sig, and perhaps exp")]
    SignatureIncomplete,
    /// The tenant has no key of this name, or no longer.
    #[error("there is no signing key {0:?}")]
    UnknownKey(String),
    /// The signature is that of something else.
    #[error("the signature does not match: it covers the tenant, the path byte for byte as it is sent, exp and kid")]
    SignatureMismatch,
    /// The expiry has come.
    #[error("the URL has expired")]
    SignatureExpired,
    /// Signed for ever where the tenant wants an end.
    #[error("the signed URL has no exp, which this tenant requires")]
    ExpiryRequired,
    /// The tenant does not hand out originals to everybody.
    #[error("this tenant serves originals to signed URLs only; ask for a rendition, or sign the URL")]
    OriginalsOff,
    /// A public id where the tenant can have no uploads.
    #[error("this tenant has no uploads: name one of its origins, as in @origin/path")]
    NoUploads,
    /// The original is empty.
    #[error("the original is empty")]
    Empty,
    /// The store.
    #[error("the original cannot be read: {0}")]
    Source(Arc<SourceError>),
    /// The source looks like a URL and is none.
    #[error("the source is not a URL that can be fetched: {0}")]
    BadSourceUrl(String),
    /// The source is a URL that no pattern of the tenant matches.
    #[error("this tenant does not allow this URL as a source")]
    SourceNotAllowed,
    /// The request comes from a Calotype that fetches.
    #[error("the request was sent by an edge that fetches an original: it would go in circles")]
    Loop,
    /// The tenant has no registered image of this name.
    #[error("the tenant has no registered image {0:?}")]
    UnknownImage(String),
    /// A registered image cannot be read.
    #[error("the registered image {name:?} cannot be read")]
    RegisteredImage {
        /// Its name.
        name: String,
        /// What the store says.
        error: Arc<SourceError>,
    },
    /// The origin could not be opened when the policy was loaded.
    #[error("the origin is misconfigured")]
    BrokenOrigin(String),
    /// The picture.
    #[error(transparent)]
    Imaging(Arc<ImagingError>),
    /// Beyond a rate of the tenant's or the address's.
    #[error(transparent)]
    RateLimited(#[from] OverRate),
    /// Beyond a quota of the tenant's.
    #[error(transparent)]
    Quota(#[from] OverQuota),
    /// No room for another rendition.
    #[error("too many renditions are being made; try again in a second")]
    Busy,
    /// Time is up.
    #[error("the answer was not ready in time")]
    Deadline,
    /// A bug of ours.
    #[error("internal server error")]
    Internal,
}

impl From<SourceError> for EdgeError {
    fn from(error: SourceError) -> Self {
        Self::Source(Arc::new(error))
    }
}

impl From<StorageError> for EdgeError {
    fn from(error: StorageError) -> Self {
        SourceError::from(error).into()
    }
}

impl From<ImagingError> for EdgeError {
    fn from(error: ImagingError) -> Self {
        Self::Imaging(Arc::new(error))
    }
}

impl From<PoolError> for EdgeError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Full | PoolError::TenantFull => Self::Busy,
            PoolError::TooLate => Self::Deadline,
            PoolError::Panicked => Self::Internal,
        }
    }
}

impl EdgeError {
    /// Status and stable code.
    pub fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Url(error @ UrlError::TooLong { .. }) => (StatusCode::URI_TOO_LONG, error.code()),
            Self::Url(error @ UrlError::Reserved { .. }) => (StatusCode::NOT_FOUND, error.code()),
            Self::Url(error) => (StatusCode::BAD_REQUEST, error.code()),
            Self::HeaderTooLarge { .. } => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "header-too-large"),
            Self::Body => (StatusCode::PAYLOAD_TOO_LARGE, "body-not-allowed"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed"),
            Self::UnknownTenant(_) => (StatusCode::NOT_FOUND, "unknown-tenant"),
            Self::UnknownOrigin(_) => (StatusCode::NOT_FOUND, "unknown-origin"),
            Self::SignatureRequired { .. } => (StatusCode::FORBIDDEN, "signature-required"),
            Self::UnsignedNotAllowed { .. } => (StatusCode::FORBIDDEN, "unsigned-not-allowed"),
            Self::SignatureIncomplete => (StatusCode::BAD_REQUEST, "signature-incomplete"),
            Self::UnknownKey(_) => (StatusCode::FORBIDDEN, "unknown-key"),
            Self::SignatureMismatch => (StatusCode::FORBIDDEN, "signature-mismatch"),
            Self::SignatureExpired => (StatusCode::FORBIDDEN, "signature-expired"),
            Self::ExpiryRequired => (StatusCode::FORBIDDEN, "expiry-required"),
            Self::OriginalsOff => (StatusCode::FORBIDDEN, "originals-off"),
            Self::NoUploads => (StatusCode::NOT_FOUND, "no-uploads"),
            Self::Empty => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "source-empty"),
            Self::Source(error) => source_status_and_code(error),
            Self::BadSourceUrl(_) => (StatusCode::BAD_REQUEST, "bad-path"),
            Self::SourceNotAllowed => (StatusCode::FORBIDDEN, "source-not-allowed"),
            Self::Loop => (StatusCode::LOOP_DETECTED, "loop-detected"),
            Self::UnknownImage(_) => (StatusCode::BAD_REQUEST, "unknown-image"),
            Self::RegisteredImage { .. } => (StatusCode::BAD_GATEWAY, "registered-image-failed"),
            Self::BrokenOrigin(_) => (StatusCode::BAD_GATEWAY, "origin-misconfigured"),
            Self::Imaging(error) => imaging_status_and_code(error),
            Self::RateLimited(_) => (StatusCode::TOO_MANY_REQUESTS, "rate-limited"),
            Self::Quota(over) => match over.of {
                Spent::Bandwidth => (StatusCode::TOO_MANY_REQUESTS, "quota-bandwidth"),
                Spent::Transforms => (StatusCode::TOO_MANY_REQUESTS, "quota-transforms"),
            },
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            Self::Deadline => (StatusCode::GATEWAY_TIMEOUT, "deadline"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        }
    }

    /// True when the same request will fail the same way for a while, so that the failure may be cached.
    pub fn is_lasting(&self) -> bool {
        matches!(
            self.status_and_code().0,
            StatusCode::NOT_FOUND | StatusCode::UNSUPPORTED_MEDIA_TYPE | StatusCode::UNPROCESSABLE_ENTITY
        )
    }

    /// True when the next try may fare better, so that what was made before may be used on meanwhile (RFC 5861). Who is
    /// denied the original is not: it may have been taken back.
    pub fn is_passing(&self) -> bool {
        let (status, code) = self.status_and_code();
        let is_too_soon = match self {
            Self::RateLimited(over) => over.kind == Kind::Fill,
            Self::Quota(over) => over.of == Spent::Transforms,
            _ => false,
        };
        is_too_soon || (status.is_server_error() && code != "source-denied")
    }

    /// True when it is the original that is missing or broken, so that a fallback may take its place.
    pub fn is_of_source(&self) -> bool {
        match self {
            Self::Source(_) | Self::Empty | Self::BrokenOrigin(_) => true,
            Self::Imaging(error) => {
                error.is_source_fault() || matches!(**error, ImagingError::UnsupportedFormat { action: "read", .. })
            }
            _ => false,
        }
    }

    /// What the operator needs to know and the public must not.
    pub fn cause(&self) -> Option<String> {
        match self {
            Self::Source(error) | Self::RegisteredImage { error, .. } => Some(with_sources(error.as_ref())),
            Self::Imaging(error) => Some(with_sources(error.as_ref())),
            Self::BrokenOrigin(reason) => Some(reason.clone()),
            _ => None,
        }
    }

    /// The body of the answer.
    pub fn body(&self) -> Vec<u8> {
        let (status, code) = self.status_and_code();
        body(status, code, self.detail())
    }

    /// The public text: no word of a store's answer.
    fn detail(&self) -> String {
        match self {
            Self::Source(error) => source_detail(error).to_owned(),
            error => error.to_string(),
        }
    }
}

/// The body of a problem.
pub fn body(status: StatusCode, code: &'static str, detail: String) -> Vec<u8> {
    let problem = Problem {
        kind: format!("urn:calotype:problem:{code}"),
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        code,
        detail,
    };
    serde_json::to_vec(&problem).expect("strings and numbers are always JSON")
}

fn source_status_and_code(error: &SourceError) -> (StatusCode, &'static str) {
    match error {
        // Asked for only where it is expected.
        SourceError::Unchanged(_) => (StatusCode::BAD_GATEWAY, "source-failed"),
        SourceError::Store(error) => store_status_and_code(error),
        SourceError::Web(error) => web_status_and_code(error),
    }
}

fn web_status_and_code(error: &FetchError) -> (StatusCode, &'static str) {
    match error {
        FetchError::Status(status) => match status.as_u16() {
            404 | 410 => (StatusCode::NOT_FOUND, "source-not-found"),
            401 | 403 | 451 => (StatusCode::BAD_GATEWAY, "source-denied"),
            429 | 500.. => (StatusCode::BAD_GATEWAY, "source-unavailable"),
            _ => (StatusCode::BAD_GATEWAY, "source-failed"),
        },
        // The policy, held against where a name or a redirect leads.
        FetchError::NotAllowed
        | FetchError::AddressRefused(_)
        | FetchError::RedirectRefused { .. }
        | FetchError::Url { .. } => (StatusCode::FORBIDDEN, "source-not-allowed"),
        FetchError::TooLarge { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "source-too-large"),
        FetchError::RangeNotSatisfiable { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "range-not-satisfiable"),
        FetchError::TimedOut { .. } => (StatusCode::GATEWAY_TIMEOUT, "source-timeout"),
        FetchError::Deadline => (StatusCode::GATEWAY_TIMEOUT, "deadline"),
        FetchError::Truncated { .. } => (StatusCode::BAD_GATEWAY, "source-incomplete"),
        FetchError::Unreachable { .. } | FetchError::Broken { .. } => (StatusCode::BAD_GATEWAY, "source-unavailable"),
        FetchError::TooManyRedirects { .. }
        | FetchError::Encoding { .. }
        | FetchError::BadAnswer { .. }
        | FetchError::NotModified { .. } => (StatusCode::BAD_GATEWAY, "source-failed"),
    }
}

fn store_status_and_code(error: &StorageError) -> (StatusCode, &'static str) {
    match error {
        StorageError::NotFound => (StatusCode::NOT_FOUND, "source-not-found"),
        // To a client, what it may not see is not there.
        StorageError::OutsideStore => (StatusCode::NOT_FOUND, "source-not-found"),
        StorageError::InvalidPath(_) => (StatusCode::BAD_REQUEST, "bad-path"),
        StorageError::TooLarge { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "source-too-large"),
        StorageError::RangeNotSatisfiable { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "range-not-satisfiable"),
        StorageError::TimedOut { .. } => (StatusCode::GATEWAY_TIMEOUT, "source-timeout"),
        StorageError::AccessDenied { .. } | StorageError::CredentialsRefused { .. } => {
            (StatusCode::BAD_GATEWAY, "source-denied")
        }
        StorageError::Truncated { .. } | StorageError::Changed => (StatusCode::BAD_GATEWAY, "source-incomplete"),
        StorageError::Unavailable { .. } => (StatusCode::BAD_GATEWAY, "source-unavailable"),
        _ => (StatusCode::BAD_GATEWAY, "source-failed"),
    }
}

fn source_detail(error: &SourceError) -> &'static str {
    match source_status_and_code(error).1 {
        "source-not-found" => "the original does not exist",
        "bad-path" => "the source is not a valid path",
        "source-too-large" => "the original is larger than the limit",
        "range-not-satisfiable" => "the range lies outside the original",
        "source-timeout" => "the origin did not answer in time",
        "source-denied" => "the origin denies us the original; the tenant's credentials need attention",
        "source-incomplete" => "the origin did not send the whole original",
        "source-unavailable" => "the origin cannot be reached",
        "source-not-allowed" => "the original's URL, or where it leads, is not allowed",
        "deadline" => "the answer was not ready in time",
        _ => "the origin cannot deliver the original",
    }
}

fn imaging_status_and_code(error: &ImagingError) -> (StatusCode, &'static str) {
    match error {
        ImagingError::Empty => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "source-empty"),
        ImagingError::NotAnImage => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-an-image"),
        ImagingError::UnsupportedFormat { .. } => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-format"),
        ImagingError::NotApplicable { .. } => (StatusCode::BAD_REQUEST, "op-not-applicable"),
        ImagingError::NoSuchPage { .. } => (StatusCode::BAD_REQUEST, "no-such-page"),
        ImagingError::AnimationTooLarge { .. } => (StatusCode::BAD_REQUEST, "animation-too-large"),
        ImagingError::BytesOutOfReach { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "bytes-out-of-reach"),
        ImagingError::Overlay(_) => (StatusCode::BAD_GATEWAY, "registered-image-failed"),
        ImagingError::Truncated(_) => (StatusCode::UNPROCESSABLE_ENTITY, "source-truncated"),
        ImagingError::Corrupt(_) => (StatusCode::UNPROCESSABLE_ENTITY, "source-corrupt"),
        ImagingError::SourceTooLarge { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "source-too-large"),
        ImagingError::TooManyPixels { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "too-many-pixels"),
        ImagingError::TooManyFrames { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "too-many-frames"),
        ImagingError::SvgRefused { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "svg-refused"),
        ImagingError::Geometry(_) => (StatusCode::BAD_REQUEST, "bad-geometry"),
        ImagingError::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "deadline"),
        ImagingError::Library(_) => (StatusCode::INTERNAL_SERVER_ERROR, "imaging-failed"),
    }
}

/// An error and all that caused it, in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        // Many libraries repeat their source in their own text.
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}

#[derive(Serialize)]
struct Problem {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    code: &'static str,
    detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rates::{Kind, Whose};

    /// One error for each way to fail that the mapping tells apart and that needs no library's help to be made.
    fn every_error() -> Vec<EdgeError> {
        let url = |target: &str| transform_url::native::parse(target.as_bytes(), None).expect_err("is wrong").into();
        let store = || -> storage::BoxError { "store".into() };
        let long = "/a".repeat(3000);
        let mut errors: Vec<EdgeError> = [
            long.as_str(),
            "/a",
            "/demo/w=1/%",
            "/demo/w=1/a?x=1",
            "/metrics",
            "/demo/x=1/a",
            "/demo/w=1,w=1/a",
            "/demo/w=0/a",
        ]
        .map(url)
        .into();
        errors.extend([
            UrlError::UnknownPreset { name: "a".into() }.into(),
            UrlError::NestedPreset { name: "a".into() }.into(),
            EdgeError::HeaderTooLarge { limit: 1, unit: "bytes" },
            EdgeError::Body,
            EdgeError::RateLimited(OverRate {
                whose: Whose::Tenant,
                kind: Kind::Fill,
                wait: std::time::Duration::ZERO,
            }),
            EdgeError::Quota(OverQuota { of: Spent::Bandwidth, seconds: 1 }),
            EdgeError::Quota(OverQuota { of: Spent::Transforms, seconds: 1 }),
            EdgeError::Method,
            EdgeError::UnknownTenant("a".into()),
            EdgeError::UnknownOrigin("a".into()),
            EdgeError::SignatureRequired { without: "a".into() },
            EdgeError::UnsignedNotAllowed { op: "a", without: "b".into() },
            EdgeError::SignatureIncomplete,
            EdgeError::UnknownKey("a".into()),
            EdgeError::SignatureMismatch,
            EdgeError::SignatureExpired,
            EdgeError::ExpiryRequired,
            EdgeError::OriginalsOff,
            EdgeError::BadSourceUrl("a".into()),
            EdgeError::SourceNotAllowed,
            EdgeError::Loop,
            EdgeError::NoUploads,
            EdgeError::BrokenOrigin("a".into()),
            EdgeError::UnknownImage("a".into()),
            EdgeError::RegisteredImage { name: "a".into(), error: Arc::new(StorageError::NotFound.into()) },
            EdgeError::Busy,
            EdgeError::Deadline,
            EdgeError::Internal,
            StorageError::NotFound.into(),
            StorageError::TooLarge { limit: 1 }.into(),
            StorageError::RangeNotSatisfiable { size: 1 }.into(),
            StorageError::TimedOut { limit: std::time::Duration::ZERO, source: None }.into(),
            StorageError::AccessDenied { source: store() }.into(),
            StorageError::Truncated { expected: 2, got: 1, source: None }.into(),
            StorageError::Unavailable { source: store() }.into(),
            StorageError::Rejected { source: store() }.into(),
            SourceError::from(FetchError::NotAllowed).into(),
            SourceError::from(FetchError::TooManyRedirects { limit: 3 }).into(),
            ImagingError::Empty.into(),
            ImagingError::NotAnImage.into(),
            ImagingError::UnsupportedFormat { action: "read", format: "a", reason: "b" }.into(),
            ImagingError::TooManyPixels { width: 1, height: 1, frames: 1, limit_megapixels: 1 }.into(),
            ImagingError::TooManyFrames { frames: 2, limit: 1 }.into(),
            ImagingError::SvgRefused { reason: "a" }.into(),
            ImagingError::NotApplicable { op: "a", reason: "b" }.into(),
            ImagingError::NoSuchPage { page: 1, pages: 1 }.into(),
            ImagingError::BytesOutOfReach { limit: 1, bytes: 2 }.into(),
            ImagingError::AnimationTooLarge { size: imaging::Size::new(1, 1), frames: 2, limit_megapixels: 1 }.into(),
            imaging::GeometryError::RectOutside { source_size: imaging::Size::new(1, 1) }.into(),
        ]);
        errors
    }

    impl From<imaging::GeometryError> for EdgeError {
        fn from(error: imaging::GeometryError) -> Self {
            ImagingError::from(error).into()
        }
    }

    #[test]
    fn every_code_is_documented_with_its_status() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md");
        let text = std::fs::read_to_string(path).expect("the reference is there");
        for error in every_error() {
            let (status, code) = error.status_and_code();
            let row = format!("| `{code}` | {} |", status.as_u16());
            assert!(text.contains(&row), "docs/errors.md has no row {row}");
        }
    }

    #[test]
    fn a_stores_words_are_for_the_operator_only() {
        let source: storage::BoxError = "https://10.0.0.7/bucket?secret".into();
        let error = EdgeError::from(StorageError::Unavailable { source });
        assert!(!String::from_utf8_lossy(&error.body()).contains("10.0.0.7"));
        assert!(error.cause().expect("has a cause").contains("10.0.0.7"));
        assert!(!error.is_lasting(), "the store may be back in a moment");
    }
}
