//! Fixtures made in code and origins that misbehave.

pub mod faulty;
pub mod http;
