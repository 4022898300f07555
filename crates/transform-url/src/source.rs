//! Names in the path: the tenant, the origin, and what to deliver.
//!
//! Must not know what an origin is made of; it only guarantees the shape of the names.

use std::fmt::{self, Display};

use crate::encoding::{encode_segment, encode_source};
use crate::{UrlError, ValueError};

/// Longest public id or origin path, in bytes after decoding (an S3 key has the same limit of 1024).
const PATH_BYTES_MAX: usize = 1024;

/// First path segments that belong to the server and never to a tenant.
pub(crate) const RESERVED: [&str; 7] = ["v1", "internal", "cdn-cgi", "healthz", "readyz", "metrics", ".well-known"];

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $extra:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $type(String);

        impl $type {
            /// Checks the shape.
            ///
            /// # Errors
            /// [`ValueError`] when a character or the length is not allowed.
            pub fn new(text: &str) -> Result<Self, ValueError> {
                if is_name(text, $extra) { Ok(Self(text.to_owned())) } else { Err(ValueError) }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name! {
    /// A tenant's name in the URL: 1 to 63 of `a-z 0-9 -`, not first or last a hyphen, not a word of the server's own (`v1`, `internal`,
    /// `cdn-cgi`, `healthz`, `readyz`, `metrics`, `.well-known`).
    TenantSlug, ""
}
name! {
    /// A named origin of a tenant: 1 to 63 of `a-z 0-9 - _`, first and last a letter or digit.
    OriginName, "_"
}

fn is_name(text: &str, extra: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    text.len() <= 63
        && edge(text.chars().next())
        && edge(text.chars().last())
        && text.chars().all(|c| edge(Some(c)) || c == '-' || extra.contains(c))
        && !RESERVED.contains(&text)
}

/// What to deliver.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// An upload of the tenant, by its public id.
    Upload(String),
    /// A path under one of the tenant's named origins.
    Origin {
        /// The name after `@`.
        origin: OriginName,
        /// The path under it: no empty, `.` or `..` segments.
        path: String,
    },
    /// An absolute `http` or `https` URL.
    Url(String),
}

impl Source {
    /// Reads the source part of a path, raw as it came.
    ///
    /// # Errors
    /// [`UrlError::BadEncoding`] or [`UrlError::BadPath`].
    pub fn parse(raw: &str) -> Result<Self, UrlError> {
        let text = crate::encoding::decode(raw, "the source")?;
        if let Some((scheme, rest)) = split_scheme(&text) {
            check_dots(rest.split('?').next().unwrap_or_default())?;
            return if rest.is_empty() || rest.starts_with('/') {
                Err(UrlError::BadPath { reason: "the source URL has no host" })
            } else {
                Ok(Self::Url(format!("{scheme}://{rest}")))
            };
        }
        // Only a raw "@" names an origin: an upload may be called "@home" by writing %40.
        if raw.starts_with('@') {
            let (name, path) =
                text[1..].split_once('/').ok_or(UrlError::BadPath { reason: "the origin has no path after it" })?;
            let origin =
                OriginName::new(name).map_err(|_| UrlError::BadPath { reason: "the origin's name is not valid" })?;
            return Ok(Self::Origin { origin, path: checked_path(path)? });
        }
        Ok(Self::Upload(checked_path(&text)?))
    }
}

/// Splits `http:/rest` and `http://rest` (proxies collapse slashes) into the lower-case scheme and the rest.
fn split_scheme(text: &str) -> Option<(&'static str, &str)> {
    ["http", "https"].into_iter().find_map(|scheme| {
        let head = text.get(..scheme.len())?;
        let rest = text[scheme.len()..].strip_prefix(":/")?;
        head.eq_ignore_ascii_case(scheme).then(|| (scheme, rest.strip_prefix('/').unwrap_or(rest)))
    })
}

fn check_dots(path: &str) -> Result<(), UrlError> {
    if path.split('/').any(|segment| segment == "." || segment == "..") {
        return Err(UrlError::BadPath { reason: "\".\" and \"..\" segments are not allowed" });
    }
    Ok(())
}

fn checked_path(path: &str) -> Result<String, UrlError> {
    check_dots(path)?;
    if path.split('/').any(str::is_empty) {
        return Err(UrlError::BadPath { reason: "the source is empty or has an empty segment" });
    }
    if path.len() > PATH_BYTES_MAX {
        return Err(UrlError::BadPath { reason: "the source is longer than 1024 bytes" });
    }
    Ok(path.to_owned())
}

/// The raw form that the parser reads back.
impl Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upload(id) => match id.strip_prefix('@') {
                Some(rest) => write!(f, "%40{}", encode_source(rest)),
                None => write!(f, "{}", encode_source(id)),
            },
            Self::Origin { origin, path } => write!(f, "@{origin}/{}", encode_source(path)),
            // One segment: a collapsed or added slash on the way cannot change it.
            Self::Url(url) => write!(f, "{}", encode_segment(url)),
        }
    }
}
