//! A receiver of webhooks: it keeps what comes, in its order, and answers as it is told, badly if need be.
//!
//! Must not look at signatures: tests do. Everything here panics when it fails.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::edge::eventually;

/// What is answered to a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// This status, these header lines, this body.
    Answer(u16, String, Bytes),
    /// The same as 200, after this time.
    Slow(Duration),
    /// 200 at once, and this body after this time.
    SlowBody(Duration, Bytes),
    /// Nothing: the connection stays open.
    Hang,
    /// Nothing: the connection is closed.
    Close,
    /// The beginning of a success; then the connection is closed.
    CloseInBody,
    /// A header that never ends.
    EndlessHead,
}

impl Reply {
    /// An empty answer of this status.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Answer(status, String::new(), Bytes::new())
    }
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Received {
    /// Path and query.
    pub target: String,
    /// Headers.
    pub headers: HeaderMap,
    /// What was posted.
    pub body: Bytes,
    /// When its last byte had come.
    pub at: Instant,
    /// What it was answered with was a success.
    pub was_taken: bool,
}

impl Received {
    /// A header of it.
    ///
    /// # Panics
    /// When it has none of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no {name}"));
        value.to_str().expect("plain ASCII")
    }

    /// `webhook-id`.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    /// What was posted, as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
}

/// What is answered to the request of this number, from 0.
type Script = Arc<dyn Fn(usize, &Received) -> Reply + Send + Sync>;

/// A receiver on 127.0.0.1. Dropping it ends it, and its connections.
pub struct Receiver {
    /// Where it is.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    script: Mutex<Script>,
    received: Mutex<Vec<Received>>,
}

impl Receiver {
    /// Starts one that takes everything.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start() -> Self {
        Self::start_with(|_, _| Reply::status(204)).await
    }

    /// Starts one that answers like this.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start_with(script: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared { script: Mutex::new(Arc::new(script)), received: Mutex::default() });
        let task = tokio::spawn(serve(listener, Arc::clone(&shared))).abort_handle();
        Self { address, shared, task }
    }

    /// Answers like this from now on.
    pub fn set(&self, script: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static) {
        *locked(&self.shared.script) = Arc::new(script);
    }

    /// A URL of it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What has come so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        locked(&self.shared.received).clone()
    }

    /// What has come so far and was taken.
    #[must_use]
    pub fn taken(&self) -> Vec<Received> {
        self.received().into_iter().filter(|received| received.was_taken).collect()
    }

    /// How many requests have come so far.
    #[must_use]
    pub fn count(&self) -> usize {
        locked(&self.shared.received).len()
    }

    /// Waits until so many requests have come; all of them.
    ///
    /// # Panics
    /// When they have not in time.
    pub async fn wait_for(&self, count: usize) -> Vec<Received> {
        let what = format!("{count} requests");
        eventually(&what, async || (self.count() >= count).then(|| self.received())).await
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("address", &self.address).finish_non_exhaustive()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(answer(stream, Arc::clone(&shared)));
    }
}

/// Answers the requests of a connection, until one is to end it.
async fn answer(stream: TcpStream, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let script = Arc::clone(&locked(&shared.script));
        let reply = {
            let mut received = locked(&shared.received);
            let reply = script(received.len(), &request);
            let was_taken = match reply {
                Reply::Answer(status, ..) => (200..300).contains(&status),
                Reply::Slow(_) | Reply::SlowBody(..) | Reply::CloseInBody => true,
                Reply::Hang | Reply::Close | Reply::EndlessHead => false,
            };
            received.push(Received { was_taken, ..request });
            reply
        };
        if write(&mut stream, reply).await.is_none() {
            return;
        }
    }
}

/// A request; nothing when the connection has ended.
async fn read(stream: &mut BufReader<TcpStream>) -> Option<Received> {
    let mut first = String::new();
    stream.read_line(&mut first).await.ok()?;
    let target = first.split(' ').nth(1)?.to_owned();
    let mut headers = HeaderMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        let name = HeaderName::try_from(name).expect("a name of a header");
        headers.append(name, HeaderValue::try_from(value).expect("a value of a header"));
    }
    let length = headers.get("content-length")?.to_str().ok()?.parse().ok()?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Received { target, headers, body: body.into(), at: Instant::now(), was_taken: false })
}

/// Answers; nothing when the connection is to end.
async fn write(stream: &mut BufReader<TcpStream>, reply: Reply) -> Option<()> {
    match reply {
        Reply::Answer(status, headers, body) => {
            let head = format!("HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\n\r\n", body.len());
            // A client that has had enough hangs up.
            stream.write_all(&[head.as_bytes(), &body].concat()).await.ok()
        }
        Reply::Slow(time) => {
            sleep(time).await;
            stream.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n").await.ok()
        }
        Reply::SlowBody(time, body) => {
            let head = format!("HTTP/1.1 200 x\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await.ok()?;
            sleep(time).await;
            stream.write_all(&body).await.ok()
        }
        Reply::Hang => {
            // Until the client gives up.
            let _ = stream.read_u8().await;
            None
        }
        Reply::Close => None,
        Reply::CloseInBody => {
            let _ = stream.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 100\r\n\r\nbegun").await;
            None
        }
        Reply::EndlessHead => {
            let mut line = stream.write_all(b"HTTP/1.1 200 x\r\nx: ").await;
            while line.is_ok() {
                sleep(Duration::from_millis(20)).await;
                line = stream.write_all(b"a").await;
            }
            None
        }
    }
}
