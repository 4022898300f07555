//! Fixtures made in code, origins that misbehave, scanners, databases, a started edge and control plane, a browser, a collector of traces.

pub mod clock;
pub mod collector;
pub mod control_plane;
pub mod database;
pub mod dns;
pub mod edge;
pub mod faulty;
pub mod http;
pub mod http2;
pub mod images;
pub mod port;
pub mod receiver;
pub mod scanner;
pub mod tls;
pub mod upgrade;
pub mod web;
pub mod webdriver;
