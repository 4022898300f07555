//! Public ids: the names of uploads in delivery URLs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;
use transform_url::Source;

/// Longest public id, in bytes of UTF-8.
pub const PUBLIC_ID_BYTES_MAX: usize = 512;

/// The name of an upload in URLs: `summer/beach.jpg`. Any text of 1 to 512 bytes that is a path, and that nothing else is
/// meant by: no empty, `.` or `..` segments, no control characters, and not the start of a URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PublicId(String);

/// Why a text is not a public id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "is 1 to {PUBLIC_ID_BYTES_MAX} bytes without control characters, empty, \".\" or \"..\" segments, and not a URL"
)]
pub struct PublicIdError;

impl PublicId {
    /// Checks a text, which is taken literally.
    ///
    /// # Errors
    /// [`PublicIdError`].
    pub fn new(text: impl Into<String>) -> Result<Self, PublicIdError> {
        let text = text.into();
        let is_bounded = text.len() <= PUBLIC_ID_BYTES_MAX && !text.chars().any(char::is_control);
        // What a URL with this source means is decided by who reads URLs, and by nobody else.
        let meant = Source::Upload(text);
        let is_read_back = is_bounded && Source::parse(&meant.to_string()).is_ok_and(|read| read == meant);
        match meant {
            Source::Upload(text) if is_read_back => Ok(Self(text)),
            _ => Err(PublicIdError),
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as the last part of a delivery URL: percent-encoded where it has to be.
    #[must_use]
    pub fn to_url_path(&self) -> String {
        Source::Upload(self.0.clone()).to_string()
    }
}

impl fmt::Display for PublicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PublicId {
    type Err = PublicIdError;

    fn from_str(text: &str) -> Result<Self, PublicIdError> {
        Self::new(text)
    }
}

impl<'de> Deserialize<'de> for PublicId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_can_name_is_an_id_and_nothing_else() {
        for good in
            ["a", "summer/beach.jpg", "@home", "été 2026/ü,=?.png", "%2e%2e/x", "v1", "http", "a:b", &"a".repeat(512)]
        {
            let id = PublicId::new(good).unwrap_or_else(|_| panic!("{good}"));
            let raw = id.to_url_path();
            assert_eq!(Source::parse(&raw), Ok(Source::Upload(good.to_owned())), "{raw}");
        }
        let long = "a".repeat(513);
        for bad in ["", "/", "a/", "/a", "a//b", "..", "a/../b", "./a", "a\0", "a\nb", "http:/x", "HTTPS://x/y", &long]
        {
            assert_eq!(PublicId::new(bad), Err(PublicIdError), "{bad:?}");
        }
        assert!(serde_json::from_str::<PublicId>("\"a/../b\"").is_err());
    }
}
