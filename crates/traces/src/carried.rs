//! A span as it is told to others: the headers of W3C Trace Context, and one text of both for what is kept in between.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;

use crate::Span;

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";

/// Longest `tracestate` that is passed on, in bytes; longer ones may be dropped (W3C Trace Context, section 3.3.1.5).
const STATE_BYTES_MAX: usize = 512;

/// A span of another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried(SpanContext);

struct Headers<'a> {
    parent: &'a str,
    state: Option<&'a str>,
}

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            PARENT => Some(self.parent),
            STATE => self.state,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![PARENT, STATE]
    }
}

impl Carried {
    /// Out of the values of `traceparent` and `tracestate`; `None` where the first is not one.
    #[must_use]
    pub fn from_values(parent: &str, state: Option<&str>) -> Option<Self> {
        let headers = Headers { parent, state: state.filter(|state| state.len() <= STATE_BYTES_MAX) };
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
        let span = context.span().span_context().clone();
        span.is_valid().then_some(Self(span))
    }

    /// Out of the headers of a request. Where one is there twice, nobody can know which is meant.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let only = |name| {
            let mut values = headers.get_all(name).iter();
            let value = values.next()?.to_str().ok();
            value.filter(|_| values.next().is_none())
        };
        Self::from_values(only(PARENT)?, only(STATE))
    }

    /// Out of the text that it was kept as.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        match text.split_once(' ') {
            Some((parent, state)) => Self::from_values(parent, Some(state)),
            None => Self::from_values(text, None),
        }
    }

    pub(crate) fn context(&self) -> &SpanContext {
        &self.0
    }

    fn parent(&self) -> String {
        let Self(span) = self;
        format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags())
    }

    fn state(&self) -> Option<String> {
        Some(self.0.trace_state().header()).filter(|state| !state.is_empty())
    }
}

/// `traceparent`, and after a space `tracestate` if there is one: at most 568 bytes.
impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parent())?;
        self.state().map_or(Ok(()), |state| write!(f, " {state}"))
    }
}

/// The current span, for who goes on with what it is about.
#[must_use]
pub fn current_carried() -> Option<Carried> {
    let current = Span::current().0?;
    let span = current.span().span_context().clone();
    span.is_valid().then_some(Carried(span))
}

/// Tells the server that is asked of the current span, if there is one.
pub fn inject(headers: &mut HeaderMap) {
    let Some(carried) = current_carried() else { return };
    let values = [(PARENT, Some(carried.parent())), (STATE, carried.state())];
    for (name, value) in values {
        if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}
