//! What a tenant may say of a medium, and the limits on it.

use serde_json::{Map, Value};
use time::OffsetDateTime;
use uploads::PublicId;

use crate::problem::ApiError;

/// Most bytes of a folder's path.
const FOLDER_BYTES_MAX: usize = 512;
/// Most folders within each other.
const FOLDERS_DEEP_MAX: usize = 32;
/// Most tags of a medium: pointers have all of them.
const TAGS_MAX: usize = 50;
/// Most bytes of a tag.
const TAG_BYTES_MAX: usize = 128;
/// Most keys of metadata.
const METADATA_KEYS_MAX: usize = 50;
/// Most bytes of metadata.
const METADATA_BYTES_MAX: usize = 16 * 1024;
/// Most bytes of a file's name.
const FILENAME_BYTES_MAX: usize = 255;

/// What is said of a new medium.
#[derive(Debug, Default)]
pub struct Fields {
    /// Its name in URLs; one is made of its id if there is none.
    pub public_id: Option<PublicId>,
    /// The folder that it is in; `None` is the top.
    pub folder: Option<String>,
    /// By which it is found and purged.
    pub tags: Vec<String>,
    /// Whatever the tenant wants to know.
    pub metadata: Map<String, Value>,
    /// When it ends.
    pub expires_at: Option<OffsetDateTime>,
}

/// A name in URLs.
///
/// # Errors
/// [`ApiError::Field`].
pub fn public_id(text: &str) -> Result<PublicId, ApiError> {
    PublicId::new(text).map_err(|error| ApiError::field("public_id", error.to_string()))
}

/// The path of a folder; `None` is the top, which has no name.
///
/// # Errors
/// [`ApiError::Field`].
pub fn folder(text: &str) -> Result<Option<&str>, ApiError> {
    if text.is_empty() {
        return Ok(None);
    }
    let is_name = |name: &str| !matches!(name, "" | "." | "..") && name.trim() == name;
    let is_allowed = fits_folder(text.len(), text.split('/').count())
        && !text.chars().any(char::is_control)
        && text.split('/').all(is_name);
    if is_allowed { Ok(Some(text)) } else { Err(ApiError::field("folder", folder_limits())) }
}

/// Whether a folder may have a path of so many bytes and names.
pub fn fits_folder(bytes: usize, names: usize) -> bool {
    bytes <= FOLDER_BYTES_MAX && names <= FOLDERS_DEEP_MAX
}

/// What the path of a folder may be.
pub fn folder_limits() -> String {
    format!(
        "is at most {FOLDER_BYTES_MAX} bytes: up to {FOLDERS_DEEP_MAX} names with \"/\" between them, none of them \"\", \".\" or \"..\", without control characters"
    )
}

/// One tag.
///
/// # Errors
/// [`ApiError::Field`].
pub fn tag(text: &str) -> Result<&str, ApiError> {
    let tag = text.trim();
    let is_allowed = (1..=TAG_BYTES_MAX).contains(&tag.len()) && !tag.chars().any(|c| c.is_control() || c == ',');
    let why = || format!("each is 1 to {TAG_BYTES_MAX} bytes without commas and control characters");
    if is_allowed { Ok(tag) } else { Err(ApiError::field("tags", why())) }
}

/// Tags in one order, each once.
///
/// # Errors
/// [`ApiError::Field`].
pub fn tags<'a>(given: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>, ApiError> {
    let mut tags = std::collections::BTreeSet::new();
    for text in given {
        tags.insert(tag(text)?.to_owned());
        if tags.len() > TAGS_MAX {
            return Err(ApiError::field("tags", format!("are at most {TAGS_MAX}")));
        }
    }
    Ok(tags.into_iter().collect())
}

/// Metadata.
///
/// # Errors
/// [`ApiError::Field`].
pub fn metadata(value: Value) -> Result<Map<String, Value>, ApiError> {
    let why = || {
        format!(
            "is a JSON object of at most {METADATA_KEYS_MAX} keys and {METADATA_BYTES_MAX} bytes, without NUL in it"
        )
    };
    let refused = || ApiError::field("metadata", why());
    let Value::Object(map) = value else { return Err(refused()) };
    let bytes = serde_json::to_vec(&map).map_err(|_| refused())?.len();
    let is_allowed = map.len() <= METADATA_KEYS_MAX
        && bytes <= METADATA_BYTES_MAX
        && map.iter().all(|(key, value)| !key.contains('\0') && is_storable(value));
    if is_allowed { Ok(map) } else { Err(refused()) }
}

/// Whether the database takes it: its texts have no NUL. The parser has bounded how deep it is.
fn is_storable(value: &Value) -> bool {
    match value {
        Value::String(text) => !text.contains('\0'),
        Value::Array(items) => items.iter().all(is_storable),
        Value::Object(map) => map.iter().all(|(key, value)| !key.contains('\0') && is_storable(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => true,
    }
}

/// When something ends: not now, and not earlier.
///
/// # Errors
/// [`ApiError::Field`].
pub fn time_to_come(at: OffsetDateTime) -> Result<OffsetDateTime, ApiError> {
    let is_allowed = at > OffsetDateTime::now_utc() && at.year() <= 9999;
    if is_allowed { Ok(at) } else { Err(ApiError::field("expires_at", "is a time to come")) }
}

/// The name of a file as whoever sent it has called it, without the folders of his machine; `None` if nothing is left of it.
pub fn filename(text: &str) -> Option<String> {
    let name = text.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut name: String = name.chars().filter(|c| !c.is_control()).collect();
    while name.len() > FILENAME_BYTES_MAX {
        name.pop();
    }
    Some(name).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn folders_are_names_and_lead_nowhere_else() {
        for good in ["a", "summer 2026/été", "a/b/c", "...", "a.b"] {
            assert_eq!(folder(good).expect("good"), Some(good));
        }
        assert_eq!(folder("").expect("the top"), None);
        let (deep, long) = (vec!["a"; 33].join("/"), "a".repeat(513));
        for bad in ["/", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\nb", "a\0", " a", "a/b ", &deep, &long] {
            assert!(folder(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn tags_are_sorted_and_bounded() {
        assert_eq!(tags(["b", " a ", "b"]).expect("good"), ["a", "b"]);
        for bad in ["", " ", "a,b", "a\nb", &"é".repeat(65)] {
            assert!(tags([bad]).is_err(), "{bad:?}");
        }
        let many: Vec<_> = (0..51).map(|n| n.to_string()).collect();
        assert!(tags(many.iter().map(String::as_str)).is_err());
        assert!(tags(many[..50].iter().map(String::as_str)).is_ok());
    }

    #[test]
    fn metadata_is_what_the_database_takes() {
        assert!(metadata(json!({"year": 2026, "deep": [{"a": null}], "'; DROP TABLE media": "\u{1}"})).is_ok());
        let many: Map<_, _> = (0..51).map(|n| (n.to_string(), json!(n))).collect();
        for bad in [
            json!([]),
            json!("x"),
            json!(null),
            Value::Object(many),
            json!({"a": "x".repeat(16 * 1024)}),
            json!({"a": "\0"}),
            json!({"a\0": 1}),
            json!({"a": [{"b": ["\0"]}]}),
        ] {
            assert!(metadata(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn of_a_path_the_name_is_left() {
        for (given, kept) in [
            ("beach.jpg", Some("beach.jpg")),
            ("../../etc/passwd", Some("passwd")),
            ("C:\\fakepath\\a.png", Some("a.png")),
            ("a\r\nX-Evil: 1", Some("aX-Evil: 1")),
            ("", None),
            ("a/", None),
        ] {
            assert_eq!(filename(given).as_deref(), kept);
        }
        assert_eq!(filename(&"é".repeat(200)).expect("some").len(), 254);
    }
}
