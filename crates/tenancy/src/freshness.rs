//! How long answers are used, and what caches further on are told of it.

use std::time::Duration;

/// How long a tenant's answers are used. What an original's own server says can only shorten it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// Without asking the origin again.
    pub max_age: Duration,
    /// After that, while the origin is asked in the background.
    pub stale_while_revalidate: Duration,
    /// After `max_age`, in place of an error of the origin.
    pub stale_if_error: Duration,
    /// How long "there is no such picture" is remembered.
    pub negative_max_age: Duration,
    /// What browsers are told in place of `max_age`.
    pub browser_max_age: Option<Duration>,
    /// What a CDN in front is told, in a header of its own.
    pub cdn_max_age: Option<Duration>,
}

impl Default for Freshness {
    fn default() -> Self {
        Self {
            max_age: Duration::from_secs(60),
            stale_while_revalidate: Duration::from_secs(86_400),
            stale_if_error: Duration::from_secs(7 * 86_400),
            // Short: the picture may be on its way.
            negative_max_age: Duration::from_secs(10),
            browser_max_age: None,
            cdn_max_age: None,
        }
    }
}
