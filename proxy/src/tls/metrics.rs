//! What there is to know about certificates from the outside.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Metric handles, resolved once.
#[derive(Clone)]
pub(super) struct TlsMetrics {
    pub(super) in_use: IntGauge,
    pub(super) not_after: IntGauge,
    pub(super) loaded: IntCounter,
    pub(super) refused: IntCounter,
    pub(super) without_name: IntCounter,
    pub(super) unknown_name: IntCounter,
}

impl TlsMetrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let counters = |name: &str, help: &str, label: &str| -> prometheus::Result<IntCounterVec> {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counters.clone()))?;
            Ok(counters)
        };
        let loads = counters(
            "calotype_tls_certificate_loads_total",
            "Times that a new or changed certificate was read, by result.",
            "result",
        )?;
        let refused = counters(
            "calotype_tls_handshakes_refused_total",
            "Handshakes refused for want of a certificate, by reason.",
            "reason",
        )?;
        Ok(Self {
            in_use: gauge("calotype_tls_certificates", "Certificates in use.")?,
            not_after: gauge(
                "calotype_tls_certificate_not_after_timestamp_seconds",
                "When the first of the certificates in use expires, as Unix time; 0 when there is none.",
            )?,
            loaded: loads.with_label_values(&["loaded"]),
            refused: loads.with_label_values(&["refused"]),
            without_name: refused.with_label_values(&["no_name"]),
            unknown_name: refused.with_label_values(&["unknown_name"]),
        })
    }
}
