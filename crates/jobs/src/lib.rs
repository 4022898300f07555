//! The job queue: all statements on jobs.
//!
//! A job is put in by the transaction that makes it necessary ([`enqueue`]), and taken by a worker for a while ([`Queue::claim`]). The
//! [`Lease`] is all that the worker has: it renews it, and ends it in the transaction that keeps what came of the job, so
//! that both happen or neither does. A worker that is not heard of any more loses the job to another one, and from then on its own
//! lease is good for nothing: each claim has a token, and only the newest one counts.
//!
//! Time is the database's: clocks of workers play no part. Must not know what jobs do.

mod error;
mod job;
mod lease;
mod queue;

pub use error::JobsError;
pub use job::{Job, JobId, JobState, NewJob, cancel, enqueue, find, list, retry};
pub use lease::{Failure, Lease, Renewal};
pub use queue::Queue;
