//! Originals on web servers: HTTP origins, and the URLs that a tenant's clients may name.
//!
//! Must not fetch anything. Everything is matched on parsed URLs, never on text: `https://example.com@evil.example` starts
//! like a URL of example.com and is none.

use std::collections::BTreeMap;

use url::{Host, Url};

use crate::Secret;

/// A base URL of a web server, and how to ask there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpOrigin {
    /// http or https; no user, no query; the path ends in `/`.
    pub base_url: Url,
    /// Hosts and addresses that may be private.
    pub allow_private: Vec<String>,
    /// Sent with every request to the host of the base URL.
    pub headers: BTreeMap<String, Secret>,
}

impl HttpOrigin {
    /// The URL of `path`, each segment of it percent-encoded once; always under the base URL.
    pub fn url_of(&self, path: &str) -> Url {
        let mut url = self.base_url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            // `.` and `..` are left out; `/`, `\`, `%`, `?` and `#` within a segment are encoded.
            segments.pop_if_empty().extend(path.split('/'));
        }
        url
    }

    /// Whether `url` is on the host of the base URL: the same port, or https on its usual port.
    pub fn is_own_host(&self, url: &Url) -> bool {
        let same_server = url.scheme() == self.base_url.scheme()
            && url.port_or_known_default() == self.base_url.port_or_known_default();
        let upgraded = url.scheme() == "https" && url.port().is_none();
        url.host() == self.base_url.host() && (same_server || upgraded)
    }
}

/// Which URLs a tenant's clients may name as a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UrlSources {
    /// One of these must match.
    pub allowed: Vec<UrlPattern>,
    /// Hosts and addresses among them that may be private.
    pub allow_private: Vec<String>,
}

impl UrlSources {
    /// Whether a source, or a redirect, may lead to `url`.
    pub fn allow(&self, url: &Url) -> bool {
        self.allowed.iter().any(|pattern| pattern.matches(url))
    }
}

/// `https://*.example.com/img/*`: a scheme, a host, perhaps a port, and a path.
///
/// `*.` before the host stands for one or more labels; without it the host is that one only. `/*` at the end stands for
/// everything below that folder; without it the path is that one only. The query of a URL may be anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlPattern {
    /// Scheme, host without `*.`, port; the path up to the `*`.
    base: Url,
    subdomains: bool,
    below: bool,
}

/// Why a text is not a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a URL pattern is scheme://host/path: {0}")]
pub struct UrlPatternError(&'static str);

impl UrlPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`UrlPatternError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, UrlPatternError> {
        let wrong = |why| Err(UrlPatternError(why));
        let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"))
        else {
            return wrong("it starts with http:// or https://");
        };
        let Some((host, path)) = rest.split_once('/') else {
            return wrong("a path follows the host; /* is all of them");
        };
        let (subdomains, host) = host.strip_prefix("*.").map_or((false, host), |host| (true, host));
        let (below, path) = match path.strip_suffix('*') {
            Some(path) if path.is_empty() || path.ends_with('/') => (true, path),
            Some(_) => return wrong("a * in the path follows a / and is the end"),
            None => (false, path),
        };
        // The URL standard would take the first segment for the host.
        if host.is_empty() {
            return wrong("the host is missing");
        }
        if [host, path].into_iter().any(|part| part.contains(['*', '\\', '@', '?', '#', ' '])) {
            return wrong(
                "there is no user, query or fragment, and * stands only before the host (*.) and at the end (/*)",
            );
        }
        if leads_up(path) {
            return wrong("the path has no . and .. segments");
        }
        let Ok(base) = Url::parse(&format!("{scheme}://{host}/{path}")) else { return wrong("the host is not valid") };
        if subdomains && !matches!(base.host(), Some(Host::Domain(name)) if name.trim_end_matches('.').contains('.')) {
            return wrong("*. goes before a domain of at least two labels");
        }
        Ok(Self { base, subdomains, below })
    }

    /// The port that its URLs have.
    pub fn port(&self) -> Option<u16> {
        self.base.port_or_known_default()
    }

    /// Whether `url` is one of those meant.
    pub fn matches(&self, url: &Url) -> bool {
        url.scheme() == self.base.scheme()
            && url.port_or_known_default() == self.base.port_or_known_default()
            && url.username().is_empty()
            && url.password().is_none()
            && self.matches_host(url)
            && self.matches_path(url.path())
    }

    fn matches_host(&self, url: &Url) -> bool {
        match (url.host(), self.base.host()) {
            (Some(Host::Domain(name)), Some(Host::Domain(base))) if self.subdomains => {
                name.strip_suffix(base).and_then(|name| name.strip_suffix('.')).is_some_and(|labels| !labels.is_empty())
            }
            (host, base) => !self.subdomains && host == base,
        }
    }

    fn matches_path(&self, path: &str) -> bool {
        let base = self.base.path();
        if self.below { path.starts_with(base) && !leads_up(path) } else { path == base }
    }
}

/// Whether a server that takes an encoded slash for a slash would be led up by this path.
fn leads_up(path: &str) -> bool {
    let path = path.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/");
    path.split(['/', '\\']).any(|segment| matches!(segment, "." | ".."))
}
