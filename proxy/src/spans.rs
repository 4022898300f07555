//! How long an answer is used: the policy's word, shortened by that of the source.
//!
//! Must not know who is told about it; `cache_headers` does.

use std::time::Duration;

use cache::{Lifetime, UnixMillis};
use fetch::Freshness as Said;
use tenancy::Freshness;

/// How long what a versioned URL names is fresh: the URL changes when the picture does.
const VERSIONED_MAX_AGE: Duration = Duration::from_secs(31_536_000);

/// How long an answer is fresh, and how long after that it is used while its source is asked or fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spans {
    /// Without asking.
    pub max_age: Duration,
    /// Then, while the source is asked.
    pub stale_while_revalidate: Duration,
    /// After `max_age`, if the source fails.
    pub stale_if_error: Duration,
}

impl Spans {
    /// For a versioned URL.
    pub const VERSIONED: Self =
        Self { max_age: VERSIONED_MAX_AGE, stale_while_revalidate: Duration::ZERO, stale_if_error: Duration::ZERO };

    /// What the policy says.
    pub fn of_policy(policy: &Freshness) -> Self {
        Self {
            max_age: policy.max_age,
            stale_while_revalidate: policy.stale_while_revalidate,
            stale_if_error: policy.stale_if_error,
        }
    }

    /// For what is fresh only.
    pub fn fresh(max_age: Duration) -> Self {
        Self { max_age, stale_while_revalidate: Duration::ZERO, stale_if_error: Duration::ZERO }
    }

    /// What the policy lets be used of a source that says so much: a source may ask for less, never for more.
    pub fn shortened(policy: &Freshness, said: Said) -> Self {
        if !said.may_store {
            return Self::fresh(Duration::ZERO);
        }
        let spans = Self::of_policy(policy);
        let max_age = said.max_age.map_or(spans.max_age, |max_age| max_age.min(spans.max_age));
        if said.may_serve_stale { Self { max_age, ..spans } } else { Self::fresh(max_age) }
    }

    /// What a lifetime was made of.
    pub fn of_lifetime(lifetime: Lifetime) -> Self {
        let fresh_until = lifetime.fresh_until();
        Self {
            max_age: fresh_until.saturating_since(lifetime.created()),
            stale_while_revalidate: lifetime.stale_until().saturating_since(fresh_until),
            stale_if_error: lifetime.error_until().saturating_since(fresh_until),
        }
    }

    /// The shorter of both, each by itself.
    pub fn at_most(self, other: Self) -> Self {
        Self {
            max_age: self.max_age.min(other.max_age),
            stale_while_revalidate: self.stale_while_revalidate.min(other.stale_while_revalidate),
            stale_if_error: self.stale_if_error.min(other.stale_if_error),
        }
    }

    /// From now on.
    pub fn starting_now(self) -> Lifetime {
        self.starting_at(UnixMillis::now())
    }

    /// From then on.
    pub fn starting_at(self, created: UnixMillis) -> Lifetime {
        Lifetime::new(created, self.max_age, self.stale_while_revalidate).or_on_error(self.stale_if_error)
    }
}
