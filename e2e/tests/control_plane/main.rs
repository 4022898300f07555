//! The control plane, asked over HTTP, on a real Postgres. One program for all topics: linking is slow.

mod apart;
mod api_keys;
mod bad_input;
mod browsers;
mod delivery;
mod domains;
mod edges;
mod feed;
mod following;
mod idempotency;
mod isolation;
mod media;
mod media_bad_input;
mod media_faults;
mod media_jobs;
mod media_rig;
mod migrating;
mod operating;
mod plans;
mod presets;
mod purges;
mod rates;
mod signing_keys;
mod slow_clients;
mod support;
mod tenants;
