//! The one error type of the crate: what went wrong with an object, in words that a caller can act on.
//!
//! Must not carry text for end users: a service maps variants to its answers. The cause stays attached as `source` for
//! the log. No variant ever holds a credential.

use std::time::Duration;

use crate::PathError;

/// A cause of any type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why an operation on a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// No object has this name. Folders, pipes and devices are not objects either.
    #[error("no such object")]
    NotFound,
    /// The object is the one that the caller has. Only if [`if_changed`](crate::GetOptions::if_changed) was given.
    #[error("the object has not changed")]
    NotModified,
    /// The store keeps this object from us: permissions of a file, policy of a bucket.
    #[error("access to the object is denied")]
    AccessDenied {
        /// What the store said.
        source: BoxError,
    },
    /// The store does not know us: wrong key, wrong secret, expired session. No object can be read until it is mended.
    #[error("the store refuses the credentials ({code})")]
    CredentialsRefused {
        /// The code of the store, such as `SignatureDoesNotMatch`.
        code: String,
        /// What the store said.
        source: BoxError,
    },
    /// A symbolic link leads out of the folder.
    #[error("the path leads out of the folder")]
    OutsideStore,
    /// The range asked for has no byte in common with the object.
    #[error("the range lies outside the object of {size} bytes")]
    RangeNotSatisfiable {
        /// Size of the whole object in bytes.
        size: u64,
    },
    /// The name cannot be the name of an object in this store.
    #[error("invalid path")]
    InvalidPath(#[from] PathError),
    /// The body is longer than the caller allows.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The caller's limit in bytes.
        limit: u64,
    },
    /// The body ended before the announced length.
    #[error("the body ended after {got} of {expected} bytes")]
    Truncated {
        /// Announced length of the body in bytes.
        expected: u64,
        /// Bytes that came.
        got: u64,
        /// How the connection ended, if it was one.
        source: Option<BoxError>,
    },
    /// The object was overwritten while it was read or copied: the bytes may be of both versions.
    #[error("the object changed while it was read")]
    Changed,
    /// The store cannot be reached, is overloaded or failed inside.
    #[error("the store is unavailable")]
    Unavailable {
        /// What happened.
        source: BoxError,
    },
    /// The store took too long to connect, to answer, or to send the next bytes.
    #[error("the store made no progress within {limit:?}")]
    TimedOut {
        /// The limit that was exceeded.
        limit: Duration,
        /// What ran into it.
        source: Option<BoxError>,
    },
    /// The store understood and will not do it, now or later: no such bucket, wrong region, a folder in the way.
    #[error("the store rejects the request")]
    Rejected {
        /// What the store said.
        source: BoxError,
    },
    /// The stream that was to be stored failed. Nothing was stored.
    #[error("the body to be stored could not be read")]
    Input {
        /// Error of the stream.
        source: BoxError,
    },
    /// This kind of store cannot do it.
    #[error("this kind of store cannot {what}")]
    Unsupported {
        /// What it cannot do, as a verb.
        what: &'static str,
    },
}

impl StorageError {
    /// Whether the same request may well succeed in a moment. The store has already retried within its own limits.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Truncated { .. } | Self::Changed | Self::Unavailable { .. } | Self::TimedOut { .. })
    }

    /// A short, stable name of the variant for logs and metric labels.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::NotModified => "not_modified",
            Self::AccessDenied { .. } => "access_denied",
            Self::CredentialsRefused { .. } => "credentials_refused",
            Self::OutsideStore => "outside_store",
            Self::RangeNotSatisfiable { .. } => "range_not_satisfiable",
            Self::InvalidPath(_) => "invalid_path",
            Self::TooLarge { .. } => "too_large",
            Self::Truncated { .. } => "truncated",
            Self::Changed => "changed",
            Self::Unavailable { .. } => "unavailable",
            Self::TimedOut { .. } => "timed_out",
            Self::Rejected { .. } => "rejected",
            Self::Input { .. } => "input",
            Self::Unsupported { .. } => "unsupported",
        }
    }
}
