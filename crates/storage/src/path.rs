//! Names of objects: a validated path and a validated prefix.
//!
//! Knows nothing of stores. The rules are the strictest of both kinds of store, so that a name that passes here means
//! the same object everywhere: a folder must not be left through it, and a bucket must not grow keys that a folder
//! could not hold.

use std::fmt;
use std::str::FromStr;

/// The longest path in bytes of UTF-8, prefix of the store included: the limit of S3 keys.
pub const PATH_BYTES_MAX: usize = 1024;

/// Why a name is not the name of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Nothing was given.
    #[error("the path is empty")]
    Empty,
    /// More than [`PATH_BYTES_MAX`] bytes, the prefix of the store included.
    #[error("the path has {bytes} bytes, more than {PATH_BYTES_MAX}")]
    TooLong {
        /// Length in bytes.
        bytes: usize,
    },
    /// It starts with `/`.
    #[error("the path starts with a slash")]
    Absolute,
    /// Two slashes in a row, or one at the end.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// A `.` or `..` segment.
    #[error("the path has a `.` or `..` segment")]
    DotSegment,
    /// A NUL byte.
    #[error("the path holds a NUL byte")]
    Nul,
    /// The first segment is one that a folder store keeps for its own unfinished files.
    #[error("the path starts with a segment kept for unfinished files")]
    Reserved,
}

/// The first segment under which a folder store keeps unfinished files. Refused in both kinds of store, so that a
/// bucket can be copied to a folder.
pub(crate) const UNFINISHED: &str = ".calotype-unfinished";

/// The name of one object: `/`-separated segments, none of them empty, `.` or `..`.
///
/// ```
/// use storage::ObjectPath;
/// assert_eq!("summer/beach.jpg".parse::<ObjectPath>().unwrap().as_str(), "summer/beach.jpg");
/// assert!("summer/../beach.jpg".parse::<ObjectPath>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectPath(String);

impl ObjectPath {
    /// Validates `path`, which is taken literally: nothing is decoded or cleaned up.
    ///
    /// # Errors
    /// [`PathError`] says which rule it breaks.
    pub fn new(path: impl Into<String>) -> Result<Self, PathError> {
        let path = path.into();
        if path.is_empty() {
            return Err(PathError::Empty);
        }
        check(&path)?;
        if path.ends_with('/') {
            return Err(PathError::EmptySegment);
        }
        Ok(Self(path))
    }

    /// The path as given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for ObjectPath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ObjectPath {
    type Err = PathError;
    fn from_str(path: &str) -> Result<Self, PathError> {
        Self::new(path)
    }
}

impl TryFrom<&str> for ObjectPath {
    type Error = PathError;
    fn try_from(path: &str) -> Result<Self, PathError> {
        Self::new(path)
    }
}

impl TryFrom<String> for ObjectPath {
    type Error = PathError;
    fn try_from(path: String) -> Result<Self, PathError> {
        Self::new(path)
    }
}

/// What the names of a listing start with: empty, or the start of a path, cut anywhere (`summer/` and `summer/be` both
/// match `summer/beach.jpg`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct ObjectPrefix(String);

impl ObjectPrefix {
    /// Matches every object.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Validates `prefix`; only its last segment may be empty or cut.
    ///
    /// # Errors
    /// [`PathError`] says which rule it breaks.
    pub fn new(prefix: impl Into<String>) -> Result<Self, PathError> {
        let prefix = prefix.into();
        if !prefix.is_empty() {
            check(&prefix)?;
        }
        Ok(Self(prefix))
    }

    /// The prefix as given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The rules that paths and prefixes share. A single slash at the end passes.
fn check(path: &str) -> Result<(), PathError> {
    if path.len() > PATH_BYTES_MAX {
        return Err(PathError::TooLong { bytes: path.len() });
    }
    if path.starts_with('/') {
        return Err(PathError::Absolute);
    }
    if path.contains('\0') {
        return Err(PathError::Nul);
    }
    let segments = path.strip_suffix('/').unwrap_or(path);
    for (index, segment) in segments.split('/').enumerate() {
        match segment {
            "" => return Err(PathError::EmptySegment),
            "." | ".." => return Err(PathError::DotSegment),
            UNFINISHED if index == 0 => return Err(PathError::Reserved),
            _ => {}
        }
    }
    Ok(())
}
