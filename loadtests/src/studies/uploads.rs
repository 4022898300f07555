//! A large file by tus over a link that breaks again and again: whether it arrives, how much is sent twice, and what memory it takes.
//!
//! The link is a relay that passes so many bytes on and then drops both of its connections. The client does what stock clients do: it
//! sends all that is left, and when that breaks asks how far the upload is.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use http::Method;
use testkit::http::{Connection, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::api::bucket::Bucket;
use super::api::seed;
use super::api::service::{Service, request};
use crate::memory;
use crate::report::{Figure, Goal, Row, Unit};

/// Bytes that the link passes on before it breaks.
const BREAKS_EVERY: u64 = 100_000_000;

/// Bytes that are sent at a time.
const CHUNK: usize = 64 * 1024;

/// Most bytes that the service keeps before they count: what a break can cost.
const PIECE_MIB: f64 = 8.0;

/// Longest time for one answer, and for the medium.
const LIMIT: Duration = Duration::from_secs(300);

const MIB: f64 = 1024.0 * 1024.0;

/// Makes the study; its report.
///
/// # Errors
/// When something cannot be measured.
pub async fn study(control_plane: &Path, quick: bool) -> anyhow::Result<String> {
    let size = if quick { 300_000_000 } else { 1_000_000_000 };
    let mut rows = measure("a folder", control_plane, size, &[]).await?;
    let bucket = Bucket::start().await?;
    rows.extend(measure("a bucket", control_plane, size, &bucket.settings()).await?);
    bucket.stop();
    let method = [
        "Postgres, the control plane, the S3 server, the link and the client share the machine, on no cores of their own. Postgres and the folder sync to disk.",
        "The link drops both of its connections, without a word, whenever it has passed on so many bytes. What a client had handed to its system by then, and nobody has got, is sent twice too.",
        "Memory is the most resident memory while the bytes came, and while they became a medium, less what it was before; the worker's is all that it had.",
    ];
    Ok(Figure { method: method.map(str::to_owned).to_vec(), rows, ..Figure::default() }.to_markdown(""))
}

async fn measure(
    store: &str,
    control_plane: &Path,
    size: u64,
    settings: &[(&'static str, String)],
) -> anyhow::Result<Vec<Row>> {
    let mut settings = settings.to_vec();
    settings.push(("UPLOAD_BYTES", "2000000000".to_owned()));
    let service = Service::start_with(control_plane, &settings).await?;
    seed::tenants(&service, 0, 1).await?;
    let link = Link::start(service.address).await?;
    // The first requests make connections and caches.
    Upload::begin(&service, &link, 1000).await?.send(&mut Tally::default()).await?;
    memory::forget_peak(service.id)?;
    let (before, started) = (memory::resident_bytes(service.id)?, Instant::now());
    let upload = Upload::begin(&service, &link, size).await?;
    let mut tally = Tally::default();
    upload.send(&mut tally).await?;
    let took = started.elapsed();
    let grown = memory::peak_bytes(service.id)?.saturating_sub(before) as f64 / MIB;
    let (worker, completed) = complete(&service, control_plane, &upload).await?;
    service.stop().await?;
    let all: f64 = tally.twice.iter().map(|bytes| *bytes as f64 / MIB).sum();
    let twice: Vec<f64> = tally.twice.iter().map(|bytes| *bytes as f64 / MIB).collect();
    let what = |what: &str| format!("{} MB by tus into {store}: {what}", size / 1_000_000);
    let lost: Vec<f64> = tally.lost.iter().map(|bytes| *bytes as f64).collect();
    let rows = vec![
        Row::single(what("breaks"), Unit::Count, twice.len() as f64),
        Row::worst(what("passed on before a break, and not kept"), Unit::Bytes, Goal::Exactly(0.0), lost)?,
        Row::worst(what("sent twice after a break, MiB"), Unit::Points, Goal::AtMost(PIECE_MIB), twice)?,
        Row::single(what("sent twice in all, MiB"), Unit::Points, all),
        Row::single(what("until the last byte is stored"), Unit::Milliseconds, took.as_secs_f64() * 1e3),
        Row::single(what("memory of the control plane, MiB"), Unit::Points, grown).with_goal(Goal::Below(32.0)),
        Row::single(what("until it is a medium, by a worker"), Unit::Milliseconds, completed.as_secs_f64() * 1e3),
        Row::single(what("memory of the worker in all, MiB"), Unit::Points, worker).with_goal(Goal::Below(96.0)),
    ];
    rows.iter().for_each(|row| eprintln!("  {}", row.summary()));
    Ok(rows)
}

/// Has a worker make the medium; its memory in MiB, and the time.
async fn complete(service: &Service, control_plane: &Path, upload: &Upload) -> anyhow::Result<(f64, Duration)> {
    let (mut process, started) = (service.worker(control_plane)?, Instant::now());
    let mut peak = 0;
    let ended = loop {
        tokio::select! {
            status = process.exited() => break status?,
            () = sleep(Duration::from_millis(20)) => {
                peak = process.id().and_then(|id| memory::peak_bytes(id).ok()).unwrap_or(peak).max(peak);
            }
        }
        ensure!(started.elapsed() < LIMIT, "the worker does not end");
    };
    ensure!(ended.success(), "the worker ended with {ended}");
    let took = started.elapsed();
    let mut connection = service.connect().await?;
    let seen = connection.send(&request(Method::GET, format!("/v1/uploads/{}", upload.id()), 0)).await?;
    let seen: serde_json::Value = serde_json::from_slice(&seen.body).context("no JSON")?;
    ensure!(seen["state"] == "done" && seen["media"]["bytes"] == upload.size, "it is no medium: {seen}");
    Ok((peak as f64 / MIB, took))
}

/// What each break has cost.
#[derive(Default)]
struct Tally {
    /// What the client has sent again.
    twice: Vec<u64>,
    /// What of that the link had passed on.
    lost: Vec<u64>,
}

/// An upload, by whoever sends it.
struct Upload {
    link: SocketAddr,
    /// What the link has passed on so far.
    passed: Arc<AtomicU64>,
    location: String,
    size: u64,
    chunk: Bytes,
}

impl Upload {
    async fn begin(service: &Service, link: &Link, size: u64) -> anyhow::Result<Self> {
        let create = request(Method::POST, "/v1/tus", 0).header("tus-resumable", "1.0.0");
        let answer = service.connect().await?.send(&create.header("upload-length", size.to_string())).await?;
        let location = answer.header("location").with_context(|| answer.text())?.to_owned();
        let mut state = 1_u32;
        let words = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_le_bytes()
        });
        let chunk = words.take(CHUNK / 4).flatten().collect();
        Ok(Self { link: link.address, passed: Arc::clone(&link.passed), location, size, chunk })
    }

    fn id(&self) -> &str {
        self.location.rsplit('/').next().unwrap_or_default()
    }

    /// Sends it all, however often the link breaks.
    async fn send(&self, tally: &mut Tally) -> anyhow::Result<()> {
        let mut offset = 0;
        while offset < self.size {
            let before = self.passed.load(Ordering::Relaxed);
            let sent = self.send_from(offset).await;
            let passed = self.passed.load(Ordering::Relaxed) - before;
            let stored = self.offset().await?;
            let until = match sent {
                Ok(()) => self.size,
                Err(until) => until,
            };
            ensure!(stored <= until, "more is stored than was sent");
            if until < self.size || stored < self.size {
                tally.twice.push(until - stored);
                let came = offset + passed.saturating_sub(self.head(offset).len() as u64);
                tally.lost.push(came.saturating_sub(stored));
            }
            offset = stored;
        }
        Ok(())
    }

    /// Sends all from there on; up to where it was sent when the link broke.
    async fn send_from(&self, offset: u64) -> Result<(), u64> {
        let mut at = offset;
        let sent = async {
            let mut stream = TcpStream::connect(self.link).await?;
            stream.write_all(self.head(offset).as_bytes()).await?;
            while at < self.size {
                let chunk = &self.chunk[..CHUNK.min((self.size - at) as usize)];
                stream.write_all(chunk).await?;
                at += chunk.len() as u64;
            }
            let mut answer = [0; 12];
            timeout(LIMIT, stream.read_exact(&mut answer)).await??;
            ensure!(answer.ends_with(b"204"), "{}", String::from_utf8_lossy(&answer));
            Ok(())
        };
        sent.await.map_err(|_: anyhow::Error| at)
    }

    /// The head of a request that brings all from there on.
    fn head(&self, offset: u64) -> String {
        format!(
            "PATCH {} HTTP/1.1\r\nHost: link\r\nAuthorization: Bearer {}\r\nTus-Resumable: 1.0.0\r\n\
             Content-Type: application/offset+octet-stream\r\nUpload-Offset: {offset}\r\nContent-Length: {}\r\n\r\n",
            self.location,
            seed::key(0),
            self.size - offset
        )
    }

    /// How far it is.
    async fn offset(&self) -> anyhow::Result<u64> {
        let head: Request = request(Method::HEAD, &self.location, 0).header("tus-resumable", "1.0.0");
        // That may be the request with which the link breaks.
        for _ in 0..3 {
            let answer: anyhow::Result<Response> = async { Connection::open(self.link).await?.send(&head).await }.await;
            if let Ok(answer) = answer {
                let offset = answer.header("upload-offset").with_context(|| format!("answered {}", answer.status))?;
                return Ok(offset.parse()?);
            }
        }
        anyhow::bail!("nobody tells how far it is")
    }
}

/// A link that breaks.
struct Link {
    address: SocketAddr,
    /// Bytes of clients that it has passed on.
    passed: Arc<AtomicU64>,
    serving: JoinHandle<()>,
}

impl Link {
    async fn start(to: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (address, passed) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&passed);
        let serving = tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                tokio::spawn(pass_on(from, to, Arc::clone(&counted)));
            }
        });
        Ok(Self { address, passed, serving })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Passes on so many bytes of a client, and all of the answer.
async fn pass_on(mut client: TcpStream, to: SocketAddr, passed: Arc<AtomicU64>) {
    let Ok(mut server) = TcpStream::connect(to).await else { return };
    let (mut of_client, mut to_client) = client.split();
    let (mut of_server, mut to_server) = server.split();
    let request = async {
        let (mut chunk, mut left) = (vec![0; CHUNK], BREAKS_EVERY as usize);
        while left > 0 {
            let wanted = left.min(CHUNK);
            let read = of_client.read(&mut chunk[..wanted]).await.unwrap_or(0);
            if read == 0 || to_server.write_all(&chunk[..read]).await.is_err() {
                return;
            }
            left -= read;
            passed.fetch_add(read as u64, Ordering::Relaxed);
        }
    };
    tokio::select! {
        () = request => {}
        _ = tokio::io::copy(&mut of_server, &mut to_client) => {}
    }
}
