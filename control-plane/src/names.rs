//! Names in paths and bodies: what is allowed, before the database is asked.

use transform_url::TenantSlug;
use transform_url::value::{Name, OpValue};

use crate::problem::ApiError;

/// Longest name for people, in bytes.
const TITLE_BYTES_MAX: usize = 200;

/// A tenant's name in URLs.
///
/// # Errors
/// [`ApiError::Field`].
pub fn slug(text: &str) -> Result<TenantSlug, ApiError> {
    let why = "is 1 to 63 of a-z, 0-9 and \"-\", and not a reserved word";
    TenantSlug::new(text).map_err(|_| ApiError::field("slug", why))
}

/// The name of a preset or an image.
///
/// # Errors
/// [`ApiError::Field`].
pub fn name(text: &str) -> Result<Name, ApiError> {
    Name::parse(text).map_err(|_| ApiError::field("name", format!("is {}", Name::allowed())))
}

/// A name for people.
///
/// # Errors
/// [`ApiError::Field`].
pub fn title(text: &str) -> Result<&str, ApiError> {
    let is_allowed = (1..=TITLE_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    let why = || format!("is 1 to {TITLE_BYTES_MAX} bytes without control characters");
    if is_allowed { Ok(text) } else { Err(ApiError::field("name", why())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_tell_what_is_allowed() {
        for good in ["a", "shop-1", &"a".repeat(63)] {
            assert!(slug(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "a_b", "v1", "healthz", "a/b", "../x", "a b", "é", &"a".repeat(64)] {
            assert!(slug(bad).is_err(), "{bad}");
        }
        assert!(title("Ünïcode; DROP TABLE tenants --").is_ok());
        for bad in ["", "a\nb", "a\0", &"é".repeat(101)] {
            assert!(title(bad).is_err(), "{bad:?}");
        }
        assert!(name("thumb").is_ok() && name("").is_err() && name("a=b").is_err());
    }
}
