//! A future with its span.

use std::pin::Pin;
use std::task::{self, Poll};

use opentelemetry::Context;
use pin_project_lite::pin_project;

pin_project! {
    /// A future whose span is the current one while it is polled. Where it has none, it is polled as ever.
    #[derive(Debug)]
    pub struct Over<F> {
        #[pin]
        future: F,
        context: Option<Context>,
    }
}

impl<F> Over<F> {
    pub(crate) fn new(future: F, context: Option<Context>) -> Self {
        Self { future, context }
    }
}

impl<F: Future> Future for Over<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _current = this.context.clone().map(Context::attach);
        this.future.poll(cx)
    }
}
