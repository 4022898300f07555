//! Names in paths and bodies: what is allowed, before the database is asked.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use transform_url::value::{Name, OpValue};
use transform_url::{OriginName, TenantSlug};
use url::Host;

use crate::events::EventKind;
use crate::problem::ApiError;

/// Longest name for people, in bytes.
const TITLE_BYTES_MAX: usize = 200;

/// Longest host, in bytes: with the name of the record that proves it, it is a name of 253 still.
const HOST_BYTES_MAX: usize = 253 - "_calotype.".len();

/// Longest host as it is given, in bytes, before it is put into ASCII.
const HOST_TEXT_BYTES_MAX: usize = 1024;

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

/// The name of an origin.
///
/// # Errors
/// [`ApiError::Field`].
pub fn origin(text: &str) -> Result<OriginName, ApiError> {
    let why = "is 1 to 63 of a-z, 0-9, \"-\" and \"_\", first and last a letter or digit";
    OriginName::new(text).map_err(|_| ApiError::field("name", why))
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

/// A type of event.
///
/// # Errors
/// [`ApiError::Field`].
pub fn event(text: &str) -> Result<EventKind, ApiError> {
    let all = || EventKind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
    text.parse().map_err(|()| ApiError::field("types", format!("each is one of {}", all())))
}

/// A moment in a query, which has to be one of RFC 3339.
///
/// # Errors
/// [`ApiError::Field`].
pub fn moment(name: &'static str, text: &str) -> Result<OffsetDateTime, ApiError> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| ApiError::field(name, "is a time of RFC 3339, as 2026-01-31T12:00:00Z"))
}

/// A host of a tenant's own, as the DNS has it: lower case, other scripts in Punycode.
///
/// # Errors
/// [`ApiError::Field`].
pub fn host(text: &str) -> Result<String, ApiError> {
    let why = || {
        ApiError::field("host", format!("is a host name with a dot, of at most {HOST_BYTES_MAX} bytes, and no address"))
    };
    // The parser decodes percents, and gives way to underscores and asterisks.
    if text.len() > HOST_TEXT_BYTES_MAX || text.contains('%') {
        return Err(why());
    }
    let Ok(Host::Domain(host)) = Host::parse(text) else { return Err(why()) };
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_local = host.ends_with(".localhost");
    let is_allowed = host.len() <= HOST_BYTES_MAX && host.contains('.') && !is_local && host.split('.').all(is_label);
    if is_allowed { Ok(host) } else { Err(why()) }
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
    #[test]
    fn hosts_are_put_as_the_dns_has_them() {
        for (text, is) in [
            ("img.example.com", "img.example.com"),
            ("IMG.Example.COM", "img.example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("a-1.b2.example", "a-1.b2.example"),
        ] {
            assert_eq!(host(text).expect("a host"), is, "{text}");
        }
        let label = "a".repeat(61);
        let long = format!("{label}.{label}.{label}.{label}");
        assert!(host(&long[..HOST_BYTES_MAX]).is_ok());
        for bad in [
            "",
            "example",
            ".",
            "a..example",
            ".example.com",
            "example.com.",
            "localhost",
            "a.localhost",
            "127.0.0.1",
            "0x7f.1",
            "[::1]",
            "::1",
            "example.com:80",
            "https://example.com",
            "a/b.example",
            "a b.example",
            "a_b.example",
            "*.example.com",
            "-a.example",
            "a-.example",
            "a%2eb.example",
            "a@b.example",
            "a.example\0",
            &"a.".repeat(600),
            &format!("{}.example", "a".repeat(64)),
            &long,
        ] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }
}
