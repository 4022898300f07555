//! The guarded client against servers and name servers that mean harm.

mod hostile;
mod posts;
mod redirects;
mod requests;
mod ssrf;
mod support;
