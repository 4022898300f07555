//! Starts and stops the parts a developer or a test needs.

pub mod postgres;
pub mod process;
#[cfg(feature = "s3")]
pub mod s3;
pub mod samples;
