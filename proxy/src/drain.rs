//! Stopping without losing a request: readiness off, running requests finished, then Pingora told to end.
//!
//! Pingora alone either cuts everything at once (SIGINT) or sleeps for a fixed time (SIGTERM); this waits exactly as
//! long as requests run, up to a limit, for both signals and for a successor that serves already. A second signal ends at
//! once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use crate::sockets::Sockets;
use crate::systemd;

/// How long a connection without a request is kept after the last was accepted: its next request is answered with
/// `Connection: close`. Closing it at once would meet requests that are on their way.
pub const LINGER: Duration = Duration::from_millis(500);

/// Whether the edge is stopping, and how many requests run.
#[derive(Default)]
pub struct Drain {
    draining: AtomicBool,
    /// The same, for those who wait for it.
    begun: watch::Sender<bool>,
    deaf: watch::Sender<bool>,
    running: AtomicUsize,
    idle: Notify,
    superseded: Notify,
    refused: AtomicBool,
    sockets: Mutex<Option<Sockets>>,
}

/// A running request; dropping it ends it.
pub struct Running(Arc<Drain>);

impl Drain {
    /// For a server on these sockets, which are closed when it is to accept no more.
    pub fn new(sockets: Sockets) -> Self {
        Self { sockets: Mutex::new(Some(sockets)), ..Self::default() }
    }

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

    /// Becomes true when no more connections are to be accepted.
    pub fn watch_deaf(&self) -> watch::Receiver<bool> {
        self.deaf.subscribe()
    }

    /// Another process serves on the same sockets: this one accepts no more, and ends.
    pub fn supersede(&self) {
        self.superseded.notify_one();
    }

    /// The process that this one was to take over from goes on: this one ends, and has failed.
    pub fn refuse(&self) {
        self.refused.store(true, Ordering::SeqCst);
        self.superseded.notify_one();
    }

    /// Whether it ends for that reason.
    pub fn is_refused(&self) -> bool {
        self.refused.load(Ordering::SeqCst)
    }

    /// `None` once the edge is stopping.
    pub fn with_sockets<T>(&self, then: impl FnOnce(&Sockets) -> T) -> Option<T> {
        let sockets = self.sockets.lock();
        sockets.as_ref().filter(|_| !self.is_draining()).map(then)
    }

    fn begin(&self) {
        self.draining.store(true, Ordering::SeqCst);
        self.begun.send_replace(true);
    }

    fn stop_accepting(&self) {
        self.deaf.send_replace(true);
        self.sockets.lock().take();
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

/// How long a stop takes.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// After a signal, new connections are taken for so long at least, so that balancers notice that readiness is off.
    pub notice: Duration,
    /// Running requests get at most this long after that.
    pub limit: Duration,
}

/// Waits for SIGTERM, SIGINT or a successor, then for running requests.
pub struct StopSignal {
    drain: Arc<Drain>,
    patience: Patience,
    /// Taken by the one wait.
    start: Mutex<Option<Start>>,
}

struct Start {
    term: Signal,
    int: Signal,
    started: Box<dyn FnOnce() + Send>,
}

impl StopSignal {
    /// Watches for signals from now on, by the runtime that this is called in. `started` is called when the services run.
    ///
    /// # Errors
    /// When signals cannot be watched.
    pub fn new(
        drain: Arc<Drain>,
        patience: Patience,
        started: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<Self> {
        let (term, int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let start = Start { term, int, started: Box::new(started) };
        Ok(Self { drain, patience, start: Mutex::new(Some(start)) })
    }

    async fn finish_requests(&self, is_superseded: bool) {
        if !is_superseded {
            // New connections are taken meanwhile.
            self.drain.drained().await;
        }
        self.drain.stop_accepting();
        sleep(LINGER).await;
        self.drain.drained().await;
    }
}

#[async_trait]
impl ShutdownSignalWatch for StopSignal {
    async fn recv(&self) -> ShutdownSignal {
        let Some(Start { mut term, mut int, started }) = self.start.lock().take() else {
            return ShutdownSignal::FastShutdown;
        };
        started();
        let signal = tokio::select! {
            name = either(&mut term, &mut int) => Some(name),
            () = self.drain.superseded.notified() => None,
        };
        self.drain.begin();
        match signal {
            Some(signal) => {
                systemd::stopping();
                tracing::info!(signal, "stopping: running requests are finished first");
            }
            None if self.drain.is_refused() => tracing::info!("stopping: another process serves and goes on"),
            None => tracing::info!("another process serves: running requests are finished"),
        }
        let notice = if signal.is_some() { self.patience.notice } else { Duration::ZERO };
        let finished = async {
            sleep(notice).await;
            timeout(self.patience.limit + LINGER, self.finish_requests(signal.is_none())).await
        };
        tokio::select! {
            drained = finished => {
                if drained.is_err() {
                    tracing::warn!(running = self.drain.running.load(Ordering::SeqCst), "requests still run after the drain limit");
                    self.drain.stop_accepting();
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
