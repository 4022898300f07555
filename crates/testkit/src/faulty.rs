//! An HTTP relay that misbehaves on demand, to stand in front of any origin or S3 server.
//!
//! Must not alter what it relays unless told to: method, target, headers (`host` included, so signatures hold) and
//! bodies pass as they came. Faults are switched while it runs. It counts requests, so that a test can say "one fetch"
//! and can wait for a request instead of sleeping.

mod body;
mod relay;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use http::StatusCode;
use tokio::net::TcpSocket;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

/// Longest wait for requests to arrive; longer than any deadline of the servers under test.
const WAIT_LIMIT: Duration = Duration::from_secs(30);

/// What to do to a request instead of relaying it faithfully.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Answer with this status and no body; the server behind sees nothing.
    Answer(StatusCode),
    /// Say nothing until the fault is changed, then relay.
    StallBeforeHead,
    /// Relay the head and so many bytes of the body, then say nothing until the fault is changed, then relay the rest.
    StallInBody {
        /// Bytes relayed before.
        after_bytes: u64,
    },
    /// Relay the head, its content-length included, and so many bytes of the body, then close the connection.
    Truncate {
        /// Bytes relayed before.
        after_bytes: u64,
    },
    /// Reset the connection (TCP RST) when the request has come.
    Reset,
}

/// A running relay on 127.0.0.1. Dropping it stops it.
#[derive(Debug)]
pub struct FaultyRelay {
    address: SocketAddr,
    shared: Arc<Shared>,
    doors: mpsc::Sender<Door>,
    serving: JoinHandle<()>,
}

/// State between the handle and the connections.
#[derive(Debug)]
struct Shared {
    origin: SocketAddr,
    plan: Mutex<Plan>,
    /// Changes with the plan; stalled requests wait for that.
    plan_version: watch::Sender<u64>,
    counts: Mutex<BTreeMap<String, u64>>,
    total: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Plan {
    fault: Option<Fault>,
    /// How many more requests the fault is for; `None` = all.
    remaining: Option<u64>,
    latency: Duration,
}

/// Whether connections are taken; the sender is told when it is so.
#[derive(Debug)]
enum Door {
    Close(oneshot::Sender<()>),
    Open(oneshot::Sender<()>),
}

impl FaultyRelay {
    /// Starts a faithful relay to `origin` on a free port.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start(origin: SocketAddr) -> anyhow::Result<Self> {
        // A second socket, bound but deaf, keeps the port while the relay is down: connections are then refused, and
        // nobody else is given the port.
        let keeper = reusable_socket((Ipv4Addr::LOCALHOST, 0).into()).context("cannot bind a port")?;
        let address = keeper.local_addr()?;
        let shared = Arc::new(Shared {
            origin,
            plan: Mutex::default(),
            plan_version: watch::Sender::new(0),
            counts: Mutex::default(),
            total: watch::Sender::new(0),
        });
        let (doors, door_commands) = mpsc::channel(1);
        let serving = tokio::spawn(relay::run(keeper, relay::listen(address)?, Arc::clone(&shared), door_commands));
        Ok(Self { address, shared, doors, serving })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Does `fault` to every request that comes from now on.
    pub fn set(&self, fault: Fault) {
        self.change(|plan| (plan.fault, plan.remaining) = (Some(fault), None));
    }

    /// Does `fault` to the next so many requests, then relays faithfully.
    pub fn set_for(&self, requests: u64, fault: Fault) {
        self.change(|plan| (plan.fault, plan.remaining) = (Some(fault), Some(requests)));
    }

    /// Relays faithfully from now on; what was stalled goes on.
    pub fn heal(&self) {
        self.change(|plan| plan.fault = None);
    }

    /// Holds every request back for so long before anything else happens to it.
    pub fn set_latency(&self, latency: Duration) {
        self.change(|plan| plan.latency = latency);
    }

    /// Closes all connections and refuses new ones. When this returns, it is so.
    pub async fn take_down(&self) {
        let (done, is_done) = oneshot::channel();
        self.tell(Door::Close(done), is_done).await;
    }

    /// Takes connections again, on the same port. When this returns, it is so.
    pub async fn bring_up(&self) {
        let (done, is_done) = oneshot::channel();
        self.tell(Door::Open(done), is_done).await;
    }

    /// How many requests have come.
    #[must_use]
    pub fn requests(&self) -> u64 {
        *self.shared.total.borrow()
    }

    /// How many requests have come for this path, compared byte for byte, without the query.
    #[must_use]
    pub fn requests_for(&self, path: &str) -> u64 {
        lock(&self.shared.counts).get(path).copied().unwrap_or(0)
    }

    /// Waits until so many requests have come in all.
    ///
    /// # Errors
    /// If they do not come within half a minute.
    pub async fn wait_for_requests(&self, count: u64) -> anyhow::Result<()> {
        let mut total = self.shared.total.subscribe();
        let arrived = total.wait_for(|total| *total >= count);
        tokio::time::timeout(WAIT_LIMIT, arrived)
            .await
            .with_context(|| format!("{} of {count} requests came", self.requests()))??;
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut Plan)) {
        // The version changes under the lock: a request that sees the new plan must not be woken by its own change.
        let mut plan = lock(&self.shared.plan);
        change(&mut plan);
        self.shared.plan_version.send_modify(|version| *version += 1);
    }

    async fn tell(&self, door: Door, is_done: oneshot::Receiver<()>) {
        // The task lives as long as the handle, unless it panicked: then the test sees a dead relay soon enough.
        let _ = self.doors.send(door).await;
        let _ = is_done.await;
    }
}

impl Drop for FaultyRelay {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Shared {
    fn count(&self, path: &str) {
        *lock(&self.counts).entry(path.to_owned()).or_insert(0) += 1;
        self.total.send_modify(|total| *total += 1);
    }

    /// The latency and the fault for a request that has just come, and the version of the plan they are from.
    fn next(&self) -> (Duration, Option<Fault>, watch::Receiver<u64>) {
        let mut plan = lock(&self.plan);
        // Subscribed under the lock: the next change wakes who stalls because of this plan.
        let version = self.plan_version.subscribe();
        let fault = match &mut plan.remaining {
            None => plan.fault,
            Some(0) => None,
            Some(remaining) => {
                *remaining -= 1;
                plan.fault
            }
        };
        (plan.latency, fault, version)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn reusable_socket(address: SocketAddr) -> std::io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}
