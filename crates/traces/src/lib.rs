//! Spans of OpenTelemetry: what of a request was done where, and for how long.
//!
//! Nothing at all happens until a process has [`install`]ed a tracer, and then only what is sampled costs anything. Spans are made
//! by hand and not out of those of `tracing`: a fill outlives the request that began it, jobs go on in another process, and times in
//! queues are known only afterwards. The *current* span is that of the future that is being polled ([`Span::over`]).
//!
//! Must not send anything, nor read settings: `bootstrap` does. Must not know what a span is about.

mod carried;
mod over;

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::SystemTime;

use opentelemetry::trace::{Link, SpanBuilder, Status, TraceContextExt, Tracer};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;

pub use opentelemetry::Value;
pub use opentelemetry::trace::SpanKind as Kind;

pub use carried::{Carried, current_carried, inject};
pub use over::Over;

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Spans are made with this tracer from now on. A second one changes nothing.
pub fn install(tracer: SdkTracer) {
    drop(TRACER.set(tracer));
}

/// Whether spans are made.
#[must_use]
pub fn is_on() -> bool {
    TRACER.get().is_some()
}

/// A span, or none. Clones are the same span, which lasts until it is ended or the last of them is dropped.
#[derive(Debug, Clone, Default)]
pub struct Span(Option<Context>);

/// What came with a request, and what it counts for.
#[derive(Debug, Clone, Copy)]
pub enum Incoming<'a> {
    /// The caller's span is the parent of ours, and the caller decides whether the trace is sampled.
    Parent(&'a Carried),
    /// Ours begins a trace, which names the caller's.
    Link(&'a Carried),
    /// Nothing came.
    Nothing,
}

impl<'a> Incoming<'a> {
    /// What came counts as a parent from those who are believed, and as a link from others.
    #[must_use]
    pub fn of(carried: Option<&'a Carried>, is_trusted: bool) -> Self {
        match carried {
            Some(carried) if is_trusted => Self::Parent(carried),
            Some(carried) => Self::Link(carried),
            None => Self::Nothing,
        }
    }
}

impl Span {
    /// None.
    pub const NONE: Self = Self(None);

    /// One that begins in this process: a request that is answered, a job that is done.
    pub fn begin(name: impl Into<Cow<'static, str>>, kind: Kind, incoming: Incoming<'_>) -> Self {
        let Some(tracer) = TRACER.get() else { return Self::NONE };
        let mut builder = SpanBuilder::from_name(name).with_kind(kind);
        let mut parent = Context::new();
        match incoming {
            Incoming::Parent(carried) => parent = parent.with_remote_span_context(carried.context().clone()),
            Incoming::Link(carried) => {
                builder = builder.with_links(vec![Link::with_context(carried.context().clone())]);
            }
            Incoming::Nothing => {}
        }
        let span = tracer.build_with_context(builder, &parent);
        Self(Some(parent.with_span(span)))
    }

    /// The current one.
    pub fn current() -> Self {
        Self(
            is_on()
                .then(|| Context::map_current(|current| current.has_active_span().then(|| current.clone())))
                .flatten(),
        )
    }

    /// A part of this one; none of none.
    pub fn child(&self, name: impl Into<Cow<'static, str>>, kind: Kind) -> Self {
        let (Some(parent), Some(tracer)) = (&self.0, TRACER.get()) else { return Self::NONE };
        let span = tracer.build_with_context(SpanBuilder::from_name(name).with_kind(kind), parent);
        Self(Some(parent.with_span(span)))
    }

    /// A part of this one that is over already.
    pub fn past_child(&self, name: &'static str, began: SystemTime, ended: SystemTime) {
        let (Some(parent), Some(tracer)) = (&self.0, TRACER.get()) else { return };
        let builder = SpanBuilder::from_name(name).with_kind(Kind::Internal).with_start_time(began);
        let span = tracer.build_with_context(builder, parent);
        parent.with_span(span).span().end_with_timestamp(ended);
    }

    /// Whether anybody will see it: what is only for its attributes need not be found out otherwise.
    #[must_use]
    pub fn is_recording(&self) -> bool {
        self.0.as_ref().is_some_and(|context| context.span().is_recording())
    }

    /// Calls it by another name, where that is only known now.
    pub fn rename(&self, name: impl Into<Cow<'static, str>>) {
        if let Some(context) = &self.0 {
            context.span().update_name(name);
        }
    }

    /// Says something of it. Names are those of the semantic conventions where these have one.
    pub fn set(&self, name: &'static str, value: impl Into<Value>) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(name, value));
        }
    }

    /// It did not do what it was for.
    pub fn failed(&self, why: impl Into<Cow<'static, str>>) {
        if let Some(context) = &self.0 {
            context.span().set_status(Status::error(why));
        }
    }

    /// It is over, whoever still has it.
    pub fn end(&self) {
        if let Some(context) = &self.0 {
            context.span().end();
        }
    }

    /// The trace that it is part of, in hexadecimal.
    #[must_use]
    pub fn trace_id(&self) -> Option<String> {
        Some(self.0.as_ref()?.span().span_context().trace_id().to_string())
    }

    /// Makes it the current one while `future` works.
    pub fn over<F: Future>(&self, future: F) -> Over<F> {
        Over::new(future, self.0.clone())
    }
}

/// A part of the current one; none where there is none.
pub fn child(name: impl Into<Cow<'static, str>>, kind: Kind) -> Span {
    if is_on() { Span::current().child(name, kind) } else { Span::NONE }
}

/// The ids of the current trace and span, in hexadecimal.
#[must_use]
pub fn current_ids() -> Option<(String, String)> {
    let current = Span::current().0?;
    let span = current.span();
    let ids = span.span_context();
    Some((ids.trace_id().to_string(), ids.span_id().to_string()))
}
