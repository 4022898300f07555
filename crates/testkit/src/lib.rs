//! Fixtures made in code, origins that misbehave, a started edge, a browser.

pub mod clock;
pub mod edge;
pub mod faulty;
pub mod http;
pub mod http2;
pub mod images;
pub mod tls;
pub mod upgrade;
pub mod web;
pub mod webdriver;
