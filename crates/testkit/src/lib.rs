//! Fixtures made in code and origins that misbehave.

pub mod edge;
pub mod faulty;
pub mod http;
pub mod images;
