//! What can be wrong with a delivery URL, with a stable code for each cause.
//!
//! Must not choose an HTTP status: that is one mapping in the server.

use thiserror::Error;

/// How much of a refused value an error repeats, in characters.
const SHOWN_CHARS_MAX: usize = 64;

/// Why a request target is not a delivery URL.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Longer than [`crate::URL_BYTES_MAX`].
    #[error("the URL has {bytes} bytes, at most {max} are read")]
    TooLong {
        /// Length of the request target.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// A percent escape is broken, or decodes to NUL, a control character or invalid UTF-8.
    #[error("{part} is not valid percent-encoded UTF-8: {reason}")]
    BadEncoding {
        /// Which part of the URL.
        part: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The path does not have the shape `/{tenant}/{ops}/{source}`.
    #[error("{reason}; the form is /{{tenant}}/{{ops}}/{{source}}")]
    BadPath {
        /// What is missing or not allowed.
        reason: &'static str,
    },
    /// The first segment is kept for the server's own paths.
    #[error("/{segment} is reserved and is not a tenant")]
    Reserved {
        /// The reserved word.
        segment: String,
    },
    /// A query parameter that is not `exp`, `kid` or `sig`, or one of them with a bad value.
    #[error("query parameter {name:?} is not allowed: {reason}")]
    BadQuery {
        /// The name as given, shortened.
        name: String,
        /// What is allowed.
        reason: &'static str,
    },
    /// An op that the table does not have.
    #[error("unknown op {name:?}{}", .nearest.map(|n| format!(", did you mean {n:?}?")).unwrap_or_default())]
    UnknownOp {
        /// The name as given, shortened.
        name: String,
        /// The nearest name in the table, when there is one close enough.
        nearest: Option<&'static str>,
    },
    /// The same op twice, also under its short name.
    #[error("op {name:?} is given more than once")]
    DuplicateOp {
        /// The full name of the op.
        name: &'static str,
    },
    /// A value outside what the op allows.
    #[error("op {op:?} does not take {value:?}: allowed is {allowed}")]
    BadValue {
        /// The full name of the op.
        op: &'static str,
        /// The value as given, shortened.
        value: String,
        /// What the op allows, in words.
        allowed: String,
    },
    /// A preset that the tenant does not have.
    #[error("there is no preset {name:?}")]
    UnknownPreset {
        /// The name as given.
        name: String,
    },
    /// A preset that names another preset.
    #[error("preset {name:?} uses a preset itself; presets are not nested")]
    NestedPreset {
        /// The outer preset.
        name: String,
    },
}

impl UrlError {
    /// The stable code of this cause, for `application/problem+json`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "url-too-long",
            Self::BadEncoding { .. } => "bad-encoding",
            Self::BadPath { .. } => "bad-path",
            Self::Reserved { .. } => "reserved-path",
            Self::BadQuery { .. } => "bad-query",
            Self::UnknownOp { .. } => "unknown-op",
            Self::DuplicateOp { .. } => "duplicate-op",
            Self::BadValue { .. } => "bad-value",
            Self::UnknownPreset { .. } => "unknown-preset",
            Self::NestedPreset { .. } => "nested-preset",
        }
    }
}

/// A text is not a value of its type. The caller knows the op and adds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not an allowed value")]
pub struct ValueError;

/// The start of `text`, short enough for an error message.
pub(crate) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
