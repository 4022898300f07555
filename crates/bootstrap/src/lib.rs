//! What every service's `main.rs` does first: configuration, logging, the metrics registry.
//!
//! Must not hold a domain type: services bring their settings, this reads them.

pub mod config;
pub mod logging;
pub mod metrics;

/// Exit status of a service whose configuration is wrong (`EX_USAGE` of `sysexits.h`).
pub const EXIT_USAGE: u8 = 64;
