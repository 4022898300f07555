//! The number of files that the process may have open: a connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What else is open: blocks of the disk cache, originals, connections to origins.
const RESERVED: u64 = 2048;

/// Raises the limit as far as it goes (services are often started with 1024), and says so if it is too low for so many
/// connections.
pub fn raise(connections: usize) {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    // Refused or not, what is in force now is what counts.
    let _ = setrlimit(Resource::Nofile, raised);
    let limit = getrlimit(Resource::Nofile).current;
    if limit.is_some_and(|limit| limit < connections as u64 + RESERVED) {
        tracing::warn!(
            limit,
            connections,
            needed = connections as u64 + RESERVED,
            "the limit on open files is lower than connections.max needs"
        );
    }
}
