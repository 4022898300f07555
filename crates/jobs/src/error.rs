//! Why the queue did not do what it was asked.

use isolation::DatabaseError;
use thiserror::Error;

/// Why a job was not changed.
#[derive(Debug, Error)]
pub enum JobsError {
    /// The tenant has no such job.
    #[error("there is no such job")]
    NotFound,
    /// A job that it is to wait for is not there, or has failed.
    #[error("a job that this one needs is not there, or did not end well")]
    Needs,
    /// The job is in another state than this takes.
    #[error("the job is {0}")]
    State(String),
    /// Another worker has it, or nobody: what this one did does not count.
    #[error("the lease is lost")]
    LeaseLost,
    /// The database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl From<sqlx::Error> for JobsError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error.into())
    }
}
