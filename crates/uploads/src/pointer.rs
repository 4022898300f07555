//! Pointers: what a public id means now.

use serde::{Deserialize, Serialize};
use storage::ObjectPath;
use thiserror::Error;

/// Largest pointer that is written or read, in bytes.
pub const POINTER_BYTES_MAX: usize = 32 * 1024;

/// What a public id means now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Pointer {
    /// An upload.
    Here(Target),
    /// Nothing any more. The same as no pointer, but nobody takes it for one that is not written yet.
    Gone,
}

/// Where the bytes of an upload are, and what is known of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The object with the bytes, see [`object_path`](crate::object_path).
    pub object: String,
    /// The content type that was found in the bytes.
    pub content_type: String,
    /// How many bytes there are.
    pub bytes: u64,
    /// SHA-256 of them, in lower-case hexadecimal digits: what the entity tag is made of.
    pub sha256: String,
    /// When they were stored, in Unix seconds.
    pub stored_at: u64,
    /// From when on it is not served any more, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// What it can be purged by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// Why bytes are not a pointer.
#[derive(Debug, Error)]
pub enum PointerError {
    /// They cannot be read.
    #[error("it cannot be read")]
    Json(#[from] serde_json::Error),
    /// They lead out of the tenant's own objects.
    #[error("it leads to {0:?}, which is not among the tenant's objects")]
    Foreign(String),
}

impl Pointer {
    /// As it is stored.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("nothing in it cannot be written")
    }

    /// A pointer of a tenant, as it was stored. Fields that this version does not know are left out.
    ///
    /// # Errors
    /// [`PointerError`].
    pub fn from_bytes(tenant: &str, bytes: &[u8]) -> Result<Self, PointerError> {
        let pointer = serde_json::from_slice(bytes)?;
        match &pointer {
            Self::Here(target) if target.path(tenant).is_none() => Err(PointerError::Foreign(target.object.clone())),
            Self::Here(_) | Self::Gone => Ok(pointer),
        }
    }
}

impl Target {
    /// The object, if it is one of this tenant's.
    #[must_use]
    pub fn path(&self, tenant: &str) -> Option<ObjectPath> {
        let rest = self.object.strip_prefix("t/")?.strip_prefix(tenant)?;
        rest.strip_prefix("/m/")?;
        ObjectPath::new(self.object.as_str()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(object: &str) -> Target {
        Target {
            object: object.to_owned(),
            content_type: "image/jpeg".to_owned(),
            bytes: 7,
            sha256: "00".repeat(32),
            stored_at: 1,
            expires_at: None,
            tags: vec!["summer".to_owned()],
        }
    }

    #[test]
    fn a_pointer_is_read_back() {
        for pointer in [Pointer::Here(target("t/x/m/1/2")), Pointer::Gone] {
            assert_eq!(Pointer::from_bytes("x", &pointer.to_bytes()).expect("ours"), pointer);
        }
        assert_eq!(Pointer::Gone.to_bytes(), br#"{"state":"gone"}"#);
        // A later version may say more.
        let more = br#"{"state":"gone","since":5}"#;
        assert_eq!(Pointer::from_bytes("x", more).expect("still one"), Pointer::Gone);
    }

    #[test]
    fn a_pointer_leads_to_objects_of_its_own_tenant_only() {
        for object in ["t/y/m/1/2", "t/x/n/1", "t/x/m/../../y/m/1", "t/xy/m/1", "", "t/x", "/t/x/m/1"] {
            let bytes = Pointer::Here(target(object)).to_bytes();
            assert!(matches!(Pointer::from_bytes("x", &bytes), Err(PointerError::Foreign(_))), "{object}");
        }
        for bytes in [&b""[..], b"{}", b"null", br#"{"state":"here"}"#, b"\xff"] {
            assert!(matches!(Pointer::from_bytes("x", bytes), Err(PointerError::Json(_))));
        }
    }
}
