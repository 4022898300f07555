//! The edge, asked over HTTP. One program for all topics: linking is slow.

mod bad_sources;
mod bad_stores;
mod bad_urls;
mod cache_folder;
mod conditions;
mod connections;
mod freshness;
mod http2;
mod http_origin;
mod load;
mod negotiation;
mod observing;
mod originals;
mod playground;
mod playground_in_a_browser;
mod policy;
mod purge;
mod registered;
mod renditions;
mod signing;
mod source_urls;
mod starting;
mod stopping;
mod support;
mod tls;
mod upgrade;
