//! A collection of many files as one archive: how soon it begins, how fast it comes, and what memory it takes.
//!
//! The files are links to one, so that the disk has to read little: what is measured is what packs and sends them.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::api::bucket::Bucket;
use super::api::seed;
use super::api::service::Service;
use crate::memory;
use crate::report::{Figure, Goal, Row, Unit};

/// Files of the collection.
const FILES: usize = 2000;

/// Bytes of each: together more than zip's older form has numbers for.
const FILE_BYTES: u64 = 2_150_000;

/// Times that the beginning is waited for.
const BEGINNINGS: usize = 20;

/// Archives that are sent at the same time.
const AT_ONCE: usize = 8;

/// Longest time for one archive.
const LIMIT: Duration = Duration::from_secs(600);

/// Most bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

const COLLECTION: &str = "00000000-0000-7000-a000-000000000000";

const MIB: f64 = 1024.0 * 1024.0;

/// Makes the study; its report.
///
/// # Errors
/// When something cannot be measured.
pub async fn study(control_plane: &Path, quick: bool) -> anyhow::Result<String> {
    let files = if quick { FILES / 10 } else { FILES };
    let service = Service::start(control_plane).await?;
    let uploads = service.uploads();
    let mut rows = measure("a folder", service, &uploads, files).await?;
    let bucket = Bucket::start().await?;
    let service = Service::start_with(control_plane, &bucket.settings()).await?;
    rows.extend(measure("a bucket", service, &bucket.objects(), files).await?);
    bucket.stop();
    let method = [
        "Postgres, the control plane, the S3 server and the client share the machine, on no cores of their own.",
        "The files are hard links to one of random bytes. First byte: from the request to the first byte of the body, with a connection that is there.",
        "Memory is the most resident memory while archives were sent, less what it was before them; a first archive was sent before that.",
        "Every archive that was read to its end had as many bytes as it had announced.",
    ];
    Ok(Figure { method: method.map(str::to_owned).to_vec(), rows, ..Figure::default() }.to_markdown(""))
}

async fn measure(store: &str, service: Service, objects: &Path, files: usize) -> anyhow::Result<Vec<Row>> {
    seed::tenants(&service, 0, 1).await?;
    fill(&service, objects, files).await?;
    let whole = async |format| Archive::ask(&service, format).await?.read_all().await;
    whole("zip").await?;
    let mut rows = Vec::new();
    for format in ["zip", "tar"] {
        let what = |what: &str| {
            let gigabytes = (files as u64 * FILE_BYTES) as f64 / 1e9;
            format!("{format} of {files} files, {gigabytes:.1} GB, out of {store}: {what}")
        };
        let mut beginnings = Vec::new();
        for _ in 0..BEGINNINGS {
            beginnings.push(Archive::ask(&service, format).await?.began.as_secs_f64() * 1e3);
            // What was begun notices that nobody takes it.
            sleep(Duration::from_millis(50)).await;
        }
        let one = Spell::of(&service, async || whole(format).await).await?;
        let many = Spell::of(&service, async || {
            let sizes = try_join_all((0..AT_ONCE).map(|_| whole(format))).await?;
            Ok(sizes.iter().sum())
        });
        let many = many.await?;
        rows.extend([
            Row::percentile(what("first byte, p95"), Unit::Milliseconds, 95, beginnings)?.with_goal(Goal::Below(200.0)),
            Row::single(what("memory, MiB"), Unit::Points, one.memory).with_goal(Goal::Below(32.0)),
            Row::single(what("MB a second"), Unit::Points, one.rate()),
            Row::single(what("CPU time a GB"), Unit::Milliseconds, one.cpu_of_gigabyte()),
            Row::single(what("memory of eight at once, MiB"), Unit::Points, many.memory),
            Row::single(what("MB a second of eight at once"), Unit::Points, many.rate()),
        ]);
    }
    service.stop().await?;
    rows.iter().for_each(|row| eprintln!("  {}", row.summary()));
    Ok(rows)
}

/// What some time of sending has taken.
struct Spell {
    bytes: u64,
    took: Duration,
    cpu: Duration,
    /// In MiB.
    memory: f64,
}

impl Spell {
    async fn of(service: &Service, send: impl AsyncFnOnce() -> anyhow::Result<u64>) -> anyhow::Result<Self> {
        memory::forget_peak(service.id)?;
        let (before, cpu, started) = (memory::resident_bytes(service.id)?, service.cpu_time()?, Instant::now());
        let bytes = send().await?;
        let (took, cpu) = (started.elapsed(), service.cpu_time()?.saturating_sub(cpu));
        let memory = memory::peak_bytes(service.id)?.saturating_sub(before) as f64 / MIB;
        Ok(Self { bytes, took, cpu, memory })
    }

    fn rate(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.took.as_secs_f64()
    }

    fn cpu_of_gigabyte(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e3 / (self.bytes as f64 / 1e9)
    }
}

/// Makes the collection, and what is in it.
async fn fill(service: &Service, objects: &Path, files: usize) -> anyhow::Result<()> {
    let tenant = seed::tenant(0);
    service
        .sql(&format!(
            "SET session_replication_role = replica;
             INSERT INTO collections (tenant_id, id, name) VALUES ('{tenant}', '{COLLECTION}', 'All');
             INSERT INTO media (tenant_id, id, public_id, kind, revision, content_type, bytes, sha256, filename)
                 SELECT '{tenant}', id, 'pictures/' || n, 'image', id, 'image/jpeg', {FILE_BYTES}, sha256('x'),
                     'IMG_' || n || '.jpg'
                 FROM generate_series(0, {last}) AS n,
                     LATERAL (SELECT ('00000000-' || lpad(to_hex(n), 4, '0') || '-7000-8000-000000000000')::uuid AS id) AS ids;
             INSERT INTO collection_media (tenant_id, collection_id, media_id, position)
                 SELECT tenant_id, '{COLLECTION}', id, row_number() OVER (ORDER BY id) FROM media;
             SET session_replication_role = DEFAULT;
             ANALYZE media, collections, collection_media;",
            last = files - 1
        ))
        .await?;
    let mut state = 1_u64;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()
    });
    let bytes: Vec<u8> = words.flatten().take(FILE_BYTES as usize).collect();
    let original = objects.join("original");
    fs::write(&original, bytes)?;
    for number in 0..files {
        let id = seed::medium(0, number).parse()?;
        let path = objects.join(uploads::object_path(tenant.parse()?, id, id).as_str());
        fs::create_dir_all(path.parent().context("it is in a folder")?)?;
        fs::hard_link(&original, path)?;
    }
    Ok(fs::remove_file(original)?)
}

/// An archive that has begun to come.
struct Archive {
    stream: TcpStream,
    /// How long that took.
    began: Duration,
    announced: u64,
    /// How much of it has come.
    came: u64,
}

impl Archive {
    async fn ask(service: &Service, format: &str) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(service.address).await?;
        let request = format!(
            "GET /v1/downloads?collection={COLLECTION}&format={format} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Authorization: Bearer {}\r\n\r\n",
            seed::key(0)
        );
        let started = Instant::now();
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        loop {
            ensure!(answer.len() < HEAD_BYTES_MAX, "it has no head");
            ensure!(timeout(LIMIT, stream.read_buf(&mut answer)).await?? > 0, "it has ended at once");
            let Some(at) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let came = (answer.len() - at - 4) as u64;
            if came > 0 {
                let head = String::from_utf8_lossy(&answer[..at]).to_lowercase();
                ensure!(head.starts_with("http/1.1 200"), "{head}");
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                return Ok(Self { stream, began: started.elapsed(), announced: length.context("no length")?, came });
            }
        }
    }

    /// Reads it to its end: its bytes.
    async fn read_all(mut self) -> anyhow::Result<u64> {
        let mut buffer = vec![0; 1 << 20];
        let reading = async {
            loop {
                match self.stream.read(&mut buffer).await? {
                    0 => break anyhow::Ok(()),
                    bytes => self.came += bytes as u64,
                }
            }
        };
        timeout(LIMIT, reading).await??;
        ensure!(self.came == self.announced, "{} bytes came of {}", self.came, self.announced);
        Ok(self.came)
    }
}
