//! The parts of the policy file that are about web servers.

use std::collections::BTreeMap;

use serde::Deserialize;
use url::{Host, Url};

use super::Report;
use crate::{HttpOrigin, Secret, UrlPattern, UrlSources};

/// Headers of one origin.
const HEADERS_MAX: usize = 8;

/// Longest value of a header, in bytes.
const HEADER_BYTES_MAX: usize = 1024;

/// Headers that are the client's own business, beside those that start with `if-`.
const RESERVED: [&str; 16] = [
    "accept-encoding",
    "cdn-loop",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// An HTTP origin as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpTable {
    base_url: String,
    #[serde(default)]
    allow_private: Vec<String>,
    #[serde(default)]
    headers: BTreeMap<String, Secret>,
}

impl HttpTable {
    pub(super) fn check(self, key: &str, report: &mut Report<'_>) -> Option<HttpOrigin> {
        let before = report.mistakes.len();
        let base_url = check_base_url(&self.base_url)
            .map_err(|why| report.add(&format!("{key}.base_url"), format!("{why}, as in https://www.example.com/img/")))
            .ok();
        let allow_private = check_private(&self.allow_private, &format!("{key}.allow_private"), report);
        let headers_key = format!("{key}.headers");
        if self.headers.len() > HEADERS_MAX {
            report.add(&headers_key, format!("there are more than {HEADERS_MAX}"));
        }
        for (name, value) in &self.headers {
            if let Err(why) = check_header(name, value.expose()) {
                report.add(&format!("{headers_key}.{name}"), why);
            }
        }
        let checked = base_url.map(|base_url| HttpOrigin { base_url, allow_private, headers: self.headers });
        checked.filter(|_| report.mistakes.len() == before)
    }
}

fn check_base_url(text: &str) -> Result<Url, &'static str> {
    // The text itself is not repeated: what stands before an `@` may be a password.
    let url = Url::parse(text).map_err(|_| "it is not a URL")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("it starts with http:// or https://");
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err("it has no user, query or fragment");
    }
    if text.contains(":///") {
        return Err("it has a host");
    }
    if !text.ends_with('/') || text.contains('\\') || text.chars().any(char::is_whitespace) {
        return Err("it ends in / and holds no backslash or blank");
    }
    Ok(url)
}

fn check_header(name: &str, value: &str) -> Result<(), &'static str> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let lower = name.to_ascii_lowercase();
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_token) {
        Err("a header's name is 1 to 64 of A-Z, a-z, 0-9, \"-\", \"_\" and \".\"")
    } else if RESERVED.contains(&lower.as_str()) || lower.starts_with("if-") {
        Err("this header is set by the edge itself, or never sent")
    } else if value.len() > HEADER_BYTES_MAX || !value.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        Err("a header's value is up to 1024 printable ASCII characters")
    } else {
        Ok(())
    }
}

/// The tenant's URL sources.
pub(super) fn check_urls(allowed: &[String], allow_private: &[String], report: &mut Report<'_>) -> UrlSources {
    let mut patterns = Vec::new();
    for text in allowed {
        match UrlPattern::parse(text) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => report.add("allowed_urls", format!("{text:?}: {error}")),
        }
    }
    if allowed.is_empty() && !allow_private.is_empty() {
        report.add("allow_private", "it is for allowed_urls, of which there are none; an origin has its own");
    }
    UrlSources { allowed: patterns, allow_private: check_private(allow_private, "allow_private", report) }
}

/// Hosts and addresses, in the one form that parsed URLs have.
fn check_private(entries: &[String], key: &str, report: &mut Report<'_>) -> Vec<String> {
    let mut checked = Vec::new();
    for entry in entries {
        let address = entry.parse::<std::net::IpAddr>().map(|address| address.to_string()).ok();
        let host = || match Host::parse(entry) {
            Ok(Host::Domain(name)) if !name.contains('*') => Some(name),
            Ok(Host::Ipv4(address)) => Some(address.to_string()),
            _ => None,
        };
        match address.or_else(host) {
            Some(entry) => checked.push(entry),
            None => report.add(key, format!("{entry:?} is neither a host name nor an address (no scheme, port or *)")),
        }
    }
    checked
}
