//! Which URLs are ever fetched, and where a redirect may lead.
//!
//! Must not know the caller's rule. Works on parsed URLs only: the text of a URL has too many spellings.

use http::HeaderMap;
use http::header;
use url::{Host, Url};

use crate::{FetchError, PrivateHosts};

/// Reads a URL strictly: what the URL standard would repair (backslashes, blanks, control characters) is refused.
///
/// # Errors
/// [`FetchError::Url`].
pub fn parse_url(text: &str) -> Result<Url, FetchError> {
    if text.chars().any(|c| c == '\\' || c.is_whitespace() || c.is_control()) {
        return Err(FetchError::Url { reason: "it holds a backslash, a blank or a control character" });
    }
    let mut url = Url::parse(text).map_err(|_| FetchError::Url { reason: "it is not a valid URL" })?;
    url.set_fragment(None);
    Ok(url)
}

/// Checks what no rule can allow: scheme, user, port, and the address if the host is one.
pub(crate) fn check(url: &Url, ports: &[u16], private: &PrivateHosts) -> Result<(), FetchError> {
    let refuse = |reason| Err(FetchError::Url { reason });
    if !matches!(url.scheme(), "http" | "https") {
        return refuse("only http and https are fetched");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("it names a user");
    }
    let port = url.port_or_known_default();
    if !port.is_some_and(|port| [80, 443].contains(&port) || ports.contains(&port)) {
        return refuse("its port is not allowed");
    }
    match url.host() {
        None => refuse("it has no host"),
        Some(Host::Domain(name)) if name.len() > 253 => refuse("its host is too long"),
        Some(Host::Domain(_)) => Ok(()),
        Some(Host::Ipv4(address)) => Ok(private.check(&address.to_string(), address.into())?),
        Some(Host::Ipv6(address)) => Ok(private.check(&address.to_string(), address.into())?),
    }
}

/// Where an answer with a redirecting status leads.
///
/// # Errors
/// [`FetchError::RedirectRefused`] where none is followed.
pub(crate) fn redirect(from: &Url, headers: &HeaderMap) -> Result<Url, FetchError> {
    let refuse = |reason| FetchError::RedirectRefused { reason };
    let location = headers.get(header::LOCATION).ok_or_else(|| refuse("it does not say where to"))?;
    let location = location.to_str().map_err(|_| refuse("it leads to no valid URL"))?;
    if location.contains('\\') {
        return Err(refuse("it leads to no valid URL"));
    }
    let mut to = from.join(location).map_err(|_| refuse("it leads to no valid URL"))?;
    to.set_fragment(None);
    match (from.scheme(), to.scheme()) {
        ("https", "http") => Err(refuse("it leads from https to http")),
        (_, "http" | "https") => Ok(to),
        _ => Err(refuse("it leads to another scheme than http and https")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_redirect(from: &str, location: &str, expected: Option<&str>) {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, location.parse().expect("a value"));
        let to = redirect(&Url::parse(from).expect("a URL"), &headers).ok();
        assert_eq!(to.as_ref().map(Url::as_str), expected, "{location}");
    }

    #[test]
    fn redirects_stay_with_http_and_do_not_give_up_tls() {
        let from = "https://a.example/x/y";
        check_redirect(from, "z?q#f", Some("https://a.example/x/z?q"));
        check_redirect(from, "/z", Some("https://a.example/z"));
        check_redirect(from, "//b.example/z", Some("https://b.example/z"));
        check_redirect("http://a.example/", "https://a.example/", Some("https://a.example/"));
        for refused in [
            "http://a.example/x/y",
            "HTTP://a.example/",
            "file:///etc/passwd",
            "s3://bucket/key",
            "ftp://a.example/",
            "gopher://a.example/",
            "data:image/png;base64,AAAA",
            "javascript:alert(1)",
            "https://",
            "/\\evil.example/",
            "https://[::1",
        ] {
            check_redirect(from, refused, None);
        }
        assert!(redirect(&Url::parse(from).expect("a URL"), &HeaderMap::new()).is_err(), "no location");
    }
}
