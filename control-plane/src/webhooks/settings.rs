//! What an operator sets for all webhooks.

use std::sync::Arc;
use std::time::Duration;

use bootstrap::config::Mistakes;
use fetch::{FetchConfig, FetchError, PrivateHosts, Url, parse_url};
use serde::{Deserialize, Serialize};

use super::Schedule;
use crate::problem::ApiError;

/// Longest URL, in bytes.
const URL_BYTES_MAX: usize = 2048;

/// Settings of webhooks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookSettings {
    /// Ports that may be sent to beside 80 and 443.
    pub ports: Vec<u16>,
    /// Hosts and addresses that may be sent to although they are private, and without TLS.
    pub private: Vec<String>,
    /// How long an attempt may take.
    pub timeout_seconds: u64,
    /// How often an event is tried.
    pub attempts: u16,
    /// Pause after the first attempt; each one after it is four times as long.
    pub backoff_ms: u64,
    /// Longest pause.
    pub backoff_max_seconds: u64,
    /// Days without anything taken after which a webhook is disabled.
    pub disable_days: u64,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            ports: Vec::new(),
            private: Vec::new(),
            timeout_seconds: 15,
            attempts: 13,
            backoff_ms: 5000,
            backoff_max_seconds: 43_200,
            disable_days: 5,
        }
    }
}

impl WebhookSettings {
    /// Tells what is not allowed.
    pub fn check(&self, mistakes: &mut Mistakes) {
        let seconds = self.timeout_seconds;
        mistakes.unless((1..=60).contains(&seconds), "webhooks.timeout_seconds", seconds, "1 to 60");
        mistakes.unless((1..=100).contains(&self.attempts), "webhooks.attempts", self.attempts, "1 to 100");
        let pause = self.backoff_ms;
        mistakes.unless((1..=3_600_000).contains(&pause), "webhooks.backoff_ms", pause, "1 to 3600000");
        let pause = self.backoff_max_seconds;
        mistakes.unless((1..=604_800).contains(&pause), "webhooks.backoff_max_seconds", pause, "1 to 604800");
        mistakes.unless((1..=365).contains(&self.disable_days), "webhooks.disable_days", self.disable_days, "1 to 365");
    }

    /// How long an attempt may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }

    /// When what failed is tried again.
    pub fn schedule(&self) -> Schedule {
        Schedule {
            attempts: self.attempts,
            pause: Duration::from_millis(self.backoff_ms),
            pause_max: Duration::from_secs(self.backoff_max_seconds),
        }
    }

    /// What may be sent to: anything public over https, and what the operator has listed.
    pub fn reach(&self) -> FetchConfig {
        let private = PrivateHosts::new(self.private.iter().map(String::as_str));
        let listed = private.clone();
        FetchConfig {
            ports: self.ports.clone(),
            private,
            ..FetchConfig::new(Arc::new(move |url: &Url| {
                url.scheme() == "https" || url.host_str().is_some_and(|host| listed.lists(host))
            }))
        }
    }
}

/// What may be sent to.
pub struct WebhookReach(pub FetchConfig);

impl WebhookReach {
    /// A URL that may be sent to, as far as its text tells.
    ///
    /// # Errors
    /// [`ApiError::Field`].
    pub fn url(&self, text: &str) -> Result<Url, ApiError> {
        let why = || format!("has at most {URL_BYTES_MAX} bytes");
        if text.len() > URL_BYTES_MAX {
            return Err(ApiError::field("url", why()));
        }
        let checked = parse_url(text).and_then(|url| self.0.check(&url).map(|()| url));
        let url = checked.map_err(|error| match error {
            FetchError::NotAllowed => ApiError::field("url", "begins with https://"),
            error => ApiError::field("url", error.to_string()),
        })?;
        // Percents may have made it longer.
        if url.as_str().len() > URL_BYTES_MAX { Err(ApiError::field("url", why())) } else { Ok(url) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_public_and_https_unless_the_operator_has_listed_its_host() {
        let settings = WebhookSettings {
            ports: vec![8443],
            private: vec!["hooks.internal".to_owned(), "10.0.0.5".to_owned()],
            ..WebhookSettings::default()
        };
        let reach = WebhookReach(settings.reach());
        for good in [
            "https://example.com/hook?x=1",
            "https://example.com:8443/",
            "http://hooks.internal/",
            "http://10.0.0.5/",
            "https://8.8.8.8/",
        ] {
            assert_eq!(reach.url(good).expect(good).as_str(), good);
        }
        let long = format!("https://example.com/{}", "a".repeat(URL_BYTES_MAX));
        let longer_encoded = format!("https://example.com/{}", "é".repeat(URL_BYTES_MAX / 3));
        for bad in [
            "",
            "example.com",
            "http://example.com/",
            "https://example.com:22/",
            "https://user@example.com/",
            "https://127.0.0.1/",
            "https://10.0.0.6/",
            "https://[::1]/",
            "https://0x7f.1/",
            "https://169.254.169.254/",
            "ftp://example.com/",
            "https://exa mple.com/",
            &long,
            &longer_encoded,
        ] {
            assert!(matches!(reach.url(bad), Err(ApiError::Field { name: "url", .. })), "{bad}");
        }
    }
}
