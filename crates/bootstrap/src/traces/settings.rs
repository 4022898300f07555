//! Settings of traces, and the variables of OpenTelemetry that take their place.

use std::fmt;

use http::Uri;
use serde::{Deserialize, Serialize, Serializer};

use crate::config::Mistakes;

/// What is put after the base URL of a collector (OTLP specification, "Endpoint URLs for OTLP/HTTP").
const PATH: &str = "/v1/traces";

/// Most bytes of headers.
const HEADERS_BYTES_MAX: usize = 8192;

/// Settings of traces.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceSettings {
    /// Base URL of a collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318`. Without one, and without one in the
    /// environment, there are no traces.
    pub endpoint: Option<String>,
    /// Headers for the collector: `name=value,name=value`.
    pub headers: TraceHeaders,
    /// The share of traces begun here that are sampled, 0 to 1; `None` leaves it to `OTEL_TRACES_SAMPLER`, or takes all.
    pub sample_ratio: Option<f64>,
    /// What the service is called in traces.
    pub service_name: Option<String>,
    /// Whether a trace that a caller has begun is gone on with. If not, ours only names it.
    pub trust_incoming: bool,
}

impl TraceSettings {
    /// Adds what is wrong.
    pub fn check(&self, mistakes: &mut Mistakes) {
        if let Some(endpoint) = &self.endpoint {
            mistakes.unless(is_endpoint(endpoint), "traces.endpoint", endpoint, ALLOWED);
        }
        for name in ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"] {
            if let Some(endpoint) = variable(name) {
                mistakes.unless(self.endpoint.is_some() || is_endpoint(&endpoint), name, endpoint, ALLOWED);
            }
        }
        if let Some(ratio) = self.sample_ratio {
            mistakes.unless((0.0..=1.0).contains(&ratio), "traces.sample_ratio", ratio, "0 to 1");
        }
        if let Some(name) = &self.service_name {
            mistakes.unless((1..=255).contains(&name.len()), "traces.service_name", name, "1 to 255 bytes");
        }
        mistakes.unless(self.headers.are_well_formed(), "traces.headers", "…", "name=value,name=value, at most 8 KiB");
    }

    /// Where spans are sent, if they are.
    pub(super) fn endpoint_in_force(&self) -> Option<String> {
        if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return None;
        }
        let below = |base: &str| format!("{}{PATH}", base.trim_end_matches('/'));
        let of_environment = || {
            let base = || variable("OTEL_EXPORTER_OTLP_ENDPOINT").map(|base| below(&base));
            variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(base)
        };
        self.endpoint.as_deref().map(below).or_else(of_environment)
    }
}

const ALLOWED: &str = "a URL that starts with http:// or https://, without user and query";

fn is_endpoint(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    is_http && uri.query().is_none() && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
}

/// A variable of the environment that is not empty.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Headers, of which some are secrets: never printed.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct TraceHeaders(String);

impl TraceHeaders {
    fn are_well_formed(&self) -> bool {
        let is_pair = |pair: &str| {
            let Some((name, value)) = pair.split_once('=') else { return false };
            http::HeaderName::try_from(name.trim()).is_ok() && http::HeaderValue::try_from(value.trim()).is_ok()
        };
        self.0.len() <= HEADERS_BYTES_MAX && (self.0.is_empty() || self.0.split(',').all(is_pair))
    }

    pub(super) fn pairs(&self) -> Vec<(String, String)> {
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=')?;
            Some((name.trim().to_owned(), value.trim().to_owned()))
        };
        self.0.split(',').filter_map(pair).collect()
    }
}

impl fmt::Debug for TraceHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TraceHeaders(…)")
    }
}

impl Serialize for TraceHeaders {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { "…" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_and_no_header() {
        let settings = TraceSettings {
            endpoint: Some("collector:4318".to_owned()),
            headers: TraceHeaders("authorization=Bearer hunter2,x".to_owned()),
            sample_ratio: Some(1.5),
            service_name: Some(String::new()),
            trust_incoming: false,
        };
        let mut mistakes = Mistakes::default();
        settings.check(&mut mistakes);
        let keys: Vec<_> = mistakes.all().iter().map(|mistake| mistake.key.as_str()).collect();
        assert_eq!(keys, ["traces.endpoint", "traces.sample_ratio", "traces.service_name", "traces.headers"]);
        assert!(!mistakes.to_string().contains("hunter2") && !format!("{settings:?}").contains("hunter2"));
    }

    #[test]
    fn an_endpoint_is_a_base_url() {
        let in_force = |endpoint: &str| {
            TraceSettings { endpoint: Some(endpoint.to_owned()), ..TraceSettings::default() }.endpoint_in_force()
        };
        assert_eq!(in_force("http://c:4318").as_deref(), Some("http://c:4318/v1/traces"));
        assert_eq!(in_force("https://c/otlp/").as_deref(), Some("https://c/otlp/v1/traces"));
        for (text, allowed) in
            [("http://c", true), ("https://user:p@c", false), ("http://c/?x", false), ("grpc://c", false), ("", false)]
        {
            assert_eq!(is_endpoint(text), allowed, "{text}");
        }
    }
}
