//! Why the database did not do what it was asked.

use thiserror::Error;

/// Why a statement failed, told apart by what a caller can do about it.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// The URL does not name a Postgres.
    #[error("the database's URL cannot be used")]
    Url(#[source] sqlx::Error),
    /// It cannot be reached, has no connection to spare, or is going away: the same may work later.
    #[error("the database cannot be reached")]
    Unavailable(#[source] sqlx::Error),
    /// Another transaction came first; the same may work at once.
    #[error("another change came first")]
    Conflict(#[source] sqlx::Error),
    /// There is one already: the name of the constraint that says so.
    #[error("there is one already ({constraint})")]
    Exists {
        /// The constraint's name.
        constraint: String,
    },
    /// Something else has to be there, or must not refer to it any more: the name of the constraint that says so.
    #[error("another row does not allow it ({constraint})")]
    Refers {
        /// The constraint's name.
        constraint: String,
    },
    /// What is written is not allowed: the name of the constraint that says so.
    #[error("it is not allowed ({constraint})")]
    Check {
        /// The constraint's name.
        constraint: String,
    },
    /// A mistake of ours.
    #[error("the database refused a statement")]
    Statement(#[source] sqlx::Error),
}

impl From<sqlx::Error> for DatabaseError {
    fn from(error: sqlx::Error) -> Self {
        let Some(refusal) = error.as_database_error() else {
            return match error {
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed
                | sqlx::Error::Protocol(_) => Self::Unavailable(error),
                _ => Self::Statement(error),
            };
        };
        let constraint = || refusal.constraint().unwrap_or_default().to_owned();
        // The codes of errors: appendix A of PostgreSQL's manual.
        match refusal.code().as_deref() {
            Some("23505") => Self::Exists { constraint: constraint() },
            Some("23503" | "23001") => Self::Refers { constraint: constraint() },
            Some("23514") => Self::Check { constraint: constraint() },
            Some("40P01" | "55P03") => Self::Conflict(error),
            // A transaction that rested for too long; and a statement that a replica has cancelled because it stood in the way of changes
            // of the primary's. Nothing here is serializable: what else has this code does not happen.
            Some("25P03" | "40001") => Self::Unavailable(error),
            // Connections, resources, an operator's intervention, and "cannot connect now".
            Some(code) if ["08", "53", "57"].iter().any(|class| code.starts_with(class)) => Self::Unavailable(error),
            _ => Self::Statement(error),
        }
    }
}
