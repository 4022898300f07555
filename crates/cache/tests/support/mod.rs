//! What the tests share: renditions with bodies that tell their seed, and caches in folders of their own.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cache::{
    CacheConfig, CacheKey, Entry, Filled, KeyBuilder, Lifetime, Lookup, Rendition, RenditionCache, RenditionParts,
    SourceValidators, Subject, UnixMillis,
};
use prometheus::Registry;
use tokio::runtime::Handle;

pub const MIB: u64 = 1 << 20;
pub const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
pub const PATIENCE: Duration = Duration::from_secs(120);
const CHILD_DIR: &str = "CACHE_TEST_CHILD_DIR";

pub type TestCache = RenditionCache<&'static str>;

/// Bytes that no other seed gives, so that mixed-up entries cannot look right.
pub fn body(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut body = Vec::with_capacity(bytes + 8);
    while body.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        body.extend_from_slice(&state.to_le_bytes());
    }
    body.truncate(bytes);
    body
}

pub fn key(seed: u64) -> CacheKey {
    KeyBuilder::new().number(seed).finish()
}

pub fn subject(seed: u64) -> Subject {
    Subject { tenant: seed % 7, sources: [seed ^ 0xff].into() }
}

pub fn parts(seed: u64, bytes: usize) -> RenditionParts {
    RenditionParts {
        status: 200,
        content_type: "image/webp".into(),
        body: body(seed, bytes).into(),
        is_draft: false,
        vary_accept: seed.is_multiple_of(2),
        validators: SourceValidators {
            etag: Some(format!("\"{seed}\"").into()),
            last_modified: Some(UnixMillis(seed)),
        },
        lifetime: Lifetime::new(NOW, Duration::from_secs(3600), Duration::from_secs(86400)),
        seq: seed,
        begun: 0,
        tenant: seed % 7,
        source: seed ^ 0xff,
        tags: (0..seed % 4).collect(),
    }
}

pub fn rendition(seed: u64, bytes: usize) -> Rendition {
    Rendition::new(parts(seed, bytes)).expect("within the limits")
}

pub fn config(dir: &Path, memory_bytes: u64, disk_bytes: u64) -> CacheConfig {
    CacheConfig { dir: dir.to_owned(), memory_bytes, disk_bytes, ..CacheConfig::default() }
}

pub async fn open_with(config: CacheConfig) -> (TestCache, Registry) {
    let registry = Registry::new();
    let settings = config.validate().expect("good settings");
    let cache = RenditionCache::open(settings, &registry, Handle::current()).await.expect("a fresh registry");
    (cache, registry)
}

/// 1 MiB of memory and 64 MiB of disk.
pub async fn open(dir: &Path) -> (TestCache, Registry) {
    open_with(config(dir, MIB, 64 * MIB)).await
}

pub async fn fill(cache: &TestCache, seed: u64, bytes: usize) -> Entry {
    let flight =
        cache.flight(key(seed), &subject(seed), NOW, move || async move { Ok(Filled::Store(rendition(seed, bytes))) });
    flight.wait(PATIENCE).await.expect("the fill succeeds")
}

/// Fills at a rate the disk keeps up with.
pub async fn fill_all(cache: &TestCache, seeds: impl IntoIterator<Item = u64>, bytes: usize) {
    for (i, seed) in seeds.into_iter().enumerate() {
        fill(cache, seed, bytes).await;
        if i % 8 == 7 {
            cache.settled().await;
        }
    }
    cache.settled().await;
}

/// The fresh entry of a seed, checked to the byte; `None` for a miss.
pub async fn found(cache: &TestCache, seed: u64, bytes: usize) -> Option<Entry> {
    match cache.lookup(key(seed), NOW).await {
        Lookup::Fresh(entry, _) => {
            assert_eq!(*entry, rendition(seed, bytes), "seed {seed} came back as something else");
            Some(entry)
        }
        Lookup::Miss { expired: None } => None,
        other => panic!("seed {seed} is neither fresh nor missing: {other:?}"),
    }
}

pub async fn count_found(cache: &TestCache, seeds: impl IntoIterator<Item = u64>, bytes: usize) -> usize {
    let mut count = 0;
    for seed in seeds {
        count += usize::from(found(cache, seed, bytes).await.is_some());
    }
    count
}

/// The sum of a metric over its labels; `None` if it is not there.
pub fn metric(registry: &Registry, name: &str, label: Option<&str>) -> Option<f64> {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == name)?;
    let metrics = family
        .get_metric()
        .iter()
        .filter(|metric| label.is_none_or(|label| metric.get_label().iter().any(|pair| pair.value() == label)));
    Some(metrics.map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value()).sum())
}

pub fn block_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir.join("blocks"))
        .expect("the folder was opened")
        .map(|file| file.expect("readable").path())
        .collect();
    files.sort();
    files
}

/// The folder to work on, if this process is the child of the same test in another process.
pub fn child_dir() -> Option<PathBuf> {
    std::env::var_os(CHILD_DIR).map(PathBuf::from)
}

/// Tells the parent how far the child has come.
#[allow(clippy::print_stdout, reason = "the pipe to the parent")]
pub fn report(line: &str) {
    println!("\nchild: {line}");
}

/// Runs one test of this binary in a process of its own, which is killed when this is dropped.
pub struct TestChild {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl TestChild {
    pub fn start(test: &str, dir: &Path) -> Self {
        let exe = std::env::current_exe().expect("the test binary");
        Self::start_through(Command::new(exe), test, dir)
    }

    pub fn start_through(mut command: Command, test: &str, dir: &Path) -> Self {
        let mut child = command
            .args(["--exact", test, "--nocapture"])
            .env(CHILD_DIR, dir)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test binary starts");
        let stdout = child.stdout.take().expect("piped");
        Self { child, lines: BufReader::new(stdout).lines() }
    }

    /// The next line that the child reported.
    pub fn next_report(&mut self) -> String {
        loop {
            let line = self.lines.next().expect("the child ended without a report").expect("text");
            if let Some(report) = line.strip_prefix("child: ") {
                return report.to_owned();
            }
        }
    }

    /// SIGKILL: no destructor, no flush.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was started here");
    }
}

impl Drop for TestChild {
    fn drop(&mut self) {
        // Gone already after `kill`; anything else is a failing test, which must not leave a process behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
