//! Connections of clients: how many there may be, and what each of them may hold up.
//!
//! A connection that is one too many is closed when it is accepted, before TLS costs anything. One that is admitted is
//! served through [`GuardedStream`], which watches that headers come and answers go.
//! Must not look at requests; what a client may ask how often is another matter.

mod guard;
mod metrics;
mod refusal;
mod slow_reader;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::apps::ServerApp;
use pingora_core::listeners::ConnectionFilter;
use pingora_core::protocols::Stream;
use pingora_core::protocols::l4::ext::TcpKeepalive;
use pingora_core::server::ShutdownWatch;
use prometheus::Registry;

use self::guard::GuardedStream;
use self::metrics::{ConnectionMetrics, Cut, OneTooMany};
use crate::client::{TrustedProxies, counted_as};

/// What connections are held to.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Connections at a time.
    pub max: usize,
    /// Connections at a time from one address that is not a trusted proxy; 0 is without limit.
    pub per_address: usize,
    /// Time for a request's header to arrive, from its first byte.
    pub header_time: Duration,
    /// Bytes of a header; a little more is read, so that the refusal can say what is too large.
    pub header_bytes: usize,
    /// How long a client may take less than `send_bytes_per_second`.
    pub send_time: Duration,
    /// The least that a client must take while there is more for it.
    pub send_bytes_per_second: u64,
}

/// All connections of clients.
pub struct Connections {
    limits: ConnectionLimits,
    trusted: Arc<TrustedProxies>,
    open: Mutex<Open>,
    metrics: Arc<ConnectionMetrics>,
}

/// How many there are. It is asked when connections come and go, never by a request.
#[derive(Default)]
struct Open {
    all: usize,
    /// No address is here without a connection, so this holds no more entries than there are connections.
    by_address: HashMap<IpAddr, usize>,
}

impl Connections {
    /// No connections yet.
    ///
    /// # Errors
    /// When the name of a metric is taken.
    pub fn new(
        limits: ConnectionLimits,
        trusted: Arc<TrustedProxies>,
        registry: &Registry,
    ) -> prometheus::Result<Self> {
        let metrics = Arc::new(ConnectionMetrics::new(registry)?);
        Ok(Self { limits, trusted, open: Mutex::default(), metrics })
    }

    /// What the kernel is to do with sockets: give up on clients that are gone, even after we have closed.
    pub fn keepalive(&self) -> TcpKeepalive {
        TcpKeepalive {
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(10),
            count: 3,
            // After our own patience, which is counted.
            user_timeout: 2 * self.limits.send_time,
        }
    }

    /// How long a part of so many bytes may take where a client holds back one stream of its connection.
    pub fn stream_time(&self, bytes: usize) -> Duration {
        self.limits.send_time + Duration::from_secs(bytes as u64 / self.limits.send_bytes_per_second)
    }

    /// Counts a stream that took longer.
    pub fn count_slow_stream(&self) {
        self.metrics.cut(Cut::SlowReader);
    }

    /// What one more connection from this peer would be too many of.
    fn excess(&self, open: &Open, address: Option<IpAddr>) -> Option<OneTooMany> {
        if open.all >= self.limits.max {
            return Some(OneTooMany::Max);
        }
        let of_address = open.by_address.get(&address?).copied().unwrap_or_default();
        (of_address >= self.limits.per_address).then_some(OneTooMany::PerAddress)
    }

    /// The address that a connection is counted by; `None` where there is no limit.
    fn limited_address(&self, peer: Option<&SocketAddr>) -> Option<IpAddr> {
        let address = peer?.ip().to_canonical();
        (self.limits.per_address > 0 && !self.trusted.contain(address)).then(|| counted_as(address))
    }

    fn admit(self: &Arc<Self>, peer: Option<&SocketAddr>) -> Option<Admitted> {
        let address = self.limited_address(peer);
        let mut open = self.open.lock();
        if let Some(excess) = self.excess(&open, address) {
            self.metrics.refused(excess);
            return None;
        }
        open.all += 1;
        if let Some(address) = address {
            *open.by_address.entry(address).or_default() += 1;
        }
        self.metrics.open.inc();
        Some(Admitted { connections: Arc::clone(self), address })
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Only looks: a connection counts from [`Limited`] on, which is told about its end. So some more than are allowed may be
/// in their TLS handshakes.
#[async_trait]
impl ConnectionFilter for Connections {
    async fn should_accept(&self, peer: Option<&SocketAddr>) -> bool {
        let excess = self.excess(&self.open.lock(), self.limited_address(peer));
        if let Some(excess) = excess {
            self.metrics.refused(excess);
        }
        excess.is_none()
    }
}

/// A connection that counts until this is dropped.
struct Admitted {
    connections: Arc<Connections>,
    address: Option<IpAddr>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock();
        open.all -= 1;
        if let Some(address) = self.address
            && let Some(count) = open.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&address);
            }
        }
        self.connections.metrics.open.dec();
    }
}

/// A server application within the limits.
pub struct Limited<A> {
    app: Arc<A>,
    connections: Arc<Connections>,
}

impl<A> Limited<A> {
    /// `app`, held to the limits of `connections`.
    pub fn new(app: A, connections: Arc<Connections>) -> Self {
        Self { app: Arc::new(app), connections }
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for Limited<A> {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let digest = stream.get_socket_digest();
        let peer = digest.as_ref().and_then(|digest| digest.peer_addr()?.as_inet());
        let _admitted = self.connections.admit(peer)?;
        let limits = self.connections.limits;
        let (stream, refused) = GuardedStream::new(stream, limits, Arc::clone(&self.connections.metrics));
        tokio::select! {
            biased;
            // Dropping the application ends it where it waits for the rest of a header.
            Ok((stream, why)) = refused => {
                self.connections.metrics.cut(why.into());
                refusal::answer(stream, why, &limits).await;
                None
            }
            stream = self.app.process_new(Box::new(stream), shutdown) => stream,
        }
    }

    async fn cleanup(&self) {
        self.app.cleanup().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(max: usize, per_address: usize) -> Arc<Connections> {
        let limits = ConnectionLimits {
            max,
            per_address,
            header_time: Duration::from_secs(1),
            header_bytes: 1024,
            send_time: Duration::from_secs(1),
            send_bytes_per_second: 1,
        };
        let trusted = TrustedProxies::new(&["10.0.0.0/8".to_owned()], Default::default()).expect("a network");
        Arc::new(Connections::new(limits, Arc::new(trusted), &Registry::new()).expect("the names are free"))
    }

    fn peer(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().expect("an address"), 4711)
    }

    #[tokio::test]
    async fn no_more_than_the_most_and_a_place_that_is_left_is_free() {
        let connections = connections(3, 0);
        let mut admitted: Vec<_> = (0..3).map(|_| connections.admit(Some(&peer("::1"))).expect("room")).collect();
        assert!(!connections.should_accept(Some(&peer("::2"))).await);
        assert!(connections.admit(None).is_none(), "whoever it is");
        assert_eq!(connections.metrics.open.get(), 3);
        admitted.pop();
        assert!(connections.should_accept(Some(&peer("::2"))).await);
        assert!(connections.admit(None).is_some());
        drop(admitted);
        assert_eq!((connections.metrics.open.get(), connections.open.lock().all), (0, 0));
    }

    #[tokio::test]
    async fn an_address_has_its_part_and_a_trusted_proxy_has_all() {
        let connections = connections(100, 2);
        let admit = |address: &str| connections.admit(Some(&peer(address)));
        let kept = [admit("2001:db8::1"), admit("2001:db8::2"), admit("198.51.100.7"), admit("::ffff:198.51.100.7")];
        assert!(kept.iter().all(Option::is_some));
        assert!(admit("2001:db8::3").is_none() && admit("198.51.100.7").is_none());
        assert!(!connections.should_accept(Some(&peer("2001:db8::3"))).await);
        assert!(admit("2001:db8:0:1::1").is_some() && admit("198.51.100.8").is_some());
        let proxy: Vec<_> = (0..20).map(|_| admit("10.1.1.1")).collect();
        assert!(proxy.iter().all(Option::is_some));
        drop((kept, proxy));
        assert!(connections.open.lock().by_address.is_empty(), "nothing is kept of who is gone");
    }
}
