//! Traces: whether there are any, which, and where they are sent (OTLP over HTTP, in protobuf).
//!
//! Off unless an endpoint is named. Must not hold anybody up: spans wait in a queue with an end, a thread of its own sends them, and
//! what the collector does not take is dropped and counted. Making spans is the business of the crate `traces`.

mod client;
mod delivery;
mod settings;

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use prometheus::Registry;
use thiserror::Error;

use self::client::CollectorClient;
use self::delivery::{Counts, Delivery, Queue};
pub use self::settings::{TraceHeaders, TraceSettings};

/// How long a collector may take with one batch.
const SEND_LIMIT: Duration = Duration::from_secs(10);

/// Who the spans are of.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// `service.name`, unless the operator gives another.
    pub name: &'static str,
    /// `service.version`.
    pub version: &'static str,
}

/// Why there are no traces although they are wanted.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The settings.
    #[error(transparent)]
    Exporter(#[from] ExporterBuildError),
    /// A metric's name is taken.
    #[error(transparent)]
    Metrics(#[from] prometheus::Error),
    /// The system gives no thread.
    #[error("no thread for traces: {0}")]
    Thread(#[from] std::io::Error),
}

/// What sends spans, if anything does.
#[must_use = "spans that wait are sent by `stop`"]
#[derive(Debug)]
pub struct Traces(Option<Delivery>);

/// Starts to trace, if the settings or the environment name a collector. The metrics are there in any case.
///
/// # Errors
/// [`TraceError`].
pub fn start(settings: &TraceSettings, service: Service, registry: &Registry) -> Result<Traces, TraceError> {
    let counts = Counts::register(registry)?;
    let Some(endpoint) = settings.endpoint_in_force() else { return Ok(Traces(None)) };
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(CollectorClient::new())
        .with_endpoint(&endpoint)
        .with_headers(settings.headers.pairs().into_iter().collect())
        .with_timeout(SEND_LIMIT)
        .build()?;
    let resource = resource(settings, service);
    opentelemetry_sdk::trace::SpanExporter::set_resource(&mut exporter, &resource);
    let (queue, delivery) = Delivery::start(exporter, counts)?;
    traces::install(provider(settings, resource, queue).tracer("calotype"));
    tracing::info!(endpoint, "requests are traced");
    Ok(Traces(Some(delivery)))
}

impl Traces {
    /// Sends what waits, for a moment; for the end of the process.
    pub fn stop(self) {
        if let Some(delivery) = self.0 {
            delivery.stop();
        }
    }
}

fn resource(settings: &TraceSettings, service: Service) -> Resource {
    // `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` are read by this.
    let builder = Resource::builder().with_attribute(KeyValue::new("service.version", service.version));
    match &settings.service_name {
        Some(name) => builder.with_service_name(name.clone()),
        None if settings::variable("OTEL_SERVICE_NAME").is_some() => builder,
        None => builder.with_service_name(service.name),
    }
    .build()
}

fn provider(settings: &TraceSettings, resource: Resource, queue: Queue) -> SdkTracerProvider {
    let builder = SdkTracerProvider::builder().with_resource(resource).with_span_processor(queue);
    match settings.sample_ratio {
        // Who has begun a trace elsewhere, and is believed, has decided.
        Some(ratio) => builder.with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio)))).build(),
        // `OTEL_TRACES_SAMPLER` is read by this; without it all are sampled.
        None => builder.build(),
    }
}
