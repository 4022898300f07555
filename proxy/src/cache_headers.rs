//! What browsers and caches further on are told: `Age`, `Cache-Control`, `CDN-Cache-Control`, `Cache-Status`.
//!
//! Nobody may be told to keep an answer longer than the policy wants, than its source lets it be kept, or than its signed
//! URL is valid.

use std::time::Duration;

use cache::{Entry, Lifetime, UnixMillis};
use http::{HeaderName, HeaderValue, header};
use pingora_http::ResponseHeader;
use tenancy::Freshness;

use crate::decision::{Decision, Wanted};
use crate::fill::FillReport;
use crate::original::OriginalAnswer;
use crate::rendition::{Came, RenditionAnswer};
use crate::spans::Spans;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// RFC 9213.
const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

type Result<T> = pingora_core::Result<T>;

/// Inserts what is told of a rendition, or of a cached "there is none".
///
/// # Errors
/// None: the values are digits and plain words.
pub fn of_rendition(head: &mut ResponseHeader, answer: &RenditionAnswer, fill: Option<&FillReport>) -> Result<()> {
    head.insert_header(CACHE_STATUS, cache_status(answer, fill))?;
    let (entry, now) = (&answer.entry, UnixMillis::now());
    if is_passed_on(entry) {
        return head.insert_header(header::CACHE_CONTROL, NO_STORE);
    }
    let told = if entry.status == 200 {
        Told::new(&answer.decision, entry.lifetime, now)
    } else {
        let browser = Spans::of_lifetime(entry.lifetime);
        Told { browser, cdn: None, age: age(entry.lifetime, now), shows_age: true }
    };
    told.insert(head, seconds_left(answer.decision.expires, now))
}

/// Inserts what is told of an original.
///
/// # Errors
/// None: the values are digits and plain words.
pub fn of_original(head: &mut ResponseHeader, answer: &OriginalAnswer) -> Result<()> {
    if !answer.meta.freshness.may_store {
        return head.insert_header(header::CACHE_CONTROL, NO_STORE);
    }
    let policy = &answer.decision.tenant.freshness;
    let spans = Spans::shortened(policy, answer.meta.freshness);
    let told = Told { age: 0, shows_age: false, ..Told::of_policy(policy, spans) };
    told.insert(head, seconds_left(answer.decision.expires, UnixMillis::now()))
}

/// What is told to whom.
struct Told {
    browser: Spans,
    cdn: Option<Spans>,
    /// Seconds since the answer was made.
    age: u64,
    /// Whether `Age` is sent, so that whoever reads the rest subtracts it.
    shows_age: bool,
}

impl Told {
    fn new(decision: &Decision, lifetime: Lifetime, now: UnixMillis) -> Self {
        let policy = &decision.tenant.freshness;
        let (made_for, age) = (Spans::of_lifetime(lifetime), age(lifetime, now));
        let is_versioned = matches!(&decision.wanted, Wanted::Rendition(wanted) if wanted.transform.is_versioned());
        if is_versioned {
            return Self { browser: Spans::VERSIONED.at_most(made_for), cdn: None, age, shows_age: true };
        }
        let told = Self { age, ..Self::of_policy(policy, made_for) };
        if told.shows_age || now < lifetime.fresh_until() {
            return told;
        }
        // Counted from now, what is old already would last as long as what is new.
        let asked_first = |spans: Spans| Spans { max_age: Duration::ZERO, ..spans };
        Self { browser: asked_first(told.browser), cdn: told.cdn.map(asked_first), ..told }
    }

    /// For what the edge itself uses for `made_for`. Where browsers are told a time of their own, it counts from when
    /// they ask, and not from when the edge made the answer, which may be long ago.
    fn of_policy(policy: &Freshness, made_for: Spans) -> Self {
        let of_own = |max_age: Duration| {
            let is_shortened = made_for.max_age < policy.max_age;
            let max_age = if is_shortened { max_age.min(made_for.max_age) } else { max_age };
            Spans { max_age, ..Spans::of_policy(policy).at_most(made_for) }
        };
        Self {
            browser: policy.browser_max_age.map_or(Spans::of_policy(policy).at_most(made_for), of_own),
            cdn: policy.cdn_max_age.map(of_own),
            age: 0,
            shows_age: policy.browser_max_age.is_none(),
        }
    }

    /// `left` = whole seconds for which the URL is valid. Then everything is counted from now, without `Age`, so that it
    /// holds for caches that do not do the sum.
    fn insert(self, head: &mut ResponseHeader, left: Option<u64>) -> Result<()> {
        let until_expiry = |spans: Spans| match left {
            Some(left) => ends_within(spans, if self.shows_age { self.age } else { 0 }, left),
            None => spans,
        };
        if self.shows_age && left.is_none() {
            head.insert_header(header::AGE, self.age)?;
        }
        if let Some(cdn) = self.cdn {
            head.insert_header(CDN_CACHE_CONTROL, cdn_cache_control(until_expiry(cdn)))?;
        }
        head.insert_header(header::CACHE_CONTROL, cache_control(until_expiry(self.browser)))
    }
}

/// The source forbids to keep it: no cache further on may do so either.
fn is_passed_on(entry: &Entry) -> bool {
    !entry.is_kept() && entry.status == 200 && entry.lifetime.error_until() == entry.lifetime.created()
}

fn age(lifetime: Lifetime, now: UnixMillis) -> u64 {
    now.saturating_since(lifetime.created()).as_secs()
}

/// Whole seconds until a signed URL is refused; `None` when it never is.
fn seconds_left(expires: Option<u64>, now: UnixMillis) -> Option<u64> {
    expires.map(|expires| expires.saturating_mul(1000).saturating_sub(now.0) / 1000)
}

/// What is left of spans that began `age` seconds ago, ending in `left` seconds at the latest.
fn ends_within(spans: Spans, age: u64, left: u64) -> Spans {
    let max_age = spans.max_age.as_secs();
    let fresh = max_age.saturating_sub(age).min(left);
    let stale = |span: Duration| {
        Duration::from_secs((max_age.saturating_add(span.as_secs())).saturating_sub(age).min(left) - fresh)
    };
    Spans {
        max_age: Duration::from_secs(fresh),
        stale_while_revalidate: stale(spans.stale_while_revalidate),
        stale_if_error: stale(spans.stale_if_error),
    }
}

fn cache_control(spans: Spans) -> HeaderValue {
    if spans == Spans::VERSIONED {
        return HeaderValue::from_static("public, max-age=31536000, immutable");
    }
    let text = match (spans.max_age.as_secs(), spans.stale_while_revalidate.as_secs()) {
        (60, 86_400) => return HeaderValue::from_static("public, max-age=60, stale-while-revalidate=86400"),
        (fresh, 0) => format!("public, max-age={fresh}"),
        (fresh, stale) => format!("public, max-age={fresh}, stale-while-revalidate={stale}"),
    };
    HeaderValue::try_from(text).expect("digits are allowed")
}

fn cdn_cache_control(spans: Spans) -> HeaderValue {
    let fresh = spans.max_age.as_secs();
    let (stale, error) = (spans.stale_while_revalidate.as_secs(), spans.stale_if_error.as_secs());
    HeaderValue::try_from(format!("max-age={fresh}, stale-while-revalidate={stale}, stale-if-error={error}"))
        .expect("digits are allowed")
}

/// RFC 9211.
fn cache_status(answer: &RenditionAnswer, fill: Option<&FillReport>) -> HeaderValue {
    let was_held = answer.entry.lifetime.retry_at().is_some();
    HeaderValue::from_static(match answer.came {
        Came::Memory => "Calotype; hit; detail=memory",
        Came::Disk => "Calotype; hit; detail=disk",
        Came::SecondLevel => "Calotype; hit; detail=second-level",
        Came::Stale => "Calotype; hit; detail=stale",
        Came::Held => "Calotype; hit; detail=stale-if-error",
        Came::Collapsed if was_held => "Calotype; fwd=stale; collapsed; detail=stale-if-error",
        Came::Collapsed => "Calotype; fwd=uri-miss; collapsed",
        Came::Filled { .. } if was_held => "Calotype; fwd=stale; detail=stale-if-error",
        Came::Filled { .. } if is_passed_on(&answer.entry) => "Calotype; fwd=uri-miss",
        Came::Filled { .. } if fill.is_some_and(|fill| fill.not_modified) => {
            "Calotype; fwd=stale; fwd-status=304; stored"
        }
        Came::Filled { had_expired: true } => "Calotype; fwd=stale; stored",
        Came::Filled { had_expired: false } => "Calotype; fwd=uri-miss; stored",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(max_age: u64, stale_while_revalidate: u64, stale_if_error: u64) -> Spans {
        let [max_age, stale_while_revalidate, stale_if_error] =
            [max_age, stale_while_revalidate, stale_if_error].map(Duration::from_secs);
        Spans { max_age, stale_while_revalidate, stale_if_error }
    }

    #[track_caller]
    fn check_expiring(given: (u64, u64), age: u64, left: u64, expected: (u64, u64)) {
        let found = ends_within(spans(given.0, given.1, given.1), age, left);
        assert_eq!(found, spans(expected.0, expected.1, expected.1), "{given:?} at {age} with {left} left");
    }

    #[test]
    fn an_expiring_answer_is_not_kept_beyond_its_expiry() {
        check_expiring((60, 86_400), 0, 10, (10, 0));
        check_expiring((60, 86_400), 0, 100, (60, 40));
        check_expiring((60, 86_400), 50, 100, (10, 90));
        check_expiring((60, 86_400), 70, 100, (0, 100));
        check_expiring((60, 100), 90, 1_000_000, (0, 70));
        check_expiring((60, 100), 500, 1_000_000, (0, 0));
        check_expiring((60, 86_400), 0, 1_000_000, (60, 86_400));
        check_expiring((60, 86_400), 0, 0, (0, 0));
        check_expiring((31_536_000, 0), 1000, 3600, (3600, 0));
    }

    #[test]
    fn the_time_left_is_rounded_down() {
        assert_eq!(seconds_left(None, UnixMillis(0)), None);
        assert_eq!(seconds_left(Some(100), UnixMillis(98_001)), Some(1));
        assert_eq!(seconds_left(Some(100), UnixMillis(100_000)), Some(0));
        assert_eq!(seconds_left(Some(1), UnixMillis(100_000)), Some(0));
    }

    #[test]
    fn a_time_of_their_own_is_told_unless_the_source_wants_less() {
        let own = |seconds| Some(Duration::from_secs(seconds));
        let policy = Freshness { browser_max_age: own(300), cdn_max_age: own(3600), ..Freshness::default() };
        let told = Told::of_policy(&policy, Spans::of_policy(&policy));
        assert_eq!(told.browser, spans(300, 86_400, 7 * 86_400));
        assert_eq!(told.cdn, Some(spans(3600, 86_400, 7 * 86_400)));
        assert!(!told.shows_age);
        let told = Told::of_policy(&policy, spans(5, 0, 0));
        assert_eq!((told.browser, told.cdn), (spans(5, 0, 0), Some(spans(5, 0, 0))));
    }

    #[test]
    fn the_headers_say_what_is_meant() {
        assert_eq!(cache_control(Spans::VERSIONED), "public, max-age=31536000, immutable");
        assert_eq!(cache_control(spans(60, 86_400, 9)), "public, max-age=60, stale-while-revalidate=86400");
        assert_eq!(cache_control(spans(5, 7, 9)), "public, max-age=5, stale-while-revalidate=7");
        assert_eq!(cache_control(spans(5, 0, 9)), "public, max-age=5");
        assert_eq!(cdn_cache_control(spans(5, 7, 9)), "max-age=5, stale-while-revalidate=7, stale-if-error=9");
    }
}
