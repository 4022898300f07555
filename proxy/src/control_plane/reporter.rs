//! Reports what tenants have used of this edge.
//!
//! A report is written down before it is sent, and sent until it is taken (`outbox.rs`). Must not be needed to serve: while the control
//! plane is away usage is added up, and nobody waits.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use cache::UnixMillis;
use prometheus::Registry;
use tenancy::usage::EDGE_BYTES_MAX;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, block_in_place};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::client::{Client, ClientError};
use super::outbox::Outbox;
use super::reporter_metrics::ReporterMetrics;
use crate::config::{ControlPlaneTable, base_url};
use crate::usage::{Accounts, day};

/// How long the last reports of a process may take; what is not taken by then, the next one reports.
const LAST_TIME: Duration = Duration::from_secs(3);

/// What the machine is called.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Reports, until it is stopped.
pub struct Reporter {
    client: Client,
    accounts: Arc<Accounts>,
    folder: PathBuf,
    edge: String,
    every: Duration,
    own: Outbox,
    /// Of lives that are over.
    left_over: Vec<Outbox>,
    metrics: ReporterMetrics,
    /// How it went the last time.
    is_failing: bool,
}

/// A reporter that runs.
pub struct Reporting {
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

impl Reporter {
    /// A reporter of what these accounts collect; `None` without a control plane.
    ///
    /// # Errors
    /// A token that cannot be sent, metrics that are registered already, and a system without random numbers.
    pub fn open(
        table: &ControlPlaneTable,
        accounts: Arc<Accounts>,
        registry: &Registry,
    ) -> anyhow::Result<Option<Self>> {
        let (Some(url), Some(token)) = (&table.url, &table.token) else { return Ok(None) };
        let client = Client::new(base_url(url).context("control_plane.url")?, token.expose());
        let edge = table.edge_name.clone().unwrap_or_else(|| host_name(Path::new(HOST_NAME)));
        Ok(Some(Self {
            client: client.context("control_plane.token")?,
            accounts,
            folder: table.dir.clone(),
            own: Outbox::begin(&table.dir, &edge)?,
            edge,
            every: Duration::from_secs(table.usage_seconds),
            left_over: Vec::new(),
            metrics: ReporterMetrics::register(registry)?,
            is_failing: false,
        }))
    }

    /// Begins to report.
    pub fn start(self, io: &Handle) -> Reporting {
        let (stop, stopped) = oneshot::channel();
        let accounts = Arc::clone(&self.accounts);
        io.spawn(async move { accounts.watch().await });
        Reporting { task: io.spawn(self.run(stopped)), stop }
    }

    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut tick = interval(self.every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => self.round(self.every).await,
                _ = &mut stopped => break,
            }
        }
        self.round(LAST_TIME).await;
        // What is taken is not to be found by the next life, which would only send it again.
        for outbox in self.left_over.drain(..).chain([self.own]).filter(Outbox::is_empty) {
            outbox.end();
        }
    }

    /// Collects, writes down, and sends for as long as that may take: the next round is not to be late, or a crash would lose more.
    async fn round(&mut self, limit: Duration) {
        let now = UnixMillis::now();
        self.own.add(self.accounts.take(now), day(now));
        block_in_place(|| {
            self.left_over.extend(Outbox::left_over(&self.folder, &self.edge));
            self.left_over.iter_mut().chain([&mut self.own]).for_each(pack);
        });
        self.metrics.wait(self.rows());
        let sent = timeout(limit, self.send()).await.unwrap_or(Err(ClientError::Late));
        block_in_place(|| self.left_over.extract_if(.., |outbox| outbox.is_empty()).for_each(Outbox::end));
        self.metrics.wait(self.rows());
        let failed = sent.is_err();
        match sent {
            Ok(()) => self.metrics.all_taken(),
            Err(error) if !self.is_failing => {
                tracing::warn!(%error, rows = self.rows(), "usage cannot be reported; it is added up until it can");
            }
            Err(_) => {}
        }
        if failed {
            self.metrics.failed();
        }
        self.is_failing = failed;
    }

    /// Sends what there is; that of earlier lives first.
    async fn send(&mut self) -> Result<(), ClientError> {
        let Self { client, metrics, own, left_over, .. } = self;
        for outbox in left_over.iter_mut().chain([own]) {
            loop {
                while let Some(batch) = outbox.next() {
                    client.report(batch).await?;
                    outbox.taken();
                    metrics.taken();
                }
                // What had to wait for those.
                block_in_place(|| pack(outbox));
                if outbox.next().is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn rows(&self) -> usize {
        self.left_over.iter().chain([&self.own]).map(Outbox::rows).sum()
    }
}

impl Reporting {
    /// Reports what is left and stops. What cannot be reported is written down.
    pub async fn stop(self) {
        // An error is that it has ended by itself.
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

/// Makes batches of what waits, and writes them down before they are sent.
fn pack(outbox: &mut Outbox) {
    outbox.pack();
    if let Err(error) = outbox.save() {
        tracing::error!(%error, "usage cannot be written down; a crash would lose what is not reported");
    }
}

/// A name that a report can have.
fn host_name(file: &Path) -> String {
    let told = std::fs::read_to_string(file).unwrap_or_default();
    let name: String = told.chars().filter(char::is_ascii_graphic).take(EDGE_BYTES_MAX).collect();
    if name.is_empty() { "edge".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(told: &str, expected: &str) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), told).expect("written");
        assert_eq!(host_name(file.path()), expected);
    }

    #[test]
    fn every_machine_has_a_name_that_can_be_told() {
        check("edge-7.example\n", "edge-7.example");
        check("b\u{fc}ro 1\n", "bro1");
        check("\n", "edge");
        check(&"x".repeat(200), &"x".repeat(64));
        assert_eq!(host_name(Path::new("/there/is/none")), "edge");
    }
}
