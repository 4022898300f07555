//! Stopping without losing a request: readiness off, running requests finished, then Pingora told to end.
//!
//! Pingora alone either cuts everything at once (SIGINT) or sleeps for a fixed time (SIGTERM); this waits exactly as
//! long as requests run, up to a limit, for both signals. A second signal ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// Whether the edge is stopping, and how many requests run.
#[derive(Debug, Default)]
pub struct Drain {
    draining: AtomicBool,
    /// The same, for those who wait for it.
    begun: watch::Sender<bool>,
    running: AtomicUsize,
    idle: Notify,
}

/// A running request; dropping it ends it.
pub struct Running(Arc<Drain>);

impl Drain {
    /// Counts a request until the guard is dropped.
    pub fn start_request(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, Ordering::SeqCst);
        Running(Arc::clone(self))
    }

    /// True from the first signal on.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Becomes true with the first signal.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.begun.subscribe()
    }

    fn begin(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.begun.send_replace(true);
    }

    async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            if self.running.load(Ordering::SeqCst) == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.running.fetch_sub(1, Ordering::SeqCst) == 1 && self.0.is_draining() {
            self.0.idle.notify_waiters();
        }
    }
}

/// Waits for SIGTERM or SIGINT, then for running requests.
pub struct StopSignal {
    drain: Arc<Drain>,
    limit: Duration,
}

impl StopSignal {
    /// Running requests get at most `limit`.
    pub fn new(drain: Arc<Drain>, limit: Duration) -> Self {
        Self { drain, limit }
    }
}

#[async_trait]
impl ShutdownSignalWatch for StopSignal {
    async fn recv(&self) -> ShutdownSignal {
        let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
            tracing::error!("signals cannot be watched; stopping");
            return ShutdownSignal::FastShutdown;
        };
        let name = either(&mut term, &mut int).await;
        self.drain.begin();
        tracing::info!(signal = name, "stopping: running requests are finished first");
        tokio::select! {
            drained = timeout(self.limit, self.drain.drained()) => {
                if drained.is_err() {
                    tracing::warn!(running = self.drain.running.load(Ordering::SeqCst), "requests still run after the drain limit");
                }
                ShutdownSignal::GracefulTerminate
            }
            name = either(&mut term, &mut int) => {
                tracing::warn!(signal = name, "second signal: stopping at once");
                ShutdownSignal::FastShutdown
            }
        }
    }
}

async fn either(term: &mut Signal, int: &mut Signal) -> &'static str {
    tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = int.recv() => "SIGINT",
    }
}
