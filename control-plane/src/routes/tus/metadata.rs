//! `Upload-Metadata`: what is said of a file and of the medium that it becomes.
//!
//! Stock clients send more than we ask for, such as the type that a browser has guessed: what is not known here is told again to
//! clients, and means nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;

use crate::media::Description;
use crate::problem::ApiError;
use crate::routes::uploads::sha256;

/// What is said.
#[derive(Debug, Default, PartialEq)]
pub struct Metadata {
    /// What the file is called.
    pub filename: Option<String>,
    /// What the medium is.
    pub description: Description,
    /// What the bytes have to have.
    pub sha256: Option<[u8; 32]>,
    /// The medium whose bytes they replace.
    pub media_id: Option<Uuid>,
}

impl Metadata {
    /// Keys with base64 after them, and commas between.
    ///
    /// # Errors
    /// [`ApiError::Field`].
    pub fn parse(header: Option<&str>) -> Result<Self, ApiError> {
        let mut read = Self::default();
        let mut keys = std::collections::BTreeSet::new();
        for pair in header.unwrap_or_default().split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once(' ').unwrap_or((pair, ""));
            if !keys.insert(key) {
                return Err(refused("has each key once"));
            }
            let value = STANDARD.decode(value.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let value = value.ok_or_else(|| refused("is keys with base64 of UTF-8 after them, and commas between"))?;
            if !value.is_empty() {
                read.set(key, value)?;
            }
        }
        Ok(read)
    }

    fn set(&mut self, key: &str, value: String) -> Result<(), ApiError> {
        let description = &mut self.description;
        match key {
            "filename" => self.filename = Some(value),
            // Uppy says both.
            "name" => self.filename = self.filename.take().or(Some(value)),
            "public_id" => description.public_id = Some(value),
            "folder" => description.folder = Some(value),
            "tags" => {
                let tags = value.split(',').map(str::trim).filter(|tag| !tag.is_empty());
                description.tags = tags.map(str::to_owned).collect();
            }
            "metadata" => {
                let value = serde_json::from_str(&value);
                description.metadata = Some(value.map_err(|error| ApiError::field("metadata", error.to_string()))?);
            }
            "expires_at" => description.expires_at = Some(value),
            "sha256" => self.sha256 = Some(sha256(&value)?),
            "media_id" => {
                let id = value.parse().map_err(|_| ApiError::field("media_id", "is the id of a medium"))?;
                self.media_id = Some(id);
            }
            _ => {}
        }
        Ok(())
    }
}

fn refused(why: &'static str) -> ApiError {
    ApiError::field("Upload-Metadata", why)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn header(pairs: &[(&str, &str)]) -> String {
        let pairs: Vec<_> = pairs.iter().map(|(key, value)| format!("{key} {}", STANDARD.encode(value))).collect();
        pairs.join(",")
    }

    #[test]
    fn what_clients_say_is_read_and_what_nobody_asked_for_is_left() {
        let said = header(&[
            ("filename", "été.jpg"),
            ("name", "other.jpg"),
            ("type", "image/jpeg"),
            ("relativePath", "null"),
            ("public_id", "summer/beach"),
            ("folder", ""),
            ("tags", "a, b,,"),
            ("metadata", "{\"year\":2026}"),
        ]);
        let read = Metadata::parse(Some(&said)).expect("good");
        assert_eq!(read.filename.as_deref(), Some("été.jpg"));
        let description = Description {
            public_id: Some("summer/beach".to_owned()),
            tags: vec!["a".to_owned(), "b".to_owned()],
            metadata: Some(json!({"year": 2026})),
            ..Description::default()
        };
        assert_eq!(read.description, description);
        for nothing in [None, Some(""), Some("is_confidential"), Some("a ,b")] {
            assert_eq!(Metadata::parse(nothing).expect("good"), Metadata::default(), "{nothing:?}");
        }
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let twice = header(&[("filename", "a"), ("filename", "b")]);
        let not_json = header(&[("metadata", "{")]);
        let short = header(&[("sha256", "00")]);
        for bad in ["filename a", "filename ü", "filename /w==", &twice, &not_json, &short] {
            assert!(Metadata::parse(Some(bad)).is_err(), "{bad}");
        }
    }
}
