//! Starts and stops the parts a developer or a test needs.

pub mod s3;
