//! The processes that run: which of them has ended, and stopping all in order.
//!
//! Must not know how they are started.

use std::time::Duration;

use devstack::postgres::Postgres;
use devstack::process::Process;

/// How long a part may take to stop; more than its own drain limit.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// What was started so far.
#[derive(Default)]
pub struct Parts {
    /// The private database.
    pub database: Option<Postgres>,
    /// `control-plane migrate`, while it runs.
    pub migration: Option<Process>,
    /// The control plane.
    pub control_plane: Option<Process>,
    /// Its worker.
    pub worker: Option<Process>,
    /// The edge.
    pub edge: Option<Process>,
}

impl Parts {
    /// Waits until one ends by itself, and tells which and how.
    pub async fn one_ended(&mut self) -> anyhow::Error {
        let (part, status) = tokio::select! {
            status = ended(&mut self.edge) => ("edge", status),
            status = ended(&mut self.control_plane) => ("control plane", status),
            status = ended(&mut self.worker) => ("worker", status),
            status = database_ended(&mut self.database) => ("database", status),
        };
        match status {
            Ok(status) => anyhow::anyhow!("the {part} ended by itself: {status}"),
            Err(error) => error.context(format!("the {part}")),
        }
    }

    /// Stops all: those first that others would ask in vain. The error is that of the first that had to be killed.
    pub async fn stop(self) -> anyhow::Result<()> {
        let mut done = Ok(());
        for (part, process) in [
            ("edge", self.edge),
            ("control plane", self.control_plane),
            ("worker", self.worker),
            ("migration", self.migration),
        ] {
            let Some(process) = process else { continue };
            let stopped = process.stop(STOP_LIMIT).await.map(drop);
            done = done.and(stopped.map_err(|error| error.context(part)));
        }
        if let Some(database) = self.database {
            done = done.and(database.stop().await.map(drop).map_err(|error| error.context("database")));
        }
        done
    }
}

async fn ended(process: &mut Option<Process>) -> anyhow::Result<std::process::ExitStatus> {
    match process {
        Some(process) => process.exited().await,
        None => std::future::pending().await,
    }
}

async fn database_ended(database: &mut Option<Postgres>) -> anyhow::Result<std::process::ExitStatus> {
    match database {
        Some(database) => database.exited().await,
        None => std::future::pending().await,
    }
}
