//! Why bytes were not judged.

use std::io;
use std::time::Duration;

use thiserror::Error;

/// A cause of any type.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why bytes were not judged. That is never a verdict: the caller decides what becomes of them.
#[derive(Debug, Error)]
pub enum ClamdError {
    /// There is no connection to be had.
    #[error("the scanner cannot be reached")]
    Unreachable(#[source] io::Error),
    /// It has not answered in time.
    #[error("the scanner has not answered within {} s", limit.as_secs())]
    TimedOut {
        /// The time that it was given.
        limit: Duration,
    },
    /// It has ended the connection without an answer.
    #[error("the scanner has ended the connection without an answer")]
    Closed(#[source] Option<io::Error>),
    /// What it has said is no answer.
    #[error("the scanner has answered what is no answer")]
    Nonsense,
    /// There are more bytes than it takes, or looks at. The same bytes fare no better another time.
    #[error("there are more bytes than the scanner takes")]
    TooLarge,
    /// It says that it could not do it. What it says is for its operator.
    #[error("the scanner has failed")]
    Failed(#[source] BoxError),
    /// The bytes themselves could not be had.
    #[error("the bytes cannot be read")]
    Input(#[source] BoxError),
}
