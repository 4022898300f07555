//! Asks `clamd`, the daemon of ClamAV, whether bytes are harmful, by its socket protocol (`man clamd`, "COMMANDS").
//!
//! Two commands are all of it: `INSTREAM`, which takes the bytes themselves, so that the daemon needs no access to where they are,
//! and `VERSION`, which an operator wants to know. Each has a connection of its own. Whatever is at the other end may say nothing,
//! nonsense, or go away at any moment: every wait has an end, and every answer a size. Must not know where the bytes come from, nor
//! what becomes of them.

mod address;
mod client;
mod error;
mod reply;

pub use address::{Address, AddressError};
pub use client::Clamd;
pub use error::{BoxError, ClamdError};
pub use reply::{Verdict, Version};
