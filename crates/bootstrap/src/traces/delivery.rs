//! From the end of a span to the collector: a queue with an end, and a thread that empties it.
//!
//! Not the batch processor of the SDK: it does not count what it drops, and its thread has no runtime for an HTTP client.

use std::thread::JoinHandle;
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter as _, SpanProcessor};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

/// Spans that may wait.
const QUEUE_MAX: usize = 4096;

/// Spans that are sent at once.
const BATCH_MAX: usize = 512;

/// How long a span waits for others.
const GATHER: Duration = Duration::from_secs(1);

/// How long a stop waits for the collector.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// Time between two lines of the log about a collector that takes nothing.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// What becomes of spans.
#[derive(Debug, Clone)]
pub(super) struct Counts {
    sent: IntCounter,
    queue_full: IntCounter,
    not_delivered: IntCounter,
}

impl Counts {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let sent = IntCounter::new("calotype_trace_spans_sent_total", "Spans that the collector has taken.")?;
        let opts = Opts::new("calotype_trace_spans_dropped_total", "Spans that it was not given, by why.");
        let dropped = IntCounterVec::new(opts, &["reason"])?;
        registry.register(Box::new(sent.clone()))?;
        registry.register(Box::new(dropped.clone()))?;
        let [queue_full, not_delivered] =
            ["queue-full", "not-delivered"].map(|reason| dropped.with_label_values(&[reason]));
        Ok(Self { sent, queue_full, not_delivered })
    }
}

/// Where spans go when they end.
#[derive(Debug)]
pub(super) struct Queue {
    spans: mpsc::Sender<SpanData>,
    counts: Counts,
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.spans.try_send(span).is_err() {
            self.counts.queue_full.inc();
        }
    }

    // Both are the business of `Delivery::stop`, which outlives the provider.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The thread that sends.
#[derive(Debug)]
pub(super) struct Delivery {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Delivery {
    pub(super) fn start(exporter: SpanExporter, counts: Counts) -> std::io::Result<(Queue, Self)> {
        let (spans, waiting) = mpsc::channel(QUEUE_MAX);
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut courier =
            Courier { exporter, waiting, batch: Vec::new(), sending: 0, counts: counts.clone(), told: None };
        let work = async move {
            let mut limit = stopped.clone();
            let patience = async {
                // That its sender is gone is a stop as well.
                drop(limit.wait_for(|stop| *stop).await);
                sleep(STOP_LIMIT).await;
            };
            tokio::select! {
                () = courier.work(stopped) => {}
                () = patience => {}
            }
            courier.give_up();
        };
        let thread = std::thread::Builder::new().name("traces".to_owned()).spawn(move || runtime.block_on(work))?;
        Ok((Queue { spans, counts }, Self { stop, thread }))
    }

    pub(super) fn stop(self) {
        self.stop.send_replace(true);
        // It has a limit of its own, and nobody is left who could be told of a panic.
        drop(self.thread.join());
    }
}

struct Courier {
    exporter: SpanExporter,
    waiting: mpsc::Receiver<SpanData>,
    batch: Vec<SpanData>,
    /// Spans that the collector was given and has not answered for.
    sending: u64,
    counts: Counts,
    /// When the log was last told that the collector takes nothing.
    told: Option<Instant>,
}

impl Courier {
    /// Until it is told to stop, and nothing is left.
    async fn work(&mut self, mut stopped: watch::Receiver<bool>) {
        loop {
            let is_stopped = tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => true,
                () = self.gather() => false,
            };
            if is_stopped {
                break;
            }
            self.send().await;
        }
        loop {
            while let (true, Ok(span)) = (self.batch.len() < BATCH_MAX, self.waiting.try_recv()) {
                self.batch.push(span);
            }
            if self.batch.is_empty() {
                return;
            }
            self.send().await;
        }
    }

    /// A batch: what comes until there is enough of it, or the first has waited long enough. Stopped in between, it has what came.
    async fn gather(&mut self) {
        if self.waiting.recv_many(&mut self.batch, BATCH_MAX).await == 0 {
            return std::future::pending().await;
        }
        let enough = async {
            while self.batch.len() < BATCH_MAX {
                let room = BATCH_MAX - self.batch.len();
                if self.waiting.recv_many(&mut self.batch, room).await == 0 {
                    return;
                }
            }
        };
        drop(timeout(GATHER, enough).await);
    }

    async fn send(&mut self) {
        let spans = std::mem::take(&mut self.batch);
        self.sending = spans.len() as u64;
        match self.exporter.export(spans).await {
            Ok(()) => self.counts.sent.inc_by(self.sending),
            Err(error) => {
                self.counts.not_delivered.inc_by(self.sending);
                if self.told.is_none_or(|told| told.elapsed() > TELL_EVERY) {
                    tracing::warn!(spans = self.sending, "the collector of traces does not take them: {error}");
                    self.told = Some(Instant::now());
                }
            }
        }
        self.sending = 0;
    }

    /// Whatever was not answered for is lost.
    fn give_up(&mut self) {
        let left = self.sending + (self.batch.len() + self.waiting.len()) as u64;
        self.counts.not_delivered.inc_by(left);
    }
}
