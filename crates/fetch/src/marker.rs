//! The mark on every request that we send, so that an edge is not made to fetch from itself without end.
//!
//! It is `CDN-Loop` (RFC 8586), made for this: other CDNs on the way pass it on, which `Via` is not sure of.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

/// The header.
pub(crate) const NAME: HeaderName = HeaderName::from_static("cdn-loop");

/// Our name in it.
const ID: &str = "calotype";

/// What our requests carry.
pub(crate) const VALUE: HeaderValue = HeaderValue::from_static(ID);

/// Whether a request that came in was sent by this client, here or on another machine, directly or through CDNs.
pub fn is_fetch_of_ours(headers: &HeaderMap) -> bool {
    headers.get_all(NAME).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).any(|element| {
        let id = element.split(|byte| *byte == b';').next().unwrap_or_default();
        id.trim_ascii().eq_ignore_ascii_case(ID.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_found_among_those_of_others() {
        for (values, expected) in [
            (&["calotype"][..], true),
            (&["other; a=b", "fast, Calotype ;v=1"], true),
            (&["other,calotype"], true),
            (&[], false),
            (&["calotype2, not-calotype"], false),
            (&["other; id=calotype"], false),
        ] {
            let headers = values.iter().map(|value| (NAME, HeaderValue::from_static(value))).collect::<Vec<_>>();
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(name, value);
            }
            assert_eq!(is_fetch_of_ours(&map), expected, "{values:?}");
        }
    }
}
