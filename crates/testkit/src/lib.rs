//! Fixtures made in code, origins that misbehave, a started edge, a browser.

pub mod clock;
pub mod edge;
pub mod faulty;
pub mod http;
pub mod images;
pub mod web;
pub mod webdriver;
