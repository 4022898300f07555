//! The one error type of the crate.
//!
//! Its texts may be shown to the public: no address, no host, no word of the server. What the operator needs is in the
//! sources.

use std::time::Duration;

use http::StatusCode;

use crate::{ConnectError, Meta, RefusedAddress};

/// A cause of any type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why a URL was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It is not a URL that is ever fetched.
    #[error("the URL is refused: {reason}")]
    Url {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The caller's rule does not let it through.
    #[error("the URL is not allowed")]
    NotAllowed,
    /// Its host is, or has, an address that is not connected to.
    #[error("the host's address is not allowed")]
    AddressRefused(#[from] RefusedAddress),
    /// A redirect that leads where none is followed.
    #[error("the redirect is refused: {reason}")]
    RedirectRefused {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// One redirect after another.
    #[error("there are more than {limit} redirects")]
    TooManyRedirects {
        /// How many are followed.
        limit: usize,
    },
    /// No connection.
    #[error("the server cannot be reached")]
    Unreachable {
        /// Why.
        source: BoxError,
    },
    /// Too slow to connect, to answer, or to send.
    #[error("the server made no progress within {limit:?}")]
    TimedOut {
        /// The limit that was exceeded.
        limit: Duration,
    },
    /// The caller's deadline has come.
    #[error("the answer was not there in time")]
    Deadline,
    /// The server has nothing newer. Only if [`if_changed`](crate::GetOptions::if_changed) was given.
    #[error("the resource has not changed")]
    NotModified(
        /// How long that may be relied on, and what else is new.
        Box<Meta>,
    ),
    /// The range has no byte in common with the resource.
    #[error("the range lies outside the resource")]
    RangeNotSatisfiable {
        /// Size of the whole in bytes, if the server says.
        size: Option<u64>,
    },
    /// Any other status than a success.
    #[error("the server answered {}", .0.as_u16())]
    Status(StatusCode),
    /// More bytes than the caller allows: announced, sent, or after decoding.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The body is compressed in a way that was not asked for and is not understood, or is not what it claims.
    #[error("the body's content coding cannot be undone")]
    Encoding {
        /// What failed.
        source: BoxError,
    },
    /// The body ended early.
    #[error("the body ended after {got} bytes")]
    Truncated {
        /// Bytes that came.
        got: u64,
        /// How the connection ended.
        source: Option<BoxError>,
    },
    /// The answer breaks HTTP.
    #[error("the answer is not valid: {reason}")]
    BadAnswer {
        /// How.
        reason: &'static str,
        /// What noticed.
        source: Option<BoxError>,
    },
    /// The connection ended before there was an answer.
    #[error("the connection ended before the answer")]
    Broken {
        /// How.
        source: BoxError,
    },
}

impl FetchError {
    /// An answer that breaks HTTP.
    pub(crate) fn bad_answer(reason: &'static str) -> Self {
        Self::BadAnswer { reason, source: None }
    }

    /// What the client library says of a request without an answer.
    pub(crate) fn of_request(error: hyper_util::client::legacy::Error) -> Self {
        if let Some(connect) = find::<ConnectError>(&error) {
            match connect {
                ConnectError::Refused(refused) => return Self::AddressRefused(*refused),
                ConnectError::TimedOut(limit) => return Self::TimedOut { limit: *limit },
                ConnectError::Resolve(_) | ConnectError::NoAddress | ConnectError::Connect(_) => {}
            }
        }
        if error.is_connect() {
            return Self::Unreachable { source: error.into() };
        }
        match find::<hyper::Error>(&error) {
            Some(cause) if cause.is_parse() => {
                Self::BadAnswer { reason: "its header cannot be read, or is too large", source: Some(error.into()) }
            }
            _ => Self::Broken { source: error.into() },
        }
    }
}

/// The first cause of this type.
fn find<'a, T: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}
