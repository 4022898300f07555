//! What only S3 can do wrong: credentials, the network, the server.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../stores/mod.rs"]
mod stores;

mod access;
mod configuration;
mod faults;
mod multipart;
mod parts;
mod presigned;
