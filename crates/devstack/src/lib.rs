//! Starts and stops the parts a developer or a test needs.

pub mod process;
pub mod s3;
pub mod samples;
