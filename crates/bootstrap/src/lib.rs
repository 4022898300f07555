//! What every service's `main.rs` does first: configuration, logging, the metrics registry, traces.
//!
//! Must not hold a domain type: services bring their settings, this reads them.

pub mod config;
pub mod logging;
pub mod metrics;
pub mod traces;

use std::fmt::Display;
use std::process::ExitCode;

/// Exit status of a service whose configuration is wrong (`EX_USAGE` of `sysexits.h`).
const EXIT_USAGE: u8 = 64;

/// Bad settings: all of them on standard error, before any port is bound.
pub fn usage(error: &dyn Display) -> ExitCode {
    #[allow(clippy::print_stderr, reason = "the log may not have been started")]
    {
        eprintln!("{error:#}");
    }
    ExitCode::from(EXIT_USAGE)
}
