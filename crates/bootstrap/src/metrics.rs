//! The registry that a service's metrics are in, and its text form.

use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder, IntGauge, Opts, Registry, TextEncoder};

/// Content type of [`encode`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A registry with the process's own metrics and `calotype_build_info`.
pub fn registry(service: &str, version: &str) -> Registry {
    let registry = Registry::new();
    let opts = Opts::new("calotype_build_info", "Always 1; the labels tell what runs.")
        .const_label("service", service)
        .const_label("version", version);
    let build_info = IntGauge::with_opts(opts).expect("the name and labels are valid");
    build_info.set(1);
    registry.register(Box::new(build_info)).expect("the registry is new");
    registry.register(Box::new(ProcessCollector::for_self())).expect("the registry is new");
    registry
}

/// Every metric in Prometheus' text format.
pub fn encode(registry: &Registry) -> Vec<u8> {
    let mut text = Vec::with_capacity(16 * 1024);
    // Writing to memory cannot fail; a metric family without metrics is left out by `gather`.
    if let Err(error) = TextEncoder::new().encode(&registry.gather(), &mut text) {
        tracing::error!(%error, "metrics could not be encoded");
    }
    text
}
