//! Tests across real processes: the edge as it is shipped, real files, a real S3 server, exact HTTP.
//!
//! Holds no code of its own: `tests/edge` is about the edge, `tests/control_plane` about the control plane, `tests/command_line.rs` about `calotype`,
//! `tests/architecture.rs` about who may depend on whom. They need the programs: `cargo build --workspace --bins`.
