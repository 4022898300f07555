//! Divides the machine: one core for the server that is measured, the rest for the clients.
//!
//! Without that they take turns on the same core, and what is measured is the scheduler.

use std::path::Path;

use anyhow::{Context, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::process::Command;

/// Which core is whose, by the numbers of the kernel.
#[derive(Debug, Clone)]
pub struct Cores {
    server: usize,
    clients: Vec<usize>,
}

impl Cores {
    /// The first core that this process may use is the server's.
    ///
    /// # Errors
    /// When there are fewer than two.
    pub fn divide() -> anyhow::Result<Self> {
        let allowed = sched_getaffinity(None).context("the cores of this process are not known")?;
        let mut usable = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let server = usable.next().context("this process may use no core")?;
        let clients: Vec<usize> = usable.collect();
        ensure!(!clients.is_empty(), "measuring needs two cores: one for the server, one for the clients");
        Ok(Self { server, clients })
    }

    /// Moves this process to the clients' cores. Threads that are started later follow.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn take_client_cores(&self) -> anyhow::Result<()> {
        let mut set = CpuSet::new();
        self.clients.iter().for_each(|core| set.set(*core));
        sched_setaffinity(None, &set).context("this process cannot be moved to the clients' cores")
    }

    /// A command that will run `program` on the server's core, under the same process id. However this process ends, that
    /// one is asked to end too.
    pub fn server_command(&self, program: &Path) -> Command {
        let mut command = Command::new("taskset");
        command.arg("--cpu-list").arg(self.server.to_string()).args(["setpriv", "--pdeathsig", "TERM"]).arg(program);
        command
    }

    /// In words, for the report.
    pub fn describe(&self) -> String {
        format!("server on core {}, clients on the other {}", self.server, self.clients.len())
    }
}
